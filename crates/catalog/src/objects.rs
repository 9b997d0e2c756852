//! Reading objects through a cache: they never change, so that what was read once stays right.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use headwater_model::{CommitId, ObjectId};
use headwater_store::Store;
use moka::sync::Cache;

use crate::codec::{self, CommitObject, Namespaces, Node, Object};
use crate::{Error, Result};

/// Bytes of encoded objects that stay decoded.
const CACHE_BYTES: u64 = 64 << 20;

/// The objects of a store.
#[derive(Clone)]
pub(crate) struct Objects {
    store: Arc<dyn Store>,
    cache: Cache<ObjectId, Arc<Object>>,
}

/// Objects that a change makes, not yet in the store.
#[derive(Default)]
pub(crate) struct Pending {
    made: HashMap<ObjectId, (Bytes, Arc<Object>)>,
}

impl Pending {
    /// Adds an object; its id.
    pub fn add(&mut self, what: &str, object: Object) -> Result<ObjectId> {
        let bytes = codec::encode(what, &object)?;
        let id = ObjectId::of(&bytes);
        self.made.insert(id, (bytes, Arc::new(object)));
        Ok(id)
    }

    /// The bytes of every object, to be stored.
    pub fn into_bytes(self) -> Vec<Bytes> {
        self.made.into_values().map(|(bytes, _)| bytes).collect()
    }
}

impl Objects {
    pub fn new(store: Arc<dyn Store>) -> Self {
        let cache = Cache::builder()
            .max_capacity(CACHE_BYTES)
            .weigher(|_, object: &Arc<Object>| weight(object))
            .build();
        Objects { store, cache }
    }

    async fn object(&self, id: ObjectId) -> Result<Arc<Object>> {
        if let Some(found) = self.cache.get(&id) {
            return Ok(found);
        }
        let what = format!("object `{}`", id.short());
        let bytes = self.store.object(&id).await?;
        let bytes = bytes.ok_or_else(|| codec::corrupt(&what, "it is not there"))?;
        let object: Arc<Object> = Arc::new(codec::decode(&what, &bytes)?);
        self.cache.insert(id, Arc::clone(&object));
        Ok(object)
    }

    /// A commit; `RefNotFound` where the object is none.
    pub async fn commit(&self, id: CommitId) -> Result<Arc<CommitObject>> {
        self.find_commit(id).await?.ok_or_else(|| no_commit(&id.to_string()))
    }

    /// A commit, where there is one of that id.
    pub async fn find_commit(&self, id: CommitId) -> Result<Option<Arc<CommitObject>>> {
        if !self.cache.contains_key(&id) && self.store.object(&id).await?.is_none() {
            return Ok(None);
        }
        match &*self.object(id).await? {
            Object::Commit(commit) => Ok(Some(Arc::new(commit.clone()))),
            Object::Node(_) | Object::Namespaces(_) => Ok(None),
        }
    }

    /// A node of the trie, from those pending or from the store.
    pub async fn node(&self, id: ObjectId, pending: &Pending) -> Result<Node> {
        let object = match pending.made.get(&id) {
            Some((_, object)) => Arc::clone(object),
            None => self.object(id).await?,
        };
        match &*object {
            Object::Node(node) => Ok(node.clone()),
            _ => Err(codec::corrupt(&format!("object `{}`", id.short()), "it is no node")),
        }
    }

    /// The namespaces of a commit.
    pub async fn namespaces(&self, id: ObjectId) -> Result<Namespaces> {
        match &*self.object(id).await? {
            Object::Namespaces(namespaces) => Ok(namespaces.clone()),
            _ => Err(codec::corrupt(&format!("object `{}`", id.short()), "it is no namespaces")),
        }
    }
}

/// The error for a commit that is not there.
pub(crate) fn no_commit(name: &str) -> Error {
    Error::RefNotFound { what: "commit", name: name.to_owned(), near: None }
}

/// About what an object takes in memory.
fn weight(object: &Object) -> u32 {
    let bytes = match object {
        Object::Commit(_) => 512,
        Object::Node(Node::Leaf(tables)) => 64 + tables.len() * 320,
        Object::Node(Node::Inner(children)) => 64 + children.len() * 64,
        Object::Namespaces(namespaces) => 64 + namespaces.len() * 128,
    };
    u32::try_from(bytes).unwrap_or(u32::MAX)
}
