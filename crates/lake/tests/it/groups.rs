//! Group commit of concurrent small appends: there are few commits, no rows are lost, and the error
//! of one append does not affect the others.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use headwater_metrics::{Exposition, MetricsFormat};
use headwater_model::{CreateRef, ErrorCode, RefSpec, ToProblem};
use headwater_tables::Alteration;

use crate::support::{Fixture, name, numbers, rows_of, schema};
use crate::uncertain_store::UncertainStore;

async fn lake() -> Arc<Fixture> {
    with_table(Fixture::new().await).await
}

async fn with_table(lake: Fixture) -> Arc<Fixture> {
    let mut create = lake.lake.transaction("main", "eva").await.unwrap();
    create.create(&name("t"), schema("id"), Vec::new(), [].into()).await.unwrap();
    create.commit("create").await.unwrap();
    Arc::new(lake)
}

async fn insert(lake: &Fixture, author: &str, id: i64) -> Result<(), headwater_lake::Error> {
    let mut change = lake.lake.transaction("main", author).await?;
    change.property("headwater.job", format!("job-{id}"));
    change.append_rows(&name("t"), rows_of(numbers("id", [id]))).await?;
    let commit = change.commit("insert into t").await?.unwrap();
    // An append is visible as soon as it is acknowledged.
    assert!(commits(lake).await.iter().any(|known| known.id == commit.id));
    Ok(())
}

async fn commits(lake: &Fixture) -> Vec<headwater_model::Commit> {
    lake.lake.catalog().log(&RefSpec::main(), 1_000, None).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_small_appends_share_commits() {
    let lake = lake().await;
    let inserts = (0..200).map(|id| {
        let lake = lake.clone();
        tokio::spawn(async move { insert(&lake, "eva", id).await })
    });
    for insert in inserts.collect::<Vec<_>>() {
        insert.await.unwrap().unwrap();
    }
    let mut ids: Vec<i64> =
        lake.rows("t").await.iter().map(|row| row["id"].as_i64().unwrap()).collect();
    ids.sort_unstable();
    assert_eq!(ids, (0..200).collect::<Vec<_>>());
    let commits = commits(&lake).await;
    assert!(commits.len() < 100, "{} commits", commits.len());
    let table = lake.lake.describe(&RefSpec::main(), &name("t")).await.unwrap();
    assert_eq!(table.files as usize, commits.len() - 2, "a file for each commit");
    let mut jobs: Vec<String> = Vec::new();
    for commit in &commits {
        let of = |key: &str| commit.properties.get(key).cloned().unwrap_or_default();
        let named = [of("headwater.job"), of("headwater.jobs")].join(",");
        jobs.extend(named.split(',').filter(|job| !job.is_empty()).map(str::to_owned));
    }
    jobs.sort();
    jobs.dedup();
    assert_eq!(jobs.len(), 200, "every job is named by the commit that holds its rows");
}

#[tokio::test]
async fn a_single_append_is_one_commit() {
    let lake = lake().await;
    insert(&lake, "eva", 1).await.unwrap();
    let commits = commits(&lake).await;
    assert_eq!((commits[0].message.as_str(), commits[0].author.as_str()), ("insert into t", "eva"));
    assert_eq!(commits[0].properties["headwater.job"], "job-1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_invalid_append_fails_alone() {
    let lake = lake().await;
    let text: ArrayRef = Arc::new(StringArray::from(vec!["no number"]));
    let wrong = RecordBatch::try_from_iter([("id", text)]).unwrap();
    let strange: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let strange = RecordBatch::try_from_iter([("other", strange)]).unwrap();
    let mut tasks = Vec::new();
    for id in 0..40 {
        let lake = lake.clone();
        let (wrong, strange) = (wrong.clone(), strange.clone());
        tasks.push(tokio::spawn(async move {
            let author = if id % 3 == 0 { "eva" } else { "ada" };
            match id % 4 {
                0 => {
                    let mut change = lake.lake.transaction("main", author).await.unwrap();
                    let rows = rows_of(if id % 8 == 0 { wrong } else { strange });
                    assert!(change.append_rows(&name("t"), rows).await.is_err());
                    false
                }
                _ => insert(&lake, author, id).await.map(|()| true).unwrap(),
            }
        }));
    }
    let mut made = 0;
    for task in tasks {
        made += usize::from(task.await.unwrap());
    }
    assert_eq!(lake.rows("t").await.len(), made);
    assert_eq!(made, 30);
    let commits = commits(&lake).await;
    assert!(commits.iter().all(|commit| ["eva", "ada", "headwater"].contains(&&*commit.author)));
}

#[tokio::test]
async fn rows_that_no_longer_match_the_schema_are_a_conflict() {
    let lake = lake().await;
    let mut early = lake.lake.transaction("main", "eva").await.unwrap();
    early.append_rows(&name("t"), rows_of(numbers("id", [1]))).await.unwrap();
    let mut alter = lake.lake.transaction("main", "eva").await.unwrap();
    let rename = Alteration::RenameColumn { column: vec!["id".into()], name: "key".into() };
    alter.alter(&name("t"), vec![rename]).await.unwrap();
    alter.commit("rename").await.unwrap();
    let error = early.commit("insert").await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::CommitConflict);
    let mut late = lake.lake.transaction("main", "eva").await.unwrap();
    late.append_rows(&name("t"), rows_of(numbers("key", [1]))).await.unwrap();
    let mut drop = lake.lake.transaction("main", "eva").await.unwrap();
    drop.drop(&name("t"), false).await.unwrap();
    drop.commit("drop").await.unwrap();
    let error = late.commit("insert").await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::CommitConflict);
    // Each caller's conflict is counted once, although no commit was attempted.
    let commits = lake.lake.telemetry().metrics().clone();
    let exposition = Exposition { commits, ..Exposition::default() };
    let text = exposition.encode(MetricsFormat::Prometheus).unwrap();
    for line in ["headwater_commits_total 3", "headwater_commit_conflicts_total 2"] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
}

#[tokio::test]
async fn a_branch_protected_concurrently_rejects_queued_appends() {
    let lake = lake().await;
    let mut early = lake.lake.transaction("main", "eva").await.unwrap();
    early.append_rows(&name("t"), rows_of(numbers("id", [1]))).await.unwrap();
    lake.lake.catalog().protect_branch("main", true).await.unwrap();
    let error = early.commit("insert").await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::BranchProtected);
    assert_eq!(lake.data_files(), 0, "nothing is left behind");
}

#[tokio::test]
async fn large_appends_are_streamed() {
    let lake = lake().await;
    let mut large = lake.lake.transaction("main", "eva").await.unwrap();
    large.append_rows(&name("t"), rows_of(numbers("id", 0..5_000))).await.unwrap();
    assert_eq!(lake.data_files(), 1, "before it is committed");
    large.commit("insert").await.unwrap();
    let branch = CreateRef { name: "dev".into(), from: None, if_not_exists: false };
    lake.lake.catalog().create_branch(branch).await.unwrap();
    assert_eq!(lake.rows("t").await.len(), 5_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_cancelled_append_does_not_block_others() {
    let lake = lake().await;
    for round in 0..20 {
        let mut tasks = Vec::new();
        for id in 0..20 {
            let lake = lake.clone();
            tasks.push(tokio::spawn(async move { insert(&lake, "eva", round * 20 + id).await }));
        }
        for task in tasks.iter().step_by(3) {
            task.abort();
        }
        for (at, task) in tasks.into_iter().enumerate() {
            if at % 3 != 0 {
                task.await.unwrap().unwrap();
            }
        }
    }
    let rows = lake.rows("t").await;
    let kept = rows.iter().filter(|row| row["id"].as_i64().unwrap() % 20 % 3 != 0).count();
    assert_eq!(kept, 20 * 13, "each of those that were answered, once");
}

/// Waits until a condition holds.
async fn until(so: impl Fn() -> bool) {
    let wait = async {
        while !so() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), wait)
        .await
        .expect("it comes to be so");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_lost_response_duplicates_no_row() {
    let store = UncertainStore::new();
    let lake = with_table(Fixture::over(store.clone()).await).await;
    let insert = |id: i64| {
        let lake = lake.clone();
        async move {
            let mut change = lake.lake.transaction("main", "eva").await.unwrap();
            change.append_rows(&name("t"), rows_of(numbers("id", [id]))).await.unwrap();
            change.commit("insert into t").await
        }
    };
    // The commit of the first append is blocked in the database, so that the other appends form a
    // group.
    store.permits.forget_permits(usize::MAX);
    let before = store.asked.load(SeqCst);
    let first = tokio::spawn(insert(0));
    until(|| store.asked.load(SeqCst) > before).await;
    let mut inserts: tokio::task::JoinSet<_> = (1..20).map(insert).collect();
    until(|| lake.lake.telemetry().waiting_appends() == 19).await;
    store.permits.add_permits(1);
    first.await.unwrap().unwrap();
    store.loses.store(true, SeqCst);
    store.permits.add_permits(1_000);
    while let Some(other) = inserts.join_next().await {
        let error = other.unwrap().unwrap_err();
        assert_eq!(error.code(), ErrorCode::Storage, "{error}");
    }
    store.loses.store(false, SeqCst);
    let mut ids: Vec<i64> =
        lake.rows("t").await.iter().map(|row| row["id"].as_i64().unwrap()).collect();
    ids.sort_unstable();
    assert_eq!(ids, (0..20).collect::<Vec<_>>(), "they were kept, each once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_end_of_one_queue_does_not_affect_others() {
    let lake = with_table(Fixture::in_memory().await).await;
    // Each task makes its appends one after the other, so that queues are created and removed all
    // the time.
    let tasks = (0..8).map(|task| {
        let lake = lake.clone();
        tokio::spawn(async move {
            for round in 0..60 {
                insert(&lake, "eva", task * 1_000 + round).await.unwrap();
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    assert_eq!(lake.rows("t").await.len(), 480);
}

#[tokio::test]
async fn changes_after_a_small_append_are_committed() {
    let lake = lake().await;
    let mut change = lake.lake.transaction("main", "eva").await.unwrap();
    change.append_rows(&name("t"), rows_of(numbers("id", [1]))).await.unwrap();
    change.append(&name("t"), rows_of(numbers("id", [2]))).await.unwrap();
    change.create(&name("u"), schema("id"), Vec::new(), [].into()).await.unwrap();
    change.commit("several").await.unwrap();
    assert_eq!(lake.rows("t").await.len(), 2);
    assert_eq!(lake.rows("u").await.len(), 0);
    let mut change = lake.lake.transaction("main", "eva").await.unwrap();
    change.append_rows(&name("t"), rows_of(numbers("id", [3]))).await.unwrap();
    let states = change.commit_states("states").await.unwrap();
    assert_eq!(states[&name("t")].rows(), 3);
}

#[tokio::test]
async fn a_client_can_check_a_commit_after_a_lost_response() {
    let store = UncertainStore::new();
    let lake = with_table(Fixture::over(store.clone()).await).await;
    let mut change = lake.lake.transaction("main", "eva").await.unwrap();
    change.property("job", "one");
    change.drop(&name("t"), false).await.unwrap();
    store.loses.store(true, SeqCst);
    let error = change.commit("drop t").await.unwrap_err();
    assert!(error.code().has_unknown_outcome(), "{error}");
    assert!(lake.lake.iceberg_rest_requests().is_committed("main", "job", "one").await.unwrap());
    assert!(!lake.lake.iceberg_rest_requests().is_committed("main", "job", "two").await.unwrap());
}

#[tokio::test]
async fn permanent_contention_fails_within_a_bounded_time() {
    let store = UncertainStore::new();
    let lake = with_table(Fixture::over(store.clone()).await).await;
    let mut change = lake.lake.transaction("main", "eva").await.unwrap();
    change.drop(&name("t"), false).await.unwrap();
    store.overtakes.store(true, SeqCst);
    let before = store.asked.load(SeqCst);
    let error = change.commit("drop t").await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::CommitConflict);
    assert!(error.is_contended(), "{error}");
    let tries = store.asked.load(SeqCst) - before;
    assert!(tries <= 250, "{tries} tries");
}
