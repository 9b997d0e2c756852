//! The checks that a merge requires.

/// The state of the checks that a merge requires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequiredChecks {
    /// The checks must have passed before the merge.
    Required,
    /// The user skips the checks (`--unchecked`).
    Waived,
    /// The checks have just passed, because a run merges its own branch.
    Passed,
}

impl RequiredChecks {
    /// Returns `Waived` if `unchecked` is set, otherwise `Required`.
    pub fn required_unless(unchecked: bool) -> Self {
        if unchecked { RequiredChecks::Waived } else { RequiredChecks::Required }
    }
}
