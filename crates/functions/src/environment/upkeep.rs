//! Looking after environments: which there are, removing those that nobody wants, choosing packages
//! anew.
//!
//! A folder that a function may still see is never taken from under it: what is chosen anew lies in
//! another, and the old one is removed once nobody holds it, in this server or in another.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use headwater_model::{EnvironmentSummary, PackageChange, RebuiltEnvironment};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW};

use super::build::{BUILDING, DESCRIPTION, Description, Environments, lock, name, owned, try_lock};
use super::hold::Sole;
use super::{EnvironmentEvent, python, store};
use crate::{Environment, Error, Result};

/// What became of an environment that was to be removed.
pub(crate) enum Removed {
    Gone {
        environment: EnvironmentSummary,
        /// Bytes of files that were made for it, and are no links.
        made: u64,
    },
    Busy,
    Wanted,
}

impl Environments {
    /// Notes that there is something to sweep.
    pub(super) fn note_leftovers(&self) {
        self.leftovers.store(true, Ordering::Relaxed);
    }

    /// Removes the folders that nobody finds any more and nobody holds.
    pub(crate) fn sweep(&self) {
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
            // Whoever makes an environment holds its lock until it counts.
            let lock = try_lock(&self.folder.join(format!("{id}.lock")));
            let counts = self.place(id).is_some_and(|place| place == path);
            if !counts && (lock.is_err() || !self.discard(&path)) {
                self.note_leftovers();
            }
        }
    }

    /// Removes a folder; false where somebody holds it.
    fn discard(&self, folder: &Path) -> bool {
        let Some(_sole) = Sole::take(folder) else { return !folder.join(DESCRIPTION).exists() };
        let aside = self.folder.join(owned(BUILDING));
        if fs::rename(folder, &aside).is_ok() {
            let _ = fs::remove_dir_all(aside);
        }
        true
    }

    /// Notes that a function asked for an environment just now.
    pub(super) fn touch(&self, id: &str) {
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let times = Timestamps { last_access: now, last_modification: now };
        // A folder that cannot be written is as good as one that was never used.
        let file = self.folder.join(id).join(DESCRIPTION);
        let _ = rustix::fs::utimensat(CWD, &file, &times, AtFlags::empty());
    }

    /// Names the making of an environment that counts now.
    pub(crate) fn build_of(&self, id: &str) -> Option<String> {
        self.place(id).map(|folder| name(&folder))
    }

    /// Every environment, the last used first.
    pub(crate) fn all(&self) -> Vec<EnvironmentSummary> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let named = names.filter(|name| !name.contains('.'));
        let mut all: Vec<_> = named.filter_map(|id| self.summary(&id)).collect();
        all.sort_by_key(|environment| std::cmp::Reverse(environment.used));
        all
    }

    /// The environment whose id begins so, where it is the only one.
    pub(crate) fn named(&self, prefix: &str) -> Result<EnvironmentSummary> {
        let mut found = self.all();
        found.retain(|environment| environment.id.starts_with(prefix) && !prefix.is_empty());
        match (found.pop(), found.is_empty()) {
            (Some(found), true) => Ok(found),
            _ => Err(Error::EnvironmentNotFound { id: prefix.to_owned() }),
        }
    }

    fn summary(&self, id: &str) -> Option<EnvironmentSummary> {
        let folder = self.folder.join(id);
        let text = fs::read(folder.join(DESCRIPTION)).ok()?;
        let used = fs::metadata(folder.join(DESCRIPTION)).ok()?.modified().ok()?;
        let Description { python, requirements, packages } = serde_json::from_slice(&text).ok()?;
        let size = Size::of(&folder);
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

    /// Whether somebody beside this holds it.
    fn is_busy(&self, id: &str) -> bool {
        self.known.lock().get(id).is_some_and(is_held)
    }

    /// The same as [`Environments::summary`], which looks at every file, away from what waits.
    async fn summed_up(self: &Arc<Self>, id: &str) -> Option<EnvironmentSummary> {
        let (this, id) = (self.clone(), id.to_owned());
        tokio::task::spawn_blocking(move || this.summary(&id)).await.ok().flatten()
    }

    /// Whether nobody has asked for an environment in so long.
    pub(crate) fn is_unused(&self, id: &str, unused_for: Duration) -> bool {
        let used = fs::metadata(self.folder.join(id).join(DESCRIPTION));
        let used = used.and_then(|metadata| metadata.modified());
        let age = |used| SystemTime::now().duration_since(used).unwrap_or_default();
        used.is_ok_and(|used| age(used) >= unused_for)
    }

    /// Removes an environment that nobody has asked for in so long, and nobody uses.
    pub(crate) async fn remove(
        self: &Arc<Self>,
        id: &str,
        unused_for: Duration,
    ) -> Result<Removed> {
        let _lock = lock(&self.folder.join(format!("{id}.lock"))).await?;
        let Some(summary) = self.summed_up(id).await else { return Ok(Removed::Wanted) };
        if !self.is_unused(id, unused_for) {
            return Ok(Removed::Wanted);
        }
        let Some(place) = self.place(id) else { return Ok(Removed::Wanted) };
        {
            let mut known = self.known.lock();
            if known.get(id).is_some_and(is_held) {
                return Ok(Removed::Busy);
            }
            known.remove(id);
        }
        let Some(sole) = Sole::take(&place) else { return Ok(Removed::Busy) };
        // Whoever asks from here on finds nothing, and makes one.
        let link = self.folder.join(id);
        let aside = self.folder.join(owned(BUILDING));
        fs::rename(&place, &aside).map_err(Error::io("move an environment aside"))?;
        let _ = fs::remove_file(link);
        drop(sole);
        let removing = tokio::task::spawn_blocking(move || {
            let made = Size::of(&aside).made;
            fs::remove_dir_all(aside).map(|()| made)
        });
        let made = if let Ok(Ok(made)) = removing.await {
            made
        } else {
            tracing::warn!(id, "files of an environment are left");
            0
        };
        Ok(Removed::Gone { environment: summary, made })
    }

    /// Removes the unpacked packages that no environment is made of any more; gives the bytes that this
    /// frees.
    pub(crate) async fn sweep_packages(self: &Arc<Self>) -> u64 {
        let this = self.clone();
        let swept = tokio::task::spawn_blocking(move || store::sweep(&this.cache)).await;
        match swept {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(error)) => {
                tracing::warn!(%error, "unused packages are left");
                0
            }
            Err(_) => 0,
        }
    }

    /// Chooses an environment's packages anew, within what was asked for. Calls that have begun go on
    /// with what they have.
    pub(crate) async fn rebuild(
        self: &Arc<Self>,
        id: &str,
        on_progress: &(dyn Fn(EnvironmentEvent) + Send + Sync),
    ) -> Result<RebuiltEnvironment> {
        let _lock = lock(&self.folder.join(format!("{id}.lock"))).await?;
        let gone = || Error::EnvironmentNotFound { id: id.to_owned() };
        let before = self.summed_up(id).await.ok_or_else(gone)?;
        let interpreter = python::find(&self.search, Some(&before.python))?;
        let requirements = before.requirements.clone();
        let made = self.make(&interpreter, requirements, true, on_progress).await?;
        let environment = self.put_in_place(id, &interpreter, made)?;
        let changed = changes(&before.packages, &environment.packages);
        self.remember(environment);
        let environment = self.summed_up(id).await.ok_or_else(gone)?;
        Ok(RebuiltEnvironment { environment, changed })
    }
}

/// Whether somebody holds an environment, or a copy of it, beside the list of those that are known.
fn is_held(known: &Arc<Environment>) -> bool {
    Arc::strong_count(known) > 1 || Arc::strong_count(&known.hold) > 1
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

/// Bytes of files, each counted once.
#[derive(Debug, Default)]
struct Size {
    bytes: u64,
    /// Of files that nothing else is made of.
    own: u64,
    /// Of files that are no links.
    made: u64,
}

impl Size {
    fn of(folder: &Path) -> Size {
        let mut size = Size::default();
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
            // One link is uv's, whose packages go with the last environment that is made of them.
            if metadata.nlink() <= 2 {
                self.own += metadata.len();
            }
            if metadata.nlink() == 1 {
                self.made += metadata.len();
            }
        }
    }
}
