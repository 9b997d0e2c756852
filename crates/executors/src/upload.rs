//! Storage of uploads: files for an import from a client without access to the server's disk.
//!
//! Each file is kept for one day, in its own folder within the lake's folder. The next upload
//! deletes expired uploads. The number and the bytes of a user's uploads are limited, so that one
//! user cannot prevent the uploads of others.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use headwater_model::{ErrorCode, Principal, Problem, Upload};
use tokio::io::AsyncWriteExt;

use crate::import_rights::{owner_of, upload_folder};

/// Name of the uploads folder in the lake's folder.
pub const UPLOADS_FOLDER: &str = "uploads";

/// Maximum length of a file, in bytes.
const BYTES_MAX: u64 = 4 << 30;

/// Maximum number of stored uploads of a user.
const UPLOADS_MAX: usize = 100;

/// Maximum size of the stored uploads of a user, in bytes. An upload that starts below the limit
/// can exceed it by its own length.
const USER_BYTES_MAX: u64 = 64 << 30;

/// Maximum size of all stored uploads of the lake, in bytes.
const LAKE_BYTES_MAX: u64 = 256 << 30;

/// Maximum length of a file's name, in bytes.
const NAME_BYTES_MAX: usize = 200;

/// The retention time of a file.
const LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// Stores a file in a new folder within `root`, the folder of uploads.
///
/// Errors: `invalid_name`; `invalid_argument` if the file is too long or incomplete; `too_busy` if
/// the user has too many uploads, or the uploads of the lake are too large; `disk_full`,
/// `storage`.
pub async fn store_upload(
    root: &Path,
    principal: &Principal,
    name: &str,
    content: impl Stream<Item = Result<Bytes, Problem>> + Send,
) -> Result<Upload, Problem> {
    let name = file_name(name)?;
    let stored = tokio::task::spawn_blocking({
        let (root, user) = (root.to_owned(), principal.user_name().unwrap_or_default().to_owned());
        move || delete_expired(&root, &user, SystemTime::now())
    });
    stored.await.unwrap_or_default().check()?;
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

/// Stored uploads that have not expired.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct StoredUploads {
    /// Number of uploads of the user.
    count: usize,
    /// Size of the uploads of the user, in bytes.
    user_bytes: u64,
    /// Size of all uploads of the lake, in bytes.
    lake_bytes: u64,
}

impl StoredUploads {
    /// Checks that the user may store another upload.
    fn check(self) -> Result<(), Problem> {
        let message = if self.count >= UPLOADS_MAX {
            format!("the limit of {UPLOADS_MAX} stored uploads of a user is reached")
        } else if self.user_bytes >= USER_BYTES_MAX {
            format!("the limit of {} GiB of a user's uploads is reached", USER_BYTES_MAX >> 30)
        } else if self.lake_bytes >= LAKE_BYTES_MAX {
            format!("the limit of {} GiB of the lake's uploads is reached", LAKE_BYTES_MAX >> 30)
        } else {
            return Ok(());
        };
        let hint = "Delete an upload with `delete_upload`, or try again later: an upload expires a \
                    day after it was sent.";
        Err(Problem::new(ErrorCode::TooBusy, message).with_hint(hint))
    }
}

/// Deletes expired uploads and returns the remaining ones. `user` is the user whose uploads are
/// counted; empty for the owner.
fn delete_expired(root: &Path, user: &str, now: SystemTime) -> StoredUploads {
    let mut stored = StoredUploads::default();
    let Ok(entries) = std::fs::read_dir(root) else { return stored };
    let is_expired = |entry: &std::fs::DirEntry| {
        let changed = entry.metadata().and_then(|metadata| metadata.modified());
        changed.is_ok_and(|changed| now.duration_since(changed).is_ok_and(|age| age > LIFETIME))
    };
    for entry in entries.flatten() {
        if is_expired(&entry) {
            let _ = std::fs::remove_dir_all(entry.path());
            continue;
        }
        let bytes = folder_bytes(&entry.path());
        stored.lake_bytes += bytes;
        if owner_of(&entry.file_name().to_string_lossy()) == user {
            stored.count += 1;
            stored.user_bytes += bytes;
        }
    }
    stored
}

/// Returns the size of the files in the folder of an upload, in bytes.
fn folder_bytes(folder: &Path) -> u64 {
    let Ok(files) = std::fs::read_dir(folder) else { return 0 };
    files.flatten().filter_map(|file| file.metadata().ok()).map(|metadata| metadata.len()).sum()
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
        assert_eq!(delete_expired(folder.path(), "", SystemTime::now()).count, 1);
        assert_eq!(delete_expired(folder.path(), "", SystemTime::now() + 2 * LIFETIME).count, 0);
        assert!(!folder.path().join("one").exists());
        assert_eq!(delete_expired(&folder.path().join("missing"), "", SystemTime::now()).count, 0);
    }

    #[test]
    fn uploads_are_counted_by_user() {
        let root = tempfile::tempdir().expect("a folder");
        for (folder, bytes) in [("1.ana", 10), ("2.ana", 20), ("3.bob.b", 30), ("4", 40)] {
            let folder = root.path().join(folder);
            std::fs::create_dir(&folder).expect("a folder");
            std::fs::write(folder.join("a.csv"), vec![b'x'; bytes]).expect("a file");
        }
        for (user, count, user_bytes) in
            [("ana", 2, 30), ("bob.b", 1, 30), ("", 1, 40), ("eve", 0, 0)]
        {
            let expected = StoredUploads { count, user_bytes, lake_bytes: 100 };
            assert_eq!(delete_expired(root.path(), user, SystemTime::now()), expected, "{user}");
        }
    }

    #[test]
    fn the_uploads_of_a_user_and_of_the_lake_are_limited() {
        let none = StoredUploads::default();
        none.check().expect("below the limits");
        for (stored, expected) in [
            (StoredUploads { count: UPLOADS_MAX, ..none }, "100 stored uploads of a user"),
            (StoredUploads { user_bytes: USER_BYTES_MAX, ..none }, "64 GiB of a user's uploads"),
            (StoredUploads { lake_bytes: LAKE_BYTES_MAX, ..none }, "256 GiB of the lake's uploads"),
        ] {
            let problem = stored.check().expect_err("a limit");
            assert_eq!(problem.code, ErrorCode::TooBusy);
            assert!(problem.message.contains(expected), "{}", problem.message);
        }
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
