//! The result of a query in `PostgreSQL`: one row with a number, and perhaps the
//! time at which it was true.
//!
//! The query runs in a read-only transaction, which is rolled back, and the
//! server itself gives it up when it takes too long.

use std::cell::Cell;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_postgres::config::SslMode;
use tokio_postgres::types::{FromSql, Type};
use tokio_postgres::{Client, Config, Error, NoTls, Row};
use tokio_postgres_rustls::MakeRustlsConnect;
use windlass_policies::fields::Fields;
use windlass_policies::signal::{Absence, Reading};
use windlass_policies::units::Timestamp;

use super::secret::{Secret, read_secret};
use super::spec::text;
use super::{because, sampled, tls, unreachable_because, unusable};

/// What is asked of a `PostgreSQL` server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostgresSpec {
    /// The server's name or address, or the folder of its socket.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The database.
    pub database: String,
    /// The user.
    pub user: String,
    /// The password; without it the server must trust the user.
    pub password: Option<Secret>,
    /// Whether it is spoken to over TLS, and its certificate checked.
    pub tls: bool,
    /// The authorities its certificate must come from; without it those that
    /// the system trusts.
    pub ca_file: Option<PathBuf>,
    /// The query.
    pub query: String,
}

/// Reads the keys of a signal with `source = "postgres"`.
pub(super) fn read_spec(fields: &mut Fields<'_>, folder: &Path) -> Option<PostgresSpec> {
    let mut required = |key: &str, what: &str| {
        let found = fields.required::<String>(key, what)?;
        if found.trim().is_empty() || found.contains('\0') {
            fields.problem(key, format!("is empty; write {what}"));
            return None;
        }
        Some(found)
    };
    let host = required("host", "the server's name, or the folder of its socket");
    let database = required("database", "the name of the database");
    let user = required("user", "the user, who needs only to read");
    let query = required(
        "query",
        "a query with one row: a number, and perhaps its time",
    );
    let port = fields.or_within("port", 5432_u32, 1..=u32::from(u16::MAX));
    let password = read_secret(fields, "password", folder);
    let socket = host.as_ref().is_some_and(|host| host.starts_with('/'));
    let words = [("verify", true), ("off", false)];
    let tls = fields.word("tls", &words).unwrap_or(!socket);
    if tls && socket {
        fields.problem("tls", "a socket has no TLS; remove `tls`");
    }
    let ca_file = text(fields, "ca_file").map(|file| folder.join(file));
    if ca_file.is_some() && !tls {
        fields.problem(
            "ca_file",
            "is of no use without TLS; write tls = \"verify\"",
        );
    }
    Some(PostgresSpec {
        host: host?,
        port: u16::try_from(port).ok()?,
        database: database?,
        user: user?,
        password,
        tls,
        ca_file,
        query: query?,
    })
}

/// Asks one server for one number.
pub(super) struct Reader {
    spec: PostgresSpec,
    /// How long a reading may take.
    timeout: Duration,
    /// Put back only after an answer, so that what is given up is not used again.
    session: Cell<Option<Session>>,
}

/// A connection and the task that moves its bytes.
struct Session {
    client: Client,
    task: JoinHandle<()>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Why there is no reading.
enum Failure {
    /// The connection is of no more use, or there is none.
    Broken(String),
    /// The server answered.
    Refused(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let why = because(&error);
        // A server that is going down says so first.
        let going_down = error.code().is_some_and(|code| {
            let class = code.code().get(..2);
            class == Some("57") && code.code() != "57014" || class == Some("08")
        });
        if error.is_closed() || error.as_db_error().is_none() || going_down {
            Self::Broken(why)
        } else {
            Self::Refused(why)
        }
    }
}

impl Reader {
    pub(super) fn new(spec: &PostgresSpec, timeout: Duration) -> Self {
        Self {
            spec: spec.clone(),
            timeout,
            session: Cell::new(None),
        }
    }

    pub(super) async fn read(&self, now: Timestamp) -> Reading {
        // A server that was restarted is found out when the old connection is
        // used: one more try, with a new one, is no second opinion.
        if let Some(kept) = self.session.take().filter(|kept| !kept.client.is_closed()) {
            match self.ask(kept, now).await {
                Err(Failure::Broken(_)) => {}
                outcome => return told(outcome),
            }
        }
        match self.connect().await {
            Ok(session) => told(self.ask(session, now).await),
            Err(why) => unreachable_because(why),
        }
    }

    async fn connect(&self) -> Result<Session, String> {
        let spec = &self.spec;
        let mut config = Config::new();
        config
            .host(&spec.host)
            .port(spec.port)
            .dbname(&spec.database)
            .user(&spec.user)
            .application_name("windlass");
        if let Some(secret) = &spec.password {
            config.password(secret.reveal()?.expose());
        }
        let said = |error: Error| because(&error);
        let (client, task) = if spec.tls {
            config.ssl_mode(SslMode::Require);
            let tls = tls::client_config(spec.ca_file.as_deref())?;
            let connected = config.connect(MakeRustlsConnect::new(tls)).await;
            let (client, connection) = connected.map_err(said)?;
            (client, tokio::spawn(moved(connection)))
        } else {
            config.ssl_mode(SslMode::Disable);
            let (client, connection) = config.connect(NoTls).await.map_err(said)?;
            (client, tokio::spawn(moved(connection)))
        };
        Ok(Session { client, task })
    }

    async fn ask(&self, session: Session, now: Timestamp) -> Result<Reading, Failure> {
        // The server ends it a little before it is given up here, so that its
        // reason is heard.
        let statement = self.timeout.as_millis() * 9 / 10;
        let lock = self.timeout.as_millis() / 2;
        let client = &session.client;
        let begin = format!(
            "BEGIN TRANSACTION READ ONLY; SET LOCAL statement_timeout = {statement}; \
             SET LOCAL lock_timeout = {lock}"
        );
        client.batch_execute(&begin).await?;
        let as_of = replica_time(client, now).await?;
        let row = client.query_typed_opt(&self.spec.query, &[]).await?;
        client.batch_execute("ROLLBACK").await?;
        let reading = match row {
            None => Reading::Absent(Absence::NoData),
            Some(row) => row_reading(&row, as_of, now).unwrap_or_else(unusable),
        };
        self.session.set(Some(session));
        Ok(reading)
    }
}

fn told(outcome: Result<Reading, Failure>) -> Reading {
    match outcome {
        Ok(reading) => reading,
        Err(Failure::Broken(why)) => unreachable_because(why),
        Err(Failure::Refused(why)) => unusable(why),
    }
}

/// Moves a connection's bytes until it ends. Why it ended, who uses it is told.
async fn moved(connection: impl Future<Output = Result<(), Error>>) {
    let _ended = connection.await;
}

/// As of when the server's data is: now, unless it is a replica that waits for
/// what its primary wrote.
async fn replica_time(client: &Client, now: Timestamp) -> Result<Option<Timestamp>, Failure> {
    let standby = client
        .query_typed_opt("SELECT pg_catalog.pg_is_in_recovery()", &[])
        .await?;
    if !standby.is_some_and(|row| row.try_get(0).unwrap_or(false)) {
        return Ok(Some(now));
    }
    // One that is connected and has replayed all it was sent is up to date;
    // its last transaction may be long ago.
    let row = client
        .query_typed_opt(
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_stat_wal_receiver WHERE pid IS NOT NULL) \
             AND pg_catalog.pg_last_wal_receive_lsn() = pg_catalog.pg_last_wal_replay_lsn(), \
             pg_catalog.pg_last_xact_replay_timestamp()",
            &[],
        )
        .await?;
    let Some(row) = row else {
        return Ok(None);
    };
    if matches!(row.try_get(0), Ok(Some(true))) {
        return Ok(Some(now));
    }
    let replayed: Option<Moment> = row.try_get(1)?;
    Ok(replayed.and_then(|moment| moment.0))
}

fn row_reading(row: &Row, as_of: Option<Timestamp>, now: Timestamp) -> Result<Reading, String> {
    let columns = row.columns();
    if !(1..=2).contains(&columns.len()) {
        return Err(format!(
            "the query gives {} columns; select a number, and perhaps its time",
            columns.len()
        ));
    }
    let value: Option<Number> = row.try_get(0).map_err(|_| {
        let name = columns[0].type_().name();
        format!("the first column is of type {name}; cast it to a number, such as ::bigint")
    })?;
    let Some(Number(value)) = value else {
        return Ok(Reading::Absent(Absence::NoData));
    };
    let Some(as_of) = as_of else {
        return Err("the server is a replica that does not know how old its data is".to_owned());
    };
    let Some(column) = columns.get(1) else {
        return Ok(sampled(value, as_of, now));
    };
    let time: Option<Moment> = row.try_get(1).map_err(|_| {
        let name = column.type_().name();
        format!("the second column is of type {name}; its time must be a timestamptz")
    })?;
    match time.and_then(|moment| moment.0) {
        Some(at) => Ok(sampled(value, at, now)),
        None => Err("its time is null or without end".to_owned()),
    }
}

type Unreadable = Box<dyn std::error::Error + Sync + Send>;

/// Any number there is in SQL.
struct Number(f64);

impl<'a> FromSql<'a> for Number {
    fn from_sql(kind: &Type, raw: &'a [u8]) -> Result<Self, Unreadable> {
        let value = match *kind {
            Type::INT2 => f64::from(i16::from_sql(kind, raw)?),
            Type::INT4 => f64::from(i32::from_sql(kind, raw)?),
            // By way of its text, which is rounded to the nearest.
            Type::INT8 => i64::from_sql(kind, raw)?.to_string().parse()?,
            Type::FLOAT4 => f64::from(f32::from_sql(kind, raw)?),
            Type::FLOAT8 => f64::from_sql(kind, raw)?,
            _ => numeric(raw)?,
        };
        Ok(Self(value))
    }

    fn accepts(kind: &Type) -> bool {
        [
            Type::INT2,
            Type::INT4,
            Type::INT8,
            Type::FLOAT4,
            Type::FLOAT8,
            Type::NUMERIC,
        ]
        .contains(kind)
    }
}

/// A `numeric` as it is sent: a head of four 16-bit numbers (how many digits,
/// weight of the first, sign, scale), then digits to base 10,000.
fn numeric(raw: &[u8]) -> Result<f64, Unreadable> {
    let words: Vec<u16> = raw
        .chunks_exact(2)
        .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
        .collect();
    let [count, weight, sign, _scale, digits @ ..] = words.as_slice() else {
        return Err("a numeric that is too short".into());
    };
    if digits.len() != usize::from(*count) {
        return Err("a numeric with a wrong number of digits".into());
    }
    let sign = match sign {
        0x0000 => "",
        0x4000 => "-",
        0xC000 => return Ok(f64::NAN),
        0xD000 => return Ok(f64::INFINITY),
        0xF000 => return Ok(f64::NEG_INFINITY),
        _ => return Err("a numeric with an unknown sign".into()),
    };
    if digits.is_empty() {
        return Ok(0.0);
    }
    let mut text = String::new();
    for digit in digits {
        write!(text, "{digit:04}")?;
    }
    let last = i64::from(weight.cast_signed()) + 1 - i64::from(*count);
    Ok(format!("{sign}{text}e{}", last * 4).parse()?)
}

/// A `timestamptz`; `None` for the infinite ones and those before 1970.
struct Moment(Option<Timestamp>);

impl<'a> FromSql<'a> for Moment {
    fn from_sql(_kind: &Type, raw: &'a [u8]) -> Result<Self, Unreadable> {
        /// From 1970 to 2000, where `PostgreSQL` begins to count.
        const TO_2000: i64 = 946_684_800_000_000;
        let micros = i64::from_be_bytes(raw.try_into()?);
        let endless = micros == i64::MAX || micros == i64::MIN;
        let since = micros.checked_add(TO_2000).filter(|_| !endless);
        let since = since.and_then(|micros| u64::try_from(micros).ok());
        Ok(Self(since.map(Timestamp::from_micros)))
    }

    fn accepts(kind: &Type) -> bool {
        *kind == Type::TIMESTAMPTZ
    }
}
