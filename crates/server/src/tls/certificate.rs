//! A certificate with its key, loaded from PEM files and replaced when the files change.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::{Error, Result};

/// The paths of a certificate and its key.
#[derive(Debug, Clone)]
pub struct CertificateFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// Attributes of a file that differ after the file was replaced or rewritten.
type FileVersion = [i64; 4];

/// The certificate in use.
#[derive(Debug)]
pub struct ReloadableCertificate {
    files: CertificateFiles,
    provider: Arc<CryptoProvider>,
    current: RwLock<LoadedCertificate>,
}

#[derive(Debug)]
struct LoadedCertificate {
    key: Arc<CertifiedKey>,
    /// Versions of the certificate file and the key file when they were last read.
    versions: [FileVersion; 2],
}

impl ReloadableCertificate {
    /// Loads a certificate.
    ///
    /// Errors: [`Error::Certificate`] if a file cannot be read or is invalid.
    pub fn load(files: CertificateFiles, provider: Arc<CryptoProvider>) -> Result<Self> {
        let versions = files.versions()?;
        let key = Arc::new(files.load(&provider)?);
        let current = RwLock::new(LoadedCertificate { key, versions });
        Ok(ReloadableCertificate { files, provider, current })
    }

    /// Reloads changed files, and returns true if the certificate was replaced. After an error, the
    /// current certificate stays in use. Files that could not be loaded are read again only after
    /// they have changed.
    pub fn reload(&self) -> Result<bool> {
        let versions = self.files.versions()?;
        if versions == self.current.read().versions {
            return Ok(false);
        }
        let loaded = self.files.load(&self.provider);
        let mut current = self.current.write();
        current.versions = versions;
        current.key = Arc::new(loaded?);
        Ok(true)
    }

    /// Returns the SHA-256 fingerprint: 32 bytes in hexadecimal, separated by colons.
    pub fn fingerprint(&self) -> String {
        use sha2::{Digest, Sha256};
        let key = self.current.read().key.clone();
        let digest = Sha256::digest(key.cert.first().map_or(&[][..], AsRef::as_ref));
        let bytes: Vec<_> = digest.iter().map(|byte| format!("{byte:02X}")).collect();
        bytes.join(":")
    }
}

impl ResolvesServerCert for ReloadableCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.read().key.clone())
    }
}

impl CertificateFiles {
    fn versions(&self) -> Result<[FileVersion; 2]> {
        let version = |path: &Path| {
            let metadata = std::fs::metadata(path).map_err(unusable(path))?;
            Ok::<_, Error>(version(&metadata))
        };
        Ok([version(&self.certificate)?, version(&self.key)?])
    }

    fn load(&self, provider: &CryptoProvider) -> Result<CertifiedKey> {
        let chain = read(&self.certificate)?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&chain).collect();
        let chain = chain.map_err(|error| invalid(&self.certificate, error))?;
        if chain.is_empty() {
            return Err(invalid(&self.certificate, "the file has no PEM section `CERTIFICATE`"));
        }
        let key = PrivateKeyDer::from_pem_slice(&read(&self.key)?);
        let key = key.map_err(|error| invalid(&self.key, error))?;
        // `from_der` also checks that the key belongs to the certificate.
        CertifiedKey::from_der(chain, key, provider).map_err(|error| invalid(&self.key, error))
    }
}

fn invalid(path: &Path, reason: impl ToString) -> Error {
    Error::Certificate { path: path.to_owned(), reason: reason.to_string() }
}

fn version(metadata: &Metadata) -> FileVersion {
    let (seconds, nanoseconds) = (metadata.mtime(), metadata.mtime_nsec());
    [seconds, nanoseconds, metadata.size().cast_signed(), metadata.ino().cast_signed()]
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(unusable(path))
}

fn unusable(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    |error| Error::Certificate { path: path.to_owned(), reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provider() -> Arc<CryptoProvider> {
        Arc::new(rustls::crypto::ring::default_provider())
    }

    /// Replaces a certificate and its key by renaming files, as tools that renew certificates do.
    fn write(files: &CertificateFiles, certificate: &str, key: &str) {
        for (path, text) in [(&files.certificate, certificate), (&files.key, key)] {
            let new = path.with_extension("new");
            std::fs::write(&new, text).expect("a file");
            std::fs::rename(&new, path).expect("a file");
        }
    }

    fn generate() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]);
        let made = made.expect("a certificate");
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn a_changed_certificate_is_loaded_and_an_invalid_one_is_not_used() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = |name: &str| folder.path().join(name);
        let files = CertificateFiles { certificate: path("a.crt"), key: path("a.key") };
        let (first, second) = (generate(), generate());
        write(&files, &first.0, &first.1);
        let certificate =
            ReloadableCertificate::load(files.clone(), provider()).expect("a certificate");
        let before = certificate.fingerprint();
        assert_eq!(before.len(), 95);
        assert!(!certificate.reload().expect("unchanged files"));
        for (text, key) in [(&second.0, &first.1), (&"junk".to_owned(), &first.1)] {
            write(&files, text, key);
            assert!(matches!(certificate.reload(), Err(Error::Certificate { .. })), "{text}");
            assert!(!certificate.reload().expect("files that were read"));
            assert_eq!(certificate.fingerprint(), before);
        }
        write(&files, &second.0, &second.1);
        assert!(certificate.reload().expect("valid files"));
        assert_ne!(certificate.fingerprint(), before);
    }

    #[test]
    fn a_file_without_a_certificate_or_key_is_an_error() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = |name: &str| folder.path().join(name);
        let files = CertificateFiles { certificate: path("a.crt"), key: path("a.key") };
        let load = || ReloadableCertificate::load(files.clone(), provider()).map(drop);
        assert!(matches!(load(), Err(Error::Certificate { .. })));
        let (certificate, key) = generate();
        for (certificate, key) in [("", key.as_str()), (&certificate, ""), (&key, &certificate)] {
            write(&files, certificate, key);
            assert!(matches!(load(), Err(Error::Certificate { .. })));
        }
    }
}
