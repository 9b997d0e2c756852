//! Tests specific to the SQLite store: durability, concurrent use, and errors.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use headwater_model::{ErrorCode, ObjectId, ToProblem};
use headwater_store::{
    Error, KeyRange, RefPrecondition, SqliteOptions, SqliteStore, Store, WriteBatch,
};
use tempfile::TempDir;

use crate::suite::{append, count, set, text};

fn lake() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("lake.db");
    (folder, path)
}

async fn open(path: &std::path::Path) -> SqliteStore {
    SqliteStore::open(path).await.expect("the store opens")
}

#[tokio::test]
async fn applied_batches_survive_reopening() {
    let (_folder, path) = lake();
    let mut batch = set("main", RefPrecondition::Absent, "1");
    batch.merge(append("journal", &[("key", Some("value"))]));
    batch.objects.push(text("object"));
    open(&path).await.apply(batch).await.expect("applied");
    let store = open(&path).await;
    assert_eq!(store.reference("main").await.expect("read"), Some(text("1")));
    assert_eq!(store.object(&ObjectId::of(b"object")).await.expect("read"), Some(text("object")));
    let next = store.apply(append("journal", &[("key", Some("new"))])).await.expect("applied");
    assert_eq!(next.positions, [2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_stores_on_one_file_see_each_others_writes_immediately() {
    let (_folder, path) = lake();
    let (one, two) = (Arc::new(open(&path).await), Arc::new(open(&path).await));
    for index in 0..20 {
        let name = format!("ref/{index}");
        one.apply(set(&name, RefPrecondition::Absent, "1")).await.expect("applied");
        assert_eq!(two.reference(&name).await.expect("read"), Some(text("1")));
        two.apply(set(&name, RefPrecondition::Value(text("1")), "2")).await.expect("applied");
        assert_eq!(one.reference(&name).await.expect("read"), Some(text("2")));
    }
    let stores = [one.clone(), two.clone(), one.clone(), two];
    let writers = stores.map(|store| {
        tokio::spawn(async move {
            for _ in 0..25 {
                count(&*store, "shared", "writer").await;
            }
        })
    });
    for writer in writers {
        writer.await.expect("the writer ends well");
    }
    assert_eq!(one.reference("shared").await.expect("read"), Some(text("100")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_is_checkpointed_while_the_store_is_open() {
    let (_folder, path) = lake();
    let store = open(&path).await;
    let bytes = || std::fs::metadata(&path).expect("the file is there").len();
    let before = bytes();
    for index in 0..200 {
        let name = format!("ref/{index}/{}", "x".repeat(200));
        store.apply(set(&name, RefPrecondition::Absent, "1")).await.expect("applied");
    }
    let checkpointed = async {
        while bytes() < before + 20 * 1024 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), checkpointed)
        .await
        .expect("the log is checkpointed");
    store.apply(set("main", RefPrecondition::Absent, "1")).await.expect("applied");
    let (last, other) = (format!("ref/199/{}", "x".repeat(200)), open(&path).await);
    assert_eq!(other.reference(&last).await.expect("read"), Some(text("1")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_file_can_be_opened_concurrently() {
    let (_folder, path) = lake();
    let opening = (0..8).map(|index| {
        let path = path.clone();
        tokio::spawn(async move {
            let store = open(&path).await;
            let name = format!("ref/{index}");
            store.apply(set(&name, RefPrecondition::Absent, "1")).await.expect("applied");
        })
    });
    for task in opening.collect::<Vec<_>>() {
        task.await.expect("it opens");
    }
    let refs = open(&path).await.references("ref/", None, 100).await.expect("read");
    assert_eq!(refs.len(), 8);
}

#[tokio::test]
async fn a_full_disk_is_reported_and_loses_nothing() {
    let (_folder, path) = lake();
    let options = SqliteOptions { bytes_max: Some(400_000) };
    let store = SqliteStore::open_with(&path, options).await.expect("the store opens");
    let mut applied = 0_u64;
    let error = loop {
        let mut batch = append("journal", &[(&format!("{applied:05}"), Some("value"))]);
        batch.objects.push(Bytes::from(vec![applied as u8; 10_000 + applied as usize]));
        match store.apply(batch).await {
            Ok(_) => applied += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::DiskFull), "{error:?}");
    assert_eq!(error.code(), ErrorCode::DiskFull);
    assert!(applied > 10);
    let entries = store.scan("journal", &KeyRange::all()).await.expect("read");
    assert_eq!(entries.len() as u64, applied);
    drop(store);
    let store = open(&path).await;
    assert_eq!(store.scan("journal", &KeyRange::all()).await.expect("read"), entries);
    let large =
        WriteBatch { objects: vec![Bytes::from(vec![1; 500_000])], ..WriteBatch::default() };
    store.apply(large).await.expect("there is space again");
}

#[tokio::test]
async fn a_file_that_is_not_a_database_is_reported_and_not_changed() {
    let (_folder, path) = lake();
    let content = "this is plain text, not a database. ".repeat(100);
    std::fs::write(&path, &content).expect("written");
    let error = SqliteStore::open(&path).await.expect_err("no database");
    assert_eq!(error.code(), ErrorCode::Corrupt, "{error:?}");
    assert_eq!(std::fs::read_to_string(&path).expect("read"), content);
}

#[tokio::test]
async fn a_missing_folder_is_reported() {
    let (_folder, path) = lake();
    let path = path.join("below/lake.db");
    let error = SqliteStore::open(&path).await.expect_err("no folder");
    assert_eq!(error.code(), ErrorCode::Storage);
    assert!(error.to_string().contains("lake.db"), "{error}");
}

#[tokio::test]
async fn a_cancelled_caller_does_not_break_atomicity() {
    let (_folder, path) = lake();
    let store = open(&path).await;
    for index in 0..50 {
        let name = format!("ref/{index}");
        let mut batch = set(&name, RefPrecondition::Absent, "1");
        batch.merge(append("journal", &[(&name, Some("1"))]));
        let mut applying = Box::pin(store.apply(batch));
        let _ = futures::poll!(&mut applying);
        drop(applying);
        let _ = futures::poll!(&mut Box::pin(store.reference(&name)));
    }
    store.apply(set("last", RefPrecondition::Absent, "1")).await.expect("applied");
    let refs = store.references("ref/", None, 100).await.expect("read").len();
    let entries = store.scan("journal", &KeyRange::all()).await.expect("read").len();
    assert_eq!(refs, entries, "each batch is applied completely or not at all");
}
