//! A request to change a table.

use headwater_tables::{Result, Table};
use iceberg::spec::{Operation, Snapshot};
use iceberg::{TableRequirement, TableUpdate};
use serde::Deserialize;

use crate::CommitConstraints;
use crate::schema_input::updates_without_loss;

/// A request to change a table.
#[derive(Debug, Clone, Deserialize)]
pub struct TableCommit {
    pub(crate) requirements: Vec<TableRequirement>,
    #[serde(deserialize_with = "updates_without_loss")]
    pub(crate) updates: Vec<TableUpdate>,
    /// The constraints on the commit, which the service sets. A client's request cannot set them.
    #[serde(skip)]
    pub(crate) constraints: CommitConstraints,
}

impl TableCommit {
    /// Returns true if the commit creates the table.
    pub fn creates(&self) -> bool {
        self.requirements.contains(&TableRequirement::NotExist)
    }

    /// Returns true if the commit has no updates.
    pub fn is_empty(&self) -> bool {
        self.updates.is_empty()
    }

    /// Returns true if all new snapshots only append rows, false if one changes rows, and `None` if
    /// the commit adds no snapshot.
    pub fn appends(&self) -> Option<bool> {
        let operations = self.added().map(|snapshot| &snapshot.summary().operation);
        operations.map(|operation| *operation == Operation::Append).reduce(|all, one| all && one)
    }

    /// Returns the field ids in the commit's schemas that the table does not have.
    pub fn new_columns(&self, table: &Table) -> Vec<i32> {
        let known = |id: &i32| {
            table.metadata().schemas_iter().any(|schema| schema.field_by_id(*id).is_some())
        };
        let added = self.updates.iter().filter_map(|update| match update {
            TableUpdate::AddSchema { schema } => Some(schema),
            _ => None,
        });
        let ids = added.flat_map(|schema| schema.field_id_to_name_map().keys().copied());
        ids.filter(|id| !known(id)).collect()
    }

    /// Adjusts the requirement that the last column id is unchanged. Clients receive `shown`, the
    /// largest column id on all branches, as the last column id. The requirement is compared with
    /// the last column id in the table's own metadata, so `shown` is replaced by that id.
    #[must_use]
    pub fn with_shown_column_id(mut self, shown: i32, table: &Table) -> Self {
        for requirement in &mut self.requirements {
            if let TableRequirement::LastAssignedFieldIdMatch { last_assigned_field_id } =
                requirement
                && *last_assigned_field_id == shown
            {
                *last_assigned_field_id = table.last_column_id();
            }
        }
        self
    }

    /// Returns true if the commit adds at least one snapshot.
    pub fn adds(&self) -> bool {
        self.added().next().is_some()
    }

    /// Checks the commit's requirements on a table.
    pub fn check_on(&self, table: &Table) -> Result<()> {
        self.check(Some(table.metadata()))
    }

    /// Returns true if the table already contains the commit's snapshots, that is, if the same
    /// commit was applied before.
    pub fn is_in(&self, table: &Table) -> bool {
        let metadata = table.metadata();
        let is_other = |requirement: &TableRequirement| match requirement {
            TableRequirement::UuidMatch { uuid } => *uuid != metadata.uuid(),
            _ => false,
        };
        if self.requirements.iter().any(is_other) {
            return false;
        }
        let is_there = |snapshot: &Snapshot| {
            let found = metadata.snapshot_by_id(snapshot.snapshot_id());
            found.is_some_and(|found| found.manifest_list() == snapshot.manifest_list())
        };
        let is_made = |update: &TableUpdate| match update {
            TableUpdate::AssignUuid { uuid } => *uuid == metadata.uuid(),
            _ => false,
        };
        match self.added().map(is_there).reduce(|all, one| all && one) {
            Some(all) => all,
            None => self.creates() && self.updates.iter().any(is_made),
        }
    }

    pub(crate) fn added(&self) -> impl Iterator<Item = &Snapshot> {
        self.updates.iter().filter_map(|update| match update {
            TableUpdate::AddSnapshot { snapshot } => Some(snapshot),
            _ => None,
        })
    }
}
