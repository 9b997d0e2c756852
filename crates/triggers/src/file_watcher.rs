//! Kernel notifications about changes in a folder.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use notify::event::{AccessKind, AccessMode, ModifyKind, RenameMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Maximum number of renamed paths that are remembered. Further renamed files wait for the debounce
/// time, as changed files do.
const RENAMED_MAX: usize = 100_000;

/// Paths that were renamed into the folder since the last poll.
pub(crate) type RenamedPaths = Arc<Mutex<HashSet<PathBuf>>>;

/// Requests a poll of the source after each change in a folder, until dropped.
pub(crate) struct FileWatcher {
    _watcher: RecommendedWatcher,
}

impl FileWatcher {
    pub(crate) fn new(
        folder: &Path,
        recursive: bool,
        wake: Arc<Notify>,
        renamed: RenamedPaths,
    ) -> notify::Result<Self> {
        let noticed = move |event: notify::Result<notify::Event>| {
            let Ok(event) = event else { return wake.notify_one() };
            if !is_change(event.kind) && !event.need_rescan() {
                return;
            }
            if let EventKind::Modify(ModifyKind::Name(RenameMode::To)) = event.kind {
                let mut renamed = renamed.lock();
                if renamed.len() < RENAMED_MAX {
                    renamed.extend(event.paths);
                }
            }
            wake.notify_one();
        };
        let mut watcher = notify::recommended_watcher(noticed)?;
        let mode = if recursive { RecursiveMode::Recursive } else { RecursiveMode::NonRecursive };
        watcher.watch(folder, mode)?;
        Ok(FileWatcher { _watcher: watcher })
    }
}

/// Returns true for changes. Reads do not count: each import reads, and would cause a poll.
fn is_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(access) => access == AccessKind::Close(AccessMode::Write),
        EventKind::Remove(_) | EventKind::Other => false,
        EventKind::Any | EventKind::Create(_) | EventKind::Modify(_) => true,
    }
}

impl std::fmt::Debug for FileWatcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FileWatcher")
    }
}
