//! TLS of the HTTP listener, using rustls.
//!
//! The certificate is self-signed, or comes from files that are read again when they change.

mod accept;
mod certificate;
mod self_signed;

pub use accept::{TlsSettings, first_byte};
