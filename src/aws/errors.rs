//! From a call that failed to what to do: [`fleet_error`].
//!
//! What counts is whether the call may have happened. AWS refusing it with a
//! code, and a connection that was never made, are certain: it did not. A
//! timeout, a connection lost after sending and a failure inside AWS are not;
//! for a call that changes something that is [`FleetError::Unknown`], for one
//! that only reads [`FleetError::Unreachable`].

use std::error::Error;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_ec2::config::http::HttpResponse;
use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};

use windlass_policies::model::FleetError;

use super::codes::{Meaning, meaning_of};
use crate::chain;

/// A message longer than this is cut: AWS appends kilobytes of encoded policy
/// to some.
const MESSAGE_CHARS_MAX: usize = 300;

/// What a call does if it arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// It only reads.
    Reads,
    /// It changes something.
    Changes,
}

/// What to do about `error`, which a call of kind `call` ended with.
pub fn fleet_error<E>(call: Call, error: &SdkError<E, HttpResponse>) -> FleetError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    match error {
        SdkError::ConstructionFailure(_) => FleetError::Rejected(told(&chain(error).to_string())),
        SdkError::DispatchFailure(failure) => {
            let cause = failure.as_connector_error();
            let text = cause.map_or_else(|| chain(error).to_string(), |it| chain(it).to_string());
            if has_no_credentials(error) {
                FleetError::NotPermitted(no_credentials(&text))
            } else if never_connected(error) {
                FleetError::Unreachable(format!("{}{NOBODY_THERE}", told(&text)))
            } else {
                uncertain(call, told(&text))
            }
        }
        SdkError::TimeoutError(_) => uncertain(call, "no answer in time".to_owned()),
        SdkError::ResponseError(response) => {
            let status = response.raw().status().as_u16();
            let text = told(&chain(error).to_string());
            by_status(call, status, format!("HTTP {status}: {text}"))
        }
        SdkError::ServiceError(refusal) => {
            let status = refusal.raw().status().as_u16();
            let code = refusal.err().code().unwrap_or("");
            let message = refusal.err().message().unwrap_or("");
            of_code(call, code, message, Some(status))
        }
        // The SDK may grow kinds of errors; of those nothing is known.
        _ => uncertain(call, told(&chain(error).to_string())),
    }
}

/// What to do about an error that AWS names by `code`, as in an answer, or in
/// the list of errors of an answer that is none (then without `status`).
pub fn of_code(call: Call, code: &str, message: &str, status: Option<u16>) -> FleetError {
    let text = || match (code, message) {
        ("", "") => format!("HTTP {}", status.unwrap_or_default()),
        ("", message) => told(message),
        (code, "") => code.to_owned(),
        (code, message) => told(&format!("{code}: {message}")),
    };
    match meaning_of(code) {
        Some(Meaning::Throttled) => FleetError::Throttled,
        Some(Meaning::NoCapacity) => FleetError::NoCapacity,
        Some(Meaning::NotFound) => FleetError::NotFound,
        Some(Meaning::NotPermitted) => FleetError::NotPermitted(advised(code, &text())),
        Some(Meaning::LimitReached) => FleetError::LimitReached(text()),
        Some(Meaning::Rejected) => FleetError::Rejected(text()),
        Some(Meaning::Unknown) => uncertain(call, text()),
        None => by_status(call, status.unwrap_or_default(), text()),
    }
}

/// What to do where nothing answers.
const NOBODY_THERE: &str = "; can this machine reach AWS, and are `region` and `endpoint_url` in \
    [aws] right?";

/// What to do where there are no credentials.
const GIVE_SOME: &str = "; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or write the name of a \
    profile as `profile` in [aws], or give this machine a role";

/// `text`, which begins with `code`, and what to do about it, where AWS does not
/// say so itself.
fn advised(code: &str, text: &str) -> String {
    let advice = match code {
        // EC2 says that a request has expired where the credentials have.
        "ExpiredToken"
        | "ExpiredTokenException"
        | "RequestExpired"
        | "InvalidSecurity.RequestHasExpired" => {
            "the credentials have expired: get new ones, or give windlass a role that renews \
             them; or this machine's clock is wrong"
        }
        "SignatureDoesNotMatch" | "InvalidSignatureException" | "RequestTimeTooSkewed" => {
            "the secret key does not belong to the key, or this machine's clock is wrong"
        }
        "AuthFailure"
        | "InvalidAccessKeyId"
        | "InvalidClientTokenId"
        | "UnrecognizedClientException"
        | "RegionDisabledException" => {
            "AWS does not know this key, or not in this region: look at AWS_ACCESS_KEY_ID or the \
             profile, at `region` in [aws], and whether the account has turned that region on"
        }
        "AccessDenied" | "AccessDeniedException" | "UnauthorizedOperation" => {
            "`windlass check --aws` names what to grant"
        }
        _ => return text.to_owned(),
    };
    format!("{text}; {advice}")
}

/// What a status says where no known code does. Never that something is not
/// there: whoever answers without a code of AWS knows nothing of instances.
fn by_status(call: Call, status: u16, text: String) -> FleetError {
    match status {
        401 | 403 => FleetError::NotPermitted(text),
        429 => FleetError::Throttled,
        400..=499 => FleetError::Rejected(text),
        _ => uncertain(call, text),
    }
}

/// The answer did not come. Having read nothing harms nobody; having changed
/// something might.
fn uncertain(call: Call, text: String) -> FleetError {
    match call {
        Call::Reads => FleetError::Unreachable(text),
        Call::Changes => FleetError::Unknown(text),
    }
}

/// The text in one line, cut to a length that a log bears.
pub(super) fn told(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MESSAGE_CHARS_MAX) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}

/// Whether the call ended before there was a connection to send it on: the
/// name was not found, the port was closed, TLS failed, connecting took too
/// long. Everything after that may have arrived.
fn never_connected(error: &(dyn Error + 'static)) -> bool {
    causes(error).any(|cause| {
        cause
            .downcast_ref::<hyper_util::client::legacy::Error>()
            .is_some_and(hyper_util::client::legacy::Error::is_connect)
    })
}

/// Why there was nobody to ask as, from what the SDK says of all it tried.
fn no_credentials(text: &str) -> String {
    let profile = text
        .split_once("profile `")
        .and_then(|(_, rest)| rest.split_once("` was not defined"));
    if let Some((profile, _)) = profile {
        return format!(
            "no credentials for AWS: there is no profile `{profile}`; look at `profile` in [aws], \
             at AWS_PROFILE, and at ~/.aws/config"
        );
    }
    let why = if text.contains("no credentials found in chain") {
        "none in the environment, in a profile, or from a role of this machine".to_owned()
    } else {
        told(text)
    };
    format!("no credentials for AWS: {why}{GIVE_SOME}")
}

/// Whether there was nobody to ask as.
fn has_no_credentials(error: &(dyn Error + 'static)) -> bool {
    causes(error).any(|cause| cause.downcast_ref::<CredentialsError>().is_some())
}

/// The error and all its causes. An `io::Error` that wraps another error hides
/// it from `source()`, so that one is looked into.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&cause| {
        match cause.downcast_ref::<std::io::Error>() {
            Some(io) => io.get_ref().map(|inner| inner as &(dyn Error + 'static)),
            None => cause.source(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aws::codes::TABLE;
    use crate::aws::testing::{Reply, client_of, refusal, serve, with_runtime};

    /// What the table says a code means, for a call that changes something.
    fn expected(meaning: Meaning, code: &str) -> FleetError {
        let text = format!("{code}: why so");
        match meaning {
            Meaning::Throttled => FleetError::Throttled,
            Meaning::NoCapacity => FleetError::NoCapacity,
            Meaning::NotFound => FleetError::NotFound,
            Meaning::NotPermitted => FleetError::NotPermitted(advised(code, &text)),
            Meaning::LimitReached => FleetError::LimitReached(text),
            Meaning::Rejected => FleetError::Rejected(text),
            Meaning::Unknown => FleetError::Unknown(text),
        }
    }

    /// Asks EC2 to launch, where it answers with `reply`.
    async fn launch(reply: Reply) -> FleetError {
        let server = serve(move |_| reply.clone()).await;
        let client = client_of(&server.url);
        let call = client.run_instances().min_count(1).max_count(1);
        let error = call.send().await.expect_err("a refusal");
        fleet_error(Call::Changes, &error)
    }

    #[test]
    fn every_code_of_the_table_is_understood_as_ec2_sends_it() {
        with_runtime(async {
            // One server for all: the code to refuse with is the image's name.
            let server = serve(|request| refusal(400, &request["ImageId"])).await;
            let client = client_of(&server.url);
            for (meaning, codes) in TABLE {
                for code in *codes {
                    let call = client.run_instances().image_id(*code);
                    let error = call.min_count(1).max_count(1).send().await;
                    let error = error.expect_err("a refusal");
                    let read = fleet_error(Call::Changes, &error);
                    assert_eq!(read, expected(*meaning, code));
                }
            }
        });
    }

    #[test]
    fn without_a_known_code_the_status_decides() {
        with_runtime(async {
            for (status, expected) in [
                (400, "rejected: Odd: why so"),
                (401, "not permitted: Odd: why so"),
                (403, "not permitted: Odd: why so"),
                (404, "rejected: Odd: why so"),
                (429, "throttled"),
                (500, "answer lost: Odd: why so"),
                (503, "answer lost: Odd: why so"),
            ] {
                let read = launch(refusal(status, "Odd")).await;
                assert_eq!(read.to_string(), expected, "{status}");
            }
        });
    }

    #[test]
    fn what_is_no_answer_of_aws_may_have_happened() {
        with_runtime(async {
            for (status, body) in [
                (500, "<html>Bad gateway</html>"),
                (502, ""),
                (200, "not even XML"),
            ] {
                let read = launch(Reply::new(status, body)).await;
                assert!(
                    matches!(read, FleetError::Unknown(_)),
                    "{status} {body}: {read}"
                );
            }
        });
    }

    #[test]
    fn a_connection_lost_after_sending_may_have_happened() {
        with_runtime(async {
            let read = launch(Reply::Hangup).await;
            assert!(matches!(read, FleetError::Unknown(_)), "{read}");
        });
    }

    #[test]
    fn an_answer_that_does_not_come_in_time_may_have_happened() {
        with_runtime(async {
            let read = launch(Reply::Never).await;
            assert!(matches!(read, FleetError::Unknown(_)), "{read}");
        });
    }

    #[test]
    fn what_never_left_this_machine_did_not_happen() {
        with_runtime(async {
            for url in ["http://127.0.0.1:1", "http://no-such-host.invalid:80"] {
                let call = client_of(url).run_instances().min_count(1).max_count(1);
                let error = call.send().await.expect_err("nobody there");
                let read = fleet_error(Call::Changes, &error);
                assert!(matches!(read, FleetError::Unreachable(_)), "{url}: {read}");
            }
        });
    }

    #[test]
    fn a_read_that_fails_is_unreachable_and_never_unknown() {
        with_runtime(async {
            for reply in [
                Reply::Hangup,
                Reply::new(500, "oops"),
                refusal(500, "InternalError"),
                refusal(503, "ServiceUnavailable"),
            ] {
                let server = serve(move |_| reply.clone()).await;
                let call = client_of(&server.url).describe_instances();
                let error = call.send().await.expect_err("a failure");
                let read = fleet_error(Call::Reads, &error);
                assert!(matches!(read, FleetError::Unreachable(_)), "{read}");
            }
        });
    }

    #[test]
    fn without_credentials_a_person_is_told_so() {
        with_runtime(async {
            let config = aws_sdk_ec2::Config::builder()
                .behavior_version(aws_sdk_ec2::config::BehaviorVersion::latest())
                .region(aws_sdk_ec2::config::Region::new("eu-west-1"))
                .endpoint_url("http://127.0.0.1:1")
                .credentials_provider(
                    aws_config::meta::credentials::CredentialsProviderChain::first_try(
                        "none", Nobody,
                    ),
                )
                .retry_config(aws_config::retry::RetryConfig::disabled())
                .build();
            let client = aws_sdk_ec2::Client::from_conf(config);
            let call = client.run_instances().min_count(1).max_count(1);
            let error = call.send().await.expect_err("nobody to ask as");
            let read = fleet_error(Call::Changes, &error);
            assert!(
                matches!(&read, FleetError::NotPermitted(why) if why.starts_with("no credentials")),
                "{read}"
            );
        });
    }

    /// Has no credentials.
    #[derive(Debug)]
    struct Nobody;

    impl aws_credential_types::provider::ProvideCredentials for Nobody {
        fn provide_credentials<'a>(
            &'a self,
        ) -> aws_credential_types::provider::future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            use aws_credential_types::provider::future::ProvideCredentials;
            ProvideCredentials::ready(Err(CredentialsError::not_loaded("nothing set")))
        }
    }

    #[test]
    fn a_long_message_is_cut_and_kept_in_one_line() {
        let message = "first line\n".repeat(100);
        let read = of_code(Call::Changes, "UnauthorizedOperation", &message, Some(403));
        let text = read.to_string();
        assert!(text.len() < MESSAGE_CHARS_MAX + 100, "{text}");
        // What to do about it is not cut off.
        let end = "...; `windlass check --aws` names what to grant";
        assert!(text.ends_with(end), "{text}");
        assert!(!text.contains('\n'));
    }
}
