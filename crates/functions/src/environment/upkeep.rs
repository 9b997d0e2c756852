//! Looking after environments: which there are, removing those that nobody wants, choosing packages
//! anew.
//!
//! A folder that a function may still see is never taken from under it. It is moved aside, so that
//! nobody finds it any more, and removed when every call that had begun by then has ended.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use headwater_model::{EnvironmentSummary, PackageChange, RebuiltEnvironment};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW};

use super::build::{BUILDING, DESCRIPTION, Description, Environments, lock, owned};
use super::{EnvironmentEvent, python};
use crate::{Environment, Error, Result};

/// Held by every call; when nobody holds one of the past any more, no call of that time is left.
#[derive(Debug, Clone, Default)]
pub(crate) struct Era(Arc<()>);

/// Folders that were moved aside, with the last era in which they were found.
#[derive(Debug, Default)]
pub(super) struct Aside {
    now: Era,
    folders: Vec<(Era, PathBuf)>,
}

/// What became of an environment that was to be removed.
pub(crate) enum Removed {
    Gone(EnvironmentSummary),
    Busy,
    Wanted,
}

impl Environments {
    /// What a call holds as long as it may see an environment's folder.
    pub(crate) fn era(&self) -> Era {
        self.aside.lock().now.clone()
    }

    /// Removes what was moved aside and nobody sees any more.
    pub(crate) fn sweep(&self) {
        let mut aside = self.aside.lock();
        // A call of an era may see the folders of every later one.
        let held = |(era, _): &(Era, PathBuf)| Arc::strong_count(&era.0) > 1;
        let first = aside.folders.iter().position(held).unwrap_or(aside.folders.len());
        let gone: Vec<_> = aside.folders.drain(..first).collect();
        drop(aside);
        for (_, folder) in gone {
            let _ = fs::remove_dir_all(folder);
        }
    }

    /// Moves a folder to where nobody looks, to be removed when nobody is in it.
    fn put_aside(&self, id: &str) -> Result<()> {
        let place = self.folder.join(owned(BUILDING));
        let moved = fs::rename(self.folder.join(id), &place);
        moved.map_err(Error::io("move an environment aside"))?;
        let mut aside = self.aside.lock();
        let past = std::mem::take(&mut aside.now);
        aside.folders.push((past, place));
        Ok(())
    }

    /// Notes that a function asked for an environment just now.
    pub(super) fn touch(&self, id: &str) {
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let times = Timestamps { last_access: now, last_modification: now };
        // A folder that cannot be written is as good as one that was never used.
        let file = self.folder.join(id).join(DESCRIPTION);
        let _ = rustix::fs::utimensat(CWD, &file, &times, AtFlags::empty());
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
        let mut size = Size::default();
        size.add(&folder);
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

    /// Removes an environment that nobody has asked for in so long, and nobody uses.
    pub(crate) async fn remove(&self, id: &str, unused_for: Duration) -> Result<Removed> {
        let _lock = lock(&self.folder.join(format!("{id}.lock"))).await?;
        let Some(summary) = self.summary(id) else { return Ok(Removed::Wanted) };
        let age = SystemTime::now().duration_since(summary.used.into()).unwrap_or_default();
        if age < unused_for {
            return Ok(Removed::Wanted);
        }
        let mut known = self.known.lock();
        if known.get(id).is_some_and(is_held) {
            return Ok(Removed::Busy);
        }
        // Whoever asks from here on finds no folder, and makes one.
        self.put_aside(id)?;
        known.remove(id);
        drop(known);
        Ok(Removed::Gone(summary))
    }

    /// Chooses an environment's packages anew, within what was asked for. Calls that have begun go on
    /// with what they have.
    pub(crate) async fn rebuild(
        &self,
        id: &str,
        on_progress: &(dyn Fn(EnvironmentEvent) + Send + Sync),
    ) -> Result<RebuiltEnvironment> {
        let _lock = lock(&self.folder.join(format!("{id}.lock"))).await?;
        let gone = || Error::EnvironmentNotFound { id: id.to_owned() };
        let before = self.summary(id).ok_or_else(gone)?;
        let interpreter = python::find(&self.search, Some(&before.python))?;
        let requirements = before.requirements.clone();
        let made = self.make(&interpreter, requirements, true, on_progress).await?;
        self.put_aside(id)?;
        let environment: Environment = self.put_in_place(id, &interpreter, made)?;
        let changed = changes(&before.packages, &environment.packages);
        self.remember(environment);
        let environment = self.summary(id).ok_or_else(gone)?;
        Ok(RebuiltEnvironment { environment, changed })
    }
}

/// Whether somebody holds an environment, or a copy of it, beside the list of those that are known.
fn is_held(known: &Arc<Environment>) -> bool {
    Arc::strong_count(known) > 1 || Arc::strong_count(&known.copies) > 1
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
    own: u64,
}

impl Size {
    fn add(&mut self, folder: &Path) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                self.add(&entry.path());
                continue;
            }
            self.bytes += metadata.len();
            if metadata.nlink() == 1 {
                self.own += metadata.len();
            }
        }
    }
}
