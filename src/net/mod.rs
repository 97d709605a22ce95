//! What all that speaks HTTP has in common, whoever the other side is: the TLS provider, which addresses a key may go
//! to, and how words of a server are quoted without the secrets that it may repeat.

mod address;
mod redact;
mod tls;

pub use address::{is_key_for, is_loopback, is_safe, is_same_server};
pub use redact::{Secrets, quote};
pub use tls::install_tls_provider;
