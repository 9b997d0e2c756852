//! A journal of occurrences, such as merges, that one component records and triggers read.
//!
//! While a watch is set, the component appends an entry in the same batch that makes the
//! occurrence, so that both are stored or neither. Triggers read the entries after their last
//! position, store the resulting events, and then delete the entries.

use bytes::Bytes;

use crate::{JournalAppend, JournalEntry, KeyRange, Result, Store, WriteBatch};

/// The key of entries without content, which only reserve a position.
const POSITION: &str = "position";

/// The key of the watch: an entry of a separate journal that states which occurrences to record.
const WATCH: &str = "watch";

/// Number of entries that [`OccurrenceJournal::forget`] reads at a time.
const CHUNK: usize = 500;

/// A journal of occurrences.
#[derive(Debug, Clone, Copy)]
pub struct OccurrenceJournal<'a> {
    store: &'a dyn Store,
    name: &'static str,
}

impl<'a> OccurrenceJournal<'a> {
    /// Returns the journal with this name.
    pub fn new(store: &'a dyn Store, name: &'static str) -> Self {
        OccurrenceJournal { store, name }
    }

    /// Returns the watch, whose encoding the component defines; `None` while no occurrence needs to
    /// be recorded.
    pub async fn watched(self) -> Result<Option<Bytes>> {
        let entry = self.store.latest(&self.watches(), WATCH).await?;
        Ok(entry.map(|entry| entry.value))
    }

    /// Replaces the watch; `None` removes it. The change is durable on return. Writes nothing if
    /// the watch is unchanged.
    pub async fn watch(self, watch: Option<Bytes>) -> Result<()> {
        if self.watched().await? == watch {
            return Ok(());
        }
        let entry = JournalAppend { journal: self.watches(), key: WATCH.to_owned(), value: watch };
        self.store
            .apply(WriteBatch { entries: vec![entry], ..WriteBatch::default() })
            .await
            .map(drop)
    }

    fn watches(self) -> String {
        format!("{}_watch", self.name)
    }

    /// Returns a position that is higher than the positions of all existing entries.
    pub async fn position(self) -> Result<u64> {
        let entries = vec![JournalAppend::tombstone(self.name, POSITION)];
        let batch = WriteBatch { entries, relaxed: true, ..WriteBatch::default() };
        let applied = self.store.apply(batch).await?;
        self.trim(POSITION).await?;
        Ok(applied.positions.first().copied().unwrap_or_default())
    }

    /// Returns the first `limit` entries after a position, in order.
    pub async fn after(self, position: u64, limit: usize) -> Result<Vec<JournalEntry>> {
        self.store.read(self.name, position, limit).await
    }

    /// Deletes the entries up to and including a position.
    pub async fn forget(self, until: u64) -> Result<()> {
        loop {
            let entries = self.store.read(self.name, 0, CHUNK).await?;
            let consumed = entries.iter().filter(|entry| entry.position <= until);
            let mut forgotten = 0;
            for entry in consumed {
                self.trim(&entry.key).await?;
                forgotten += 1;
            }
            if forgotten < CHUNK {
                return Ok(());
            }
        }
    }

    async fn trim(self, key: &str) -> Result<()> {
        let (from, until) = (Some(key.to_owned()), Some(format!("{key}\0")));
        let range = KeyRange { from, until, ..KeyRange::default() };
        self.store.trim(self.name, &range).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryStore;

    #[tokio::test]
    async fn a_reader_reads_the_entries_after_its_position_and_deletes_them() {
        let store = MemoryStore::new();
        let journal = OccurrenceJournal::new(&store, "merges");
        assert_eq!(journal.watched().await.expect("a watch"), None);
        for watch in [Some(Bytes::from_static(b"all")), None, Some(Bytes::new())] {
            journal.watch(watch.clone()).await.expect("stored");
            assert_eq!(journal.watched().await.expect("a watch"), watch);
        }
        let put = async |key: &str| {
            let entries = vec![JournalAppend::put("merges", key, Bytes::from_static(b"x"))];
            store.apply(WriteBatch { entries, ..WriteBatch::default() }).await.expect("applied");
        };
        put("before").await;
        let start = journal.position().await.expect("a position");
        put("a").await;
        put("b").await;
        let keys = async |after: u64| {
            let entries = journal.after(after, 10).await.expect("entries");
            entries.into_iter().map(|entry| entry.key).collect::<Vec<_>>()
        };
        assert_eq!(keys(0).await, ["before", "a", "b"]);
        assert_eq!(keys(start).await, ["a", "b"]);
        let first = journal.after(start, 1).await.expect("entries")[0].position;
        journal.forget(first).await.expect("a trim");
        assert_eq!(keys(0).await, ["b"]);
    }
}
