//! Checks snapshots that other engines wrote: reads their manifests, and makes their files durable
//! before the commit.
//!
//! A commit may add hundreds of snapshots, each of which lists the manifests of the previous
//! snapshot. So each manifest is checked only once, and all files are synced together.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use headwater_tables::{CachedManifest, referenced_snapshots};
use iceberg::spec::{
    FormatVersion, ManifestContentType, ManifestEntryRef, ManifestFile, Snapshot, SnapshotRef,
    TableMetadata,
};
use object_store::ObjectStoreExt;

use crate::commit_constraints::check_folder;
use crate::file_checks::reject;
use crate::{Error, RestTables, Result, TableCommit};

/// Maximum number of manifest lists, manifests or files that are read at the same time.
const READS_MAX: usize = 16;

/// Contents that need no further check: the manifests, files and row ids of the table, and of the
/// snapshots that were checked so far.
#[derive(Debug, Default)]
pub(super) struct KnownContents {
    manifests: HashSet<String>,
    files: HashSet<String>,
    rows: AssignedRowIds,
    /// Files that still have to be synced.
    to_sync: Vec<String>,
    /// The folder that must contain all new files; `None` if the commit has no such limit.
    folder: Option<String>,
}

/// The row ids that the table and the checked manifests have assigned.
#[derive(Debug, Default)]
struct AssignedRowIds {
    /// The first row id of each manifest that has one, by location.
    first_row_ids: HashMap<String, u64>,
    /// The next row id of the table before the commit.
    first: u64,
    /// Manifests from before the upgrade to format version 3. Their rows had no ids before this
    /// commit.
    without_row_ids: HashSet<String>,
    /// The number of rows in the manifests of `without_row_ids` that this commit assigns ids to.
    rows: u64,
    /// The first id after all ids that the checked manifests assign.
    end: u64,
}

impl RestTables<'_> {
    /// Checks the new snapshots of a commit and makes their files durable. Returns the next row id
    /// of the table.
    pub(crate) async fn check_new_files(
        self,
        before: &TableMetadata,
        after: &TableMetadata,
        commit: &TableCommit,
    ) -> Result<u64> {
        let ids = commit.added().map(Snapshot::snapshot_id);
        let added: Vec<SnapshotRef> =
            ids.filter_map(|id| after.snapshot_by_id(id)).cloned().collect();
        if added.is_empty() {
            return Ok(after.next_row_id());
        }
        let mut known = self.known(before).await?;
        known.folder = commit.constraints.own_files.then(|| after.location().to_owned());
        let next_row_id = self.check_snapshots(after, &added, known).await?;
        if commit.constraints.only_appends {
            self.check_appends(before, &added).await?;
        }
        Ok(next_row_id)
    }

    async fn known(self, before: &TableMetadata) -> Result<KnownContents> {
        let mut known = KnownContents::default();
        known.rows.first = before.next_row_id();
        if let Some(snapshot) = before.current_snapshot() {
            let listed = self.tables.metadata_files().manifests(snapshot).await?;
            known.manifests.extend(listed.iter().map(|manifest| manifest.manifest_path.clone()));
            for manifest in listed.iter() {
                let location = manifest.manifest_path.clone();
                match manifest.first_row_id {
                    Some(first) => drop(known.rows.first_row_ids.insert(location, first)),
                    None => drop(known.rows.without_row_ids.insert(location)),
                }
            }
            let files = self.tables.metadata_files().files(before, snapshot).await?;
            known.files.extend(files.iter().map(|file| file.location.clone()));
        }
        Ok(known)
    }

    /// Checks the snapshots of a table that is to be registered.
    pub(crate) async fn check_all_snapshots(
        self,
        metadata: &TableMetadata,
        snapshots: &[SnapshotRef],
    ) -> Result<()> {
        self.check_snapshots(metadata, snapshots, KnownContents::default()).await.map(drop)
    }

    async fn check_snapshots(
        self,
        metadata: &TableMetadata,
        snapshots: &[SnapshotRef],
        mut known: KnownContents,
    ) -> Result<u64> {
        for snapshot in snapshots {
            self.check_location(snapshot.manifest_list())?;
            self.tables.files().check_not_deleting(snapshot.manifest_list()).map_err(reject)?;
            known.check_folder(snapshot.manifest_list())?;
        }
        let mut manifests = Vec::new();
        let lists = stream::iter(snapshots.to_vec()).map(|snapshot| async move {
            self.tables.metadata_files().read_manifest_list(snapshot.manifest_list()).await
        });
        let mut lists = lists.buffered(READS_MAX);
        let has_ids = metadata.format_version() >= FormatVersion::V3;
        while let Some(listed) = lists.try_next().await.map_err(reject)? {
            for manifest in listed {
                if has_ids {
                    known.rows.count(&manifest)?;
                }
                if known.manifests.insert(manifest.manifest_path.clone()) {
                    known.check_folder(&manifest.manifest_path)?;
                    manifests.push(manifest);
                }
            }
        }
        drop(lists);
        let given = known.rows.end(metadata.next_row_id())?;
        known.to_sync.extend(snapshots.iter().map(|one| one.manifest_list().to_owned()));
        let decoded = stream::iter(manifests.clone())
            .map(|manifest| async move { self.check_manifest(metadata, &manifest).await });
        let mut decoded = decoded.buffered(READS_MAX);
        for manifest in &manifests {
            let Some(decoded) = decoded.try_next().await? else { break };
            check_entries(manifest, &decoded.live, given)?;
            known.to_sync.push(manifest.manifest_path.clone());
            for entry in &decoded.live {
                let location = entry.data_file().file_path();
                if known.files.insert(location.to_owned()) {
                    known.check_folder(location)?;
                    known.to_sync.push(location.to_owned());
                }
            }
        }
        drop(decoded);
        self.check_files_exist(&known.to_sync).await?;
        self.tables
            .storage()
            .sync(known.to_sync.iter().map(String::as_str))
            .await
            .map_err(reject)?;
        self.check_plans(metadata, snapshots).await?;
        Ok(given)
    }

    /// Reads a new manifest and checks the locations of the files in it.
    async fn check_manifest(
        self,
        metadata: &TableMetadata,
        manifest: &ManifestFile,
    ) -> Result<Arc<CachedManifest>> {
        let location = &manifest.manifest_path;
        self.check_location(location)?;
        self.tables.files().check_not_deleting(location).map_err(reject)?;
        if metadata.partition_spec_by_id(manifest.partition_spec_id).is_none() {
            let reason = format!("`{location}` has an unknown partition spec");
            return Err(Error::Refused { reason });
        }
        let decoded = self.tables.metadata_files().manifest(manifest).await.map_err(reject)?;
        for entry in &decoded.live {
            self.check_file(entry.data_file())?;
            self.tables
                .files()
                .check_not_deleting(entry.data_file().file_path())
                .map_err(reject)?;
        }
        Ok(decoded)
    }

    /// Plans scans of the last snapshot and of the snapshots with a ref, to check that they can be
    /// read.
    async fn check_plans(self, metadata: &TableMetadata, snapshots: &[SnapshotRef]) -> Result<()> {
        let referenced = referenced_snapshots(metadata);
        let last = snapshots.last().map(|snapshot| snapshot.snapshot_id());
        for snapshot in snapshots {
            let id = snapshot.snapshot_id();
            if Some(id) == last || referenced.contains(&id) {
                self.tables.metadata_files().files(metadata, snapshot).await.map_err(reject)?;
            }
        }
        Ok(())
    }

    /// Checks that files exist. This check is not needed in a local folder, where the sync fails
    /// for missing files.
    async fn check_files_exist(self, files: &[String]) -> Result<()> {
        if self.tables.options().local_root.is_some() {
            return Ok(());
        }
        let checks = stream::iter(files.to_vec()).map(|location| async move {
            let found = self.tables.object_store().head(&self.tables.path_of(&location)?).await;
            found.map(drop).map_err(|error| reject(Error::storage(location, error)))
        });
        checks.buffer_unordered(READS_MAX).try_collect::<Vec<()>>().await.map(drop)
    }
}

impl KnownContents {
    fn check_folder(&self, location: &str) -> Result<()> {
        self.folder.as_ref().map_or(Ok(()), |folder| check_folder(folder, location))
    }
}

impl AssignedRowIds {
    /// Records the row ids that a manifest assigns. Fails if other rows have these ids, or could
    /// get them later.
    ///
    /// After an upgrade to format version 3, rows that existed before also get ids. Not every
    /// engine counts these rows in the `added-rows` of the snapshot, but the manifest lists contain
    /// the first row ids.
    fn count(&mut self, manifest: &ManifestFile) -> Result<()> {
        let Some(first) = manifest.first_row_id.filter(|_| is_data(manifest)) else {
            return Ok(());
        };
        let location = &manifest.manifest_path;
        let rejected = |what: &str| {
            let reason = format!("`{location}` has row ids {what}");
            Err(Error::Refused { reason })
        };
        match self.first_row_ids.get(location) {
            Some(before) if *before == first => return Ok(()),
            Some(_) => return rejected("that differ from those of the previous snapshot"),
            None if first < self.first => return rejected("that belong to other rows"),
            None => {}
        }
        self.first_row_ids.insert(location.clone(), first);
        let counts = manifest.existing_rows_count.zip(manifest.added_rows_count);
        let rows = counts.map_or(0, |(existing, added)| existing.saturating_add(added));
        if self.without_row_ids.contains(location) {
            self.rows = self.rows.saturating_add(rows);
        }
        self.end = self.end.max(first.saturating_add(rows));
        Ok(())
    }

    /// Returns the next row id of a table. `counted` is the next row id in the new metadata. Fails
    /// if the manifests assign more ids than the metadata permits.
    fn end(&self, counted: u64) -> Result<u64> {
        let end = self.end;
        let end_max = counted.saturating_add(self.rows);
        if end > end_max {
            let reason = format!(
                "row ids in manifests exceed the table's `next-row-id`: they end at \
                 {end}, but the snapshots assign ids up to {end_max}"
            );
            return Err(Error::Refused { reason });
        }
        Ok(end.max(counted))
    }
}

fn is_data(manifest: &ManifestFile) -> bool {
    manifest.content == ManifestContentType::Data
}

/// Rejects a manifest with entries whose row ids are `given` or above. `given` is the next row id
/// of the table, which the table can still assign to another row.
fn check_entries(manifest: &ManifestFile, entries: &[ManifestEntryRef], given: u64) -> Result<()> {
    if !is_data(manifest) {
        return Ok(());
    }
    let beyond = entries.iter().any(|entry| {
        let Some(first) = entry.data_file().first_row_id() else { return false };
        let first = u64::try_from(first).unwrap_or(u64::MAX);
        first.saturating_add(entry.data_file().record_count()) > given
    });
    if !beyond {
        return Ok(());
    }
    let location = &manifest.manifest_path;
    let reason = format!("`{location}` has row ids above the table's `next-row-id`");
    Err(Error::Refused { reason })
}
