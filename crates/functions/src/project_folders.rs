//! Folders with the files of projects, which sandboxes mount read-only at `/project`.
//!
//! [`ProjectFolders`] writes the files of each version of a project only once per server, instead
//! of once per call. A version is identified by a digest of its content. A folder becomes usable
//! after its last file was written, and is removed when it is no longer used.
//!
//! The spawner mounts only the folder of its own version into a sandbox, so the sandbox cannot
//! reach the files of another version. The files belong to the server's user, and functions run as
//! other users, so no function can change them. On hosts where functions run as the server's user,
//! the files are written into each sandbox instead. On such hosts, only large projects have
//! folders: their sandboxes are not clones of a zygote, and mount the folder in the same way as the
//! environment.

use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use headwater_model::{FileContent, PackedFile, ProjectFiles};
use parking_lot::Mutex;
use rustix::fs::{FlockOperation, StatVfsMountFlags, flock, statfs, statvfs};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// Time since the last use after which a folder is removed.
pub(crate) const IDLE_MAX: Duration = Duration::from_secs(600);

/// Maximum size of all folders, in bytes. Above this size, unused folders are removed. If all are
/// in use, the files of new versions are written into each sandbox, and calls of new large
/// functions fail.
const BYTES_MAX: u64 = 4 << 30;

/// Size of the buffer for copying a file out of a pack file, in bytes.
const BUFFER_BYTES: usize = 256 << 10;

/// After a write failed because the disk was full, no folder is written for this time. Each attempt
/// would fill the disk again, although other writers need the free space.
const FULL_DISK_PAUSE: Duration = Duration::from_secs(60);

/// Name prefix of the folders that contain the project folders of one server.
const PREFIX: &str = "projects-";

/// The project folders of one server.
#[derive(Debug)]
pub(crate) struct ProjectFolders {
    versions: Mutex<Vec<ProjectVersion>>,
    /// Held while a folder is written, so that concurrent calls do not write the same version
    /// twice.
    writing: Mutex<()>,
    next: AtomicU64,
    /// Time of the last write that failed because the disk was full.
    full_at: Mutex<Option<Instant>>,
    /// False if clones of zygotes cannot mount a folder, so that only large projects have a folder.
    pub(crate) clones_mount: bool,
    /// The folder that contains all project folders of this server; `None` if sandboxes on this
    /// host cannot mount them. Declared after `versions`, so that it is dropped after them.
    root: Option<ServerFolder>,
}

/// A version of a project, with the folder that contains its files.
#[derive(Debug)]
struct ProjectVersion {
    digest: [u8; 32],
    /// In-memory copies of this version, which are recognized by address, without a digest.
    sources: Vec<Weak<ProjectFiles>>,
    folder: Arc<ProjectFolder>,
    used: Instant,
}

/// A folder with the files of one version. The folder is removed when this value is dropped.
#[derive(Debug)]
pub(crate) struct ProjectFolder {
    path: PathBuf,
    bytes: u64,
}

impl ProjectFolder {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for ProjectFolder {
    fn drop(&mut self) {
        // Ignore an error: the next server removes the folder when it starts.
        let _ = fs::remove_dir_all(&self.path);
    }
}

impl ProjectFolders {
    /// Creates the folder of this server below `own`, and removes the folders of servers that have
    /// ended.
    pub(crate) fn open(own: &Path, is_supported: bool) -> Self {
        remove_stale(own);
        let root = is_supported.then(|| ServerFolder::create(own));
        let root = root.and_then(|root| {
            root.inspect_err(|error| tracing::warn!(%error, "cannot create a folder for projects"))
                .ok()
        });
        ProjectFolders {
            versions: Mutex::default(),
            writing: Mutex::default(),
            next: AtomicU64::new(0),
            full_at: Mutex::default(),
            clones_mount: true,
            root,
        }
    }

    /// Returns true if an instance with these files must be a new sandbox instead of a clone,
    /// because the project is large and clones cannot mount folders.
    pub(crate) fn needs_sandbox(&self, files: &ProjectFiles) -> bool {
        !self.clones_mount && is_large(files)
    }

    /// Returns the folder that contains these files, and writes it if it does not exist. Returns
    /// `None` if the files must be written into the sandbox instead.
    pub(crate) async fn get(
        self: &Arc<Self>,
        files: &Arc<ProjectFiles>,
    ) -> Option<Arc<ProjectFolder>> {
        let has_none = files.is_empty() || !(self.clones_mount || is_large(files));
        if self.root.is_none() || has_none {
            return None;
        }
        let is_source =
            |source: &Weak<ProjectFiles>| std::ptr::eq(source.as_ptr(), Arc::as_ptr(files));
        if let Some(found) = self.find(files, |version| version.sources.iter().any(is_source)) {
            return Some(found);
        }
        let (folders, files) = (self.clone(), files.clone());
        let written = tokio::task::spawn_blocking(move || folders.find_or_write(&files)).await;
        let written = written.unwrap_or_else(|error| Err(io::Error::other(error)));
        written
            .inspect_err(|error| tracing::warn!(%error, "cannot write the files of a project"))
            .ok()
            .flatten()
    }

    /// Removes the folders that no process uses and that no call has requested for at least `idle`.
    /// Blocks the calling thread.
    pub(crate) fn remove_unused(&self, idle: Duration) {
        let is_unused = |version: &mut ProjectVersion| {
            Arc::strong_count(&version.folder) == 1 && version.used.elapsed() >= idle
        };
        let unused: Vec<ProjectVersion> = self.versions.lock().extract_if(.., is_unused).collect();
        // Remove the files only now, after the lock is released.
        drop(unused);
    }

    /// Returns the folder of the version that satisfies `condition`, and adds `files` to the
    /// version's sources. Returns `None` if no version satisfies it.
    fn find(
        &self,
        files: &Arc<ProjectFiles>,
        condition: impl Fn(&ProjectVersion) -> bool,
    ) -> Option<Arc<ProjectFolder>> {
        let mut versions = self.versions.lock();
        let index = versions.iter().position(condition)?;
        if !versions[index].folder.path.exists() {
            // Another program has removed the folder. Forget it, so that it is written again.
            versions.swap_remove(index);
            return None;
        }
        let version = &mut versions[index];
        version.used = Instant::now();
        let source = Arc::downgrade(files);
        if !version.sources.iter().any(|known| known.ptr_eq(&source)) {
            version.sources.retain(|known| known.strong_count() > 0);
            version.sources.push(source);
        }
        Some(version.folder.clone())
    }

    /// Returns the size of all folders in bytes.
    fn bytes(&self) -> u64 {
        self.versions.lock().iter().map(|version| version.folder.bytes).sum()
    }

    fn find_or_write(&self, files: &Arc<ProjectFiles>) -> io::Result<Option<Arc<ProjectFolder>>> {
        let Some(root) = &self.root else { return Ok(None) };
        let digest = digest(files);
        let _guard = self.writing.lock();
        if let Some(found) = self.find(files, |version| version.digest == digest) {
            return Ok(Some(found));
        }
        let bytes: u64 = files.values().map(FileContent::size).sum();
        let is_too_large = || self.bytes().saturating_add(bytes) > BYTES_MAX;
        if is_too_large() {
            self.remove_unused(Duration::ZERO);
        }
        let is_disk_full = self.full_at.lock().is_some_and(|at| at.elapsed() < FULL_DISK_PAUSE);
        if is_disk_full || is_too_large() {
            return Ok(None);
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        // If a file cannot be written, dropping this value removes the folder.
        let folder = ProjectFolder { path: root.path.join(number.to_string()), bytes };
        write_files(&folder.path, files).inspect_err(|error| {
            if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) {
                *self.full_at.lock() = Some(Instant::now());
            }
        })?;
        let folder = Arc::new(folder);
        let (sources, used) = (vec![Arc::downgrade(files)], Instant::now());
        self.versions.lock().push(ProjectVersion { digest, sources, folder: folder.clone(), used });
        Ok(Some(folder))
    }
}

/// The folder that contains the project folders of one server. It is locked until the server ends.
#[derive(Debug)]
struct ServerFolder {
    path: PathBuf,
    _lock: File,
}

impl ServerFolder {
    fn create(own: &Path) -> io::Result<Self> {
        // The spawner uses this path with another working directory, so the path must be absolute.
        let own = fs::canonicalize(own)?;
        let id = Uuid::new_v4().simple();
        // Lock the folder before it gets its final name, so that no other server can remove it.
        let (new, path) =
            (own.join(format!("new-{PREFIX}{id}")), own.join(format!("{PREFIX}{id}")));
        fs::DirBuilder::new().mode(0o700).create(&new)?;
        match lock_and_rename(&new, &path) {
            Ok(lock) => Ok(ServerFolder { path, _lock: lock }),
            Err(error) => {
                // The folder cannot be locked, for example on a network file system.
                let _ = fs::remove_dir(&new);
                Err(error)
            }
        }
    }
}

/// Locks a new folder, and renames it to its final name.
fn lock_and_rename(new: &Path, path: &Path) -> io::Result<File> {
    let lock = File::open(new)?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
    fs::rename(new, path)?;
    Ok(lock)
}

impl Drop for ServerFolder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Returns true if other users can read files in a folder and execute programs in it: functions run
/// as other users, and a project may contain programs. By default, a FUSE file system rejects other
/// users, regardless of the permissions of its files.
pub(crate) fn is_shareable(folder: &Path) -> bool {
    let fuse = 0x6573_5546;
    let is_fuse = statfs(folder).is_ok_and(|found| found.f_type == fuse);
    let is_executable =
        statvfs(folder).is_ok_and(|found| !found.f_flag.contains(StatVfsMountFlags::NOEXEC));
    is_executable && !is_fuse
}

/// Returns true if the files of a project are in a pack file on disk instead of in memory. Such
/// files are never written into a sandbox; they need a folder.
pub(crate) fn is_large(files: &ProjectFiles) -> bool {
    files.values().any(|file| matches!(file, FileContent::Packed(_)))
}

/// Removes the folders of servers that ended without removing them.
fn remove_stale(own: &Path) {
    for entry in fs::read_dir(own).into_iter().flatten().flatten() {
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        let Ok(folder) = File::open(entry.path()) else { continue };
        if flock(&folder, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Returns a digest of the paths, contents and executable flags of a project's files. Files in a
/// pack file contribute the hash of their content.
fn digest(files: &ProjectFiles) -> [u8; 32] {
    let mut digest = Sha256::new();
    for (path, file) in files {
        let (content, is_packed): (&[u8], _) = match file {
            FileContent::Packed(packed) => (packed.content.as_bytes().as_slice(), true),
            FileContent::Text(_) | FileContent::Binary(_) => (file.bytes(), false),
        };
        for part in [path.as_bytes(), content] {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
        digest.update([u8::from(file.is_executable()), u8::from(is_packed)]);
    }
    digest.finalize().into()
}

/// Writes files to a new folder, readable by all users. Rejects paths outside the folder.
fn write_files(folder: &Path, files: &ProjectFiles) -> io::Result<()> {
    create_folder(folder)?;
    let mut created = PathBuf::new();
    for (path, file) in files {
        let path = Path::new(path);
        if !path.components().all(|part| matches!(part, Component::Normal(_))) {
            let message = format!("`{}` is not a path below the project", path.display());
            return Err(io::Error::new(ErrorKind::InvalidInput, message));
        }
        // Most files are in the same folder as the previous file, which exists already.
        if let Some(parent) = path.parent().filter(|parent| *parent != created) {
            let mut below = folder.to_owned();
            for part in parent {
                below.push(part);
                create_folder(&below)?;
            }
            parent.clone_into(&mut created);
        }
        let mode = if file.is_executable() { 0o755 } else { 0o644 };
        let path = folder.join(path);
        let mut written = File::options().write(true).create_new(true).mode(mode).open(path)?;
        match file {
            FileContent::Packed(packed) => copy(packed, &mut written)?,
            FileContent::Text(_) | FileContent::Binary(_) => written.write_all(file.bytes())?,
        }
        // Set the permissions again, because the server's umask may have removed some of them.
        written.set_permissions(Permissions::from_mode(mode))?;
    }
    Ok(())
}

/// Copies a file from its pack file.
fn copy(packed: &PackedFile, to: &mut File) -> io::Result<()> {
    let (mut left, mut offset) = (packed.bytes, packed.offset);
    let length = usize::try_from(left).unwrap_or(BUFFER_BYTES).min(BUFFER_BYTES);
    let mut buffer = vec![0_u8; length];
    while left > 0 {
        let length = usize::try_from(left).unwrap_or(BUFFER_BYTES).min(BUFFER_BYTES);
        let part = &mut buffer[..length];
        packed.pack_file.read_exact_at(part, offset)?;
        to.write_all(part)?;
        left -= length as u64;
        offset += length as u64;
    }
    Ok(())
}

/// Creates a folder that all users can read, unless it exists.
fn create_folder(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Ok(()) => fs::set_permissions(path, Permissions::from_mode(0o755)),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use headwater_model::ObjectId;

    use super::*;

    fn files(text: &str) -> Arc<ProjectFiles> {
        let script = ("bin/run".to_owned(), "#!/bin/sh\n".into());
        Arc::new(ProjectFiles::from([("models/deep/m.py".to_owned(), text.into()), script]))
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[tokio::test]
    async fn a_version_is_written_once() {
        let own = tempfile::tempdir().unwrap();
        let folders = Arc::new(ProjectFolders::open(own.path(), true));
        let first = files("x = 1");
        let folder = folders.get(&first).await.unwrap();
        let module = folder.path().join("models/deep/m.py");
        assert_eq!(fs::read_to_string(&module).unwrap(), "x = 1");
        assert_eq!((mode(&module), mode(&folder.path().join("bin/run"))), (0o644, 0o755));
        let models = folder.path().join("models");
        for path in [folder.path(), models.as_path(), module.parent().unwrap()] {
            assert_eq!(mode(path), 0o755, "{}", path.display());
        }
        assert_eq!(mode(folder.path().parent().unwrap()), 0o700);
        for same in [first.clone(), files("x = 1")] {
            let again = folders.get(&same).await.unwrap();
            assert!(Arc::ptr_eq(&again, &folder));
        }
        let other = folders.get(&files("x = 2")).await.unwrap();
        assert!(other.path() != folder.path());
    }

    #[tokio::test]
    async fn files_in_pack_files_are_copied() {
        let own = tempfile::tempdir().unwrap();
        let folders = Arc::new(ProjectFolders::open(own.path(), true));
        let content = vec![7_u8; BUFFER_BYTES + 1];
        let mut pack_file = tempfile::tempfile_in(own.path()).unwrap();
        pack_file.write_all(b"before").unwrap();
        pack_file.write_all(&content).unwrap();
        let pack_file = Arc::new(pack_file);
        let packed = |offset: u64, bytes: usize, executable: bool| {
            let content = ObjectId::of(&[u8::from(executable)]);
            let (pack_file, bytes) = (pack_file.clone(), bytes as u64);
            FileContent::Packed(PackedFile { pack_file, offset, bytes, content, executable })
        };
        let files = Arc::new(ProjectFiles::from([
            ("app.py".to_owned(), packed(0, 6, false)),
            ("bin/tool".to_owned(), packed(6, content.len(), true)),
            ("empty".to_owned(), packed(6, 0, false)),
        ]));
        let folder = folders.get(&files).await.unwrap();
        let tool = folder.path().join("bin/tool");
        assert_eq!(fs::read(folder.path().join("app.py")).unwrap(), b"before");
        assert!(fs::read(&tool).unwrap() == content);
        assert_eq!((mode(&tool), fs::read(folder.path().join("empty")).unwrap().len()), (0o755, 0));
    }

    #[tokio::test]
    async fn concurrent_calls_of_a_new_version_share_its_folder() {
        let own = tempfile::tempdir().unwrap();
        let folders = Arc::new(ProjectFolders::open(own.path(), true));
        let get = || {
            let folders = folders.clone();
            async move { folders.get(&files("x = 1")).await.unwrap() }
        };
        let (one, other, third) = tokio::join!(get(), get(), get());
        assert!(Arc::ptr_eq(&one, &other) && Arc::ptr_eq(&one, &third));
    }

    #[tokio::test]
    async fn unused_folders_are_removed() {
        let own = tempfile::tempdir().unwrap();
        let folders = Arc::new(ProjectFolders::open(own.path(), true));
        let (used, unused) = (files("used"), files("unused"));
        let held = folders.get(&used).await.unwrap();
        let path = folders.get(&unused).await.unwrap().path().to_owned();
        folders.remove_unused(IDLE_MAX);
        assert!(path.exists(), "it was used recently");
        folders.remove_unused(Duration::ZERO);
        assert!(!path.exists() && held.path().exists());
        let again = folders.get(&unused).await.unwrap();
        assert!(again.path().join("bin/run").exists(), "it is written again");
    }

    #[tokio::test]
    async fn a_folder_that_another_program_removed_is_written_again() {
        let own = tempfile::tempdir().unwrap();
        let folders = Arc::new(ProjectFolders::open(own.path(), true));
        let first = files("x = 1");
        for same in [first.clone(), files("x = 1")] {
            let removed = folders.get(&first).await.unwrap();
            fs::remove_dir_all(removed.path()).unwrap();
            let again = folders.get(&same).await.unwrap();
            assert!(again.path() != removed.path());
            drop(removed);
            assert!(again.path().join("bin/run").exists());
        }
        fs::remove_dir_all(&folders.root.as_ref().unwrap().path).unwrap();
        assert!(folders.get(&first).await.is_none(), "its files are written into the sandbox");
    }

    #[test]
    fn folders_of_ended_servers_are_removed_at_the_start() {
        let own = tempfile::tempdir().unwrap();
        let stale = own.path().join(format!("{PREFIX}stale"));
        fs::create_dir_all(stale.join("0/models")).unwrap();
        let running = ProjectFolders::open(own.path(), true);
        assert!(!stale.exists());
        let path = running.root.as_ref().unwrap().path.clone();
        drop(ProjectFolders::open(own.path(), true));
        assert!(path.exists(), "its server runs");
        drop(running);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn files_outside_the_folder_are_rejected() {
        let own = tempfile::tempdir().unwrap();
        let folders = Arc::new(ProjectFolders::open(own.path(), true));
        for path in ["../a", "/etc/a", "a/../../b", "a/.."] {
            let files = Arc::new(ProjectFiles::from([(path.to_owned(), "x".into())]));
            assert!(folders.get(&files).await.is_none(), "{path}");
        }
        let root = &folders.root.as_ref().unwrap().path;
        assert_eq!(fs::read_dir(root).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn hosts_without_shared_folders_have_none() {
        let own = tempfile::tempdir().unwrap();
        let folders = Arc::new(ProjectFolders::open(own.path(), false));
        assert!(folders.get(&files("x")).await.is_none());
        assert_eq!(fs::read_dir(own.path()).unwrap().count(), 0);
    }
}
