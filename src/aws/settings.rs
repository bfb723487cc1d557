//! The `[aws]` table: where AWS is, as whom it is asked, and for how long an
//! answer is awaited.

use std::borrow::Cow;
use std::path::Path;
use std::time::Duration;

use windlass_policies::fields::Fields;

use crate::chain;
use crate::prices::Prices;

/// How AWS is reached. Everything has a default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AwsSettings {
    /// The region, such as `eu-west-1`; `None` takes it from the environment,
    /// the profile or the instance windlass runs on.
    pub region: Option<String>,
    /// The profile of the shared configuration files; `None` is the usual one.
    pub profile: Option<String>,
    /// Where the services answer, if not at their public addresses: a VPC
    /// endpoint, or a server for tests.
    pub endpoint_url: Option<String>,
    /// How long a connection may take, with name lookup and TLS.
    pub connect_timeout: Duration,
    /// How long the first byte of an answer may take.
    pub read_timeout: Duration,
    /// How long a whole call may take, with getting credentials.
    pub operation_timeout: Duration,
    /// What instances cost on demand.
    pub prices: Cow<'static, Prices>,
}

impl AwsSettings {
    /// The services of a region answer within milliseconds; three seconds are
    /// two lost packets.
    pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
    /// A large `RunInstances` takes several seconds.
    pub const READ_TIMEOUT: Duration = Duration::from_secs(20);
    /// Less than the usual interval, so that a hanging call costs one cycle.
    pub const OPERATION_TIMEOUT: Duration = Duration::from_secs(30);

    /// Reads `[aws]` from the whole configuration, whose paths are relative to
    /// `folder`.
    pub fn read(config: &mut Fields<'_>, folder: &Path) -> Self {
        config
            .table_or_empty("aws", |aws| Some(Self::read_table(aws, folder)))
            .unwrap_or_default()
    }

    fn read_table(aws: &mut Fields<'_>, folder: &Path) -> Self {
        let bounds = Duration::from_millis(100)..=Duration::from_mins(5);
        let read = Self {
            region: optional_name(aws, "region", "a region such as \"eu-west-1\""),
            profile: optional_name(aws, "profile", "the name of a profile"),
            endpoint_url: read_url(aws, "endpoint_url"),
            connect_timeout: aws.or_within(
                "connect_timeout",
                Self::CONNECT_TIMEOUT,
                bounds.clone(),
            ),
            read_timeout: aws.or_within("read_timeout", Self::READ_TIMEOUT, bounds.clone()),
            operation_timeout: aws.or_within("operation_timeout", Self::OPERATION_TIMEOUT, bounds),
            prices: read_prices(aws, folder),
        };
        for (key, part) in [
            ("connect_timeout", read.connect_timeout),
            ("read_timeout", read.read_timeout),
        ] {
            if part > read.operation_timeout {
                aws.problem(
                    key,
                    "is longer than operation_timeout, which ends the whole call before",
                );
            }
        }
        read
    }
}

impl Default for AwsSettings {
    fn default() -> Self {
        Self {
            region: None,
            profile: None,
            endpoint_url: None,
            connect_timeout: Self::CONNECT_TIMEOUT,
            read_timeout: Self::READ_TIMEOUT,
            operation_timeout: Self::OPERATION_TIMEOUT,
            prices: Cow::Borrowed(Prices::built_in()),
        }
    }
}

/// The prices in the file `prices` names; those that come with windlass if it
/// is not there, or is wrong and reported.
fn read_prices(aws: &mut Fields<'_>, folder: &Path) -> Cow<'static, Prices> {
    let file = optional_name(aws, "prices", "a CSV file of on-demand prices");
    match file.map(|file| Prices::open(&folder.join(file))) {
        Some(Ok(prices)) => Cow::Owned(prices),
        Some(Err(error)) => {
            aws.problem("prices", chain(&error).to_string());
            Cow::Borrowed(Prices::built_in())
        }
        None => Cow::Borrowed(Prices::built_in()),
    }
}

/// A text that is not empty, if the key is there.
pub(crate) fn optional_name(fields: &mut Fields<'_>, key: &str, what: &str) -> Option<String> {
    let text = fields.optional::<String>(key)?;
    if text.trim().is_empty() {
        fields.problem(key, format!("is empty; write {what}"));
        return None;
    }
    Some(text)
}

/// An address that begins with `http://` or `https://`, if the key is there.
pub(crate) fn read_url(fields: &mut Fields<'_>, key: &str) -> Option<String> {
    let text = fields.optional::<String>(key)?;
    let host = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    if host.is_none_or(|host| host.is_empty() || host.contains(char::is_whitespace)) {
        fields.problem(
            key,
            format!("{text:?} is no address; write one that begins with https:// or http://"),
        );
        return None;
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use windlass_policies::fields::Document;

    fn read(text: &str) -> Result<AwsSettings, String> {
        Document::parse(text)
            .expect("TOML")
            .read(|fields| Some(AwsSettings::read(fields, Path::new(""))))
            .map_err(|problems| problems.to_string())
    }

    #[test]
    fn without_a_table_everything_is_at_its_default() {
        assert_eq!(read(""), Ok(AwsSettings::default()));
    }

    #[test]
    fn each_key_is_read() {
        let text = "[aws]\nregion = \"eu-west-1\"\nprofile = \"ops\"\n\
            endpoint_url = \"http://127.0.0.1:4566\"\nconnect_timeout = \"1s\"\n\
            read_timeout = \"2s\"\noperation_timeout = \"3s\"";
        let expected = AwsSettings {
            region: Some("eu-west-1".to_owned()),
            profile: Some("ops".to_owned()),
            endpoint_url: Some("http://127.0.0.1:4566".to_owned()),
            connect_timeout: Duration::from_secs(1),
            read_timeout: Duration::from_secs(2),
            operation_timeout: Duration::from_secs(3),
            ..AwsSettings::default()
        };
        assert_eq!(read(text), Ok(expected));
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (line, named) in [
            ("region = \"\"", "aws.region: is empty"),
            ("endpoint_url = \"127.0.0.1\"", "aws.endpoint_url"),
            ("endpoint_url = \"http://\"", "aws.endpoint_url"),
            (
                "prices = \"no.csv\"",
                "aws.prices: cannot read the prices in no.csv",
            ),
            ("read_timeout = \"1h\"", "aws.read_timeout"),
            ("read_timeout = \"60s\"", "aws.read_timeout: is longer"),
        ] {
            let problems = read(&format!("[aws]\n{line}")).expect_err(line);
            assert!(problems.contains(named), "{line}: {problems}");
        }
    }
}
