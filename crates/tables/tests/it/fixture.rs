//! A warehouse in a temporary folder, whose tables are filled from JSON rows.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema, SchemaRef};
use futures::{StreamExt, TryStreamExt, stream};
use headwater_model::{FixedClock, PartitionField, TableName};
use headwater_table_rest::{RestTables, TableCommit};
use headwater_tables::{
    BatchStream, CreateTable, Result, StagedFiles, Table, TableOperation, Tables, TablesOptions,
    parse_type,
};
use object_store::local::LocalFileSystem;
use serde_json::Value;
use tempfile::TempDir;

/// Tables in a temporary folder.
pub struct Warehouse {
    folder: TempDir,
    pub tables: Tables,
}

/// The time of the clock in every test, which never changes.
pub fn now() -> headwater_model::Timestamp {
    "2026-11-01T12:00:00Z".parse().unwrap()
}

impl Warehouse {
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    pub fn with(change: impl FnOnce(&mut TablesOptions)) -> Self {
        let folder = TempDir::new().unwrap();
        let tables = open(folder.path(), change);
        Warehouse { folder, tables }
    }

    /// Opens the same folder with empty caches, as another process would.
    pub fn reopened(&self) -> Tables {
        open(self.folder.path(), |_| {})
    }

    /// Returns the local path of a location.
    pub fn file(&self, location: &str) -> PathBuf {
        self.folder.path().join(self.tables.path_of(location).unwrap().as_ref())
    }

    pub async fn create(&self, columns: &[(&str, &str)], partition: &[&str]) -> Table {
        self.tables.create(request(columns, partition)).await.unwrap()
    }

    pub async fn write(&self, table: &Table, rows: Value) -> Result<StagedFiles> {
        self.tables.write(table, stream_of(json_batch(&table.schema(), &rows))).await
    }

    pub async fn append(&self, table: &Table, rows: Value) -> Table {
        let staged = self.write(table, rows).await.unwrap();
        self.commit(table, TableOperation::Append(staged)).await
    }

    pub async fn commit(&self, table: &Table, operation: TableOperation) -> Table {
        self.tables.commit(table, operation, BTreeMap::new()).await.unwrap()
    }

    /// Applies the request of another engine to commit a change.
    pub async fn apply(&self, table: &Table, commit: &TableCommit) -> Result<Table> {
        RestTables::new(&self.tables).apply(table, commit, &BTreeMap::new()).await
    }

    /// Returns all rows of the current snapshot, in read order.
    pub async fn rows(&self, table: &Table) -> Value {
        rows_at(&self.tables, table, None).await
    }

    /// Returns the files with this suffix below a table's folder, sorted.
    pub fn files(&self, table: &Table, ending: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        collect(&self.file(table.location()), ending, &mut found);
        found.sort();
        found
    }
}

fn collect(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, ending, found);
        } else if path.to_string_lossy().ends_with(ending) {
            found.push(path);
        }
    }
}

fn open(folder: &Path, change: impl FnOnce(&mut TablesOptions)) -> Tables {
    let mut options = TablesOptions::local(folder);
    options.clock = Arc::new(FixedClock::at(now()));
    change(&mut options);
    let store = LocalFileSystem::new_with_prefix(folder).unwrap();
    Tables::new(Arc::new(store), options)
}

/// Returns a request for a table `t`. A column whose type ends with `!` is required.
pub fn request(columns: &[(&str, &str)], partition: &[&str]) -> CreateTable {
    CreateTable {
        name: "t".parse::<TableName>().unwrap(),
        schema: schema_of(columns),
        partition: partition_of(partition),
        properties: BTreeMap::new(),
    }
}

pub fn schema_of(columns: &[(&str, &str)]) -> SchemaRef {
    let fields: Vec<_> = columns.iter().map(|(name, text)| field_of(name, text)).collect();
    Arc::new(Schema::new(fields))
}

pub fn field_of(name: &str, text: &str) -> Field {
    Field::new(name, parse_type(text.trim_end_matches('!')).unwrap(), !text.ends_with('!'))
}

pub fn partition_of(partition: &[&str]) -> Vec<PartitionField> {
    partition.iter().map(|field| field.parse().unwrap()).collect()
}

pub fn json_batch(schema: &SchemaRef, rows: &Value) -> RecordBatch {
    let rows = rows.as_array().unwrap();
    let mut decoder = arrow::json::ReaderBuilder::new(schema.clone())
        .with_batch_size(rows.len().max(1))
        .build_decoder()
        .unwrap();
    decoder.serialize(rows).unwrap();
    decoder.flush().unwrap().unwrap_or_else(|| RecordBatch::new_empty(schema.clone()))
}

pub fn stream_of(batch: RecordBatch) -> BatchStream {
    stream::iter([Ok(batch)]).boxed()
}

pub async fn rows_at(tables: &Tables, table: &Table, snapshot: Option<i64>) -> Value {
    let plan = tables.plan(table, snapshot).await.unwrap();
    let batches = tables.read(table, plan.files(), None, None).unwrap();
    to_json(&batches.try_collect::<Vec<_>>().await.unwrap())
}

pub fn to_json(batches: &[RecordBatch]) -> Value {
    let mut writer = arrow::json::ArrayWriter::new(Vec::new());
    writer.write_batches(&batches.iter().collect::<Vec<_>>()).unwrap();
    writer.finish().unwrap();
    let text = writer.into_inner();
    if text.is_empty() { Value::Array(Vec::new()) } else { serde_json::from_slice(&text).unwrap() }
}

/// Returns the operation that overwrites the partitions of the new rows, for a table with only one
/// partition spec.
pub fn overwrite_partitions(staged: StagedFiles) -> TableOperation {
    TableOperation::OverwritePartitions { staged, retained: None }
}
