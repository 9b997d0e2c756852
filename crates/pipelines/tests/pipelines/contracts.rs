//! Contracts of models: declared types and nulls, before the run and on the results.

use headwater_model::RunRequest;

use crate::support::{World, files};

const ORDERS: &str = "CREATE TABLE orders AS SELECT * FROM (VALUES (1, 19.5, 'a'), (2, 5.0, NULL), \
                      (3, 7.0, NULL)) AS t(id, amount, place)";

/// Returns a project with the SQL model `m`.
fn model(columns: &str, query: &str) -> headwater_model::ProjectFiles {
    let settings = "-- headwater: materialization = replace\n-- headwater: columns = ";
    files("", &[("m.sql", &format!("{settings}{columns}\n{query}"))])
}

#[tokio::test]
async fn types_and_columns_are_checked_before_the_run() {
    let world = World::new().await;
    world.sql("main", &[ORDERS]).await;
    for (columns, query, difference) in [
        ("id text", "SELECT id FROM orders", "`id` has the type bigint, not text"),
        ("id int", "SELECT id FROM orders", "`id` has the type bigint, not int"),
        ("id bigint", "SELECT id, place FROM orders", "`place` is not declared"),
        ("id bigint, x any", "SELECT id FROM orders", "`x` is missing"),
        (
            "id text, x any",
            "SELECT id FROM orders",
            "`x` is missing, `id` has the type bigint, not text",
        ),
    ] {
        let plan = world.plan(&model(columns, query)).await;
        let expected =
            format!("model `m` returned differ from its declaration: {difference} (m.sql:1)");
        assert!(plan.contains(&expected), "{columns}: {plan}");
    }
    let only_nulls = model("x text", "SELECT NULL AS x");
    assert_eq!(world.plan(&only_nulls).await, "m: first run");
    let right = model("id bigint not null, place", "SELECT id, place FROM orders");
    assert_eq!(world.run(&right).await.steps(), "m succeeded");
}

#[tokio::test]
async fn nulls_are_counted_and_the_run_changes_nothing() {
    let world = World::new().await;
    world.sql("main", &[ORDERS]).await;
    let right = model("id bigint not null", "SELECT id FROM orders WHERE id = 1");
    world.run(&right).await.report();

    let query = "SELECT nullif(id, 1) AS id, place FROM orders";
    let wrong = model("id bigint not null, place text not null", query);
    let lenient = |request: &mut RunRequest| request.strict = Some(false);
    let refusal = world.run_with(&wrong, lenient).await.refusal();
    let expected = "`id` has nulls in 1 row, `place` has nulls in 2 rows (m.sql:1)";
    assert!(refusal.contains(expected), "{refusal}");
    let rows = world.sql("main", &["SELECT * FROM m"]).await;
    assert!(rows.contains("| 1 ") && !rows.contains("place"), "{rows}");
}

#[tokio::test]
async fn the_result_of_a_python_model_is_checked() {
    let world = World::new().await;
    world.sql("main", &[ORDERS]).await;
    let project = |result: &str| {
        let code = format!(
            "import headwater\n\n\n@headwater.model(\n    materialization=\"replace\",\n    \
             columns={{\"id\": \"bigint not null\", \"place\": \"text\"}},\n)\n\
             def m(orders=headwater.Model(\"orders\")):\n    return {result}\n"
        );
        files("[defaults]\npython = \"3.11\"\n", &[("m.py", &code)])
    };
    for (result, difference) in [
        ("orders.select(['id'])", "`place` is missing"),
        ("orders.select(['id', 'place', 'amount'])", "`amount` is not declared"),
        ("[{'id': 1.5, 'place': 'a'}]", "`id` has the type double, not bigint"),
        ("[{'id': None, 'place': 'a'}, {'id': 1, 'place': None}]", "`id` has nulls in 1 row"),
    ] {
        let refusal = world.run(&project(result)).await.refusal();
        let expected =
            format!("model `m` returned differ from its declaration: {difference} (m.py:8)");
        assert!(refusal.contains(&expected), "{result}: {refusal}");
    }
    let right = project("orders.select(['id', 'place'])");
    assert_eq!(world.run(&right).await.steps(), "m succeeded");
}

#[tokio::test]
async fn declared_types_reach_the_readers_of_a_model() {
    let world = World::new().await;
    world.sql("main", &[ORDERS]).await;
    // The types of `source` are unknown, so the types of `parent` are known only from the
    // declaration of `parent`.
    let source = "import headwater\n\n\n@headwater.model()\n\
                  def source(orders=headwater.Model(\"orders\")):\n    return orders\n";
    let plan = async |child: &str| {
        let parent = "-- headwater: columns = id bigint, place text\nSELECT id, place FROM source";
        let others = [("source.py", source), ("parent.sql", parent), ("child.sql", child)];
        world.plan(&files("[defaults]\npython = \"3.11\"\n", &others)).await
    };
    let child = "-- headwater: columns = id text\nSELECT id FROM parent";
    let expected = "model `child` returned differ from its declaration: `id` has the type bigint, \
                    not text (child.sql:1)";
    let plan_of = plan(child).await;
    assert!(plan_of.contains(expected), "{plan_of}");
    let plan_of = plan("SELECT id, plase FROM parent").await;
    assert!(plan_of.contains("hint: Did you mean `place`?"), "{plan_of}");
}
