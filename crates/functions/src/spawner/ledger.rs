//! What must be cleaned up should a spawner be killed: its control groups, noted in a file that the
//! server, or the next server, reads.
//!
//! A spawner removes its groups itself, even when its server dies. Only a spawner that is killed
//! outright leaves them; and a later one may live in another part of the hierarchy and never see
//! them, so the paths are written down.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::cgroup::{self, PREFIX};
use super::identity;
use super::plan::Report;

const NAME: &str = ".spawner-";

/// The note of one spawner.
#[derive(Debug)]
pub(super) struct Note(PathBuf);

impl Note {
    /// Notes the groups of a spawner that has just started.
    pub(super) fn write(folder: &Path, report: &Report) -> io::Result<Self> {
        let folders = report.groups.folders();
        let lines: Vec<_> = folders.iter().map(|group| group.to_string_lossy()).collect();
        let file = folder.join(format!("{NAME}{}", report.identity));
        // What lies there already, a link above all, is somebody else's.
        let mut note =
            fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file)?;
        note.write_all(lines.join("\n").as_bytes())?;
        Ok(Note(file))
    }

    /// Removes the groups that are left of a spawner that ended, and the note.
    pub(super) fn settle(self) {
        settle(&self.0);
    }
}

/// Settles the notes of spawners that are gone.
pub(super) fn settle_stale(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.strip_prefix(NAME).is_some_and(identity::is_stale) {
            settle(&entry.path());
        }
    }
}

fn settle(file: &Path) {
    if !is_own(file) {
        return;
    }
    for group in fs::read_to_string(file).unwrap_or_default().lines().map(Path::new) {
        let name = group.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with(PREFIX) && group.exists() {
            cgroup::remove_tree(group);
        }
    }
    let _ = fs::remove_file(file);
}

/// Whether only this user can have written a note: its groups are killed.
fn is_own(file: &Path) -> bool {
    fs::symlink_metadata(file).is_ok_and(|found| {
        let user = rustix::process::geteuid().as_raw();
        found.is_file() && found.uid() == user && found.mode() & 0o022 == 0
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::cgroup::Cgroups;
    use super::*;

    #[test]
    fn only_groups_of_the_dead_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let group = |name: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.join("7")).unwrap();
            path
        };
        let (dead, alive, other) = (group("headwater-1-1"), group("headwater-2-2"), group("other"));
        let note = |identity: String, groups: Vec<PathBuf>| {
            let groups = Cgroups::killing(groups);
            let report = Report { identity, groups, ..Report::default() };
            Note::write(folder.path(), &report).unwrap()
        };
        note(format!("{}-1", std::process::id()), vec![dead.clone(), other.clone()]);
        let mine = note(identity::own(), vec![alive.clone()]);
        settle_stale(folder.path());
        assert!(!dead.exists() && alive.exists() && other.exists());
        mine.settle();
        assert!(!alive.exists());
    }

    #[test]
    fn a_note_that_others_can_write_is_ignored() {
        let folder = tempfile::tempdir().unwrap();
        let group = folder.path().join("headwater-1-1");
        fs::create_dir_all(&group).unwrap();
        let note = folder.path().join(format!("{NAME}{}-1", std::process::id()));
        fs::write(&note, group.to_string_lossy().as_bytes()).unwrap();
        fs::set_permissions(&note, fs::Permissions::from_mode(0o666)).unwrap();
        settle_stale(folder.path());
        assert!(group.exists());
        fs::set_permissions(&note, fs::Permissions::from_mode(0o600)).unwrap();
        settle_stale(folder.path());
        assert!(!group.exists());
    }
}
