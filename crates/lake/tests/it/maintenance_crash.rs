//! Maintenance that crashes at any of its changes: the lake opens, no data is lost, and the next
//! maintenance removes the files that were left.

use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use headwater_lake::{Lake, LakeOptions, json_rows};
use headwater_model::{Clock, CreateRef, FixedClock, MaintainRequest, SystemClock};
use headwater_store::MemoryStore;
use headwater_tables::TablesOptions;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use tokio_util::sync::CancellationToken;

use crate::failing_object_store::FailingObjectStore;
use crate::support::{name, numbers, rows_of, schema};

/// The storage of a lake, which survives a crash.
struct Disk {
    store: Arc<MemoryStore>,
    objects: Arc<InMemory>,
    clock: Arc<FixedClock>,
}

impl Disk {
    async fn open(&self, objects: Arc<dyn ObjectStore>) -> Lake {
        let mut tables = TablesOptions::new("memory://lake");
        tables.clock = self.clock.clone();
        let (store, clock) = (self.store.clone(), self.clock.clone());
        Lake::open(LakeOptions { store, object_store: objects, tables, clock }).await.unwrap()
    }

    async fn data_files(&self) -> usize {
        let all: Vec<_> = self.objects.list(None).try_collect().await.unwrap();
        all.iter().filter(|found| found.location.as_ref().ends_with(".parquet")).count()
    }
}

async fn append(lake: &Lake, branch: &str, id: i64) {
    let mut change = lake.transaction(branch, "eva").await.unwrap();
    change.append(&name("t"), rows_of(numbers("id", [id]))).await.unwrap();
    change.commit("append").await.unwrap();
}

/// Creates a lake with a few small, old files on two branches.
async fn disk() -> Disk {
    let disk = Disk {
        store: Arc::new(MemoryStore::new()),
        objects: Arc::new(InMemory::new()),
        clock: Arc::new(FixedClock::at(SystemClock.now())),
    };
    let lake = disk.open(disk.objects.clone()).await;
    let mut create = lake.transaction("main", "eva").await.unwrap();
    create.create(&name("t"), schema("id"), Vec::new(), [].into()).await.unwrap();
    create.commit("create").await.unwrap();
    append(&lake, "main", 1).await;
    let dev = CreateRef { name: "dev".into(), from: None, if_not_exists: false };
    lake.catalog().create_branch(dev).await.unwrap();
    append(&lake, "dev", 10).await;
    append(&lake, "main", 2).await;
    append(&lake, "main", 3).await;
    disk.clock.advance(Duration::from_hours(24 * 10));
    disk
}

async fn ids(lake: &Lake, branch: &str) -> Vec<i64> {
    let view = lake.view(&branch.parse().unwrap()).await.unwrap();
    let table = view.table(&name("t")).await.unwrap();
    let plan = lake.tables().plan(&table, None).await.unwrap();
    let rows = lake.tables().read(&table, plan.files(), None, None).unwrap();
    let rows = json_rows(&rows.try_collect::<Vec<_>>().await.unwrap()).unwrap();
    let mut ids: Vec<i64> = rows.iter().map(|row| row["id"].as_i64().unwrap()).collect();
    ids.sort_unstable();
    ids
}

async fn maintain(lake: &Lake) -> Result<u64, headwater_lake::Error> {
    let request = MaintainRequest {
        compact: true,
        manifests: true,
        keep: Some(1),
        orphans: true,
        ..MaintainRequest::default()
    };
    let (progress, cancelled) = (Arc::new(|_, _| {}), CancellationToken::new());
    let table = name("t");
    let report = lake.maintenance().run("main", Some(&table), &request, progress, cancelled);
    let removed = Box::pin(report).await?.removed_files.unwrap_or_default();
    Ok(removed.orphans + removed.files_expired)
}

#[tokio::test]
async fn maintenance_survives_a_crash_at_any_change() {
    let reference = disk().await;
    maintain(&reference.open(reference.objects.clone()).await).await.unwrap();
    let expected = reference.data_files().await;
    let mut died = 0;
    for changes in 0.. {
        let disk = disk().await;
        let dying = Arc::new(FailingObjectStore::after(disk.objects.clone(), changes));
        let lived = maintain(&disk.open(dying).await).await.is_ok();
        let lake = disk.open(disk.objects.clone()).await;
        assert_eq!(ids(&lake, "main").await, [1, 2, 3], "after {changes} changes");
        assert_eq!(ids(&lake, "dev").await, [1, 10], "after {changes} changes");
        // A crash leaves files that are too recent to be removed at first.
        disk.clock.advance(Duration::from_hours(24 * 4));
        maintain(&lake).await.unwrap();
        assert_eq!(disk.data_files().await, expected, "after {changes} changes");
        assert_eq!(maintain(&lake).await.unwrap(), 0, "nothing more is found");
        assert_eq!(ids(&lake, "main").await, [1, 2, 3]);
        assert_eq!(ids(&lake, "dev").await, [1, 10]);
        append(&lake, "main", 4).await;
        if lived {
            break;
        }
        died += 1;
    }
    assert!(died > 8, "{died} deaths are few");
}
