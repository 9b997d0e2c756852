//! Tables and namespaces, as they are listed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{TableName, Timestamp};

/// A table at a ref.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Table {
    /// Its name, without the default namespace.
    #[schema(value_type = String)]
    pub name: TableName,
    /// The namespace it lies in.
    pub namespace: String,
    /// Iceberg's table id.
    pub id: String,
    /// Its columns, in order.
    pub columns: Vec<Column>,
    /// Its partition fields, in order.
    pub partition: Vec<PartitionField>,
    /// Rows in the current snapshot.
    pub rows: u64,
    /// Data files in the current snapshot.
    pub files: u64,
    /// Bytes of those files.
    pub bytes: u64,
    /// The current Iceberg snapshot; none for a table that never held a row.
    pub snapshot: Option<i64>,
    /// When that snapshot was made.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub updated: Option<Timestamp>,
    /// The Iceberg metadata file, which any engine can open.
    pub metadata_location: String,
    /// Iceberg's table properties.
    #[serde(default)]
    pub properties: BTreeMap<String, String>,
    /// When upkeep looked after it last on this branch, and what came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upkeep: Option<Box<crate::TableUpkeep>>,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type, as Iceberg writes it: `long`, `timestamptz`, `decimal(10, 2)`.
    #[serde(rename = "type")]
    pub data_type: String,
    /// Whether it may hold nulls.
    pub nullable: bool,
    /// Iceberg's field id.
    pub field_id: i32,
}

/// A partition field: a column and how it is transformed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PartitionField {
    /// The source column.
    pub column: String,
    /// How its values become partition values.
    pub transform: Transform,
}

/// An Iceberg partition transform.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Transform {
    /// The value itself.
    Identity,
    /// The day of a date or timestamp.
    Day,
}

impl std::fmt::Display for PartitionField {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.transform {
            Transform::Identity => f.write_str(&self.column),
            Transform::Day => write!(f, "day({})", self.column),
        }
    }
}

impl std::str::FromStr for PartitionField {
    type Err = crate::name::NameError;

    /// Reads `column` or `day(column)`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let (transform, column) = match text.split_once('(') {
            None => (Transform::Identity, text),
            Some((name, rest)) if name.eq_ignore_ascii_case("day") && rest.ends_with(')') => {
                (Transform::Day, rest[..rest.len() - 1].trim())
            }
            Some(_) => {
                let reason = "a partition is `column` or `day(column)`";
                return Err(crate::name::NameError {
                    name: text.into(),
                    what: "partition",
                    reason,
                });
            }
        };
        if column.is_empty() {
            let reason = "it names no column";
            return Err(crate::name::NameError { name: text.into(), what: "partition", reason });
        }
        Ok(PartitionField { column: column.to_owned(), transform })
    }
}

/// A namespace at a ref.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Namespace {
    /// Its name.
    pub name: String,
    /// Its properties.
    #[serde(default)]
    pub properties: BTreeMap<String, String>,
}

/// Asks for a new namespace.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct CreateNamespace {
    /// Its name.
    pub name: String,
}
