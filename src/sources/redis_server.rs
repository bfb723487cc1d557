//! A Redis server: where it is, and how it is spoken to.

use std::fs;
use std::path::{Path, PathBuf};

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ErrorKind, IntoConnectionInfo,
    RedisConnectionInfo, RedisError, TlsCertificates,
};
use windlass_policies::fields::Fields;

use super::secret::{Secret, read_secret};
use super::{because, tls};

/// Where a Redis server is and as whom it is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisServer {
    /// The server's name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The number of the database.
    pub database: i64,
    /// Whether it is spoken to over TLS.
    pub tls: bool,
    /// The authorities its certificate must come from; without it those that
    /// the system trusts.
    pub ca_file: Option<PathBuf>,
    /// The user; without it the server's `default`.
    pub user: Option<String>,
    /// The password.
    pub password: Option<Secret>,
}

impl RedisServer {
    /// Reads `url`, `user`, the password's keys and `ca_file`, whose path is
    /// relative to `folder`.
    pub(crate) fn read(fields: &mut Fields<'_>, folder: &Path) -> Option<Self> {
        let what = "the server, such as \"redis://redis.internal:6379/0\" (\"rediss://\" for TLS)";
        let url = fields
            .required::<String>("url", what)
            .and_then(|url| match server(&url) {
                Ok(server) => Some(server),
                Err(why) => {
                    fields.problem("url", why);
                    None
                }
            });
        let user = super::spec::text(fields, "user");
        let password = read_secret(fields, "password", folder);
        if user.is_some() && !fields.has("password") {
            fields.problem("user", "has no password; write `password` too");
        }
        let ca_file = super::spec::text(fields, "ca_file").map(|file| folder.join(file));
        let (host, port, database, tls) = url?;
        if ca_file.is_some() && !tls {
            fields.problem(
                "ca_file",
                "is of no use without TLS; write \"rediss://\" in `url`",
            );
        }
        Some(Self {
            host,
            port,
            database,
            tls,
            ca_file,
            user,
            password,
        })
    }

    /// Connects, with name and password. How long it may take is for the
    /// caller to say.
    ///
    /// # Errors
    /// Why it cannot, in a line that shows no secret.
    pub(crate) async fn connect(&self) -> Result<MultiplexedConnection, String> {
        let spec = self;
        let mut settings = RedisConnectionInfo::default()
            .set_db(spec.database)
            .set_skip_set_lib_name();
        if let Some(user) = &spec.user {
            settings = settings.set_username(user);
        }
        if let Some(secret) = &spec.password {
            settings = settings.set_password(secret.reveal()?.expose());
        }
        let host = spec.host.clone();
        let address = if spec.tls {
            tls::install_provider();
            ConnectionAddr::TcpTls {
                host,
                port: spec.port,
                insecure: false,
                tls_params: None,
            }
        } else {
            ConnectionAddr::Tcp(host, spec.port)
        };
        let said = |error: RedisError| because(&error);
        let info = address
            .into_connection_info()
            .map_err(said)?
            .set_redis_settings(settings);
        let client = match &spec.ca_file {
            Some(file) => {
                let roots = fs::read(file)
                    .map_err(|error| format!("cannot read {}: {error}", file.display()))?;
                let certificates = TlsCertificates {
                    client_tls: None,
                    root_cert: Some(roots),
                };
                Client::build_with_tls(info, certificates)
            }
            None => Client::open(info),
        };
        // How long it may take is for the caller to say, in one place.
        let patience = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None);
        client
            .map_err(said)?
            .get_multiplexed_async_connection_with_config(&patience)
            .await
            .map_err(said)
    }
}

/// Host, port, database and whether TLS is spoken.
fn server(text: &str) -> Result<(String, u16, i64, bool), String> {
    let url = super::spec::parse_url(text, &["redis", "rediss"])?;
    let path = url.path().trim_start_matches('/');
    let database = if path.is_empty() {
        0
    } else {
        path.parse::<u16>().map(i64::from).map_err(|_| {
            format!("`{path}` is no database; write its number, such as \"redis://host:6379/0\"")
        })?
    };
    if url.query().is_some() || url.fragment().is_some() {
        return Err("has parts after the database; write scheme, host, port and database".into());
    }
    let host = url.host_str().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port = url.port().unwrap_or(6379);
    Ok((host.to_owned(), port, database, url.scheme() == "rediss"))
}

/// Whether the connection is of no more use.
pub(crate) fn is_broken(error: &RedisError) -> bool {
    !matches!(
        error.kind(),
        ErrorKind::Server(_) | ErrorKind::Extension | ErrorKind::UnexpectedReturnType
    )
}
