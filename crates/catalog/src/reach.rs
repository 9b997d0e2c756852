//! What is still to be read: every state of every table that some commits lead back to, and until when
//! each was the newest.
//!
//! A commit where the ways to two of those commits part is one that a merge of them begins from, so that
//! what it holds is marked: without it, the branches could not be merged any more.

use std::collections::{BTreeMap, HashMap, HashSet};

use headwater_model::{CommitId, ObjectId, TableName, Timestamp};

use crate::{Catalog, Result, TableEntry};

/// A state of a table that a commit names.
#[derive(Debug, Clone)]
pub struct ReachedState {
    /// The name that the table has there.
    pub table: TableName,
    /// The state.
    pub entry: TableEntry,
    /// When it was last superseded; none for one that is at one of the commits asked for.
    pub until: Option<Timestamp>,
    /// Whether merges of the commits asked for begin from it.
    pub base: bool,
}

/// All that some commits lead back to.
#[derive(Debug, Default)]
pub struct Reach {
    /// The states of tables, by where their metadata lies.
    pub states: HashMap<String, ReachedState>,
    /// The oldest commit at which ways to the commits part; none where none do.
    pub oldest_base: Option<Timestamp>,
}

impl Reach {
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
                self.states.insert(location, ReachedState { table, entry, until, base });
            }
        }
    }
}

/// The commits that one of those asked for leads to by this one alone, and no other way.
type Way = CommitId;

impl Catalog {
    /// Walks back from some commits to the first, and finds every state of a table on the way that is
    /// `wanted`. What two commits have in common is not looked at twice.
    pub async fn reach(
        &self,
        heads: &[CommitId],
        wanted: impl Fn(&TableEntry) -> bool,
    ) -> Result<Reach> {
        let mut found = Reach::default();
        let asked: HashSet<CommitId> = heads.iter().copied().collect();
        let mut ways: BTreeMap<CommitId, Way> = asked.iter().map(|id| (*id, *id)).collect();
        let mut whole: HashSet<(ObjectId, bool, bool)> = HashSet::new();
        let mut parted: HashSet<CommitId> = HashSet::new();
        let mut walk = self.walk_from(heads).await?;
        while let Some((id, commit)) = walk.next().await? {
            let base = parted.remove(&id);
            if base {
                let oldest = found.oldest_base.get_or_insert(commit.time);
                *oldest = commit.time.min(*oldest);
            }
            let way = if base { id } else { ways.remove(&id).unwrap_or(id) };
            if (base || asked.contains(&id))
                && let Some(root) = commit.tables
                && whole.insert((root, base, asked.contains(&id)))
            {
                for (table, entry) in self.state(id).await?.entries(None).await? {
                    if wanted(&entry) {
                        // What is only a base is superseded as its children say.
                        let until = (!asked.contains(&id)).then_some(commit.time);
                        found.add(table, entry, until, base);
                    }
                }
            }
            for parent in &commit.parents {
                match ways.get(parent) {
                    Some(other) if *other != way => {
                        parted.insert(*parent);
                    }
                    _ => {
                        ways.insert(*parent, way);
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

    /// The last states of a table on a branch, newest first, at most `count` of them.
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
