//! Reachability: all table states in the history of some commits, each with the time at which a
//! newer state superseded it.
//!
//! States at merge bases of these commits are marked, because a merge of the branches needs these
//! states.

use std::collections::{BTreeMap, HashMap, HashSet};

use headwater_model::{CommitId, ObjectId, TableName, Timestamp};

use crate::{Catalog, Result, TableEntry};

/// A table state referenced by a commit.
#[derive(Debug, Clone)]
pub struct ReachableState {
    /// The table's name in the commit.
    pub table: TableName,
    /// The table's entry.
    pub entry: TableEntry,
    /// The last time at which a newer state superseded this state, on any branch; `None` if the
    /// table has this state at a head.
    pub until: Option<Timestamp>,
    /// True if the table has this state at a merge base of the heads.
    pub base: bool,
}

/// The reachable table states.
#[derive(Debug, Default)]
pub struct ReachableStates {
    /// The states by the location of their metadata file.
    pub states: HashMap<String, ReachableState>,
    /// The time of the oldest merge base of the heads; `None` if the heads have no merge base.
    pub oldest_base: Option<Timestamp>,
}

impl ReachableStates {
    fn add(&mut self, table: TableName, entry: TableEntry, until: Option<Timestamp>, base: bool) {
        let location = entry.metadata_location.clone();
        match self.states.get_mut(&location) {
            Some(known) => {
                known.base |= base;
                known.until = match (known.until, until) {
                    (Some(one), Some(other)) => Some(one.max(other)),
                    _ => None,
                };
            }
            None => {
                self.states.insert(location, ReachableState { table, entry, until, base });
            }
        }
    }
}

/// The origin of a path from a head: the last commit on it at which paths from several heads met,
/// or the head itself. A commit at which paths with different origins meet is a merge base.
type PathOrigin = CommitId;

impl Catalog {
    /// Walks from the heads to the lake's first commit, and collects the `wanted` table states.
    /// Shared history is visited once.
    pub async fn reach(
        &self,
        heads: &[CommitId],
        wanted: impl Fn(&TableEntry) -> bool,
    ) -> Result<ReachableStates> {
        let mut found = ReachableStates::default();
        let head_set: HashSet<CommitId> = heads.iter().copied().collect();
        let mut origins: BTreeMap<CommitId, PathOrigin> =
            head_set.iter().map(|id| (*id, *id)).collect();
        let mut visited_roots: HashSet<(ObjectId, bool, bool)> = HashSet::new();
        let mut bases: HashSet<CommitId> = HashSet::new();
        let mut walk = self.walk_from(heads).await?;
        while let Some((id, commit)) = walk.next().await? {
            let base = bases.remove(&id);
            if base {
                let oldest = found.oldest_base.get_or_insert(commit.time);
                *oldest = commit.time.min(*oldest);
            }
            let origin = if base { id } else { origins.remove(&id).unwrap_or(id) };
            if (base || head_set.contains(&id))
                && let Some(root) = commit.tables
                && visited_roots.insert((root, base, head_set.contains(&id)))
            {
                for (table, entry) in self.state(id).await?.all_entries().await? {
                    if wanted(&entry) {
                        // The state was superseded at the time of this commit, unless the commit is
                        // a head.
                        let until = (!head_set.contains(&id)).then_some(commit.time);
                        found.add(table, entry, until, base);
                    }
                }
            }
            for parent in &commit.parents {
                match origins.get(parent) {
                    Some(other) if *other != origin => {
                        bases.insert(*parent);
                    }
                    _ => {
                        origins.insert(*parent, origin);
                    }
                }
                let before = self.objects.commit(*parent).await?;
                for change in self.diff_roots(before.tables, commit.tables).await? {
                    if let Some(entry) = change.from.filter(|entry| wanted(entry)) {
                        found.add(change.table, entry, Some(commit.time), false);
                    }
                }
            }
        }
        Ok(found)
    }

    /// Returns the last `count` states of a table in the first-parent history of `head`, newest
    /// first.
    pub async fn last_states(
        &self,
        head: CommitId,
        table: &TableName,
        count: usize,
    ) -> Result<Vec<TableEntry>> {
        let mut found: Vec<TableEntry> = Vec::new();
        let mut next = Some(head);
        while let Some(id) = next.filter(|_| found.len() < count) {
            let state = self.state(id).await?;
            if let Some(entry) = state.table(table).await?
                && found.last().is_none_or(|last| last.metadata_location != entry.metadata_location)
            {
                found.push(entry);
            }
            next = self.objects.commit(id).await?.parents.first().copied();
        }
        Ok(found)
    }
}
