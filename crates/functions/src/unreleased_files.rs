//! Small input files that a reused process may still hold after its call.
//!
//! The memory of inputs is charged to the server, so a process that holds an input of an earlier
//! call is not reused. Checking this takes longer than a small function: the process is frozen, and
//! its mappings and open files are read. So the check covers several calls with small inputs at
//! once. Until then the files are kept here, and therefore remain charged.

use crate::memory::WorkerFile;

/// Maximum number and total size of the files that are not checked, per process.
const FILES_MAX: usize = 64;
const BYTES_MAX: u64 = 256 << 10;

/// The input files that a process may still hold, except those of its current call.
#[derive(Debug, Default)]
pub(crate) struct UnreleasedFiles {
    files: Vec<WorkerFile>,
    /// True after a check that included the files of the current call.
    is_checked: bool,
}

impl UnreleasedFiles {
    /// Returns the state after a check: the process holds no file.
    pub(crate) fn released() -> Self {
        UnreleasedFiles { files: Vec::new(), is_checked: true }
    }

    /// Returns true if the check can wait, because the process holds only few and small files even
    /// if it keeps those of the current call.
    pub(crate) fn may_keep(&self, current: &[WorkerFile]) -> bool {
        let mut bytes = 0_u64;
        for file in self.files.iter().chain(current) {
            // A file on disk can be much larger than the memory that is charged for it.
            let Some(held) = file.memory_bytes() else { return false };
            bytes = bytes.saturating_add(held);
        }
        bytes <= BYTES_MAX && self.files.len() + current.len() <= FILES_MAX
    }

    /// Returns the inodes of these files and of the files of the current call.
    pub(crate) fn inodes(&self, current: &[WorkerFile]) -> Vec<u64> {
        let of = |file: &WorkerFile| Some(rustix::fs::fstat(file.descriptor()).ok()?.st_ino);
        self.files.iter().chain(current).filter_map(of).collect()
    }

    /// Adds the files of the current call, unless they have been checked.
    pub(crate) fn with(mut self, current: &[WorkerFile]) -> Self {
        if !std::mem::take(&mut self.is_checked) {
            self.files.extend_from_slice(current);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryFile;

    fn file(bytes: usize) -> WorkerFile {
        let file = MemoryFile::with("headwater-test", &vec![1; bytes]).unwrap();
        WorkerFile::Memory(file)
    }

    #[test]
    fn few_small_files_are_checked_later() {
        let none = UnreleasedFiles::default();
        assert!(none.may_keep(&[]) && none.may_keep(&[file(100)]));
        assert!(!none.may_keep(&[file(300 << 10)]));
        let mut held = UnreleasedFiles::default();
        for _ in 0..3 {
            assert!(held.may_keep(&[file(64 << 10)]));
            held = held.with(&[file(64 << 10)]);
        }
        assert!(!held.may_keep(&[file(128 << 10)]), "the files of all calls count");
        assert_eq!(held.inodes(&[file(1)]).len(), 4);
        let many: Vec<WorkerFile> = (0..FILES_MAX).map(|_| file(1)).collect();
        assert!(none.may_keep(&many) && !held.may_keep(&many), "so does their number");
    }

    #[test]
    fn checked_files_are_not_kept() {
        let held = UnreleasedFiles::released().with(&[file(1)]);
        assert_eq!(held.files.len(), 0);
        assert_eq!(held.with(&[file(1)]).files.len(), 1, "the next call is not checked yet");
    }
}
