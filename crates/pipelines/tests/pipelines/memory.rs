//! Intermediate rows: in memory up to the quota, then on disk, and deleted when the run ends.

use crate::support::{World, files};
use headwater_model::ProjectFiles;

const MODELS: &str = r#"
import headwater
import pyarrow.compute as pc


@headwater.model()
@headwater.python("3.11")
def handed_on(longer=headwater.Model("longer")):
    for batch in longer.to_batches():
        yield batch


@headwater.model()
@headwater.python("3.11")
def chosen(handed_on=headwater.Model("handed_on", columns=["id", "name"], filter="id % 2 = 0")):
    return handed_on.append_column("twice", pc.multiply(handed_on["id"], 2))


@headwater.expectation()
@headwater.python("3.11")
def all_even(chosen=headwater.Model("chosen")):
    return set(pc.bit_wise_and(chosen["id"], 1).unique().to_pylist()) == {0}
"#;

fn project() -> ProjectFiles {
    let sum = "-- headwater: materialization = replace\n\
               SELECT count(*) AS n, sum(twice) AS twice, max(l.name) AS name, min(length(note)) AS note\n\
               FROM chosen AS c JOIN longer AS l ON c.id = l.id";
    files(
        "",
        &[
            ("long.sql", "SELECT id, 'name ' || id AS name FROM t"),
            ("longer.sql", "SELECT id, name, repeat(name, 5) AS note FROM long"),
            ("models.py", MODELS),
            ("sums.sql", sum),
        ],
    )
}

async fn world(table_quota: u64) -> World {
    let world = World::with_memory(table_quota).await;
    let rows = "CREATE TABLE t AS SELECT value AS id FROM generate_series(1, 100000) AS s(value)";
    world.sql("main", &[rows]).await;
    world
}

#[tokio::test]
async fn a_run_has_the_same_result_with_little_and_much_memory() {
    let (small, large) = (world(256 << 10).await, world(1 << 30).await);
    let mut answers = Vec::new();
    for world in [&small, &large] {
        world.run(&project()).await.report();
        answers.push(world.sql("main", &["SELECT * FROM sums"]).await);
        assert_eq!((world.table_quota.memory_bytes(), world.table_quota.disk_bytes()), (0, 0));
    }
    assert_eq!(answers[0], answers[1]);
    assert!(answers[0].contains("| 50000 | 5000100000 | name 99998 |"), "{}", answers[0]);
    assert_eq!(large.table_quota.disk_bytes_ever(), 0);
    assert!(
        small.table_quota.disk_bytes_ever() > 10 << 20,
        "{}",
        small.table_quota.disk_bytes_ever()
    );
    let left = std::fs::read_dir(small.folder.path().join("rows")).unwrap().count();
    assert_eq!(left, 0, "nothing is left");
}

#[tokio::test]
async fn rows_on_disk_are_deleted_when_a_run_is_stopped() {
    let world = world(0).await;
    let endless = "import headwater\n\n@headwater.model()\n@headwater.python(\"3.11\")\n\
                   def endless(long=headwater.Model(\"long\")):\n    print(1)\n    while True: pass\n";
    let long = ("long.sql", "SELECT id, 'name ' || id AS name FROM t");
    let ran = world.run_and_stop_when_printed(&files("", &[long, ("m.py", endless)])).await;
    assert!(ran.outcome.is_err() && world.table_quota.disk_bytes_ever() > 1 << 20);
    assert_eq!((world.table_quota.memory_bytes(), world.table_quota.disk_bytes()), (0, 0));
}

#[tokio::test]
async fn a_model_that_fails_halfway_writes_nothing() {
    let world = world(0).await;
    let bad = "SELECT id, 100 / (id - 99999) AS share FROM t ORDER BY id";
    let child = "-- headwater: materialization = replace\nSELECT * FROM bad";
    let ran = world.run(&files("", &[("bad.sql", bad), ("child.sql", child)])).await;
    assert!(ran.refusal().starts_with("bad_row: `bad` failed (bad.sql:1)"), "{}", ran.refusal());
    assert_eq!((world.table_quota.memory_bytes(), world.table_quota.disk_bytes()), (0, 0));
}

#[tokio::test]
async fn a_returned_table_is_charged_while_it_is_written() {
    let world = world(4 << 20).await;
    let source = "import headwater\n\n@headwater.model(materialization=\"append\")\n\
                  @headwater.python(\"3.11\")\ndef large():\n    import pyarrow as pa\n    \
                  return pa.table({\"n\": pa.array(range(1_000_000), pa.int64())})\n";
    world.run(&files("", &[("m.py", source)])).await.report();
    assert!(
        world.table_quota.disk_bytes_ever() >= 8_000_000,
        "{}",
        world.table_quota.disk_bytes_ever()
    );
    assert_eq!((world.table_quota.memory_bytes(), world.table_quota.disk_bytes()), (0, 0));
    assert!(world.sql("main", &["SELECT count(*) FROM large"]).await.contains("| 1000000 "));
}
