//! `windlass check --aws`: trying what a configuration needs of AWS.

use crate::aws::permissions::Extent;
use crate::config::Config;
use crate::exit::Exit;

/// Tries what it needs to go as far as `extent`, and says how it went in lines.
/// Exit 1 if anything fails.
#[cfg(feature = "aws")]
pub(super) fn try_aws(config: &Config, extent: Extent) -> (Exit, String) {
    use crate::aws::client::AwsClients;
    use crate::aws::permissions::Uses;
    use crate::aws::preflight::{Tried, tried};
    use crate::chain;

    let uses = Uses::of(config);
    if uses.is_empty() {
        return (Exit::Done, "no fleet and no signal is on AWS".to_owned());
    }
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return (Exit::Unavailable, format!("cannot ask AWS: {error}")),
    };
    let lines = runtime.block_on(async {
        let clients = AwsClients::open(&config.aws).await?;
        Ok(tried(&clients, config, extent).await)
    });
    match lines {
        Ok(lines) => {
            let exit = if lines.iter().any(Tried::fails) {
                Exit::Failed
            } else {
                Exit::Done
            };
            let lines: Vec<String> = lines.iter().map(ToString::to_string).collect();
            (exit, lines.join("\n"))
        }
        Err(error) => {
            let error: crate::aws::client::ClientError = error;
            (Exit::Failed, format!("cannot ask AWS: {}", chain(&error)))
        }
    }
}

/// Says that it cannot be tried.
#[cfg(not(feature = "aws"))]
pub(super) fn try_aws(_config: &Config, _extent: Extent) -> (Exit, String) {
    let why = "cannot ask AWS: this windlass was built without it; build it with the feature `aws`";
    (Exit::Usage, why.to_owned())
}
