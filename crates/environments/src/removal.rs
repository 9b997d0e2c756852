//! Removal of environments, outdated builds and unused packages.
//!
//! A folder that a function may still use is never removed.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use headwater_model::EnvironmentSummary;

use crate::environments::{BUILDING, DESCRIPTION, Environments, lock, try_lock, unique_name};
use crate::folder_lock::ExclusiveLock;
use crate::listing::{FolderSize, is_in_use};
use crate::{Error, Result, package_cache};

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
}
