//! Views, as they are listed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Column, TableName, Timestamp};

/// A view at a ref: a query under a name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SqlView {
    /// Its name, without the default namespace.
    #[schema(value_type = String)]
    pub name: TableName,
    /// The namespace it lies in.
    pub namespace: String,
    /// Iceberg's view id.
    pub id: String,
    /// The columns that its query answered when it was made, in order.
    pub columns: Vec<Column>,
    /// Its query, in one or several dialects.
    pub queries: Vec<ViewQuery>,
    /// Where the tables lie that its query names without a namespace.
    pub default_namespace: String,
    /// The number of its version; each other query makes another.
    pub version: i32,
    /// When that was made.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub updated: Option<Timestamp>,
    /// The Iceberg metadata file.
    pub metadata_location: String,
    /// Iceberg's view properties.
    #[serde(default)]
    pub properties: BTreeMap<String, String>,
}

/// A view's query in one dialect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ViewQuery {
    /// The dialect of SQL: `headwater`, `spark`, `trino`.
    pub dialect: String,
    /// The query.
    pub sql: String,
}
