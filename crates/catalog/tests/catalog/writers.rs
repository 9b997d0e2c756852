//! Concurrent writers, with one and with several catalogs on a file: no commit is lost.

use std::collections::BTreeSet;
use std::sync::Arc;

use headwater_catalog::{Catalog, Error};
use headwater_model::{CommitId, CreateRef, RefSpec};
use headwater_store::SqliteStore;

use crate::support::{fork, name, open, pairs, request, set, tables};

const WRITERS: u32 = 8;
const COMMITS: u32 = 15;

/// Commits to a table that no other writer changes. So no commit may be rejected.
async fn write_own_table(catalog: Catalog, writer: u32) -> Vec<CommitId> {
    let table = format!("table_{writer}");
    let mut made = Vec::new();
    for version in 1..=COMMITS {
        let from = (version > 1).then(|| version - 1);
        let commit = catalog.commit(request("main", &[(&table, from, Some(version))])).await;
        made.push(commit.expect("others do not touch this table").id);
    }
    made
}

async fn check_no_commit_is_lost(catalogs: Vec<Catalog>) {
    let first = catalogs[0].clone();
    let writers = (0..WRITERS).map(|writer| {
        let catalog = catalogs[writer as usize % catalogs.len()].clone();
        tokio::spawn(write_own_table(catalog, writer))
    });
    let mut made = BTreeSet::new();
    for writer in writers.collect::<Vec<_>>() {
        made.extend(writer.await.expect("the writer ends well"));
    }
    let log = first.log(&RefSpec::main(), usize::MAX, None).await.expect("a log");
    assert_eq!(log.len() as u32, WRITERS * COMMITS + 1);
    let logged: BTreeSet<CommitId> = log.iter().map(|commit| commit.id).collect();
    assert!(made.is_subset(&logged));
    let version = format!("v{COMMITS}");
    let names: Vec<String> = (0..WRITERS).map(|writer| format!("table_{writer}")).collect();
    let expected: Vec<_> = names.iter().map(|name| (name.as_str(), version.as_str())).collect();
    assert_eq!(tables(&first, "main").await, pairs(&expected));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_writers_of_one_catalog_lose_no_commit() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = SqliteStore::open(&folder.path().join("lake.db")).await.expect("a store");
    check_no_commit_is_lost(vec![open(Arc::new(store)).await]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_writers_that_share_only_the_file_lose_no_commit() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("lake.db");
    let mut catalogs = Vec::new();
    for _ in 0..WRITERS {
        let store = SqliteStore::open(&path).await.expect("a store");
        catalogs.push(open(Arc::new(store)).await);
    }
    check_no_commit_is_lost(catalogs).await;
}

/// Increments the version of a table shared by all writers.
async fn increment(catalog: &Catalog) -> usize {
    let mut rejected = 0;
    loop {
        let found = tables(catalog, "main").await;
        let version: u32 = found[0].1[1..].parse().expect("a version");
        let asked = request("main", &[("a", Some(version), Some(version + 1))]);
        match catalog.commit(asked).await {
            Ok(_) => return rejected,
            Err(Error::TableChanged { table, .. }) => assert_eq!(table, name("a")),
            Err(error) => panic!("{error}"),
        }
        rejected += 1;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_writers_of_one_table_get_a_conflict_and_lose_no_update() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("lake.db");
    let mut writers = Vec::new();
    let first = open(Arc::new(SqliteStore::open(&path).await.expect("a store"))).await;
    set(&first, "main", &[("a", 1)]).await.expect("a commit");
    for _ in 0..WRITERS {
        let catalog = open(Arc::new(SqliteStore::open(&path).await.expect("a store"))).await;
        writers.push(tokio::spawn(async move {
            for _ in 0..5 {
                increment(&catalog).await;
            }
        }));
    }
    for writer in writers {
        writer.await.expect("the writer ends well");
    }
    let expected = format!("v{}", 1 + WRITERS * 5);
    assert_eq!(tables(&first, "main").await, pairs(&[("a", &expected)]));
    let log = first.log(&RefSpec::main(), usize::MAX, None).await.expect("a log");
    assert_eq!(log.len() as u32, 2 + WRITERS * 5);
}

#[tokio::test]
async fn changes_of_another_process_are_always_seen() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("lake.db");
    let here = open(Arc::new(SqliteStore::open(&path).await.expect("a store"))).await;
    let there = open(Arc::new(SqliteStore::open(&path).await.expect("a store"))).await;
    set(&here, "main", &[("a", 1)]).await.expect("a commit");
    let moved = set(&there, "main", &[("a", 2)]).await.expect("a commit");
    assert_eq!(fork(&here, "dev").await.commit, moved.id, "a branch begins at the newest commit");
    set(&there, "main", &[("a", 3)]).await.expect("a commit");
    let stale = here.commit(request("main", &[("a", Some(2), Some(9))])).await;
    let rejected = matches!(stale, Err(Error::TableChanged { change, .. }) if change == "appended");
    assert!(rejected, "a table that changed elsewhere");
    here.commit(request("main", &[("a", Some(3), Some(4))])).await.expect("as it is now");
    there.protect_branch("main", true).await.expect("protected");
    assert!(matches!(set(&here, "main", &[("a", 5)]).await, Err(Error::Protected { .. })));
    there.protect_branch("main", false).await.expect("not any more");
    set(&here, "main", &[("a", 5)]).await.expect("a commit");
    there.delete_branch("dev").await.expect("deleted");
    let from = Some("dev".parse().expect("a ref"));
    let request = CreateRef { name: "child".into(), from, if_not_exists: false };
    let error = here.create_branch(request).await.expect_err("it is gone");
    assert!(matches!(error, Error::RefNotFound { .. }), "{error}");
    assert!(matches!(set(&here, "dev", &[("a", 6)]).await, Err(Error::RefNotFound { .. })));
}
