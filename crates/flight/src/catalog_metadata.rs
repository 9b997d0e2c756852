//! Catalogs, schemas and tables, as far as the client may see them. Each branch is a catalog, and
//! each namespace a schema.

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow_flight::sql::{
    CommandGetCatalogs, CommandGetDbSchemas, CommandGetTableTypes, CommandGetTables,
};
use headwater_model::ResultExt;
use headwater_service::PreparedStatement;
use serde_json::json;
use tonic::{Code, Status};

use crate::caller::{Caller, parse_ref};
use crate::grpc_status::{internal, to_status};
use crate::statement::{FlightState, StatementSource};

/// The types of tables: the name in `information_schema`, and the name in the protocol.
const TABLE_TYPES: [(&str, &str); 2] = [("BASE TABLE", "TABLE"), ("VIEW", "VIEW")];

/// The branches that the client may see.
const CATALOGS: &str = "SELECT datname FROM pg_catalog.pg_database";

/// The tables whose namespaces and names match patterns.
const TABLES: &str = "SELECT table_schema, table_name, table_type FROM information_schema.tables \
    WHERE table_schema LIKE $1 AND table_name LIKE $2";

impl FlightState {
    /// Returns the catalogs: the branches, and the ref of the client.
    pub async fn catalogs(
        &self,
        caller: &Caller,
        command: CommandGetCatalogs,
    ) -> Result<RecordBatch, Status> {
        let mut builder = command.into_builder();
        let rows = self.texts(caller, CATALOGS, &[]).await?;
        let mut names: Vec<String> = rows.into_iter().flatten().collect();
        let own = caller.reference.to_string();
        if !names.contains(&own) {
            names.push(own);
        }
        for name in names {
            builder.append(name);
        }
        builder.build().map_err(internal)
    }

    /// Returns the namespaces at a ref.
    pub async fn schemas(
        &self,
        caller: &Caller,
        command: CommandGetDbSchemas,
    ) -> Result<RecordBatch, Status> {
        let named = command.catalog.clone();
        let pattern = pattern(command.db_schema_filter_pattern.as_ref());
        let mut builder = command.into_builder();
        let Some((catalog, caller)) = at_catalog(caller, named.as_deref()) else {
            return builder.build().map_err(internal);
        };
        let sql = "SELECT schema_name FROM information_schema.schemata WHERE schema_name LIKE $1";
        let rows = self.texts(&caller, sql, &[pattern]).await;
        for name in known(named.as_deref(), rows)?.into_iter().flatten() {
            builder.append(&catalog, name);
        }
        builder.build().map_err(internal)
    }

    /// Returns the tables and views at a ref, with their columns if the client requests them.
    pub async fn tables(
        &self,
        caller: &Caller,
        command: CommandGetTables,
    ) -> Result<RecordBatch, Status> {
        let named = command.catalog.clone();
        let patterns = [
            pattern(command.db_schema_filter_pattern.as_ref()),
            pattern(command.table_name_filter_pattern.as_ref()),
        ];
        let mut builder = command.into_builder();
        let Some((catalog, caller)) = at_catalog(caller, named.as_deref()) else {
            return builder.build().map_err(internal);
        };
        let rows = self.texts(&caller, TABLES, &patterns).await;
        for row in known(named.as_deref(), rows)? {
            let [schema, name, kind] = row.as_slice() else { continue };
            let kind = TABLE_TYPES.iter().find(|(known, _)| known == kind);
            let kind = kind.map_or("TABLE", |(_, kind)| kind);
            let columns = if builder.include_schema() {
                self.table_columns(&caller, schema, name).await?
            } else {
                SchemaRef::new(Schema::empty())
            };
            builder.append(&catalog, schema, name, kind, &columns).map_err(internal)?;
        }
        builder.build().map_err(internal)
    }

    /// Returns the columns of a table or view. A view that cannot be planned has none.
    async fn table_columns(
        &self,
        caller: &Caller,
        schema: &str,
        name: &str,
    ) -> Result<SchemaRef, Status> {
        let parts: Vec<String> = schema.split('.').chain([name]).map(quoted).collect();
        let sql = format!("SELECT * FROM {}", parts.join("."));
        let statement = PreparedStatement::parse(&sql).or_problem().map_err(to_status)?;
        let described = self.describe(caller, None, &statement).await;
        let columns = described.ok().and_then(|description| description.columns);
        Ok(columns.unwrap_or_else(|| SchemaRef::new(Schema::empty())))
    }

    /// Runs a query whose columns are texts, with these parameter values, and returns the rows.
    async fn texts(
        &self,
        caller: &Caller,
        sql: &str,
        parameters: &[String],
    ) -> Result<Vec<Vec<String>>, Status> {
        let statement = PreparedStatement::parse(sql).or_problem().map_err(to_status)?;
        let parameters = parameters.iter().enumerate();
        let parameters = parameters.map(|(index, text)| ((index + 1).to_string(), json!(text)));
        let bound = statement.bind(&parameters.collect()).or_problem().map_err(to_status)?;
        let mut rows = self.start(caller, None, StatementSource::Bound(bound), None).await?;
        let mut texts = Vec::new();
        while let Some(batch) = rows.next().await.map_err(to_status)? {
            let columns: Result<Vec<ArrayRef>, _> =
                batch.columns().iter().map(|column| cast(column, &DataType::Utf8)).collect();
            let columns = columns.map_err(internal)?;
            for row in 0..batch.num_rows() {
                let text = |column: &ArrayRef| column.as_string::<i32>().value(row).to_owned();
                texts.push(columns.iter().map(text).collect());
            }
        }
        Ok(texts)
    }
}

/// Returns the types of tables.
pub fn table_types(command: CommandGetTableTypes) -> Result<RecordBatch, Status> {
    let mut builder = command.into_builder();
    for (_, kind) in TABLE_TYPES {
        builder.append(kind);
    }
    builder.build().map_err(internal)
}

/// Returns the name of the catalog in a request, and the client at the ref of this name. A request
/// without a name uses the client's ref. Returns `None` if the name cannot be a ref.
pub fn at_catalog(caller: &Caller, catalog: Option<&str>) -> Option<(String, Caller)> {
    match catalog.filter(|name| !name.is_empty()) {
        Some(name) => Some((name.to_owned(), caller.at(parse_ref(name).ok()?))),
        None => Some((caller.reference.to_string(), caller.clone())),
    }
}

/// Returns the rows of a metadata query. Returns no rows if the request names a catalog that does
/// not exist or that the client may not read.
fn known(
    catalog: Option<&str>,
    rows: Result<Vec<Vec<String>>, Status>,
) -> Result<Vec<Vec<String>>, Status> {
    let is_hidden = |code: Code| matches!(code, Code::NotFound | Code::PermissionDenied);
    match rows {
        Err(status) if catalog.is_some() && is_hidden(status.code()) => Ok(Vec::new()),
        rows => rows,
    }
}

/// Returns the LIKE pattern in a request; by default, a pattern that matches every name.
fn pattern(filter: Option<&String>) -> String {
    filter.cloned().unwrap_or_else(|| "%".to_owned())
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
