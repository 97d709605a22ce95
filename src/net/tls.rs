//! The TLS provider, installed once for the whole process.

/// Makes ring the process's TLS provider, unless one is installed already. Call it before making any HTTP client:
/// without a provider reqwest panics.
pub fn install_tls_provider() {
    // An error only says that another provider came first, which serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
