//! Asking for a merge, and what came of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Commit, CommitId, RefSpec, TableName};

/// Asks to merge a ref into a branch.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct MergeRequest {
    /// What to merge: a branch, tag or commit.
    #[schema(value_type = String)]
    pub source: RefSpec,
    /// The message of the merge commit; one is made where none is given.
    #[serde(default)]
    pub message: Option<String>,
    /// Say what would happen and change nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// Merge the branch of a failed run all the same.
    #[serde(default)]
    pub unchecked: bool,
    /// What to do about tables in conflict; nothing is merged where nothing is said.
    #[serde(default)]
    pub on_conflict: MergeChoice,
    /// The same for single tables, by name.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, MergeChoice>)]
    pub choices: BTreeMap<TableName, MergeChoice>,
}

impl MergeRequest {
    /// Asks to merge a ref, and to say so where there is a conflict.
    pub fn new(source: RefSpec) -> Self {
        MergeRequest {
            source,
            message: None,
            dry_run: false,
            unchecked: false,
            on_conflict: MergeChoice::Fail,
            choices: BTreeMap::new(),
        }
    }

    /// What to do about a table in conflict, which has one of these names.
    pub fn choice<'a>(&self, names: impl IntoIterator<Item = &'a TableName>) -> MergeChoice {
        let chosen = names.into_iter().find_map(|name| self.choices.get(name));
        chosen.copied().unwrap_or(self.on_conflict)
    }
}

/// What to do about a table that both sides changed and that cannot be merged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MergeChoice {
    /// Merge nothing at all.
    #[default]
    Fail,
    /// Keep the whole table as the target has it.
    Ours,
    /// Take the whole table as the source has it.
    Theirs,
}

/// How a merge ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MergeReport {
    /// What happened to the target.
    pub outcome: MergeOutcome,
    /// The target's head afterwards.
    #[schema(value_type = String)]
    pub commit: CommitId,
    /// The nearest commit that both sides come from.
    #[schema(value_type = Option<String>)]
    pub base: Option<CommitId>,
    /// The tables that changed in the target.
    #[schema(value_type = Vec<String>)]
    pub tables: Vec<TableName>,
    /// The tables that both sides changed, and what was made of them.
    #[serde(default)]
    pub merged: Vec<MergedTable>,
    /// The conflicts, where there are any; then nothing was changed.
    #[serde(default)]
    pub conflicts: Vec<MergeConflict>,
    /// Where the target is up to date: the newest commit of the target that undid changes of the source.
    /// Undoing that commit brings them back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undone_by: Option<Commit>,
}

/// What a merge did to its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MergeOutcome {
    /// The target had everything already.
    UpToDate,
    /// The target had not moved: it now stands at the source.
    FastForward,
    /// A commit with two parents.
    Merged,
    /// Nothing: both sides changed the same tables.
    Conflict,
}

/// A table that both sides changed, and that was merged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MergedTable {
    /// The table.
    #[schema(value_type = String)]
    pub table: TableName,
    /// How.
    pub how: MergedHow,
    /// Rows that the target gained, in files that it took over whole or wrote anew.
    #[serde(default)]
    pub rows_added: u64,
    /// Rows that the target lost.
    #[serde(default)]
    pub rows_removed: u64,
    /// Whether both are rows of whole files, those among them that were only written again.
    #[serde(default)]
    pub whole_files: bool,
    /// Data files taken from the source.
    #[serde(default)]
    pub files_added: u64,
    /// Data files of the target that went.
    #[serde(default)]
    pub files_removed: u64,
    /// Whether the target's columns, partitions or properties changed.
    #[serde(default)]
    pub reshaped: bool,
    /// Why it could not be merged by content, where a side was chosen instead.
    #[serde(default)]
    pub causes: Vec<ConflictCause>,
}

/// How a table that both sides changed was merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MergedHow {
    /// Both sides' changes are there.
    ByContent,
    /// The target's table was kept, as was chosen.
    Ours,
    /// The source's table was taken, as was chosen.
    Theirs,
}

/// A table that both sides changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MergeConflict {
    /// The table.
    #[schema(value_type = String)]
    pub table: TableName,
    /// The commit of the target that made the conflicting change, or else the last one that changed the
    /// table since the base.
    pub target: Option<Commit>,
    /// Where it took too long to find that commit: the change was made after this commit, and up to
    /// `target`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_after: Option<Commit>,
    /// What the target did, in words: `appended`, `replaced`, `created`, `dropped`, `changed`.
    pub target_change: String,
    /// The same for the source.
    pub source: Option<Commit>,
    /// The same for the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_after: Option<Commit>,
    /// What the source did.
    pub source_change: String,
    /// The project whose model makes the table; none for other tables.
    #[serde(default)]
    pub project: Option<String>,
    /// What the two changes cannot have together.
    #[serde(default)]
    pub causes: Vec<ConflictCause>,
}

/// One thing that two changes of a table cannot have together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ConflictCause {
    /// What it is about.
    pub kind: ConflictKind,
    /// The same in words, in which the target and the source of the merge are called so.
    pub message: String,
    /// The data files that it is about, or the first of them.
    #[serde(default)]
    pub files: Vec<String>,
    /// How many data files it is about.
    #[serde(default)]
    pub files_total: u64,
    /// Some of the rows that it is about.
    #[serde(default)]
    #[schema(value_type = Vec<Object>)]
    pub rows: Vec<serde_json::Value>,
    /// How many rows it is about, where they were counted.
    #[serde(default)]
    pub rows_total: Option<u64>,
    /// The same rows with what both sides have in their place, where both changed rows.
    #[serde(default)]
    pub changed: Vec<RowConflict>,
}

/// A row that both sides of a merge changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RowConflict {
    /// Its columns; first those that a side changed.
    pub columns: Vec<ColumnConflict>,
    /// Whether the target removed the row.
    pub target_removed: bool,
    /// Whether the source removed the row.
    pub source_removed: bool,
}

/// A column of a row that both sides of a merge changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ColumnConflict {
    /// The column.
    pub column: String,
    /// Whether either side has another value than the base.
    pub changed: bool,
    /// Its value at the merge base.
    #[schema(value_type = Object)]
    pub base: serde_json::Value,
    /// Its value in the target; null where the target removed the row.
    #[schema(value_type = Object)]
    pub target: serde_json::Value,
    /// Its value in the source; null where the source removed the row.
    #[schema(value_type = Object)]
    pub source: serde_json::Value,
}

/// What changes of a table cannot have together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConflictKind {
    /// One side made the table anew, or both made it.
    Identity,
    /// One side dropped the table.
    Dropped,
    /// Both changed or added a column, differently.
    Column,
    /// Both gave one field id to different columns.
    FieldId,
    /// Rows of one side lack a value that the other side requires.
    Nulls,
    /// Both changes together make no table.
    Shape,
    /// Both changed the partitioning.
    Partitioning,
    /// Both changed the sort order.
    Order,
    /// Both changed the columns that identify a row.
    Identifier,
    /// Both set a property differently.
    Property,
    /// Both changed the query of a view.
    View,
    /// One side replaced all rows, or partitions, in which the other changed rows.
    Replaced,
    /// Both changed the same rows.
    Rows,
    /// Both changed the same files, which have too many rows to compare.
    TooManyRows,
    /// Both changed the same files, whose rows cannot be compared.
    Incomparable,
    /// Both have the change of a commit that was picked, and which rows are its is not known any more.
    Picked,
    /// Both imported the same files.
    Imports,
    /// Crosswise merges of both sides settled the table differently.
    Bases,
    /// The table is only merged as a whole, since checks that passed would not hold for a mixture.
    Checked,
}
