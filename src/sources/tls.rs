//! TLS as every source speaks it: rustls with ring.

/// Makes ring the provider of all TLS in this process. Later calls change nothing.
pub(super) fn install_provider() {
    // It fails if there is one already; only this one is built in.
    let _already_there = rustls::crypto::ring::default_provider().install_default();
}
