//! Batches: atomic changes of the store.
//!
//! A batch is applied only if all its preconditions hold. Otherwise nothing changes. The order in
//! which a backend executes the parts of a batch is not observable.

use std::collections::HashSet;

use bytes::Bytes;

use crate::{Error, Result};

/// An atomic change of the store.
#[derive(Debug, Clone, Default)]
pub struct WriteBatch {
    /// Objects to insert. Objects that already exist are not written again.
    pub objects: Vec<Bytes>,
    /// Refs to compare and swap; at most one change per name.
    pub refs: Vec<RefChange>,
    /// Journal entries to append, in order.
    pub entries: Vec<JournalAppend>,
    /// Keys to insert; the batch fails if one of them exists already. Unique keys are never
    /// removed.
    pub unique: Vec<UniqueKey>,
    /// If true, the batch is committed without fsync. It survives the end of the process, but may
    /// be lost in a power failure.
    pub relaxed: bool,
}

impl WriteBatch {
    /// Adds the changes and preconditions of another batch. The result is relaxed only if both
    /// batches are relaxed.
    pub fn merge(&mut self, other: WriteBatch) {
        self.relaxed = (self.relaxed || self.is_empty()) && (other.relaxed || other.is_empty());
        self.objects.extend(other.objects);
        self.refs.extend(other.refs);
        self.entries.extend(other.entries);
        self.unique.extend(other.unique);
    }

    /// Returns true if the batch has no changes and no preconditions.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
            && self.refs.is_empty()
            && self.entries.is_empty()
            && self.unique.is_empty()
    }

    /// Rejects a batch that contains a ref or a unique key twice.
    pub(crate) fn check(&self) -> Result<()> {
        let mut names = HashSet::new();
        if let Some(change) = self.refs.iter().find(|change| !names.insert(&change.name)) {
            let reason = format!("the batch changes ref `{}` twice", change.name);
            return Err(Error::InvalidBatch { reason });
        }
        let mut keys = HashSet::new();
        match self.unique.iter().find(|unique| !keys.insert(*unique)) {
            Some(UniqueKey { scope, key }) => {
                Err(Error::NotUnique { scope: scope.clone(), key: key.clone() })
            }
            None => Ok(()),
        }
    }
}

/// A compare-and-swap of one ref. If the new value equals the expected value, the change is only a
/// precondition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefChange {
    /// The ref's name.
    pub name: String,
    /// The precondition on the current value.
    pub expected: RefPrecondition,
    /// The new value; `None` deletes the ref.
    pub value: Option<Bytes>,
}

/// The precondition on the value of a ref.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefPrecondition {
    /// No precondition.
    Anything,
    /// The ref must not exist.
    Absent,
    /// The ref must have exactly this value.
    Value(Bytes),
}

impl RefPrecondition {
    /// Returns true if a ref with the current value `found` meets the precondition.
    pub fn is_met_by(&self, found: Option<&[u8]>) -> bool {
        match self {
            RefPrecondition::Anything => true,
            RefPrecondition::Absent => found.is_none(),
            RefPrecondition::Value(value) => found == Some(value.as_ref()),
        }
    }
}

/// An entry to append to a journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalAppend {
    /// Name of the journal.
    pub journal: String,
    /// The key. The appended entry becomes the newest entry of this key.
    pub key: String,
    /// The value; `None` is a tombstone, which hides the key from `latest` and `scan`.
    pub value: Option<Bytes>,
}

impl JournalAppend {
    /// Creates an entry with a value.
    pub fn put(journal: &str, key: impl Into<String>, value: Bytes) -> Self {
        JournalAppend { journal: journal.to_owned(), key: key.into(), value: Some(value) }
    }

    /// Creates an entry that removes the key from `latest` and `scan`.
    pub fn tombstone(journal: &str, key: impl Into<String>) -> Self {
        JournalAppend { journal: journal.to_owned(), key: key.into(), value: None }
    }
}

/// A key that can be inserted only once.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UniqueKey {
    /// The namespace of the key, for example `event`.
    pub scope: String,
    /// The key, unique within its scope.
    pub key: String,
}

/// The result of an applied batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BatchResult {
    /// The journal positions of the batch's entries, in the order of the batch.
    pub positions: Vec<u64>,
}
