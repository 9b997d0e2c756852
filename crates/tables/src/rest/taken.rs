//! Snapshots that another engine made: their manifests are read, and their files are durable, before the
//! table has them.
//!
//! A commit may bring hundreds of snapshots, each with all manifests of the one before. So a manifest is
//! checked once, with the first snapshot that lists it, and all files are made durable together.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use iceberg::spec::{
    FormatVersion, ManifestContentType, ManifestEntryRef, ManifestFile, Snapshot, SnapshotRef,
    TableMetadata,
};
use object_store::ObjectStoreExt;

use super::TableCommit;
use super::files::refuse;
use crate::commit::named_snapshots;
use crate::manifest::Decoded;
use crate::{Error, Result, Tables};

/// How many manifest lists, manifests or files are looked at at once.
const AT_ONCE: usize = 16;

/// What a table has already, and what the snapshots bring that were looked at so far.
#[derive(Debug, Default)]
pub(super) struct Known {
    manifests: HashSet<String>,
    files: HashSet<String>,
    rows: RowIds,
    /// Files that must be made durable.
    new: Vec<String>,
}

/// The ids that rows were given.
#[derive(Debug, Default)]
struct RowIds {
    /// The first id of each manifest that has one.
    numbered: HashMap<String, u64>,
    /// The first id that no row of the table has.
    first: u64,
    /// Manifests of the table before it was upgraded, whose rows have no ids yet.
    unnumbered: HashSet<String>,
    /// How many of those rows came to have ids since.
    rows: u64,
    /// The first id after all that were given since.
    end: u64,
}

impl Tables {
    /// Checks what the snapshots of a commit bring, and makes it durable. Gives the first id that no row
    /// has then.
    pub(super) async fn take_files(
        &self,
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
        let known = self.known(before).await?;
        self.take_snapshots(after, &added, known).await
    }

    async fn known(&self, before: &TableMetadata) -> Result<Known> {
        let mut known = Known::default();
        known.rows.first = before.next_row_id();
        if let Some(snapshot) = before.current_snapshot() {
            let listed = self.manifests(snapshot).await?;
            known.manifests.extend(listed.iter().map(|manifest| manifest.manifest_path.clone()));
            for manifest in listed.iter() {
                let location = manifest.manifest_path.clone();
                match manifest.first_row_id {
                    Some(first) => drop(known.rows.numbered.insert(location, first)),
                    None => drop(known.rows.unnumbered.insert(location)),
                }
            }
            let files = self.files(before, snapshot).await?;
            known.files.extend(files.iter().map(|file| file.location.clone()));
        }
        Ok(known)
    }

    /// The same of snapshots of a table that is not here yet.
    pub(super) async fn take_all(
        &self,
        metadata: &TableMetadata,
        snapshots: &[SnapshotRef],
    ) -> Result<()> {
        self.take_snapshots(metadata, snapshots, Known::default()).await.map(drop)
    }

    async fn take_snapshots(
        &self,
        metadata: &TableMetadata,
        snapshots: &[SnapshotRef],
        mut known: Known,
    ) -> Result<u64> {
        for snapshot in snapshots {
            self.check_location(snapshot.manifest_list())?;
            self.check_kept(snapshot.manifest_list()).map_err(refuse)?;
        }
        let mut manifests = Vec::new();
        let lists = stream::iter(snapshots.to_vec())
            .map(|snapshot| async move { self.read_list(snapshot.manifest_list()).await });
        let mut lists = lists.buffered(AT_ONCE);
        let has_ids = metadata.format_version() >= FormatVersion::V3;
        while let Some(listed) = lists.try_next().await.map_err(refuse)? {
            for manifest in listed {
                if has_ids {
                    known.rows.count(&manifest)?;
                }
                if known.manifests.insert(manifest.manifest_path.clone()) {
                    manifests.push(manifest);
                }
            }
        }
        drop(lists);
        let given = known.rows.end(metadata.next_row_id())?;
        known.new.extend(snapshots.iter().map(|one| one.manifest_list().to_owned()));
        let decoded = stream::iter(manifests.clone())
            .map(|manifest| async move { self.take_manifest(metadata, &manifest).await });
        let mut decoded = decoded.buffered(AT_ONCE);
        for manifest in &manifests {
            let Some(decoded) = decoded.try_next().await? else { break };
            check_entries(manifest, &decoded.live, given)?;
            known.new.push(manifest.manifest_path.clone());
            for entry in &decoded.live {
                let location = entry.data_file().file_path();
                if known.files.insert(location.to_owned()) {
                    known.new.push(location.to_owned());
                }
            }
        }
        drop(decoded);
        self.check_there(&known.new).await?;
        self.storage().sync(known.new.iter().map(String::as_str)).await.map_err(refuse)?;
        self.check_heads(metadata, snapshots).await?;
        Ok(given)
    }

    /// Reads a new manifest and checks the locations of its files.
    async fn take_manifest(
        &self,
        metadata: &TableMetadata,
        manifest: &ManifestFile,
    ) -> Result<Arc<Decoded>> {
        let location = &manifest.manifest_path;
        self.check_location(location)?;
        self.check_kept(location).map_err(refuse)?;
        if metadata.partition_spec_by_id(manifest.partition_spec_id).is_none() {
            let reason = format!("`{location}` is of a partition spec that the table lacks");
            return Err(Error::Refused { reason });
        }
        let decoded = self.manifest(manifest).await.map_err(refuse)?;
        for entry in &decoded.live {
            self.check_file(entry.data_file())?;
            self.check_kept(entry.data_file().file_path()).map_err(refuse)?;
        }
        Ok(decoded)
    }

    /// Plans the last of some snapshots, and those that have a name, as a scan of them would.
    async fn check_heads(&self, metadata: &TableMetadata, snapshots: &[SnapshotRef]) -> Result<()> {
        let named = named_snapshots(metadata);
        let last = snapshots.last().map(|snapshot| snapshot.snapshot_id());
        for snapshot in snapshots {
            let id = snapshot.snapshot_id();
            if Some(id) == last || named.contains(&id) {
                self.files(metadata, snapshot).await.map_err(refuse)?;
            }
        }
        Ok(())
    }

    /// Checks that files exist. In a local folder the sync fails for missing files.
    async fn check_there(&self, files: &[String]) -> Result<()> {
        if self.options().local_root.is_some() {
            return Ok(());
        }
        let checks = stream::iter(files.to_vec()).map(|location| async move {
            let found = self.object_store().head(&self.path_of(&location)?).await;
            found.map(drop).map_err(|error| refuse(Error::storage(location, error)))
        });
        checks.buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await.map(drop)
    }
}

impl RowIds {
    /// Counts the rows of a manifest as given, where it has ids. Fails where others have, or may come to
    /// have, the same.
    ///
    /// A table that was upgraded gives ids to the rows that it had, too, and not every engine counts them
    /// in its snapshot: the manifest lists say which were given.
    fn count(&mut self, manifest: &ManifestFile) -> Result<()> {
        let Some(first) = manifest.first_row_id.filter(|_| is_data(manifest)) else {
            return Ok(());
        };
        let location = &manifest.manifest_path;
        let refused = |what: &str| {
            let reason = format!("`{location}` has rows with ids {what}");
            Err(Error::Refused { reason })
        };
        match self.numbered.get(location) {
            Some(before) if *before == first => return Ok(()),
            Some(_) => return refused("other than before"),
            None if first < self.first => return refused("that others have"),
            None => {}
        }
        self.numbered.insert(location.clone(), first);
        let counts = manifest.existing_rows_count.zip(manifest.added_rows_count);
        let rows = counts.map_or(0, |(existing, added)| existing.saturating_add(added));
        if self.unnumbered.contains(location) {
            self.rows = self.rows.saturating_add(rows);
        }
        self.end = self.end.max(first.saturating_add(rows));
        Ok(())
    }

    /// The first id after all that were given, where a table counts them up to `counted`. Fails where they
    /// go on after those that it may give.
    fn end(&self, counted: u64) -> Result<u64> {
        let end = self.end;
        let end_max = counted.saturating_add(self.rows);
        if end > end_max {
            let reason = format!(
                "manifests have rows with ids that the table does not count as given: they end at \
                 {end}, and the snapshots count up to {end_max}"
            );
            return Err(Error::Refused { reason });
        }
        Ok(end.max(counted))
    }
}

fn is_data(manifest: &ManifestFile) -> bool {
    manifest.content == ManifestContentType::Data
}

/// Fails where the rows of a file have ids that the table may come to give.
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
    let reason = format!("`{location}` has rows with ids that the table does not count as given");
    Err(Error::Refused { reason })
}
