//! What a commit holds of a table, and what it changes.

use std::collections::BTreeMap;

use headwater_model::{ChangeKind, Namespace, TableName};
use headwater_store::Batch;
use serde::{Deserialize, Serialize};

/// What the last change did to a table, in the words conflicts are told in.
pub mod operation {
    /// The table was made.
    pub const CREATED: &str = "created";
    /// Rows were added.
    pub const APPENDED: &str = "appended";
    /// All rows, or all rows of some partitions, were put in place of others.
    pub const REPLACED: &str = "replaced";
    /// Anything else, such as a new column, or some rows.
    pub const CHANGED: &str = "changed";
    /// The table was removed; no entry says so, since there is none.
    pub const DROPPED: &str = "dropped";
}

/// What a name in a commit stands for. A table and a view cannot have the same name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    /// A table.
    #[default]
    Table,
    /// A view: a query under a name.
    View,
}

impl EntryKind {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
    fn is_table(&self) -> bool {
        *self == EntryKind::Table
    }
}

/// A table, or a view, in a commit: which it is, and where its state lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableEntry {
    /// A table or a view.
    #[serde(default, skip_serializing_if = "EntryKind::is_table")]
    pub kind: EntryKind,
    /// Iceberg's table id, or view id.
    pub id: String,
    /// The Iceberg metadata file.
    pub metadata_location: String,
    /// The current snapshot; none for a table that never held a row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<i64>,
    /// What the last change did: one of [`operation`].
    pub operation: String,
}

impl TableEntry {
    /// Whether it is a view.
    pub fn is_view(&self) -> bool {
        self.kind == EntryKind::View
    }
}

/// A table that differs, or is to differ, between two states.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableChange {
    /// The table.
    pub table: TableName,
    /// Before; none where there was no such table.
    pub from: Option<TableEntry>,
    /// After; none where there is no such table any more.
    pub to: Option<TableEntry>,
}

impl TableChange {
    /// Added, removed or changed.
    pub fn kind(&self) -> ChangeKind {
        match (&self.from, &self.to) {
            (None, _) => ChangeKind::Added,
            (_, None) => ChangeKind::Removed,
            _ => ChangeKind::Changed,
        }
    }

    /// The change in a word: `created`, `appended`, `replaced`, `changed`, `dropped`.
    pub fn word(&self) -> &str {
        match (&self.from, &self.to) {
            (_, None) => operation::DROPPED,
            (None, Some(_)) => operation::CREATED,
            (Some(from), Some(to)) if from.id != to.id => operation::REPLACED,
            (_, Some(to)) => &to.operation,
        }
    }
}

/// A namespace to make or to remove.
#[derive(Debug, Clone, PartialEq)]
pub enum NamespaceChange {
    /// Make it, and the outer namespaces that are missing; an error where it exists.
    Create(Namespace),
    /// Set some of its properties, and remove others; an error where it is not there.
    Update {
        /// Its name.
        name: String,
        /// The properties to set.
        updates: BTreeMap<String, String>,
        /// The properties to remove.
        removals: Vec<String>,
    },
    /// Remove it; an error where it is not there, or holds tables or namespaces once the commit's changes
    /// are made.
    Drop(String),
}

/// Asks for a commit.
#[derive(Debug, Clone, Default)]
pub struct CommitRequest {
    /// The branch to commit to.
    pub branch: String,
    /// The tables to change. Each `from` must be what the branch holds when the commit is made.
    pub changes: Vec<TableChange>,
    /// The namespaces to make, before the tables are changed, and to remove, after.
    pub namespaces: Vec<NamespaceChange>,
    /// Who makes it.
    pub author: String,
    /// Its message; the first line is the subject.
    pub message: String,
    /// Anything else to keep with it.
    pub properties: BTreeMap<String, String>,
    /// A direct write, which a protected branch refuses.
    pub direct: bool,
    /// What stands or falls with the commit: journal entries, unique keys, other refs.
    pub with: Batch,
}
