//! Entries of a journal in descending order of keys.

use std::collections::VecDeque;

use crate::{JournalEntry, KeyRange, Result, Store};

/// Number of entries in the first page; later pages are larger.
const FIRST_PAGE: usize = 64;
const PAGE: usize = 1_024;

/// A scan of a journal in descending order of keys, which reads one page at a time.
#[derive(Debug)]
pub struct ReverseScan {
    journal: &'static str,
    from: Option<String>,
    until: Option<String>,
    page: VecDeque<JournalEntry>,
    size: usize,
    done: bool,
}

impl ReverseScan {
    /// Creates a scan of the keys from `from` (inclusive) to `until` (exclusive).
    pub fn new(journal: &'static str, from: Option<String>, until: Option<String>) -> Self {
        let page = VecDeque::new();
        ReverseScan { journal, from, until, page, size: FIRST_PAGE, done: false }
    }

    /// Returns the name of the journal.
    pub fn journal(&self) -> &'static str {
        self.journal
    }

    /// Returns the next entry without removing it.
    pub async fn peek(&mut self, store: &dyn Store) -> Result<Option<&JournalEntry>> {
        if self.page.is_empty() && !self.done {
            let range = KeyRange {
                from: self.from.clone(),
                until: self.until.clone(),
                reverse: true,
                limit: self.size,
                ..KeyRange::default()
            };
            self.page = store.scan(self.journal, &range).await?.into();
            self.done = self.page.len() < self.size;
            self.until = self.page.back().map(|entry| entry.key.clone()).or(self.until.take());
            self.size = PAGE;
        }
        Ok(self.page.front())
    }

    /// Removes and returns the next entry that [`ReverseScan::peek`] has already read.
    pub fn pop(&mut self) -> Option<JournalEntry> {
        self.page.pop_front()
    }

    /// Removes and returns the next entry that [`ReverseScan::peek`] has already read, if its key
    /// is `key`.
    pub fn pop_key(&mut self, key: &str) -> Option<JournalEntry> {
        self.page.pop_front_if(|entry| entry.key == key)
    }
}
