//! Reading objects through a cache: they never change, so that what was read once stays right.
//!
//! What is read is checked against its hash, so that a damaged database is told and never believed.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use headwater_model::{CommitId, ObjectId};
use headwater_store::Store;
use moka::sync::Cache;

use crate::codec::{self, CommitObject, Namespaces, Node, Object};
use crate::{Error, Result};

/// About how many bytes of memory the decoded objects may take.
const CACHE_BYTES: u64 = 64 << 20;

/// The objects of a store.
#[derive(Clone)]
pub(crate) struct Objects {
    store: Arc<dyn Store>,
    cache: Cache<ObjectId, Object>,
}

/// Objects that a change makes, not yet in the store.
#[derive(Default)]
pub(crate) struct Pending {
    made: HashMap<ObjectId, (Bytes, Object)>,
}

impl Pending {
    /// Adds a commit; its id.
    pub fn commit(&mut self, commit: Arc<CommitObject>) -> Result<CommitId> {
        self.add("a commit", Object::Commit(commit))
    }

    /// Adds a node of the trie; its id.
    pub fn node(&mut self, node: Node) -> Result<ObjectId> {
        self.add("a node", Object::Node(Arc::new(node)))
    }

    /// Adds a commit's namespaces; their id.
    pub fn namespaces(&mut self, namespaces: Arc<Namespaces>) -> Result<ObjectId> {
        self.add("namespaces", Object::Namespaces(namespaces))
    }

    fn add(&mut self, what: &str, object: Object) -> Result<ObjectId> {
        let bytes = codec::encode(what, &object)?;
        let id = ObjectId::of(&bytes);
        self.made.insert(id, (bytes, object));
        Ok(id)
    }

    /// The bytes of every object, to be stored.
    pub fn bytes(&self) -> Vec<Bytes> {
        self.made.values().map(|(bytes, _)| bytes.clone()).collect()
    }
}

impl Objects {
    pub fn new(store: Arc<dyn Store>) -> Self {
        let cache = Cache::builder()
            .max_capacity(CACHE_BYTES)
            .weigher(|_, object: &Object| weight(object))
            .build();
        Objects { store, cache }
    }

    /// Keeps what is in the store now, decoded as it is.
    pub fn keep(&self, stored: Pending) {
        for (id, (_, object)) in stored.made {
            self.cache.insert(id, object);
        }
    }

    async fn find(&self, id: ObjectId) -> Result<Option<Object>> {
        if let Some(found) = self.cache.get(&id) {
            return Ok(Some(found));
        }
        match self.store.object(&id).await? {
            Some(bytes) => self.read(id, &bytes).map(Some),
            None => Ok(None),
        }
    }

    fn read(&self, id: ObjectId, bytes: &Bytes) -> Result<Object> {
        let what = format!("object `{}`", id.short());
        if ObjectId::of(bytes) != id {
            return Err(codec::corrupt(&what, "it is not what was written"));
        }
        let object: Object = codec::decode(&what, bytes)?;
        self.cache.insert(id, object.clone());
        Ok(object)
    }

    /// A commit; `RefNotFound` where the object is none.
    pub async fn commit(&self, id: CommitId) -> Result<Arc<CommitObject>> {
        self.find_commit(id).await?.ok_or_else(|| no_commit(&id.to_string()))
    }

    /// A commit, where there is one of that id.
    pub async fn find_commit(&self, id: CommitId) -> Result<Option<Arc<CommitObject>>> {
        match self.find(id).await? {
            Some(Object::Commit(commit)) => Ok(Some(commit)),
            _ => Ok(None),
        }
    }

    /// A node of the trie, from those pending or from the store.
    pub async fn node(&self, id: ObjectId, pending: &Pending) -> Result<Arc<Node>> {
        let object = match pending.made.get(&id) {
            Some((_, object)) => Some(object.clone()),
            None => self.find(id).await?,
        };
        match object {
            Some(Object::Node(node)) => Ok(node),
            _ => Err(not_there(id)),
        }
    }

    /// Several nodes, those that are not in memory in one read.
    pub async fn nodes(&self, ids: &[ObjectId], pending: &Pending) -> Result<Vec<Arc<Node>>> {
        let known = |id: &ObjectId| match pending.made.get(id) {
            Some((_, object)) => Some(object.clone()),
            None => self.cache.get(id),
        };
        let mut found: Vec<Option<Object>> = ids.iter().map(known).collect();
        let missing: Vec<usize> = (0..ids.len()).filter(|at| found[*at].is_none()).collect();
        if !missing.is_empty() {
            let wanted: Vec<ObjectId> = missing.iter().map(|at| ids[*at]).collect();
            for (at, bytes) in missing.into_iter().zip(self.store.objects(&wanted).await?) {
                found[at] = bytes.map(|bytes| self.read(ids[at], &bytes)).transpose()?;
            }
        }
        let nodes = found.into_iter().zip(ids).map(|(object, id)| match object {
            Some(Object::Node(node)) => Ok(node),
            _ => Err(not_there(*id)),
        });
        nodes.collect()
    }

    /// The namespaces of a commit.
    pub async fn namespaces(&self, id: ObjectId) -> Result<Arc<Namespaces>> {
        match self.find(id).await? {
            Some(Object::Namespaces(namespaces)) => Ok(namespaces),
            _ => Err(not_there(id)),
        }
    }
}

/// The error for a commit that is not there.
pub(crate) fn no_commit(name: &str) -> Error {
    Error::RefNotFound { what: "commit", name: name.to_owned(), near: None }
}

/// The error for a part of a commit that should be there.
fn not_there(id: ObjectId) -> Error {
    codec::corrupt(&format!("object `{}`", id.short()), "a commit needs it, and it is not there")
}

/// About what an object takes in memory.
fn weight(object: &Object) -> u32 {
    // An entry of a map takes room beside its text.
    let texts = |texts: &BTreeMap<String, String>| -> usize {
        texts.iter().map(|(key, value)| 64 + key.len() + value.len()).sum()
    };
    let bytes = match object {
        Object::Commit(commit) => {
            512 + commit.author.len() + commit.message.len() + texts(&commit.properties)
        }
        Object::Node(node) => match &**node {
            Node::Leaf(tables) => 64 + tables.len() * 400,
            Node::Inner(children) => 64 + children.len() * 64,
        },
        Object::Namespaces(namespaces) => {
            let each =
                namespaces.iter().map(|(name, one)| 160 + name.len() + texts(&one.properties));
            64 + each.sum::<usize>()
        }
    };
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use headwater_model::{CommitId, Namespace, Timestamp};

    use super::*;

    #[test]
    fn what_is_long_weighs_as_much() {
        let id: CommitId = "0".repeat(64).parse().unwrap();
        let commit = |message: &str, property: &str| {
            Object::Commit(Arc::new(CommitObject {
                parents: Vec::new(),
                author: "eva".to_owned(),
                message: message.to_owned(),
                time: Timestamp::UNIX_EPOCH,
                properties: [("key".to_owned(), property.to_owned())].into(),
                generation: 1,
                tables: None,
                namespaces: id,
            }))
        };
        let long = "x".repeat(1 << 20);
        assert!(weight(&commit("short", "")) < 1024);
        assert!(weight(&commit(&long, "")) > 1 << 20);
        assert!(weight(&commit("", &long)) > 1 << 20);
        let properties = [("key".to_owned(), long)].into();
        let one = Namespace { name: "n".to_owned(), properties };
        let all = Object::Namespaces(Arc::new([("n".to_owned(), one)].into()));
        assert!(weight(&all) > 1 << 20);
    }
}
