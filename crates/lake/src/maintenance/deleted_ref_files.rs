//! Garbage collection of files that are referenced only by deleted branches and tags.
//!
//! The catalog records the commits of deleted refs. After a grace period, maintenance removes the
//! files referenced only by these commits. Only files whose names were found in table metadata are
//! removed. The names are kept in a journal until all files are removed: metadata files are removed
//! first, and after an interruption, the names could no longer be found there. After that, the
//! record of the deleted ref is removed.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use headwater_catalog::ReachableState;
use headwater_model::{RemovedFiles, Timestamp};
use headwater_store::{JournalAppend, KeyRange, WriteBatch};
use headwater_tables::{ReachableFiles, SnapshotSet, WarehouseFile};
use tokio_util::sync::CancellationToken;

use super::Maintenance;
use super::ORPHANS_AFTER;
use super::referenced_files::{ReferencedFiles, folder_of};
use super::sweep_options::SweepOptions;
use crate::error::{Error, Result};
use crate::lake::Lake;

/// The name of the journal of files that are being removed. Its keys are `time/number`.
const PENDING_REMOVALS: &str = "pending_removals";

/// The number of file names per journal entry.
const NAMES_PER_ENTRY: usize = 1_000;

/// Table states that are only in the histories of refs that were deleted up to a given time.
#[derive(Debug)]
pub(super) struct UnreachableStates {
    /// The time of the last deletion among these refs.
    until: Timestamp,
    states: Vec<ReachableState>,
}

impl UnreachableStates {
    /// Returns the locations of the metadata files of these states.
    fn metadata(&self, lake: &Lake) -> HashSet<String> {
        let places = self.states.iter().map(|state| &state.entry.metadata_location);
        places.map(|location| lake.tables().files().location_of(location)).collect()
    }
}

impl Maintenance<'_> {
    /// Returns true if a branch or tag was deleted longer ago than the grace period.
    pub async fn has_expired_ref(self) -> Result<bool> {
        let until = self.lake.clock().now() - ORPHANS_AFTER;
        Ok(!self.lake.catalog().deleted_refs().before(until).await?.is_empty())
    }

    /// Removes the files that are referenced only by refs which were deleted at least `age` ago.
    pub(super) async fn collect_deleted_refs(
        self,
        age: Duration,
        dry_run: bool,
        cancelled: &CancellationToken,
    ) -> Result<RemovedFiles> {
        let until = self.lake.clock().now() - age;
        let unreachable =
            UnreachableStates { until, states: self.unreachable_states(until).await? };
        if unreachable.states.is_empty() {
            // No state is unreachable, because other refs refer to all of them, for example after a
            // merge.
            if !dry_run {
                self.forget_deleted_refs(&unreachable).await?;
            }
            return Ok(RemovedFiles::default());
        }
        let sweep = SweepOptions { dry_run, ..SweepOptions::of_unreachable(unreachable, age) };
        self.sweep(sweep, cancelled).await
    }

    /// Returns the table states that are only in the histories of deleted refs.
    async fn unreachable_states(self, until: Timestamp) -> Result<Vec<ReachableState>> {
        let deleted = self.lake.catalog().deleted_refs().before(until).await?;
        if deleted.is_empty() {
            return Ok(Vec::new());
        }
        let mut reach = self.lake.catalog().reach(&deleted, |_| true).await?;
        let needed = self.lake.catalog().reach(&self.named_commits(until).await?, |_| true).await?;
        reach.states.retain(|location, _| !needed.states.contains_key(location));
        Ok(reach.states.into_values().collect())
    }

    /// Returns the existing files of unreachable states, and the files that an interrupted removal
    /// left.
    pub(super) async fn files_of_unreachable(
        self,
        unreachable: &UnreachableStates,
        found: &ReferencedFiles,
    ) -> Result<Vec<WarehouseFile>> {
        let referenced = ReachableFiles::excluding(Arc::clone(&found.needed));
        let mut folders = HashSet::new();
        for state in &unreachable.states {
            let location = &state.entry.metadata_location;
            let location_of_file = self.files().location_of(location);
            folders.extend(folder_of(&location_of_file));
            if state.entry.is_view() {
                referenced.add_file(location_of_file);
            } else {
                // Errors of unreadable files are ignored: files to which only an unreadable file
                // refers are unknown, and are therefore not removed.
                self.files().reach(location, &SnapshotSet::All, &referenced).await?;
            }
        }
        let pending = self.pending_removals().await?;
        let mut files = Vec::new();
        for folder in folders {
            files.extend(self.files().list(Some(folder.trim_end_matches('/'))).await?);
        }
        files
            .retain(|file| referenced.contains(&file.location) || pending.contains(&file.location));
        Ok(files)
    }

    async fn pending_removals(self) -> Result<HashSet<String>> {
        let mut files = HashSet::new();
        for entry in self.lake.store().scan(PENDING_REMOVALS, &KeyRange::all()).await? {
            let names: Vec<String> =
                serde_json::from_slice(&entry.value).map_err(|error| Error::Internal {
                    message: format!(
                        "the journal of pending file removals cannot be read: {error}"
                    ),
                })?;
            files.extend(names);
        }
        Ok(files)
    }

    /// Records the names of files before the files are removed. Keeps the names that an interrupted
    /// removal has recorded.
    pub(super) async fn record_removals(self, files: &[String], now: Timestamp) -> Result<()> {
        let now = now.timestamp_micros();
        let entry = |(number, names): (usize, &[String])| {
            let value = serde_json::to_vec(names);
            let value = value.map_err(|error| Error::Internal { message: error.to_string() })?;
            let (journal, key) = (PENDING_REMOVALS.to_owned(), format!("{now:020}/{number:08}"));
            Ok(JournalAppend { journal, key, value: Some(Bytes::from(value)) })
        };
        let entries = files.chunks(NAMES_PER_ENTRY).enumerate().map(entry);
        let entries = entries.collect::<Result<_>>()?;
        self.lake.store().apply(WriteBatch { entries, ..WriteBatch::default() }).await?;
        Ok(())
    }

    /// Deletes the records of the deleted refs, if all files of the unreachable states are removed.
    pub(super) async fn finish_removal(
        self,
        unreachable: &UnreachableStates,
        left: &HashSet<String>,
    ) -> Result<()> {
        if unreachable.metadata(self.lake).is_disjoint(left) {
            self.forget_deleted_refs(unreachable).await?;
        }
        Ok(())
    }

    async fn forget_deleted_refs(self, unreachable: &UnreachableStates) -> Result<()> {
        self.lake.store().trim(PENDING_REMOVALS, &KeyRange::all()).await?;
        Ok(self.lake.catalog().deleted_refs().trim(unreachable.until).await?)
    }
}
