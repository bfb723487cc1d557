//! For tests: a server on loopback that answers as a test says, and clients
//! that ask it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::time::Duration;

use aws_sdk_ec2::config::SharedCredentialsProvider;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

/// What the server does with a request.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// It answers.
    Answer {
        /// The status.
        status: u16,
        /// The body.
        body: String,
    },
    /// It reads the request and closes the connection.
    Hangup,
    /// It reads the request and says nothing, ever.
    Never,
}

impl Reply {
    /// An answer.
    pub(crate) fn new(status: u16, body: impl Into<String>) -> Self {
        Self::Answer {
            status,
            body: body.into(),
        }
    }
}

/// The answer of EC2 that refuses a call with `code`.
pub(crate) fn refusal(status: u16, code: &str) -> Reply {
    Reply::new(
        status,
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Response><Errors><Error><Code>{code}</Code>\
             <Message>why so</Message></Error></Errors><RequestID>1</RequestID></Response>"
        ),
    )
}

/// A running server; it stops with this.
pub(crate) struct Server {
    /// Where it is.
    pub(crate) url: String,
    task: AbortHandle,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The form of a request of EC2's protocol, by field.
pub(crate) type Form = BTreeMap<String, String>;

/// Starts a server on a free port of loopback that answers by `answer`.
pub(crate) async fn serve(answer: impl FnMut(&Form) -> Reply + 'static) -> Server {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    let answer = std::rc::Rc::new(std::cell::RefCell::new(answer));
    let task = tokio::task::spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = std::rc::Rc::clone(&answer);
            let service = service_fn(move |request: Request<Incoming>| {
                let answer = std::rc::Rc::clone(&answer);
                async move {
                    let body = request.into_body().collect().await.map_err(Failure::from)?;
                    let form: Form = form_urlencoded::parse(&body.to_bytes())
                        .into_owned()
                        .collect();
                    let reply = (answer.borrow_mut())(&form);
                    respond(reply).await
                }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service);
            tokio::task::spawn_local(connection);
        }
    });
    Server {
        url: format!("http://127.0.0.1:{port}"),
        task: task.abort_handle(),
    }
}

/// Closes the connection when it comes out of a service.
#[derive(Debug, thiserror::Error)]
#[error("hung up")]
struct Failure;

impl From<hyper::Error> for Failure {
    fn from(_: hyper::Error) -> Self {
        Self
    }
}

impl From<Infallible> for Failure {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

async fn respond(reply: Reply) -> Result<Response<Full<Bytes>>, Failure> {
    match reply {
        Reply::Hangup => Err(Failure),
        Reply::Never => std::future::pending().await,
        Reply::Answer { status, body } => {
            let response = Response::builder().status(status);
            Ok(response
                .body(Full::new(Bytes::from(body)))
                .expect("a response"))
        }
    }
}

/// A client of EC2 at `url`, as [`super::client`] makes them but for the
/// timeouts, which are short.
pub(crate) fn client_of(url: &str) -> aws_sdk_ec2::Client {
    let config = aws_sdk_ec2::config::Builder::from(&config_of(url));
    aws_sdk_ec2::Client::from_conf(config.interceptor(super::client::WholeAnswer).build())
}

/// The same for Auto Scaling.
pub(crate) fn autoscaling_of(url: &str) -> aws_sdk_autoscaling::Client {
    let config = aws_sdk_autoscaling::config::Builder::from(&config_of(url));
    aws_sdk_autoscaling::Client::from_conf(config.interceptor(super::client::WholeAnswer).build())
}

fn config_of(url: &str) -> aws_config::SdkConfig {
    let timeouts = aws_config::timeout::TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(5))
        .read_timeout(Duration::from_millis(300))
        .build();
    let credentials =
        aws_sdk_ec2::config::Credentials::new("AKIAEXAMPLE", "secret", None, None, "tests");
    aws_config::SdkConfig::builder()
        .behavior_version(aws_config::BehaviorVersion::latest())
        .region(aws_sdk_ec2::config::Region::new("eu-west-1"))
        .endpoint_url(url)
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .retry_config(aws_config::retry::RetryConfig::disabled())
        .timeout_config(timeouts)
        .http_client(super::client::http_client())
        .build()
}

/// Runs `test` as the daemon runs: on one thread.
pub(crate) fn with_runtime<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, test)
}
