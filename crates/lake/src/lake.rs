//! The lake's handle: opens a lake and holds its components.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, OnceLock, Weak};

use headwater_catalog::Catalog;
use headwater_metrics::CommitMetrics;
use headwater_model::{Clock, PROPERTY_JOB, RefSpec, SystemClock, TableName};
use headwater_store::{SqliteStore, Store};
use headwater_tables::{Tables, TablesOptions};
use headwater_telemetry::{SpanTimer, Telemetry, current};
use object_store::ObjectStore;
use parking_lot::Mutex;

use crate::error::{Error, Result};
use crate::maintenance::{ChangedTables, Maintenance, PinnedCommits};
use crate::transaction::{AppendQueues, CommittedRestRequests};
use crate::warehouse::{self, WarehouseOptions};
use crate::{CommitView, LakeTelemetry, Transaction};

/// The components of a lake.
pub struct LakeOptions {
    /// The store of refs, commits and journals.
    pub store: Arc<dyn Store>,
    /// The object store of table files.
    pub object_store: Arc<dyn ObjectStore>,
    /// The options for table files.
    pub tables: TablesOptions,
    /// The clock.
    pub clock: Arc<dyn Clock>,
}

/// A lake. Clones share its components.
#[derive(Clone)]
pub struct Lake(Arc<LakeInner>);

struct LakeInner {
    catalog: Catalog,
    tables: Tables,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    commits: Mutex<HashMap<CommitLockKey, Weak<tokio::sync::Mutex<()>>>>,
    pins: PinnedCommits,
    merging: Arc<tokio::sync::RwLock<()>>,
    changed: ChangedTables,
    groups: AppendQueues,
    sweeping: tokio::sync::Mutex<()>,
    metrics: CommitMetrics,
    telemetry: OnceLock<Telemetry>,
}

/// The key of a commit lock: the branch and the table.
type CommitLockKey = (String, TableName);

impl std::fmt::Debug for Lake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lake").field("tables", &self.0.tables).finish_non_exhaustive()
    }
}

impl Lake {
    /// Opens a lake from its components. If the store is new, creates the branch `main` without
    /// tables.
    pub async fn open(options: LakeOptions) -> Result<Lake> {
        let LakeOptions { store, object_store, tables, clock } = options;
        let catalog = Catalog::open(store.clone(), clock.clone()).await?;
        let tables = Tables::new(object_store, tables);
        let commits = Mutex::new(HashMap::new());
        let (pins, merging) = (PinnedCommits::default(), Arc::default());
        let (changed, groups) = (ChangedTables::default(), AppendQueues::default());
        let sweeping = tokio::sync::Mutex::default();
        Ok(Lake(Arc::new(LakeInner {
            catalog,
            tables,
            store,
            clock,
            commits,
            pins,
            merging,
            changed,
            groups,
            sweeping,
            metrics: CommitMetrics::default(),
            telemetry: OnceLock::new(),
        })))
    }

    /// Opens the lake in a folder, usually `.headwater`, and creates the lake if it does not exist.
    /// The folder contains `lake.db` and, by default, the tables in `warehouse/`. Several processes
    /// can open the lake. Only one of them may remove files, because a process does not know which
    /// files the other processes use.
    pub async fn open_local(folder: &Path) -> Result<Lake> {
        Lake::open_folder(folder, WarehouseOptions::default()).await
    }

    /// Opens a lake like [`Lake::open_local`], with its tables in the given warehouse.
    ///
    /// Fails with [`Error::WarehouseFixed`] if the lake has tables in another warehouse. Also fails
    /// if the bucket cannot be reached, does not exist, or belongs to another lake.
    pub async fn open_folder(folder: &Path, warehouse: WarehouseOptions) -> Result<Lake> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let fail = |source| Error::Folder { path: folder.display().to_string(), source };
        std::fs::create_dir_all(folder).map_err(fail)?;
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&folder.join("lake.db")).await?);
        let (object_store, tables) = warehouse::open(folder, &store, &clock, warehouse).await?;
        Lake::open(LakeOptions { store, object_store, tables, clock }).await
    }

    /// Returns the catalog.
    pub fn catalog(&self) -> &Catalog {
        &self.0.catalog
    }

    /// Returns the table storage, which reads and writes the files of tables.
    pub fn tables(&self) -> &Tables {
        &self.0.tables
    }

    /// Returns the maintenance operations on the lake's tables.
    pub fn maintenance(&self) -> Maintenance<'_> {
        Maintenance::new(self)
    }

    /// Returns the records of commits by Iceberg REST clients, which show whether a repeated
    /// request is already committed.
    pub fn iceberg_rest_requests(&self) -> CommittedRestRequests<'_> {
        CommittedRestRequests { lake: self }
    }

    /// Returns the metrics and the traces of the lake.
    pub fn telemetry(&self) -> LakeTelemetry<'_> {
        LakeTelemetry(self)
    }

    /// Returns the metrics of commits and merges.
    pub(crate) fn metrics(&self) -> &CommitMetrics {
        &self.0.metrics
    }

    /// Returns the telemetry that receives the lake's traces; empty if traces are off.
    pub(crate) fn traces(&self) -> &OnceLock<Telemetry> {
        &self.0.telemetry
    }

    /// Begins the span of a commit or merge with these commit properties. The parent is the span of
    /// the job that the properties name, or else the span of the current task. Returns `None` if
    /// traces are off.
    pub(crate) fn begin_span(
        &self,
        properties: &BTreeMap<String, String>,
        name: &'static str,
    ) -> Option<SpanTimer> {
        let telemetry = self.traces().get().filter(|telemetry| telemetry.is_on())?;
        let job = properties.get(PROPERTY_JOB).and_then(|job| job.parse().ok());
        let parent = job.and_then(|job| telemetry.of_job(job)).or_else(current);
        telemetry.begin(parent, name)
    }

    /// Returns the metadata store.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.0.store
    }

    /// Returns the clock.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.0.clock
    }

    /// Returns a read snapshot of a ref. Later commits do not change this snapshot.
    pub async fn view(&self, reference: &RefSpec) -> Result<CommitView> {
        let resolved = self.catalog().resolve(reference).await?;
        let pin = self.pins().pin(resolved.commit, self.clock().now());
        let state = self.catalog().state(resolved.commit).await?;
        Ok(CommitView::new(self.clone(), reference.clone(), resolved.branch, state, pin))
    }

    /// Starts a transaction on a branch. No lock is taken: conflicts are detected when the
    /// transaction commits.
    pub async fn transaction(&self, branch: &str, author: &str) -> Result<Transaction> {
        let head = self.catalog().branch(branch).await?;
        let pin = self.pins().pin(head.commit, self.clock().now());
        let state = self.catalog().state(head.commit).await?;
        let reference = RefSpec::Name(branch.to_owned());
        let view = CommitView::new(self.clone(), reference, Some(branch.to_owned()), state, pin);
        Ok(Transaction::new(view, branch, author))
    }

    /// Returns the pinned commits: those that reads and writes of this process use.
    pub(crate) fn pins(&self) -> &PinnedCommits {
        &self.0.pins
    }

    /// Returns the lock that ensures that only one sweep runs at a time.
    pub(crate) fn sweeping(&self) -> &tokio::sync::Mutex<()> {
        &self.0.sweeping
    }

    /// Returns the queues of group commit.
    pub(crate) fn groups(&self) -> &AppendQueues {
        &self.0.groups
    }

    /// Returns the tables that were written since automatic maintenance last checked them.
    pub(crate) fn changed(&self) -> &ChangedTables {
        &self.0.changed
    }

    /// Records a write to a table, so that automatic maintenance checks the table.
    pub fn record_write(&self, branch: &str, table: &TableName) {
        self.changed().add(branch, std::iter::once(table));
    }

    /// Returns the lock that prevents the removal of files. Operations that refer to existing files
    /// hold the lock for reading: merges, new branches and tags, and commits with files that other
    /// engines wrote. Before the sweep removes files, it waits until the lock is free.
    pub(crate) fn merging(&self) -> &Arc<tokio::sync::RwLock<()>> {
        &self.0.merging
    }

    /// Returns this process's lock for commits to a table on a branch. The lock is not needed for
    /// correctness, because a commit is a compare-and-swap. It avoids retries within this process.
    pub(crate) fn commit_lock(
        &self,
        branch: &str,
        table: &TableName,
    ) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.0.commits.lock();
        locks.retain(|_, lock| lock.strong_count() > 0);
        let lock = locks.entry((branch.to_owned(), table.clone())).or_default();
        if let Some(lock) = lock.upgrade() {
            return lock;
        }
        let new = Arc::new(tokio::sync::Mutex::new(()));
        *lock = Arc::downgrade(&new);
        new
    }
}
