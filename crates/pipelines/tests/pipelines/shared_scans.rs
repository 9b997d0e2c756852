//! Columns that runs read from tables are read once: by the models of a run, and by later runs.

use std::collections::BTreeSet;
use std::sync::Arc;

use headwater_lake::{Lake, LakeOptions};
use headwater_model::{ProjectFiles, SystemClock};
use headwater_store::MemoryStore;
use headwater_tables::TablesOptions;

use crate::counted_reads::{CountedReads, CountingStore, FileRange};
use crate::support::{World, files};

/// A lake whose store counts reads, with the table `events`.
struct CountedWorld {
    world: World,
    store: Arc<CountedReads>,
    /// The data files of `events`.
    events: BTreeSet<String>,
}

impl CountedWorld {
    async fn new() -> Self {
        let store = Arc::new(CountedReads::default());
        let options = LakeOptions {
            store: Arc::new(MemoryStore::new()),
            object_store: Arc::new(CountingStore(Arc::clone(&store))),
            tables: TablesOptions::new("memory://lake"),
            clock: Arc::new(SystemClock),
        };
        let lake = Lake::open(options).await.unwrap();
        let world = World::over(tempfile::tempdir().unwrap(), lake, 1 << 30).await;
        let rows = "(1, 10, 'a', 0.5), (2, 20, 'b', 1.5)";
        let create = format!(
            "CREATE TABLE events AS SELECT * FROM (VALUES {rows}) AS t(id, amount, kind, weight)"
        );
        world.sql("main", &[&create]).await;
        let events = store.parquet_files().await;
        assert!(!events.is_empty());
        CountedWorld { world, store, events }
    }

    /// Runs a project, and returns the ranges of `events` that the run read.
    async fn reads_of(&self, project: &ProjectFiles) -> Vec<FileRange> {
        self.store.take();
        let ran = self.world.run(project).await;
        ran.report();
        let read = self.store.take().into_iter();
        read.filter(|(path, ..)| self.events.contains(path)).collect()
    }
}

/// A project with two models that read `events`.
fn project(total: &str) -> ProjectFiles {
    let kept = "-- headwater: materialization = replace\n";
    let amounts = format!("{kept}SELECT id, amount FROM events");
    let total = format!("{kept}SELECT {total} AS total FROM events");
    files("", &[("amounts.sql", &amounts), ("total.sql", &total)])
}

#[tokio::test]
async fn two_models_of_a_run_read_a_column_once() {
    let counted = CountedWorld::new().await;
    let reads = counted.reads_of(&project("sum(amount * 2)")).await;
    assert!(!reads.is_empty());
    let distinct: BTreeSet<&FileRange> = reads.iter().collect();
    assert_eq!(distinct.len(), reads.len(), "{reads:?}");
}

#[tokio::test]
async fn a_run_after_an_edit_reads_only_new_columns() {
    let counted = CountedWorld::new().await;
    let first = counted.reads_of(&project("sum(amount * 2)")).await;

    // The edited model reads the same column, which is in memory.
    let again = counted.reads_of(&project("sum(amount * 3)")).await;
    assert!(again.is_empty(), "{again:?}");
    let edited = project("sum(amount * 4)");
    let ran = counted.world.run(&edited).await;
    let usage = ran.step("total").usage;
    assert!(usage.bytes_read == 0 && usage.bytes_cached > 0, "{usage:?}");
    assert_eq!(ran.report().usage.bytes_cached, usage.bytes_cached);

    // Only the additional column is read.
    let added = counted.reads_of(&project("sum(amount * 4 + weight)")).await;
    assert!(!added.is_empty() && added.iter().all(|range| !first.contains(range)), "{added:?}");
    let total = counted.world.sql("main", &["SELECT total FROM total"]).await;
    assert!(total.contains("122"), "{total}");
}

#[tokio::test]
async fn rows_of_new_files_are_read_and_deleted_rows_are_not_shown() {
    let mut counted = CountedWorld::new().await;
    let project = project("sum(amount * 2)");
    counted.reads_of(&project).await;
    let known = counted.store.parquet_files().await;
    counted.world.sql("main", &["INSERT INTO events VALUES (3, 30, 'c', 2.5)"]).await;
    let appended: BTreeSet<String> =
        counted.store.parquet_files().await.difference(&known).cloned().collect();
    counted.events.extend(appended.iter().cloned());
    let reads = counted.reads_of(&project).await;
    assert!(!reads.is_empty() && reads.iter().all(|(path, ..)| appended.contains(path)));
    let ids = counted.world.sql("main", &["SELECT id FROM amounts ORDER BY id"]).await;
    assert!(ids.contains("| 1 ") && ids.contains("| 3 "), "{ids}");

    counted.world.sql("main", &["DELETE FROM events WHERE id = 1"]).await;
    let ran = counted.world.run(&project).await;
    ran.report();
    let ids = counted.world.sql("main", &["SELECT id FROM amounts ORDER BY id"]).await;
    assert!(!ids.contains("| 1 ") && ids.contains("| 2 ") && ids.contains("| 3 "), "{ids}");
    let total = counted.world.sql("main", &["SELECT total FROM total"]).await;
    assert!(total.contains("| 100 "), "{total}");
}

#[tokio::test]
async fn queries_neither_use_nor_fill_the_cache() {
    let counted = CountedWorld::new().await;
    let project = project("sum(amount * 2)");
    let query = ["SELECT sum(amount * 5) FROM events"];
    counted.store.take();
    counted.world.sql("main", &query).await;
    let queried = counted.store.take();
    let reads = counted.reads_of(&project).await;
    assert!(!queried.is_empty() && !reads.is_empty(), "the query has not filled the cache");
    counted.world.sql("main", &query).await;
    assert!(!counted.store.take().is_empty(), "the query does not use the cache of the run");
}
