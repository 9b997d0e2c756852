//! Files that nothing needs any more, and their end.
//!
//! Needed is what any branch, any tag, a ref that was deleted lately, or a commit in use leads back to,
//! all the way to the first commit. A retention takes from that the states of some tables that were
//! superseded long ago, and never one that merges of branches begin from. The rest of what lies in the
//! warehouse is removed once it is old enough, and older than every write that is under way.
//!
//! Where a state cannot be read, nobody knows what it needs: everything that lies where files of its table
//! may lie is spared, the table is named with the reason, and the others are swept all the same.
//!
//! Lists of manifests go first, then manifests, then data: a sweep that is killed in the middle leaves
//! files that nothing leads to, which the next one finds.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use headwater_catalog::{Reach, ReachedState};
use headwater_model::{CommitId, Fault, SparedTable, SweptFiles, Timestamp};
use headwater_tables::{CLAIM_FILE, Extent, FoundFile, Lead, Reached};
use tokio_util::sync::CancellationToken;

use super::freed::Freed;
use crate::error::{Error, Result};
use crate::lake::Lake;

/// How many files are removed between two looks at whether it is to stop.
const REMOVED_AT_ONCE: usize = 500;

/// Files that nothing needs, up to which they may be most of what is there.
const MOST_MIN: u64 = 100;

/// How long merges are waited for, looking again and again: nobody waits for a sweep.
const MERGES_WAITED_FOR: Duration = Duration::from_mins(1);
const PAUSE: Duration = Duration::from_millis(20);

/// How many states of tables are looked into at once.
const STATES_AT_ONCE: usize = 16;

/// By how much the times of files may lie before ours.
const CLOCKS_DIFFER: Duration = Duration::from_mins(1);

/// Which states of a table keep their files although they were superseded.
#[derive(Debug, Clone)]
pub(super) struct Retention {
    /// Those that were superseded later than this ago.
    pub before: Duration,
    /// The last so many of each branch.
    pub keep: Option<usize>,
}

/// What a sweep looks for.
#[derive(Debug)]
pub(super) struct Sweep {
    /// The tables whose files are looked at; all where none are named.
    pub tables: Option<Vec<String>>,
    /// The tables of which states may lose their files.
    pub expiring: Vec<String>,
    pub retention: Option<Retention>,
    /// How old a file that nothing needs must be to go; none where they are left alone.
    pub orphans: Option<Duration>,
    pub dry_run: bool,
    /// Whether most of what is there may go.
    pub force: bool,
    /// Whether nobody asked for it: then only folders of tables that are known are looked into.
    pub automatic: bool,
    /// The snapshots that states at the heads of branches would list no longer, by metadata file.
    pub foreseen: HashMap<String, Vec<i64>>,
    /// Where it is about what deleted refs led to, that: no other file is looked at.
    pub freed: Option<Freed>,
}

impl Sweep {
    /// Of what refs led to that were deleted so long ago.
    pub fn of_freed(freed: Freed, age: Duration) -> Self {
        Sweep {
            tables: None,
            expiring: Vec::new(),
            retention: None,
            orphans: Some(age),
            dry_run: false,
            // No file goes that is not known by its name.
            force: true,
            automatic: true,
            foreseen: HashMap::new(),
            freed: Some(freed),
        }
    }
}

/// Every state that is reached, and those of them that expire, by metadata file.
struct States {
    reach: Reach,
    expiring: HashSet<String>,
}

impl States {
    /// In the order in which they are looked into. Those that must be whole come first, so that what they
    /// lack is what is told of their tables.
    fn in_order(&self) -> Vec<&ReachedState> {
        let mut states: Vec<&ReachedState> = self.reach.states.values().collect();
        states.sort_by_key(|state| (state.until.is_some(), &state.entry.metadata_location));
        states
    }

    fn expires(&self, state: &ReachedState) -> bool {
        self.expiring.contains(&state.entry.metadata_location)
    }
}

/// What is needed, and what is not any more.
#[derive(Default)]
pub(super) struct Found {
    pub(super) needed: Arc<Reached>,
    /// How states were looked into, by metadata file: they never change.
    looked: HashMap<String, Look>,
    /// Metadata files of states that lose their files.
    expired: HashSet<String>,
    /// What those states lead to.
    expired_files: Reached,
    broken: Broken,
    /// The folders of the tables that are looked at.
    folders: HashSet<String>,
}

/// How a state is looked into.
#[derive(Clone)]
struct Look {
    extent: Extent,
    /// Whether it has to be whole.
    at_head: bool,
}

impl Look {
    /// Whether another look would find nothing more.
    fn covers(&self, other: &Look) -> bool {
        let extent = self.extent == Extent::Whole || self.extent == other.extent;
        extent && (self.at_head || !other.at_head)
    }
}

/// Tables that cannot be read as a whole.
#[derive(Default)]
struct Broken {
    /// Why, by the tables' ids, with their names.
    tables: BTreeMap<String, SparedTable>,
    /// Where files of theirs may lie, with a slash at the end.
    folders: HashSet<String>,
}

impl Broken {
    fn add(&mut self, state: &ReachedState, lead: Lead) {
        let Some(error) = lead.unreadable.first() else { return };
        self.folders.extend(lead.folders);
        let name = &state.table;
        if self.tables.contains_key(&state.entry.id) {
            return;
        }
        let problem = error.to_problem();
        let reason = [vec![problem.message], problem.causes].concat().join(": ");
        tracing::warn!(table = %name, reason, "upkeep leaves a table alone that cannot be read");
        let spared = SparedTable { table: name.clone(), reason };
        self.tables.insert(state.entry.id.clone(), spared);
    }

    fn spared(&self) -> Vec<SparedTable> {
        self.tables.values().cloned().collect()
    }

    /// Whether a file may be one of theirs.
    fn may_have(&self, location: &str) -> bool {
        let mut slashes = location.match_indices('/');
        slashes.any(|(at, _)| self.folders.contains(&location[..=at]))
    }
}

/// Sees to it that nothing is taken for doomed once a sweep has ended, however it did.
struct Cleared<'a>(&'a Lake);

impl Drop for Cleared<'_> {
    fn drop(&mut self) {
        self.0.pins().doom(HashSet::new());
        self.0.tables().set_removing(HashSet::new());
    }
}

impl Lake {
    pub(super) async fn sweep(
        &self,
        sweep: Sweep,
        cancelled: &CancellationToken,
    ) -> Result<SweptFiles> {
        let Ok(_alone) = self.sweeping().try_lock() else {
            let message = "files are being removed already".to_owned();
            return Err(Error::InvalidRequest { message, hint: "Try again when that is done." });
        };
        let _end = Cleared(self);
        // Before anything is looked at: what is written from now on is younger.
        let begun = self.clock().now();
        let oldest = self.pins().oldest();
        let mut found = self.find(&sweep, begun).await?;
        let files = self.files_of(&sweep, &found).await?;
        let young = |file: &FoundFile, age: Duration| {
            let open = oldest.is_some_and(|oldest| file.modified >= oldest - CLOCKS_DIFFER);
            open || file.modified > begun - age
        };
        let mut swept = SweptFiles {
            states_expired: found.expired.len() as u64,
            spared: found.broken.spared(),
            ..SweptFiles::default()
        };
        let mut removed = Vec::new();
        let all = files.len();
        let freed = sweep.freed.as_ref().map(|freed| {
            let there = files.iter().map(|file| file.location.clone());
            (freed, there.collect::<HashSet<String>>())
        });
        for file in files {
            if found.needed.contains(&file.location) || found.broken.may_have(&file.location) {
                continue;
            }
            if found.expired_files.contains(&file.location) {
                swept.files_expired += 1;
                swept.bytes_expired += file.bytes;
                removed.push(file.location);
            } else if let Some(age) = sweep.orphans {
                if young(&file, age) {
                    swept.young += 1;
                    continue;
                }
                swept.orphans += 1;
                swept.orphan_bytes += file.bytes;
                removed.push(file.location);
            }
        }
        if sweep.dry_run || (removed.is_empty() && freed.is_none()) {
            return Ok(swept);
        }
        if !sweep.force && swept.orphans > MOST_MIN && swept.orphans * 2 > all as u64 {
            return Err(Error::MostWouldGo { files: swept.orphans, of: all as u64 });
        }
        let removed = self.agree(&sweep, &mut found, removed, begun).await?;
        swept.spared = found.broken.spared();
        if let Some((freed, mut left)) = freed {
            for file in &removed {
                left.remove(file);
            }
            self.note_going(&removed, begun).await?;
            self.remove(removed, cancelled).await?;
            self.forget_gone(freed, &left).await?;
            return Ok(swept);
        }
        self.remove(removed, cancelled).await?;
        if sweep.tables.is_none() && sweep.orphans.is_some() {
            let kept = deleted_refs_kept(&sweep).max(super::ORPHANS_AFTER);
            self.catalog().forget_removed(begun - kept).await?;
        }
        Ok(swept)
    }

    /// What is needed, and what is not.
    async fn find(&self, sweep: &Sweep, now: Timestamp) -> Result<Found> {
        let states = self.states(sweep, now).await?;
        let mut found = Found::default();
        for state in states.reach.states.values() {
            if sweep.tables.as_ref().is_none_or(|ids| ids.contains(&state.entry.id)) {
                found.folders.extend(self.folder(state));
            }
        }
        self.find_needed(sweep, &states, &mut found).await?;
        self.find_expired(&states, &mut found).await?;
        Ok(found)
    }

    async fn states(&self, sweep: &Sweep, now: Timestamp) -> Result<States> {
        let heads = self.heads(now - deleted_refs_kept(sweep)).await?;
        // Of all tables, since some may share files.
        let reach = self.catalog().reach(&heads, |_| true).await?;
        let kept_by_count = self.kept_by_count(sweep).await?;
        let expires = |state: &&ReachedState| {
            let counted = kept_by_count.contains(&state.entry.metadata_location);
            !counted && is_expired(sweep, state, now)
        };
        let expiring = reach.states.values().filter(expires);
        let expiring = expiring.map(|state| state.entry.metadata_location.clone()).collect();
        Ok(States { reach, expiring })
    }

    /// Adds what states need that were not looked into so before.
    async fn find_needed(&self, sweep: &Sweep, states: &States, found: &mut Found) -> Result<()> {
        let (mut new, known) = (Vec::new(), found.broken.tables.len());
        for state in states.in_order().into_iter().filter(|state| !states.expires(state)) {
            let location = &state.entry.metadata_location;
            if state.entry.is_view() {
                found.needed.add_file(self.tables().place_of(location));
                continue;
            }
            let look = look_at(sweep, state);
            if !found.looked.get(location).is_some_and(|before| before.covers(&look)) {
                found.looked.insert(location.clone(), look.clone());
                new.push((state, look));
            }
        }
        let needed = Arc::clone(&found.needed);
        let looks = new.iter().map(|(state, look)| (location_of(state), look.clone()));
        let leads = stream::iter(looks.collect::<Vec<_>>()).map(|(location, look)| {
            let needed = Arc::clone(&needed);
            async move {
                let mut lead = self.tables().reach(&location, &look.extent, &needed).await?;
                if !look.at_head {
                    // What an expiry took leads to nothing any more.
                    lead.unreadable.retain(|error| !error.is_not_found());
                }
                Ok::<_, Error>(lead)
            }
        });
        // Nothing is waited for in between: some wait for what others are reading.
        let leads: Vec<Lead> = leads.buffered(STATES_AT_ONCE).try_collect().await?;
        for ((state, _), lead) in new.into_iter().zip(leads) {
            found.broken.add(state, lead);
        }
        if found.broken.tables.len() > known {
            self.spare_broken(&states.reach, found).await?;
        }
        Ok(())
    }

    /// What states lead to that expire.
    async fn find_expired(&self, states: &States, found: &mut Found) -> Result<()> {
        let files = Reached::beside(Arc::clone(&found.needed));
        let broken = |state: &ReachedState| found.broken.tables.contains_key(&state.entry.id);
        let expiring = states.in_order().into_iter();
        let expiring = expiring.filter(|state| states.expires(state) && !broken(state));
        let expiring: Vec<&ReachedState> = expiring.collect();
        let locations: Vec<String> = expiring.iter().map(|state| location_of(state)).collect();
        let leads = stream::iter(locations).map(|location| {
            let files = &files;
            // What cannot be read of it leads to nothing: it is not needed.
            async move { self.tables().reach(&location, &Extent::Current, files).await }
        });
        let leads: Vec<Lead> = leads.buffered(STATES_AT_ONCE).try_collect().await?;
        for (state, lead) in expiring.into_iter().zip(leads) {
            let location = &state.entry.metadata_location;
            if lead.more {
                found.expired.insert(location.clone());
            }
            let keeps = keeps_metadata(&states.reach, state);
            let into = if keeps { &*found.needed } else { &files };
            into.add_file(self.tables().place_of(location));
        }
        found.expired_files = files;
        Ok(())
    }

    /// Spares the folders that tables which cannot be read as a whole have files in, as far as that is
    /// known: one that was registered has them in another's.
    async fn spare_broken(&self, reach: &Reach, found: &mut Found) -> Result<()> {
        let states = reach.states.values();
        let known: HashSet<String> = states.filter_map(|state| self.folder(state)).collect();
        let files = Reached::default();
        for state in reach.states.values() {
            if found.broken.tables.contains_key(&state.entry.id) {
                found.broken.folders.extend(self.folder(state));
                let location = &state.entry.metadata_location;
                self.tables().reach(location, &Extent::Whole, &files).await?;
            }
        }
        for file in files.into_files() {
            let folders = file.match_indices('/').map(|(at, _)| &file[..=at]);
            let folders = folders.filter(|folder| known.contains(*folder));
            found.broken.folders.extend(folders.map(ToOwned::to_owned));
        }
        Ok(())
    }

    /// The folder of a state's table, with a slash at the end.
    fn folder(&self, state: &ReachedState) -> Option<String> {
        folder_of(&self.tables().place_of(&state.entry.metadata_location))
    }

    /// The commits that everything needed leads from.
    async fn heads(&self, deleted_since: Timestamp) -> Result<Vec<CommitId>> {
        let mut heads = self.named_commits(deleted_since).await?;
        heads.extend(self.pins().commits());
        heads.sort();
        heads.dedup();
        Ok(heads)
    }

    /// Those of them that have names, or had them lately.
    pub(super) async fn named_commits(&self, deleted_since: Timestamp) -> Result<Vec<CommitId>> {
        let catalog = self.catalog();
        let mut heads: HashSet<CommitId> = HashSet::new();
        heads.extend(catalog.branches(None).await?.iter().map(|branch| branch.commit));
        heads.extend(catalog.tags(None).await?.iter().map(|tag| tag.commit));
        heads.extend(catalog.removed_since(deleted_since).await?);
        Ok(heads.into_iter().collect())
    }

    /// The states that are among the last of a branch.
    async fn kept_by_count(&self, sweep: &Sweep) -> Result<HashSet<String>> {
        let mut kept = HashSet::new();
        let Some(count) = sweep.retention.as_ref().and_then(|retention| retention.keep) else {
            return Ok(kept);
        };
        for branch in self.catalog().branches(None).await? {
            let state = self.catalog().state(branch.commit).await?;
            for (name, entry) in state.tables(None).await? {
                if sweep.expiring.contains(&entry.id) {
                    let last = self.catalog().last_states(branch.commit, &name, count).await?;
                    kept.extend(last.into_iter().map(|entry| entry.metadata_location));
                }
            }
        }
        Ok(kept)
    }

    /// The files that are looked at: those of tables that history names, or all.
    async fn files_of(&self, sweep: &Sweep, found: &Found) -> Result<Vec<FoundFile>> {
        if let Some(freed) = &sweep.freed {
            return self.files_of_freed(freed, found).await;
        }
        if sweep.tables.is_none() && !sweep.automatic {
            let mut files = self.tables().files_under(None).await?;
            files.retain(|file| file.path.as_ref() != CLAIM_FILE);
            return Ok(files);
        }
        let mut folders = found.folders.clone();
        if sweep.tables.is_none() {
            // Tables that only deleted branches had are named by what is remembered of those.
            let deleted = self.catalog().removed_since(Timestamp::UNIX_EPOCH).await?;
            let reach = self.catalog().reach(&deleted, |_| true).await?;
            let places = reach.states.keys().map(|location| self.tables().place_of(location));
            folders.extend(places.filter_map(|place| folder_of(&place)));
        }
        let mut files = Vec::new();
        for folder in folders {
            files.extend(self.tables().files_under(Some(folder.trim_end_matches('/'))).await?);
        }
        Ok(files)
    }

    /// Takes from what is to be removed what somebody has come to need meanwhile. From here on nobody
    /// begins to read a state that loses its files.
    async fn agree(
        &self,
        sweep: &Sweep,
        found: &mut Found,
        removed: Vec<String>,
        begun: Timestamp,
    ) -> Result<Vec<String>> {
        self.pins().doom(found.expired.clone());
        self.tables().set_removing(removed.iter().cloned().collect());
        // Merges that began before have ended after this; those that begin later see what is doomed.
        let mut waited = Duration::ZERO;
        while self.merging().try_write().is_err() {
            if waited > MERGES_WAITED_FOR {
                let message = "merges are under way all the time".to_owned();
                return Err(Error::InvalidRequest { message, hint: "Try again later." });
            }
            tokio::time::sleep(PAUSE).await;
            waited += PAUSE;
        }
        // What was needed then is looked upon as needed now: what is left too much goes the next time.
        let states = self.states(sweep, begun).await?;
        self.find_needed(sweep, &states, found).await?;
        found.expired.retain(|location| states.expiring.contains(location));
        self.pins().doom(found.expired.clone());
        let gone = |file: &String| !found.needed.contains(file) && !found.broken.may_have(file);
        let removed: Vec<String> = removed.into_iter().filter(gone).collect();
        self.tables().set_removing(removed.iter().cloned().collect());
        Ok(removed)
    }

    async fn remove(&self, mut files: Vec<String>, cancelled: &CancellationToken) -> Result<()> {
        files.sort_by_key(|file| removal_order(file));
        for some in files.chunks(REMOVED_AT_ONCE) {
            if cancelled.is_cancelled() {
                return Err(Error::Cancelled);
            }
            self.tables().forget(some);
            self.tables().remove_files(some).await?;
            self.tables().forget(some);
        }
        Ok(())
    }
}

/// The folder of the table whose metadata file this is, with a slash at the end.
pub(super) fn folder_of(metadata: &str) -> Option<String> {
    let (folder, name) = metadata.rsplit_once("/metadata/")?;
    name.ends_with(".metadata.json").then(|| format!("{folder}/"))
}

/// What leads to other files goes before them.
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

/// For how long a branch or tag that was deleted still counts.
fn deleted_refs_kept(sweep: &Sweep) -> Duration {
    sweep.orphans.unwrap_or(super::ORPHANS_AFTER)
}

fn location_of(state: &ReachedState) -> String {
    state.entry.metadata_location.clone()
}

/// How a state is looked into that stays.
fn look_at(sweep: &Sweep, state: &ReachedState) -> Look {
    let at_head = state.until.is_none();
    // What lies between two states that stay is read through the one that names it.
    let whole = at_head || sweep.retention.is_none() || !sweep.expiring.contains(&state.entry.id);
    let extent = match sweep.foreseen.get(&state.entry.metadata_location) {
        Some(ids) => Extent::Without(ids.clone()),
        None if whole => Extent::Whole,
        None => Extent::Current,
    };
    Look { extent, at_head }
}

fn is_expired(sweep: &Sweep, state: &ReachedState, now: Timestamp) -> bool {
    let Some(retention) = &sweep.retention else { return false };
    let until = state.until.is_some_and(|until| until <= now - retention.before);
    until && !state.base && !state.entry.is_view() && sweep.expiring.contains(&state.entry.id)
}

/// Whether an expired state keeps its metadata file: those that came after branches parted tell merges
/// where rows came from.
fn keeps_metadata(reach: &Reach, state: &ReachedState) -> bool {
    let until = state.until.unwrap_or(Timestamp::MAX_UTC);
    reach.oldest_base.is_some_and(|base| until >= base)
}
