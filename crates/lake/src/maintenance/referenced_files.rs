//! The search for the files and states that the sweep keeps. It reads all reachable states of
//! tables, and finds the files to which they refer, and the states that expire.
//!
//! If a state cannot be read, the files to which it refers are not known. Then all files in the
//! folders of the state's table are kept.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use headwater_catalog::{ReachableState, ReachableStates};
use headwater_model::{CommitId, SkippedTable, Timestamp, ToProblem};
use headwater_tables::{ReachableFiles, SnapshotSet, StateReport};

use super::sweep_options::SweepOptions;
use super::{Maintenance, ORPHANS_AFTER};
use crate::error::{Error, Result};

/// The number of table states read concurrently.
const STATE_CONCURRENCY: usize = 16;

/// The reachable states, and the metadata locations of the states that expire.
pub(super) struct SweepStates {
    reach: ReachableStates,
    pub(super) expiring: HashSet<String>,
}

impl SweepStates {
    /// Returns the states in the order in which they are read, current states first: only the first
    /// error of a table is reported, and it should be about a current state.
    fn in_order(&self) -> Vec<&ReachableState> {
        let mut states: Vec<&ReachableState> = self.reach.states.values().collect();
        states.sort_by_key(|state| (state.until.is_some(), &state.entry.metadata_location));
        states
    }

    fn expires(&self, state: &ReachableState) -> bool {
        self.expiring.contains(&state.entry.metadata_location)
    }
}

/// The files that are referenced, and the states that expire.
#[derive(Default)]
pub(super) struct ReferencedFiles {
    pub(super) needed: Arc<ReachableFiles>,
    /// The snapshots that were read from each state. The key is the state's metadata location.
    reads: HashMap<String, SnapshotsToRead>,
    /// The metadata locations of the states that expire.
    pub(super) expired: HashSet<String>,
    /// The files of the states that expire.
    pub(super) expired_files: ReachableFiles,
    pub(super) broken: UnreadableTables,
    /// The folders of the tables whose states were read.
    pub(super) folders: HashSet<String>,
}

/// The snapshots of one table state that the sweep reads to find referenced files.
#[derive(Clone)]
struct SnapshotsToRead {
    snapshots: SnapshotSet,
    /// True for the current state of a branch or tag. All files of this state must exist.
    at_head: bool,
}

impl SnapshotsToRead {
    /// Returns true if this read includes all snapshots of the other read.
    fn covers(&self, other: &SnapshotsToRead) -> bool {
        let snapshots = self.snapshots == SnapshotSet::All || self.snapshots == other.snapshots;
        snapshots && (self.at_head || !other.at_head)
    }
}

/// Tables with unreadable metadata.
#[derive(Default)]
pub(super) struct UnreadableTables {
    /// The reason why each of these tables is skipped, by table id.
    tables: BTreeMap<String, SkippedTable>,
    /// The folders, with a trailing slash, that may contain files of these tables.
    folders: HashSet<String>,
}

impl UnreadableTables {
    fn add(&mut self, state: &ReachableState, scan: StateReport) {
        let Some(error) = scan.unreadable.first() else { return };
        self.folders.extend(scan.folders);
        let name = &state.table;
        if self.tables.contains_key(&state.entry.id) {
            return;
        }
        let problem = error.to_problem();
        let reason = [vec![problem.message], problem.causes].concat().join(": ");
        tracing::warn!(table = %name, reason, "the files of an unreadable table are kept");
        let skipped = SkippedTable { table: name.clone(), reason };
        self.tables.insert(state.entry.id.clone(), skipped);
    }

    pub(super) fn skipped_tables(&self) -> Vec<SkippedTable> {
        self.tables.values().cloned().collect()
    }

    /// Returns true if the file can belong to one of these tables.
    pub(super) fn may_own(&self, location: &str) -> bool {
        let mut slashes = location.match_indices('/');
        slashes.any(|(at, _)| self.folders.contains(&location[..=at]))
    }
}

impl Maintenance<'_> {
    /// Finds the referenced files and the states that expire.
    pub(super) async fn find(
        self,
        sweep: &SweepOptions,
        now: Timestamp,
    ) -> Result<ReferencedFiles> {
        let states = self.states(sweep, now).await?;
        let mut found = ReferencedFiles::default();
        for state in states.reach.states.values() {
            if sweep.tables.as_ref().is_none_or(|ids| ids.contains(&state.entry.id)) {
                found.folders.extend(self.folder(state));
            }
        }
        self.find_needed(sweep, &states, &mut found).await?;
        self.find_expired(&states, &mut found).await?;
        Ok(found)
    }

    /// Returns the reachable states, and those that expire at a time.
    pub(super) async fn states(self, sweep: &SweepOptions, now: Timestamp) -> Result<SweepStates> {
        let heads = self.heads(now - deleted_refs_kept(sweep)).await?;
        // The states of all tables are needed, because tables can share files.
        let reach = self.lake.catalog().reach(&heads, |_| true).await?;
        let kept_by_count = self.kept_by_count(sweep).await?;
        let expires = |state: &&ReachableState| {
            let counted = kept_by_count.contains(&state.entry.metadata_location);
            !counted && is_expired(sweep, state, now)
        };
        let expiring = reach.states.values().filter(expires);
        let expiring = expiring.map(|state| state.entry.metadata_location.clone()).collect();
        Ok(SweepStates { reach, expiring })
    }

    /// Reads the states that do not expire, unless they were read, and adds their files to `found`.
    pub(super) async fn find_needed(
        self,
        sweep: &SweepOptions,
        states: &SweepStates,
        found: &mut ReferencedFiles,
    ) -> Result<()> {
        let (mut new, known) = (Vec::new(), found.broken.tables.len());
        for state in states.in_order().into_iter().filter(|state| !states.expires(state)) {
            let location = &state.entry.metadata_location;
            if state.entry.is_view() {
                found.needed.add_file(self.files().location_of(location));
                continue;
            }
            let read = read_mode(sweep, state);
            if !found.reads.get(location).is_some_and(|before| before.covers(&read)) {
                found.reads.insert(location.clone(), read.clone());
                new.push((state, read));
            }
        }
        let needed = Arc::clone(&found.needed);
        let reads = new.iter().map(|(state, read)| (location_of(state), read.clone()));
        let scans = stream::iter(reads.collect::<Vec<_>>()).map(|(location, read)| {
            let needed = Arc::clone(&needed);
            async move {
                let mut scan = self.files().reach(&location, &read.snapshots, &needed).await?;
                if !read.at_head {
                    // If the metadata file is missing, an earlier expiry removed it. Then the state
                    // needs no files.
                    scan.unreadable.retain(|error| !error.is_not_found());
                }
                Ok::<_, Error>(scan)
            }
        });
        // Await all reads before processing results, because a read can wait for another read.
        let scans: Vec<StateReport> = scans.buffered(STATE_CONCURRENCY).try_collect().await?;
        for ((state, _), scan) in new.into_iter().zip(scans) {
            found.broken.add(state, scan);
        }
        if found.broken.tables.len() > known {
            self.exclude_broken(&states.reach, found).await?;
        }
        Ok(())
    }

    /// Finds the files of the states that expire.
    async fn find_expired(self, states: &SweepStates, found: &mut ReferencedFiles) -> Result<()> {
        let files = ReachableFiles::excluding(Arc::clone(&found.needed));
        let broken = |state: &ReachableState| found.broken.tables.contains_key(&state.entry.id);
        let expiring = states.in_order().into_iter();
        let expiring = expiring.filter(|state| states.expires(state) && !broken(state));
        let expiring: Vec<&ReachableState> = expiring.collect();
        let locations: Vec<String> = expiring.iter().map(|state| location_of(state)).collect();
        let scans = stream::iter(locations).map(|location| {
            let files = &files;
            // Unreadable files are ignored here, because an expiring state is no longer needed.
            async move { self.files().reach(&location, &SnapshotSet::Current, files).await }
        });
        let scans: Vec<StateReport> = scans.buffered(STATE_CONCURRENCY).try_collect().await?;
        for (state, scan) in expiring.into_iter().zip(scans) {
            let location = &state.entry.metadata_location;
            if scan.more {
                found.expired.insert(location.clone());
            }
            let keeps = keeps_metadata(&states.reach, state);
            let into = if keeps { &*found.needed } else { &files };
            into.add_file(self.files().location_of(location));
        }
        found.expired_files = files;
        Ok(())
    }

    /// Excludes the folders of unreadable tables, and the folders of readable tables in which an
    /// unreadable table has files. This is possible, because a registered table can have files in
    /// the folder of another table.
    async fn exclude_broken(
        self,
        reach: &ReachableStates,
        found: &mut ReferencedFiles,
    ) -> Result<()> {
        let states = reach.states.values();
        let known: HashSet<String> = states.filter_map(|state| self.folder(state)).collect();
        let files = ReachableFiles::default();
        for state in reach.states.values() {
            if found.broken.tables.contains_key(&state.entry.id) {
                found.broken.folders.extend(self.folder(state));
                let location = &state.entry.metadata_location;
                self.files().reach(location, &SnapshotSet::All, &files).await?;
            }
        }
        for file in files.into_files() {
            let folders = file.match_indices('/').map(|(at, _)| &file[..=at]);
            let folders = folders.filter(|folder| known.contains(*folder));
            found.broken.folders.extend(folders.map(ToOwned::to_owned));
        }
        Ok(())
    }

    /// Returns the folder of the table to which a state belongs, with a trailing slash.
    pub(super) fn folder(self, state: &ReachableState) -> Option<String> {
        folder_of(&self.files().location_of(&state.entry.metadata_location))
    }

    /// Returns the commits from which all reachable states can be found.
    async fn heads(self, deleted_since: Timestamp) -> Result<Vec<CommitId>> {
        let mut heads = self.named_commits(deleted_since).await?;
        heads.extend(self.lake.pins().commits());
        heads.sort();
        heads.dedup();
        Ok(heads)
    }

    /// Returns the commits of branches, tags and recently deleted refs.
    pub(super) async fn named_commits(self, deleted_since: Timestamp) -> Result<Vec<CommitId>> {
        let catalog = self.lake.catalog();
        let mut heads: HashSet<CommitId> = HashSet::new();
        heads.extend(catalog.branches(None).await?.iter().map(|branch| branch.commit));
        heads.extend(catalog.tags().list(None).await?.iter().map(|tag| tag.commit));
        heads.extend(catalog.deleted_refs().since(deleted_since).await?);
        Ok(heads.into_iter().collect())
    }

    /// Returns the metadata locations of the states to keep: the newest states of each branch.
    async fn kept_by_count(self, sweep: &SweepOptions) -> Result<HashSet<String>> {
        let mut kept = HashSet::new();
        let Some(count) = sweep.retention.as_ref().and_then(|retention| retention.keep) else {
            return Ok(kept);
        };
        for branch in self.lake.catalog().branches(None).await? {
            let state = self.lake.catalog().state(branch.commit).await?;
            for (name, entry) in state.tables(None).await? {
                if sweep.expiring.contains(&entry.id) {
                    let last = self.lake.catalog().last_states(branch.commit, &name, count).await?;
                    kept.extend(last.into_iter().map(|entry| entry.metadata_location));
                }
            }
        }
        Ok(kept)
    }
}

/// Returns the folder of the table to which a metadata file belongs, with a trailing slash.
pub(super) fn folder_of(metadata: &str) -> Option<String> {
    let (folder, name) = metadata.rsplit_once("/metadata/")?;
    name.ends_with(".metadata.json").then(|| format!("{folder}/"))
}

/// Returns the time for which a deleted ref still protects its files.
pub(super) fn deleted_refs_kept(sweep: &SweepOptions) -> Duration {
    sweep.orphans.unwrap_or(ORPHANS_AFTER)
}

fn location_of(state: &ReachableState) -> String {
    state.entry.metadata_location.clone()
}

/// Returns the snapshots to read from a state that does not expire.
fn read_mode(sweep: &SweepOptions, state: &ReachableState) -> SnapshotsToRead {
    let at_head = state.until.is_none();
    // Of an old state, only the current snapshot is read; a later state lists earlier snapshots.
    let whole = at_head || sweep.retention.is_none() || !sweep.expiring.contains(&state.entry.id);
    let snapshots = match sweep.dry_run_expired.get(&state.entry.metadata_location) {
        Some(ids) => SnapshotSet::Without(ids.clone()),
        None if whole => SnapshotSet::All,
        None => SnapshotSet::Current,
    };
    SnapshotsToRead { snapshots, at_head }
}

fn is_expired(sweep: &SweepOptions, state: &ReachableState, now: Timestamp) -> bool {
    let Some(retention) = &sweep.retention else { return false };
    let until = state.until.is_some_and(|until| until <= now - retention.before);
    until && !state.base && !state.entry.is_view() && sweep.expiring.contains(&state.entry.id)
}

/// Returns true if an expired state keeps its metadata file. A merge reads the metadata of the
/// states after the merge base, to find the snapshots that added rows.
fn keeps_metadata(reach: &ReachableStates, state: &ReachableState) -> bool {
    let until = state.until.unwrap_or(Timestamp::MAX_UTC);
    reach.oldest_base.is_some_and(|base| until >= base)
}
