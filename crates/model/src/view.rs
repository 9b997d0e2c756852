//! SQL views in the HTTP API.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Column, TableName, Timestamp};

/// A view at a ref: a named query.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SqlView {
    /// Its name, without the default namespace.
    #[schema(value_type = String)]
    pub name: TableName,
    /// The namespace.
    pub namespace: String,
    /// Iceberg's view id.
    pub id: String,
    /// The columns of the query's result at the time the view was created, in order.
    pub columns: Vec<Column>,
    /// Its query, in one or several dialects.
    pub queries: Vec<ViewQuery>,
    /// The default namespace of its query.
    pub default_namespace: String,
    /// The version number of its definition; each change of the query creates a new version.
    pub version: i32,
    /// The time of this version.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub updated: Option<Timestamp>,
    /// The location of the Iceberg metadata file.
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
