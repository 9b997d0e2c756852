//! Garbage collection of deleted branches and tags removes only files to which no other ref refers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use headwater_lake::{Lake, LakeOptions};
use headwater_model::{
    Clock, CreateRef, FixedClock, MaintainRequest, MergeRequest, RemovedFiles, SystemClock,
};
use headwater_store::MemoryStore;
use headwater_tables::TablesOptions;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use tokio_util::sync::CancellationToken;

use crate::failing_object_store::FailingObjectStore;
use crate::support::{name, numbers, rows_of, schema};

const DAY: Duration = Duration::from_hours(24);

/// The storage of a lake. A test opens the lake again on the same storage.
struct Disk {
    store: Arc<MemoryStore>,
    objects: Arc<InMemory>,
    clock: Arc<FixedClock>,
}

impl Disk {
    fn new() -> Self {
        let (store, objects) = (Arc::new(MemoryStore::new()), Arc::new(InMemory::new()));
        Disk { store, objects, clock: Arc::new(FixedClock::at(SystemClock.now())) }
    }

    async fn open(&self, objects: Arc<dyn ObjectStore>) -> Lake {
        let mut tables = TablesOptions::new("memory://lake");
        tables.clock = self.clock.clone();
        let (store, clock) = (self.store.clone(), self.clock.clone());
        Lake::open(LakeOptions { store, object_store: objects, tables, clock }).await.unwrap()
    }

    async fn files(&self) -> Vec<String> {
        let all: Vec<_> = self.objects.list(None).try_collect().await.unwrap();
        let mut names: Vec<String> = all.iter().map(|found| found.location.to_string()).collect();
        names.sort();
        names
    }
}

async fn create(lake: &Lake, branch: &str, table: &str) {
    let mut change = lake.transaction(branch, "eva").await.unwrap();
    change.create(&name(table), schema("id"), Vec::new(), [].into()).await.unwrap();
    change.commit("create").await.unwrap();
}

async fn append(lake: &Lake, branch: &str, table: &str, id: i64) {
    let mut change = lake.transaction(branch, "eva").await.unwrap();
    change.append(&name(table), rows_of(numbers("id", [id]))).await.unwrap();
    change.commit("append").await.unwrap();
}

async fn branch(lake: &Lake, name: &str, from: &str) {
    let from = Some(from.parse().unwrap());
    let request = CreateRef { name: name.into(), from, if_not_exists: false };
    lake.catalog().create_branch(request).await.unwrap();
}

async fn head(lake: &Lake, branch: &str) -> String {
    format!("@{}", lake.catalog().branch(branch).await.unwrap().commit)
}

/// Counts the rows of a table by reading all of them.
async fn count(lake: &Lake, reference: &str, table: &str) -> usize {
    let view = lake.view(&reference.parse().unwrap()).await.unwrap();
    let table = view.table(&name(table)).await.unwrap();
    let plan = lake.tables().plan(&table, None).await.unwrap();
    let rows = lake.tables().read(&table, plan.files(), None, None).unwrap();
    let rows: Vec<_> = rows.try_collect().await.unwrap();
    rows.iter().map(arrow::array::RecordBatch::num_rows).sum()
}

/// Runs the maintenance that a server runs every day.
async fn free(lake: &Lake) -> Result<RemovedFiles, headwater_lake::Error> {
    let request = MaintainRequest { deleted_refs: true, ..MaintainRequest::default() };
    let (progress, cancelled) = (Arc::new(|_, _| {}), CancellationToken::new());
    let report =
        Box::pin(lake.maintenance().run("main", None, &request, progress, cancelled)).await?;
    Ok(report.removed_files.unwrap_or_default())
}

/// Creates a lake, and a branch with further rows and tables. Returns the lake and the files that
/// existed before the branch was created.
async fn parted(disk: &Disk) -> (Lake, Vec<String>) {
    let lake = disk.open(disk.objects.clone()).await;
    create(&lake, "main", "t").await;
    append(&lake, "main", "t", 1).await;
    let files = disk.files().await;
    branch(&lake, "dev", "main").await;
    append(&lake, "dev", "t", 2).await;
    append(&lake, "dev", "t", 3).await;
    create(&lake, "dev", "u").await;
    append(&lake, "dev", "u", 1).await;
    (lake, files)
}

#[tokio::test]
async fn files_of_a_deleted_branch_are_removed() {
    let disk = Disk::new();
    let (lake, before) = parted(&disk).await;
    // A file that the lake does not know may belong to a lost database. Such a file is kept.
    let stray = Path::from(format!("{}/stray.parquet", before[0].rsplit_once('/').unwrap().0));
    disk.objects.put(&stray, Bytes::from("rows").into()).await.unwrap();
    let (commit, all) = (head(&lake, "dev").await, disk.files().await);
    lake.catalog().delete_branch("dev").await.unwrap();
    disk.clock.advance(2 * DAY);
    assert!(!lake.maintenance().has_expired_ref().await.unwrap());
    assert_eq!(free(&lake).await.unwrap().orphans, 0, "the branch may be restored");
    assert_eq!(count(&lake, &commit, "t").await, 3);
    disk.clock.advance(2 * DAY);
    assert!(lake.maintenance().has_expired_ref().await.unwrap());
    let reader = lake.view(&commit.parse().unwrap()).await.unwrap();
    assert_eq!(free(&lake).await.unwrap().orphans, 0, "a reader uses the files");
    assert_eq!(
        (disk.files().await, lake.maintenance().has_expired_ref().await.unwrap()),
        (all.clone(), true)
    );
    drop(reader);
    let removed = free(&lake).await.unwrap();
    let mut expected = before;
    expected.push(stray.to_string());
    expected.sort();
    assert_eq!(disk.files().await, expected);
    assert_eq!(removed.orphans as usize, all.len() - expected.len());
    assert!(!lake.maintenance().has_expired_ref().await.unwrap(), "it is forgotten");
    assert_eq!(count(&lake, "main", "t").await, 1);
    assert_eq!(
        lake.maintenance().last_sweep().await.unwrap(),
        None,
        "the whole lake was not looked through"
    );
}

#[tokio::test]
async fn shared_files_stay_until_their_last_ref_is_deleted() {
    let disk = Disk::new();
    let (lake, _) = parted(&disk).await;
    let at = head(&lake, "dev").await;
    // A merge, a branch, a tag, or a branch that was created later refers to the files.
    branch(&lake, "other", &at).await;
    append(&lake, "other", "u", 2).await;
    let tag =
        CreateRef { name: "v1".into(), from: Some(at.parse().unwrap()), if_not_exists: false };
    lake.catalog().tags().create(tag).await.unwrap();
    lake.catalog().delete_branch("dev").await.unwrap();
    disk.clock.advance(4 * DAY);
    let all = disk.files().await;
    assert_eq!(free(&lake).await.unwrap(), RemovedFiles::default());
    assert_eq!(disk.files().await, all);
    assert!(!lake.maintenance().has_expired_ref().await.unwrap(), "others see to it");
    lake.catalog().delete_branch("other").await.unwrap();
    disk.clock.advance(4 * DAY);
    branch(&lake, "again", &at).await;
    assert!(free(&lake).await.unwrap().orphans > 0, "what `other` had of its own");
    assert_eq!((count(&lake, "v1", "u").await, count(&lake, "again", "t").await), (1, 3));
    Box::pin(lake.merge("main", MergeRequest::new("again".parse().unwrap()), "eva")).await.unwrap();
    for gone in ["again", "v1"] {
        if gone == "v1" {
            lake.catalog().tags().delete(gone).await.unwrap();
        } else {
            lake.catalog().delete_branch(gone).await.unwrap();
        }
    }
    disk.clock.advance(4 * DAY);
    let all = disk.files().await;
    assert_eq!(free(&lake).await.unwrap(), RemovedFiles::default());
    assert_eq!((disk.files().await, count(&lake, "main", "t").await), (all, 3));
}

#[tokio::test]
async fn an_interrupted_removal_is_completed_later() {
    let mut died = 0;
    for changes in 0.. {
        let disk = Disk::new();
        let (lake, before) = parted(&disk).await;
        lake.catalog().delete_branch("dev").await.unwrap();
        drop(lake);
        disk.clock.advance(4 * DAY);
        let dying = Arc::new(FailingObjectStore::after(disk.objects.clone(), changes));
        let lived = free(&disk.open(dying).await).await.is_ok();
        let lake = disk.open(disk.objects.clone()).await;
        assert_eq!(count(&lake, "main", "t").await, 1, "after {changes} changes");
        free(&lake).await.unwrap();
        assert_eq!(disk.files().await, before, "after {changes} changes");
        assert!(!lake.maintenance().has_expired_ref().await.unwrap());
        if lived {
            break;
        }
        died += 1;
    }
    assert!(died > 8, "{died} deaths are few");
}
