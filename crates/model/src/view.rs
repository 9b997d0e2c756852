//! SQL views in the HTTP API.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Column, TableName, Timestamp};

/// A view at a ref: a named query.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SqlView {
    /// The view's name, without the default namespace.
    #[schema(value_type = String)]
    pub name: TableName,
    /// The view's namespace.
    pub namespace: String,
    /// Iceberg's view id.
    pub id: String,
    /// The columns of the query's result at the time the view was created, in order.
    pub columns: Vec<Column>,
    /// The view's query, in one or several dialects.
    pub queries: Vec<ViewQuery>,
    /// The default namespace of the view's query.
    pub default_namespace: String,
    /// The version number of the view's definition. Each change of the query creates a new version.
    pub version: i32,
    /// The time at which this version was created.
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
