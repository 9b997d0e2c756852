//! TLS handshakes of accepted connections.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use headwater_model::{ErrorCode, Problem};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::certificate::{CertificateFiles, ReloadableCertificate};
use super::self_signed;
use crate::network_config::{CertificateSource, NetworkConfig};
use crate::{Error, Result};

/// Interval between checks of the certificate's files.
const RELOAD_INTERVAL: Duration = Duration::from_secs(2);

/// First byte of a TLS connection: the record type of a handshake.
const HANDSHAKE: u8 = 0x16;

/// Maximum number of bytes of a request without TLS that are read and discarded.
const PLAIN_BYTES_MAX: u64 = 64 << 10;
const PLAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// The TLS settings of a listener. Clones share the settings.
#[derive(Clone)]
pub struct TlsSettings {
    acceptor: TlsAcceptor,
    /// Acceptor for protocols other than HTTP. During the handshake (ALPN), it does not offer HTTP.
    requested: TlsAcceptor,
    certificate: Arc<ReloadableCertificate>,
    /// Path of the self-signed certificate, which clients must trust explicitly; `None` for a
    /// certificate from files.
    self_signed: Option<PathBuf>,
}

impl TlsSettings {
    /// Loads the configured certificate; `None` if TLS is not configured.
    pub fn load(config: &NetworkConfig, lake_dir: &Path) -> Result<Option<Self>> {
        let (files, is_self_signed) = match &config.tls {
            None => return Ok(None),
            Some(CertificateSource::Files { certificate, key }) => {
                let (certificate, key) = (certificate.clone(), key.clone());
                (CertificateFiles { certificate, key }, false)
            }
            Some(CertificateSource::SelfSigned) => {
                (self_signed::files(lake_dir, &config.hosts)?, true)
            }
        };
        let self_signed = is_self_signed.then(|| files.certificate.clone());
        let failed = |error: rustls::Error| Error::Tls { reason: error.to_string() };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let certificate = Arc::new(ReloadableCertificate::load(files, provider.clone())?);
        let builder = rustls::ServerConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions().map_err(failed)?;
        let mut config =
            builder.with_no_client_auth().with_cert_resolver(Arc::clone(&certificate) as _);
        let requested = TlsAcceptor::from(Arc::new(config.clone()));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Ok(Some(TlsSettings { acceptor, requested, certificate, self_signed }))
    }

    /// Returns the fingerprint of the certificate.
    pub fn fingerprint(&self) -> String {
        self.certificate.fingerprint()
    }

    /// Returns the path of the self-signed certificate; `None` for a certificate from files.
    pub fn self_signed(&self) -> Option<&Path> {
        self.self_signed.as_deref()
    }

    /// Replaces the certificate after each change of its files. Never returns.
    pub async fn watch(self) {
        let mut failed = None;
        loop {
            tokio::time::sleep(RELOAD_INTERVAL).await;
            match self.certificate.reload() {
                Ok(false) => {}
                Ok(true) => {
                    failed = None;
                    let fingerprint = self.fingerprint();
                    tracing::info!(fingerprint, "the certificate was replaced");
                }
                Err(error) => {
                    let reason = error.to_string();
                    if failed.as_ref() != Some(&reason) {
                        tracing::warn!("the old certificate stays in use: {reason}");
                    }
                    failed = Some(reason);
                }
            }
        }
    }

    /// Accepts a TLS handshake that begins with the byte `first`. A client without TLS gets an HTTP
    /// error. Returns `None` if the handshake fails. The caller sets a timeout.
    pub async fn accept<Io>(&self, first: u8, stream: Io) -> Option<TlsStream<Io>>
    where
        Io: AsyncRead + tokio::io::AsyncWrite + Unpin,
    {
        if first != HANDSHAKE {
            refuse_plain(stream).await;
            return None;
        }
        let accepted = self.acceptor.accept(stream).await;
        accepted.inspect_err(|error| tracing::debug!("a TLS handshake failed: {error}")).ok()
    }

    /// Accepts the handshake of a client that requested TLS in a protocol other than HTTP.
    pub async fn accept_requested<Io>(&self, stream: Io) -> std::io::Result<TlsStream<Io>>
    where
        Io: AsyncRead + tokio::io::AsyncWrite + Unpin,
    {
        self.requested.accept(stream).await
    }
}

/// Returns the first byte of a connection without consuming it.
pub async fn first_byte(stream: &TcpStream) -> Option<u8> {
    let mut first = [0];
    let length = stream.peek(&mut first).await.ok()?;
    (length == 1).then_some(first[0])
}

/// Answers a request without TLS with an HTTP error.
async fn refuse_plain<Io: AsyncRead + tokio::io::AsyncWrite + Unpin>(mut stream: Io) {
    let problem = Problem::new(ErrorCode::InvalidArgument, "this port accepts only HTTPS")
        .with_hint("Use `https://` instead of `http://`.");
    let body = serde_json::to_string(&problem).unwrap_or_default();
    let response = format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n{body}",
        body.len()
    );
    let answer = async {
        stream.write_all(response.as_bytes()).await?;
        stream.shutdown().await?;
        // Read the rest of the request: closing a connection with unread bytes would reset it, and
        // the client could not read the response.
        let mut rest = stream.take(PLAIN_BYTES_MAX);
        tokio::io::copy(&mut rest, &mut tokio::io::sink()).await
    };
    let _ = tokio::time::timeout(PLAIN_TIMEOUT, answer).await;
}
