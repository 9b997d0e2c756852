//! The calls of functions in Python: their instances, their memory, and the steps and functions
//! that wait for the calls.

use futures::TryStreamExt;
use headwater_engine::SessionOptions;
use headwater_model::{JobId, PROPERTY_JOB, StepStatus, TableName};
use headwater_tables::ViewDefinition;

use crate::sql_functions::{TWICE, check, values, world};
use crate::support::{World, files};

/// A function that returns the number of calls that its process has executed.
const COUNTED: &str =
    "CREATE OR REPLACE FUNCTION counted(a BIGINT) RETURNS BIGINT LANGUAGE python AS $$
calls = []

def counted(a):
    calls.append(1)
    return [len(calls)] * len(a)
$$";

/// Runs statements in one session and returns the result of the last.
async fn run_in(world: &World, options: SessionOptions, statements: &[&str]) -> String {
    let session = world.engine.session(options).unwrap();
    let mut shown = String::new();
    for statement in statements {
        let rows = async {
            let answer = session.execute(*statement).await?;
            answer.stream.try_collect::<Vec<_>>().await
        };
        shown = match rows.await {
            Ok(rows) => arrow::util::pretty::pretty_format_batches(&rows).unwrap().to_string(),
            Err(error) => return error.to_string(),
        };
    }
    shown
}

#[tokio::test]
async fn a_model_that_reads_batches_does_not_wait_for_a_function_of_its_input() {
    let world = world().await;
    world.sql("main", &[TWICE]).await;
    // The memory limits of the model and of an instance of the function together exceed the memory
    // for all functions.
    let model = "import headwater

@headwater.model(materialization=\"replace\", memory=\"7680MiB\")
def total(t=headwater.Model(\"t\", filter=\"twice(n) > 2\", batches=True)):
    return [{\"rows\": sum(len(batch) for batch in t)}]
";
    let project = files("", &[("models/total.py", model)]);
    let ran = world.run(&project).await;
    assert!(ran.all(StepStatus::Succeeded));
    let shown = world.sql("main", &["SELECT * FROM total"]).await;
    assert_eq!(values(&shown), "1", "{shown}");
}

#[tokio::test]
async fn a_query_of_a_function_calls_no_function() {
    let world = world().await;
    world.sql("main", &[TWICE, "CREATE VIEW doubled AS SELECT twice(n) AS m FROM t"]).await;
    let options = || SessionOptions { calls_functions: false, ..SessionOptions::default() };
    for sql in ["SELECT twice(1)", "SELECT m FROM doubled"] {
        let shown = run_in(&world, options(), &[sql]).await;
        assert!(shown.contains("a call of the function `twice` in a query"), "{sql}: {shown}");
    }
    let shown = run_in(&world, options(), &["SELECT upper('a')"]).await;
    assert_eq!(values(&shown), "A", "{shown}");
}

#[tokio::test]
async fn two_statements_of_one_job_share_no_instance() {
    let world = world().await;
    world.sql("main", &[COUNTED]).await;
    let job = JobId::generate().to_string();
    for _ in 0..2 {
        let properties = [(PROPERTY_JOB.to_owned(), job.clone())].into();
        let options = SessionOptions { properties, ..SessionOptions::default() };
        let shown = run_in(&world, options, &["SELECT counted(1)"]).await;
        assert_eq!(values(&shown), "1", "{shown}");
    }
    // Statements of the same session also have separate instances.
    let statements = ["SELECT counted(1)", "SELECT counted(1)"];
    let shown = run_in(&world, SessionOptions::default(), &statements).await;
    assert_eq!(values(&shown), "1", "{shown}");
}

#[tokio::test]
async fn the_statement_that_is_explained_calls_its_functions_once() {
    let world = world().await;
    world.sql("main", &[COUNTED]).await;
    let session = world.engine.session(SessionOptions::default()).unwrap();
    let sql = "EXPLAIN ANALYZE SELECT * FROM (VALUES (counted(1))) AS v(a)";
    let answer = session.execute(sql).await.unwrap();
    answer.stream.try_collect::<Vec<_>>().await.unwrap();
    assert_eq!(answer.metrics.usage().calls, 1);
}

#[tokio::test]
async fn large_values_are_passed_in_parts() {
    let world = world().await;
    let create = "CREATE TABLE texts AS SELECT repeat('x', 1000000) AS s \
                  FROM generate_series(1, 150) AS g(i)";
    world.sql("main", &[create]).await;
    let (code, signature) =
        ("def f(a):\n    return [len(a)] * len(a)", "(a VARCHAR) RETURNS BIGINT");
    let shown = check(&world, signature, code, "SELECT max(f(s)) < 150 FROM texts").await;
    assert_eq!(values(&shown), "true", "{shown}");
}

#[tokio::test]
async fn the_namespace_of_a_session_is_found_in_any_case() {
    let world = world().await;
    let options = SessionOptions { namespace: "PUBLIC".to_owned(), ..SessionOptions::default() };
    let shown = run_in(&world, options, &[TWICE, "SELECT twice(n) FROM t WHERE n = 2"]).await;
    assert_eq!(values(&shown), "4", "{shown}");
}

#[tokio::test]
async fn a_call_is_not_repeated_by_its_alias() {
    let world = world().await;
    world.sql("main", &[TWICE]).await;
    for sql in [
        "SELECT twice(n) AS m, m + 1 AS o FROM t",
        "SELECT public.twice(n) AS m FROM t WHERE m > 2",
    ] {
        let shown = world.sql("main", &[sql]).await;
        assert!(shown.contains("the alias `m` in the same SELECT"), "{sql}: {shown}");
    }
}

#[tokio::test]
async fn no_fraction_and_no_time_of_day_is_lost() {
    let world = world().await;
    let decimal = "(a DECIMAL(10, 2)) RETURNS DECIMAL(10, 2)";
    let same = "def f(a):\n    return a";
    let midnight = "import datetime\ndef f(a):\n    return [datetime.datetime(2026, 11, 26)]";
    let noon = "import datetime\ndef f(a):\n    return [datetime.datetime(2026, 11, 26, 12)]";
    for (signature, code, query, expected) in [
        (decimal, same, "SELECT f(1.25)", "1.25"),
        (decimal, same, "SELECT f(1.125)", "more decimal places"),
        (decimal, same, "SELECT f(CAST(1 AS DECIMAL(12, 4)))", "the parameter `a` of `f` takes"),
        ("(a BIGINT[]) RETURNS BIGINT", same, "SELECT f(['1'])", "the parameter `a` of `f` takes"),
        ("(a BIGINT) RETURNS DATE", midnight, "SELECT f(1)", "2026-11-26"),
        ("(a BIGINT) RETURNS DATE", noon, "SELECT f(1)", "returned timestamps with a time of day"),
    ] {
        let shown = check(&world, signature, code, query).await;
        assert!(shown.contains(expected), "{query}: {shown}");
    }
}

#[tokio::test]
async fn a_step_runs_again_when_a_function_of_a_filter_or_a_condition_changes() {
    let world = world().await;
    world.sql("main", &[TWICE]).await;
    let python = "import headwater

@headwater.model(materialization=\"replace\")
def filtered(t=headwater.Model(\"t\", filter=\"twice(n) > 2\")):
    return t
";
    let checked = "-- headwater: materialization = replace
-- headwater: expect = twice(n) > 0
SELECT n FROM t WHERE n IS NOT NULL";
    let project = files("", &[("models/filtered.py", python), ("models/checked.sql", checked)]);
    assert!(world.run(&project).await.all(StepStatus::Succeeded));
    assert!(world.run(&project).await.all(StepStatus::Unchanged));
    world.sql("main", &[&TWICE.replace("(a, 2)", "(a, 3)")]).await;
    assert!(world.run(&project).await.all(StepStatus::Succeeded));
    let shown = world.sql("main", &["SELECT count(*) FROM filtered"]).await;
    assert_eq!(values(&shown), "2", "{shown}");
}

#[tokio::test]
async fn functions_that_cannot_be_parsed_are_listed() {
    let world = world().await;
    world.sql("main", &[TWICE]).await;
    let name = TableName::of_function("public", "broken").unwrap();
    let view = world.lake.view(&"main".parse().unwrap()).await.unwrap();
    let function = TableName::of_function("public", "twice").unwrap();
    let entry = view.state().function(&function).await.unwrap().unwrap();
    let schema = view.load_view(&entry).await.unwrap().schema();
    let definition = ViewDefinition {
        schema,
        sql: "CREATE FUNCTION broken(a NEWER THAN THIS".to_owned(),
        dialect: "headwater".to_owned(),
        namespace: "public".to_owned(),
        engine: ("headwater".to_owned(), "9".to_owned()),
    };
    let mut transaction = world.lake.transaction("main", "tester").await.unwrap();
    transaction.views().create_function(&name, &definition, false).await.unwrap();
    transaction.commit("a function of a later version").await.unwrap();
    let shown = world.sql("main", &["SHOW FUNCTIONS"]).await;
    assert!(shown.contains("| broken "), "{shown}");
    assert!(shown.contains("| a BIGINT   | BIGINT  |"), "{shown}");
    let shown = world.sql("main", &["SELECT broken(1)"]).await;
    assert!(!shown.contains("there is no function"), "{shown}");
    world.sql("main", &["DROP FUNCTION broken"]).await;
    assert!(!world.sql("main", &["SHOW FUNCTIONS"]).await.contains("broken"));
}
