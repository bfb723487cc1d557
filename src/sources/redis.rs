//! Numbers from Redis: how long a list, stream or sorted set is, or a field of
//! a hash.
//!
//! A key that does not exist is an empty list or sorted set, for Redis removes
//! it with its last element: 0. A stream's group and a hash's field stay, so
//! that without them there is no number.

use std::cell::Cell;
use std::path::Path;

use redis::aio::MultiplexedConnection;
use redis::streams::{StreamInfoGroup, StreamInfoGroupsReply};
use redis::{Cmd, ErrorKind, FromRedisValue, RedisError, ServerErrorKind, Value, cmd};
use windlass_policies::fields::Fields;
use windlass_policies::signal::{Absence, Completeness, Reading, Sample, SignalKind};
use windlass_policies::units::{MICROS_PER_SEC, Timestamp};

use super::redis_server::{RedisServer, is_broken};
use super::{because, number, sampled, unreachable_because, unusable};

/// What is asked of a Redis server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisSpec {
    /// The server.
    pub server: RedisServer,
    /// What is counted.
    pub count: RedisCount,
}

/// What is counted in Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisCount {
    /// The elements of a list.
    List {
        /// Its key.
        key: String,
    },
    /// The entries of a stream that a consumer group has not acknowledged.
    Stream {
        /// Its key.
        key: String,
        /// The group.
        group: String,
        /// Which of them.
        of: StreamPart,
    },
    /// The members of a sorted set.
    SortedSet {
        /// Its key.
        key: String,
        /// Only those whose score is a time that has come.
        due: Option<ScoreUnit>,
    },
    /// A number in a hash.
    Hash {
        /// Its key.
        key: String,
        /// The field that holds the number.
        field: String,
        /// The field that holds the time it was true.
        time_field: Option<String>,
    },
}

/// Which entries of a stream count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamPart {
    /// Those that wait and those in hand.
    All,
    /// Those given to no consumer yet (the group's lag).
    Waiting,
    /// Those given to a consumer and not acknowledged.
    Pending,
}

/// What a score that is a time counts, since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScoreUnit {
    /// Seconds.
    Seconds,
    /// Milliseconds.
    Milliseconds,
}

impl RedisSpec {
    /// What kind of number it is; a hash may hold any.
    pub(super) fn kind(&self) -> Option<SignalKind> {
        match self.count {
            RedisCount::List { .. } | RedisCount::Stream { .. } | RedisCount::SortedSet { .. } => {
                Some(SignalKind::Total)
            }
            RedisCount::Hash { .. } => None,
        }
    }
}

/// Reads the keys of a signal with `source = "redis"`.
pub(super) fn read_spec(fields: &mut Fields<'_>, folder: &Path) -> Option<RedisSpec> {
    let server = RedisServer::read(fields, folder);
    let count = read_count(fields);
    Some(RedisSpec {
        server: server?,
        count: count?,
    })
}

fn read_count(fields: &mut Fields<'_>) -> Option<RedisCount> {
    const KEYS: [&str; 4] = ["list", "stream", "sorted_set", "hash"];
    let there = KEYS.iter().filter(|key| fields.has(key)).count();
    let found = KEYS.map(|key| super::spec::text(fields, key));
    if there != 1 {
        fields.problem_here(
            "what is counted is not clear; write the key of one of `list`, `stream` (with \
             `group`), `sorted_set` and `hash` (with `field`)",
        );
    }
    let group_what = "the consumer group, such as \"workers\"";
    let field_what = "the field that holds the number";
    match found {
        [Some(key), None, None, None] => Some(RedisCount::List { key }),
        [None, Some(key), None, None] => {
            let group = fields.required::<String>("group", group_what);
            let words = [
                ("all", StreamPart::All),
                ("waiting", StreamPart::Waiting),
                ("pending", StreamPart::Pending),
            ];
            let of = fields.word("count", &words).unwrap_or(StreamPart::All);
            let group = group?;
            Some(RedisCount::Stream { key, group, of })
        }
        [None, None, Some(key), None] => {
            let words = [
                ("seconds", ScoreUnit::Seconds),
                ("milliseconds", ScoreUnit::Milliseconds),
            ];
            let due = fields.word("due", &words);
            Some(RedisCount::SortedSet { key, due })
        }
        [None, None, None, Some(key)] => {
            let field = fields.required::<String>("field", field_what);
            let time_field = super::spec::text(fields, "time_field");
            let field = field?;
            Some(RedisCount::Hash {
                key,
                field,
                time_field,
            })
        }
        _ => {
            // Reported; any of the keys beside them may be meant.
            for key in ["group", "count", "due", "field", "time_field"] {
                let _known = fields.raw(key);
            }
            None
        }
    }
}

/// Asks one server for one number.
pub(super) struct Reader {
    spec: RedisSpec,
    /// Put back only after an answer, so that what is given up is not used again.
    connection: Cell<Option<MultiplexedConnection>>,
}

impl Reader {
    pub(super) fn new(spec: &RedisSpec) -> Self {
        Self {
            spec: spec.clone(),
            connection: Cell::new(None),
        }
    }

    pub(super) async fn read(&self, now: Timestamp) -> Reading {
        // A server that was restarted is found out when the old connection is
        // used: one more try, with a new one, is no second opinion.
        if let Some(kept) = self.connection.take() {
            match self.ask(kept, now).await {
                Err(error) if is_broken(&error) => {}
                outcome => return self.told(outcome),
            }
        }
        match self.spec.server.connect().await {
            Ok(connection) => {
                let outcome = self.ask(connection, now).await;
                self.told(outcome)
            }
            Err(why) => unreachable_because(why),
        }
    }

    fn told(&self, outcome: Result<(MultiplexedConnection, Reading), RedisError>) -> Reading {
        match outcome {
            Ok((connection, reading)) => {
                self.connection.set(Some(connection));
                reading
            }
            Err(error) if is_broken(&error) => unreachable_because(because(&error)),
            Err(error) => unusable(because(&error)),
        }
    }

    async fn ask(
        &self,
        mut connection: MultiplexedConnection,
        now: Timestamp,
    ) -> Result<(MultiplexedConnection, Reading), RedisError> {
        let reading = match cut_off(&mut connection).await? {
            Some(why) => unusable(why),
            None => count(&mut connection, &self.spec.count, now).await?,
        };
        Ok((connection, reading))
    }
}

async fn query<T: FromRedisValue>(
    connection: &mut MultiplexedConnection,
    command: &Cmd,
) -> Result<T, RedisError> {
    command.query_async(connection).await
}

/// Why the server's data may be old: it is a replica without its primary, and
/// answers all the same. A user who may not know passes.
async fn cut_off(connection: &mut MultiplexedConnection) -> Result<Option<String>, RedisError> {
    let info: String = match query(connection, cmd("INFO").arg("replication")).await {
        Ok(info) => info,
        Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoPerm) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let down = info
        .lines()
        .any(|line| line.trim() == "master_link_status:down");
    Ok(down.then(|| "the server is a replica that has lost its primary".to_owned()))
}

async fn count(
    connection: &mut MultiplexedConnection,
    what: &RedisCount,
    now: Timestamp,
) -> Result<Reading, RedisError> {
    match what {
        RedisCount::List { key } => {
            let length: u64 = query(connection, cmd("LLEN").arg(key)).await?;
            Ok(sampled(number::of_count(length), now, now))
        }
        RedisCount::SortedSet { key, due: None } => {
            let size: u64 = query(connection, cmd("ZCARD").arg(key)).await?;
            Ok(sampled(number::of_count(size), now, now))
        }
        RedisCount::SortedSet {
            key,
            due: Some(unit),
        } => {
            let until = match unit {
                ScoreUnit::Seconds => now.micros() / MICROS_PER_SEC,
                ScoreUnit::Milliseconds => now.micros() / 1_000,
            };
            let due: u64 = query(connection, cmd("ZCOUNT").arg(key).arg("-inf").arg(until)).await?;
            Ok(sampled(number::of_count(due), now, now))
        }
        RedisCount::Stream { key, group, of } => {
            let asked: Result<StreamInfoGroupsReply, _> =
                query(connection, cmd("XINFO").arg("GROUPS").arg(key)).await;
            let groups = match asked {
                Err(error) if error.detail() == Some("no such key") => {
                    return Ok(unusable(format!("there is no stream `{key}`")));
                }
                other => other?.groups,
            };
            let Some(info) = groups.iter().find(|info| info.name == *group) else {
                return Ok(unusable(format!(
                    "the stream `{key}` has no group `{group}`"
                )));
            };
            stream_count(connection, key, info, *of, now).await
        }
        RedisCount::Hash {
            key,
            field,
            time_field,
        } => {
            let mut ask = cmd("HMGET");
            ask.arg(key).arg(field).arg(time_field);
            let values: Vec<Option<String>> = query(connection, &ask).await?;
            let mut values = values.into_iter();
            let Some(text) = values.next().flatten() else {
                return Ok(Reading::Absent(Absence::NoData));
            };
            let Some(value) = number::parse(&text) else {
                return Ok(Reading::Absent(Absence::NotANumber));
            };
            let Some(time_field) = time_field else {
                return Ok(sampled(value, now, now));
            };
            let Some(time) = values.next().flatten() else {
                return Ok(unusable(format!("it has no time in `{time_field}`")));
            };
            Ok(match number::parse_time(&time) {
                Ok(at) => sampled(value, at, now),
                Err(why) => unusable(format!("`{time_field}`: {why}")),
            })
        }
    }
}

/// The most entries that are looked at to count those of a group whose server
/// does not tell: a few hundred kilobytes of small jobs.
const UNTOLD_MAX: usize = 1_000;

async fn stream_count(
    connection: &mut MultiplexedConnection,
    key: &str,
    info: &StreamInfoGroup,
    of: StreamPart,
    now: Timestamp,
) -> Result<Reading, RedisError> {
    let pending = info.pending as u64;
    let (waiting, completeness) = match (of, info.lag) {
        (StreamPart::Pending, _) => (0, Completeness::Complete),
        (StreamPart::All | StreamPart::Waiting, Some(lag)) => (lag as u64, Completeness::Complete),
        // Redis before 7.0, or entries were removed by hand.
        (StreamPart::All | StreamPart::Waiting, None) => {
            let Some(after) = next_id(&info.last_delivered_id) else {
                return Ok(unusable("the group's last id is none"));
            };
            let mut ask = cmd("XRANGE");
            ask.arg(key)
                .arg(after)
                .arg("+")
                .arg("COUNT")
                .arg(UNTOLD_MAX + 1);
            let entries: Vec<Value> = query(connection, &ask).await?;
            if entries.len() > UNTOLD_MAX {
                (UNTOLD_MAX as u64, Completeness::Partial)
            } else {
                (entries.len() as u64, Completeness::Complete)
            }
        }
    };
    let total = match of {
        StreamPart::All => waiting.saturating_add(pending),
        StreamPart::Waiting => waiting,
        StreamPart::Pending => pending,
    };
    Ok(Reading::Present(Sample {
        value: number::of_count(total),
        at: now,
        completeness,
    }))
}

/// The id right after `id`, such as `1700000000000-4` for `1700000000000-3`.
fn next_id(id: &str) -> Option<String> {
    let (millis, serial) = id.split_once('-')?;
    let serial: u64 = serial.parse().ok()?;
    match serial.checked_add(1) {
        Some(next) => Some(format!("{millis}-{next}")),
        None => Some(format!("{}-0", millis.parse::<u64>().ok()?.checked_add(1)?)),
    }
}
