//! Inputs that a function reads batch by batch, from tables and from other models.

use crate::support::{World, files};
use headwater_model::ProjectFiles;

const ROWS: i64 = 400_000;

async fn world(table_quota: u64) -> World {
    let world = World::with_memory(table_quota).await;
    let rows = format!(
        "CREATE TABLE t AS SELECT value AS id, 'name ' || value AS name, value % 10 AS digit \
         FROM generate_series(1, {ROWS}) AS s(value)"
    );
    world.sql("main", &[&rows]).await;
    world
}

fn project(source: &str) -> ProjectFiles {
    let source = format!("import headwater\n\n{source}");
    files("[defaults]\npython = \"3.11\"\n", &[("models/m.py", &source)])
}

#[tokio::test]
async fn a_model_reads_a_table_larger_than_its_memory_and_the_quota() {
    let world = world(0).await;
    let source = r#"
@headwater.model(materialization="replace", memory="256MiB")
def seen(t=headwater.Model("t", batches=True)):
    import pyarrow.compute as pc

    mean = sum(pc.sum(batch["id"]).as_py() for batch in t) / 400_000
    largest, rows = 0, 0
    for batch in t.to_batches():
        assert batch.schema.names == ["id", "name", "digit"]
        largest = max(largest, len(batch))
        rows += batch.num_rows
    assert largest > 50_000, largest
    return [{"mean": mean, "rows": rows}]


@headwater.model(materialization="replace")
def passed(t=headwater.Model("t", columns=["name", "id"], filter="digit = 3", batches=True)):
    for batch in t:
        assert batch.schema.names == ["name", "id"]
        yield batch


@headwater.expectation()
def ends_with_three(passed=headwater.Model("passed", batches=True)):
    import pyarrow.compute as pc

    return all(pc.all(pc.ends_with(batch["name"], "3")).as_py() for batch in passed.to_batches())
"#;
    let ran = world.run(&project(source)).await;
    ran.report();
    let shown = world.sql("main", &["SELECT * FROM seen"]).await;
    assert!(shown.contains("| 200000.5 | 400000 |"), "{shown}");
    let shown = world.sql("main", &["SELECT count(*), min(id), max(id) FROM passed"]).await;
    assert!(shown.contains("| 40000 ") && shown.contains("| 399993 "), "{shown}");
    // A table that is read twice is counted twice.
    let rows = |step: &str| ran.step(step).usage.rows_read;
    assert_eq!((rows("seen"), rows("passed")), (2 * 400_000, 40_000));
    assert!(ran.step("seen").usage.bytes_in > 2 * 400_000 * 16);
    assert_eq!((world.table_quota.memory_bytes(), world.table_quota.disk_bytes()), (0, 0));
}

#[tokio::test]
async fn batches_of_other_models_have_the_same_schema() {
    let world = world(1 << 30).await;
    let source = r#"
@headwater.model()
def words(t=headwater.Model("t", batches=True)):
    import pyarrow

    table = t.to_reader().read_all()
    return table.append_column("word", table["name"].dictionary_encode())


@headwater.model(materialization="replace")
def read(
    whole=headwater.Model("words", batches=True),
    part=headwater.Model("words", columns=["word"], filter="id <= 1000", batches=True),
):
    import pyarrow

    assert pyarrow.types.is_dictionary(whole.schema.field("word").type)
    words = [word for batch in part for word in batch["word"].to_pylist()]
    rows = sum(len(batch) for batch in whole) + sum(len(batch) for batch in whole)
    return [{"rows": rows, "words": len(set(words))}]
"#;
    world.run(&project(source)).await.report();
    let shown = world.sql("main", &["SELECT * FROM read"]).await;
    assert!(shown.contains("| 800000 | 1000 "), "{shown}");
    assert_eq!(world.table_quota.memory_bytes(), 0);
}

#[tokio::test]
async fn a_failed_input_query_is_the_error_of_the_run() {
    let world = world(1 << 30).await;
    let source = r#"
@headwater.model(materialization="replace")
def seen(t=headwater.Model("t", filter="100 / (id - 300000) < 1000", batches=True)):
    try:
        return [{"rows": sum(len(batch) for batch in t)}]
    except Exception:
        return [{"rows": 0}]

"#;
    let ran = world.run(&project(source)).await;
    let refusal = ran.refusal();
    assert!(refusal.contains("division by zero") && refusal.contains("models/m.py:5"), "{refusal}");
    assert!(refusal.contains("`seen`"), "{refusal}");
    assert_eq!(world.table_quota.memory_bytes(), 0);
}

#[tokio::test]
async fn columns_that_a_model_does_not_select_are_not_read() {
    let world = world(1 << 30).await;
    let source = r#"
@headwater.model(materialization="replace")
def idle(t=headwater.Model("t", batches=True), u=headwater.Model("t", filter="id > 7", batches=True)):
    assert t.schema.names == u.schema.names == ["id", "name", "digit"]
    return [{"columns": len(t.schema)}]
"#;
    let ran = world.run(&project(source)).await;
    ran.report();
    let usage = ran.step("idle").usage;
    assert_eq!((usage.rows_read, usage.bytes_read), (0, 0));
}
