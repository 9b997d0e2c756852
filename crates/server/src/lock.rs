//! One server per lake: the lock, and the note that says who holds it.
//!
//! The lock is an exclusive `flock` on `server.lock`, which the kernel lets go however its holder
//! ends. `server.json` beside it says where the holder listens. It is written whole, by renaming,
//! and it counts only while the lock is held: what a killed server left behind is never believed. When
//! the server ends, the note is put aside and not removed, so that the next one has room for its own even
//! on a disk that is full by then.

use std::fs::{File, TryLockError};
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use headwater_model::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// How often a lock that is waited for is tried again.
const RETRY: Duration = Duration::from_millis(20);

/// The room that a note takes, or a multiple of it.
const NOTE_BYTES: usize = 4096;

/// What a running server says of itself in `server.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerInfo {
    /// Its process id.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// The Unix socket it listens on.
    pub socket: Option<PathBuf>,
    /// The address it listens on for HTTP.
    pub http: Option<SocketAddr>,
    /// The file with the token that HTTP there asks for; without one it asks for none.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    /// Whether a command started it for itself: then it ends when idle, and another may replace it.
    #[serde(default)]
    pub background: bool,
    /// When it started.
    pub started: Timestamp,
}

fn lock_path(lake_dir: &Path) -> PathBuf {
    lake_dir.join("server.lock")
}

fn info_path(lake_dir: &Path) -> PathBuf {
    lake_dir.join("server.json")
}

/// Where a note lies that does not count, and whose room the next one takes.
fn aside_path(lake_dir: &Path) -> PathBuf {
    lake_dir.join("server.json.new")
}

fn read_info(lake_dir: &Path) -> Option<ServerInfo> {
    serde_json::from_slice(&std::fs::read(info_path(lake_dir)).ok()?).ok()
}

/// The lake, held by this process until dropped.
#[derive(Debug)]
pub(crate) struct LakeLock {
    lake_dir: PathBuf,
    _file: File,
}

impl LakeLock {
    /// Takes the lake, waiting at most `wait` for another holder to end.
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
                    tokio::time::sleep(RETRY).await;
                }
                Err(TryLockError::WouldBlock) => {
                    let info = read_info(lake_dir).map(Box::new);
                    return Err(Error::LakeHeld { lake: lake_dir.to_owned(), info });
                }
            }
        }
        let lock = LakeLock { lake_dir: lake_dir.to_owned(), _file: file };
        lock.forget();
        Ok(lock)
    }

    /// Says where this server listens.
    pub(crate) fn publish(&self, info: &ServerInfo) -> Result<()> {
        let path = info_path(&self.lake_dir);
        let aside = aside_path(&self.lake_dir);
        let mut text = serde_json::to_vec_pretty(info).unwrap_or_default();
        text.resize(text.len().next_multiple_of(NOTE_BYTES), b' ');
        write_over(&aside, &text)
            .and_then(|()| std::fs::rename(&aside, &path))
            .map_err(|source| Error::Folder { path, source })
    }

    /// Puts the note of an earlier holder aside, or our own at the end; that there is none is as well.
    fn forget(&self) {
        let path = info_path(&self.lake_dir);
        if std::fs::rename(&path, aside_path(&self.lake_dir)).is_err() {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Writes a file in the room that it has.
fn write_over(path: &Path, text: &[u8]) -> std::io::Result<()> {
    let mut file = File::options().create(true).truncate(false).write(true).open(path)?;
    file.write_all(text)?;
    file.set_len(text.len() as u64)
}

impl Drop for LakeLock {
    fn drop(&mut self) {
        self.forget();
    }
}
