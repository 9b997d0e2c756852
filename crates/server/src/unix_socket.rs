//! Unix sockets at paths of any length.
//!
//! The kernel limits socket paths to 107 bytes. For a longer path, the folder is opened first, and
//! the socket is accessed as `/proc/self/fd/<n>/server.sock`, where `<n>` is the number of the open
//! folder. This path is always short.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use tokio::net::UnixStream;

/// Maximum length of a socket's path, in bytes.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Connects to a Unix socket with a path of any length.
pub async fn connect_socket(path: &Path) -> io::Result<UnixStream> {
    let (short, _folder) = short_path(path)?;
    UnixStream::connect(short).await
}

/// Returns a short path to the same socket. For a long path, also returns the opened folder, which
/// must stay open while the short path is in use.
pub(crate) fn short_path(path: &Path) -> io::Result<(PathBuf, Option<File>)> {
    if path.as_os_str().len() <= SOCKET_PATH_BYTES_MAX {
        return Ok((path.to_owned(), None));
    }
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let folder = File::open(folder)?;
    let short = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name);
    Ok((short, Some(folder)))
}
