//! Listing, removing and rebuilding environments.
//!
//! A folder that a function may still use is never removed. A rebuild creates another folder. The
//! old folder is removed when no server holds a lock on it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use headwater_model::{EnvironmentSummary, PackageChange, RebuiltEnvironment};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW};

use crate::environments::{
    BUILDING, BuildDescription, DESCRIPTION, Environments, Progress, lock, name, try_lock,
    unique_name,
};
use crate::folder_lock::ExclusiveLock;
use crate::{Environment, Error, Result, interpreter, package_cache};

/// Result of [`Environments::remove`].
#[derive(Debug)]
pub enum RemovalResult {
    /// The environment was removed.
    Removed {
        /// A summary of the removed environment.
        environment: Box<EnvironmentSummary>,
        /// The freed bytes, without files that have hard links outside the environment.
        bytes: u64,
    },
    /// A process uses the environment.
    InUse,
    /// The environment was used recently, or does not exist.
    Kept,
}

impl Environments {
    /// Records that folders of outdated builds may exist, so that they are removed later.
    pub(crate) fn note_leftovers(&self) {
        self.leftovers.store(true, Ordering::Relaxed);
    }

    /// Removes the folders of builds that are neither current nor in use.
    pub fn sweep(&self) {
        if !self.leftovers.swap(false, Ordering::Relaxed) {
            return;
        }
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let (name, path) = (entry.file_name().to_string_lossy().into_owned(), entry.path());
            let Some((id, _)) = name.split_once('.').filter(|(id, _)| !id.is_empty()) else {
                continue;
            };
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            // A new build holds this lock until it is the current build, so that its folder is not
            // removed in the meantime.
            let lock = try_lock(&self.folder.join(format!("{id}.lock")));
            let is_current = self.current_folder(id).is_some_and(|folder| folder == path);
            if !is_current && (lock.is_err() || !self.discard(&path)) {
                self.note_leftovers();
            }
        }
    }

    /// Removes the folder of a build. Returns false if a process uses it.
    fn discard(&self, folder: &Path) -> bool {
        let Some(_lock) = ExclusiveLock::acquire(folder) else {
            return !folder.join(DESCRIPTION).exists();
        };
        let aside = self.folder.join(unique_name(BUILDING));
        if fs::rename(folder, &aside).is_ok() {
            let _ = fs::remove_dir_all(aside);
        }
        true
    }

    /// Records that an environment is used now.
    pub(crate) fn touch(&self, id: &str) {
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let times = Timestamps { last_access: now, last_modification: now };
        // An error is ignored: the environment then only appears to be unused since its last
        // recorded use.
        let file = self.folder.join(id).join(DESCRIPTION);
        let _ = rustix::fs::utimensat(CWD, &file, &times, AtFlags::empty());
    }

    /// Returns the name of the current build.
    pub fn current_build(&self, id: &str) -> Option<String> {
        // `canonicalize` would read every parent folder, which takes too long for a check at each
        // call of a function.
        let build = std::fs::read_link(self.folder.join(id)).ok()?;
        self.folder.join(&build).exists().then(|| name(&build))
    }

    /// Returns all environments, most recently used first.
    pub fn all(&self) -> Vec<EnvironmentSummary> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let named = names.filter(|name| !name.contains('.'));
        let mut all: Vec<_> = named.filter_map(|id| self.summary(&id)).collect();
        all.sort_by_key(|environment| std::cmp::Reverse(environment.used));
        all
    }

    /// Returns the only environment whose id has this prefix.
    pub fn by_prefix(&self, prefix: &str) -> Result<EnvironmentSummary> {
        let mut found = self.all();
        found.retain(|environment| environment.id.starts_with(prefix) && !prefix.is_empty());
        match (found.pop(), found.is_empty()) {
            (Some(found), true) => Ok(found),
            _ => Err(Error::NotFound { id: prefix.to_owned() }),
        }
    }

    fn summary(&self, id: &str) -> Option<EnvironmentSummary> {
        let folder = self.folder.join(id);
        let text = fs::read(folder.join(DESCRIPTION)).ok()?;
        let used = fs::metadata(folder.join(DESCRIPTION)).ok()?.modified().ok()?;
        let BuildDescription { python, requirements, packages, .. } =
            serde_json::from_slice(&text).ok()?;
        let size = FolderSize::of(&folder);
        Some(EnvironmentSummary {
            id: id.to_owned(),
            python,
            requirements,
            packages,
            bytes: size.bytes,
            bytes_own: size.own,
            used: used.into(),
            busy: self.is_busy(id),
        })
    }

    /// Returns true if this server uses an environment.
    fn is_busy(&self, id: &str) -> bool {
        self.known.lock().get(id).is_some_and(is_in_use)
    }

    /// Reads the summary on a blocking thread.
    async fn read_summary(self: &Arc<Self>, id: &str) -> Option<EnvironmentSummary> {
        let (this, id) = (self.clone(), id.to_owned());
        tokio::task::spawn_blocking(move || this.summary(&id)).await.ok().flatten()
    }

    /// Returns true if an environment was last requested at least this long ago.
    pub fn is_unused(&self, id: &str, unused_for: Duration) -> bool {
        let used = fs::metadata(self.folder.join(id).join(DESCRIPTION));
        let used = used.and_then(|metadata| metadata.modified());
        let age = |used| SystemTime::now().duration_since(used).unwrap_or_default();
        used.is_ok_and(|used| age(used) >= unused_for)
    }

    /// Removes an environment that is not in use and was last requested at least this long ago.
    pub async fn remove(self: &Arc<Self>, id: &str, unused_for: Duration) -> Result<RemovalResult> {
        let _lock = lock(&self.folder.join(format!("{id}.lock"))).await?;
        let Some(summary) = self.read_summary(id).await else { return Ok(RemovalResult::Kept) };
        if !self.is_unused(id, unused_for) {
            return Ok(RemovalResult::Kept);
        }
        let Some(folder) = self.current_folder(id) else { return Ok(RemovalResult::Kept) };
        {
            let mut known = self.known.lock();
            if known.get(id).is_some_and(is_in_use) {
                return Ok(RemovalResult::InUse);
            }
            known.remove(id);
        }
        let Some(exclusive) = ExclusiveLock::acquire(&folder) else {
            return Ok(RemovalResult::InUse);
        };
        // While this lock is held, a request for the environment cannot use the folder, so the
        // request builds a new folder.
        let link = self.folder.join(id);
        let aside = self.folder.join(unique_name(BUILDING));
        fs::rename(&folder, &aside).map_err(Error::io("rename an environment for its removal"))?;
        let _ = fs::remove_file(link);
        drop(exclusive);
        let removing = tokio::task::spawn_blocking(move || {
            let unlinked = FolderSize::of(&aside).unlinked;
            fs::remove_dir_all(aside).map(|()| unlinked)
        });
        let bytes = if let Ok(Ok(bytes)) = removing.await {
            bytes
        } else {
            tracing::warn!(id, "files of an environment cannot be removed");
            0
        };
        Ok(RemovalResult::Removed { environment: Box::new(summary), bytes })
    }

    /// Removes unpacked packages that no environment uses. Returns the freed bytes.
    pub async fn sweep_packages(self: &Arc<Self>) -> u64 {
        let this = self.clone();
        let swept = tokio::task::spawn_blocking(move || package_cache::sweep(&this.cache)).await;
        match swept {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(error)) => {
                tracing::warn!(%error, "unused packages could not be deleted");
                0
            }
            Err(_) => 0,
        }
    }

    /// Resolves an environment's requirements again and builds it. Running calls keep the old
    /// build.
    pub async fn rebuild(
        self: &Arc<Self>,
        id: &str,
        on_progress: Progress<'_>,
    ) -> Result<RebuiltEnvironment> {
        let _lock = lock(&self.folder.join(format!("{id}.lock"))).await?;
        let gone = || Error::NotFound { id: id.to_owned() };
        let before = self.read_summary(id).await.ok_or_else(gone)?;
        let interpreter = interpreter::find(&self.search, Some(&before.python))?;
        let requirements = before.requirements.clone();
        let build = self.build(&interpreter, requirements, true, on_progress).await?;
        let environment = self.publish(id, &interpreter, build)?;
        let changed = changes(&before.packages, &environment.packages);
        self.add_known(environment);
        let environment = self.read_summary(id).await.ok_or_else(gone)?;
        Ok(RebuiltEnvironment { environment, changed })
    }
}

/// Returns true if this process uses an environment: something other than the map of known
/// environments refers to it or to a copy of it.
fn is_in_use(known: &Arc<Environment>) -> bool {
    Arc::strong_count(known) > 1 || Arc::strong_count(&known.lock) > 1
}

fn changes(
    before: &BTreeMap<String, String>,
    after: &BTreeMap<String, String>,
) -> BTreeMap<String, PackageChange> {
    let names: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let change = |name: &String| {
        let (from, to) = (before.get(name).cloned(), after.get(name).cloned());
        (from != to).then(|| (name.clone(), PackageChange { from, to }))
    };
    names.into_iter().filter_map(change).collect()
}

/// Bytes of the files in a folder.
#[derive(Debug, Default)]
struct FolderSize {
    bytes: u64,
    /// Bytes of files that no other environment has a hard link to.
    own: u64,
    /// Bytes that a removal would free: the bytes of files without further hard links.
    unlinked: u64,
}

impl FolderSize {
    fn of(folder: &Path) -> FolderSize {
        let mut size = FolderSize::default();
        size.add(folder);
        size
    }

    fn add(&mut self, folder: &Path) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                self.add(&entry.path());
                continue;
            }
            self.bytes += metadata.len();
            // A second link is assumed to be in uv's cache and is not counted as a use, because
            // uv's cache drops a package that no environment links to.
            if metadata.nlink() <= 2 {
                self.own += metadata.len();
            }
            if metadata.nlink() == 1 {
                self.unlinked += metadata.len();
            }
        }
    }
}
