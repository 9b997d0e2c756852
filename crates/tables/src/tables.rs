//! The tables of one warehouse: the handle through which all of this room is used.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use headwater_model::{PartitionField, TableName};
use iceberg::spec::{ManifestContentType, ManifestFile, SnapshotRef, TableMetadata};
use object_store::ObjectStore;
use object_store::path::Path;
use parking_lot::Mutex;
use uuid::Uuid;

use crate::cache::{Caches, Files, Manifests};
use crate::commit::{self, Unwritten, evolve};
use crate::deletes::{DeleteFile, attach, write_deletes};
use crate::facts::Facts;
use crate::manifest::{Decoded, decode, decode_list, off_thread};
use crate::plan::written;
use crate::storage::Storage;
use crate::table::{Totals, own_bytes};
use crate::{
    BatchStream, CloudSettings, CloudUrl, CreateTable, DataFile, Error, Operation, Positions,
    Result, ScanPlan, Staged, Table, TablesOptions, metadata, partition, read, write,
};

/// How many manifests are read at once.
const MANIFESTS_AT_ONCE: usize = 16;

/// The tables of one warehouse; cheap to clone.
#[derive(Debug, Clone)]
pub struct Tables(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    storage: Arc<Storage>,
    options: TablesOptions,
    caches: Caches,
    /// Files that are about to be removed, by place.
    removing: Mutex<HashSet<String>>,
    /// Held from where a location that somebody gave is found to be free until a table lies there.
    placing: tokio::sync::Mutex<()>,
}

impl Tables {
    /// The tables in an object store.
    pub fn new(object_store: Arc<dyn ObjectStore>, options: TablesOptions) -> Self {
        let storage = Storage::new(object_store, &options);
        let caches = Caches::new(options.manifest_cache_bytes);
        let removing = Mutex::default();
        let placing = tokio::sync::Mutex::default();
        let storage = Arc::new(storage);
        Tables(Arc::new(Inner { storage, options, caches, removing, placing }))
    }

    /// The object store that holds everything.
    pub fn object_store(&self) -> &Arc<dyn ObjectStore> {
        self.0.storage.object_store()
    }

    /// The URL of the object store's root, without a slash at the end.
    pub fn root_url(&self) -> &str {
        &self.0.options.root_url
    }

    /// How clouds are reached.
    pub fn cloud(&self) -> &CloudSettings {
        &self.options().cloud
    }

    /// What another engine needs to reach the files itself, in the words of Iceberg's REST catalog; with
    /// credentials only where that is said. Nothing where they lie in no cloud.
    pub fn for_clients(&self, credentials: bool) -> BTreeMap<String, String> {
        let url = CloudUrl::parse(self.root_url());
        url.map(|url| self.options().cloud.for_clients(&url, credentials)).unwrap_or_default()
    }

    /// Where a location lies in the object store. Fails where it lies outside the warehouse.
    pub fn path_of(&self, location: &str) -> Result<Path> {
        self.0.storage.path_of(location)
    }

    pub(crate) fn storage(&self) -> &Arc<Storage> {
        &self.0.storage
    }

    pub(crate) fn removing(&self) -> &Mutex<HashSet<String>> {
        &self.0.removing
    }

    pub(crate) fn placing(&self) -> &tokio::sync::Mutex<()> {
        &self.0.placing
    }

    pub(crate) fn caches(&self) -> &Caches {
        &self.0.caches
    }

    pub(crate) fn options(&self) -> &TablesOptions {
        &self.0.options
    }

    /// Makes a table and writes its first metadata file. The table's folder is new and unique, so
    /// that a name can be used again. The schema is normalised first, see
    /// [`crate::normalise_schema`].
    pub async fn create(&self, request: CreateTable) -> Result<Table> {
        let now = self.options().clock.now().timestamp_millis();
        let metadata = evolve::create(&request, self.new_location(&request.name), now)?;
        let location = metadata::next_location(metadata.location(), None);
        commit::store_as(self, location, metadata, Totals::default(), Unwritten::default()).await
    }

    /// A location of its own for a new table: a folder in that of its namespace. A nested namespace is one
    /// folder, `a.b`, so that no namespace's folder is ever that of a table.
    pub(crate) fn new_location(&self, name: &TableName) -> String {
        let unique = Uuid::new_v4().simple().to_string();
        let (namespace, table) =
            (partition::folder_name(&name.namespace), partition::folder_name(&name.name));
        format!("{}/{namespace}/{table}-{}", self.root_url(), &unique[..8])
    }

    /// Opens the state of a table that a metadata file holds; read once, since it never changes.
    pub async fn load(&self, metadata_location: &str) -> Result<Table> {
        if let Some(table) = self.0.caches.tables.get(metadata_location) {
            return Ok(table);
        }
        let content = self.storage().read(metadata_location).await?;
        let location = metadata_location.to_owned();
        let encoded_bytes = content.len();
        let metadata =
            off_thread(metadata_location, move || metadata::decode(&location, &content)).await?;
        let totals = self.totals(&metadata).await?;
        let table = Table::new(metadata_location.to_owned(), metadata, totals, encoded_bytes);
        self.remember(&table);
        Ok(table)
    }

    pub(crate) fn remember(&self, table: &Table) {
        self.0.caches.tables.insert(table.metadata_location().to_owned(), table.clone());
    }

    /// What the current snapshot holds: from its summary, or counted where that leaves it out.
    pub(crate) async fn totals(&self, metadata: &TableMetadata) -> Result<Totals> {
        let Some(snapshot) = metadata.current_snapshot() else { return Ok(Totals::default()) };
        if let Some(totals) = Totals::of(snapshot) {
            return Ok(totals);
        }
        let files = self.files(metadata, snapshot).await?;
        let mut totals = Totals {
            rows: files.iter().map(|file| file.rows).sum(),
            files: files.len() as u64,
            bytes: files.iter().map(|file| file.bytes).sum(),
            ..Totals::default()
        };
        for manifest in self.manifests(snapshot).await?.iter() {
            if manifest.content == ManifestContentType::Deletes {
                for entry in &self.manifest(manifest).await?.live {
                    totals.deletes.add(entry.data_file());
                    totals.bytes += own_bytes(entry.data_file());
                }
            }
        }
        Ok(totals)
    }

    /// Counts the rows of a table's current snapshot, which reads delete files where there are any.
    pub async fn count(&self, table: &Table) -> Result<u64> {
        if !table.has_deletes() {
            return Ok(table.rows());
        }
        let plan = self.plan(table, None).await?;
        self.live_rows(plan.files().to_vec()).await
    }

    /// Counts the rows of some data files that are not gone.
    pub async fn live_rows(&self, files: Vec<Arc<DataFile>>) -> Result<u64> {
        let gone = self.deleted_of_all(files.clone()).await?;
        let live = files.iter().zip(gone);
        Ok(live.map(|(file, gone)| file.rows - gone.map_or(0, |gone| gone.before(file.rows))).sum())
    }

    /// Refuses columns that no table can have, and partition fields that a table of these columns
    /// cannot have. Nothing is made.
    pub fn check(schema: &SchemaRef, partition: &[PartitionField]) -> Result<()> {
        evolve::check_partition(schema, partition)
    }

    /// The table as [`Operation::Replace`] with these columns and partition fields will make it, to
    /// [`Tables::write`] the new rows for. It is not stored, and still counts the old rows.
    pub fn replacement(
        &self,
        table: &Table,
        schema: &SchemaRef,
        partition: &[PartitionField],
        after: Option<i32>,
    ) -> Result<Table> {
        let metadata = evolve::replaced(table.metadata(), schema, partition, after)?;
        let location = table.metadata_location().to_owned();
        Ok(Table::new(location, metadata, table.totals(), 0))
    }

    /// Writes rows to data files that belong to no snapshot yet. They become durable with the
    /// commit that puts them into one.
    ///
    /// Columns match by name; a column that the rows lack is null. Values are cast to the table's
    /// types where that keeps them. Fails naming the column where it does not, and for a null in a
    /// column that takes none; nothing is left behind then.
    ///
    /// Rows are put in the order that the table says, as many at once as memory bears.
    pub async fn write(&self, table: &Table, rows: BatchStream) -> Result<Staged> {
        write::write(self.storage(), self.options(), table, rows, false).boxed().await
    }

    /// Writes rows as [`Tables::write`] does, in the order in which they come.
    pub async fn write_as_ordered(&self, table: &Table, rows: BatchStream) -> Result<Staged> {
        write::write(self.storage(), self.options(), table, rows, true).boxed().await
    }

    /// Rows as [`Tables::write`] would write them, without writing them. Fails as that does.
    pub fn fit(&self, table: &Table, rows: &[RecordBatch]) -> Result<Vec<RecordBatch>> {
        write::fit(table, rows)
    }

    /// Writes delete files that belong to no snapshot yet, one for each data file: the rows that are
    /// to go, with those that a delete file of the data file alone takes away already. They come into
    /// the table with the commit that these are combined with, see [`Staged::and`]. Durable when this
    /// returns.
    pub async fn write_deletes(
        &self,
        table: &Table,
        rows: Vec<(Arc<DataFile>, Positions)>,
    ) -> Result<Staged> {
        write_deletes(self, table, rows).await
    }

    /// Changes a table: writes manifests and a metadata file, makes them and the staged data files
    /// durable, and gives the new state.
    ///
    /// `summary` goes into the snapshot's summary. An operation that changes nothing, with an empty
    /// summary, gives the same state back. Fails with `commit_conflict` where staged rows were
    /// written for a table that is no longer the same; the staged files stay either way.
    pub async fn commit(
        &self,
        table: &Table,
        operation: Operation,
        summary: BTreeMap<String, String>,
    ) -> Result<Table> {
        commit::commit(self, table, operation, summary).boxed().await
    }

    /// Removes the files of an attempt that failed.
    pub async fn discard(&self, staged: Staged) -> Result<()> {
        let locations: Vec<String> = staged.locations().map(ToOwned::to_owned).collect();
        self.storage().delete(&locations).await
    }

    /// Removes what [`Tables::create`] or [`Tables::commit`] wrote for a state that nothing came to
    /// name: its metadata file, and the manifests of its snapshot. `before` is the state that it
    /// was made from. Data files stay, see [`Tables::discard`].
    pub async fn discard_state(&self, made: &Table, before: Option<&Table>) -> Result<()> {
        if before.is_some_and(|before| before.metadata_location() == made.metadata_location()) {
            return Ok(());
        }
        let mut locations = vec![made.metadata_location().to_owned()];
        let metadata = made.metadata();
        if let Some(snapshot) = metadata.current_snapshot()
            && before.and_then(Table::snapshot_id) != Some(snapshot.snapshot_id())
        {
            let listed = self.manifests(snapshot).await?;
            let own = listed.iter().filter(|m| m.added_snapshot_id == snapshot.snapshot_id());
            locations.extend(own.map(|manifest| manifest.manifest_path.clone()));
            locations.push(snapshot.manifest_list().to_owned());
        }
        self.0.caches.tables.invalidate(made.metadata_location());
        self.storage().delete(&locations).await
    }

    /// Removes the metadata file of a state that nothing came to name. What another engine wrote for it is
    /// left alone, as is what came with the state before.
    pub async fn discard_metadata(&self, made: &Table, before: Option<&Table>) -> Result<()> {
        if before.is_some_and(|before| before.metadata_location() == made.metadata_location()) {
            return Ok(());
        }
        self.0.caches.tables.invalidate(made.metadata_location());
        self.storage().delete(&[made.metadata_location().to_owned()]).await
    }

    /// The data files of a snapshot, the current one where none is given.
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
        let (files, facts) = self.files_and_facts(metadata, snapshot).await?;
        Ok(ScanPlan::with_facts(schema, files, facts))
    }

    /// A snapshot's manifests, from the cache where they were read before.
    pub(crate) async fn manifests(&self, snapshot: &SnapshotRef) -> Result<Manifests> {
        let location = snapshot.manifest_list();
        if let Some(found) = self.0.caches.lists.get(location) {
            return Ok(found);
        }
        let listed: Manifests = self.read_list(location).await?.into();
        self.0.caches.lists.insert(location.to_owned(), listed.clone());
        Ok(listed)
    }

    /// The manifests that a list has, read now.
    pub(crate) async fn read_list(&self, location: &str) -> Result<Vec<ManifestFile>> {
        let content = self.storage().read(location).await?;
        let list = location.to_owned();
        off_thread(location, move || decode_list(&list, &content)).await
    }

    /// A snapshot's data files, from the cache where they were read before.
    pub(crate) async fn files(
        &self,
        metadata: &TableMetadata,
        snapshot: &SnapshotRef,
    ) -> Result<Files> {
        Ok(self.files_and_facts(metadata, snapshot).await?.0)
    }

    async fn files_and_facts(
        &self,
        metadata: &TableMetadata,
        snapshot: &SnapshotRef,
    ) -> Result<(Files, Arc<Facts>)> {
        let location = snapshot.manifest_list();
        if let Some(found) = self.0.caches.files.get(location) {
            return Ok(found);
        }
        let listed = self.manifests(snapshot).await?;
        let live =
            |manifest: &&ManifestFile| manifest.has_added_files() || manifest.has_existing_files();
        let live: Vec<ManifestFile> = listed.iter().filter(live).cloned().collect();
        let read = stream::iter(live)
            .map(|manifest| async move {
                let decoded = self.manifest(&manifest).await?;
                if manifest.content == ManifestContentType::Deletes {
                    return Ok((self.delete_files(&manifest, &decoded)?, decoded));
                }
                self.prepare(metadata, &manifest, &decoded)?;
                Ok::<_, Error>((Vec::new(), decoded))
            })
            .buffered(MANIFESTS_AT_ONCE);
        let read: Vec<(Vec<_>, Arc<Decoded>)> = read.try_collect().await?;
        let (mut files, mut deletes) = (Vec::new(), Vec::new());
        for (found, decoded) in read {
            deletes.extend(found);
            files.extend(decoded.files.get().into_iter().flatten().cloned());
        }
        files.sort_by_key(|file: &Arc<DataFile>| file.sequence_number());
        let files: Files = attach(files, deletes, metadata)?.into();
        let found = (files, Arc::default());
        self.0.caches.files.insert(location.to_owned(), found.clone());
        Ok(found)
    }

    /// The delete files of a manifest.
    fn delete_files(
        &self,
        manifest: &ManifestFile,
        decoded: &Decoded,
    ) -> Result<Vec<Arc<DeleteFile>>> {
        let files = decoded.live.iter().map(|entry| {
            let path = self.path_of(entry.data_file().file_path())?;
            Ok(Arc::new(DeleteFile::new(path, entry.clone(), manifest.partition_spec_id)))
        });
        files.collect()
    }

    /// Makes a manifest's files ready for plans, once.
    pub(crate) fn prepare(
        &self,
        metadata: &TableMetadata,
        manifest: &ManifestFile,
        decoded: &Decoded,
    ) -> Result<()> {
        if decoded.files.get().is_some() {
            return Ok(());
        }
        let corrupt = |reason: String| Error::corrupt(&manifest.manifest_path, reason);
        let spec = metadata.partition_spec_by_id(manifest.partition_spec_id);
        let spec = spec.ok_or_else(|| corrupt("its partition spec is unknown".to_owned()))?;
        let types = &decoded.partition_type;
        let written = written(metadata);
        let files = decoded.live.iter().map(|entry| {
            let file = entry.data_file();
            Ok(Arc::new(DataFile {
                location: file.file_path().to_owned(),
                path: self.path_of(file.file_path())?,
                bytes: file.file_size_in_bytes(),
                rows: file.record_count(),
                partition: partition::describe(spec, types, file.partition()),
                entry: entry.clone(),
                spec_id: manifest.partition_spec_id,
                deletes: None,
                parts: partition::values_of(spec, file.partition()),
                written: written.clone(),
            }))
        });
        let files = files.collect::<Result<Vec<_>>>()?;
        // Another plan may have been first, with the same.
        let _ = decoded.files.set(files);
        Ok(())
    }

    /// Puts what a commit wrote into the caches.
    pub(crate) fn remember_snapshot(
        &self,
        manifest_list: String,
        listed: Vec<ManifestFile>,
        decoded: Vec<(String, Decoded)>,
    ) {
        for (location, decoded) in decoded {
            let manifest = listed.iter().find(|manifest| manifest.manifest_path == location);
            if let Some(manifest) = manifest {
                self.keep_manifest(manifest, Arc::new(decoded));
            }
        }
        self.0.caches.lists.insert(manifest_list, listed.into());
    }

    /// A manifest, from the cache where it was read before.
    pub(crate) async fn manifest(&self, manifest: &ManifestFile) -> Result<Arc<Decoded>> {
        if let Some(found) = self.0.caches.manifests.get(&cache_key(manifest)) {
            return Ok(found);
        }
        let content = self.storage().read(&manifest.manifest_path).await?;
        let file = manifest.clone();
        let decoded = off_thread(&manifest.manifest_path, move || decode(&file, &content)).await?;
        let decoded = Arc::new(decoded);
        self.keep_manifest(manifest, decoded.clone());
        Ok(decoded)
    }

    fn keep_manifest(&self, manifest: &ManifestFile, decoded: Arc<Decoded>) {
        if let Some(first) = manifest.first_row_id {
            self.0.caches.numbered.insert(manifest.manifest_path.clone(), first);
        }
        self.0.caches.manifests.insert(cache_key(manifest), decoded);
    }

    /// Forgets a manifest, whatever ids its rows have.
    pub(crate) fn forget_manifest(&self, location: &str) {
        let caches = &self.0.caches;
        caches.manifests.invalidate(location);
        if let Some(first) = caches.numbered.remove(location) {
            caches.manifests.invalidate(&numbered(location, first));
        }
    }

    /// Reads data files in order: all columns, or those named, as the table has them now. Columns
    /// that a file lacks are null.
    ///
    /// Fails with `column_not_found`; errors of reading come through the stream.
    pub fn read(
        &self,
        table: &Table,
        files: &[Arc<DataFile>],
        columns: Option<&[String]>,
        limit: Option<usize>,
    ) -> Result<BatchStream> {
        read::read(self, &table.schema(), files, columns, limit)
    }

    /// Reads data files in order, all columns as the table has them now, so many rows at once: for who
    /// must not hold more. Errors of reading come through the stream.
    pub fn read_slowly(
        &self,
        table: &Table,
        files: &[Arc<DataFile>],
        batch_rows: usize,
    ) -> BatchStream {
        read::read_slowly(self, &table.schema(), files, batch_rows)
    }

    /// Reads data files in order, all columns as the table has them now, without some of their rows, to be
    /// written again. Errors of reading come through the stream.
    pub fn read_rest(&self, table: &Table, files: Vec<(Arc<DataFile>, Positions)>) -> BatchStream {
        read::read_rest(self, &self.schema_to_rewrite(table), files)
    }

    /// Reads data files in order, all columns as the table has them now, to be written again: with the ids
    /// of rows, where the table's have any.
    pub fn read_to_rewrite(&self, table: &Table, files: &[Arc<DataFile>]) -> Result<BatchStream> {
        read::read(self, &self.schema_to_rewrite(table), files, None, None)
    }

    /// Writes a file of the caller's own beside a table's, durable when this returns.
    pub async fn write_file(&self, location: &str, content: Bytes) -> Result<()> {
        self.storage().write(location, &content).await
    }

    /// Reads a file that [`Tables::write_file`] wrote.
    pub async fn read_file(&self, location: &str) -> Result<Bytes> {
        self.storage().read(location).await
    }
}

/// What a manifest is known by: where it lies, and the ids that its rows have, which come to be known only
/// when a table is upgraded.
fn cache_key(manifest: &ManifestFile) -> String {
    match manifest.first_row_id {
        None => manifest.manifest_path.clone(),
        Some(first) => numbered(&manifest.manifest_path, first),
    }
}

fn numbered(location: &str, first_row_id: u64) -> String {
    format!("{location}#{first_row_id}")
}
