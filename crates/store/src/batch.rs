//! What one atomic change of the store consists of.
//!
//! The order in which a backend carries out a batch cannot be seen: either every expectation held and
//! everything is there, or nothing changed.

use std::collections::HashSet;

use bytes::Bytes;

use crate::{Error, Result};

/// A change of the store that happens as a whole or not at all.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// Objects to keep; one that exists already is left as it is.
    pub objects: Vec<Bytes>,
    /// Refs to compare and change; at most one change for each name.
    pub refs: Vec<RefChange>,
    /// Entries to append, in order.
    pub entries: Vec<Append>,
    /// Keys that must not exist, and exist afterwards, for good.
    pub unique: Vec<Unique>,
    /// May be lost when the power fails, though not when the process is killed; costs no fsync.
    pub relaxed: bool,
}

impl Batch {
    /// Adds everything of another batch; the sum is relaxed only where both are.
    pub fn merge(&mut self, other: Batch) {
        self.relaxed = (self.relaxed || self.is_empty()) && (other.relaxed || other.is_empty());
        self.objects.extend(other.objects);
        self.refs.extend(other.refs);
        self.entries.extend(other.entries);
        self.unique.extend(other.unique);
    }

    /// Whether it neither changes nor checks anything.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
            && self.refs.is_empty()
            && self.entries.is_empty()
            && self.unique.is_empty()
    }

    /// Refuses a batch that names a ref or a unique key twice, which no order of doing could honour.
    pub(crate) fn check(&self) -> Result<()> {
        let mut names = HashSet::new();
        if let Some(change) = self.refs.iter().find(|change| !names.insert(&change.name)) {
            let reason = format!("changes ref `{}` twice", change.name);
            return Err(Error::InvalidBatch { reason });
        }
        let mut keys = HashSet::new();
        match self.unique.iter().find(|unique| !keys.insert(*unique)) {
            Some(Unique { scope, key }) => {
                Err(Error::NotUnique { scope: scope.clone(), key: key.clone() })
            }
            None => Ok(()),
        }
    }
}

/// A ref to compare and change. To check it and no more, give the value that is expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefChange {
    /// The ref's name.
    pub name: String,
    /// What it must hold before.
    pub expected: Expected,
    /// What it holds afterwards; none removes it.
    pub value: Option<Bytes>,
}

/// What a ref must hold for a batch to be applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// Anything, or nothing.
    Anything,
    /// Nothing: the name is free.
    Absent,
    /// Exactly these bytes.
    Value(Bytes),
}

impl Expected {
    /// Whether a ref that holds `found` meets the expectation.
    pub fn holds(&self, found: Option<&[u8]>) -> bool {
        match self {
            Expected::Anything => true,
            Expected::Absent => found.is_none(),
            Expected::Value(value) => found == Some(value.as_ref()),
        }
    }
}

/// An entry to append to a journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Append {
    /// The journal.
    pub journal: String,
    /// The key whose newest entry this becomes.
    pub key: String,
    /// The value; none takes the key out of `latest` and `scan`.
    pub value: Option<Bytes>,
}

/// A key that may be used once.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Unique {
    /// What kind of key it is, for example `event`.
    pub scope: String,
    /// The key.
    pub key: String,
}

/// What became of a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// The positions of the batch's entries, in their order.
    pub positions: Vec<u64>,
}
