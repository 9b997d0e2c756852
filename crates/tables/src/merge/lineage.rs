//! The snapshots that a state of a table comes from, as far back as they are asked for.
//!
//! A metadata file lists the newest snapshots of its own state, and neither older ones nor those of
//! states that were merged into it. Both are named: the older files by its log, and the merged ones by
//! the snapshot that a merge made. They are read only where what is listed does not answer a question.

use std::collections::{BTreeMap, HashMap, HashSet};

use iceberg::spec::{Snapshot, SnapshotRef};

use super::history::MERGED;
use crate::cache::Files;
use crate::{Error, Result, Table, Tables};

/// The summary's key of the metadata file of the state that a merge took rows from.
pub(crate) const MERGED_METADATA: &str = "headwater.merged-metadata";

/// The summary's key of the snapshots that a change undoes, a JSON list.
pub(crate) const UNDONE: &str = "headwater.undone-snapshots";

/// The summary's key of the snapshots whose changes a change makes again, a JSON list; anything else where
/// they are too many.
pub(crate) const PICKED: &str = "headwater.picked-snapshots";

/// What the keys begin with that say up to where the table's rows have read other tables.
pub const READ_UP_TO: &str = "headwater.read.";

/// How many further metadata files are read at most.
const FILES_MAX: usize = 100;

/// The snapshots of a state that are known.
#[derive(Debug)]
pub(crate) struct Lineage {
    current: Option<i64>,
    known: HashMap<i64, Known>,
    /// Metadata files that were read, or that cannot be.
    read: HashSet<String>,
}

#[derive(Debug)]
struct Known {
    snapshot: SnapshotRef,
    /// A state that lists it.
    table: Table,
}

/// The changes that a state has, wherever they were made first.
#[derive(Debug, Default)]
pub(super) struct Had {
    /// The snapshots that made them, but for those that were undone since.
    pub has: HashSet<i64>,
    /// Of those that were made again here, the snapshot that did so last.
    pub again: HashMap<i64, i64>,
    /// The snapshots that were undone, and not made again since.
    pub undone: HashSet<i64>,
    /// Whether it is not told of all what was made again.
    pub unclear: bool,
}

impl Known {
    /// The newest metadata file that was there when the snapshot was made or just before, and so lists
    /// its parent.
    fn older(&self) -> Option<&str> {
        let time = self.snapshot.timestamp_ms();
        let log = self.table.metadata().metadata_log();
        let made = log.partition_point(|entry| entry.timestamp_ms <= time);
        log.get(made.saturating_sub(1)).map(|entry| entry.metadata_file.as_str())
    }
}

impl Lineage {
    pub fn of(table: &Table) -> Self {
        let current = table.snapshot_id();
        let mut found = Lineage { current, known: HashMap::new(), read: HashSet::new() };
        found.add(table);
        found
    }

    fn add(&mut self, table: &Table) {
        for snapshot in table.metadata().snapshots() {
            let known = Known { snapshot: snapshot.clone(), table: table.clone() };
            self.known.insert(snapshot.snapshot_id(), known);
        }
    }

    /// The current snapshot.
    pub fn current(&self) -> Option<i64> {
        self.current
    }

    pub fn get(&self, id: i64) -> Option<&Snapshot> {
        self.known.get(&id).map(|known| &*known.snapshot)
    }

    /// The current snapshot, and all that it is known to come from, merged ones among them.
    pub fn ancestors(&self) -> HashSet<i64> {
        self.ancestors_of(self.current)
    }

    /// A snapshot, and all that it is known to come from, merged ones among them.
    pub fn ancestors_of(&self, id: Option<i64>) -> HashSet<i64> {
        self.walk(id, &HashSet::new(), |_, _| {})
    }

    /// Visits what a snapshot comes from, up to others; `missing` is told of snapshots that are not known,
    /// with a metadata file that may list them.
    fn walk(
        &self,
        from: Option<i64>,
        others: &HashSet<i64>,
        mut missing: impl FnMut(i64, Option<&str>),
    ) -> HashSet<i64> {
        let mut found = HashSet::new();
        let mut next: Vec<(i64, Option<&str>)> = from.into_iter().map(|id| (id, None)).collect();
        while let Some((id, place)) = next.pop() {
            if others.contains(&id) || !found.insert(id) {
                continue;
            }
            let Some(known) = self.known.get(&id) else {
                missing(id, place);
                continue;
            };
            let parent = known.snapshot.parent_snapshot_id();
            next.extend(parent.map(|id| (id, known.older())));
            let place = value(&known.snapshot, MERGED_METADATA);
            next.extend(merged_by(&known.snapshot).map(|id| (id, place)));
        }
        found
    }

    /// All known ancestors, newest first.
    fn newest_first(&self) -> Vec<&Snapshot> {
        let mut found: Vec<&Snapshot> =
            self.ancestors().into_iter().filter_map(|id| self.get(id)).collect();
        found.sort_by_key(|snapshot| {
            std::cmp::Reverse((snapshot.timestamp_ms(), snapshot.sequence_number()))
        });
        found
    }

    /// What the summaries of all known ancestors say of a property, newest first; those apart that were
    /// undone since.
    fn values(&self, property: &str) -> Vec<&str> {
        let mut undone: HashSet<i64> = HashSet::new();
        let mut values = Vec::new();
        for snapshot in self.newest_first() {
            if undone.contains(&snapshot.snapshot_id()) {
                continue;
            }
            undone.extend(undone_by(snapshot));
            values.extend(value(snapshot, property));
        }
        values
    }

    /// The changes that the state has, as far as what is known tells.
    pub(super) fn had(&self) -> Had {
        let mut found = Had::default();
        for snapshot in self.newest_first() {
            let id = snapshot.snapshot_id();
            if found.undone.contains(&id) {
                continue;
            }
            found.has.insert(id);
            let again = picked_by(snapshot);
            found.unclear |= again.is_none();
            for picked in again.unwrap_or_default() {
                if !found.undone.contains(&picked) {
                    found.has.insert(picked);
                    found.again.entry(picked).or_insert(id);
                }
            }
            found.undone.extend(undone_by(snapshot));
        }
        let unknown = self.ancestors().into_iter().filter(|id| !self.known.contains_key(id));
        found.has.extend(unknown.filter(|id| !found.undone.contains(id)));
        found.undone.retain(|id| !found.has.contains(id));
        found
    }

    /// The data files of a known snapshot; none where they are not known any more.
    pub async fn files_at(&self, tables: &Tables, id: i64) -> Result<Option<Files>> {
        let Some(known) = self.known.get(&id) else { return Ok(None) };
        match tables.files(known.table.metadata(), &known.snapshot).await {
            Err(Error::Missing { .. }) => Ok(None),
            found => found.map(Some),
        }
    }

    /// Up to where the rows of this state have read other tables, as far as what is listed tells; none
    /// where rows came in since of which that was not known.
    pub fn read_up_to(&self) -> BTreeMap<String, String> {
        let mut next = self.current;
        while let Some(snapshot) = next.and_then(|id| self.get(id)) {
            let said = &snapshot.summary().additional_properties;
            let read = said.iter().filter(|(key, _)| key.starts_with(READ_UP_TO));
            let read: BTreeMap<String, String> =
                read.map(|(key, value)| (key.clone(), value.clone())).collect();
            let unknown = merged_by(snapshot).is_some() || value(snapshot, UNDONE).is_some();
            if !read.is_empty() || unknown {
                return read;
            }
            next = snapshot.parent_snapshot_id();
        }
        BTreeMap::new()
    }

    /// The snapshots that this state comes from and another does not, at most so many.
    pub fn without(&self, other: &Lineage, most: usize) -> Vec<i64> {
        let others = other.ancestors();
        self.ancestors().into_iter().filter(|id| !others.contains(id)).take(most).collect()
    }

    /// Whether the state comes from another: from its current snapshot or, where that is what merging
    /// two gives, from those two, of which any merge makes the same.
    pub fn comes_from(&self, other: &Lineage) -> bool {
        let own = self.ancestors();
        let mut seen = HashSet::new();
        let mut next: Vec<i64> = other.current.into_iter().collect();
        while let Some(id) = next.pop() {
            if own.contains(&id) || !seen.insert(id) {
                continue;
            }
            let Some(snapshot) = other.get(id) else { return false };
            let Some(merged) = merged_by(snapshot) else { return false };
            next.push(merged);
            next.extend(snapshot.parent_snapshot_id());
        }
        true
    }

    /// A snapshot that the state comes from, read where it is not listed; none where nobody knows it.
    pub async fn find(&mut self, tables: &Tables, id: i64) -> Option<SnapshotRef> {
        loop {
            if let Some(known) = self.known.get(&id) {
                return Some(known.snapshot.clone());
            }
            if !self.read_more(tables).await {
                return None;
            }
        }
    }

    /// Whether a snapshot is not known that the state comes from and others are not.
    pub fn lacks(&self, others: &HashSet<i64>) -> bool {
        let mut lacks = false;
        self.walk(self.current, others, |_, _| lacks = true);
        lacks
    }

    /// Reads the metadata files that may list snapshots which are missed; whether there were any.
    pub async fn read_more(&mut self, tables: &Tables) -> bool {
        self.read_since(tables, &HashSet::new()).await
    }

    /// The same for those alone that others are not.
    pub async fn read_since(&mut self, tables: &Tables, others: &HashSet<i64>) -> bool {
        let mut places: HashSet<String> = HashSet::new();
        self.walk(self.current, others, |_, place| places.extend(place.map(str::to_owned)));
        places.retain(|place| !self.read.contains(place));
        let mut more = false;
        for place in places {
            if self.read.len() >= FILES_MAX {
                break;
            }
            // One that is gone tells nothing, and what it would have told is not known.
            match tables.load(&place).await {
                Ok(table) => {
                    self.add(&table);
                    more = true;
                }
                Err(error) => tracing::debug!(%error, "older snapshots cannot be read"),
            }
            self.read.insert(place);
        }
        more
    }
}

impl Tables {
    /// The newest value of a summary's property that is wanted, among those of the current snapshot and
    /// of all that it comes from: snapshots that were merged into it, and older ones than its metadata
    /// file lists.
    pub async fn find_in_history(
        &self,
        table: &Table,
        property: &str,
        wanted: impl Fn(&str) -> bool,
    ) -> Option<String> {
        let mut lineage = Lineage::of(table);
        loop {
            let found = lineage.values(property).into_iter().find(|value| wanted(value));
            if let Some(found) = found {
                return Some(found.to_owned());
            }
            if !lineage.read_more(self).await {
                return None;
            }
        }
    }
}

impl Tables {
    /// What the newest snapshot that says anything of a property says; none where rows of another state
    /// were merged in since, or a change was made again or undone, of which it could not know.
    pub async fn find_since_merged(&self, table: &Table, property: &str) -> Option<String> {
        let mut lineage = Lineage::of(table);
        let mut next = lineage.current();
        while let Some(snapshot) = lineage.find(self, next?).await {
            if let Some(found) = value(&snapshot, property) {
                return Some(found.to_owned());
            }
            if merged_by(&snapshot).is_some() || value(&snapshot, UNDONE).is_some() {
                return None;
            }
            next = snapshot.parent_snapshot_id();
        }
        None
    }
}

/// The snapshot that a merge took rows from, where the snapshot was made by one.
pub(super) fn merged_by(snapshot: &Snapshot) -> Option<i64> {
    value(snapshot, MERGED)?.parse().ok()
}

/// The snapshots whose changes one made again; none where they are not told.
pub(super) fn picked_by(snapshot: &Snapshot) -> Option<Vec<i64>> {
    match value(snapshot, PICKED) {
        Some(ids) => serde_json::from_str(ids).ok(),
        None => Some(Vec::new()),
    }
}

/// The snapshots that one undid.
pub(super) fn undone_by(snapshot: &Snapshot) -> Vec<i64> {
    let ids = value(snapshot, UNDONE).and_then(|ids| serde_json::from_str(ids).ok());
    ids.unwrap_or_default()
}

fn value<'s>(snapshot: &'s Snapshot, key: &str) -> Option<&'s str> {
    snapshot.summary().additional_properties.get(key).map(String::as_str)
}
