//! Shared fixtures: lakes in temporary folders or in memory, import files, and row checks.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::SchemaRef;
use futures::{StreamExt, TryStreamExt, stream};
use headwater_ingest::{Error, Importer, ProgressCallback};
use headwater_lake::{BatchStream, Lake, LakeOptions, json_rows};
use headwater_model::{FixedClock, ImportReport, ImportRequest, RefSpec, SystemClock, TableName};
use headwater_store::{MemoryStore, Store};
use headwater_tables::TablesOptions;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use object_store::throttle::{ThrottleConfig, ThrottledStore};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::storage;

/// A lake and a folder for files to import. Dropping the value removes both.
pub struct Fixture {
    folder: tempfile::TempDir,
    pub lake: Lake,
    /// True if rows are changed by delete files instead of rewritten files.
    pub on_read: bool,
    /// The format version of the tables that scenarios create.
    pub version: &'static str,
}

/// Creates a folder for a warehouse and for files to import. Returns it with the options and the
/// object store of the tables.
fn warehouse() -> (tempfile::TempDir, TablesOptions, Arc<dyn ObjectStore>) {
    let folder = tempfile::tempdir().unwrap();
    let warehouse = folder.path().join("lake/warehouse");
    std::fs::create_dir_all(&warehouse).unwrap();
    std::fs::create_dir(folder.path().join("files")).unwrap();
    let (tables, store) = storage::open_files(&warehouse.canonicalize().unwrap());
    (folder, tables, store)
}

impl Fixture {
    pub async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let lake = storage::open_lake(&folder.path().join("lake")).await;
        std::fs::create_dir(folder.path().join("files")).unwrap();
        Fixture { folder, lake, on_read: false, version: "2" }
    }

    /// Creates a lake with all files in memory, for tests that create many lakes.
    pub async fn in_memory() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tables = TablesOptions::new("memory://lake");
        let lake = open(Arc::new(InMemory::new()), tables).await;
        Fixture { folder, lake, on_read: false, version: "2" }
    }

    /// Creates a lake in memory with slow file operations, so that a test can cancel every
    /// operation while it runs.
    pub async fn slow() -> Self {
        let wait = std::time::Duration::from_millis(1);
        let waits = ThrottleConfig {
            wait_get_per_call: wait,
            wait_put_per_call: wait,
            ..ThrottleConfig::default()
        };
        let store = ThrottledStore::new(InMemory::new(), waits);
        let lake = open(Arc::new(store), TablesOptions::new("memory://lake")).await;
        Fixture { folder: tempfile::tempdir().unwrap(), lake, on_read: false, version: "2" }
    }

    /// Creates a lake in memory with the given database.
    pub async fn over(store: Arc<dyn Store>) -> Self {
        let (object_store, tables) =
            (Arc::new(InMemory::new()), TablesOptions::new("memory://lake"));
        let clock = Arc::new(headwater_model::SystemClock);
        let lake = Lake::open(LakeOptions { store, object_store, tables, clock }).await.unwrap();
        Fixture { folder: tempfile::tempdir().unwrap(), lake, on_read: false, version: "2" }
    }

    /// Creates a lake in a folder, without fsync. `change` can modify the table options.
    pub async fn with(change: impl FnOnce(&mut TablesOptions)) -> Self {
        let (folder, mut tables, store) = warehouse();
        change(&mut tables);
        Fixture { folder, lake: open(store, tables).await, on_read: false, version: "2" }
    }

    /// Creates a lake in a folder with a clock that the test sets.
    pub async fn at(clock: Arc<FixedClock>) -> Self {
        Self::at_with(clock, |_| ()).await
    }

    /// Creates a lake like [`Fixture::at`], with changed options for tables.
    pub async fn at_with(clock: Arc<FixedClock>, change: impl FnOnce(&mut TablesOptions)) -> Self {
        let (folder, mut tables, object_store) = warehouse();
        tables.clock = clock.clone();
        change(&mut tables);
        let store = Arc::new(MemoryStore::new());
        let lake = Lake::open(LakeOptions { store, object_store, tables, clock }).await.unwrap();
        Fixture { folder, lake, on_read: false, version: "2" }
    }

    /// Opens the same warehouse with an empty database.
    pub async fn with_new_database(&self, clock: Arc<FixedClock>) -> Lake {
        let warehouse = self.lake_folder().join("warehouse").canonicalize().unwrap();
        let (mut tables, object_store) = storage::open_files(&warehouse);
        tables.clock = clock.clone();
        let store = Arc::new(MemoryStore::new());
        Lake::open(LakeOptions { store, object_store, tables, clock }).await.unwrap()
    }

    pub fn lake_folder(&self) -> PathBuf {
        self.folder.path().join("lake")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("files").join(name)
    }

    /// Writes a file to import.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    /// Returns a request to import files into a table.
    pub fn request(&self, table: &str, files: &[&str]) -> ImportRequest {
        let source = |name: &&str| self.path(name).to_string_lossy().into_owned();
        ImportRequest {
            table: table.to_owned(),
            sources: files.iter().map(source).collect(),
            ..ImportRequest::default()
        }
    }

    pub fn importer(&self) -> Importer {
        Importer::new(self.lake.clone())
    }

    pub async fn import(&self, request: &ImportRequest) -> Result<ImportReport, Error> {
        self.importer().import(request, silent(), CancellationToken::new()).await
    }

    /// Writes one CSV file and imports it.
    pub async fn import_text(
        &self,
        table: &str,
        name: &str,
        text: &str,
    ) -> Result<ImportReport, Error> {
        self.file(name, text);
        self.import(&self.request(table, &[name])).await
    }

    /// Returns the sorted rows of a table on `main`.
    pub async fn rows(&self, table: &str) -> Vec<Value> {
        self.rows_at("main", table).await
    }

    pub async fn rows_at(&self, reference: &str, table: &str) -> Vec<Value> {
        let view = self.lake.view(&reference.parse().unwrap()).await.unwrap();
        let table = view.table(&table.parse().unwrap()).await.unwrap();
        let plan = self.lake.tables().plan(&table, None).await.unwrap();
        let rows = self.lake.tables().read(&table, plan.files(), None, None).unwrap();
        json_rows(&rows.try_collect::<Vec<_>>().await.unwrap()).unwrap()
    }

    /// Returns true if `main` has a table.
    pub async fn has_table(&self, table: &str) -> bool {
        let view = self.lake.view(&RefSpec::main()).await.unwrap();
        view.find("public", table).await.unwrap().is_some()
    }

    /// Lists all data files in the warehouse, referenced or not.
    pub fn data_files(&self) -> usize {
        count_files(&self.lake_folder().join("warehouse"), "parquet")
    }
}

impl Fixture {
    /// Lists all metadata files and manifests in the warehouse, referenced or not.
    pub fn metadata_files(&self) -> usize {
        let warehouse = self.lake_folder().join("warehouse");
        count_files(&warehouse, "json") + count_files(&warehouse, "avro")
    }
}

async fn open(object_store: Arc<dyn ObjectStore>, tables: TablesOptions) -> Lake {
    let (store, clock) = (Arc::new(MemoryStore::new()), Arc::new(SystemClock));
    Lake::open(LakeOptions { store, object_store, tables, clock }).await.unwrap()
}

fn count_files(folder: &Path, ending: &str) -> usize {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    let count = |entry: std::fs::DirEntry| {
        let path = entry.path();
        if path.is_dir() {
            count_files(&path, ending)
        } else {
            usize::from(path.extension().is_some_and(|found| found == ending))
        }
    };
    entries.map(count).sum()
}

pub fn silent() -> ProgressCallback {
    Arc::new(|_| {})
}

pub fn name(table: &str) -> TableName {
    table.parse().unwrap()
}

/// Returns a batch with one integer column.
pub fn numbers(column: &str, values: impl IntoIterator<Item = i64>) -> RecordBatch {
    let array: ArrayRef = Arc::new(Int64Array::from_iter_values(values));
    RecordBatch::try_from_iter_with_nullable([(column, array, true)]).unwrap()
}

pub fn schema(column: &str) -> SchemaRef {
    numbers(column, []).schema()
}

pub fn rows_of(batch: RecordBatch) -> BatchStream {
    stream::iter([Ok(batch)]).boxed()
}
