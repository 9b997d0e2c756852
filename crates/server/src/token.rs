//! The token of a server that listens on TCP: who asks there must show it.
//!
//! A loopback port is open to every program of the machine, those of other users included, and any
//! other to whoever reaches it, functions with the network included. The file system guards the Unix
//! socket, and it guards the token in the same way: the token lies in the lake's folder, is its
//! owner's alone, and no sandbox shows it. Every server makes one of its own and takes it along when
//! it ends.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The file in the lake's folder.
const TOKEN_FILE: &str = "server.token";

/// As many random bytes as nobody can guess.
const TOKEN_BYTES: usize = 32;

/// What the one who asks must know.
#[derive(Clone)]
pub struct Token(Arc<str>);

impl Token {
    fn generate() -> io::Result<Self> {
        let mut bytes = [0; TOKEN_BYTES];
        File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        let mut text = String::with_capacity(2 * TOKEN_BYTES);
        for byte in bytes {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        Ok(Token(text.into()))
    }

    /// Whether a header says it: `Bearer <token>`.
    pub fn is_shown_by(&self, header: &[u8]) -> bool {
        let Some((scheme, shown)) = header.split_at_checked(b"Bearer ".len()) else { return false };
        scheme.eq_ignore_ascii_case(b"Bearer ") && self.equals(shown.trim_ascii())
    }

    /// In the same time wherever the first difference lies, so that it cannot be found out byte by
    /// byte.
    pub fn equals(&self, shown: &[u8]) -> bool {
        let own = self.0.as_bytes();
        let pairs = own.iter().zip(shown);
        let difference = pairs.fold(0, |found, (one, other)| found | (one ^ other));
        own.len() == shown.len() && std::hint::black_box(difference) == 0
    }
}

impl std::fmt::Debug for Token {
    /// Without the secret: it must not end up in a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

/// The token in its file, which goes when this is dropped.
#[derive(Debug)]
pub struct TokenFile {
    /// What the file holds.
    pub token: Token,
    /// Where it lies.
    pub path: PathBuf,
}

impl TokenFile {
    /// A new token in the lake's folder. What lies there was left behind by a server that was
    /// killed: the lake's lock is ours.
    pub fn create(lake_dir: &Path) -> io::Result<Self> {
        let path = lake_dir.join(TOKEN_FILE);
        let new = lake_dir.join(format!("{TOKEN_FILE}.new"));
        let _ = std::fs::remove_file(&new);
        let token = Token::generate()?;
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
    fn a_token_is_its_owners_alone_and_goes_with_its_server() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = TokenFile::create(folder.path()).expect("a token");
        let mode = std::fs::metadata(&file.path).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let text = std::fs::read_to_string(&file.path).expect("text");
        assert_eq!(text.trim().len(), 2 * TOKEN_BYTES);
        assert!(!format!("{file:?}").contains(text.trim()));
        let other = TokenFile::create(folder.path()).expect("another token");
        assert!(!file.token.equals(other.token.0.as_bytes()));
        let path = other.path.clone();
        drop((file, other));
        assert!(!path.exists());
    }

    #[test]
    fn only_the_whole_token_is_taken() {
        let token = Token("abcd".into());
        for header in ["Bearer abcd", "bearer abcd", "BEARER  abcd "] {
            assert!(token.is_shown_by(header.as_bytes()), "{header}");
        }
        for header in ["", "Bearer", "Bearer ", "Bearer abc", "Bearer abcde", "Basic abcd", "abcd"]
        {
            assert!(!token.is_shown_by(header.as_bytes()), "{header}");
        }
    }
}
