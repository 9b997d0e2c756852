//! The objects that the catalogs describe, and the rows of each catalog table.

use std::collections::{HashMap, HashSet};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::json::ReaderBuilder;
use headwater_connections::ConnectionState;
use headwater_model::TableName;
use serde_json::Value;

use crate::catalog_tables::{CATALOG_TABLES, CatalogTable};
use crate::{information_schema, pg_catalog};

/// The first OID for user objects; PostgreSQL reserves lower OIDs.
const FIRST_OID: u32 = 16_384;

/// A table or view.
#[derive(Debug, Clone)]
pub struct Relation {
    /// The name of the table or view.
    pub name: TableName,
    /// The query of a view, as text; `None` for a table.
    pub query: Option<String>,
    /// The number of rows, if known.
    pub rows: Option<u64>,
    /// The columns.
    pub columns: SchemaRef,
}

/// The objects at a ref that a user may see.
#[derive(Debug, Clone)]
pub struct VisibleObjects {
    /// The ref, which PostgreSQL clients see as the database of the connection.
    pub database: String,
    /// All databases: the branches.
    pub databases: Vec<String>,
    /// The name of the user.
    pub user: String,
    /// The namespaces.
    pub namespaces: Vec<String>,
    /// The tables and views.
    pub relations: Vec<Relation>,
    /// The connections that the user may see.
    pub connections: Vec<ConnectionState>,
}

/// Returns the namespace and name of each catalog table whose name the text of a statement
/// contains. A statement cannot read a catalog table whose name its text does not contain.
pub fn mentioned(sql: &str) -> Vec<(&'static str, &'static str)> {
    let text = sql.to_ascii_lowercase();
    if !text.contains(pg_catalog::NAMESPACE) && !text.contains(information_schema::NAMESPACE) {
        return Vec::new();
    }
    let tables = CATALOG_TABLES.iter().filter(|table| text.contains(table.name));
    tables.map(|table| (table.namespace, table.name)).collect()
}

impl VisibleObjects {
    /// Returns a catalog table by its namespace and name: its columns and its rows.
    pub fn table(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<(SchemaRef, Vec<RecordBatch>)>, ArrowError> {
        let Some(table) = CatalogTable::find(namespace, name) else { return Ok(None) };
        let CatalogTable { namespace, name, .. } = *table;
        let schema = table.schema();
        let rows = if namespace == pg_catalog::NAMESPACE {
            pg_catalog::rows(self, name)
        } else {
            information_schema::rows(self, name)
        };
        let batches = batches(&schema, &rows)?;
        Ok(Some((schema, batches)))
    }

    /// Assigns an OID to each namespace, table and view. An OID depends only on the name, except if
    /// two names have the same hash.
    pub(crate) fn oids(&self) -> Oids {
        let mut oids = Oids::default();
        for namespace in &self.namespaces {
            oids.add(namespace.clone());
        }
        for relation in &self.relations {
            oids.add(relation.name.to_string());
        }
        oids
    }
}

/// The OIDs of objects, by name.
#[derive(Debug, Default)]
pub(crate) struct Oids {
    by_name: HashMap<String, u32>,
    used: HashSet<u32>,
}

impl Oids {
    fn add(&mut self, name: String) {
        let mut oid = oid_of(&name);
        while !self.used.insert(oid) {
            oid = FIRST_OID + (oid + 1) % (i32::MAX as u32 - FIRST_OID);
        }
        self.by_name.insert(name, oid);
    }

    /// Returns the OID of a namespace.
    pub(crate) fn namespace(&self, name: &str) -> u32 {
        self.by_name.get(name).copied().unwrap_or_default()
    }

    /// Returns the OID of a table or view.
    pub(crate) fn relation(&self, name: &TableName) -> u32 {
        self.by_name.get(&name.to_string()).copied().unwrap_or_default()
    }
}

/// Returns the OID that the hash of a name determines. Two names can have the same hash; [`Oids`]
/// then assigns another OID to one of them.
pub(crate) fn oid_of(name: &str) -> u32 {
    FIRST_OID + hash(name) % (i32::MAX as u32 - FIRST_OID)
}

/// Computes the FNV-1a hash, which is the same in every process.
fn hash(text: &str) -> u32 {
    let step = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(16_777_619);
    text.bytes().fold(2_166_136_261, step)
}

fn batches(schema: &SchemaRef, rows: &[Value]) -> Result<Vec<RecordBatch>, ArrowError> {
    let builder = ReaderBuilder::new(schema.clone()).with_batch_size(rows.len().max(1));
    let mut decoder = builder.build_decoder()?;
    decoder.serialize(rows)?;
    Ok(decoder.flush()?.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::AsArray;
    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;

    fn contents() -> VisibleObjects {
        let columns = Schema::new(vec![
            Field::new("id", DataType::Int64, false),
            Field::new("price", DataType::Decimal128(10, 2), true),
        ]);
        let name = TableName { namespace: "public".into(), name: "orders".into() };
        let relation = Relation { name, query: None, rows: Some(3), columns: Arc::new(columns) };
        VisibleObjects {
            database: "main".into(),
            databases: vec!["main".into()],
            user: "ann".into(),
            namespaces: vec!["public".into()],
            relations: vec![relation],
            connections: Vec::new(),
        }
    }

    #[test]
    fn every_catalog_table_has_rows_of_its_schema() {
        let contents = contents();
        for table in CATALOG_TABLES {
            let found = contents.table(table.namespace, table.name);
            let (schema, batches) = found.expect(table.name).expect(table.name);
            assert!(batches.iter().all(|batch| batch.schema() == schema), "{}", table.name);
            let is_empty = batches.iter().all(|batch| batch.num_rows() == 0);
            assert!(!table.is_always_empty || is_empty, "{}", table.name);
        }
    }

    #[test]
    fn columns_have_their_sql_types() {
        let contents = contents();
        let found = contents.table("information_schema", "columns");
        let (_, batches) = found.expect("rows").expect("a table");
        let types = batches[0].column_by_name("data_type").expect("a column");
        assert_eq!(types.as_string::<i32>().value(1), "numeric");
    }

    #[test]
    fn only_mentioned_tables_are_read() {
        assert_eq!(mentioned("SELECT 'pg_class'"), []);
        let found = mentioned("SELECT * FROM PG_CATALOG.pg_attribute");
        assert_eq!(found, [("pg_catalog", "pg_attribute")]);
    }
}
