//! Creation and changes of tables through Iceberg's REST catalog. Requests use the types of its
//! specification; the `iceberg` crate's builder creates the next metadata.
//!
//! [`NewTable`] creates a table, [`TableCommit`] changes one: it consists of requirements and
//! updates. The files of a commit were written by a client. So each must be in the warehouse and
//! readable, and is made durable before the commit is accepted.

mod apply;
mod create;
mod files;
mod limits;
mod register;
mod scan;
mod show;
mod taken;
mod view;

use std::collections::HashMap;

use iceberg::spec::{
    FormatVersion, Operation, Schema, Snapshot, SortOrder, TableMetadata, UnboundPartitionSpec,
};
use iceberg::{TableRequirement, TableUpdate};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::commit::evolve;
use crate::defaults::is_writable;
use crate::metadata::unread_default;
use crate::{Error, Result, Table, foreign_types};

pub(crate) use apply::apply;
pub use limits::CommitLimits;
pub use scan::{Condition, Filter, Scan, ScanPage, ScanRequest, Test};
pub use view::{NewView, ViewCommit};

/// A request to create a table.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct NewTable {
    /// The name, without the namespace.
    pub name: String,
    /// The location; a new folder by default.
    pub location: Option<String>,
    #[serde(deserialize_with = "schema_without_loss")]
    schema: Schema,
    partition_spec: Option<UnboundPartitionSpec>,
    write_order: Option<SortOrder>,
    /// If true, the table is not created but returned for a later commit that creates it.
    #[serde(default)]
    pub stage_create: bool,
    #[serde(default)]
    properties: HashMap<String, String>,
}

/// A request to change a table.
#[derive(Debug, Clone, Deserialize)]
pub struct TableCommit {
    requirements: Vec<TableRequirement>,
    #[serde(deserialize_with = "updates_without_loss")]
    updates: Vec<TableUpdate>,
    /// Set by the service, never by a client.
    #[serde(skip)]
    limits: CommitLimits,
}

/// Deserializes a schema; fails if a part of it is not supported.
fn schema_without_loss<'de, D: Deserializer<'de>>(
    from: D,
) -> std::result::Result<Schema, D::Error> {
    let mut written = Value::deserialize(from)?;
    foreign_types::hide(&mut written).map_err(D::Error::custom)?;
    let read = Schema::deserialize(&written).map_err(D::Error::custom)?;
    check_read(&written, &read)?;
    Ok(read)
}

/// Deserializes updates; fails if a part of their schemas is not supported.
fn updates_without_loss<'de, D: Deserializer<'de>>(
    from: D,
) -> std::result::Result<Vec<TableUpdate>, D::Error> {
    let written = Vec::<Value>::deserialize(from)?;
    let read = |mut written: Value| {
        if let Some(schema) = written.get_mut("schema") {
            foreign_types::hide(schema).map_err(D::Error::custom)?;
        }
        let read = TableUpdate::deserialize(&written).map_err(D::Error::custom)?;
        if let TableUpdate::AddSchema { schema } = &read {
            check_read(&written["schema"], schema)?;
        }
        Ok(read)
    };
    written.into_iter().map(read).collect()
}

fn check_read<E: serde::de::Error>(written: &Value, read: &Schema) -> std::result::Result<(), E> {
    match unread_default(written, read) {
        None => Ok(()),
        Some(column) => {
            Err(E::custom(format!("the default of column `{column}` is not supported")))
        }
    }
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

    /// Returns true if the commit only appends rows, false if it changes some, none if it adds no
    /// snapshot.
    pub fn appends(&self) -> Option<bool> {
        let operations = self.added().map(|snapshot| &snapshot.summary().operation);
        operations.map(|operation| *operation == Operation::Append).reduce(|all, one| all && one)
    }

    /// Returns the new field ids in the commit's schemas.
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

    /// Adjusts the commit for a client that was sent `shown` as the last column id, which is the
    /// maximum over all branches.
    #[must_use]
    pub fn as_shown(mut self, shown: i32, table: &Table) -> Self {
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

    /// Returns true if the commit adds snapshots.
    pub fn adds(&self) -> bool {
        self.added().next().is_some()
    }

    /// Checks the commit's requirements on a table.
    pub fn check_on(&self, table: &Table) -> Result<()> {
        self.check(Some(table.metadata()))
    }

    /// Returns true if the table already contains the commit's snapshots, because the same commit
    /// was applied before.
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

    fn added(&self) -> impl Iterator<Item = &Snapshot> {
        self.updates.iter().filter_map(|update| match update {
            TableUpdate::AddSnapshot { snapshot } => Some(snapshot),
            _ => None,
        })
    }
}

/// Converts an error of the metadata builder.
fn rejected(error: &iceberg::Error) -> Error {
    Error::Refused { reason: decapitalised(error.message()) }
}

/// Rejects a table that could not be changed any further.
fn check_table(metadata: &TableMetadata) -> Result<()> {
    check_defaults(metadata)?;
    evolve::check_table(metadata).map_err(|error| Error::Refused { reason: error.to_string() })
}

/// Rejects defaults that metadata cannot represent.
fn check_defaults(metadata: &TableMetadata) -> Result<()> {
    for schema in metadata.schemas_iter() {
        for field in schema.field_id_to_fields().values() {
            let mut all = [&field.initial_default, &field.write_default].into_iter().flatten();
            if !all.all(|default| is_writable(default, &field.field_type)) {
                let reason =
                    format!("the default of column `{}` cannot be represented", field.name);
                return Err(Error::Refused { reason });
            }
        }
    }
    Ok(())
}

fn decapitalised(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().map(|first| first.to_lowercase().to_string());
    first.unwrap_or_default() + characters.as_str()
}

/// The pseudo-property that selects the format version; it is not stored as a property.
const FORMAT_VERSION: &str = "format-version";

/// Removes the format version from properties and returns it.
fn take_format_version(properties: &mut HashMap<String, String>) -> Result<Option<FormatVersion>> {
    let Some(version) = properties.remove(FORMAT_VERSION) else { return Ok(None) };
    match version.as_str() {
        "1" => Ok(Some(FormatVersion::V1)),
        "2" => Ok(Some(FormatVersion::V2)),
        "3" => Ok(Some(FormatVersion::V3)),
        _ => Err(Error::Refused { reason: format!("format version `{version}` is not supported") }),
    }
}
