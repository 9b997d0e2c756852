//! Small input files that a reused process may still hold after its call has ended.
//!
//! A process that still holds an input of an earlier call cannot be reused, because the memory of
//! this input would not be charged. A check freezes the process and reads its memory mappings,
//! which takes longer than a small function. So one check covers several calls. Until the check,
//! the server keeps the files here, and their memory stays charged.

use headwater_shared_memory::WorkerFile;

/// Maximum number and maximum total size of the files that a process may hold without a check.
const FILES_MAX: usize = 64;
const BYTES_MAX: u64 = 256 << 10;

/// The input files of earlier calls that a process may still hold. The files of its current call
/// are not included.
#[derive(Debug, Default)]
pub(crate) struct UnreleasedFiles {
    files: Vec<WorkerFile>,
    /// True if a check has just shown that the process holds none of the files, not even those of
    /// its current call.
    is_checked: bool,
}

impl UnreleasedFiles {
    /// Returns the state after a successful check: the process holds no file.
    pub(crate) fn released() -> Self {
        UnreleasedFiles { files: Vec::new(), is_checked: true }
    }

    /// Returns true if the next check of the process can wait: it can hold only few, small files.
    /// `current` are the files of the current call.
    pub(crate) fn may_skip_check(&self, current: &[WorkerFile]) -> bool {
        // The size of a file on disk is not known; with such a file, the check cannot wait.
        let bytes = self.files.iter().chain(current).map(WorkerFile::memory_bytes);
        let is_small = bytes.sum::<Option<u64>>().is_some_and(|bytes| bytes <= BYTES_MAX);
        is_small && self.files.len() + current.len() <= FILES_MAX
    }

    /// Returns the inode numbers of the files of earlier calls and of the current call.
    pub(crate) fn inodes(&self, current: &[WorkerFile]) -> Vec<u64> {
        let of = |file: &WorkerFile| Some(rustix::fs::fstat(file.descriptor()).ok()?.st_ino);
        self.files.iter().chain(current).filter_map(of).collect()
    }

    /// Adds the files of the current call, unless a check has shown that the process does not hold
    /// them.
    pub(crate) fn with(mut self, current: &[WorkerFile]) -> Self {
        if !std::mem::take(&mut self.is_checked) {
            self.files.extend_from_slice(current);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use headwater_shared_memory::MemoryFile;

    use super::*;

    fn file(bytes: usize) -> WorkerFile {
        WorkerFile::Memory(MemoryFile::with("headwater-test", &vec![1; bytes]).unwrap())
    }

    #[test]
    fn few_small_files_are_checked_later() {
        let none = UnreleasedFiles::default();
        assert!(none.may_skip_check(&[]) && none.may_skip_check(&[file(100)]));
        assert!(!none.may_skip_check(&[file(300 << 10)]));
        let held = UnreleasedFiles::default().with(&[file(64 << 10)]).with(&[file(64 << 10)]);
        assert!(held.may_skip_check(&[file(64 << 10)]));
        assert!(!held.may_skip_check(&[file(160 << 10)]), "the files of all calls count");
        assert_eq!(held.inodes(&[file(1)]).len(), 3);
        let many: Vec<WorkerFile> = (0..FILES_MAX).map(|_| file(1)).collect();
        assert!(none.may_skip_check(&many) && !held.may_skip_check(&many), "so does their number");
        assert_eq!(UnreleasedFiles::released().with(&many).files.len(), 0, "they were checked");
    }
}
