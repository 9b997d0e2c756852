//! The catalog's handle.

use std::collections::BTreeMap;
use std::sync::Arc;

use headwater_model::{
    Branch, Clock, Commit, CommitId, CreateRef, MergeReport, MergeRequest, Namespace, RefSpec,
    TableName, Tag,
};
use headwater_store::{Batch, Store};

use crate::{CommitRequest, Error, Result, TableChange, TableEntry};

/// The catalog of a lake. Clones share one cache.
#[derive(Clone)]
pub struct Catalog {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
}

/// What a ref stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The commit.
    pub commit: CommitId,
    /// The branch, where the ref is the head of one.
    pub branch: Option<String>,
}

/// What a new branch carries.
#[derive(Debug, Clone, Default)]
pub struct NewBranch {
    /// Takes no direct writes.
    pub protected: bool,
    /// The failed run whose branch it is.
    pub quarantine: Option<String>,
    /// Succeed where the name exists already, leaving it as it is.
    pub if_not_exists: bool,
}

/// The tables and namespaces of one commit.
#[derive(Clone)]
pub struct State {
    commit: CommitId,
}

fn later<T>() -> Result<T> {
    Err(Error::MainBranch { what: "used yet" })
}

#[expect(clippy::unused_async, reason = "the bodies follow")]
impl State {
    /// The commit.
    pub fn commit(&self) -> CommitId {
        self.commit
    }
    /// The table of exactly that name.
    pub async fn table(&self, _name: &TableName) -> Result<Option<TableEntry>> {
        later()
    }
    /// The tables of a namespace, or of all, by name.
    pub async fn tables(&self, _namespace: Option<&str>) -> Result<Vec<(TableName, TableEntry)>> {
        later()
    }
    /// The table of that name, as written or else without case.
    pub async fn find_table(
        &self,
        _namespace: &str,
        _name: &str,
    ) -> Result<Option<(TableName, TableEntry)>> {
        later()
    }
    /// The namespaces, by name.
    pub async fn namespaces(&self) -> Result<Vec<Namespace>> {
        later()
    }
    /// A namespace.
    pub async fn namespace(&self, _name: &str) -> Result<Option<Namespace>> {
        later()
    }
}

#[expect(clippy::unused_async, reason = "the bodies follow")]
impl Catalog {
    /// Opens the catalog in a store.
    pub async fn open(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Result<Catalog> {
        Ok(Catalog { store, clock })
    }
    /// The store.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }
    /// The clock.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }
    /// What a ref stands for.
    pub async fn resolve(&self, _spec: &RefSpec) -> Result<Resolved> {
        later()
    }
    /// The tables of a commit.
    pub async fn state(&self, _commit: CommitId) -> Result<State> {
        later()
    }
    /// Commits.
    pub async fn commit(&self, _request: CommitRequest) -> Result<Commit> {
        later()
    }
    /// A branch; `RefNotFound` where there is none.
    pub async fn branch(&self, _name: &str) -> Result<Branch> {
        later()
    }
    /// Branches by name.
    pub async fn branches(&self, _prefix: Option<&str>) -> Result<Vec<Branch>> {
        later()
    }
    /// Makes a branch.
    pub async fn create_branch(&self, _request: CreateRef) -> Result<Branch> {
        later()
    }
    /// Makes a branch with more said about it.
    pub async fn create_branch_with(
        &self,
        _name: &str,
        _from: &RefSpec,
        _options: NewBranch,
    ) -> Result<Branch> {
        later()
    }
    /// Deletes a branch.
    pub async fn delete_branch(&self, _name: &str) -> Result<()> {
        later()
    }
    /// Renames a branch.
    pub async fn rename_branch(&self, _from: &str, _to: &str) -> Result<Branch> {
        later()
    }
    /// Refuses direct writes, or takes them again.
    pub async fn protect_branch(&self, _name: &str, _protected: bool) -> Result<Branch> {
        later()
    }
    /// Marks a branch as a failed run's, or lifts the mark.
    pub async fn quarantine_branch(&self, _name: &str, _run: Option<&str>) -> Result<Branch> {
        later()
    }
    /// A tag; `RefNotFound` where there is none.
    pub async fn tag(&self, _name: &str) -> Result<Tag> {
        later()
    }
    /// Tags by name.
    pub async fn tags(&self, _prefix: Option<&str>) -> Result<Vec<Tag>> {
        later()
    }
    /// Makes a tag.
    pub async fn create_tag(&self, _request: CreateRef) -> Result<Tag> {
        later()
    }
    /// Deletes a tag.
    pub async fn delete_tag(&self, _name: &str) -> Result<()> {
        later()
    }
    /// Renames a tag.
    pub async fn rename_tag(&self, _from: &str, _to: &str) -> Result<Tag> {
        later()
    }
    /// The commits that lead to a ref, newest first.
    pub async fn log(
        &self,
        _spec: &RefSpec,
        _limit: usize,
        _after: Option<CommitId>,
    ) -> Result<Vec<Commit>> {
        later()
    }
    /// As `log`, from a commit.
    pub async fn history(
        &self,
        _head: CommitId,
        _limit: usize,
        _after: Option<CommitId>,
    ) -> Result<Vec<Commit>> {
        later()
    }
    /// A commit.
    pub async fn read_commit(&self, _id: CommitId) -> Result<Commit> {
        later()
    }
    /// The nearest commit both come from.
    pub async fn merge_base(&self, _a: CommitId, _b: CommitId) -> Result<Option<CommitId>> {
        later()
    }
    /// The tables that differ.
    pub async fn diff(&self, _from: CommitId, _to: CommitId) -> Result<Vec<TableChange>> {
        later()
    }
    /// Merges a ref into a branch.
    pub async fn merge(
        &self,
        target: &str,
        request: MergeRequest,
        author: &str,
    ) -> Result<MergeReport> {
        self.merge_with(target, request, author, BTreeMap::new(), Batch::default()).await
    }
    /// As `merge`, with properties for the commit and what stands or falls with it.
    pub async fn merge_with(
        &self,
        _target: &str,
        _request: MergeRequest,
        _author: &str,
        _properties: BTreeMap<String, String>,
        _with: Batch,
    ) -> Result<MergeReport> {
        later()
    }
}
