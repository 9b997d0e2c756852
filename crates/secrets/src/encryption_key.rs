//! The keys that encrypt secrets. They are stored outside the lake, in a file with mode 0600, or
//! supplied by a command. A source has several keys only while a user replaces a key: the first key
//! encrypts, the others only decrypt.

use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use aes_gcm::aead::OsRng;
use aes_gcm::{Aes256Gcm, KeyInit};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::{Error, Result};

/// The permission bits that give other users access to a key file.
const SHARED: u32 = 0o077;

/// Size of a key in bytes.
const KEY_BYTES: usize = 32;

/// Number of hexadecimal digits of a key's id.
const ID_DIGITS: usize = 12;

/// The source of the keys: one key in each line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// A file with the keys as base64, accessible only to its owner. It is created with the first
    /// secret.
    File(PathBuf),
    /// A shell command that prints the keys as base64.
    Command(String),
}

/// A key and its id. An encrypted record contains the id of its key.
pub(crate) struct EncryptionKey {
    pub(crate) bytes: Zeroizing<Vec<u8>>,
    pub(crate) id: String,
}

/// The keys of a source.
pub(crate) struct EncryptionKeys {
    /// The key that encrypts.
    pub(crate) current: EncryptionKey,
    /// Earlier keys, which only decrypt.
    pub(crate) earlier: Vec<EncryptionKey>,
}

impl EncryptionKeys {
    fn parse(text: &str, origin: impl Fn() -> String) -> Result<Self> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let keys: Option<Vec<EncryptionKey>> = lines.map(EncryptionKey::parse).collect();
        let mut keys = keys.unwrap_or_default().into_iter();
        let current = keys.next().ok_or_else(|| Error::InvalidKey { origin: origin() })?;
        Ok(EncryptionKeys { current, earlier: keys.collect() })
    }

    /// Returns the key with this id.
    pub(crate) fn find(&self, id: &str) -> Option<&EncryptionKey> {
        std::iter::once(&self.current).chain(&self.earlier).find(|key| key.id == id)
    }
}

impl EncryptionKey {
    fn parse(text: &str) -> Option<Self> {
        let bytes = STANDARD.decode(text).map(Zeroizing::new);
        let bytes = bytes.ok().filter(|bytes| bytes.len() == KEY_BYTES)?;
        // The id of a key is a part of its hash. It does not reveal the key, which has 256 random
        // bits.
        let mut id = hex::encode(Sha256::digest(&*bytes));
        id.truncate(ID_DIGITS);
        Some(EncryptionKey { bytes, id })
    }
}

impl KeySource {
    /// Returns the keys; `None` if their file does not exist.
    pub(crate) async fn find(&self) -> Result<Option<EncryptionKeys>> {
        match self {
            KeySource::File(path) => read(path),
            KeySource::Command(command) => run(command).await.map(Some),
        }
    }

    /// Returns the keys.
    ///
    /// Error: `file_not_found` if their file does not exist.
    pub(crate) async fn get(&self) -> Result<EncryptionKeys> {
        let keys = self.find().await?;
        keys.ok_or_else(|| match self {
            KeySource::File(path) => Error::NoKey { path: path.clone() },
            KeySource::Command(command) => Error::InvalidKey { origin: format!("`{command}`") },
        })
    }

    /// Returns the keys, and creates the file with a key if it does not exist.
    pub(crate) async fn get_or_create(&self) -> Result<EncryptionKeys> {
        match (self.find().await?, self) {
            (Some(keys), _) => Ok(keys),
            (None, KeySource::File(path)) => {
                create(path)?;
                self.get().await
            }
            (None, KeySource::Command(_)) => self.get().await,
        }
    }
}

fn read(path: &Path) -> Result<Option<EncryptionKeys>> {
    let failed = |source| Error::File { path: path.to_owned(), action: "read", source };
    let metadata = match std::fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        other => other.map_err(failed)?,
    };
    let mode = metadata.permissions().mode() & 0o777;
    if mode & SHARED != 0 {
        return Err(Error::ExposedKey { path: path.to_owned(), mode });
    }
    let text = Zeroizing::new(std::fs::read_to_string(path).map_err(failed)?);
    EncryptionKeys::parse(&text, || format!("key file `{}`", path.display())).map(Some)
}

/// Writes a new key. If another process creates the file at the same time, keeps the file of that
/// process.
fn create(path: &Path) -> Result<()> {
    let failed = |source| Error::File { path: path.to_owned(), action: "written", source };
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    let key = Zeroizing::new(STANDARD.encode(Aes256Gcm::generate_key(OsRng)));
    // Write to a temporary file first, so that the key file is complete when it appears.
    let temporary = folder.join(format!(".secret-key.{}", std::process::id()));
    let written = write_new(&temporary, &key).and_then(|()| std::fs::hard_link(&temporary, path));
    let _ = std::fs::remove_file(&temporary);
    match written {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(failed(error)),
        _ => std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed),
    }
}

fn write_new(path: &Path, text: &str) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()
}

async fn run(command: &str) -> Result<EncryptionKeys> {
    let failed = |reason| Error::KeyCommand { command: command.to_owned(), reason };
    let mut shell = tokio::process::Command::new("/bin/sh");
    shell.args(["-c", command]).stdin(std::process::Stdio::null()).kill_on_drop(true);
    let output = shell.output().await.map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        return Err(failed(output.status.to_string()));
    }
    let printed = Zeroizing::new(output.stdout);
    let text = std::str::from_utf8(&printed).unwrap_or_default();
    EncryptionKeys::parse(text, || format!("the output of `{command}`"))
}

#[cfg(test)]
mod tests {
    use headwater_model::{ErrorCode, ToProblem};

    use super::*;

    #[tokio::test]
    async fn a_key_file_is_created_once_and_only_for_its_owner() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("config").join("secret.key");
        let source = KeySource::File(path.clone());
        assert_eq!(
            source.get().await.err().map(|error| error.code()),
            Some(ErrorCode::FileNotFound)
        );
        let keys = source.get_or_create().await.expect("a key");
        let again = source.get_or_create().await.expect("the key");
        assert_eq!((again.current.id, again.earlier.len()), (keys.current.id, 0));
        let mode = std::fs::metadata(&path).expect("a file").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);

        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).expect("a mode");
        let error = source.get().await.err().expect("an exposed key");
        assert_eq!(error.code(), ErrorCode::Forbidden);
        assert!(error.hint().is_some_and(|hint| hint.contains("chmod 600")), "{error}");
    }

    #[tokio::test]
    async fn a_command_can_print_the_key() {
        let text = STANDARD.encode([7; KEY_BYTES]);
        let keys = KeySource::Command(format!("echo {text}")).get().await.expect("a key");
        assert_eq!(*keys.current.bytes, [7; KEY_BYTES]);
        let earlier = format!("echo {text}; echo; echo {}", STANDARD.encode([8; KEY_BYTES]));
        let keys = KeySource::Command(earlier).get().await.expect("two keys");
        assert_eq!((keys.current.bytes[0], keys.earlier[0].bytes[0]), (7, 8));
        let short = format!("echo {text}; echo short");
        for bad in ["exit 3", "echo short", "true", short.as_str()] {
            let error = KeySource::Command(bad.to_owned()).get().await.err().expect("no key");
            assert_eq!(error.code(), ErrorCode::Unavailable, "{bad}");
        }
    }
}
