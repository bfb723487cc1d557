//! TLS as every source speaks it: rustls with ring, and certificates that are
//! checked, against the system's authorities or a file of them.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// Makes ring the provider of all TLS in this process. Later calls change nothing.
pub(super) fn install_provider() {
    // It fails if there is one already; only this one is built in.
    let _already_there = rustls::crypto::ring::default_provider().install_default();
}

/// A client that trusts the authorities in `ca_file` (PEM), or, without it,
/// those the system trusts.
///
/// # Errors
/// Why there are none to trust.
pub(super) fn client_config(ca_file: Option<&Path>) -> Result<ClientConfig, String> {
    trusting(match ca_file {
        Some(file) => roots_in(file)?,
        None => system_roots()?,
    })
}

/// A client that trusts no one: for what must not speak TLS.
///
/// # Errors
/// That TLS cannot be spoken at all.
pub(super) fn trusting_nobody() -> Result<ClientConfig, String> {
    trusting(RootCertStore::empty())
}

fn trusting(roots: RootCertStore) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("cannot speak TLS: {error}"))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

fn roots_in(file: &Path) -> Result<RootCertStore, String> {
    let unread = |error: &dyn std::fmt::Display| {
        format!("cannot read certificates in {}: {error}", file.display())
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| unread(&error))? {
        let certificate = certificate.map_err(|error| unread(&error))?;
        roots.add(certificate).map_err(|error| unread(&error))?;
    }
    if roots.is_empty() {
        return Err(unread(&"there is none"));
    }
    Ok(roots)
}

fn system_roots() -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    // Systems carry a few that nobody can read; those that can be are enough.
    let _counts = roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err("the system has no certificates of authorities; name a `ca_file`".to_owned());
    }
    Ok(roots)
}
