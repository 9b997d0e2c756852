//! The lake's handle: opens the parts and holds them together.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Weak};

use headwater_catalog::Catalog;
use headwater_model::{Clock, RefSpec, SystemClock, TableName};
use headwater_store::{SqliteStore, Store};
use headwater_tables::{Tables, TablesOptions};
use object_store::ObjectStore;
use parking_lot::Mutex;

use crate::error::{Error, Result};
use crate::transaction::Groups;
use crate::upkeep::{Changed, Pins};
use crate::warehouse::{self, WarehouseOptions};
use crate::{Transaction, View};

/// The parts of a lake.
pub struct LakeOptions {
    /// Where refs, commits and journals are kept.
    pub store: Arc<dyn Store>,
    /// Where tables are kept.
    pub object_store: Arc<dyn ObjectStore>,
    /// How tables are kept.
    pub tables: TablesOptions,
    /// Where times come from.
    pub clock: Arc<dyn Clock>,
}

/// A lake; cheap to clone.
#[derive(Clone)]
pub struct Lake(Arc<Inner>);

struct Inner {
    catalog: Catalog,
    tables: Tables,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    commits: Mutex<HashMap<CommitKey, Weak<tokio::sync::Mutex<()>>>>,
    pins: Pins,
    merging: Arc<tokio::sync::RwLock<()>>,
    changed: Changed,
    groups: Groups,
    sweeping: tokio::sync::Mutex<()>,
}

/// A table on a branch, which one commit at a time is made for.
type CommitKey = (String, TableName);

impl std::fmt::Debug for Lake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lake").field("tables", &self.0.tables).finish_non_exhaustive()
    }
}

impl Lake {
    /// Opens a lake from its parts; a new store becomes a lake with an empty `main`.
    pub async fn open(options: LakeOptions) -> Result<Lake> {
        let LakeOptions { store, object_store, tables, clock } = options;
        let catalog = Catalog::open(store.clone(), clock.clone()).await?;
        let tables = Tables::new(object_store, tables);
        let commits = Mutex::new(HashMap::new());
        let (pins, merging) = (Pins::default(), Arc::default());
        let (changed, groups) = (Changed::default(), Groups::default());
        let sweeping = tokio::sync::Mutex::default();
        Ok(Lake(Arc::new(Inner {
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
        })))
    }

    /// Opens the lake in a folder, `.headwater` as a rule, making it where it is not there: `lake.db`,
    /// and its tables where it keeps them, in `warehouse/` beside that as a rule. Any number of processes
    /// may have it open at once, as long as only one of them removes files: what another reads or writes
    /// right now is not known to it.
    pub async fn open_local(folder: &Path) -> Result<Lake> {
        Lake::open_folder(folder, WarehouseOptions::default()).await
    }

    /// As [`Lake::open_local`], saying where its tables are to lie.
    ///
    /// Fails with [`Error::WarehouseFixed`] where they lie elsewhere already; and where a bucket cannot be
    /// reached, is not there, or is another lake's.
    pub async fn open_folder(folder: &Path, warehouse: WarehouseOptions) -> Result<Lake> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let fail = |source| Error::Folder { path: folder.display().to_string(), source };
        std::fs::create_dir_all(folder).map_err(fail)?;
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&folder.join("lake.db")).await?);
        let (object_store, tables) = warehouse::open(folder, &store, &clock, warehouse).await?;
        Lake::open(LakeOptions { store, object_store, tables, clock }).await
    }

    /// The catalog.
    pub fn catalog(&self) -> &Catalog {
        &self.0.catalog
    }

    /// The tables' files.
    pub fn tables(&self) -> &Tables {
        &self.0.tables
    }

    /// The metadata store.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.0.store
    }

    /// The clock.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.0.clock
    }

    /// What a ref stands for now; later commits do not change it.
    pub async fn view(&self, reference: &RefSpec) -> Result<View> {
        let resolved = self.catalog().resolve(reference).await?;
        let pin = self.pins().pin(resolved.commit, self.clock().now());
        let state = self.catalog().state(resolved.commit).await?;
        Ok(View::new(self.clone(), reference.clone(), resolved.branch, (state, pin)))
    }

    /// Begins a change of a branch. Nothing is locked: conflicts show when it is committed.
    pub async fn transaction(&self, branch: &str, author: &str) -> Result<Transaction> {
        let head = self.catalog().branch(branch).await?;
        let pin = self.pins().pin(head.commit, self.clock().now());
        let state = self.catalog().state(head.commit).await?;
        let reference = RefSpec::Name(branch.to_owned());
        let view = View::new(self.clone(), reference, Some(branch.to_owned()), (state, pin));
        Ok(Transaction::new(view, branch, author))
    }

    /// The commits in use.
    pub(crate) fn pins(&self) -> &Pins {
        &self.0.pins
    }

    /// Held by whoever removes files.
    pub(crate) fn sweeping(&self) -> &tokio::sync::Mutex<()> {
        &self.0.sweeping
    }

    /// How many small appends wait for a commit that is not begun.
    pub fn waiting_appends(&self) -> usize {
        self.0.groups.waiting()
    }

    /// The appends that wait for a commit.
    pub(crate) fn groups(&self) -> &Groups {
        &self.0.groups
    }

    /// The tables that were written to.
    pub(crate) fn changed(&self) -> &Changed {
        &self.0.changed
    }

    /// Says that a table of a branch was written to, so that it is looked whether it needs upkeep.
    pub fn wrote(&self, branch: &str, table: &TableName) {
        self.changed().add(branch, std::iter::once(table));
    }

    /// Held while states of the past are merged, and while files of others are taken in, so that none of
    /// them is removed meanwhile.
    pub(crate) fn merging(&self) -> &Arc<tokio::sync::RwLock<()>> {
        &self.0.merging
    }

    /// The lock under which this process commits to a table on a branch. Other processes are met by
    /// compare-and-swap; within one process, taking turns saves the work of losing.
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
