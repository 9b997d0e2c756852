//! The lock of a lake, which ensures that only one server uses the lake, and the file that
//! describes the server.
//!
//! The lock is an exclusive `flock` on `server.lock`, which the kernel releases when the process
//! ends. `server.json` contains the server's addresses. The file is replaced atomically by
//! renaming, and is valid only while the lock is held. On shutdown the file is renamed instead of
//! removed, so that the next server can overwrite it even if the disk is full.

use std::fs::{File, TryLockError};
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use headwater_model::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Interval between attempts to take the lock.
const RETRY_INTERVAL: Duration = Duration::from_millis(20);

/// The description is padded to a multiple of this size, in bytes.
const RECORD_BYTES: usize = 4096;

/// The description of a running server in `server.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerRecord {
    /// The server's process id.
    pub pid: u32,
    /// The server's version.
    pub version: String,
    /// The path of the server's Unix socket.
    pub socket: Option<PathBuf>,
    /// The address of the server's HTTP listener.
    pub http: Option<SocketAddr>,
    /// True if the HTTP listener uses TLS.
    #[serde(default)]
    pub tls: bool,
    /// The self-signed certificate that clients must trust; `None` if the certificate is not
    /// self-signed.
    #[serde(default)]
    pub certificate_file: Option<PathBuf>,
    /// The address of the server's PostgreSQL listener.
    #[serde(default)]
    pub postgres: Option<SocketAddr>,
    /// The address of the server's S3 listener.
    #[serde(default)]
    pub s3: Option<SocketAddr>,
    /// The file with the server's token; `None` if requests over TCP need no token.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    /// True if a command started the server in the background. Such a server ends when idle, and a
    /// command may replace it with a server of another version.
    #[serde(default)]
    pub background: bool,
    /// The start time.
    pub started: Timestamp,
}

fn lock_path(lake_dir: &Path) -> PathBuf {
    lake_dir.join("server.lock")
}

fn record_path(lake_dir: &Path) -> PathBuf {
    lake_dir.join("server.json")
}

/// Returns the path to which the description is renamed on shutdown. The next server overwrites
/// this file.
fn spare_path(lake_dir: &Path) -> PathBuf {
    lake_dir.join("server.json.new")
}

fn read_record(lake_dir: &Path) -> Option<ServerRecord> {
    serde_json::from_slice(&std::fs::read(record_path(lake_dir)).ok()?).ok()
}

/// The lock of a lake, held until dropped.
#[derive(Debug)]
pub(crate) struct LakeLock {
    lake_dir: PathBuf,
    _file: File,
}

impl LakeLock {
    /// Acquires the lock. If another server holds the lock, waits at most `wait` until that server
    /// releases it.
    pub(crate) async fn take(lake_dir: &Path, wait: Duration) -> Result<Self> {
        let path = lock_path(lake_dir);
        let folder = |source| Error::Folder { path: path.clone(), source };
        let mut options = File::options();
        let file = options.create(true).truncate(false).write(true).open(&path).map_err(folder)?;
        let deadline = Instant::now() + wait;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::Error(source)) => return Err(folder(source)),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    tokio::time::sleep(RETRY_INTERVAL).await;
                }
                Err(TryLockError::WouldBlock) => {
                    let info = read_record(lake_dir).map(Box::new);
                    return Err(Error::LakeHeld { lake: lake_dir.to_owned(), info });
                }
            }
        }
        let lock = LakeLock { lake_dir: lake_dir.to_owned(), _file: file };
        lock.invalidate_description();
        Ok(lock)
    }

    /// Publishes this server's description.
    pub(crate) fn publish(&self, info: &ServerRecord) -> Result<()> {
        let path = record_path(&self.lake_dir);
        let spare = spare_path(&self.lake_dir);
        let mut text = serde_json::to_vec_pretty(info).unwrap_or_default();
        text.resize(text.len().next_multiple_of(RECORD_BYTES), b' ');
        overwrite_in_place(&spare, &text).and_then(|()| std::fs::rename(&spare, &path)).map_err(
            |source| {
                // The description could not be written. Remove the incomplete file to free its disk
                // space.
                let _ = std::fs::remove_file(&spare);
                Error::Folder { path, source }
            },
        )
    }

    /// Invalidates the description of this server, or a description that an earlier server left.
    fn invalidate_description(&self) {
        let path = record_path(&self.lake_dir);
        if std::fs::rename(&path, spare_path(&self.lake_dir)).is_err() {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Overwrites a file in place, so that no new disk space is needed.
fn overwrite_in_place(path: &Path, text: &[u8]) -> std::io::Result<()> {
    let mut file = File::options().create(true).truncate(false).write(true).open(path)?;
    file.write_all(text)?;
    file.set_len(text.len() as u64)
}

impl Drop for LakeLock {
    fn drop(&mut self) {
        self.invalidate_description();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failed_description_leaves_no_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let lock = LakeLock::take(folder.path(), Duration::ZERO).await.expect("the lock");
        // Let publishing fail: a file cannot replace a folder.
        std::fs::create_dir(record_path(folder.path())).expect("a folder");
        std::fs::write(record_path(folder.path()).join("file"), "").expect("a file");
        let info = ServerRecord {
            pid: 1,
            version: "1".to_owned(),
            socket: None,
            http: None,
            tls: false,
            certificate_file: None,
            postgres: None,
            s3: None,
            token_file: None,
            background: false,
            started: Timestamp::UNIX_EPOCH,
        };
        lock.publish(&info).expect_err("the description is not written");
        assert!(!spare_path(folder.path()).exists());
    }
}
