//! Operations on many tables read several tables at the same time, and read each table only once.

use std::sync::Arc;
use std::time::Duration;

use headwater_lake::{Lake, LakeOptions};
use headwater_model::{Clock, CreateRef, FixedClock, MaintainRequest, SystemClock};
use headwater_store::{MemoryStore, Store};
use headwater_tables::TablesOptions;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use object_store::throttle::{ThrottleConfig, ThrottledStore};
use tokio_util::sync::CancellationToken;

use crate::crashing_store::{CrashingObjectStore, SimulatedProcess};
use crate::support::{name, numbers, rows_of, schema};

/// The number of tables.
const TABLES: i64 = 40;

/// A database and an object store that outlive a lake.
struct Disk {
    store: Arc<dyn Store>,
    objects: Arc<dyn ObjectStore>,
    clock: Arc<FixedClock>,
}

impl Disk {
    /// Creates many tables, each with rows and an unreferenced file.
    async fn new() -> Self {
        let clock = Arc::new(FixedClock::at(SystemClock.now()));
        let (store, objects) = (Arc::new(MemoryStore::new()), Arc::new(InMemory::new()));
        let disk = Disk { store, objects, clock };
        let lake = disk.open(disk.objects.clone()).await;
        for part in 0..2 {
            let mut change = lake.transaction("main", "eva").await.unwrap();
            for number in 0..TABLES {
                let table = name(&format!("t{number}"));
                if part == 0 {
                    change.create(&table, schema("id"), Vec::new(), [].into()).await.unwrap();
                }
                change.append(&table, rows_of(numbers("id", [1]))).await.unwrap();
            }
            change.commit("all").await.unwrap();
        }
        let mut change = lake.transaction("main", "eva").await.unwrap();
        let table = change.table(&name("t0")).await.unwrap();
        drop(lake.tables().write(&table, rows_of(numbers("id", [2]))).await.unwrap());
        disk
    }

    async fn open(&self, object_store: Arc<dyn ObjectStore>) -> Lake {
        let mut tables = TablesOptions::new("memory://lake");
        tables.clock = self.clock.clone();
        // The cache is disabled, so that repeated reads are counted.
        tables.manifest_cache_bytes = 0;
        let (store, clock) = (self.store.clone(), self.clock.clone());
        Lake::open(LakeOptions { store, object_store, tables, clock }).await.unwrap()
    }

    /// Opens the lake as another process would. Calls are delayed and counted.
    async fn watched(&self) -> (Lake, SimulatedProcess) {
        let wait = Duration::from_millis(2);
        let waits = ThrottleConfig { wait_get_per_call: wait, ..ThrottleConfig::default() };
        let life = SimulatedProcess::endless();
        let slow = Arc::new(ThrottledStore::new(self.objects.clone(), waits));
        (self.open(Arc::new(CrashingObjectStore(slow, life.clone()))).await, life)
    }
}

fn check(life: &SimulatedProcess, opened: i64, calls: i64) {
    let at_once = life.at_once();
    assert!((8..=16).contains(&at_once), "{at_once} at once");
    let found = life.calls() - opened;
    assert!(found <= calls, "{found} calls, where {calls} would do");
}

#[tokio::test]
async fn a_branch_of_an_old_commit_checks_tables_concurrently() {
    let disk = Disk::new().await;
    let (lake, life) = disk.watched().await;
    let opened = life.calls();
    let from = Some("main~1".parse().unwrap());
    let request = CreateRef { name: "dev".into(), from, if_not_exists: false };
    lake.create_branch(request).await.unwrap();
    check(&life, opened, 2 * TABLES);
}

#[tokio::test]
async fn a_sweep_reads_states_concurrently_and_none_twice() {
    let disk = Disk::new().await;
    let (lake, life) = disk.watched().await;
    let opened = life.calls();
    disk.clock.advance(Duration::from_hours(24 * 30));
    let request = MaintainRequest { orphans: true, ..MaintainRequest::default() };
    let (progress, cancelled) = (Arc::new(|_, _| {}), CancellationToken::new());
    // The operation runs in a separate task, as in the server.
    let maintain = tokio::spawn(async move {
        Box::pin(lake.maintenance().run("main", None, &request, progress, cancelled)).await
    });
    let report = maintain.await.unwrap();
    assert_eq!(report.unwrap().removed_files.unwrap().orphans, 1);
    // Each of the two states of a table causes three reads: of the metadata, the manifest list and
    // the manifest. Each table causes one more read at the start.
    check(&life, opened, (2 * 3 + 1) * TABLES + 5);
}
