//! Tables as other engines change them through Iceberg's REST catalog: what they ask for, in the words of
//! its specification, made into the next metadata file by the `iceberg` crate's own builder.
//!
//! [`NewTable`] asks for a table, [`TableCommit`] for a change of one: requirements that must hold, and
//! updates. The files that a change brings were written by somebody else. So each of them must lie in the
//! warehouse, be what the table can be read from, and is on disk before the change is taken.

mod apply;
mod create;
mod files;
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
pub use scan::{Condition, Filter, Scan, ScanPage, ScanRequest, Test};
pub use view::{NewView, ViewCommit};

/// Asks for a new table.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct NewTable {
    /// Its name, without its namespace.
    pub name: String,
    /// Where it is to lie; a new folder where nothing is said.
    pub location: Option<String>,
    #[serde(deserialize_with = "whole_schema")]
    schema: Schema,
    partition_spec: Option<UnboundPartitionSpec>,
    write_order: Option<SortOrder>,
    /// Whether it is only to be described, for a commit that makes it.
    #[serde(default)]
    pub stage_create: bool,
    #[serde(default)]
    properties: HashMap<String, String>,
}

/// Asks for a change of a table.
#[derive(Debug, Clone, Deserialize)]
pub struct TableCommit {
    requirements: Vec<TableRequirement>,
    #[serde(deserialize_with = "whole_updates")]
    updates: Vec<TableUpdate>,
}

/// A schema of which nothing was lost when it was read.
fn whole_schema<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Schema, D::Error> {
    let mut written = Value::deserialize(from)?;
    foreign_types::hide(&mut written).map_err(D::Error::custom)?;
    let read = Schema::deserialize(&written).map_err(D::Error::custom)?;
    check_read(&written, &read)?;
    Ok(read)
}

/// Updates whose schemas lost nothing when they were read.
fn whole_updates<'de, D: Deserializer<'de>>(
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
    /// Whether it makes the table.
    pub fn creates(&self) -> bool {
        self.requirements.contains(&TableRequirement::NotExist)
    }

    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.updates.is_empty()
    }

    /// What it does to the rows: adds some (`true`), changes some (`false`), or nothing.
    pub fn appends(&self) -> Option<bool> {
        let operations = self.added().map(|snapshot| &snapshot.summary().operation);
        operations.map(|operation| *operation == Operation::Append).reduce(|all, one| all && one)
    }

    /// The ids that it gives to columns that a table never had.
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

    /// The commit for a client that was shown `shown` as the last field id of a table that has another.
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

    /// Whether it adds snapshots.
    pub fn adds(&self) -> bool {
        self.added().next().is_some()
    }

    /// Fails where a table is not as the commit requires.
    pub fn check_on(&self, table: &Table) -> Result<()> {
        self.check(Some(table.metadata()))
    }

    /// Whether a table has all that this brings: the same commit was made before.
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

/// What the builder does not take.
fn refused(error: &iceberg::Error) -> Error {
    Error::Refused { reason: decapitalised(error.message()) }
}

/// Refuses a table that could be changed no further: a change that made it so would be the last.
fn check_table(metadata: &TableMetadata) -> Result<()> {
    check_defaults(metadata)?;
    evolve::check_table(metadata).map_err(|error| Error::Refused { reason: error.to_string() })
}

/// Refuses defaults that no metadata file could hold.
fn check_defaults(metadata: &TableMetadata) -> Result<()> {
    for schema in metadata.schemas_iter() {
        for field in schema.field_id_to_fields().values() {
            let mut all = [&field.initial_default, &field.write_default].into_iter().flatten();
            if !all.all(|default| is_writable(default, &field.field_type)) {
                let reason = format!("the default of column `{}` cannot be kept", field.name);
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

/// The key under which properties ask for a format version; no table keeps it as a property.
const FORMAT_VERSION: &str = "format-version";

/// Takes the format version out of properties.
fn take_version(properties: &mut HashMap<String, String>) -> Result<Option<FormatVersion>> {
    let Some(version) = properties.remove(FORMAT_VERSION) else { return Ok(None) };
    match version.as_str() {
        "1" => Ok(Some(FormatVersion::V1)),
        "2" => Ok(Some(FormatVersion::V2)),
        "3" => Ok(Some(FormatVersion::V3)),
        _ => Err(Error::Refused { reason: format!("there is no format version `{version}`") }),
    }
}
