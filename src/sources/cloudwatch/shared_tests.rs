//! Against a server on loopback that answers in CBOR, as `CloudWatch` does.

use std::cell::RefCell;
use std::collections::VecDeque;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use windlass_policies::signal::Completeness;

use super::*;
use crate::aws::client::http_client;
use crate::aws::testing::with_runtime;

const NOW: Timestamp = Timestamp::from_secs(1_000_000_030);

/// The minute before the one that is open at [`NOW`].
const LAST: u32 = 999_999_960;

/// A few values of CBOR (RFC 8949), enough for what `CloudWatch` says here.
enum Cbor {
    Text(String),
    Float(f64),
    Time(u32),
    List(Vec<Cbor>),
    Map(Vec<(&'static str, Cbor)>),
}

impl Cbor {
    fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }

    fn write(&self, out: &mut Vec<u8>) {
        let head = |out: &mut Vec<u8>, major: u8, length: usize| {
            // Two bytes of length do for all of it.
            out.push(major << 5 | 0x19);
            out.extend(u16::try_from(length).expect("short").to_be_bytes());
        };
        match self {
            Self::Text(text) => {
                head(out, 3, text.len());
                out.extend(text.as_bytes());
            }
            Self::Float(value) => {
                out.push(0xfb);
                out.extend(value.to_be_bytes());
            }
            Self::Time(secs) => {
                out.push(0xc1);
                out.push(0x1a);
                out.extend(secs.to_be_bytes());
            }
            Self::List(items) => {
                head(out, 4, items.len());
                for item in items {
                    item.write(out);
                }
            }
            Self::Map(pairs) => {
                head(out, 5, pairs.len());
                for (key, value) in pairs {
                    Self::text(key).write(out);
                    value.write(out);
                }
            }
        }
    }
}

fn page(ids: &[&str], value: f64, status: &str, next: Option<&str>) -> (u16, Cbor) {
    let result = |id: &&str| {
        Cbor::Map(vec![
            ("Id", Cbor::text(id)),
            ("Label", Cbor::text("age")),
            ("Timestamps", Cbor::List(vec![Cbor::Time(LAST)])),
            ("Values", Cbor::List(vec![Cbor::Float(value)])),
            ("StatusCode", Cbor::text(status)),
        ])
    };
    let results = Cbor::List(ids.iter().map(result).collect());
    let mut pairs = vec![("MetricDataResults", results)];
    pairs.extend(next.map(|token| ("NextToken", Cbor::text(token))));
    (200, Cbor::Map(pairs))
}

fn refusal(code: &str) -> (u16, Cbor) {
    let kind = Cbor::Text(format!("com.amazonaws.cloudwatch#{code}"));
    (
        400,
        Cbor::Map(vec![("__type", kind), ("message", Cbor::text("why so"))]),
    )
}

/// Answers one request after the other by `replies`, and keeps the requests.
async fn serve(replies: Vec<(u16, Cbor)>) -> (Rc<CloudWatch>, Rc<RefCell<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let asked = Rc::new(RefCell::new(Vec::new()));
    let kept = Rc::clone(&asked);
    let mut replies = VecDeque::from(replies);
    tokio::task::spawn_local(async move {
        while let Some((status, body)) = replies.pop_front() {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut request = Vec::new();
            loop {
                let text = String::from_utf8_lossy(&request).into_owned();
                let length = text
                    .to_ascii_lowercase()
                    .split_once("content-length: ")
                    .and_then(|(_, rest)| rest.split("\r\n").next()?.parse::<usize>().ok());
                let head = request.windows(4).position(|four| four == b"\r\n\r\n");
                if let (Some(head), Some(length)) = (head, length)
                    && request.len() >= head + 4 + length
                {
                    kept.borrow_mut().push(text);
                    break;
                }
                let mut some = [0; 4_096];
                let read = stream.read(&mut some).await.expect("a request");
                request.extend(&some[..read]);
            }
            let mut bytes = Vec::new();
            body.write(&mut bytes);
            let head = format!(
                "HTTP/1.1 {status} X\r\nsmithy-protocol: rpc-v2-cbor\r\ncontent-type: \
                 application/cbor\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                bytes.len()
            );
            stream.write_all(head.as_bytes()).await.expect("sent");
            stream.write_all(&bytes).await.expect("sent");
        }
    });
    let config = aws_sdk_cloudwatch::Config::builder()
        .behavior_version(aws_sdk_cloudwatch::config::BehaviorVersion::latest())
        .region(aws_sdk_cloudwatch::config::Region::new("eu-west-1"))
        .endpoint_url(url)
        .credentials_provider(aws_sdk_cloudwatch::config::Credentials::new(
            "AKIAEXAMPLE",
            "secret",
            None,
            None,
            "tests",
        ))
        .retry_config(aws_config::retry::RetryConfig::disabled())
        .http_client(http_client())
        .build();
    (CloudWatch::new(Client::from_conf(config)), asked)
}

const AGE: Duration = Duration::from_mins(5);

fn value(reading: &Reading) -> Option<(f64, Completeness)> {
    match reading {
        Reading::Present(sample) => Some((sample.value, sample.completeness)),
        Reading::Absent(_) => None,
    }
}

#[test]
fn what_is_asked_in_one_tick_goes_into_one_call() {
    with_runtime(async {
        let (cloudwatch, asked) = serve(vec![page(&["q0", "q1"], 7.0, "Complete", None)]).await;
        let names = ["a", "b", "a"].map(CloudWatchSpec::oldest_message);
        let reads = names.iter().map(|spec| cloudwatch.read(spec, AGE, NOW));
        let readings = futures_util::future::join_all(reads).await;
        for reading in &readings {
            assert_eq!(value(reading), Some((7.0, Completeness::Complete)));
        }
        let asked = asked.borrow();
        assert_eq!(asked.len(), 1);
        assert!(
            asked[0].contains("q1") && !asked[0].contains("q2"),
            "a is asked once"
        );
    });
}

#[test]
fn pages_are_read_to_the_end() {
    with_runtime(async {
        let replies = vec![
            page(&["q0"], 7.0, "PartialData", Some("more")),
            page(&[], 0.0, "Complete", None),
        ];
        let (cloudwatch, asked) = serve(replies).await;
        let spec = CloudWatchSpec::oldest_message("a");
        let reading = cloudwatch.read(&spec, AGE, NOW).await;
        // The last page says nothing of it, so it never was complete.
        assert_eq!(value(&reading), Some((7.0, Completeness::Partial)));
        assert!(asked.borrow()[1].contains("more"));
    });
}

#[test]
fn a_throttled_call_gives_the_last_number_as_old_as_it_is() {
    with_runtime(async {
        let replies = vec![
            refusal("ThrottlingException"),
            page(&["q0"], 7.0, "Complete", None),
            refusal("ThrottlingException"),
            refusal("AccessDeniedException"),
        ];
        let (cloudwatch, _) = serve(replies).await;
        let spec = CloudWatchSpec::oldest_message("a");
        let later = NOW + Duration::from_hours(1);
        assert_eq!(value(&cloudwatch.read(&spec, AGE, NOW).await), None);
        let fresh = cloudwatch.read(&spec, AGE, NOW).await;
        assert!(value(&fresh).is_some());
        assert_eq!(
            cloudwatch.read(&spec, AGE, later).await,
            fresh,
            "with its own time"
        );
        let Reading::Absent(absence) = cloudwatch.read(&spec, AGE, later).await else {
            panic!("a refusal is no number");
        };
        assert!(absence.to_string().contains("AccessDenied"), "{absence}");
    });
}
