//! One set of clients for all of AWS, from one `[aws]` table.
//!
//! The retries of the SDK are off. The loop asks again in its next cycle, with
//! the launch token it used before; a retry inside a call would hide from it
//! that AWS throttles, and would make a cycle last longer than it may.

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_ec2::config::interceptors::AfterDeserializationInterceptorContextRef;
use aws_sdk_ec2::config::{ConfigBag, Intercept, RuntimeComponents, SharedHttpClient};
use aws_sdk_ec2::error::BoxError;
use aws_smithy_http_client::tls;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;

use super::settings::AwsSettings;

/// The clients of the services that windlass uses. Cheap to clone.
#[derive(Clone, Debug)]
pub struct AwsClients {
    /// The region they all ask, as it was found.
    pub region: String,
    /// Instances.
    pub ec2: aws_sdk_ec2::Client,
    /// Auto Scaling groups.
    pub autoscaling: aws_sdk_autoscaling::Client,
    /// Metrics.
    pub cloudwatch: aws_sdk_cloudwatch::Client,
    /// Queues.
    pub sqs: aws_sdk_sqs::Client,
    /// Who is asking.
    pub sts: aws_sdk_sts::Client,
}

/// Why there are no clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// Nothing says which region is meant.
    #[error(
        "no AWS region is set; write `region` in [aws], or set AWS_REGION, or give the profile one"
    )]
    NoRegion,
}

impl AwsClients {
    /// Clients as `settings` say. Credentials are those of the usual chain
    /// (environment, profile, web identity, container, instance) and are
    /// fetched with the first call, not now.
    ///
    /// # Errors
    /// If no region is found.
    pub async fn open(settings: &AwsSettings) -> Result<Self, ClientError> {
        let config = load(settings).await;
        let region = config.region().ok_or(ClientError::NoRegion)?.to_string();
        Ok(Self {
            region,
            ec2: aws_sdk_ec2::Client::from_conf(
                aws_sdk_ec2::config::Builder::from(&config)
                    .interceptor(WholeAnswer)
                    .build(),
            ),
            autoscaling: aws_sdk_autoscaling::Client::from_conf(
                aws_sdk_autoscaling::config::Builder::from(&config)
                    .interceptor(WholeAnswer)
                    .build(),
            ),
            cloudwatch: aws_sdk_cloudwatch::Client::new(&config),
            sqs: aws_sdk_sqs::Client::new(&config),
            sts: aws_sdk_sts::Client::new(&config),
        })
    }
}

async fn load(settings: &AwsSettings) -> SdkConfig {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(settings.connect_timeout)
        .read_timeout(settings.read_timeout)
        .operation_attempt_timeout(settings.operation_timeout)
        .operation_timeout(settings.operation_timeout)
        .build();
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http_client())
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts);
    if let Some(region) = &settings.region {
        loader = loader.region(Region::new(region.clone()));
    }
    if let Some(profile) = &settings.profile {
        loader = loader.profile_name(profile);
    }
    if let Some(url) = &settings.endpoint_url {
        loader = loader.endpoint_url(url);
    }
    loader.load().await
}

/// TLS by rustls with ring, and the certificates this system trusts.
pub(crate) fn http_client() -> SharedHttpClient {
    aws_smithy_http_client::Builder::new()
        .tls_provider(tls::Provider::Rustls(CryptoMode::Ring))
        .build_https()
}

/// Refuses an answer in XML whose end is missing. The SDK takes one for whole
/// that was cut off between two elements: half of a listing would pass for all
/// of it.
#[derive(Debug)]
pub(crate) struct WholeAnswer;

impl Intercept for WholeAnswer {
    fn name(&self) -> &'static str {
        "WholeAnswer"
    }

    // Not before: the body has not been read until then.
    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let response = context.response();
        // What is no success is a failure anyhow.
        if !response.status().is_success() {
            return Ok(());
        }
        match response.body().bytes() {
            Some(body) if is_whole(body) => Ok(()),
            _ => Err("the answer of AWS was cut off".into()),
        }
    }
}

/// Whether the last thing in `body` ends an answer: every one of AWS is called
/// after its action and `Response`.
fn is_whole(body: &[u8]) -> bool {
    let body = body.trim_ascii_end();
    body.ends_with(b"Response>") || body.ends_with(b"Response/>")
}
