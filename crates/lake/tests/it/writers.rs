//! Concurrent writers in one process and in two processes: no commit is lost or partial.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use headwater_lake::Lake;
use headwater_model::{ErrorCode, RefSpec, ToProblem};

use crate::storage;
use crate::support::{Fixture, name, numbers, rows_of, schema};

/// The environment variables of the second process: the lake and the writer's number.
const CHILD: &str = "HEADWATER_TEST_WRITER";

const COMMITS: i64 = 12;

async fn make_table(lake: &Lake, table: &str) {
    let mut transaction = lake.transaction("main", "me").await.unwrap();
    transaction.create(&name(table), schema("id"), Vec::new(), BTreeMap::new()).await.unwrap();
    transaction.commit("make").await.unwrap();
}

/// Commits rows one by one to a shared table and to the writer's own table.
async fn write(lake: &Lake, writer: i64) {
    make_table(lake, &format!("own_{writer}")).await;
    for number in 0..COMMITS {
        let id = writer * 1000 + number;
        let mut transaction = lake.transaction("main", "writer").await.unwrap();
        transaction.append(&name("shared"), rows_of(numbers("id", [id]))).await.unwrap();
        let own = name(&format!("own_{writer}"));
        transaction.append(&own, rows_of(numbers("id", [id]))).await.unwrap();
        transaction.commit(&format!("row {id}")).await.unwrap();
    }
}

async fn ids(lake: &Fixture, table: &str) -> Vec<i64> {
    let mut ids: Vec<i64> =
        lake.rows(table).await.iter().map(|row| row["id"].as_i64().unwrap()).collect();
    ids.sort_unstable();
    ids
}

/// Checks that every row of every writer exists once, and that every commit is in the log.
async fn check(lake: &Fixture, writers: i64) {
    let all: Vec<i64> =
        (0..writers).flat_map(|w| (0..COMMITS).map(move |n| w * 1000 + n)).collect();
    assert_eq!(ids(lake, "shared").await, all);
    for writer in 0..writers {
        let own: Vec<i64> = (0..COMMITS).map(|n| writer * 1000 + n).collect();
        assert_eq!(ids(lake, &format!("own_{writer}")).await, own);
    }
    let log = lake.lake.catalog().log(&RefSpec::main(), 10_000, None).await.unwrap();
    let rows = log.iter().filter(|commit| commit.message.starts_with("row ")).count();
    assert_eq!(rows as i64, writers * COMMITS);
    // Every data file belongs to a commit: no file is written twice or is unreferenced.
    assert_eq!(lake.data_files() as i64, 2 * writers * COMMITS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn eight_writers_lose_no_commit() {
    let lake = Arc::new(Fixture::new().await);
    make_table(&lake.lake, "shared").await;
    // Half of the writers have their own handle, which shares no locks with the others, as in
    // another process.
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let lake = lake.clone();
            tokio::spawn(async move {
                if writer % 2 == 0 {
                    write(&lake.lake, writer).await;
                } else {
                    write(&storage::open_lake(&lake.lake_folder()).await, writer).await;
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    check(&lake, 8).await;
}

fn spawn_writer(lake: &Fixture, writer: i64) -> std::process::Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "writers::a_second_process", "--nocapture"])
        .env(CHILD, format!("{writer}:{}", lake.lake_folder().display()))
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// The writer in a second process. Does nothing if no other test has started it.
#[tokio::test]
async fn a_second_process() {
    let Ok(task) = std::env::var(CHILD) else { return };
    let (writer, folder) = task.split_once(':').unwrap();
    let lake = storage::open_lake(&PathBuf::from(folder)).await;
    write(&lake, writer.parse().unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_write_to_one_lake() {
    let lake = Fixture::new().await;
    make_table(&lake.lake, "shared").await;
    let mut children = [spawn_writer(&lake, 0), spawn_writer(&lake, 1)];
    write(&lake.lake, 2).await;
    for child in &mut children {
        assert!(child.wait().unwrap().success());
    }
    check(&lake, 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_concurrent_replacements_one_reports_a_conflict() {
    let lake = Arc::new(Fixture::new().await);
    make_table(&lake.lake, "shared").await;
    let barrier = Arc::new(tokio::sync::Barrier::new(2));
    let replace = |id: i64| {
        let (lake, barrier) = (lake.clone(), barrier.clone());
        tokio::spawn(async move {
            let other = storage::open_lake(&lake.lake_folder()).await;
            let mut transaction = other.transaction("main", "me").await.unwrap();
            transaction.overwrite(&name("shared"), rows_of(numbers("id", [id]))).await.unwrap();
            barrier.wait().await;
            transaction.commit("overwrite").await.map_err(|error| error.code())
        })
    };
    let results = [replace(1), replace(2)];
    let mut won = 0;
    for result in results {
        match result.await.unwrap() {
            Ok(_) => won += 1,
            Err(code) => assert_eq!(code, ErrorCode::CommitConflict),
        }
    }
    assert_eq!((won, ids(&lake, "shared").await.len()), (1, 1));
}
