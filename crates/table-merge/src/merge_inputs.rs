//! The input of a merge: three states of a table, and the treatment of equal changes.

use headwater_tables::Table;

/// The treatment of equal changes on both sides, such as the same update or deletion of a row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum EqualChanges {
    /// They are one change. This applies to merges of branches, where the same change may have
    /// reached both sides.
    #[default]
    Merge,
    /// They are two changes. If both sides changed or deleted the same existing row, this is a
    /// conflict. If both sides added equal rows, all of them are kept. This applies to
    /// transactions: each may have computed its change from the value that it read, so one of two
    /// equal increments would be lost.
    Conflict,
}

/// The three states of a table that a merge combines.
#[derive(Debug, Clone, Copy)]
pub struct MergeInputs<'a> {
    /// The state from which both sides started.
    pub base: &'a Table,
    /// The target of the merge.
    pub ours: &'a Table,
    /// The source of the merge.
    pub theirs: &'a Table,
    /// The treatment of equal changes.
    pub equal_changes: EqualChanges,
}

impl<'a> MergeInputs<'a> {
    /// Creates the input of a merge in which equal changes are one change.
    pub fn new(base: &'a Table, ours: &'a Table, theirs: &'a Table) -> Self {
        MergeInputs { base, ours, theirs, equal_changes: EqualChanges::default() }
    }
}
