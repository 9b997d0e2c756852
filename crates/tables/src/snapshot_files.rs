//! The manifests and data files of snapshots, read once and cached.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use iceberg::spec::{ManifestContentType, ManifestFile, SnapshotRef, TableMetadata};

use crate::cache::{Files, Manifests};
use crate::cached_manifest::CachedManifest;
use crate::deletes::{DeleteFile, attach};
use crate::file_stats::FileStats;
use crate::manifest::{Decoded, decode, decode_list, off_thread};
use crate::plan::written_schemas;
use crate::{DataFile, Error, Result, Tables, partition};

/// Maximum number of manifests read concurrently.
const MANIFEST_READS_MAX: usize = 16;

impl Tables {
    /// Returns a snapshot's manifests, cached.
    pub(crate) async fn manifests(&self, snapshot: &SnapshotRef) -> Result<Manifests> {
        let location = snapshot.manifest_list();
        if let Some(found) = self.caches().lists.get(location) {
            return Ok(found);
        }
        let listed: Manifests = self.read_list(location).await?.into();
        self.caches().lists.insert(location.to_owned(), listed.clone());
        Ok(listed)
    }

    /// Reads a manifest list from the object store, bypassing the cache.
    pub(crate) async fn read_list(&self, location: &str) -> Result<Vec<ManifestFile>> {
        let content = self.storage().read(location).await?;
        let list = location.to_owned();
        off_thread(location, move || decode_list(&list, &content)).await
    }

    /// Returns a snapshot's data files, cached.
    pub(crate) async fn files(
        &self,
        metadata: &TableMetadata,
        snapshot: &SnapshotRef,
    ) -> Result<Files> {
        Ok(self.files_and_stats(metadata, snapshot).await?.0)
    }

    pub(crate) async fn files_and_stats(
        &self,
        metadata: &TableMetadata,
        snapshot: &SnapshotRef,
    ) -> Result<(Files, Arc<FileStats>)> {
        let location = snapshot.manifest_list();
        if let Some(found) = self.caches().files.get(location) {
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
        let files: Files = attach(files, deletes, metadata)?.into();
        let found = (files, Arc::default());
        self.caches().files.insert(location.to_owned(), found.clone());
        Ok(found)
    }

    /// Returns the delete files of a manifest.
    fn delete_files(
        &self,
        manifest: &ManifestFile,
        decoded: &CachedManifest,
    ) -> Result<Vec<Arc<DeleteFile>>> {
        let files = decoded.live.iter().map(|entry| {
            let path = self.path_of(entry.data_file().file_path())?;
            Ok(Arc::new(DeleteFile::new(path, entry.clone(), manifest.partition_spec_id)))
        });
        files.collect()
    }

    /// Builds the data files of a decoded manifest, once.
    pub(crate) fn init_data_files(
        &self,
        metadata: &TableMetadata,
        manifest: &ManifestFile,
        decoded: &CachedManifest,
    ) -> Result<()> {
        if decoded.files.get().is_some() {
            return Ok(());
        }
        let corrupt = |reason: String| Error::corrupt(&manifest.manifest_path, reason);
        let spec = metadata.partition_spec_by_id(manifest.partition_spec_id);
        let spec = spec.ok_or_else(|| corrupt("its partition spec is unknown".to_owned()))?;
        let types = &decoded.partition_type;
        let written_schemas = written_schemas(metadata);
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
                written_schemas: written_schemas.clone(),
            }))
        });
        let files = files.collect::<Result<Vec<_>>>()?;
        // Another plan may have set the same value concurrently.
        let _ = decoded.files.set(files);
        Ok(())
    }

    /// Adds the files written by a commit to the caches.
    pub(crate) fn cache_snapshot(
        &self,
        manifest_list: String,
        listed: Vec<ManifestFile>,
        decoded: Vec<(String, Decoded)>,
    ) {
        for (location, decoded) in decoded {
            let manifest = listed.iter().find(|manifest| manifest.manifest_path == location);
            if let Some(manifest) = manifest {
                self.cache_manifest(manifest, Arc::new(CachedManifest::new(decoded)));
            }
        }
        self.caches().lists.insert(manifest_list, listed.into());
    }

    /// Returns a decoded manifest, cached.
    pub(crate) async fn manifest(&self, manifest: &ManifestFile) -> Result<Arc<CachedManifest>> {
        if let Some(found) = self.caches().manifests.get(&cache_key(manifest)) {
            return Ok(found);
        }
        let content = self.storage().read(&manifest.manifest_path).await?;
        let file = manifest.clone();
        let decoded = off_thread(&manifest.manifest_path, move || decode(&file, &content)).await?;
        let decoded = Arc::new(CachedManifest::new(decoded));
        self.cache_manifest(manifest, decoded.clone());
        Ok(decoded)
    }

    fn cache_manifest(&self, manifest: &ManifestFile, decoded: Arc<CachedManifest>) {
        if let Some(first) = manifest.first_row_id {
            self.caches().first_row_ids.insert(manifest.manifest_path.clone(), first);
        }
        self.caches().manifests.insert(cache_key(manifest), decoded);
    }

    /// Removes a manifest from the cache, under every first row id.
    pub(crate) fn evict_manifest(&self, location: &str) {
        let caches = self.caches();
        caches.manifests.invalidate(location);
        if let Some(first) = caches.first_row_ids.remove(location) {
            caches.manifests.invalidate(&numbered_key(location, first));
        }
    }
}

/// Returns a manifest's cache key: its location and the first row id, which is assigned only when a
/// table is upgraded.
fn cache_key(manifest: &ManifestFile) -> String {
    match manifest.first_row_id {
        None => manifest.manifest_path.clone(),
        Some(first) => numbered_key(&manifest.manifest_path, first),
    }
}

fn numbered_key(location: &str, first_row_id: u64) -> String {
    format!("{location}#{first_row_id}")
}
