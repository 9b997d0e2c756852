//! Runs the conformance suite on every backend, and the tests specific to SQLite: several
//! processes, crashes, full disks.

mod processes;
mod sqlite;
mod suite;

use headwater_store::{MemoryStore, SqliteStore};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_conforms() {
    suite::run(std::sync::Arc::new(MemoryStore::new())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_conforms() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = SqliteStore::open(&folder.path().join("lake.db")).await.expect("a new store opens");
    suite::run(std::sync::Arc::new(store)).await;
}
