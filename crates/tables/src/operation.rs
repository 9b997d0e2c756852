//! What can be asked of a table: to be made, and to be changed.

use std::collections::BTreeMap;

use arrow::datatypes::{Field, SchemaRef};
use headwater_model::{PartitionField, TableName};

use crate::Staged;

/// Asks for a new table.
#[derive(Debug, Clone)]
pub struct CreateTable {
    /// Its name; only the folder's name comes from it, the catalog holds the name itself.
    pub name: TableName,
    /// Its columns, as [`crate::normalise_schema`] makes them.
    pub schema: SchemaRef,
    /// Its partition fields, in order.
    pub partition: Vec<PartitionField>,
    /// Iceberg's table properties.
    pub properties: BTreeMap<String, String>,
}

/// One change of one table. Each makes one new metadata file.
#[derive(Debug, Clone)]
pub enum Operation {
    /// Adds rows.
    Append(Staged),
    /// Replaces all rows.
    Overwrite(Staged),
    /// Replaces the rows of every partition that the new rows fall into; all rows of a table
    /// without partitions.
    OverwritePartitions(Staged),
    /// Replaces columns, partition fields and all rows. The rows are written for the table that
    /// [`crate::Tables::replacement`] gives.
    Replace {
        /// The new columns.
        schema: SchemaRef,
        /// The new partition fields.
        partition: Vec<PartitionField>,
        /// The new rows.
        staged: Staged,
    },
    /// Adds columns that may be null, after the last.
    AddColumns(Vec<Field>),
    /// Sets table properties; others stay.
    SetProperties(BTreeMap<String, String>),
}
