//! The options of a merge.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use headwater_catalog::EVENT_SCOPE;
use headwater_model::{CommitId, PROPERTY_EVENT, RefSpec, TRANSACTION_BRANCHES, TableName};
use headwater_store::{JournalAppend, UniqueKey, WriteBatch};
use headwater_table_merge::EqualChanges;

use super::merge_rights::MergeRights;
use super::serial_order;

/// Options of a merge.
#[derive(Debug, Clone, Default)]
pub struct MergeOptions {
    /// The author of the merge commit.
    pub author: String,
    /// Properties of the commit. If there are any, a commit is created even for a fast-forward.
    pub properties: BTreeMap<String, String>,
    /// Changes of the store that are applied atomically with the commit.
    pub with: WriteBatch,
    /// Tables that are never merged by content: changes on both sides are a conflict.
    pub whole: BTreeSet<TableName>,
    /// The treatment of a row that both sides changed in the same way. The commit of a transaction
    /// treats it as a conflict.
    pub equal_changes: EqualChanges,
    /// For a merge by a run: the project whose expectations have all passed; an empty text if there
    /// is no such project. `None` for a merge that no run makes.
    pub passed: Option<String>,
    /// For a merge by a run: the tables that the run read. The merge fails with a conflict if this
    /// run and the other runs have no serial order.
    pub reads: Option<ReadSet>,
    /// The ref to record as merged; by default the source of the merge. If a run merges a ref, it
    /// sets this field to that ref, because the source of the run's own merge is a commit without a
    /// name.
    pub merged: Option<RefSpec>,
    /// Checks that the author may take the source's version of tables in conflict, and may make the
    /// changes of a cherry-pick or revert; `None` to allow everything.
    pub rights: Option<Arc<dyn MergeRights>>,
}

impl From<&str> for MergeOptions {
    /// Returns the default options for an author.
    fn from(author: &str) -> Self {
        MergeOptions { author: author.to_owned(), ..MergeOptions::default() }
    }
}

/// The tables and read positions that a run read.
#[derive(Debug, Clone)]
pub struct ReadSet {
    /// The head of the target when the run started.
    pub start: CommitId,
    /// The tables and views that the run read at this commit.
    pub tables: BTreeSet<TableName>,
    /// The read positions of the run's incremental models. The run must list each position that it
    /// changes.
    pub positions: BTreeSet<ReadPosition>,
    /// True if the run may also change read positions that `positions` lacks, because it merges a
    /// branch or continues a failed run.
    pub changes_any_position: bool,
}

/// The position up to which the models of one table have read one source of rows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReadPosition {
    /// The table of the models. The summaries of its snapshots store the position.
    pub table: TableName,
    /// The key of the source in the snapshot summaries, or [`ReadPosition::ALL_SOURCES`].
    pub source: String,
}

impl ReadPosition {
    /// The value of `source` for a run that may change all read positions of a table.
    pub const ALL_SOURCES: &str = "*";
}

impl MergeOptions {
    /// Sets the id of the event that caused the merge. Only one commit can have a given event, so a
    /// merge with the id of a committed event fails.
    #[must_use]
    pub fn with_event(mut self, id: &str) -> Self {
        self.properties.insert(PROPERTY_EVENT.to_owned(), id.to_owned());
        let (scope, key) = (EVENT_SCOPE.to_owned(), id.to_owned());
        self.with.unique.push(UniqueKey { scope, key });
        self
    }

    /// Adds a journal entry that is stored atomically with the merge commit.
    #[must_use]
    pub fn with_entry(mut self, journal: &str, key: &str, value: Bytes) -> Self {
        self.with.entries.push(JournalAppend::put(journal, key, value));
        self
    }

    /// Returns the properties of the merge commit.
    pub(super) fn commit_properties(&self) -> BTreeMap<String, String> {
        let mut properties = self.properties.clone();
        properties.extend(self.reads.iter().flat_map(serial_order::to_properties));
        properties
    }

    /// Returns the ref to record as the source of the merge: a branch or tag. Returns `None` for a
    /// merge by a run or a transaction, and for a commit without a name.
    pub(super) fn merged_ref(&self, source: &RefSpec) -> Option<String> {
        let merged = self.merged.as_ref().unwrap_or(source);
        let is_named = !matches!(merged, RefSpec::Commit(_));
        let name = merged.to_string();
        (is_named && !name.starts_with(TRANSACTION_BRANCHES)).then_some(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_merges_of_named_refs_are_recorded() {
        let check = |source: &str, merged: Option<&str>, expected: Option<&str>| {
            let parse = |name: &str| name.parse::<RefSpec>().expect("a ref");
            let options = MergeOptions { merged: merged.map(parse), ..MergeOptions::default() };
            assert_eq!(options.merged_ref(&parse(source)).as_deref(), expected, "{source}");
        };
        check("dev", None, Some("dev"));
        check("dev~1", None, Some("dev~1"));
        check("@0123abcd", None, None);
        check("@0123abcd", Some("dev"), Some("dev"));
        check("_transaction/1", None, None);
    }
}
