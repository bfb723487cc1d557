//! Passwords and tokens: where they are, and what must not show them.

use std::env;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use windlass_policies::fields::Fields;

/// The most bytes of a secret: the longest tokens in use are a few kilobytes.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// Where a secret is. It is looked up whenever it is needed for a new
/// connection or request, so that one that was replaced is found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Secret {
    /// In the environment variable of this name.
    Env(String),
    /// In this file; a line break at its end does not count.
    File(PathBuf),
}

/// A secret that was looked up. Never shown: `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct Revealed(String);

impl Revealed {
    /// The secret itself, for the one call that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// `text` with every occurrence of the secret blotted out: for what a
    /// server says about a request that had it in it.
    pub fn blot(&self, text: &str) -> String {
        if self.0.is_empty() {
            return text.to_owned();
        }
        text.replace(&self.0, "***")
    }
}

impl fmt::Debug for Revealed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("***")
    }
}

impl Secret {
    /// Looks it up.
    ///
    /// # Errors
    /// Why it is not there, in a line that does not show it.
    pub fn reveal(&self) -> Result<Revealed, String> {
        let text = match self {
            Self::Env(name) => env::var(name).map_err(|error| match error {
                env::VarError::NotPresent => {
                    format!("the environment variable {name} is not set")
                }
                env::VarError::NotUnicode(_) => {
                    format!("the environment variable {name} is not UTF-8")
                }
            })?,
            Self::File(path) => read_file(path)
                .map_err(|why| format!("cannot read the secret in {}: {why}", path.display()))?,
        };
        if text.is_empty() {
            return Err(match self {
                Self::Env(name) => format!("the environment variable {name} is empty"),
                Self::File(path) => format!("the secret in {} is empty", path.display()),
            });
        }
        Ok(Revealed(text))
    }
}

fn read_file(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    file.take(SECRET_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .map_err(|error| error.to_string())?;
    if text.len() as u64 > SECRET_BYTES_MAX {
        return Err(format!("it is longer than {SECRET_BYTES_MAX} bytes"));
    }
    text.truncate(text.trim_end_matches(['\r', '\n']).len());
    Ok(text)
}

/// What may be written for a secret.
const HOW: &str = "write { env = \"NAME\" } for an environment variable or { file = \"PATH\" }";

/// Reads the secret `key = { env = "NAME" }` or `{ file = "PATH" }`; paths are
/// relative to `folder`. `None` if it is not there, or is wrong and reported.
pub fn read_secret(fields: &mut Fields<'_>, key: &str, folder: &Path) -> Option<Secret> {
    if let Some(toml::Value::String(_)) = fields.raw(key) {
        fields.problem(key, format!("a secret does not belong in this file; {HOW}"));
        return None;
    }
    fields.table(key, |table| {
        let name = table.optional::<String>("env");
        let path = table.optional::<String>("file");
        let found = match (name, path) {
            (Some(name), None) if !name.is_empty() && !name.contains(['=', '\0']) => {
                Some(Secret::Env(name))
            }
            (None, Some(path)) if !path.is_empty() => Some(Secret::File(folder.join(path))),
            _ => None,
        };
        if found.is_none() {
            table.problem_here(format!("not one place to find it in; {HOW}"));
        }
        found
    })
}
