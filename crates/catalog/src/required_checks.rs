//! The checks that a merge requires.

/// The state of the checks that a merge requires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequiredCheckStatus {
    /// The checks must have passed before the merge.
    Required,
    /// The user skips the checks (`--unchecked`).
    Waived,
    /// A run merges its own branch, and the checks have just passed in this run.
    Passed,
}

impl RequiredCheckStatus {
    /// Returns `Waived` if `unchecked` is set, otherwise `Required`.
    pub fn required_unless(unchecked: bool) -> Self {
        if unchecked { RequiredCheckStatus::Waived } else { RequiredCheckStatus::Required }
    }
}
