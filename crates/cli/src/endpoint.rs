//! The address of a lake's server: a Unix socket, or a URL with a token.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use headwater_model::{ErrorCode, Problem};
use hyper::Uri;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::error::{self, Result};
use crate::profiles::Profile;

/// The time limit of a connection to another machine.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A byte stream to a server, over a Unix socket, TCP or TLS.
pub trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// The address of a lake's server.
pub enum Endpoint {
    /// A Unix socket of this machine.
    Socket(PathBuf),
    /// A server on another machine.
    Url(Box<UrlEndpoint>),
}

/// The address of a server, given as a URL.
pub struct UrlEndpoint {
    url: String,
    host: String,
    port: u16,
    tls: Option<TlsConnector>,
    token: String,
}

/// Returns the error for a socket on which no server listens.
fn no_server(cause: &io::Error) -> Problem {
    let mut problem = Problem::new(ErrorCode::Unavailable, "cannot reach the lake's server");
    problem.causes.push(cause.to_string());
    problem.with_hint("Run the command again: the command starts a server if none is running.")
}

impl Endpoint {
    /// Opens a connection.
    pub async fn open(&self) -> Result<Box<dyn Connection>> {
        match self {
            Endpoint::Socket(path) => {
                let stream = headwater_server::connect_socket(path).await;
                Ok(Box::new(stream.map_err(|cause| no_server(&cause))?))
            }
            Endpoint::Url(url) => url.open().await,
        }
    }

    /// Returns the `host` header.
    pub fn host(&self) -> String {
        match self {
            Endpoint::Socket(_) => "localhost".to_owned(),
            Endpoint::Url(url) => format!("{}:{}", url.host, url.port),
        }
    }

    /// Returns the URL of a server; `None` for a Unix socket.
    pub fn url(&self) -> Option<&str> {
        match self {
            Endpoint::Socket(_) => None,
            Endpoint::Url(url) => Some(&url.url),
        }
    }

    /// Returns the `authorization` header.
    pub fn authorization(&self) -> Option<String> {
        match self {
            Endpoint::Socket(_) => None,
            Endpoint::Url(url) => Some(format!("Bearer {}", url.token)),
        }
    }
}

impl UrlEndpoint {
    /// Creates the address of a profile's server.
    ///
    /// Errors: `invalid_argument` for an invalid URL, and for another machine's URL without TLS,
    /// because the token would be sent unencrypted.
    pub fn new(profile: &Profile) -> Result<Self> {
        let url = profile.url.trim_end_matches('/');
        let uri: Uri = url.parse().map_err(|_| unusable(url))?;
        let (Some(scheme), Some(host)) = (uri.scheme_str(), uri.host()) else {
            return Err(unusable(url));
        };
        if !matches!(uri.path(), "" | "/") {
            return Err(unusable(url));
        }
        let tls = match scheme {
            "https" => Some(connector(profile.certificate.as_deref())?),
            "http" if is_loopback(host) => None,
            "http" => {
                let message = format!("the token would be sent unencrypted to `{url}`");
                return Err(error::invalid(message).with_hint("Use `https://`."));
            }
            _ => return Err(unusable(url)),
        };
        let port = uri.port_u16().unwrap_or(if tls.is_some() { 443 } else { 80 });
        let (url, host, token) = (url.to_owned(), host.to_owned(), profile.token.clone());
        Ok(UrlEndpoint { url, host, port, tls, token })
    }

    async fn open(&self) -> Result<Box<dyn Connection>> {
        let opened = tokio::time::timeout(CONNECT_TIMEOUT, self.connect()).await;
        let opened = opened.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        opened.map_err(|error| {
            let message = format!("the server at `{}` is unreachable", self.url);
            let mut problem = Problem::new(ErrorCode::Unavailable, message);
            let is_untrusted = error.to_string().contains("certificate");
            problem.causes.push(error.to_string());
            problem.with_hint(if is_untrusted {
                "If the certificate is self-signed, name its file: `headwater login --certificate \
                 FILE`."
            } else {
                "Check the URL and the network."
            })
        })
    }

    async fn connect(&self) -> io::Result<Box<dyn Connection>> {
        let host = self.host.trim_matches(['[', ']']);
        let stream = TcpStream::connect((host, self.port)).await?;
        stream.set_nodelay(true)?;
        let Some(tls) = &self.tls else { return Ok(Box::new(stream)) };
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        Ok(Box::new(tls.connect(name, stream).await?))
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

fn unusable(url: &str) -> Problem {
    error::invalid(format!("`{url}` is not the URL of a server"))
        .with_hint("Write the URL as `https://HOST:PORT`.")
}

/// Returns a TLS client that trusts a PEM file, or the system's certificates.
fn connector(certificate: Option<&Path>) -> Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    match certificate {
        Some(path) => {
            let unreadable = |cause: String| {
                let message = format!("the certificate `{}` cannot be read", path.display());
                let mut problem = error::invalid(message);
                problem.causes.push(cause);
                problem.with_hint("Name a PEM file.")
            };
            let all = CertificateDer::pem_file_iter(path);
            for found in all.map_err(|error| unreadable(error.to_string()))? {
                let found = found.map_err(|error| unreadable(error.to_string()))?;
                roots.add(found).map_err(|error| unreadable(error.to_string()))?;
            }
        }
        None => {
            // Ignore invalid certificates. If no valid certificate remains, the connection fails
            // and reports the reason.
            let _ = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(error::unexpected)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
