//! Records of control groups, for the cleanup after a spawner was killed.
//!
//! A spawner removes its groups when it exits, even if its server was killed. But if the spawner
//! itself is killed, its groups remain. The next spawner may run in another part of the hierarchy,
//! where it cannot find these groups. So the server writes their paths to a file, the record.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::cgroup::{self, PREFIX};
use crate::process_identity::is_stale;
use crate::spawner_protocol::HostReport;

const NAME: &str = ".spawner-";

/// The file that lists the control groups of one spawner.
#[derive(Debug)]
pub(crate) struct CgroupRegistry(PathBuf);

impl CgroupRegistry {
    /// Writes the record of a spawner, immediately after its start.
    pub(crate) fn write(folder: &Path, report: &HostReport) -> io::Result<Self> {
        let folders = report.groups.folders();
        let lines: Vec<_> = folders.iter().map(|group| group.to_string_lossy()).collect();
        let file = folder.join(format!("{NAME}{}", report.identity));
        // Create a new file and fail if the path exists, because an existing file or link could
        // belong to another user.
        let mut record =
            fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file)?;
        record.write_all(lines.join("\n").as_bytes())?;
        Ok(CgroupRegistry(file))
    }

    /// Removes the groups that an ended spawner left, and then this record.
    pub(crate) fn remove(self) {
        remove(&self.0);
    }
}

/// Removes the groups and records of all ended spawners.
pub(crate) fn remove_stale(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.strip_prefix(NAME).is_some_and(is_stale) {
            remove(&entry.path());
        }
    }
}

fn remove(file: &Path) {
    if !is_trusted_record(file) {
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

/// Returns true if no other user can have written the record. Without this check, another user
/// could record groups whose processes this server then kills.
fn is_trusted_record(file: &Path) -> bool {
    fs::symlink_metadata(file).is_ok_and(|found| {
        let user = rustix::process::geteuid().as_raw();
        found.is_file() && found.uid() == user && found.mode() & 0o022 == 0
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::cgroup::CgroupHierarchies;
    use super::*;
    use crate::process_identity::current_identity;

    #[test]
    fn only_groups_of_ended_spawners_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let group = |name: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.join("7")).unwrap();
            path
        };
        let (dead, alive, other) = (group("headwater-1-1"), group("headwater-2-2"), group("other"));
        let record = |identity: String, groups: Vec<PathBuf>| {
            let groups = CgroupHierarchies::killing(groups);
            let report = HostReport { identity, groups, ..HostReport::default() };
            CgroupRegistry::write(folder.path(), &report).unwrap()
        };
        record(format!("{}-1", std::process::id()), vec![dead.clone(), other.clone()]);
        let own = record(current_identity(), vec![alive.clone()]);
        remove_stale(folder.path());
        assert!(!dead.exists() && alive.exists() && other.exists());
        own.remove();
        assert!(!alive.exists());
    }

    #[test]
    fn a_record_that_others_can_write_is_ignored() {
        let folder = tempfile::tempdir().unwrap();
        let group = folder.path().join("headwater-1-1");
        fs::create_dir_all(&group).unwrap();
        let record = folder.path().join(format!("{NAME}{}-1", std::process::id()));
        fs::write(&record, group.to_string_lossy().as_bytes()).unwrap();
        fs::set_permissions(&record, fs::Permissions::from_mode(0o666)).unwrap();
        remove_stale(folder.path());
        assert!(group.exists());
        fs::set_permissions(&record, fs::Permissions::from_mode(0o600)).unwrap();
        remove_stale(folder.path());
        assert!(!group.exists());
    }
}
