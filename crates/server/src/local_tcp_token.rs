//! The token for requests of local clients over TCP.
//!
//! Every program on the machine can connect to a loopback port, including programs of other users
//! and functions with network access. So the token is in a file of the lake's folder that only the
//! owner can read and that is not visible in sandboxes. Every server creates its own token and
//! removes it on shutdown.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Name of the token file in the lake's folder.
const TOKEN_FILE: &str = "server.token";

/// Number of random bytes in a token.
const TOKEN_BYTES: usize = 32;

/// A secret that authenticates the requests of the lake's owner over TCP.
#[derive(Clone)]
pub struct LocalTcpToken(Arc<str>);

/// Generates a secret of 64 hexadecimal digits.
pub fn generate_secret() -> io::Result<String> {
    let mut bytes = [0; TOKEN_BYTES];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    let mut text = String::with_capacity(2 * TOKEN_BYTES);
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    Ok(text)
}

impl LocalTcpToken {
    fn generate() -> io::Result<Self> {
        generate_secret().map(|text| LocalTcpToken(text.into()))
    }

    /// Returns the token as text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for LocalTcpToken {
    /// Omits the secret, so that it is never logged.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

/// A token and its file. Dropping the value removes the file.
#[derive(Debug)]
pub struct TokenFile {
    /// The token that authenticates requests.
    pub token: LocalTcpToken,
    /// Path of the file that contains the token.
    pub path: PathBuf,
}

impl TokenFile {
    /// Creates a token in the lake's folder. Replaces an existing file: only a killed server can
    /// have left it, because this server holds the lake's lock.
    pub fn create(lake_dir: &Path) -> io::Result<Self> {
        let path = lake_dir.join(TOKEN_FILE);
        let new = lake_dir.join(format!("{TOKEN_FILE}.new"));
        let _ = std::fs::remove_file(&new);
        let token = LocalTcpToken::generate()?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(format!("{}\n", token.0).as_bytes())?;
        std::fs::rename(&new, &path)?;
        Ok(TokenFile { token, path })
    }
}

impl Drop for TokenFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn only_the_owner_can_read_the_token_file_which_is_removed() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = TokenFile::create(folder.path()).expect("a token");
        let mode = std::fs::metadata(&file.path).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let text = std::fs::read_to_string(&file.path).expect("text");
        assert_eq!(text.trim().len(), 2 * TOKEN_BYTES);
        assert!(!format!("{file:?}").contains(text.trim()));
        let other = TokenFile::create(folder.path()).expect("another token");
        assert_ne!(file.token.as_str(), other.token.as_str());
        let path = other.path.clone();
        drop((file, other));
        assert!(!path.exists());
    }
}
