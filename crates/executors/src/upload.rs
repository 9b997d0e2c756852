//! Storage of uploads: files for an import from a client without access to the server's disk.
//!
//! Each file is kept for one day, in its own folder within the lake's folder. The next upload
//! deletes expired uploads.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use headwater_model::{ErrorCode, Principal, Problem, Upload};
use tokio::io::AsyncWriteExt;

use crate::import_rights::upload_folder;

/// Name of the uploads folder in the lake's folder.
pub const UPLOADS_FOLDER: &str = "uploads";

/// Maximum length of a file, in bytes.
const BYTES_MAX: u64 = 4 << 30;

/// Maximum number of stored uploads.
const UPLOADS_MAX: usize = 100;

/// Maximum length of a file's name, in bytes.
const NAME_BYTES_MAX: usize = 200;

/// The retention time of a file.
const LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// Stores a file in a new folder within `root`, the folder of uploads.
///
/// Errors: `invalid_name`; `invalid_argument` if the file is too long or incomplete; `too_busy` if
/// there are too many uploads; `disk_full`, `storage`.
pub async fn store_upload(
    root: &Path,
    principal: &Principal,
    name: &str,
    content: impl Stream<Item = Result<Bytes, Problem>> + Send,
) -> Result<Upload, Problem> {
    let name = file_name(name)?;
    let count = tokio::task::spawn_blocking({
        let root = root.to_owned();
        move || delete_expired(&root, SystemTime::now())
    });
    if count.await.unwrap_or(0) >= UPLOADS_MAX {
        let message = format!("the limit of {UPLOADS_MAX} stored uploads is reached");
        let hint = "Try again later: an upload expires a day after it was sent.";
        return Err(Problem::new(ErrorCode::TooBusy, message).with_hint(hint));
    }
    let folder = root.join(upload_folder(principal));
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&folder)
        .map_err(|it| failed(&name, &it))?;
    let path = folder.join(name);
    match write(&path, content).await {
        Ok(bytes) => Ok(Upload {
            path: path.display().to_string(),
            bytes,
            expires: chrono::Utc::now() + LIFETIME,
        }),
        Err(problem) => {
            let _ = tokio::fs::remove_dir_all(&folder).await;
            Err(problem)
        }
    }
}

/// Checks the name of a file and returns it. Replaces characters with a special meaning in import
/// sources by `_`.
fn file_name(name: &str) -> Result<String, Problem> {
    let is_valid = !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && !name.starts_with('.')
        && !name.contains(|letter: char| letter == '/' || letter == '\\' || letter.is_control());
    if is_valid {
        return Ok(name.replace(['*', '?', '[', ']', '{', '}'], "_"));
    }
    let message = format!("`{}` is not a valid file name", name.escape_debug());
    let hint = format!("Send a name of at most {NAME_BYTES_MAX} bytes without folders.");
    Err(Problem::new(ErrorCode::InvalidName, message).with_hint(hint))
}

/// Deletes expired uploads and returns the number of remaining ones.
fn delete_expired(root: &Path, now: SystemTime) -> usize {
    let Ok(entries) = std::fs::read_dir(root) else { return 0 };
    let is_expired = |entry: &std::fs::DirEntry| {
        let changed = entry.metadata().and_then(|metadata| metadata.modified());
        changed.is_ok_and(|changed| now.duration_since(changed).is_ok_and(|age| age > LIFETIME))
    };
    let mut others = 0;
    for entry in entries.flatten() {
        if is_expired(&entry) {
            let _ = std::fs::remove_dir_all(entry.path());
        } else {
            others += 1;
        }
    }
    others
}

/// Writes a file and returns its length in bytes.
async fn write(
    path: &Path,
    content: impl Stream<Item = Result<Bytes, Problem>> + Send,
) -> Result<u64, Problem> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let failed = |error| failed(&name, &error);
    let mut file = tokio::fs::File::create(path).await.map_err(failed)?;
    let mut content = std::pin::pin!(content);
    let mut bytes = 0;
    while let Some(part) = content.next().await {
        let part = part?;
        bytes += part.len() as u64;
        if bytes > BYTES_MAX {
            let message = format!("the file `{name}` is too large for an upload");
            let hint = format!(
                "Send at most {} GiB, or import the file from its path or URL.",
                BYTES_MAX >> 30
            );
            return Err(Problem::new(ErrorCode::InvalidArgument, message).with_hint(hint));
        }
        file.write_all(&part).await.map_err(failed)?;
    }
    file.flush().await.map_err(failed)?;
    Ok(bytes)
}

fn failed(name: &str, error: &io::Error) -> Problem {
    let is_full = error.kind() == io::ErrorKind::StorageFull;
    let code = if is_full { ErrorCode::DiskFull } else { ErrorCode::Storage };
    let mut problem = Problem::new(code, format!("the uploaded file `{name}` cannot be stored"));
    problem.causes.push(error.to_string());
    problem.with_hint("Check the free space of the lake's folder.")
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    #[test]
    fn the_name_of_a_file_has_no_folder() {
        assert_eq!(file_name("Flights 2013.csv.gz").expect("a name"), "Flights 2013.csv.gz");
        assert_eq!(file_name("a*[1].csv").expect("a name"), "a__1_.csv");
        let long = "x".repeat(NAME_BYTES_MAX + 1);
        for name in ["", ".", "..", "../a", "a/b", "a\\b", ".hidden", "a\0b", long.as_str()] {
            assert_eq!(file_name(name).expect_err("an error").code, ErrorCode::InvalidName);
        }
    }

    #[test]
    fn expired_uploads_are_deleted() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("one")).expect("a folder");
        assert_eq!(delete_expired(folder.path(), SystemTime::now()), 1);
        assert_eq!(delete_expired(folder.path(), SystemTime::now() + 2 * LIFETIME), 0);
        assert!(!folder.path().join("one").exists());
        assert_eq!(delete_expired(&folder.path().join("missing"), SystemTime::now()), 0);
    }

    #[tokio::test]
    async fn an_incomplete_file_is_an_error() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.csv");
        let parts = [Ok(Bytes::from_static(b"a\n")), Ok(Bytes::from_static(b"1\n"))];
        assert_eq!(write(&path, stream::iter(parts)).await.expect("a length"), 4);
        assert_eq!(std::fs::read(&path).expect("a file"), b"a\n1\n");
        let lost = Problem::new(ErrorCode::InvalidArgument, "lost");
        let parts = [Ok(Bytes::from_static(b"a\n")), Err(lost)];
        assert!(write(&path, stream::iter(parts)).await.is_err());
    }
}
