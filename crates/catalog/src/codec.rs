//! Encoding of commits, trie nodes, namespaces and refs: compact JSON with a version.
//!
//! The id of an object is the hash of its encoding, so the encoding must be deterministic: all maps
//! are ordered.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use headwater_model::{Commit, CommitId, Namespace, ObjectId, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{Error, Result, TableEntry};

const VERSION: u8 = 1;

/// The stored form of a commit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct CommitObject {
    pub parents: Vec<CommitId>,
    pub author: String,
    pub message: String,
    pub time: Timestamp,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub properties: BTreeMap<String, String>,
    /// The length of the longest path from this commit to the lake's first commit. It is greater
    /// than the generation of each parent.
    pub generation: u64,
    /// The root of the trie of tables; `None` without tables.
    pub tables: Option<ObjectId>,
    /// The object with the namespaces.
    pub namespaces: ObjectId,
}

impl CommitObject {
    /// Converts to the public model.
    pub fn to_commit(&self, id: CommitId) -> Commit {
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

/// A node of the trie of tables.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TrieNode {
    /// Table entries by `namespace.name`.
    Leaf(BTreeMap<String, TableEntry>),
    /// Children by the next hexadecimal digit of the hash of the name.
    Inner(BTreeMap<u8, TrieChild>),
}

/// A child of an inner node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TrieChild {
    /// The child's object id.
    pub id: ObjectId,
    /// The number of tables below the child.
    pub tables: u64,
}

/// The namespaces of a commit, by name.
pub(crate) type Namespaces = BTreeMap<String, Namespace>;

/// An object of the catalog. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CatalogObject {
    Commit(Arc<CommitObject>),
    Node(Arc<TrieNode>),
    Namespaces(Arc<Namespaces>),
}

/// The value of a branch's ref.
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
    /// The commit at which the branch was created or renamed; `None` for branches created by older
    /// versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<CommitId>,
}

/// The value of a tag's ref.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct TagRecord {
    pub commit: CommitId,
    pub created: Timestamp,
}

/// An encoded object or ref value, with the version of the encoding.
#[derive(Serialize, Deserialize)]
struct VersionedRecord<T> {
    v: u8,
    value: T,
}

/// Encodes an object or ref value.
pub(crate) fn encode<T: Serialize>(what: &str, value: &T) -> Result<Bytes> {
    serde_json::to_vec(&VersionedRecord { v: VERSION, value })
        .map(Bytes::from)
        .map_err(|error| corrupt(what, error))
}

/// Decodes an object or ref value.
pub(crate) fn decode<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T> {
    let read: VersionedRecord<T> =
        serde_json::from_slice(bytes).map_err(|error| corrupt(what, error))?;
    if read.v != VERSION {
        return Err(corrupt(what, format!("unsupported version {}", read.v)));
    }
    Ok(read.value)
}

/// Returns the error for a value that cannot be decoded.
pub(crate) fn corrupt(what: &str, reason: impl std::fmt::Display) -> Error {
    Error::Corrupt { what: what.to_owned(), reason: reason.to_string() }
}
