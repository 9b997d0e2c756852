//! Row filters and column masks: SQL expressions that limit the rows and values that users read.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{RefSpec, TableName, Timestamp};

/// A row filter or a column mask of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Restriction {
    /// The name, unique in the lake.
    pub name: String,
    /// The name that the table had when the restriction was created.
    #[schema(value_type = String)]
    pub table: TableName,
    /// The Iceberg id of that table, which does not change when the table is renamed.
    pub table_id: String,
    /// The masked column; absent for a row filter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// The SQL expression: the condition for visible rows, or the value shown instead of the
    /// column's value.
    pub using: String,
    /// The columns that the restriction uses, with their Iceberg field ids.
    pub columns: BTreeMap<String, i32>,
    /// The users and roles that are restricted. If empty, the restriction applies to all except
    /// administrators.
    #[serde(default)]
    pub to: Vec<String>,
    /// The time at which the restriction was last changed.
    #[schema(value_type = String, format = DateTime)]
    pub created: Timestamp,
    /// The user that last changed the restriction.
    pub by: String,
}

impl Restriction {
    /// Returns the kind: `row filter` or `column mask`.
    pub fn kind(&self) -> &'static str {
        if self.column.is_some() { "column mask" } else { "row filter" }
    }

    /// Returns true if the restriction applies to the table with this name and id. Either the id or
    /// the name must match; names are compared case-insensitively.
    pub fn is_on(&self, table: &TableName, id: Option<&str>) -> bool {
        id == Some(self.table_id.as_str())
            || (self.table.name.eq_ignore_ascii_case(&table.name)
                && self.table.namespace.eq_ignore_ascii_case(&table.namespace))
    }
}

impl fmt::Display for Restriction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}`", self.kind(), self.name)?;
        match &self.column {
            Some(column) => write!(f, " of column `{column}`"),
            None => Ok(()),
        }
    }
}

/// The restrictions of one table that apply to one user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Restrictions {
    /// The user, as SQL's `current_user` returns it.
    pub user: String,
    /// The user and its roles. SQL's `is_member` returns true for these names.
    pub members: BTreeSet<String>,
    /// The row filters and column masks of the table.
    pub all: Vec<Restriction>,
}

/// A request for a row filter or a column mask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CreateRestriction {
    /// The name, unique in the lake.
    pub name: String,
    /// The table.
    #[schema(value_type = String)]
    pub table: TableName,
    /// The column to mask; null for a row filter.
    #[serde(default)]
    pub column: Option<String>,
    /// The SQL expression: the condition for visible rows, or the value shown instead of the
    /// column's value.
    pub using: String,
    /// The users and roles to restrict. If empty, the restriction applies to all except
    /// administrators.
    #[serde(default)]
    pub to: Vec<String>,
    /// True to replace an existing restriction with this name.
    #[serde(default)]
    pub replace: bool,
    /// The ref at which the table is looked up; `main` by default. The restriction itself applies
    /// at every ref.
    #[serde(default, rename = "ref")]
    #[schema(value_type = Option<String>)]
    pub reference: Option<RefSpec>,
}
