//! The sweep, which removes unreferenced files.
//!
//! A file is referenced if a table state in the history of a branch, tag, recently deleted ref or
//! commit in use refers to it. If a table has a retention, states superseded before that time do
//! not count, except the states at merge bases of branches. The sweep removes all other warehouse
//! files that are older than a minimum age and than the start of every running write.
//!
//! If a state cannot be read, the files to which it refers are not known. Then the sweep skips all
//! files in the folders of the state's table, reports the reason, and processes the other tables.
//!
//! Manifest lists are removed first, then manifests, then data files. An interrupted sweep leaves
//! only unreferenced files, which the next sweep removes.

use std::collections::HashSet;
use std::time::Duration;

use headwater_model::{RemovedFiles, Timestamp};
use headwater_tables::{WarehouseFile, is_reserved};
use tokio_util::sync::CancellationToken;

use super::referenced_files::{ReferencedFiles, deleted_refs_kept};
use super::sweep_options::SweepOptions;
use super::{Maintenance, ORPHANS_AFTER};
use crate::error::{Error, Result};
use crate::lake::Lake;

/// Number of files that are removed between two checks for cancellation.
const REMOVE_BATCH: usize = 500;

/// Up to this number of unreferenced files, the sweep may remove more than half of all files.
const MAJORITY_CHECK_MIN: u64 = 100;

/// Maximum time to wait for running merges. The sweep polls the lock: if it waited for the write
/// lock, new merges would queue behind it.
const MERGE_TIMEOUT: Duration = Duration::from_mins(1);
const MERGE_POLL: Duration = Duration::from_millis(20);

/// Tolerated difference between the clocks of the object store and of this machine.
const CLOCK_SKEW: Duration = Duration::from_mins(1);

/// A guard that clears the list of scheduled removals when a sweep ends.
struct ScheduledRemovalsGuard<'a>(&'a Lake);

impl Drop for ScheduledRemovalsGuard<'_> {
    fn drop(&mut self) {
        self.0.pins().schedule_removal(HashSet::new());
        self.0.tables().files().set_deleting(HashSet::new());
    }
}

impl Maintenance<'_> {
    pub(super) async fn sweep(
        self,
        sweep: SweepOptions,
        cancelled: &CancellationToken,
    ) -> Result<RemovedFiles> {
        let Ok(_alone) = self.lake.sweeping().try_lock() else {
            let message = "another job is removing unreferenced files".to_owned();
            return Err(Error::InvalidRequest { message, hint: "Try again when that job ends." });
        };
        let _end = ScheduledRemovalsGuard(self.lake);
        // The time is taken before the reads, so that files written after a read count as too new.
        let begun = self.lake.clock().now();
        let oldest = self.lake.pins().oldest();
        let mut found = self.find(&sweep, begun).await?;
        let files = self.files_of(&sweep, &found).await?;
        let is_too_recent = |file: &WarehouseFile, age: Duration| {
            let in_use = oldest.is_some_and(|oldest| file.modified >= oldest - CLOCK_SKEW);
            in_use || file.modified > begun - age
        };
        let mut report = RemovedFiles {
            states_expired: found.expired.len() as u64,
            skipped_tables: found.broken.skipped_tables(),
            ..RemovedFiles::default()
        };
        let mut removed = Vec::new();
        let all = files.len();
        let unreachable = sweep.unreachable.as_ref().map(|unreachable| {
            let there = files.iter().map(|file| file.location.clone());
            (unreachable, there.collect::<HashSet<String>>())
        });
        for file in files {
            if found.needed.contains(&file.location) || found.broken.may_own(&file.location) {
                continue;
            }
            if found.expired_files.contains(&file.location) {
                report.files_expired += 1;
                report.bytes_expired += file.bytes;
                removed.push(file.location);
            } else if let Some(age) = sweep.orphans {
                if is_too_recent(&file, age) {
                    report.too_recent += 1;
                    continue;
                }
                report.orphans += 1;
                report.orphan_bytes += file.bytes;
                removed.push(file.location);
            }
        }
        if sweep.dry_run || (removed.is_empty() && unreachable.is_none()) {
            return Ok(report);
        }
        if !sweep.force && report.orphans > MAJORITY_CHECK_MIN && report.orphans * 2 > all as u64 {
            return Err(Error::MostWouldGo { files: report.orphans, of: all as u64 });
        }
        let removed = self.exclude_newly_referenced(&sweep, &mut found, removed, begun).await?;
        report.skipped_tables = found.broken.skipped_tables();
        if let Some((unreachable, mut left)) = unreachable {
            for file in &removed {
                left.remove(file);
            }
            self.record_removals(&removed, begun).await?;
            self.remove(removed, cancelled).await?;
            self.finish_removal(unreachable, &left).await?;
            return Ok(report);
        }
        self.remove(removed, cancelled).await?;
        if sweep.tables.is_none() && sweep.orphans.is_some() {
            let kept = deleted_refs_kept(&sweep).max(ORPHANS_AFTER);
            self.lake.catalog().deleted_refs().trim(begun - kept).await?;
        }
        Ok(report)
    }

    /// Lists the files that may be removed: the files in the folders of tables in the lake's
    /// history, or all files.
    async fn files_of(
        self,
        sweep: &SweepOptions,
        found: &ReferencedFiles,
    ) -> Result<Vec<WarehouseFile>> {
        if let Some(unreachable) = &sweep.unreachable {
            return self.files_of_unreachable(unreachable, found).await;
        }
        if sweep.tables.is_none() && !sweep.automatic {
            let mut files = self.files().list(None).await?;
            files.retain(|file| !is_reserved(file.path.as_ref()));
            return Ok(files);
        }
        let mut folders = found.folders.clone();
        if sweep.tables.is_none() {
            // Also list the folders of tables that existed only on deleted branches.
            let deleted = self.lake.catalog().deleted_refs().since(Timestamp::UNIX_EPOCH).await?;
            let states = self.lake.catalog().reach(&deleted, |_| true).await?.states;
            folders.extend(states.values().filter_map(|state| self.folder(state)));
        }
        let mut files = Vec::new();
        for folder in folders {
            files.extend(self.files().list(Some(folder.trim_end_matches('/'))).await?);
        }
        Ok(files)
    }

    /// Schedules the removal, so that no read of an expiring state can start. Then excludes the
    /// files to which commits made after the first check refer.
    async fn exclude_newly_referenced(
        self,
        sweep: &SweepOptions,
        found: &mut ReferencedFiles,
        removed: Vec<String>,
        begun: Timestamp,
    ) -> Result<Vec<String>> {
        self.lake.pins().schedule_removal(found.expired.clone());
        self.files().set_deleting(removed.iter().cloned().collect());
        // Waits for merges that are already running. Later merges check the scheduled removals.
        let mut waited = Duration::ZERO;
        while self.lake.merging().try_write().is_err() {
            if waited > MERGE_TIMEOUT {
                let message = "timeout while waiting for running merges".to_owned();
                return Err(Error::InvalidRequest { message, hint: "Try again later." });
            }
            tokio::time::sleep(MERGE_POLL).await;
            waited += MERGE_POLL;
        }
        // Files that were referenced at the first check are kept, even if they have become
        // unreferenced since then: the next sweep removes them.
        let states = self.states(sweep, begun).await?;
        self.find_needed(sweep, &states, found).await?;
        found.expired.retain(|location| states.expiring.contains(location));
        self.lake.pins().schedule_removal(found.expired.clone());
        let is_unreferenced =
            |file: &String| !found.needed.contains(file) && !found.broken.may_own(file);
        let removed: Vec<String> = removed.into_iter().filter(is_unreferenced).collect();
        self.files().set_deleting(removed.iter().cloned().collect());
        Ok(removed)
    }

    async fn remove(self, mut files: Vec<String>, cancelled: &CancellationToken) -> Result<()> {
        files.sort_by_key(|file| removal_order(file));
        for some in files.chunks(REMOVE_BATCH) {
            if cancelled.is_cancelled() {
                return Err(Error::Cancelled);
            }
            self.files().forget(some);
            self.files().delete(some).await?;
            self.files().forget(some);
        }
        Ok(())
    }
}

/// Returns a key for the order of removal: files that refer to other files are removed first.
fn removal_order(file: &str) -> u8 {
    let name = file.rsplit('/').next().unwrap_or_default();
    let is_avro = std::path::Path::new(name).extension().is_some_and(|found| found == "avro");
    match is_avro {
        _ if name.ends_with(".metadata.json") => 0,
        true if name.starts_with("snap-") => 1,
        true => 2,
        false => 3,
    }
}
