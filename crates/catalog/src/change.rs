//! Table entries of commits, and the changes that a commit makes.

use std::collections::BTreeMap;

use headwater_model::{AccessObject, ChangeKind, Namespace, ObjectOwner, TableName};
use headwater_store::WriteBatch;
use serde::{Deserialize, Serialize};

/// Words for a table's last change, which messages about conflicts show.
pub mod operation {
    /// The table was created.
    pub const CREATED: &str = "created";
    /// Rows were added.
    pub const APPENDED: &str = "appended";
    /// All rows, or all rows of some partitions, were replaced.
    pub const REPLACED: &str = "replaced";
    /// Any other change, such as a new column or updated rows.
    pub const CHANGED: &str = "changed";
    /// The table was dropped. No entry has this value, because a dropped table has no entry.
    pub const DROPPED: &str = "dropped";
}

/// The stored kind of an entry. A table and a view cannot have the same name. A function is stored
/// as a view whose name ends with `()`, so that binaries without functions can read its entry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    /// A table.
    #[default]
    Table,
    /// An SQL view.
    View,
}

impl EntryKind {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "required by serde")]
    fn is_table(&self) -> bool {
        *self == EntryKind::Table
    }
}

/// A table or view in a commit: its identity and the location of its state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableEntry {
    /// Type of the entry: table or view.
    #[serde(default, skip_serializing_if = "EntryKind::is_table")]
    pub kind: EntryKind,
    /// Iceberg's table UUID or view UUID.
    pub id: String,
    /// The location of the Iceberg metadata file.
    pub metadata_location: String,
    /// The current snapshot; `None` for a table without snapshots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<i64>,
    /// The kind of the last change, one of [`operation`].
    pub operation: String,
    /// The user that created the entry; `None` if the lake's owner created it, or an earlier
    /// release. Changes of the table and renames keep the owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<ObjectOwner>,
}

impl TableEntry {
    /// Returns true if the entry is a view or a function. A function is stored as a view.
    pub fn is_view(&self) -> bool {
        self.kind == EntryKind::View
    }

    /// Returns true if the entry is a function. `name` is the name of the entry.
    pub fn is_function(&self, name: &TableName) -> bool {
        self.is_view() && name.function().is_some()
    }

    /// Returns the object on which the rights to the entry are checked, with the entry's owner: a
    /// table, a view, or a function such as `function:sales.tax`. `name` is the name of the entry.
    pub fn object(&self, name: &TableName) -> AccessObject {
        let object = match name.function() {
            Some(own) if self.is_view() => {
                AccessObject::function(&format!("{}.{own}", name.namespace))
            }
            _ if self.is_view() => AccessObject::view(name),
            _ => AccessObject::table(name),
        };
        object.with_owner(self.owner.as_ref())
    }

    /// Returns true if two entries differ at most in their owners. Two branches can have the same
    /// state of a table with different owners, because runs adopt tables of other branches.
    pub(crate) fn has_same_state(&self, other: &TableEntry) -> bool {
        TableEntry { owner: other.owner.clone(), ..self.clone() } == *other
    }
}

/// A difference of one table between two states, or a requested change of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableChange {
    /// The table that differs or is to be changed.
    pub table: TableName,
    /// The entry before the change; `None` for a new table.
    pub from: Option<TableEntry>,
    /// The entry after the change; `None` for a dropped table.
    pub to: Option<TableEntry>,
}

impl TableChange {
    /// Returns the kind: added, removed or changed.
    pub fn kind(&self) -> ChangeKind {
        match (&self.from, &self.to) {
            (None, _) => ChangeKind::Added,
            (_, None) => ChangeKind::Removed,
            _ => ChangeKind::Changed,
        }
    }

    /// Returns true if this is a change of a view or function.
    pub fn is_view(&self) -> bool {
        self.to.as_ref().or(self.from.as_ref()).is_some_and(TableEntry::is_view)
    }

    /// Returns the operation as a word: `created`, `appended`, `replaced`, `changed` or `dropped`.
    pub fn word(&self) -> &str {
        match (&self.from, &self.to) {
            (_, None) => operation::DROPPED,
            (None, Some(_)) => operation::CREATED,
            (Some(from), Some(to)) if from.id != to.id => operation::REPLACED,
            (_, Some(to)) => &to.operation,
        }
    }
}

/// A change of a namespace.
#[derive(Debug, Clone, PartialEq)]
pub enum NamespaceChange {
    /// Creates the namespace and missing outer namespaces. Fails if the namespace exists.
    Create(Namespace),
    /// Sets and removes properties. Fails if the namespace does not exist.
    Update {
        /// The namespace's name.
        name: String,
        /// The properties to set.
        updates: BTreeMap<String, String>,
        /// The properties to remove.
        removals: Vec<String>,
    },
    /// Drops the namespace. Fails if the namespace does not exist, or if it is not empty after the
    /// other changes of the commit.
    Drop(String),
}

/// A request for a commit.
#[derive(Debug, Clone, Default)]
pub struct CommitRequest {
    /// The branch to commit to.
    pub branch: String,
    /// The tables to change. The `from` of each change must equal the branch's current entry.
    pub changes: Vec<TableChange>,
    /// The namespace changes. Namespaces are created before the table changes and dropped after
    /// them.
    pub namespaces: Vec<NamespaceChange>,
    /// The author of the commit.
    pub author: String,
    /// The message; the first line is the subject.
    pub message: String,
    /// Additional properties of the commit.
    pub properties: BTreeMap<String, String>,
    /// True for a direct write, which a protected branch rejects.
    pub direct: bool,
    /// Store changes applied atomically with the commit: journal entries, unique keys, other refs.
    pub with: WriteBatch,
}
