//! How workers on EC2 are told to take no new jobs, and how they answer: the
//! keys that the providers on EC2 share.

use std::path::Path;

use windlass_policies::fields::Fields;

use crate::sources::RedisServer;

/// Where the keys of windlass stand in Redis if nothing else is written.
const PREFIX_DEFAULT: &str = "windlass";

/// By what a worker and windlass hear of each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkersSettings {
    /// Not at all: what a worker does is unknown.
    None,
    /// By tags of the instance.
    Tags,
    /// By two hashes in Redis.
    Redis {
        /// The server.
        server: RedisServer,
        /// What the names of the hashes begin with.
        prefix: String,
    },
    /// By the protection from scale-in of the instance, which its group knows:
    /// a worker has it while it has a job. Of groups only.
    Protection,
    /// There is nothing to hear: instances hold no jobs. Of groups only.
    Stateless,
}

/// A value of `workers`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    None,
    Tags,
    Redis,
    Protection,
    Stateless,
}

/// What can be written on EC2.
pub(super) const ON_EC2: [(&str, Word); 3] = [
    ("none", Word::None),
    ("tags", Word::Tags),
    ("redis", Word::Redis),
];

/// What can be written where the instances are a group's.
pub(super) const IN_A_GROUP: [(&str, Word); 5] = [
    ("protection", Word::Protection),
    ("tags", Word::Tags),
    ("redis", Word::Redis),
    ("none", Word::None),
    ("stateless", Word::Stateless),
];

/// Reads `workers`, which may be any of `words`, and, if it says so, the table
/// `[redis]` beside it.
pub(super) fn read(
    fields: &mut Fields<'_>,
    folder: &Path,
    words: &[(&'static str, Word)],
) -> Option<WorkersSettings> {
    let word = fields.required_word("workers", words);
    let redis = |fields: &mut Fields<'_>| {
        let server = RedisServer::read(fields, folder);
        let prefix = fields.or("prefix", PREFIX_DEFAULT.to_owned());
        if prefix.is_empty() {
            fields.problem("prefix", "is empty; write what the keys begin with");
        }
        Some(WorkersSettings::Redis {
            server: server?,
            prefix,
        })
    };
    match word {
        Some(Word::Redis) => fields.table_or_empty("redis", redis),
        None => {
            let _looked_at = fields.table("redis", redis);
            None
        }
        Some(other) => {
            if fields.raw("redis").is_some() {
                fields.problem(
                    "redis",
                    "belongs to workers = \"redis\"; remove it, or write that",
                );
            }
            Some(match other {
                Word::Tags => WorkersSettings::Tags,
                Word::Protection => WorkersSettings::Protection,
                Word::Stateless => WorkersSettings::Stateless,
                Word::None | Word::Redis => WorkersSettings::None,
            })
        }
    }
}
