//! Access to the control files of cgroups.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::OnceLock;

use super::super::system_calls;

pub(super) fn write(folder: &Path, file: &str, limit: Option<u64>) -> io::Result<()> {
    match limit {
        Some(limit) => set(folder.join(file), limit.to_string()),
        None => Ok(()),
    }
}

/// Writes to an existing control file. Fails if the file does not exist, and never creates it.
pub(super) fn set(path: impl AsRef<Path>, text: impl AsRef<str>) -> io::Result<()> {
    fs::OpenOptions::new().write(true).open(path)?.write_all(text.as_ref().as_bytes())
}

pub(super) fn number(folder: &Path, file: &str) -> Option<u64> {
    ControlFile::default().number(folder, file)
}

pub(super) fn keyed(folder: &Path, file: &str, key: &str) -> Option<u64> {
    ControlFile::default().keyed(folder, file, key)
}

/// A control file that is opened on first use and kept open, to save system calls. A value of this
/// type must always be used with the same path.
#[derive(Debug, Default)]
pub(super) struct ControlFile {
    file: OnceLock<File>,
}

impl ControlFile {
    pub(super) fn number(&self, folder: &Path, file: &str) -> Option<u64> {
        self.text(folder, file)?.trim().parse().ok()
    }

    pub(super) fn keyed(&self, folder: &Path, file: &str, key: &str) -> Option<u64> {
        let text = self.text(folder, file)?;
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))?;
        line.trim().parse().ok()
    }

    pub(super) fn write(&self, folder: &Path, file: &str, text: &str) -> io::Result<()> {
        self.open(folder, file)?.write_all_at(text.as_bytes(), 0)
    }

    /// Reads a short control file with a single system call.
    fn text(&self, folder: &Path, file: &str) -> Option<String> {
        let mut bytes = [0; 4096];
        let length = self.open(folder, file).ok()?.read_at(&mut bytes, 0).ok()?;
        String::from_utf8(bytes[..length].to_vec()).ok()
    }

    fn open(&self, folder: &Path, file: &str) -> io::Result<&File> {
        if let Some(open) = self.file.get() {
            return Ok(open);
        }
        let path = folder.join(file);
        // Some control files are read-only: open these only for reading.
        let opened = fs::OpenOptions::new().read(true).write(true).open(&path);
        let opened = opened.or_else(|_| File::open(&path))?;
        Ok(self.file.get_or_init(|| opened))
    }
}

/// Kills the processes in a group and its subgroups, and removes the groups.
pub(crate) fn remove_tree(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_tree(&entry.path());
        }
    }
    // A killed process stays in its group for a short time, so retry the removal.
    for _ in 0..200 {
        if fs::remove_dir(folder).is_ok() || !folder.exists() {
            return;
        }
        kill_all(folder);
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

pub(super) fn kill_all(folder: &Path) {
    if set(folder.join("cgroup.kill"), "1").is_ok() {
        return;
    }
    let processes = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    for pid in processes.lines().filter_map(|line| line.parse::<i32>().ok()) {
        // The id of a process in another pid namespace reads as 0. A signal to 0 would kill the
        // spawner's own process group.
        if pid > 0 {
            system_calls::kill(pid, libc::SIGKILL);
        }
    }
}
