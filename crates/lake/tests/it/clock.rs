//! If the clock goes back, no request fails, no data is lost, and no new file is treated as old.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use headwater_lake::{Lake, LakeOptions};
use headwater_model::{
    Clock, CreateRef, MaintainRequest, MergeRequest, RefSpec, RevertRequest, SystemClock, Timestamp,
};
use headwater_store::MemoryStore;
use headwater_tables::{TablesOptions, ViewDefinition};
use object_store::memory::InMemory;
use tokio_util::sync::CancellationToken;

use crate::support::{name, numbers, rows_of, schema};

/// A clock that differs from the real time by a number of hours.
#[derive(Default)]
struct OffsetClock(AtomicI64);

impl Clock for OffsetClock {
    fn now(&self) -> Timestamp {
        let hours = self.0.load(Ordering::SeqCst);
        let by = Duration::from_hours(hours.unsigned_abs());
        if hours < 0 { SystemClock.now() - by } else { SystemClock.now() + by }
    }
}

async fn append(lake: &Lake, branch: &str, id: i64) {
    let mut change = lake.transaction(branch, "eva").await.unwrap();
    change.append(&name("t"), rows_of(numbers("id", [id]))).await.unwrap();
    change.commit(&format!("append {id}")).await.unwrap();
}

async fn count(lake: &Lake, branch: &str) -> u64 {
    let table = lake.view(&branch.parse().unwrap()).await.unwrap().table(&name("t")).await.unwrap();
    let plan = lake.tables().plan(&table, None).await.unwrap();
    plan.files().iter().map(|file| file.rows).sum()
}

/// Creates a lake with one row in the table `t`, and the branch `dev`.
async fn lake_with_dev(clock: &Arc<OffsetClock>) -> Lake {
    let mut tables = TablesOptions::new("memory://lake");
    tables.clock = clock.clone();
    let (store, object_store) = (Arc::new(MemoryStore::new()), Arc::new(InMemory::new()));
    let options = LakeOptions { store, object_store, tables, clock: clock.clone() };
    let lake = Lake::open(options).await.unwrap();
    let mut change = lake.transaction("main", "eva").await.unwrap();
    change.create(&name("t"), schema("id"), Vec::new(), [].into()).await.unwrap();
    change.commit("create").await.unwrap();
    append(&lake, "main", 0).await;
    let dev = CreateRef { name: "dev".into(), from: None, if_not_exists: false };
    lake.catalog().create_branch(dev).await.unwrap();
    lake
}

#[tokio::test]
async fn a_reverted_change_from_a_later_clock_can_be_picked_again() {
    let clock = Arc::new(OffsetClock::default());
    let lake = lake_with_dev(&clock).await;
    clock.0.store(24, Ordering::SeqCst);
    append(&lake, "dev", 1).await;
    // The snapshots of the merge and of the revert are older by the clock than the merged one.
    clock.0.store(0, Ordering::SeqCst);
    append(&lake, "main", 2).await;
    let merge = MergeRequest::new("dev".parse().unwrap());
    let merged = Box::pin(lake.merge("main", merge, "eva")).await.unwrap();
    assert_eq!(count(&lake, "main").await, 3);
    let commit = Some(RefSpec::Commit(merged.commit.to_string()));
    let revert = RevertRequest { commit, ..RevertRequest::default() };
    Box::pin(lake.revert("main", revert, "eva")).await.unwrap();
    assert_eq!(count(&lake, "main").await, 2);
    let pick = serde_json::from_value(serde_json::json!({"commit": "dev"})).unwrap();
    Box::pin(lake.cherry_pick("main", pick, "eva")).await.unwrap();
    assert_eq!(count(&lake, "main").await, 3);
}

#[tokio::test]
async fn a_clock_set_back_loses_no_data() {
    let clock = Arc::new(OffsetClock::default());
    let lake = lake_with_dev(&clock).await;
    for (at, hours) in [24 * 400, -24 * 400, 24 * 30, -1, 0].into_iter().enumerate() {
        clock.0.store(hours, Ordering::SeqCst);
        let (at, id) = (at as u64, 10 * at as i64);
        append(&lake, "main", id + 1).await;
        append(&lake, "dev", id + 2).await;
        let request =
            MaintainRequest { compact: true, orphans: true, ..MaintainRequest::default() };
        let (progress, cancelled) = (Arc::new(|_, _| {}), CancellationToken::new());
        let table = name("t");
        Box::pin(lake.maintenance().run("main", Some(&table), &request, progress, cancelled))
            .await
            .unwrap();
        let merge = MergeRequest::new("dev".parse().unwrap());
        let report = Box::pin(lake.merge("main", merge, "eva")).await.unwrap();
        assert!(report.conflicts.is_empty(), "{report:?}");
        assert_eq!(count(&lake, "main").await, 3 + 2 * at, "{hours} hours");
        assert_eq!(count(&lake, "dev").await, 2 + at, "{hours} hours");
    }
    // Commits are listed in the order of their creation, regardless of the clock.
    let log = lake.catalog().log(&RefSpec::main(), 100, None).await.unwrap();
    let appended: Vec<&str> = log.iter().map(|commit| commit.message.as_str()).collect();
    let place = |message: &str| appended.iter().position(|it| *it == message).unwrap();
    assert!(
        (0..4).all(|at| {
            place(&format!("append {}", 10 * at + 1)) > place(&format!("append {}", 10 * at + 11))
        }),
        "{appended:?}"
    );
    let table = lake.view(&RefSpec::main()).await.unwrap().table(&name("t")).await.unwrap();
    let snapshots = table.snapshots();
    let times: Vec<_> = snapshots.iter().map(|snapshot| snapshot.made).collect();
    assert!(times.is_sorted(), "{times:?}");
}

#[tokio::test]
async fn a_view_can_be_replaced_after_the_clock_went_back() {
    let clock = Arc::new(OffsetClock::default());
    let mut tables = TablesOptions::new("memory://lake");
    tables.clock = clock.clone();
    let (store, object_store) = (Arc::new(MemoryStore::new()), Arc::new(InMemory::new()));
    let options = LakeOptions { store, object_store, tables, clock: clock.clone() };
    let lake = Lake::open(options).await.unwrap();
    for (hours, sql) in [(24 * 400, "SELECT 1 AS id"), (0, "SELECT 2 AS id")] {
        clock.0.store(hours, Ordering::SeqCst);
        let definition = ViewDefinition {
            schema: schema("id"),
            sql: sql.to_owned(),
            dialect: "headwater".to_owned(),
            namespace: "public".to_owned(),
            engine: ("headwater".to_owned(), "1".to_owned()),
        };
        let mut change = lake.transaction("main", "eva").await.unwrap();
        change.views().create(&name("v"), &definition, true).await.unwrap();
        change.commit(sql).await.unwrap();
        let view = lake.describe_view(&RefSpec::main(), &name("v")).await.unwrap();
        assert_eq!(view.queries[0].sql, sql);
    }
}
