//! The in-memory store, which is used in tests. It is the reference implementation of [`Store`].

use std::collections::{BTreeMap, HashSet};

use async_trait::async_trait;
use bytes::Bytes;
use headwater_model::ObjectId;
use parking_lot::Mutex;

use crate::key_range::successor;
use crate::{
    BatchResult, Error, JournalAppend, JournalEntry, KeyRange, RefChange, Result, Store, UniqueKey,
    WriteBatch,
};

/// An in-memory store.
#[derive(Debug, Default)]
pub struct MemoryStore(Mutex<MemoryStoreState>);

#[derive(Debug, Default)]
struct MemoryStoreState {
    objects: BTreeMap<ObjectId, Bytes>,
    refs: BTreeMap<String, Bytes>,
    journals: BTreeMap<String, Journal>,
    unique: HashSet<UniqueKey>,
}

/// The entries of a journal by sequence number, and the number of the current entry of each key.
#[derive(Debug, Default)]
struct Journal {
    last: u64,
    entries: BTreeMap<u64, (String, Option<Bytes>)>,
    newest: BTreeMap<String, u64>,
}

impl MemoryStore {
    /// Creates an empty in-memory store.
    pub fn new() -> Self {
        MemoryStore::default()
    }
}

impl Journal {
    fn append(&mut self, append: JournalAppend) -> u64 {
        self.last += 1;
        if append.value.is_some() {
            self.newest.insert(append.key.clone(), self.last);
        } else {
            self.newest.remove(&append.key);
        }
        self.entries.insert(self.last, (append.key, append.value));
        self.last
    }

    fn entry(&self, position: u64) -> Option<JournalEntry> {
        let (key, value) = self.entries.get(&position)?;
        Some(JournalEntry { position, key: key.clone(), value: value.clone()? })
    }

    fn after(&self, position: u64, prefix: &str, limit: usize) -> Vec<JournalEntry> {
        let later = self.entries.range(position.saturating_add(1)..);
        let found = later.filter(|(_, (key, _))| key.starts_with(prefix));
        found.filter_map(|(position, _)| self.entry(*position)).take(limit).collect()
    }

    fn scan(&self, range: &KeyRange) -> Vec<JournalEntry> {
        let (from, until) = range.bounds();
        let keys = self.newest.range(from.to_owned()..);
        let within = keys.take_while(|(key, _)| until.as_ref().is_none_or(|until| *key < until));
        let mut found: Vec<JournalEntry> =
            within.filter_map(|(_, position)| self.entry(*position)).collect();
        if range.reverse {
            found.reverse();
        }
        found.truncate(range.limit);
        found
    }

    fn trim(&mut self, range: &KeyRange) -> u64 {
        let (from, until) = range.bounds();
        let inside = |key: &str| key >= from && until.as_deref().is_none_or(|until| key < until);
        let before = self.entries.len();
        self.entries.retain(|_, (key, _)| !inside(key));
        self.newest.retain(|key, _| !inside(key));
        (before - self.entries.len()) as u64
    }
}

impl MemoryStoreState {
    fn check(&self, batch: &WriteBatch) -> Result<()> {
        batch.check()?;
        for change in &batch.refs {
            if !change.expected.is_met_by(self.refs.get(&change.name).map(AsRef::as_ref)) {
                return Err(Error::Conflict { name: change.name.clone() });
            }
        }
        match batch.unique.iter().find(|unique| self.unique.contains(unique)) {
            Some(UniqueKey { scope, key }) => {
                Err(Error::NotUnique { scope: scope.clone(), key: key.clone() })
            }
            None => Ok(()),
        }
    }

    fn apply(&mut self, batch: WriteBatch) -> BatchResult {
        for bytes in batch.objects {
            self.objects.insert(ObjectId::of(&bytes), bytes);
        }
        for RefChange { name, value, .. } in batch.refs {
            match value {
                Some(value) => self.refs.insert(name, value),
                None => self.refs.remove(&name),
            };
        }
        self.unique.extend(batch.unique);
        let append = |append: JournalAppend| {
            self.journals.entry(append.journal.clone()).or_default().append(append)
        };
        BatchResult { positions: batch.entries.into_iter().map(append).collect() }
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn object(&self, id: &ObjectId) -> Result<Option<Bytes>> {
        Ok(self.0.lock().objects.get(id).cloned())
    }

    async fn objects(&self, ids: &[ObjectId]) -> Result<Vec<Option<Bytes>>> {
        let state = self.0.lock();
        Ok(ids.iter().map(|id| state.objects.get(id).cloned()).collect())
    }

    async fn objects_with_prefix(&self, digits: &str, limit: usize) -> Result<Vec<ObjectId>> {
        let state = self.0.lock();
        let matching = state.objects.keys().filter(|id| id.to_string().starts_with(digits));
        Ok(matching.take(limit).copied().collect())
    }

    async fn reference(&self, name: &str) -> Result<Option<Bytes>> {
        Ok(self.0.lock().refs.get(name).cloned())
    }

    async fn references(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Bytes)>> {
        let state = self.0.lock();
        let until = successor(prefix);
        let within = state.refs.range(prefix.to_owned()..);
        let found = within
            .take_while(|(name, _)| until.as_ref().is_none_or(|until| *name < until))
            .filter(|(name, _)| after.is_none_or(|after| name.as_str() > after));
        Ok(found.take(limit).map(|(name, value)| (name.clone(), value.clone())).collect())
    }

    async fn latest(&self, journal: &str, key: &str) -> Result<Option<JournalEntry>> {
        let state = self.0.lock();
        let Some(journal) = state.journals.get(journal) else { return Ok(None) };
        Ok(journal.newest.get(key).and_then(|position| journal.entry(*position)))
    }

    async fn scan(&self, journal: &str, range: &KeyRange) -> Result<Vec<JournalEntry>> {
        let state = self.0.lock();
        Ok(state.journals.get(journal).map(|journal| journal.scan(range)).unwrap_or_default())
    }

    async fn read(&self, journal: &str, after: u64, limit: usize) -> Result<Vec<JournalEntry>> {
        self.history(journal, "", after, limit).await
    }

    async fn history(
        &self,
        journal: &str,
        key_prefix: &str,
        after: u64,
        limit: usize,
    ) -> Result<Vec<JournalEntry>> {
        let state = self.0.lock();
        let journal = state.journals.get(journal);
        Ok(journal.map(|journal| journal.after(after, key_prefix, limit)).unwrap_or_default())
    }

    async fn apply(&self, batch: WriteBatch) -> Result<BatchResult> {
        let mut state = self.0.lock();
        state.check(&batch)?;
        Ok(state.apply(batch))
    }

    async fn trim(&self, journal: &str, range: &KeyRange) -> Result<u64> {
        let mut state = self.0.lock();
        Ok(state.journals.get_mut(journal).map_or(0, |journal| journal.trim(range)))
    }
}
