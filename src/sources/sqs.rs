//! The depth of an Amazon SQS queue, and how old its oldest message is.
//!
//! What SQS counts is approximate and settles within about a minute
//! ("Amazon SQS visibility", `GetQueueAttributes`). The age of the oldest message is
//! no attribute of a queue: it is read from `CloudWatch`, where a queue without
//! traffic for hours has none, which is absent and not 0.

use windlass_policies::fields::Fields;
use windlass_policies::signal::SignalKind;

use super::cloudwatch::CloudWatchSpec;
use super::spec::parse_url;

#[cfg(feature = "aws")]
mod shared;
#[cfg(feature = "aws")]
pub use shared::Queues;

/// What one signal reads of a queue.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SqsSpec {
    /// The URL of the queue, which has its region, account and name in it.
    pub queue_url: String,
    /// What is read.
    pub count: SqsCount,
}

/// What is read of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SqsCount {
    /// Messages that can be received (`ApproximateNumberOfMessages`).
    Visible,
    /// Messages received and not yet deleted
    /// (`ApproximateNumberOfMessagesNotVisible`).
    InFlight,
    /// Messages that may not be received yet
    /// (`ApproximateNumberOfMessagesDelayed`).
    Delayed,
    /// The age of the oldest message that can be received, in seconds.
    OldestAge,
}

impl SqsCount {
    /// The word used in TOML.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Visible => "visible",
            Self::InFlight => "in_flight",
            Self::Delayed => "delayed",
            Self::OldestAge => "oldest_age",
        }
    }

    /// All of them, in the order they are documented in.
    pub const ALL: [Self; 4] = [
        Self::Visible,
        Self::InFlight,
        Self::Delayed,
        Self::OldestAge,
    ];
}

impl SqsSpec {
    /// What kind of number it is.
    pub const fn kind(&self) -> SignalKind {
        match self.count {
            SqsCount::Visible | SqsCount::InFlight | SqsCount::Delayed => SignalKind::Total,
            SqsCount::OldestAge => SignalKind::Duration,
        }
    }

    /// The queue as its URL names it.
    pub fn queue(&self) -> Queue<'_> {
        Queue::of(&self.queue_url).expect("a checked URL names a queue")
    }

    /// What is to be asked of `CloudWatch`, for what SQS itself does not say.
    pub fn in_cloudwatch(&self) -> Option<CloudWatchSpec> {
        match self.count {
            SqsCount::Visible | SqsCount::InFlight | SqsCount::Delayed => None,
            SqsCount::OldestAge => Some(CloudWatchSpec::oldest_message(self.queue().name)),
        }
    }
}

/// The parts of a queue's URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue<'a> {
    /// The region, if the host says so: `sqs.REGION.amazonaws.com` and its likes.
    pub region: Option<&'a str>,
    /// The account: twelve digits.
    pub account: &'a str,
    /// Its name.
    pub name: &'a str,
}

impl<'a> Queue<'a> {
    /// The parts of `url`, if it names a queue: `https://HOST/ACCOUNT/NAME`.
    pub fn of(url: &'a str) -> Option<Self> {
        let (_, rest) = url.split_once("://")?;
        let (host, path) = rest.split_once('/')?;
        let (account, name) = path.rsplit_once('/')?;
        // Some local servers have a folder in front of the account.
        let account = account.rsplit('/').next()?;
        let digits = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let bare = name.strip_suffix(".fifo").unwrap_or(name);
        let named = (1..=80).contains(&name.len()) && !bare.is_empty() && bare.bytes().all(plain);
        if !(digits && named) {
            return None;
        }
        let host = host.split(':').next().unwrap_or(host);
        let labels: Vec<&str> = host.split('.').collect();
        let region = match labels.as_slice() {
            ["sqs" | "sqs-fips", region, "amazonaws", ..]
            | [region, "queue", "amazonaws", ..]
            | ["sqs", region, "api", "aws"] => Some(*region),
            _ => None,
        };
        Some(Self {
            region,
            account,
            name,
        })
    }
}

/// Reads the keys of a signal whose `source` is `sqs`.
pub(super) fn read_spec(fields: &mut Fields<'_>) -> Option<SqsSpec> {
    const EXAMPLE: &str = "\"https://sqs.eu-west-1.amazonaws.com/123456789012/jobs\"";
    let what = format!("the URL of the queue, such as {EXAMPLE}");
    let url = fields.required::<String>("queue_url", &what);
    let words = SqsCount::ALL.map(|count| (count.word(), count));
    let count = fields.required_word("count", &words);
    let url = url?;
    if let Err(message) = parse_url(&url, &["https", "http"]) {
        fields.problem("queue_url", message);
        return None;
    }
    if Queue::of(&url).is_none() {
        fields.problem(
            "queue_url",
            format!("does not end in an account and a queue's name; write {what}"),
        );
        return None;
    }
    Some(SqsSpec {
        queue_url: url,
        count: count?,
    })
}

#[cfg(test)]
mod tests {
    use windlass_policies::fields::Document;

    use super::*;

    fn read(text: &str) -> Result<SqsSpec, String> {
        Document::parse(text)
            .expect("TOML")
            .read(read_spec)
            .map_err(|problems| problems.to_string())
    }

    #[test]
    fn a_queue_is_told_by_its_url() {
        for (url, region) in [
            (
                "https://sqs.eu-west-1.amazonaws.com/123456789012/jobs",
                Some("eu-west-1"),
            ),
            (
                "https://sqs-fips.us-east-1.amazonaws.com/123456789012/jobs",
                Some("us-east-1"),
            ),
            (
                "https://sqs.cn-north-1.amazonaws.com.cn/123456789012/jobs",
                Some("cn-north-1"),
            ),
            (
                "https://eu-west-1.queue.amazonaws.com/123456789012/jobs",
                Some("eu-west-1"),
            ),
            (
                "https://sqs.eu-west-1.api.aws/123456789012/jobs",
                Some("eu-west-1"),
            ),
            ("http://127.0.0.1:4566/123456789012/jobs", None),
            ("http://localhost:4566/queue/123456789012/jobs", None),
        ] {
            let queue = Queue::of(url).expect(url);
            assert_eq!(
                queue,
                Queue {
                    region,
                    account: "123456789012",
                    name: "jobs"
                }
            );
        }
        assert!(Queue::of("https://h/123456789012/jobs.fifo").is_some());
        for url in [
            "https://h/jobs",
            "https://h/12/jobs",
            "https://h/123456789012/",
            "jobs",
            "https://h/123456789012/a.b",
            "https://h/123456789012/.fifo",
        ] {
            assert_eq!(Queue::of(url), None, "{url}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_what_to_write() {
        let url = "queue_url = \"https://sqs.eu-west-1.amazonaws.com/123456789012/jobs\"\n";
        let spec = read(&format!("{url}count = \"oldest_age\"")).expect("sound");
        assert_eq!(spec.kind(), SignalKind::Duration);
        assert_eq!(
            spec.in_cloudwatch(),
            Some(CloudWatchSpec::oldest_message("jobs"))
        );
        for (text, told) in [
            (url.to_owned(), "count: missing; write one of \"visible\""),
            ("count = \"visible\"".to_owned(), "queue_url: missing"),
            (
                format!("{url}count = \"depth\""),
                "count: \"depth\" is not one of",
            ),
            (
                "queue_url = \"jobs\"\ncount = \"visible\"".to_owned(),
                "queue_url: is no URL",
            ),
            (
                "queue_url = \"https://example.com/jobs\"\ncount = \"visible\"".to_owned(),
                "queue_url: does not end in",
            ),
        ] {
            let problems = read(&text).expect_err(&text);
            assert!(problems.contains(told), "{text}: {problems}");
        }
    }
}
