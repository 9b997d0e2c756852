//! The tables of one warehouse: the main handle of the crate.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use futures::FutureExt;
use headwater_model::PartitionField;
use object_store::ObjectStore;
use object_store::path::Path;
use parking_lot::Mutex;

use crate::cache::Caches;
use crate::commit::{self, PendingFiles, create_and_evolve};
use crate::manifest::run_blocking;
use crate::storage::Storage;
use crate::table::Totals;
use crate::{
    BatchStream, CreateTable, DataFile, Error, MaintenancePlanner, MetadataFiles, Result,
    RewriteReader, RowDeletes, ScanPlan, StagedFiles, Table, TableHistory, TableOperation,
    TablesOptions, Views, WarehouseFiles, metadata, read, write,
};

/// The tables of one warehouse. Clones share the caches.
#[derive(Debug, Clone)]
pub struct Tables(Arc<TablesInner>);

#[derive(Debug)]
struct TablesInner {
    storage: Arc<Storage>,
    options: TablesOptions,
    caches: Caches,
    /// Locations of files that are scheduled for deletion.
    deleting_files: Mutex<HashSet<String>>,
    /// Lock on the choice of table locations by clients. The lock is held while a client's location
    /// is checked to be unused, and until its table is created there.
    location_lock: tokio::sync::Mutex<()>,
}

impl Tables {
    /// Creates the handle for the tables in an object store.
    pub fn new(object_store: Arc<dyn ObjectStore>, options: TablesOptions) -> Self {
        let storage = Storage::new(
            object_store,
            &options.root_url,
            options.local_root.clone(),
            options.cloud.timeouts(),
        );
        let caches = Caches::new(options.manifest_cache_bytes);
        let deleting_files = Mutex::default();
        let location_lock = tokio::sync::Mutex::default();
        let storage = Arc::new(storage);
        Tables(Arc::new(TablesInner { storage, options, caches, deleting_files, location_lock }))
    }

    /// Returns the object store of the warehouse.
    pub fn object_store(&self) -> &Arc<dyn ObjectStore> {
        self.0.storage.object_store()
    }

    /// Returns the URL of the object store's root, without a trailing slash.
    pub fn root_url(&self) -> &str {
        &self.0.options.root_url
    }

    /// Returns the operations on views.
    pub fn views(&self) -> Views<'_> {
        Views { tables: self }
    }

    /// Returns the operations on the components of table states.
    pub fn metadata_files(&self) -> MetadataFiles<'_> {
        MetadataFiles { tables: self }
    }

    /// Returns the queries for maintenance.
    pub fn maintenance(&self) -> MaintenancePlanner<'_> {
        MaintenancePlanner { tables: self }
    }

    /// Returns the operations on individual files of the warehouse.
    pub fn files(&self) -> WarehouseFiles<'_> {
        WarehouseFiles { tables: self }
    }

    /// Returns the operations on deleted rows.
    pub fn deletes(&self) -> RowDeletes<'_> {
        RowDeletes { tables: self }
    }

    /// Returns the operations that read rows to rewrite them.
    pub fn rewrites(&self) -> RewriteReader<'_> {
        RewriteReader { tables: self }
    }

    /// Returns the queries on the history of tables.
    pub fn history(&self) -> TableHistory<'_> {
        TableHistory { tables: self }
    }

    /// Returns the object store path of a location. Fails if the location is outside the warehouse.
    pub fn path_of(&self, location: &str) -> Result<Path> {
        self.0.storage.path_of(location)
    }

    /// Returns the storage of the warehouse's files.
    pub fn storage(&self) -> &Arc<Storage> {
        &self.0.storage
    }

    pub(crate) fn deleting_files(&self) -> &Mutex<HashSet<String>> {
        &self.0.deleting_files
    }

    pub(crate) fn location_lock(&self) -> &tokio::sync::Mutex<()> {
        &self.0.location_lock
    }

    pub(crate) fn caches(&self) -> &Caches {
        &self.0.caches
    }

    /// Returns the options.
    pub fn options(&self) -> &TablesOptions {
        &self.0.options
    }

    /// Creates a table in a new folder, and writes its first metadata file. The folder's name is
    /// unique, so that the name of a dropped table can be used again. The schema is normalized
    /// first; see [`crate::normalise_schema`].
    pub async fn create(&self, request: CreateTable) -> Result<Table> {
        let now = self.options().clock.now().timestamp_millis();
        let metadata = create_and_evolve::create(
            &request,
            self.metadata_files().new_location(&request.name),
            now,
        )?;
        let location = metadata::next_location(metadata.location(), None);
        commit::store_as(self, location, metadata, Totals::default(), PendingFiles::default()).await
    }

    /// Loads a table's state from a metadata file. Uses a cache, because metadata files are
    /// immutable.
    pub async fn load(&self, metadata_location: &str) -> Result<Table> {
        if let Some(table) = self.0.caches.tables.get(metadata_location) {
            return Ok(table);
        }
        let content = self.storage().read(metadata_location).await?;
        let location = metadata_location.to_owned();
        let encoded_bytes = content.len();
        let metadata =
            run_blocking(metadata_location, move || metadata::decode(&location, &content)).await?;
        let totals = self.metadata_files().totals(&metadata).await?;
        let table = Table::new(metadata_location.to_owned(), metadata, totals, encoded_bytes);
        self.cache_table(&table);
        Ok(table)
    }

    pub(crate) fn cache_table(&self, table: &Table) {
        self.0.caches.tables.insert(table.metadata_location().to_owned(), table.clone());
    }

    /// Counts the rows of a table's current snapshot. For this, the delete files are read.
    pub async fn count(&self, table: &Table) -> Result<u64> {
        if !table.has_deletes() {
            return Ok(table.rows());
        }
        let plan = self.plan(table, None).await?;
        self.deletes().live_rows(plan.files().to_vec()).await
    }

    /// Validates columns and partition fields for a new table, without creating it.
    pub fn check(schema: &SchemaRef, partition: &[PartitionField]) -> Result<()> {
        create_and_evolve::check_partition(schema, partition)
    }

    /// Returns the table that an [`TableOperation::Replace`] with these columns and partition
    /// fields will create. The new rows must be written for this table with [`Tables::write`]. The
    /// returned table is not stored, and has the totals of the old rows.
    pub fn replacement(
        &self,
        table: &Table,
        schema: &SchemaRef,
        partition: &[PartitionField],
        after: Option<i32>,
    ) -> Result<Table> {
        let metadata = create_and_evolve::replaced(table.metadata(), schema, partition, after)?;
        Ok(table.unstored(metadata))
    }

    /// Writes rows to uncommitted data files. The commit that adds the files to a snapshot makes
    /// them durable.
    ///
    /// Columns are matched by name; missing columns become null. Values are cast to the table's
    /// types if the cast is lossless. A lossy cast or a null in a required column fails with the
    /// name of the column. The files written so far are then deleted.
    ///
    /// Rows are sorted by the table's sort order, if any, in runs that fit into memory.
    pub async fn write(&self, table: &Table, rows: BatchStream) -> Result<StagedFiles> {
        write::write(self.storage(), self.options(), table, rows, false).boxed().await
    }

    /// Writes rows like [`Tables::write`], but in the order of the input.
    pub async fn write_in_order(&self, table: &Table, rows: BatchStream) -> Result<StagedFiles> {
        write::write(self.storage(), self.options(), table, rows, true).boxed().await
    }

    /// Converts rows as [`Tables::write`] does, with the same errors, but does not write them.
    pub fn convert_rows(&self, table: &Table, rows: &[RecordBatch]) -> Result<Vec<RecordBatch>> {
        write::convert_rows(table, rows)
    }

    /// Commits a change and returns the new state. Writes manifests and a metadata file, and makes
    /// them and the staged data files durable.
    ///
    /// `summary` is added to the snapshot's summary. If the operation changes nothing and `summary`
    /// is empty, returns the same state. Fails with `commit_conflict` if the staged rows were
    /// written for a table whose schema, partitioning or identity has changed. Never deletes the
    /// staged files.
    pub async fn commit(
        &self,
        table: &Table,
        operation: TableOperation,
        summary: BTreeMap<String, String>,
    ) -> Result<Table> {
        commit::commit(self, table, operation, summary).boxed().await
    }

    /// Deletes staged files that no commit will use.
    pub async fn discard(&self, staged: StagedFiles) -> Result<()> {
        let locations: Vec<String> = staged.locations().map(ToOwned::to_owned).collect();
        self.storage().delete(&locations).await
    }

    /// Deletes the files that [`Tables::create`] or [`Tables::commit`] wrote for a state to which
    /// no commit refers: the metadata file and the snapshot's manifest list and manifests. `before`
    /// is the preceding state. Data files are not deleted; see [`Tables::discard`].
    pub async fn discard_state(&self, state: &Table, before: Option<&Table>) -> Result<()> {
        if before.is_some_and(|before| before.metadata_location() == state.metadata_location()) {
            return Ok(());
        }
        let mut locations = vec![state.metadata_location().to_owned()];
        let metadata = state.metadata();
        if let Some(snapshot) = metadata.current_snapshot()
            && before.and_then(Table::snapshot_id) != Some(snapshot.snapshot_id())
        {
            let listed = self.metadata_files().manifests(snapshot).await?;
            let own = listed.iter().filter(|m| m.added_snapshot_id == snapshot.snapshot_id());
            locations.extend(own.map(|manifest| manifest.manifest_path.clone()));
            locations.push(snapshot.manifest_list().to_owned());
        }
        self.0.caches.tables.invalidate(state.metadata_location());
        self.storage().delete(&locations).await
    }

    /// Deletes the metadata file of a state to which no commit ever referred, but no other files,
    /// because another engine may have written them. Deletes nothing if the previous state has the
    /// same metadata file.
    pub async fn discard_metadata(&self, state: &Table, before: Option<&Table>) -> Result<()> {
        if before.is_some_and(|before| before.metadata_location() == state.metadata_location()) {
            return Ok(());
        }
        self.0.caches.tables.invalidate(state.metadata_location());
        self.storage().delete(&[state.metadata_location().to_owned()]).await
    }

    /// Plans a scan of a snapshot, by default of the current snapshot.
    pub async fn plan(&self, table: &Table, snapshot: Option<i64>) -> Result<ScanPlan> {
        let metadata = table.metadata();
        let (snapshot, schema) = match snapshot {
            None => (metadata.current_snapshot(), table.schema()),
            Some(id) => {
                let unknown = || Error::SnapshotNotFound { snapshot: id };
                let schema = table.schema_at(id).ok_or_else(unknown)?;
                (Some(metadata.snapshot_by_id(id).ok_or_else(unknown)?), schema)
            }
        };
        let Some(snapshot) = snapshot else { return Ok(ScanPlan::new(schema, Arc::new([]))) };
        let (files, stats) = self.metadata_files().files_and_stats(metadata, snapshot).await?;
        Ok(ScanPlan::with_stats(schema, files, stats))
    }

    /// Reads data files in order, in the table's current schema: all columns, or the columns with
    /// the given names. Columns missing in a file are null.
    ///
    /// Fails with `column_not_found`. Read errors are returned through the stream.
    pub fn read(
        &self,
        table: &Table,
        files: &[Arc<DataFile>],
        columns: Option<&[String]>,
        limit: Option<usize>,
    ) -> Result<BatchStream> {
        read::read(self, &table.schema(), files, columns, limit)
    }

    /// Reads data files in order, with all columns of the current schema, in batches of
    /// `batch_rows` rows. Small batches need less memory. Read errors are returned through the
    /// stream.
    pub fn read_slowly(
        &self,
        table: &Table,
        files: &[Arc<DataFile>],
        batch_rows: usize,
    ) -> BatchStream {
        read::read_slowly(self, &table.schema(), files, batch_rows)
    }
}
