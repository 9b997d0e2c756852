//! Shared fixtures and helpers of the catalog tests.

use std::collections::BTreeMap;
use std::sync::Arc;

use headwater_catalog::{
    Catalog, CommitRequest, EntryKind, Error, MergeCommit, RequiredCheckStatus, TableChange,
    TableEntry,
};
use headwater_model::{
    Branch, Clock, Commit, CreateRef, FixedClock, MergeOutcome, MergeReport, MergeRequest,
    TableName,
};
use headwater_store::{MemoryStore, Store};

pub fn clock() -> Arc<dyn Clock> {
    Arc::new(FixedClock::at("2026-01-01T00:00:00Z".parse().expect("a moment")))
}

pub async fn open(store: Arc<dyn Store>) -> Catalog {
    Catalog::open(store, clock()).await.expect("the catalog opens")
}

pub async fn catalog() -> Catalog {
    open(Arc::new(MemoryStore::new())).await
}

pub fn name(table: &str) -> TableName {
    table.parse().expect("a name")
}

/// Returns the entry of a version of a table, with a unique table id.
pub fn entry(table: &str, version: u32) -> TableEntry {
    TableEntry {
        kind: EntryKind::Table,
        id: table.into(),
        metadata_location: format!("v{version}"),
        snapshot: Some(i64::from(version)),
        operation: "appended".into(),
        owner: None,
    }
}

/// Returns a request that changes tables from one version to another.
pub fn request(branch: &str, tables: &[(&str, Option<u32>, Option<u32>)]) -> CommitRequest {
    let changes = tables.iter().map(|(table, from, to)| TableChange {
        table: name(table),
        from: from.map(|version| entry(table, version)),
        to: to.map(|version| entry(table, version)),
    });
    CommitRequest {
        branch: branch.into(),
        changes: changes.collect(),
        author: "eva".into(),
        message: format!("{tables:?}"),
        ..CommitRequest::default()
    }
}

/// Sets tables on a branch to versions; version 0 drops the table.
pub async fn set(catalog: &Catalog, branch: &str, tables: &[(&str, u32)]) -> Result<Commit, Error> {
    let head = catalog.resolve(&branch.parse().expect("a ref")).await?.commit;
    let state = catalog.state(head).await?;
    let mut changes = Vec::new();
    for (table, version) in tables {
        let table = name(table);
        let from = state.table(&table).await?;
        let to = (*version > 0).then(|| entry(&table.name, *version));
        changes.push(TableChange { table, from, to });
    }
    let message = format!("{tables:?}");
    catalog.commit(CommitRequest { changes, message, direct: true, ..request(branch, &[]) }).await
}

/// Creates a branch at the head of `main`.
pub async fn fork(catalog: &Catalog, name: &str) -> Branch {
    let request = CreateRef { name: name.into(), from: None, if_not_exists: false };
    catalog.create_branch(request).await.expect("a branch")
}

pub async fn merge(catalog: &Catalog, source: &str, target: &str) -> Result<MergeReport, Error> {
    let request = MergeRequest::new(source.parse().expect("a ref"));
    merge_with(catalog, target, request, BTreeMap::new()).await
}

/// Merges like the lake, but resolves no contested table.
pub async fn merge_with(
    catalog: &Catalog,
    target: &str,
    request: MergeRequest,
    properties: BTreeMap<String, String>,
) -> Result<MergeReport, Error> {
    let message = format!("Merge {} into {target}", request.source);
    let commit =
        MergeCommit { author: "eva".into(), message, properties, ..MergeCommit::default() };
    loop {
        let plan = catalog
            .merges()
            .plan(target, &request.source, RequiredCheckStatus::required_unless(request.unchecked))
            .await?;
        if plan.is_up_to_date() {
            return Ok(plan.report(MergeOutcome::UpToDate, plan.head));
        }
        if !plan.contested.is_empty() {
            let mut report = plan.report(MergeOutcome::Conflict, plan.head);
            for contested in &plan.contested {
                report.conflicts.push(catalog.merges().conflict(&plan, contested).await?);
            }
            return Ok(report);
        }
        let forward = plan.is_forward() && commit.properties.is_empty();
        let outcome = if forward { MergeOutcome::FastForward } else { MergeOutcome::Merged };
        let made = if request.dry_run {
            Some(plan.head)
        } else {
            catalog.merges().apply(&plan, plan.taken.clone(), &commit).await?
        };
        if let Some(head) = made {
            let tables = plan.taken.iter().map(|change| change.table.clone()).collect();
            return Ok(MergeReport { tables, ..plan.report(outcome, head) });
        }
        tokio::task::yield_now().await;
    }
}

/// Returns the tables at a ref with their metadata locations.
pub async fn tables(catalog: &Catalog, spec: &str) -> Vec<(String, String)> {
    let head = catalog.resolve(&spec.parse().expect("a ref")).await.expect("it resolves").commit;
    let state = catalog.state(head).await.expect("a state");
    let tables = state.tables(None).await.expect("tables");
    tables.into_iter().map(|(name, entry)| (name.to_string(), entry.metadata_location)).collect()
}

pub fn pairs(tables: &[(&str, &str)]) -> Vec<(String, String)> {
    tables.iter().map(|(name, at)| ((*name).to_owned(), (*at).to_owned())).collect()
}

/// A store wrapper that counts calls and injects faults.
#[derive(Debug)]
pub struct Watched {
    inner: Arc<dyn Store>,
    /// The number of calls.
    calls: std::sync::atomic::AtomicUsize,
    /// The bytes of objects and refs in write calls.
    bytes: std::sync::atomic::AtomicUsize,
    /// The fault to inject.
    fault: InjectedFault,
}

/// A fault to inject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InjectedFault {
    /// No fault.
    Nothing,
    /// The call with this number, counted from 0, fails before it is executed.
    Before(usize),
    /// The call with this number fails after it was executed.
    After(usize),
    /// The store returns damaged objects.
    Objects,
}

impl Watched {
    pub fn new(inner: Arc<dyn Store>, fault: InjectedFault) -> Arc<Self> {
        let (calls, bytes) = Default::default();
        Arc::new(Watched { inner, calls, bytes, fault })
    }

    /// Returns and resets the number of calls and of written bytes.
    pub fn counts(&self) -> (usize, usize) {
        use std::sync::atomic::Ordering::SeqCst;
        (self.calls.swap(0, SeqCst), self.bytes.swap(0, SeqCst))
    }

    async fn pass<T>(
        &self,
        call: impl Future<Output = headwater_store::Result<T>>,
    ) -> headwater_store::Result<T> {
        let number = self.calls.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let failure = || headwater_store::Error::Storage {
            what: "go on".into(),
            source: Arc::new(std::io::Error::other("the test says so")),
        };
        if self.fault == InjectedFault::Before(number) {
            return Err(failure());
        }
        let answer = call.await;
        if self.fault == InjectedFault::After(number) { Err(failure()) } else { answer }
    }

    fn object_back(&self, bytes: bytes::Bytes) -> bytes::Bytes {
        if self.fault == InjectedFault::Objects {
            let text = String::from_utf8_lossy(&bytes).replace("eva", "eve");
            return text.into_bytes().into();
        }
        bytes
    }
}

#[async_trait::async_trait]
impl Store for Watched {
    async fn object(
        &self,
        id: &headwater_model::ObjectId,
    ) -> headwater_store::Result<Option<bytes::Bytes>> {
        let found = self.pass(self.inner.object(id)).await?;
        Ok(found.map(|bytes| self.object_back(bytes)))
    }

    async fn objects(
        &self,
        ids: &[headwater_model::ObjectId],
    ) -> headwater_store::Result<Vec<Option<bytes::Bytes>>> {
        let found = self.pass(self.inner.objects(ids)).await?;
        Ok(found.into_iter().map(|bytes| bytes.map(|bytes| self.object_back(bytes))).collect())
    }

    async fn objects_with_prefix(
        &self,
        digits: &str,
        limit: usize,
    ) -> headwater_store::Result<Vec<headwater_model::ObjectId>> {
        self.pass(self.inner.objects_with_prefix(digits, limit)).await
    }

    async fn reference(&self, name: &str) -> headwater_store::Result<Option<bytes::Bytes>> {
        self.pass(self.inner.reference(name)).await
    }

    async fn references(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> headwater_store::Result<Vec<(String, bytes::Bytes)>> {
        self.pass(self.inner.references(prefix, after, limit)).await
    }

    async fn latest(
        &self,
        journal: &str,
        key: &str,
    ) -> headwater_store::Result<Option<headwater_store::JournalEntry>> {
        self.pass(self.inner.latest(journal, key)).await
    }

    async fn scan(
        &self,
        journal: &str,
        range: &headwater_store::KeyRange,
    ) -> headwater_store::Result<Vec<headwater_store::JournalEntry>> {
        self.pass(self.inner.scan(journal, range)).await
    }

    async fn read(
        &self,
        journal: &str,
        after: u64,
        limit: usize,
    ) -> headwater_store::Result<Vec<headwater_store::JournalEntry>> {
        self.pass(self.inner.read(journal, after, limit)).await
    }

    async fn history(
        &self,
        journal: &str,
        key_prefix: &str,
        after: u64,
        limit: usize,
    ) -> headwater_store::Result<Vec<headwater_store::JournalEntry>> {
        self.pass(self.inner.history(journal, key_prefix, after, limit)).await
    }

    async fn apply(
        &self,
        batch: headwater_store::WriteBatch,
    ) -> headwater_store::Result<headwater_store::BatchResult> {
        let objects = batch.objects.iter().map(bytes::Bytes::len);
        let values = batch.refs.iter().filter_map(|change| change.value.as_ref());
        let bytes = objects.chain(values.map(bytes::Bytes::len)).sum();
        self.bytes.fetch_add(bytes, std::sync::atomic::Ordering::SeqCst);
        self.pass(self.inner.apply(batch)).await
    }

    async fn trim(
        &self,
        journal: &str,
        range: &headwater_store::KeyRange,
    ) -> headwater_store::Result<u64> {
        self.pass(self.inner.trim(journal, range)).await
    }
}
