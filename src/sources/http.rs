//! One HTTP request, as the sources that speak HTTP make it.

use std::cell::Cell;
use std::path::{Path, PathBuf};

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, LOCATION};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Client, Response, StatusCode, Url};
use windlass_policies::fields::Fields;

use super::secret::{Revealed, Secret, read_secret};
use super::spec::{parse_url, text};
use super::{because, tls};

/// The most bytes of an answer: a number with its surroundings needs a few
/// hundred.
pub(super) const BODY_BYTES_MAX: usize = 1024 * 1024;

/// The most redirects followed, all within one host.
const REDIRECTS_MAX: usize = 5;

/// A server, and what it must be told to answer.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpSpec {
    /// What is asked.
    pub url: Url,
    /// Who asks.
    pub login: Option<Login>,
    /// Headers besides, by name.
    pub headers: Vec<(HeaderName, HeaderText)>,
    /// The authorities its certificate must come from; without it those that
    /// the system trusts.
    pub ca_file: Option<PathBuf>,
}

/// How a request says who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    /// HTTP's basic authentication.
    Basic {
        /// The user.
        user: String,
        /// The password.
        password: Secret,
    },
    /// A bearer token.
    Bearer(Secret),
}

/// The value of a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderText {
    /// As it stands.
    Plain(String),
    /// Kept elsewhere.
    Secret(Secret),
}

impl HttpSpec {
    /// Every secret it needs.
    pub(super) fn secrets(&self) -> Vec<&Secret> {
        let login = self.login.as_ref().map(|login| match login {
            Login::Basic { password, .. } => password,
            Login::Bearer(token) => token,
        });
        let headers = self.headers.iter().filter_map(|(_, value)| match value {
            HeaderText::Plain(_) => None,
            HeaderText::Secret(secret) => Some(secret),
        });
        login.into_iter().chain(headers).collect()
    }
}

/// Reads `url`, `user`, `password`, `bearer_token`, `headers` and `ca_file`.
/// `example` is what a URL looks like.
pub(super) fn read_spec(fields: &mut Fields<'_>, folder: &Path, example: &str) -> Option<HttpSpec> {
    let what = format!("what to ask, such as \"{example}\"");
    let url = fields.required::<String>("url", &what).and_then(|url| {
        parse_url(&url, &["http", "https"])
            .map_err(|why| fields.problem("url", why))
            .ok()
    });
    let login = read_login(fields, folder);
    let headers = fields
        .table_or_empty("headers", |table| Some(read_headers(table, folder)))
        .unwrap_or_default();
    let ca_file = text(fields, "ca_file").map(|file| folder.join(file));
    let url = url?;
    if ca_file.is_some() && url.scheme() != "https" {
        fields.problem(
            "ca_file",
            "is of no use without TLS; write \"https://\" in `url`",
        );
    }
    Some(HttpSpec {
        url,
        login,
        headers,
        ca_file,
    })
}

fn read_login(fields: &mut Fields<'_>, folder: &Path) -> Option<Login> {
    let user = text(fields, "user");
    let password = read_secret(fields, "password", folder);
    let token = read_secret(fields, "bearer_token", folder);
    if fields.has("bearer_token") && (fields.has("user") || fields.has("password")) {
        fields.problem(
            "bearer_token",
            "there is a `user` or `password` too; keep one of the two",
        );
        return None;
    }
    match (fields.has("user"), fields.has("password")) {
        (true, false) => fields.problem("user", "has no password; write `password` too"),
        (false, true) => fields.problem("password", "has no user; write `user` too"),
        _ => {}
    }
    match (user, password) {
        (Some(user), Some(password)) if !user.contains(':') => {
            Some(Login::Basic { user, password })
        }
        (Some(_), Some(_)) => {
            fields.problem(
                "user",
                "has a colon in it, which HTTP cannot tell from its end",
            );
            None
        }
        _ => token.map(Login::Bearer),
    }
}

fn read_headers(table: &mut Fields<'_>, folder: &Path) -> Vec<(HeaderName, HeaderText)> {
    let mut headers = Vec::new();
    for key in table.keys() {
        let value = match table.raw(key) {
            Some(toml::Value::Table(_)) => read_secret(table, key, folder).map(HeaderText::Secret),
            _ => table.optional::<String>(key).map(HeaderText::Plain),
        };
        let Ok(name) = HeaderName::try_from(key) else {
            table.problem(key, "is no name of a header");
            continue;
        };
        // Their values are credentials whatever the server does with them.
        let secret = ["authorization", "cookie", "proxy-authorization"];
        match value {
            Some(HeaderText::Plain(_)) if secret.contains(&name.as_str()) => table.problem(
                key,
                "a secret does not belong in this file; write { env = \"NAME\" } or \
                 { file = \"PATH\" }",
            ),
            Some(HeaderText::Plain(text)) if HeaderValue::try_from(&text).is_err() => {
                table.problem(key, "has a character in it that no header may have");
            }
            Some(value) => headers.push((name, value)),
            None => {}
        }
    }
    headers
}

/// What a server answered.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
    /// What was sent and must not be seen in what is said about it.
    sent: Vec<Revealed>,
}

impl Answer {
    /// Why it is no answer to go on with, if it is not 200.
    pub(super) fn refusal(&self) -> Option<String> {
        if self.status == StatusCode::OK {
            return None;
        }
        let elsewhere = self.headers.get(LOCATION).map(|place| {
            let place = String::from_utf8_lossy(place.as_bytes());
            match Url::parse(&place).ok().as_ref().and_then(Url::host_str) {
                Some(host) => format!(
                    " and leads to {host}; write where it leads in `url` if that is to be trusted"
                ),
                None => " and leads round in circles".to_owned(),
            }
        });
        let elsewhere = elsewhere.unwrap_or_default();
        Some(format!("the server answered {}{elsewhere}", self.status))
    }

    /// `text`, from the server, without what was sent in confidence.
    pub(super) fn blot(&self, text: &str) -> String {
        let blotted = self.sent.iter();
        blotted.fold(text.to_owned(), |text, secret| secret.blot(&text))
    }
}

/// Asks one server; keeps the connection.
pub(super) struct Asker {
    spec: HttpSpec,
    /// Put back only after an answer: a file of authorities that was replaced
    /// is then read again.
    client: Cell<Option<Client>>,
}

impl Asker {
    pub(super) fn new(spec: &HttpSpec) -> Self {
        Self {
            spec: spec.clone(),
            client: Cell::new(None),
        }
    }

    /// GETs `url`, which is on the server of the spec.
    ///
    /// # Errors
    /// Why there is no answer, without a secret in it.
    pub(super) async fn get(&self, url: Url) -> Result<Answer, String> {
        let client = match self.client.take() {
            Some(client) => client,
            None => self.build()?,
        };
        let (headers, sent) = self.headers()?;
        let plain = |error: reqwest::Error| because(&error.without_url());
        let mut response = client
            .get(url)
            .headers(headers)
            .send()
            .await
            .map_err(plain)?;
        let body = whole_body(&mut response).await?;
        self.client.set(Some(client));
        Ok(Answer {
            status: response.status(),
            headers: response.headers().clone(),
            body,
            sent,
        })
    }

    fn headers(&self) -> Result<(HeaderMap, Vec<Revealed>), String> {
        let mut headers = HeaderMap::new();
        let mut sent = Vec::new();
        let hidden = |text: String| {
            let mut value = HeaderValue::try_from(text)
                .map_err(|_| "a secret has a character in it that no header may have".to_owned())?;
            value.set_sensitive(true);
            Ok::<_, String>(value)
        };
        match &self.spec.login {
            None => {}
            Some(Login::Bearer(token)) => {
                let token = token.reveal()?;
                headers.insert(AUTHORIZATION, hidden(format!("Bearer {}", token.expose()))?);
                sent.push(token);
            }
            Some(Login::Basic { user, password }) => {
                let password = password.reveal()?;
                let pair = base64(format!("{user}:{}", password.expose()).as_bytes());
                headers.insert(AUTHORIZATION, hidden(format!("Basic {pair}"))?);
                sent.push(password);
            }
        }
        for (name, value) in &self.spec.headers {
            let value = match value {
                HeaderText::Plain(text) => HeaderValue::try_from(text)
                    .map_err(|_| format!("the header {name} has no value"))?,
                HeaderText::Secret(secret) => {
                    let secret = secret.reveal()?;
                    let value = hidden(secret.expose().to_owned())?;
                    sent.push(secret);
                    value
                }
            };
            headers.insert(name, value);
        }
        Ok((headers, sent))
    }

    fn build(&self) -> Result<Client, String> {
        tls::install_provider();
        // Without TLS nobody is to be trusted, and no redirect leads to TLS.
        let tls = if self.spec.url.scheme() == "https" {
            tls::client_config(self.spec.ca_file.as_deref())?
        } else {
            tls::trusting_nobody()?
        };
        Client::builder()
            .tls_backend_preconfigured(tls)
            .redirect(Policy::custom(within_the_host))
            // What controls machines asks its servers itself.
            .no_proxy()
            .referer(false)
            .pool_max_idle_per_host(1)
            .user_agent(concat!("windlass/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| because(&error))
    }
}

/// Follows redirects that stay where the credentials belong.
fn within_the_host(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let stays = attempt
        .previous()
        .first()
        .is_some_and(|first| first.origin() == attempt.url().origin());
    if stays && attempt.previous().len() <= REDIRECTS_MAX {
        attempt.follow()
    } else {
        attempt.stop()
    }
}

async fn whole_body(response: &mut Response) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    loop {
        let chunk = response.chunk().await;
        let chunk = chunk.map_err(|error| because(&error.without_url()))?;
        let Some(chunk) = chunk else {
            return Ok(body);
        };
        if body.len() + chunk.len() > BODY_BYTES_MAX {
            return Err(format!("its answer is longer than {BODY_BYTES_MAX} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let mut bits = 0_usize;
        for index in 0..3 {
            bits = bits << 8 | three.get(index).map_or(0, |byte| usize::from(*byte));
        }
        for index in 0..4 {
            let letter = char::from(LETTERS[bits >> (18 - 6 * index) & 63]);
            text.push(if index <= three.len() { letter } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basic_authentication_is_written_as_rfc_4648_has_it() {
        for (plain, coded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
            ("Aladdin:open sesame", "QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
        ] {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }
}
