//! Files that another engine wrote: where they may lie, that the table can be read from them, and that
//! they stay.

use std::collections::HashSet;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use headwater_model::Fault;
use iceberg::spec::{
    DataContentType, DataFile, DataFileFormat, ManifestContentType, ManifestEntryRef, ManifestFile,
    SnapshotRef, TableMetadata,
};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStoreExt};
use serde::Deserialize;
use tokio::sync::MutexGuard;
use uuid::Uuid;

use super::TableCommit;
use crate::storage::as_we_write;
use crate::{Error, Result, Tables};

/// What the names of metadata files end in.
const METADATA_SUFFIX: &str = ".metadata.json";

/// The longest metadata file that is registered, in bytes.
pub(super) const METADATA_BYTES_MAX: u64 = 256 << 20;

/// What a metadata file says first of all.
#[derive(Debug, Deserialize)]
struct Named {
    #[serde(rename = "table-uuid")]
    uuid: Uuid,
}

/// What a table has already.
#[derive(Debug, Default)]
pub(super) struct Known {
    manifests: HashSet<String>,
    files: HashSet<String>,
    /// The first id that no row has.
    next_row_id: u64,
}

impl Tables {
    /// What a metadata file holds that somebody named.
    pub(super) async fn given_metadata(&self, location: &str, bytes_max: u64) -> Result<Bytes> {
        let path = self.check_location(location)?;
        if !location.ends_with(METADATA_SUFFIX) {
            let reason = format!("`{location}` does not end in `{METADATA_SUFFIX}`");
            return Err(Error::Refused { reason });
        }
        let found = self.object_store().head(&path).await;
        let found = found.map_err(|error| refuse(Error::storage(location, error)))?;
        if found.size > bytes_max {
            let reason = format!("`{location}` is longer than any metadata file");
            return Err(Error::Refused { reason });
        }
        self.check_kept(location).map_err(refuse)?;
        self.storage().read(location).await.map_err(refuse)
    }

    /// Where a location that somebody gave lies. Fails where that is not in the warehouse.
    pub(super) fn check_location(&self, location: &str) -> Result<Path> {
        let path = self.path_of(location).map_err(refuse)?;
        // Files are told apart by how their locations are written.
        if format!("{}/{path}", self.root_url()) == as_we_write(location) {
            return Ok(path);
        }
        let reason = format!("`{location}` is written otherwise than `{}/{path}`", self.root_url());
        Err(Error::Refused { reason })
    }

    /// Held, where somebody gives a location, from before it is found to be free until something lies there.
    pub(super) async fn hold_place(&self, is_given: bool) -> Option<MutexGuard<'_, ()>> {
        if is_given { Some(self.placing().lock().await) } else { None }
    }

    /// A location for a new table that somebody gave: one in the warehouse in which no other table lies, and
    /// that lies in no other table.
    pub(super) async fn free_location(&self, location: &str) -> Result<String> {
        let location = location.trim_end_matches('/');
        let path = self.check_location(location)?;
        if self.lies_in_another(&path).await? || self.has_metadata(&path).await? {
            return Err(taken(location));
        }
        Ok(location.to_owned())
    }

    /// The same for a table that is there. What a try to move it left behind, of which nobody knows whether
    /// it was made, is not in the way of the next.
    pub(super) async fn location_to_move_to(&self, location: &str, own: Uuid) -> Result<()> {
        let path = self.check_location(location.trim_end_matches('/'))?;
        if self.lies_in_another(&path).await? || !self.has_only(&path, own).await? {
            return Err(taken(location));
        }
        Ok(())
    }

    /// Whether no metadata file lies under a folder but those of one table that lies right there. Where one
    /// of its own does, no other table's was let in.
    async fn has_only(&self, folder: &Path, table: Uuid) -> Result<bool> {
        let failed = |error| Error::storage(folder.to_string(), error);
        let right_there = folder.clone().join("metadata");
        let mut first = None;
        let mut files = self.object_store().list(Some(folder));
        while let Some(file) = files.next().await {
            let file = file.map_err(failed)?;
            if !file.location.as_ref().ends_with(METADATA_SUFFIX) {
                continue;
            }
            if file.location.prefix_matches(&right_there)
                && file.location.parts_count() == right_there.parts_count() + 1
            {
                first.get_or_insert(file);
            } else {
                return Ok(false);
            }
        }
        match first {
            Some(file) => self.is_of(&file, table).await,
            None => Ok(true),
        }
    }

    async fn is_of(&self, file: &ObjectMeta, table: Uuid) -> Result<bool> {
        if file.size > METADATA_BYTES_MAX {
            return Ok(false);
        }
        let location = format!("{}/{}", self.root_url(), file.location);
        let content = self.storage().read(&location).await?;
        let read: Option<Named> = serde_json::from_slice(&content).ok();
        Ok(read.is_some_and(|read| read.uuid == table))
    }

    /// Whether a folder lies in that of a table, or is that of all.
    pub(super) async fn lies_in_another(&self, path: &Path) -> Result<bool> {
        let parts: Vec<_> = path.parts().collect();
        for length in 1..parts.len() {
            let above: Path = parts[..length].iter().cloned().collect();
            if self.has_metadata(&above.join("metadata")).await? {
                return Ok(true);
            }
        }
        Ok(parts.is_empty())
    }

    async fn has_metadata(&self, folder: &Path) -> Result<bool> {
        let failed = |error| Error::storage(folder.to_string(), error);
        let mut files = self.object_store().list(Some(folder));
        while let Some(file) = files.next().await {
            if file.map_err(failed)?.location.as_ref().ends_with(METADATA_SUFFIX) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Checks what the snapshots of a commit bring, and makes it durable.
    pub(super) async fn take_files(
        &self,
        before: &TableMetadata,
        after: &TableMetadata,
        commit: &TableCommit,
    ) -> Result<()> {
        let mut known = Known { next_row_id: before.next_row_id(), ..Known::default() };
        if let Some(snapshot) = before.current_snapshot() {
            let listed = self.manifests(before, snapshot).await?;
            known.manifests.extend(listed.iter().map(|manifest| manifest.manifest_path.clone()));
            let files = self.files(before, snapshot).await?;
            known.files.extend(files.iter().map(|file| file.location.clone()));
        }
        for added in commit.added() {
            if let Some(snapshot) = after.snapshot_by_id(added.snapshot_id()) {
                self.take_snapshot(after, snapshot, &known).await?;
            }
        }
        Ok(())
    }

    /// Reads a snapshot's manifests, and makes them and the files that they bring durable. Fails where the
    /// table could not be read from them.
    pub(super) async fn take_snapshot(
        &self,
        metadata: &TableMetadata,
        snapshot: &SnapshotRef,
        known: &Known,
    ) -> Result<()> {
        self.check_location(snapshot.manifest_list())?;
        self.check_kept(snapshot.manifest_list()).map_err(refuse)?;
        let listed = self.manifests(metadata, snapshot).await.map_err(refuse)?;
        let mut files = vec![snapshot.manifest_list().to_owned()];
        for manifest in listed.iter().filter(|file| !known.manifests.contains(&file.manifest_path))
        {
            self.check_location(&manifest.manifest_path)?;
            self.check_kept(&manifest.manifest_path).map_err(refuse)?;
            if metadata.partition_spec_by_id(manifest.partition_spec_id).is_none() {
                let location = &manifest.manifest_path;
                let reason = format!("`{location}` is of a partition spec that the table lacks");
                return Err(Error::Refused { reason });
            }
            let decoded = self.manifest(manifest).await.map_err(refuse)?;
            check_row_ids(metadata, manifest, &decoded.live, known)?;
            files.push(manifest.manifest_path.clone());
            for entry in &decoded.live {
                self.check_file(entry.data_file())?;
                let location = entry.data_file().file_path();
                self.check_kept(location).map_err(refuse)?;
                if !known.files.contains(location) {
                    files.push(location.to_owned());
                }
            }
        }
        self.check_there(&files).await?;
        self.storage().sync(files.iter().map(String::as_str)).await.map_err(refuse)?;
        self.files(metadata, snapshot).await.map(drop).map_err(refuse)
    }

    fn check_file(&self, file: &DataFile) -> Result<()> {
        self.check_location(file.file_path())?;
        let (content, format) = (file.content_type(), file.file_format());
        let readable = match content {
            DataContentType::PositionDeletes => {
                matches!(format, DataFileFormat::Parquet | DataFileFormat::Puffin)
            }
            _ => format == DataFileFormat::Parquet,
        };
        if readable {
            return Ok(());
        }
        let location = file.file_path();
        let reason = format!("`{location}` is a file of format `{format}`, which is not read here");
        Err(Error::Refused { reason })
    }

    /// Files that are not there are nobody's table. A local folder says so when they are synced.
    async fn check_there(&self, files: &[String]) -> Result<()> {
        if self.options().local_root.is_some() {
            return Ok(());
        }
        let checks = futures::stream::iter(files.to_vec()).map(|location| async move {
            let found = self.object_store().head(&self.path_of(&location)?).await;
            found.map(drop).map_err(|error| refuse(Error::storage(location, error)))
        });
        checks.buffer_unordered(16).try_collect::<Vec<()>>().await.map(drop)
    }
}

fn taken(location: &str) -> Error {
    Error::Refused { reason: format!("`{location}` holds, or lies in, another table") }
}

/// Fails where rows that a snapshot brings have ids that others have, or may come to have.
fn check_row_ids(
    metadata: &TableMetadata,
    manifest: &ManifestFile,
    entries: &[ManifestEntryRef],
    known: &Known,
) -> Result<()> {
    if manifest.content != ManifestContentType::Data {
        return Ok(());
    }
    let rows = manifest.existing_rows_count.zip(manifest.added_rows_count);
    let rows = rows.map_or(0, |(existing, added)| existing.saturating_add(added));
    let all = manifest.first_row_id.map(|first| (first, rows));
    let of_entry = |entry: &ManifestEntryRef| {
        let first = u64::try_from(entry.data_file().first_row_id()?).ok();
        Some((first.unwrap_or(u64::MAX), entry.data_file().record_count()))
    };
    let given = metadata.next_row_id();
    let mut ranges = all.into_iter().chain(entries.iter().filter_map(of_entry));
    let beyond = ranges.any(|(first, rows)| first.saturating_add(rows) > given);
    let again = all.is_some_and(|(first, _)| first < known.next_row_id);
    if !beyond && !again {
        return Ok(());
    }
    let what = if beyond { "that the table does not count as given" } else { "that others have" };
    let reason = format!("`{}` has rows with ids {what}", manifest.manifest_path);
    Err(Error::Refused { reason })
}

/// An error about a file that somebody else wrote, or named, is theirs; one of the disk is not.
pub(super) fn refuse(error: Error) -> Error {
    match error {
        Error::OutsideWarehouse { .. }
        | Error::Missing { .. }
        | Error::Corrupt { .. }
        | Error::Unsupported { .. } => {
            let mut reason = error.to_string();
            if let Some(cause) = error.to_problem().causes.first() {
                reason = format!("{reason}: {cause}");
            }
            Error::Refused { reason }
        }
        other => other,
    }
}
