//! A self-signed certificate, kept in the lake's folder so that clients need to trust it only once.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::ParsedCertificate;

use super::certificate::CertificateFiles;
use crate::{Error, Result};

/// Loopback names and addresses in the certificate, in addition to the configured hosts.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Validity of a certificate.
const VALIDITY: Duration = Duration::from_secs(365 * DAY.as_secs());

/// Minimum age at which a certificate is replaced at the start of a server.
const AGE_MAX: Duration = Duration::from_secs(335 * DAY.as_secs());

/// Returns the self-signed certificate of a lake for the loopback names and the given hosts.
/// Creates a new certificate if the existing one is missing, invalid, too old or does not contain a
/// host.
pub fn files(lake_dir: &Path, hosts: &[String]) -> Result<CertificateFiles> {
    let path = |name: &str| lake_dir.join(name);
    let files =
        CertificateFiles { certificate: path("self-signed.crt"), key: path("self-signed.key") };
    let names = LOOPBACK.iter().map(|name| (*name).to_owned()).chain(hosts.iter().cloned());
    let names: Vec<String> = names.collect();
    if !is_usable(&files, &names) {
        create(&files, names)?;
    }
    Ok(files)
}

fn is_usable(files: &CertificateFiles, names: &[String]) -> bool {
    let Ok(written) = std::fs::metadata(&files.certificate).and_then(|file| file.modified()) else {
        return false;
    };
    let age = SystemTime::now().duration_since(written).unwrap_or_default();
    let Ok(certificate) = CertificateDer::from_pem_file(&files.certificate) else { return false };
    let Ok(certificate) = ParsedCertificate::try_from(&certificate) else { return false };
    let covers = |name: &String| {
        let name = ServerName::try_from(name.as_str());
        name.is_ok_and(|name| rustls::client::verify_server_name(&certificate, &name).is_ok())
    };
    age < AGE_MAX && files.key.is_file() && names.iter().all(covers)
}

fn create(files: &CertificateFiles, names: Vec<String>) -> Result<()> {
    let failed = |error: rcgen::Error| Error::Certificate {
        path: files.certificate.clone(),
        reason: error.to_string(),
    };
    let mut params = CertificateParams::new(names).map_err(failed)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "Headwater, self-signed");
    let now = SystemTime::now();
    params.not_before = (now - DAY).into();
    params.not_after = (now + VALIDITY).into();
    let key = KeyPair::generate().map_err(failed)?;
    let certificate = params.self_signed(&key).map_err(failed)?;
    // Write the key first: if the process ends now, no certificate without a key remains.
    write(&files.key, &key.serialize_pem())?;
    write(&files.certificate, &certificate.pem())
}

/// Writes a file that only the owner can read.
fn write(path: &Path, text: &str) -> Result<()> {
    let new = path.with_extension("new");
    let written = || -> io::Result<()> {
        let _ = std::fs::remove_file(&new);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&new, path)
    };
    written().map_err(|source| Error::Folder { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_certificate_is_kept_until_a_host_is_added() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let read = |hosts: &[&str]| {
            let hosts: Vec<_> = hosts.iter().map(|host| (*host).to_owned()).collect();
            let files = files(folder.path(), &hosts).expect("a certificate");
            let mode = |path: &Path| std::fs::metadata(path).expect("a file").permissions().mode();
            assert_eq!(mode(&files.key) & 0o777, 0o600);
            assert_eq!(mode(&files.certificate) & 0o777, 0o600);
            std::fs::read_to_string(files.certificate).expect("a certificate")
        };
        let first = read(&[]);
        assert_eq!(read(&[]), first);
        let second = read(&["lake.example", "10.0.0.7"]);
        assert_ne!(second, first);
        assert_eq!(read(&["10.0.0.7"]), second);
        std::fs::remove_file(folder.path().join("self-signed.key")).expect("a file");
        assert_ne!(read(&[]), second);
    }
}
