//! The catalog's handle, and the creation of a lake.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use headwater_model::{
    Clock, Commit, CommitId, DEFAULT_NAMESPACE, MAIN_BRANCH, Namespace, ObjectId, Timestamp,
};
use headwater_store::{RefChange, RefPrecondition, Store, WriteBatch};

use crate::codec::{self, BranchRecord, CommitObject};
use crate::head_cache::HeadCache;
use crate::object_cache::{ObjectCache, PendingObjects};
use crate::{CommitContents, DeletedRefs, Error, Merges, Result, Tags};

/// The maximum number of attempts of a change that conflicts with concurrent changes of the same
/// ref.
pub(crate) const ATTEMPTS_MAX: usize = 200;

/// The catalog of a lake. Clones share their caches.
#[derive(Clone)]
pub struct Catalog {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) objects: ObjectCache,
    pub(crate) heads: HeadCache,
}

impl std::fmt::Debug for Catalog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Catalog").field("store", &self.store).finish_non_exhaustive()
    }
}

impl Catalog {
    /// Opens the catalog in a store. A new catalog gets the branch `main` and the namespace
    /// `public`.
    pub async fn open(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Result<Catalog> {
        let objects = ObjectCache::new(Arc::clone(&store));
        let catalog = Catalog { store, clock, objects, heads: HeadCache::new() };
        if catalog.store.reference(&branch_ref(MAIN_BRANCH)).await?.is_none() {
            catalog.initialize().await?;
        }
        Ok(catalog)
    }

    async fn initialize(&self) -> Result<()> {
        let mut pending = PendingObjects::default();
        let public = Namespace {
            name: DEFAULT_NAMESPACE.to_owned(),
            properties: BTreeMap::new(),
            owner: None,
        };
        let namespaces = BTreeMap::from([(public.name.clone(), public)]);
        let now = self.now();
        let first = CommitObject {
            parents: Vec::new(),
            author: "headwater".to_owned(),
            message: "Create the lake".to_owned(),
            time: now,
            properties: BTreeMap::new(),
            generation: 0,
            tables: None,
            namespaces: pending.namespaces(Arc::new(namespaces))?,
        };
        let commit = pending.commit(Arc::new(first))?;
        let (requires, quarantine) = (None, None);
        let (protected, start) = (false, Some(commit));
        let record = BranchRecord { commit, protected, requires, quarantine, created: now, start };
        let change = RefChange {
            name: branch_ref(MAIN_BRANCH),
            expected: RefPrecondition::Absent,
            value: Some(codec::encode("a branch", &record)?),
        };
        let batch =
            WriteBatch { objects: pending.bytes(), refs: vec![change], ..WriteBatch::default() };
        match self.store.apply(batch).await {
            // A conflict means that another process has created the lake concurrently.
            Ok(_) | Err(headwater_store::Error::Conflict { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns the operations on tags.
    pub fn tags(&self) -> Tags<'_> {
        Tags { catalog: self }
    }

    /// Returns the queries about recently deleted refs.
    pub fn deleted_refs(&self) -> DeletedRefs<'_> {
        DeletedRefs { catalog: self }
    }

    /// Returns the operations that merge into branches.
    pub fn merges(&self) -> Merges<'_> {
        Merges { catalog: self }
    }

    /// Returns the store.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Returns the clock.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Returns the tables and namespaces at a commit.
    pub async fn state(&self, commit: CommitId) -> Result<CommitContents> {
        let object = self.objects.commit(commit).await?;
        Ok(CommitContents::new(commit, object, self.objects.clone()))
    }

    /// Reads a commit.
    pub async fn read_commit(&self, id: CommitId) -> Result<Commit> {
        Ok(self.objects.commit(id).await?.to_commit(id))
    }

    /// Lists the tables that differ between two commits, by name. Equal subtries are not read.
    pub async fn diff(&self, from: CommitId, to: CommitId) -> Result<Vec<crate::TableChange>> {
        let (from, to) = (self.objects.commit(from).await?, self.objects.commit(to).await?);
        self.diff_roots(from.tables, to.tables).await
    }

    pub(crate) async fn diff_roots(
        &self,
        from: Option<ObjectId>,
        to: Option<ObjectId>,
    ) -> Result<Vec<crate::TableChange>> {
        let differences = crate::trie::diff(&self.objects, from, to).await?;
        let changes = differences.into_iter().map(|(key, from, to)| {
            Ok(crate::TableChange { table: crate::trie::table_of(&key)?, from, to })
        });
        changes.collect()
    }

    /// Applies a batch that changes the ref of a branch to `value`. Returns `None` if the branch
    /// changed concurrently.
    pub(crate) async fn try_apply(
        &self,
        batch: WriteBatch,
        branch: &str,
        value: Option<Bytes>,
    ) -> Result<Option<()>> {
        // Remove the branch from the cache first: if the store returns an error, it is unknown
        // whether the ref has the old or the new value.
        self.heads.set(branch, None);
        match self.store.apply(batch).await {
            Ok(_) => {
                self.heads.set(branch, value);
                Ok(Some(()))
            }
            Err(headwater_store::Error::Conflict { name }) if name == branch_ref(branch) => {
                Ok(None)
            }
            Err(headwater_store::Error::NotUnique { scope, key })
                if scope == crate::EVENT_SCOPE =>
            {
                Err(Error::EventAlreadyCommitted { event: key })
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Returns the ref of a branch in the store.
pub(crate) fn branch_ref(name: &str) -> String {
    format!("branch/{name}")
}

/// Returns the ref of a tag in the store.
pub(crate) fn tag_ref(name: &str) -> String {
    format!("tag/{name}")
}
