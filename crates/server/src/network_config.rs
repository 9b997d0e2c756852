//! Network settings of the listeners.
//!
//! A listener on an address that is not loopback needs authentication and TLS. A proxy in front of
//! the listener can provide the TLS. The lake also needs a user, which the service checks.

use std::net::SocketAddr;
use std::path::PathBuf;

use axum::http::Uri;
use headwater_model::{ErrorCode, Problem};

use crate::{Error, Result};

/// Settings of the HTTP listener for clients on other machines and for web pages.
#[derive(Debug, Clone, Default)]
pub struct NetworkConfig {
    /// Certificate of the HTTP listener; `None` for unencrypted HTTP.
    pub tls: Option<CertificateSource>,
    /// True if a proxy in front of the server provides TLS, and sends the client's address in
    /// `X-Forwarded-For`.
    pub behind_proxy: bool,
    /// Accepted names and addresses of this server, in addition to loopback names.
    pub hosts: Vec<String>,
    /// Origins of web pages that may use this server, in addition to the server's own origin.
    pub origins: Vec<WebPageOrigin>,
}

/// The source of a certificate.
#[derive(Debug, Clone)]
pub enum CertificateSource {
    /// PEM files: the certificate with its chain, and its private key.
    Files {
        /// The certificate, followed by its intermediate certificates.
        certificate: PathBuf,
        /// The private key.
        key: PathBuf,
    },
    /// A self-signed certificate in the lake's folder, which is created if it is missing.
    SelfSigned,
}

impl NetworkConfig {
    /// Checks that a listener on this address has the protection that the address needs.
    ///
    /// Errors: [`Error::NoTls`]; [`Error::NoAuth`].
    pub(crate) fn check_address(&self, address: SocketAddr, auth: bool) -> Result<()> {
        if !is_public(address) {
            return Ok(());
        }
        if self.tls.is_none() && !self.behind_proxy {
            return Err(Error::NoTls { address });
        }
        if auth { Ok(()) } else { Err(Error::NoAuth { address }) }
    }

    /// Returns true if clients reach this server by `https`, directly or through a proxy.
    pub(crate) fn is_https(&self) -> bool {
        self.tls.is_some() || self.behind_proxy
    }
}

/// Returns true if other machines can reach an address of this machine.
pub(crate) fn is_public(address: SocketAddr) -> bool {
    !address.ip().to_canonical().is_loopback()
}

/// The origin of a web page: `https://app.example`, without a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebPageOrigin(String);

impl WebPageOrigin {
    /// Returns the origin in the form in which browsers send it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for WebPageOrigin {
    type Err = Problem;

    /// Parses an origin.
    ///
    /// Errors: `invalid_argument` unless the text is `https://HOST[:PORT]`, or `http://` with a
    /// loopback host.
    fn from_str(text: &str) -> Result<Self, Problem> {
        let invalid = |reason: &str| {
            Problem::new(ErrorCode::InvalidArgument, format!("the origin `{text}` {reason}"))
                .with_hint(
                    "Write an origin as in `https://app.example`; repeat the option for \
                            each origin.",
                )
        };
        let uri: Uri = text.parse().map_err(|_| invalid("is not a URL"))?;
        let parts = (uri.scheme_str(), uri.authority());
        let (Some(scheme), Some(authority)) = parts else {
            return Err(invalid("has no scheme"));
        };
        if text.ends_with('/') || uri.path() != "/" || uri.query().is_some() {
            return Err(invalid("has a path"));
        }
        match scheme {
            "https" => {}
            "http" if is_loopback_host(authority.host()) => {}
            _ => return Err(invalid("is not encrypted")),
        }
        Ok(WebPageOrigin(text.to_ascii_lowercase()))
    }
}

/// Returns true if a host without a port is a loopback name or address.
pub(crate) fn is_loopback_host(host: &str) -> bool {
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let is_address = |address: std::net::IpAddr| address.is_loopback();
    host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(is_address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_other_machines_reach_needs_tls_and_authentication() {
        let plain = NetworkConfig::default();
        let proxied = NetworkConfig { behind_proxy: true, ..NetworkConfig::default() };
        let tls =
            NetworkConfig { tls: Some(CertificateSource::SelfSigned), ..NetworkConfig::default() };
        for address in ["127.0.0.1:1", "127.8.8.8:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            let address = address.parse().expect("an address");
            assert!(plain.check_address(address, false).is_ok(), "{address}");
        }
        for address in ["0.0.0.0:1", "[::]:1", "192.168.1.2:1", "[::ffff:10.0.0.1]:1"] {
            let address = address.parse().expect("an address");
            assert!(matches!(plain.check_address(address, true), Err(Error::NoTls { .. })));
            for config in [&proxied, &tls] {
                assert!(config.check_address(address, true).is_ok());
                assert!(matches!(config.check_address(address, false), Err(Error::NoAuth { .. })));
            }
        }
    }

    #[test]
    fn origins_are_encrypted_and_have_no_path() {
        for text in ["https://app.example", "https://app.example:8443", "http://localhost:5173"] {
            assert_eq!(text.parse::<WebPageOrigin>().expect("an origin").as_str(), text);
        }
        for text in [
            "*",
            "null",
            "app.example",
            "http://app.example",
            "https://app.example/",
            "https://a/b",
        ] {
            assert!(text.parse::<WebPageOrigin>().is_err(), "{text}");
        }
    }
}
