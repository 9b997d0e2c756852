//! How commits, nodes of the trie, namespaces and refs are written: compact JSON with a version.
//!
//! The encoding of an object decides its id, so that it must never depend on anything but the content:
//! every map is ordered.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use headwater_model::{Commit, CommitId, Namespace, ObjectId, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{Error, Result, TableEntry};

const VERSION: u8 = 1;

/// A commit as it is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct CommitObject {
    pub parents: Vec<CommitId>,
    pub author: String,
    pub message: String,
    pub time: Timestamp,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub properties: BTreeMap<String, String>,
    /// The longest way to the first commit; a child's is larger than its parents'.
    pub generation: u64,
    /// The root of the tables' trie; none where there is no table.
    pub tables: Option<ObjectId>,
    /// The namespaces object.
    pub namespaces: ObjectId,
}

impl CommitObject {
    /// The commit as it is listed.
    pub fn listed(&self, id: CommitId) -> Commit {
        Commit {
            id,
            parents: self.parents.clone(),
            author: self.author.clone(),
            message: self.message.clone(),
            time: self.time,
            properties: self.properties.clone(),
        }
    }
}

/// A node of the tables' trie.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Node {
    /// The tables themselves, by `namespace.name`.
    Leaf(BTreeMap<String, TableEntry>),
    /// Children by the next hexadecimal digit of the name's hash.
    Inner(BTreeMap<u8, Child>),
}

/// A child of an inner node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Child {
    /// The node.
    pub id: ObjectId,
    /// Tables below it.
    pub tables: u64,
}

/// The namespaces of a commit, by name.
pub(crate) type Namespaces = BTreeMap<String, Namespace>;

/// Any object of the catalog; cheap to clone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Object {
    Commit(Arc<CommitObject>),
    Node(Arc<Node>),
    Namespaces(Arc<Namespaces>),
}

/// What a branch's ref holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct BranchRecord {
    pub commit: CommitId,
    #[serde(default)]
    pub protected: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requires: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarantine: Option<String>,
    pub created: Timestamp,
    /// The commit at which the branch came to be, under this name; none for old branches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<CommitId>,
}

/// What a tag's ref holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct TagRecord {
    pub commit: CommitId,
    pub created: Timestamp,
}

#[derive(Serialize, Deserialize)]
struct Versioned<T> {
    v: u8,
    value: T,
}

/// The bytes of an object or ref.
pub(crate) fn encode<T: Serialize>(what: &str, value: &T) -> Result<Bytes> {
    serde_json::to_vec(&Versioned { v: VERSION, value })
        .map(Bytes::from)
        .map_err(|error| corrupt(what, error))
}

/// An object or ref from its bytes.
pub(crate) fn decode<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T> {
    let read: Versioned<T> = serde_json::from_slice(bytes).map_err(|error| corrupt(what, error))?;
    if read.v != VERSION {
        return Err(corrupt(what, format!("it has version {}", read.v)));
    }
    Ok(read.value)
}

/// Something that cannot be read back, and why.
pub(crate) fn corrupt(what: &str, reason: impl std::fmt::Display) -> Error {
    Error::Corrupt { what: what.to_owned(), reason: reason.to_string() }
}
