//! Commits: compares all changed tables with the branch's current state, then moves the branch by
//! compare-and-swap.

use std::collections::BTreeMap;
use std::iter;
use std::sync::Arc;

use bytes::Bytes;
use headwater_model::{Commit, CommitId, Namespace, ObjectId, TableName, name, nearest};
use headwater_store::{RefChange, RefPrecondition, WriteBatch};

use crate::catalog::{ATTEMPTS_MAX, branch_ref};
use crate::codec::{BranchRecord, CommitObject, Namespaces};
use crate::object_cache::PendingObjects;
use crate::trie::{self, TrieChanges};
use crate::{Catalog, CommitRequest, Error, NamespaceChange, Result, TableChange};

/// The fields of a new commit except its tables and namespaces.
pub(crate) struct NewCommit {
    pub parents: Vec<CommitId>,
    pub author: String,
    pub message: String,
    pub properties: BTreeMap<String, String>,
    /// The root node of the table trie.
    pub tables: Option<ObjectId>,
    pub namespaces: ObjectId,
}

/// A compare-and-swap of a branch, with store changes to apply atomically.
pub(crate) struct BranchUpdate<'a> {
    pub branch: &'a str,
    pub before: Bytes,
    pub with: &'a WriteBatch,
}

impl Catalog {
    /// Commits the changes. Fails with `TableChanged` if a table differs from the request's `from`.
    /// Retries if the branch moved without changing the request's tables.
    pub async fn commit(&self, request: CommitRequest) -> Result<Commit> {
        let _lock = self.heads.lock(&request.branch).await;
        // The cached head may be stale. An error that may be caused by this (`is_final` is false)
        // leads to a retry with the current head.
        if let Some(cached) = self.heads.get(&request.branch) {
            match self.try_commit(&request, Some(cached)).await {
                Ok(Some(commit)) => return Ok(commit),
                Err(error) if error.is_final() => return Err(error),
                Ok(None) | Err(_) => {}
            }
        }
        for attempt in 0..ATTEMPTS_MAX {
            if let Some(commit) = self.try_commit(&request, None).await? {
                return Ok(commit);
            }
            back_off(attempt).await;
        }
        Err(Error::Contended { name: request.branch, attempts: ATTEMPTS_MAX })
    }

    async fn try_commit(
        &self,
        request: &CommitRequest,
        cached: Option<Bytes>,
    ) -> Result<Option<Commit>> {
        let (record, bytes) = match cached {
            Some(bytes) => (BranchRecord::decode(&request.branch, &bytes)?, bytes),
            None => self.branch_record(&request.branch).await?,
        };
        if request.direct && record.protected {
            return Err(Error::Protected { branch: request.branch.clone() });
        }
        let head = self.objects.commit(record.commit).await?;
        self.check_tables(request, &head).await?;
        let mut pending = PendingObjects::default();
        let changes = request.changes.iter();
        let changes: TrieChanges =
            changes.map(|change| (trie::key(&change.table), change.to.clone())).collect();
        let tables = trie::update(&self.objects, &mut pending, head.tables, None, changes).await?;
        let namespaces = self.change_namespaces(&mut pending, request, &head).await?;
        let new = NewCommit {
            parents: vec![record.commit],
            author: request.author.clone(),
            message: request.message.clone(),
            properties: request.properties.clone(),
            tables,
            namespaces,
        };
        let (id, object) = self.add_commit(&mut pending, new, &[head])?;
        let swap = BranchUpdate { branch: &request.branch, before: bytes, with: &request.with };
        let committed = self.swap(swap, BranchRecord { commit: id, ..record }, pending).await?;
        Ok(committed.then(|| object.to_commit(id)))
    }

    /// Applies the request's namespace changes, and returns the new namespaces object.
    async fn change_namespaces(
        &self,
        pending: &mut PendingObjects,
        request: &CommitRequest,
        head: &CommitObject,
    ) -> Result<ObjectId> {
        let before = self.objects.namespaces(head.namespaces).await?;
        if request.namespaces.is_empty() {
            check_namespaces(&before, &request.changes)?;
            return Ok(head.namespaces);
        }
        let mut namespaces = create_namespaces(Namespaces::clone(&before), request)?;
        check_namespaces(&namespaces, &request.changes)?;
        self.drop_namespaces(&mut namespaces, request, head).await?;
        pending.namespaces(Arc::new(namespaces))
    }

    /// Checks that the branch's entry of each table equals `from` in the request.
    async fn check_tables(&self, request: &CommitRequest, head: &CommitObject) -> Result<()> {
        for change in &request.changes {
            let key = trie::key(&change.table);
            let found = trie::get(&self.objects, head.tables, &key).await?;
            if found != change.from {
                let table = change.table.clone();
                let theirs = TableChange { table, from: change.from.clone(), to: found.clone() };
                return Err(Error::TableChanged {
                    change: theirs.word().to_owned(),
                    table: theirs.table,
                    branch: request.branch.clone(),
                    found: found.map(Box::new),
                });
            }
        }
        Ok(())
    }

    async fn drop_namespaces(
        &self,
        namespaces: &mut Namespaces,
        request: &CommitRequest,
        head: &CommitObject,
    ) -> Result<()> {
        for change in &request.namespaces {
            let NamespaceChange::Drop(name) = change else { continue };
            if namespaces.remove(name).is_none() {
                return Err(no_namespace(name, namespaces));
            }
            let tables = self.tables_left(name, request, head).await?;
            if tables > 0 {
                return Err(Error::NamespaceNotEmpty { name: name.clone(), tables });
            }
        }
        // Check for inner namespaces after all drops, so that outer and inner namespaces can be
        // dropped in any order.
        for change in &request.namespaces {
            let NamespaceChange::Drop(outer) = change else { continue };
            let inner = namespaces.keys().filter(|name| name::is_within(name, outer)).count();
            if inner > 0 {
                return Err(Error::NamespaceHasInner { name: outer.clone(), inner });
            }
        }
        Ok(())
    }

    /// Counts the tables of a namespace after the request's changes.
    async fn tables_left(
        &self,
        namespace: &str,
        request: &CommitRequest,
        head: &CommitObject,
    ) -> Result<u64> {
        let inside = |key: &str| trie::split(key).0 == namespace;
        let mut entries = trie::list(&self.objects, head.tables, inside).await?;
        for change in request.changes.iter().filter(|change| change.table.namespace == namespace) {
            let key = trie::key(&change.table);
            match &change.to {
                Some(entry) => entries.insert(key, entry.clone()),
                None => entries.remove(&key),
            };
        }
        Ok(entries.len() as u64)
    }

    /// Adds a commit object to `pending`, and returns its id and the object.
    pub(crate) fn add_commit(
        &self,
        pending: &mut PendingObjects,
        new: NewCommit,
        parents: &[Arc<CommitObject>],
    ) -> Result<(CommitId, Arc<CommitObject>)> {
        // A commit must not be older than its parents, even if the clock was set back.
        let latest = parents.iter().map(|parent| parent.time).max();
        let now = self.now();
        let generation = parents.iter().map(|parent| parent.generation + 1).max();
        let object = CommitObject {
            parents: new.parents,
            author: new.author,
            message: new.message,
            time: latest.map_or(now, |latest| latest.max(now)),
            properties: new.properties,
            generation: generation.unwrap_or_default(),
            tables: new.tables,
            namespaces: new.namespaces,
        };
        let object = Arc::new(object);
        Ok((pending.commit(Arc::clone(&object))?, object))
    }

    /// Updates a branch's record and stores the new objects. Returns false if the branch changed
    /// concurrently.
    pub(crate) async fn swap(
        &self,
        swap: BranchUpdate<'_>,
        record: BranchRecord,
        pending: PendingObjects,
    ) -> Result<bool> {
        let value = record.encode()?;
        let change = RefChange {
            name: branch_ref(swap.branch),
            expected: RefPrecondition::Value(swap.before),
            value: Some(value.clone()),
        };
        let mut batch =
            WriteBatch { objects: pending.bytes(), refs: vec![change], ..WriteBatch::default() };
        batch.merge(swap.with.clone());
        let applied = self.try_apply(batch, swap.branch, Some(value)).await?;
        if applied.is_some() {
            self.objects.cache_stored(pending);
        }
        Ok(applied.is_some())
    }
}

/// Waits for a random time before the next attempt. The back-off grows linearly up to attempt 20.
pub(crate) async fn back_off(attempt: usize) {
    let spread = u64::from(uuid::Uuid::new_v4().as_bytes()[0]);
    let micros = (attempt as u64 + 1).min(20) * spread * 4;
    tokio::time::sleep(std::time::Duration::from_micros(micros)).await;
}

fn create_namespaces(mut namespaces: Namespaces, request: &CommitRequest) -> Result<Namespaces> {
    for change in &request.namespaces {
        let namespace = match change {
            NamespaceChange::Create(namespace) => namespace,
            NamespaceChange::Update { name, updates, removals } => {
                if !namespaces.contains_key(name) {
                    return Err(no_namespace(name, &namespaces));
                }
                let Some(found) = namespaces.get_mut(name) else { continue };
                found.properties.retain(|key, _| !removals.contains(key));
                found.properties.extend(updates.clone());
                continue;
            }
            NamespaceChange::Drop(_) => continue,
        };
        let name = &namespace.name;
        name::check_namespace(name)?;
        if name::is_system(name) {
            return Err(Error::ReservedNamespace { name: name.clone() });
        }
        if namespaces.contains_key(name) {
            return Err(Error::NamespaceExists { name: name.clone() });
        }
        let outer = iter::successors(name::parent(name), |outer| name::parent(outer));
        for outer in outer {
            let (name, properties) = (outer.to_owned(), BTreeMap::new());
            let new = || Namespace { name, properties, owner: None };
            namespaces.entry(outer.to_owned()).or_insert_with(new);
        }
        namespaces.insert(name.clone(), namespace.clone());
    }
    Ok(namespaces)
}

/// Checks that the namespace of each table exists.
fn check_namespaces(namespaces: &Namespaces, changes: &[TableChange]) -> Result<()> {
    for TableChange { table: TableName { namespace, .. }, to, .. } in changes {
        if to.is_some() && name::is_system(namespace) {
            return Err(Error::ReservedNamespace { name: namespace.clone() });
        }
        if to.is_some() && !namespaces.contains_key(namespace) {
            return Err(no_namespace(namespace, namespaces));
        }
    }
    Ok(())
}

fn no_namespace(name: &str, namespaces: &Namespaces) -> Error {
    let near = nearest(name, namespaces.keys().map(String::as_str));
    Error::NamespaceNotFound { name: name.to_owned(), near }
}
