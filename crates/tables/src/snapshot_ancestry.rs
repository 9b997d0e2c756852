//! The ancestors of a table's state, loaded on demand.
//!
//! A metadata file lists only the newest snapshots of its table state. Older snapshots are listed
//! in older metadata files, whose locations are in the metadata log. Snapshots of a merged state
//! are listed in its metadata file, whose location is in the merge snapshot's summary.

use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet};

use iceberg::spec::{Operation, Snapshot, SnapshotRef};

use crate::cache::SnapshotFiles;
use crate::{Error, Result, Table, Tables};

/// Summary key of a merge snapshot: the id of the snapshot whose changes the merge applied.
pub const MERGED: &str = "headwater.merged-snapshot";

/// Summary key of a merge snapshot: the location of the metadata file of the merged state.
pub const MERGED_METADATA: &str = "headwater.merged-metadata";

/// Summary key of the profile, as JSON, of the rows that a model wrote.
pub const PROFILE: &str = "headwater.profile";

/// Summary key of the snapshots that a snapshot reverted: a JSON list, or another text if too many.
pub const UNDONE: &str = "headwater.undone-snapshots";

/// Summary key of the snapshots that a cherry-pick replays, as a JSON list. If there are too many,
/// the value is not a list.
pub const PICKED: &str = "headwater.picked-snapshots";

/// Summary key that a model with `merge` writes: its key columns, as a JSON list.
pub const KEYS_PROPERTY: &str = "headwater.keys";

/// Prefix of the summary keys of source tables. Each value is the version of the source table from
/// which the rows of this table were computed.
pub const READ_UP_TO: &str = "headwater.read.";

/// Summary key of the number of rows, from the Iceberg specification.
const TOTAL_RECORDS: &str = "total-records";

/// Maximum number of older metadata files to read for one lineage.
const FILES_MAX: usize = 100;

/// The current snapshot of a table state, and its known ancestors.
#[derive(Debug)]
pub struct SnapshotAncestry {
    current: Option<i64>,
    known: HashMap<i64, KnownSnapshot>,
    /// Locations of metadata files that were read, or that could not be read.
    read: HashSet<String>,
}

#[derive(Debug, Clone)]
struct KnownSnapshot {
    snapshot: SnapshotRef,
    /// A table state whose metadata lists this snapshot.
    table: Table,
}

impl KnownSnapshot {
    /// Returns the location of the metadata file that was current when this snapshot was created.
    /// That file lists the parent of the snapshot.
    fn parent_metadata(&self) -> Option<&str> {
        let time = self.snapshot.timestamp_ms();
        let log = self.table.metadata().metadata_log();
        let made = log.partition_point(|entry| entry.timestamp_ms <= time);
        log.get(made.saturating_sub(1)).map(|entry| entry.metadata_file.as_str())
    }
}

impl SnapshotAncestry {
    /// Returns the lineage of a state, with only the snapshots that its own metadata lists.
    pub fn of(table: &Table) -> Self {
        let current = table.snapshot_id();
        let mut found = SnapshotAncestry { current, known: HashMap::new(), read: HashSet::new() };
        found.add(table);
        found
    }

    fn add(&mut self, table: &Table) {
        for snapshot in table.metadata().snapshots() {
            let known = KnownSnapshot { snapshot: snapshot.clone(), table: table.clone() };
            self.known.insert(snapshot.snapshot_id(), known);
        }
    }

    /// Returns the current snapshot's id.
    pub fn current(&self) -> Option<i64> {
        self.current
    }

    /// Returns the snapshot with this id, if it is known.
    pub fn get(&self, id: i64) -> Option<&Snapshot> {
        self.known.get(&id).map(|known| &*known.snapshot)
    }

    /// Returns the current snapshot and its known ancestors, including merged snapshots.
    pub fn ancestors(&self) -> HashSet<i64> {
        self.ancestors_of(self.current)
    }

    /// Returns a snapshot and its known ancestors, including merged snapshots.
    pub fn ancestors_of(&self, id: Option<i64>) -> HashSet<i64> {
        self.ancestors_since(id, &HashSet::new())
    }

    /// Like [`SnapshotAncestry::ancestors_of`], but without the snapshots in `others` and their
    /// ancestors.
    pub fn ancestors_since(&self, id: Option<i64>, others: &HashSet<i64>) -> HashSet<i64> {
        self.walk(id, others, |_, _| {})
    }

    /// Visits the ancestors of a snapshot, except snapshots in `others` and their ancestors. For
    /// each snapshot that is not known, calls `missing` with the location of a metadata file that
    /// may list the snapshot.
    fn walk(
        &self,
        from: Option<i64>,
        others: &HashSet<i64>,
        mut missing: impl FnMut(i64, Option<&str>),
    ) -> HashSet<i64> {
        let mut found = HashSet::new();
        let mut next: Vec<(i64, Option<&str>)> = from.into_iter().map(|id| (id, None)).collect();
        while let Some((id, metadata_file)) = next.pop() {
            if others.contains(&id) || !found.insert(id) {
                continue;
            }
            let Some(known) = self.known.get(&id) else {
                missing(id, metadata_file);
                continue;
            };
            let parent = known.snapshot.parent_snapshot_id();
            next.extend(parent.map(|id| (id, known.parent_metadata())));
            let metadata_file = value(&known.snapshot, MERGED_METADATA);
            next.extend(merged_by(&known.snapshot).map(|id| (id, metadata_file)));
        }
        found
    }

    /// Returns all known ancestors, each before its parents, even if the clocks of writers differ.
    /// Snapshots that do not descend from each other are ordered by time, newest first.
    pub fn newest_first(&self) -> Vec<&Snapshot> {
        let mut children: HashMap<i64, usize> = HashMap::new();
        for snapshot in self.ancestors().into_iter().filter_map(|id| self.get(id)) {
            parents(snapshot).for_each(|id| *children.entry(id).or_default() += 1);
        }
        let entry = |id| self.get(id).map(|one| (one.timestamp_ms(), one.sequence_number(), id));
        let mut next: BinaryHeap<_> = self.current.and_then(entry).into_iter().collect();
        let mut found = Vec::new();
        while let Some(snapshot) = next.pop().and_then(|(.., id)| self.get(id)) {
            found.push(snapshot);
            for id in parents(snapshot) {
                let left = children.get(&id).map_or(0, |left| left.saturating_sub(1));
                if children.insert(id, left) == Some(1) {
                    next.extend(entry(id));
                }
            }
        }
        found
    }

    /// Returns the values of a property in the summaries of all known ancestors, newest first.
    /// Excludes reverted snapshots, and all snapshots before a revert of unknown snapshots.
    fn values(&self, property: &str) -> Vec<&str> {
        let mut undone: HashSet<i64> = HashSet::new();
        let mut values = Vec::new();
        for snapshot in self.newest_first() {
            if undone.contains(&snapshot.snapshot_id()) {
                continue;
            }
            values.extend(value(snapshot, property));
            let Some(ids) = undone_by(snapshot) else { break };
            undone.extend(ids);
        }
        values
    }

    /// Returns the data files of a known snapshot; `None` if they are no longer available.
    pub async fn files_at(&self, tables: &Tables, id: i64) -> Result<Option<SnapshotFiles>> {
        let Some(known) = self.known.get(&id) else { return Ok(None) };
        match tables.metadata_files().files(known.table.metadata(), &known.snapshot).await {
            Err(Error::Missing { .. }) => Ok(None),
            found => found.map(Some),
        }
    }

    /// Returns the versions of the source tables from which this state's rows were computed, if the
    /// metadata lists them. Searches several snapshots, because several projects may write the
    /// table. Ends at a snapshot that merged or reverted changes.
    pub fn read_up_to(&self) -> BTreeMap<String, String> {
        let (mut read, mut next) = (BTreeMap::new(), self.current);
        while let Some(snapshot) = next.and_then(|id| self.get(id)) {
            let properties = &snapshot.summary().additional_properties;
            for (key, value) in properties.iter().filter(|(key, _)| key.starts_with(READ_UP_TO)) {
                read.entry(key.clone()).or_insert_with(|| value.clone());
            }
            if merged_by(snapshot).is_some() || value(snapshot, UNDONE).is_some() {
                break;
            }
            next = snapshot.parent_snapshot_id();
        }
        read
    }

    /// Returns true if this state descends from the state `other`. If the current snapshot of
    /// `other` is a merge, it is sufficient that this state descends from both parents of the
    /// merge, because any merge of these parents has the same result.
    pub fn descends_from(&self, other: &SnapshotAncestry) -> bool {
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

    /// Returns an ancestor, and reads older metadata files if needed; `None` if no file lists the
    /// ancestor.
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

    /// Returns the snapshot that a merge merged, if the merge has exactly the rows of that
    /// snapshot. This is the case if, on the side of the merge's first parent, files were only
    /// rewritten since the common ancestor. Otherwise returns `None`.
    pub async fn equal_parent(&mut self, tables: &Tables, merge: &Snapshot) -> Option<i64> {
        let merged = merged_by(merge)?;
        let mut ancestors = HashSet::new();
        let mut next = Some(merged);
        while let Some(id) = next.filter(|id| ancestors.insert(*id)) {
            next = self.find(tables, id).await.and_then(|found| found.parent_snapshot_id());
        }
        let mut next = merge.parent_snapshot_id()?;
        while !ancestors.contains(&next) {
            let snapshot = self.find(tables, next).await?;
            let rewrites = snapshot.summary().operation == Operation::Replace;
            if !rewrites || merged_by(&snapshot).is_some() {
                return None;
            }
            next = snapshot.parent_snapshot_id()?;
        }
        // If the merge resolved a conflict by taking one side's table, the row counts differ.
        let merged_snapshot = self.find(tables, merged).await?;
        let rows = value(merge, TOTAL_RECORDS)?;
        (value(&merged_snapshot, TOTAL_RECORDS)? == rows).then_some(merged)
    }

    /// Adds the missing ancestors of this state that another lineage has already read.
    pub fn add_ancestors_from(&mut self, other: &SnapshotAncestry) {
        let mut next = Vec::new();
        self.walk(self.current, &HashSet::new(), |id, _| next.push(id));
        while let Some(id) = next.pop() {
            let Some(known) = other.known.get(&id) else { continue };
            if self.known.insert(id, known.clone()).is_none() {
                next.extend(parents(&known.snapshot));
            }
        }
    }

    /// Returns true if the lineage lacks an ancestor of the state that is not in `others`.
    pub fn lacks(&self, others: &HashSet<i64>) -> bool {
        let mut lacks = false;
        self.walk(self.current, others, |_, _| lacks = true);
        lacks
    }

    /// Reads metadata files that may list unknown ancestors. Returns true if it read one.
    pub async fn read_more(&mut self, tables: &Tables) -> bool {
        self.read_since(tables, &HashSet::new()).await
    }

    /// Does the same as [`SnapshotAncestry::read_more`], but only for ancestors that are not in
    /// `others`.
    pub async fn read_since(&mut self, tables: &Tables, others: &HashSet<i64>) -> bool {
        let mut metadata_files: HashSet<String> = HashSet::new();
        self.walk(self.current, others, |_, metadata_file| {
            metadata_files.extend(metadata_file.map(str::to_owned));
        });
        metadata_files.retain(|metadata_file| !self.read.contains(metadata_file));
        let mut more = false;
        for metadata_file in metadata_files {
            if self.read.len() >= FILES_MAX {
                break;
            }
            // If a metadata file is missing, the snapshots that it lists remain unknown.
            match tables.load(&metadata_file).await {
                Ok(table) => {
                    self.add(&table);
                    more = true;
                }
                Err(error) => tracing::debug!(%error, "cannot read older metadata"),
            }
            self.read.insert(metadata_file);
        }
        more
    }
}

/// Queries on the history of a table. [`Tables::history`] returns this type.
#[derive(Debug, Clone, Copy)]
pub struct TableHistory<'a> {
    pub(crate) tables: &'a Tables,
}

impl TableHistory<'_> {
    /// Returns the newest value of a summary property for which `wanted` returns true, from the
    /// current snapshot and all its ancestors. The ancestors include merged snapshots, and
    /// snapshots that the metadata no longer lists.
    pub async fn find(
        self,
        table: &Table,
        property: &str,
        wanted: impl Fn(&str) -> bool,
    ) -> Option<String> {
        let current = table.metadata().current_snapshot();
        let current = current.and_then(|snapshot| value(snapshot, property));
        if let Some(found) = current.filter(|found| wanted(found)) {
            return Some(found.to_owned());
        }
        let mut lineage = SnapshotAncestry::of(table);
        loop {
            if let Some(found) = lineage.values(property).into_iter().find(|one| wanted(one)) {
                return Some(found.to_owned());
            }
            if !lineage.read_more(self.tables).await {
                return None;
            }
        }
    }

    /// Returns the newest value of a summary property. Returns `None` if a snapshot after that
    /// value merged, replayed or reverted changes, which the value does not include.
    pub async fn find_since_merged(self, table: &Table, property: &str) -> Option<String> {
        let mut lineage = SnapshotAncestry::of(table);
        let mut next = lineage.current();
        while let Some(snapshot) = lineage.find(self.tables, next?).await {
            if let Some(found) = value(&snapshot, property) {
                return Some(found.to_owned());
            }
            if value(&snapshot, UNDONE).is_some() {
                return None;
            }
            next = match merged_by(&snapshot) {
                Some(_) => Some(lineage.equal_parent(self.tables, &snapshot).await?),
                None => snapshot.parent_snapshot_id(),
            };
        }
        None
    }
}

/// Returns the parent of a snapshot, and the snapshot that it merged.
fn parents(snapshot: &Snapshot) -> impl Iterator<Item = i64> {
    snapshot.parent_snapshot_id().into_iter().chain(merged_by(snapshot))
}

/// Returns the snapshot that a merge snapshot merged; `None` for other snapshots.
pub fn merged_by(snapshot: &Snapshot) -> Option<i64> {
    value(snapshot, MERGED)?.parse().ok()
}

/// Returns the snapshots that a snapshot replays; `None` if they are unknown.
pub fn picked_by(snapshot: &Snapshot) -> Option<Vec<i64>> {
    serde_json::from_str(value(snapshot, PICKED).unwrap_or("[]")).ok()
}

/// Returns the snapshots that a snapshot reverts; `None` if they are unknown.
pub fn undone_by(snapshot: &Snapshot) -> Option<Vec<i64>> {
    serde_json::from_str(value(snapshot, UNDONE).unwrap_or("[]")).ok()
}

fn value<'s>(snapshot: &'s Snapshot, key: &str) -> Option<&'s str> {
    snapshot.summary().additional_properties.get(key).map(String::as_str)
}
