//! Storage of uploads: files for an import from a client without access to the server's disk.
//!
//! Each file is kept for one day, in its own folder within the lake's folder. The next upload and
//! the next start of the server delete expired uploads. The number and the bytes of a user's
//! uploads are limited, so that one user cannot prevent the uploads of others.

use std::fs::{DirBuilder, DirEntry};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use headwater_model::{ErrorCode, Principal, Problem, Upload};
use tokio::io::AsyncWriteExt;

use crate::import_rights::{is_upload_of, upload_folder};

/// Name of the uploads folder in the lake's folder.
pub const UPLOADS_FOLDER: &str = "uploads";

/// Maximum length of a file, in bytes.
const BYTES_MAX: u64 = 4 << 30;

/// Maximum number of stored uploads of a user.
const UPLOADS_MAX: usize = 100;

/// Maximum size of the stored uploads of a user, in bytes. A running upload can exceed the limit by
/// [`CHECKED_BYTES`], the interval of the checks.
const USER_BYTES_MAX: u64 = 64 << 30;

/// Maximum size of all stored uploads of the lake, in bytes.
const LAKE_BYTES_MAX: u64 = 256 << 30;

/// Maximum length of a file's name, in bytes.
const NAME_BYTES_MAX: usize = 200;

/// Name of a file while it is being received. Names of complete uploads do not begin with `.`.
const PARTIAL: &str = ".partial";

/// The retention time of a file.
const LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// Number of bytes of an upload after which the limits are checked again.
const CHECKED_BYTES: u64 = 64 << 20;

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
    let mut folder = UploadFolder::create(root, principal).map_err(|it| failed(&name, &it))?;
    folder.check().await?;
    let expires = chrono::Utc::now() + LIFETIME;
    let bytes = folder.write(&name, content).await?;
    folder.is_complete = true;
    let path = folder.path.join(name);
    Ok(Upload { path: path.display().to_string(), bytes, expires })
}

/// The folder of an upload. Dropping the value deletes the folder of an incomplete upload, for
/// example because the client disconnected.
struct UploadFolder {
    /// The folder of all uploads.
    root: PathBuf,
    path: PathBuf,
    principal: Principal,
    is_complete: bool,
}

impl UploadFolder {
    fn create(root: &Path, principal: &Principal) -> io::Result<Self> {
        let path = root.join(upload_folder(principal));
        DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
        Ok(UploadFolder {
            root: root.to_owned(),
            path,
            principal: principal.clone(),
            is_complete: false,
        })
    }

    /// Deletes expired uploads, and checks the limits. The sizes include this unfinished upload, so
    /// that concurrent uploads together cannot exceed the limits.
    async fn check(&self) -> Result<(), Problem> {
        let (root, principal) = (self.root.clone(), self.principal.clone());
        let stored = tokio::task::spawn_blocking(move || {
            delete_expired(&root, &principal, SystemTime::now())
        });
        stored.await.unwrap_or_default().check()
    }

    /// Writes a file and returns its length in bytes. The file has its name when it is complete.
    async fn write(
        &self,
        name: &str,
        content: impl Stream<Item = Result<Bytes, Problem>> + Send,
    ) -> Result<u64, Problem> {
        let failed = |error| failed(name, &error);
        let partial = self.path.join(PARTIAL);
        let mut file = tokio::fs::File::create(&partial).await.map_err(failed)?;
        let mut content = std::pin::pin!(content);
        let (mut bytes, mut checked) = (0, 0);
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
            if bytes - checked >= CHECKED_BYTES {
                self.check().await?;
                checked = bytes;
            }
            file.write_all(&part).await.map_err(failed)?;
        }
        file.flush().await.map_err(failed)?;
        tokio::fs::rename(partial, self.path.join(name)).await.map_err(failed)?;
        Ok(bytes)
    }
}

impl Drop for UploadFolder {
    fn drop(&mut self) {
        if !self.is_complete {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// Checks the name of a file and returns it. Replaces each wildcard character of import sources by
/// `_`.
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
struct UploadTotals {
    /// Number of uploads of the user.
    count: usize,
    /// Size of the uploads of the user, in bytes.
    user_bytes: u64,
    /// Size of all uploads of the lake, in bytes.
    lake_bytes: u64,
}

impl UploadTotals {
    /// Checks the limits. The counted uploads include the upload for which they are checked.
    fn check(self) -> Result<(), Problem> {
        let message = if self.count > UPLOADS_MAX {
            format!("the limit of {UPLOADS_MAX} stored uploads of a user is reached")
        } else if self.user_bytes >= USER_BYTES_MAX {
            format!("the limit of {} GiB of a user's uploads is reached", USER_BYTES_MAX >> 30)
        } else if self.lake_bytes >= LAKE_BYTES_MAX {
            format!("the limit of {} GiB of the lake's uploads is reached", LAKE_BYTES_MAX >> 30)
        } else {
            return Ok(());
        };
        let hint = "Try again later: an upload expires a day after it was sent. \
                    `DELETE /v1/uploads` deletes an upload at once.";
        Err(Problem::new(ErrorCode::TooBusy, message).with_hint(hint))
    }
}

/// Deletes expired uploads. Returns the number and sizes of the remaining uploads.
fn delete_expired(root: &Path, principal: &Principal, now: SystemTime) -> UploadTotals {
    let mut stored = UploadTotals::default();
    let Ok(entries) = std::fs::read_dir(root) else { return stored };
    for entry in entries.flatten() {
        if is_expired(&entry, now) {
            let _ = std::fs::remove_dir_all(entry.path());
            continue;
        }
        let bytes = folder_bytes(&entry.path());
        stored.lake_bytes += bytes;
        if is_upload_of(&entry.file_name().to_string_lossy(), principal) {
            stored.count += 1;
            stored.user_bytes += bytes;
        }
    }
    stored
}

/// Deletes expired uploads in `root`, and incomplete uploads that an earlier server process left.
/// No upload may be running.
pub fn delete_interrupted_uploads(root: &Path) {
    let Ok(entries) = std::fs::read_dir(root) else { return };
    for entry in entries.flatten() {
        let folder = entry.path();
        let is_empty = std::fs::read_dir(&folder).is_ok_and(|mut files| files.next().is_none());
        if is_empty || folder.join(PARTIAL).exists() || is_expired(&entry, SystemTime::now()) {
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

fn is_expired(folder: &DirEntry, now: SystemTime) -> bool {
    let changed = folder.metadata().and_then(|metadata| metadata.modified());
    changed.is_ok_and(|changed| now.duration_since(changed).is_ok_and(|age| age > LIFETIME))
}

/// Returns the size of the files in the folder of an upload, in bytes.
fn folder_bytes(folder: &Path) -> u64 {
    let Ok(files) = std::fs::read_dir(folder) else { return 0 };
    files.flatten().filter_map(|file| file.metadata().ok()).map(|metadata| metadata.len()).sum()
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
    use headwater_model::{AuthMethod, AuthenticatedUser};

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

    /// A user whose account is older than the uploads of the test.
    fn user(name: &str) -> Principal {
        Principal::user(AuthenticatedUser {
            name: name.to_owned(),
            created: "2026-01-01T00:00:00Z".parse().expect("a time"),
            method: AuthMethod::Token,
            token: None,
            scopes: None,
            expires: None,
        })
    }

    fn parts<const N: usize>(
        parts: [&'static [u8]; N],
    ) -> impl Stream<Item = Result<Bytes, Problem>> + Send {
        stream::iter(parts.map(|part| Ok::<_, Problem>(Bytes::from_static(part))))
    }

    fn entries(folder: &Path) -> usize {
        std::fs::read_dir(folder).map_or(0, Iterator::count)
    }

    #[test]
    fn expired_uploads_are_deleted() {
        let (folder, owner) = (tempfile::tempdir().expect("a folder"), Principal::owner());
        std::fs::create_dir(folder.path().join("one")).expect("a folder");
        assert_eq!(delete_expired(folder.path(), &owner, SystemTime::now()).count, 1);
        let later = SystemTime::now() + 2 * LIFETIME;
        assert_eq!(delete_expired(folder.path(), &owner, later).count, 0);
        assert!(!folder.path().join("one").exists());
        let missing = folder.path().join("missing");
        assert_eq!(delete_expired(&missing, &owner, SystemTime::now()).count, 0);
    }

    #[test]
    fn interrupted_uploads_are_deleted() {
        let root = tempfile::tempdir().expect("a folder");
        for (folder, file) in
            [("complete", Some("a.csv")), ("partial", Some(PARTIAL)), ("new", None)]
        {
            let folder = root.path().join(folder);
            std::fs::create_dir(&folder).expect("a folder");
            if let Some(file) = file {
                std::fs::write(folder.join(file), "a\n").expect("a file");
            }
        }
        delete_interrupted_uploads(root.path());
        assert!(root.path().join("complete/a.csv").exists());
        assert_eq!(entries(root.path()), 1);
        delete_interrupted_uploads(&root.path().join("missing"));
    }

    #[test]
    fn uploads_are_counted_by_user() {
        let root = tempfile::tempdir().expect("a folder");
        for (principal, bytes) in
            [(user("ana"), 10), (user("ana"), 20), (user("bob.b"), 30), (Principal::owner(), 40)]
        {
            let folder = root.path().join(upload_folder(&principal));
            std::fs::create_dir(&folder).expect("a folder");
            std::fs::write(folder.join("a.csv"), vec![b'x'; bytes]).expect("a file");
        }
        for (principal, count, user_bytes) in [
            (user("ana"), 2, 30),
            (user("bob.b"), 1, 30),
            (Principal::owner(), 1, 40),
            (user("eve"), 0, 0),
        ] {
            let expected = UploadTotals { count, user_bytes, lake_bytes: 100 };
            let stored = delete_expired(root.path(), &principal, SystemTime::now());
            assert_eq!(stored, expected, "{principal:?}");
        }
    }

    #[tokio::test]
    async fn the_number_of_uploads_of_a_user_is_limited() {
        let root = tempfile::tempdir().expect("a folder");
        let (ana, bob) = (user("ana"), user("bob"));
        for _ in 1..UPLOADS_MAX {
            std::fs::create_dir(root.path().join(upload_folder(&ana))).expect("a folder");
        }
        let store = |by: Principal| {
            let root = root.path();
            async move { store_upload(root, &by, "a.csv", parts([b"a\n"])).await }
        };
        let last = store(ana.clone()).await.expect("the last upload");
        assert_eq!(last.bytes, 2);
        let rejected = store(ana.clone()).await.expect_err("too many uploads");
        assert_eq!(rejected.code, ErrorCode::TooBusy);
        assert_eq!(entries(root.path()), UPLOADS_MAX, "the rejected upload leaves nothing");
        store(bob).await.expect("an upload of another user");
        std::fs::remove_dir_all(Path::new(&last.path).parent().expect("a folder")).expect("rm");
        store(ana).await.expect("an upload after the deletion of another");
    }

    #[test]
    fn the_uploads_of_a_user_and_of_the_lake_are_limited() {
        let none = UploadTotals::default();
        none.check().expect("below the limits");
        for (stored, expected) in [
            (UploadTotals { count: UPLOADS_MAX + 1, ..none }, "100 stored uploads of a user"),
            (UploadTotals { user_bytes: USER_BYTES_MAX, ..none }, "64 GiB of a user's uploads"),
            (UploadTotals { lake_bytes: LAKE_BYTES_MAX, ..none }, "256 GiB of the lake's uploads"),
        ] {
            let problem = stored.check().expect_err("a limit");
            assert_eq!(problem.code, ErrorCode::TooBusy);
            assert!(problem.message.contains(expected), "{}", problem.message);
        }
    }

    #[tokio::test]
    async fn the_size_of_uploads_is_checked_while_they_grow() {
        let root = tempfile::tempdir().expect("a folder");
        let (other, owner) = (root.path().join("other"), Principal::owner());
        let part =
            Bytes::from(vec![0_u8; usize::try_from(CHECKED_BYTES / 2 + 1).expect("a length")]);
        let parts = stream::iter(0..3).map(|number| {
            // A concurrent upload reaches the limit after this one has begun.
            if number == 1 {
                std::fs::create_dir(&other).expect("a folder");
                let file = std::fs::File::create(other.join("a.csv")).expect("a file");
                file.set_len(USER_BYTES_MAX).expect("a sparse file");
            }
            assert!(number < 2, "the rest is not read");
            Ok(part.clone())
        });
        let rejected = store_upload(root.path(), &owner, "b.csv", parts).await;
        let rejected = rejected.expect_err("above the limit");
        assert_eq!(rejected.code, ErrorCode::TooBusy, "{}", rejected.message);
        assert_eq!(entries(root.path()), 1, "only the other upload is left");
    }

    #[tokio::test]
    async fn an_incomplete_upload_is_deleted() {
        let (root, owner) = (tempfile::tempdir().expect("a folder"), Principal::owner());
        let stored = store_upload(root.path(), &owner, "a.csv", parts([b"a\n", b"1\n"])).await;
        let stored = stored.expect("an upload");
        assert_eq!((stored.bytes, entries(root.path())), (4, 1));
        assert_eq!(std::fs::read(&stored.path).expect("a file"), b"a\n1\n");
        let lost = Problem::new(ErrorCode::InvalidArgument, "lost");
        let broken = stream::iter([Ok(Bytes::from_static(b"a\n")), Err(lost)]);
        let error = store_upload(root.path(), &owner, "a.csv", broken).await.expect_err("lost");
        assert_eq!((error.message.as_str(), entries(root.path())), ("lost", 1));
        // The server drops the future of a client that disconnects.
        let endless = parts([b"a\n"]).chain(stream::pending());
        let upload = store_upload(root.path(), &owner, "a.csv", endless);
        let dropped = tokio::time::timeout(Duration::from_millis(200), upload).await;
        assert!(dropped.is_err(), "the upload does not end");
        assert_eq!(entries(root.path()), 1);
    }
}
