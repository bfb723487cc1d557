//! What the sources of all fleets share: whoever asks AWS for all of them.

use crate::config::Config;
use crate::fleets;

use super::cloudwatch::CloudWatchSpec;
use super::sqs::SqsSpec;
#[cfg(not(feature = "aws"))]
use super::{Reader, SourceSpec};
#[cfg(feature = "aws")]
use super::{Reader, SourceSpec, aws};
#[cfg(feature = "aws")]
use crate::aws::client::ClientError;

/// What the sources of all fleets share.
#[derive(Clone, Debug, Default)]
pub struct SharedSources {
    /// AWS, if any fleet reads there.
    #[cfg(feature = "aws")]
    aws: Option<aws::AwsSources>,
}

/// Why the sources of a configuration cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SharedError {
    /// AWS cannot be asked.
    #[cfg(feature = "aws")]
    #[error("signals are read from AWS, which cannot be asked")]
    Aws(#[from] ClientError),
    /// AWS is to be asked by a windlass that cannot.
    #[cfg(not(feature = "aws"))]
    #[error("signals are read from AWS, and this windlass was built without it")]
    WithoutAws,
}

/// Whether any signal of `config` is read from AWS.
fn reads_aws(config: &Config) -> bool {
    let mut sources = config
        .fleets
        .iter()
        .flat_map(|fleet| fleet.sources.values());
    sources.any(|source| matches!(source.spec, SourceSpec::CloudWatch(_) | SourceSpec::Sqs(_)))
}

#[cfg(feature = "aws")]
impl SharedSources {
    /// What the sources of `config` need, with the clients of its `fleets`.
    /// Nothing is asked yet.
    ///
    /// # Errors
    /// If AWS is needed and cannot be asked.
    pub async fn open(config: &Config, fleets: &fleets::Shared) -> Result<Self, SharedError> {
        if !reads_aws(config) {
            return Ok(Self::default());
        }
        let aws = fleets.aws().await?;
        Ok(Self {
            aws: Some(aws::AwsSources::new(&aws.clients)),
        })
    }

    const NO_AWS: &'static str = "no client of AWS was opened for it";

    pub(super) fn cloudwatch(&self, spec: &CloudWatchSpec) -> Reader {
        match &self.aws {
            Some(aws) => Reader::Aws(aws::Reader::CloudWatch(aws.clone(), spec.clone())),
            None => Reader::Missing(Self::NO_AWS),
        }
    }

    pub(super) fn queue(&self, spec: &SqsSpec) -> Reader {
        match &self.aws {
            Some(aws) => Reader::Aws(aws::Reader::of_queue(aws, spec)),
            None => Reader::Missing(Self::NO_AWS),
        }
    }
}

#[cfg(not(feature = "aws"))]
#[expect(
    clippy::unused_self,
    clippy::unused_async,
    reason = "the same calls with and without AWS"
)]
impl SharedSources {
    /// What the sources of `config` need. Nothing is asked yet.
    ///
    /// # Errors
    /// If AWS is needed.
    pub async fn open(config: &Config, _fleets: &fleets::Shared) -> Result<Self, SharedError> {
        if reads_aws(config) {
            return Err(SharedError::WithoutAws);
        }
        Ok(Self::default())
    }

    const NO_AWS: &'static str = "this windlass was built without AWS";

    pub(super) fn cloudwatch(&self, _spec: &CloudWatchSpec) -> Reader {
        Reader::Missing(Self::NO_AWS)
    }

    pub(super) fn queue(&self, _spec: &SqsSpec) -> Reader {
        Reader::Missing(Self::NO_AWS)
    }
}
