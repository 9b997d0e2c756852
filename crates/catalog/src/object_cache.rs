//! Objects of the catalog, read through a cache. Objects are immutable, so the cache needs no
//! invalidation.
//!
//! The hash of every object that is read from the store is verified, to detect a damaged database.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use headwater_model::{CommitId, ObjectId};
use headwater_store::Store;
use moka::sync::Cache;

use crate::codec::{self, CatalogObject, CommitObject, Namespaces, TrieNode};
use crate::{Error, Result};

/// The approximate memory limit of the cache of decoded objects, in bytes.
const CACHE_BYTES: u64 = 64 << 20;

/// The objects of a store, read through a cache.
#[derive(Clone)]
pub(crate) struct ObjectCache {
    store: Arc<dyn Store>,
    cache: Cache<ObjectId, CatalogObject>,
}

/// New objects that are not yet stored.
#[derive(Default)]
pub(crate) struct PendingObjects {
    objects: HashMap<ObjectId, (Bytes, CatalogObject)>,
}

impl PendingObjects {
    /// Adds a commit and returns its id.
    pub fn commit(&mut self, commit: Arc<CommitObject>) -> Result<CommitId> {
        self.add("a commit", CatalogObject::Commit(commit))
    }

    /// Adds a trie node and returns its id.
    pub fn node(&mut self, node: TrieNode) -> Result<ObjectId> {
        self.add("a node", CatalogObject::Node(Arc::new(node)))
    }

    /// Adds a namespaces object and returns its id.
    pub fn namespaces(&mut self, namespaces: Arc<Namespaces>) -> Result<ObjectId> {
        self.add("namespaces", CatalogObject::Namespaces(namespaces))
    }

    fn add(&mut self, what: &str, object: CatalogObject) -> Result<ObjectId> {
        let bytes = codec::encode(what, &object)?;
        let id = ObjectId::of(&bytes);
        self.objects.insert(id, (bytes, object));
        Ok(id)
    }

    /// Returns the encoded objects.
    pub fn bytes(&self) -> Vec<Bytes> {
        self.objects.values().map(|(bytes, _)| bytes.clone()).collect()
    }
}

impl ObjectCache {
    pub fn new(store: Arc<dyn Store>) -> Self {
        let cache = Cache::builder()
            .max_capacity(CACHE_BYTES)
            .weigher(|_, object: &CatalogObject| weight(object))
            .build();
        ObjectCache { store, cache }
    }

    /// Adds objects to the cache after they were stored.
    pub fn cache_stored(&self, stored: PendingObjects) {
        for (id, (_, object)) in stored.objects {
            self.cache.insert(id, object);
        }
    }

    async fn find(&self, id: ObjectId) -> Result<Option<CatalogObject>> {
        if let Some(found) = self.cache.get(&id) {
            return Ok(Some(found));
        }
        match self.store.object(&id).await? {
            Some(bytes) => self.read(id, &bytes).map(Some),
            None => Ok(None),
        }
    }

    fn read(&self, id: ObjectId, bytes: &Bytes) -> Result<CatalogObject> {
        let what = format!("object `{}`", id.short());
        if ObjectId::of(bytes) != id {
            return Err(codec::corrupt(&what, "the content does not match the hash"));
        }
        let object: CatalogObject = codec::decode(&what, bytes)?;
        self.cache.insert(id, object.clone());
        Ok(object)
    }

    /// Returns a commit, or `RefNotFound` if the object is not a commit.
    pub async fn commit(&self, id: CommitId) -> Result<Arc<CommitObject>> {
        self.find_commit(id).await?.ok_or_else(|| no_commit(&id.to_string()))
    }

    /// Returns the commit with this id, if there is one.
    pub async fn find_commit(&self, id: CommitId) -> Result<Option<Arc<CommitObject>>> {
        match self.find(id).await? {
            Some(CatalogObject::Commit(commit)) => Ok(Some(commit)),
            _ => Ok(None),
        }
    }

    /// Returns a trie node from `pending` or from the store.
    pub async fn node(&self, id: ObjectId, pending: &PendingObjects) -> Result<Arc<TrieNode>> {
        let object = match pending.objects.get(&id) {
            Some((_, object)) => Some(object.clone()),
            None => self.find(id).await?,
        };
        match object {
            Some(CatalogObject::Node(node)) => Ok(node),
            _ => Err(missing_object(id)),
        }
    }

    /// Returns several trie nodes. Nodes that are not in memory are read with one call to the
    /// store.
    pub async fn nodes(
        &self,
        ids: &[ObjectId],
        pending: &PendingObjects,
    ) -> Result<Vec<Arc<TrieNode>>> {
        let known = |id: &ObjectId| match pending.objects.get(id) {
            Some((_, object)) => Some(object.clone()),
            None => self.cache.get(id),
        };
        let mut found: Vec<Option<CatalogObject>> = ids.iter().map(known).collect();
        let missing: Vec<usize> = (0..ids.len()).filter(|at| found[*at].is_none()).collect();
        if !missing.is_empty() {
            let wanted: Vec<ObjectId> = missing.iter().map(|at| ids[*at]).collect();
            for (at, bytes) in missing.into_iter().zip(self.store.objects(&wanted).await?) {
                found[at] = bytes.map(|bytes| self.read(ids[at], &bytes)).transpose()?;
            }
        }
        let nodes = found.into_iter().zip(ids).map(|(object, id)| match object {
            Some(CatalogObject::Node(node)) => Ok(node),
            _ => Err(missing_object(*id)),
        });
        nodes.collect()
    }

    /// Returns a namespaces object.
    pub async fn namespaces(&self, id: ObjectId) -> Result<Arc<Namespaces>> {
        match self.find(id).await? {
            Some(CatalogObject::Namespaces(namespaces)) => Ok(namespaces),
            _ => Err(missing_object(id)),
        }
    }
}

/// Returns the error for a missing commit.
pub(crate) fn no_commit(name: &str) -> Error {
    Error::RefNotFound { what: "commit", name: name.to_owned(), near: None }
}

/// Returns the error for a missing object that a commit references.
fn missing_object(id: ObjectId) -> Error {
    codec::corrupt(
        &format!("object `{}`", id.short()),
        "a commit refers to the object, but the object does not exist",
    )
}

/// Estimates the memory of an object in bytes.
fn weight(object: &CatalogObject) -> u32 {
    // The constants are estimates of the memory of a map entry without its texts.
    let texts = |texts: &BTreeMap<String, String>| -> usize {
        texts.iter().map(|(key, value)| 64 + key.len() + value.len()).sum()
    };
    let bytes = match object {
        CatalogObject::Commit(commit) => {
            512 + commit.author.len() + commit.message.len() + texts(&commit.properties)
        }
        CatalogObject::Node(node) => match &**node {
            TrieNode::Leaf(tables) => 64 + tables.len() * 400,
            TrieNode::Inner(children) => 64 + children.len() * 64,
        },
        CatalogObject::Namespaces(namespaces) => {
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
    fn cache_weights_include_long_texts() {
        let id: CommitId = "0".repeat(64).parse().unwrap();
        let commit = |message: &str, property: &str| {
            CatalogObject::Commit(Arc::new(CommitObject {
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
        let one = Namespace { name: "n".to_owned(), properties, owner: None };
        let all = CatalogObject::Namespaces(Arc::new([("n".to_owned(), one)].into()));
        assert!(weight(&all) > 1 << 20);
    }
}
