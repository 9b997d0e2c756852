//! Reads and writes the metadata files of tables: table metadata, manifest lists and manifests.
//! Manifest lists and manifests are read once and cached.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use headwater_model::TableName;
use iceberg::spec::{ManifestContentType, ManifestFile, SnapshotRef, TableMetadata};
use uuid::Uuid;

use crate::cache::{SnapshotFiles, SnapshotManifests};
use crate::cached_manifest::CachedManifest;
use crate::commit::{PendingFiles, store_as};
use crate::deletes::{DeleteFile, attach};
use crate::file_stat_cache::FileStatCache;
use crate::manifest::{DecodedManifest, decode, decode_list, run_blocking};
use crate::scan_plan::written_schemas;
use crate::table::{Totals, content_bytes};
use crate::{DataFile, Error, Result, Table, Tables, partition};

/// Maximum number of manifests read concurrently.
const MANIFEST_READS_MAX: usize = 16;

/// Access to the metadata files of tables, for crates that commit table metadata themselves.
/// [`Tables::metadata_files`] returns it.
#[derive(Debug, Clone, Copy)]
pub struct MetadataFiles<'a> {
    pub(crate) tables: &'a Tables,
}

impl<'a> MetadataFiles<'a> {
    /// Writes the metadata of a table to a file, and makes the file durable.
    pub async fn store(
        self,
        location: String,
        metadata: TableMetadata,
        totals: Totals,
    ) -> Result<Table> {
        store_as(self.tables, location, metadata, totals, PendingFiles::default()).await
    }

    /// Locks the choice of table locations by clients. A caller checks that a location is unused,
    /// and then creates the table there. It must hold the lock during both steps.
    pub async fn lock_locations(self) -> tokio::sync::MutexGuard<'a, ()> {
        self.tables.location_lock().lock().await
    }

    /// Returns a unique location for a new table: a folder within the folder of its namespace. A
    /// nested namespace is a single folder, such as `a.b`, so that no namespace has the same folder
    /// as a table.
    pub fn new_location(self, name: &TableName) -> String {
        let unique = Uuid::new_v4().simple().to_string();
        let (namespace, table) =
            (partition::folder_name(&name.namespace), partition::folder_name(&name.name));
        format!("{}/{namespace}/{table}-{}", self.tables.root_url(), &unique[..8])
    }

    /// Returns the totals of the current snapshot, from its summary. If the summary contains no
    /// totals, computes them from the manifests.
    pub async fn totals(self, metadata: &TableMetadata) -> Result<Totals> {
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
                    totals.bytes += content_bytes(entry.data_file());
                }
            }
        }
        Ok(totals)
    }
}

impl MetadataFiles<'_> {
    /// Returns a snapshot's manifests from the cache or the object store.
    pub async fn manifests(self, snapshot: &SnapshotRef) -> Result<SnapshotManifests> {
        let location = snapshot.manifest_list();
        if let Some(found) = self.tables.caches().lists.get(location) {
            return Ok(found);
        }
        let listed: SnapshotManifests = self.read_manifest_list(location).await?.into();
        self.tables.caches().lists.insert(location.to_owned(), listed.clone());
        Ok(listed)
    }

    /// Reads a manifest list from the object store, bypassing the cache.
    pub async fn read_manifest_list(self, location: &str) -> Result<Vec<ManifestFile>> {
        let content = self.tables.storage().read(location).await?;
        let list = location.to_owned();
        run_blocking(location, move || decode_list(&list, &content)).await
    }

    /// Returns a snapshot's data files from the cache or the object store.
    pub async fn files(
        self,
        metadata: &TableMetadata,
        snapshot: &SnapshotRef,
    ) -> Result<SnapshotFiles> {
        Ok(self.files_and_stats(metadata, snapshot).await?.0)
    }

    pub(crate) async fn files_and_stats(
        self,
        metadata: &TableMetadata,
        snapshot: &SnapshotRef,
    ) -> Result<(SnapshotFiles, Arc<FileStatCache>)> {
        let location = snapshot.manifest_list();
        if let Some(found) = self.tables.caches().files.get(location) {
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
                self.init_data_files(metadata, &manifest, &decoded)?;
                Ok::<_, Error>((Vec::new(), decoded))
            })
            .buffered(MANIFEST_READS_MAX);
        let read: Vec<(Vec<_>, Arc<CachedManifest>)> = read.try_collect().await?;
        let (mut files, mut deletes) = (Vec::new(), Vec::new());
        for (found, decoded) in read {
            deletes.extend(found);
            files.extend(decoded.files.get().into_iter().flatten().cloned());
        }
        files.sort_by_key(|file: &Arc<DataFile>| file.sequence_number());
        let files: SnapshotFiles = attach(files, deletes, metadata)?.into();
        let found = (files, Arc::default());
        self.tables.caches().files.insert(location.to_owned(), found.clone());
        Ok(found)
    }

    /// Returns the delete files of a manifest.
    fn delete_files(
        self,
        manifest: &ManifestFile,
        decoded: &CachedManifest,
    ) -> Result<Vec<Arc<DeleteFile>>> {
        let files = decoded.live.iter().map(|entry| {
            let path = self.tables.path_of(entry.data_file().file_path())?;
            Ok(Arc::new(DeleteFile::new(path, entry.clone(), manifest.partition_spec_id)))
        });
        files.collect()
    }

    /// Computes the data files of a decoded manifest on first use.
    pub(crate) fn init_data_files(
        self,
        metadata: &TableMetadata,
        manifest: &ManifestFile,
        decoded: &CachedManifest,
    ) -> Result<()> {
        if decoded.files.get().is_some() {
            return Ok(());
        }
        let corrupt = |reason: String| Error::corrupt(&manifest.manifest_path, reason);
        let spec = metadata.partition_spec_by_id(manifest.partition_spec_id);
        let spec = spec
            .ok_or_else(|| corrupt("the partition spec of the manifest is unknown".to_owned()))?;
        let types = &decoded.partition_type;
        let written_schemas = written_schemas(metadata);
        let files = decoded.live.iter().map(|entry| {
            let file = entry.data_file();
            Ok(Arc::new(DataFile {
                location: file.file_path().to_owned(),
                path: self.tables.path_of(file.file_path())?,
                bytes: file.file_size_in_bytes(),
                rows: file.record_count(),
                partition: partition::describe(spec, types, file.partition()),
                entry: entry.clone(),
                spec_id: manifest.partition_spec_id,
                deletes: None,
                parts: partition::values_of(spec, file.partition()),
                written_schemas: written_schemas.clone(),
            }))
        });
        let files = files.collect::<Result<Vec<_>>>()?;
        // If another plan has set the same value concurrently, that value is kept.
        let _ = decoded.files.set(files);
        Ok(())
    }

    /// Adds the files written by a commit to the caches.
    pub(crate) fn cache_snapshot(
        self,
        manifest_list: String,
        listed: Vec<ManifestFile>,
        decoded: Vec<(String, DecodedManifest)>,
    ) {
        for (location, decoded) in decoded {
            let manifest = listed.iter().find(|manifest| manifest.manifest_path == location);
            if let Some(manifest) = manifest {
                self.cache_manifest(manifest, Arc::new(CachedManifest::new(decoded)));
            }
        }
        self.tables.caches().lists.insert(manifest_list, listed.into());
    }

    /// Returns a decoded manifest from the cache or the object store.
    pub async fn manifest(self, manifest: &ManifestFile) -> Result<Arc<CachedManifest>> {
        if let Some(found) = self.tables.caches().manifests.get(&cache_key(manifest)) {
            return Ok(found);
        }
        let content = self.tables.storage().read(&manifest.manifest_path).await?;
        let file = manifest.clone();
        let decoded =
            run_blocking(&manifest.manifest_path, move || decode(&file, &content)).await?;
        let decoded = Arc::new(CachedManifest::new(decoded));
        self.cache_manifest(manifest, decoded.clone());
        Ok(decoded)
    }

    fn cache_manifest(self, manifest: &ManifestFile, decoded: Arc<CachedManifest>) {
        if let Some(first) = manifest.first_row_id {
            self.tables.caches().first_row_ids.insert(manifest.manifest_path.clone(), first);
        }
        self.tables.caches().manifests.insert(cache_key(manifest), decoded);
    }

    /// Removes all cache entries of a manifest. Each first row id has its own entry.
    pub(crate) fn evict_manifest(self, location: &str) {
        let caches = self.tables.caches();
        caches.manifests.invalidate(location);
        if let Some(first) = caches.first_row_ids.remove(location) {
            caches.manifests.invalidate(&numbered_key(location, first));
        }
    }
}

/// Returns the cache key of a manifest: its location and its first row id. The first row id can be
/// assigned after the manifest was written, when the table is upgraded to format version 3.
fn cache_key(manifest: &ManifestFile) -> String {
    match manifest.first_row_id {
        None => manifest.manifest_path.clone(),
        Some(first) => numbered_key(&manifest.manifest_path, first),
    }
}

fn numbered_key(location: &str, first_row_id: u64) -> String {
    format!("{location}#{first_row_id}")
}
