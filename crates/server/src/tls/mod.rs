//! TLS of the HTTP listener, by rustls.
//!
//! The certificate comes from files that are read again when they change, or is self-signed.

mod accept;
mod certificate;
mod self_signed;

pub use accept::{Tls, first_byte};
