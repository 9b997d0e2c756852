//! The list of the environments: their packages, sizes and last uses.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use headwater_model::EnvironmentSummary;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW};

use crate::environments::{BuildDescription, DESCRIPTION, Environments, name};
use crate::{Environment, Error, Result};

impl Environments {
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
    pub(crate) async fn read_summary(self: &Arc<Self>, id: &str) -> Option<EnvironmentSummary> {
        let (this, id) = (self.clone(), id.to_owned());
        tokio::task::spawn_blocking(move || this.summary(&id)).await.ok().flatten()
    }

    /// Returns the name of the current build.
    pub fn current_build(&self, id: &str) -> Option<String> {
        // `canonicalize` would read every parent folder, which takes too long for a check at each
        // call of a function.
        let build = std::fs::read_link(self.folder.join(id)).ok()?;
        self.folder.join(&build).exists().then(|| name(&build))
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

    /// Returns true if an environment was last requested at least this long ago.
    pub fn is_unused(&self, id: &str, unused_for: Duration) -> bool {
        let used = fs::metadata(self.folder.join(id).join(DESCRIPTION));
        let used = used.and_then(|metadata| metadata.modified());
        let age = |used| SystemTime::now().duration_since(used).unwrap_or_default();
        used.is_ok_and(|used| age(used) >= unused_for)
    }
}

/// Returns true if this process uses an environment: something other than the map of known
/// environments refers to it or to a copy of it.
pub(crate) fn is_in_use(known: &Arc<Environment>) -> bool {
    Arc::strong_count(known) > 1 || Arc::strong_count(&known.lock) > 1
}

/// Bytes of the files in a folder.
#[derive(Debug, Default)]
pub(crate) struct FolderSize {
    bytes: u64,
    /// Bytes of files that no other environment has a hard link to.
    own: u64,
    /// Bytes that a removal would free: the bytes of files without further hard links.
    pub(crate) unlinked: u64,
}

impl FolderSize {
    pub(crate) fn of(folder: &Path) -> FolderSize {
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
