//! Functions in Python that SQL statements call.

use headwater_model::{MergeChoice, MergeRequest, RefSpec, StepStatus, ToProblem};

use crate::support::{World, files};

pub const TWICE: &str =
    "CREATE OR REPLACE FUNCTION twice(a BIGINT) RETURNS BIGINT LANGUAGE python AS $$
import pyarrow.compute as pc

def twice(a):
    return pc.multiply(a, 2)
$$";

/// Creates a lake with the table `t`.
pub async fn world() -> World {
    let world = World::new().await;
    let rows =
        "CREATE TABLE t AS SELECT * FROM (VALUES (1, 'a'), (2, 'b'), (NULL, NULL)) AS t(n, s)";
    world.sql("main", &[rows]).await;
    world
}

/// Creates the function `f` and returns the result of a query, or the error of either.
pub async fn check(world: &World, signature: &str, code: &str, query: &str) -> String {
    let create =
        format!("CREATE OR REPLACE FUNCTION f{signature} LANGUAGE python AS $$\n{code}\n$$");
    let created = world.sql("main", &[&create]).await;
    if created.contains("rows") { world.sql("main", &[query]).await } else { created }
}

/// Returns the values of a result with one column, separated by spaces. An empty value is null.
pub fn values(shown: &str) -> String {
    let lines = shown.lines().skip(3).filter_map(|line| line.strip_prefix('|'));
    let values = lines.map(|line| line.trim_matches(['|', ' '])).collect::<Vec<_>>().join(" ");
    values.trim_end().to_owned()
}

#[tokio::test]
async fn a_function_is_called_in_every_clause() {
    let world = world().await;
    world.sql("main", &[TWICE]).await;
    for (query, expected) in [
        ("SELECT twice(n) FROM t ORDER BY 1", "2 4"),
        ("SELECT n FROM t WHERE twice(n) > 2", "2"),
        ("SELECT twice(n) + 1 AS m FROM t WHERE n IS NOT NULL ORDER BY twice(n) DESC", "5 3"),
        ("SELECT twice(twice(n)) FROM t WHERE n = 1", "4"),
        ("SELECT public.twice(a => 21)", "42"),
        ("SELECT TWICE(n) FROM t WHERE n = 2", "4"),
        ("SELECT a.n FROM t AS a JOIN t AS b ON twice(a.n) = b.n", "1"),
        ("SELECT a.n FROM t AS a JOIN t AS b ON twice(a.n) > b.n AND a.n < b.n", ""),
        ("SELECT sum(twice(n)) FROM t", "6"),
        ("SELECT count(*) FROM t GROUP BY twice(n) ORDER BY 1", "1 1 1"),
        ("SELECT CASE WHEN n = 1 THEN twice(n) ELSE n END FROM t WHERE n > 0 ORDER BY 1", "2 2"),
        ("SELECT max(n) FROM t HAVING twice(max(n)) = 4", "2"),
        ("SELECT (SELECT max(twice(n)) FROM t)", "4"),
        ("SELECT twice(n) FROM t WHERE false", ""),
        ("SELECT lag(twice(n)) OVER (ORDER BY n) FROM t WHERE n = 2", ""),
        ("SELECT * FROM (VALUES (twice(4))) AS v(a)", "8"),
    ] {
        let shown = world.sql("main", &[query]).await;
        assert_eq!(values(&shown), expected, "{query}: {shown}");
    }
    world.sql("main", &["CREATE TABLE made AS SELECT twice(n) AS m FROM t"]).await;
    world.sql("main", &["INSERT INTO made VALUES (twice(50))"]).await;
    world.sql("main", &["INSERT INTO made SELECT twice(n) FROM t WHERE n = 1"]).await;
    world.sql("main", &["UPDATE made SET m = twice(m) WHERE twice(m) = 200"]).await;
    world.sql("main", &["DELETE FROM made WHERE twice(m) = 8"]).await;
    let shown = world.sql("main", &["SELECT m FROM made WHERE m IS NOT NULL ORDER BY m"]).await;
    assert_eq!(values(&shown), "2 2 200", "{shown}");
    world.sql("main", &["CREATE VIEW doubled AS SELECT twice(n) AS m FROM t"]).await;
    let shown = world.sql("main", &["SELECT max(m) FROM doubled"]).await;
    assert_eq!(values(&shown), "4", "{shown}");
}

#[tokio::test]
async fn arguments_are_arrays_and_results_are_converted() {
    let world = world().await;
    let (int, text) = ("(a BIGINT) RETURNS BIGINT", "(a VARCHAR, b BIGINT) RETURNS VARCHAR");
    for (signature, code, query, expected) in [
        // A scalar argument is passed as an array with one value for each row.
        (
            text,
            "def f(a, b):\n    assert len(a) == len(b)\n    return [f'{x}{y}' for x, y in zip(a.to_pylist(), b.to_pylist())]",
            "SELECT f(s, 7) FROM t WHERE n = 1",
            "a7",
        ),
        (
            int,
            "def f(a):\n    return [None] * len(a)",
            "SELECT f(n) IS NULL FROM t LIMIT 1",
            "true",
        ),
        (int, "def f(a):\n    return a.is_null().cast('int8')", "SELECT sum(f(n)) FROM t", "1"),
        (
            "(a INT) RETURNS DOUBLE",
            "def f(a):\n    return a",
            "SELECT f(n) FROM t WHERE n = 2",
            "2.0",
        ),
        (
            "(a DOUBLE) RETURNS DATE",
            "import datetime\ndef f(a):\n    return [datetime.date(2026, 11, 26)]",
            "SELECT f(1)",
            "2026-11-26",
        ),
        (
            "(a DECIMAL(10, 2)) RETURNS DECIMAL(10, 2)",
            "def f(a):\n    return a",
            "SELECT f(1.5)",
            "1.50",
        ),
        (
            "(a BIGINT[]) RETURNS BIGINT",
            "def f(a):\n    return [sum(x) for x in a.to_pylist()]",
            "SELECT f([1, 2, 3])",
            "6",
        ),
        (
            "(a VARCHAR) RETURNS STRUCT<x BIGINT>",
            "def f(a):\n    return [{'x': 5}]",
            "SELECT f('a')['x']",
            "5",
        ),
        ("(a BOOLEAN) RETURNS BOOLEAN", "f = lambda a: a", "SELECT f(true)", "true"),
        (
            "(a TIMESTAMP) RETURNS TIMESTAMP",
            "def f(a):\n    return a",
            "SELECT f(DATE '2026-11-26')",
            "2026-11-26T00:00:00",
        ),
    ] {
        let shown = check(&world, signature, code, query).await;
        assert_eq!(values(&shown), expected, "{signature} {code}: {shown}");
    }
    let numpy = "CREATE OR REPLACE FUNCTION f(a DOUBLE) RETURNS DOUBLE LANGUAGE python
        PACKAGES = ('numpy>=1.26') HANDLER = 'root' AS 'import numpy

def root(a):
    return numpy.sqrt(a.to_numpy(zero_copy_only=False))
'";
    let shown = world.sql("main", &[numpy, "SELECT f(16)"]).await;
    assert_eq!(values(&shown), "4.0", "{shown}");
}

#[tokio::test]
async fn wrong_code_is_rejected_when_the_function_is_created() {
    let world = world().await;
    let int = "(a BIGINT) RETURNS BIGINT";
    for (signature, code, expected) in [
        (int, "def g(a):\n    return a", "the code does not define the function `f`"),
        (int, "def f(a:\n    return a", "invalid Python: "),
        (int, "async def f(a):\n    return a", "the function `f` is asynchronous"),
        ("(a NUMBER8) RETURNS BIGINT", "def f(a):\n    return a", "the type `NUMBER8`"),
    ] {
        let shown = check(&world, signature, code, "SELECT 1").await;
        assert!(shown.contains(expected), "{code}: {shown}");
    }
    for (sql, expected) in [
        (
            "CREATE FUNCTION upper(a VARCHAR) RETURNS VARCHAR LANGUAGE python AS 'def upper(a): return a'",
            "`upper` is the name of a built-in function",
        ),
        (
            "CREATE FUNCTION f(a BIGINT) RETURNS BIGINT LANGUAGE python RUNTIME_VERSION = '2.7' \
             AS 'def f(a): return a'",
            "2.7",
        ),
        (
            "CREATE FUNCTION nowhere.f(a BIGINT) RETURNS BIGINT LANGUAGE python \
             AS 'def f(a): return a'",
            "namespace `nowhere`",
        ),
        ("DROP FUNCTION f", "function `f` is not in `main`"),
        ("SELECT f(1)", "there is no function `f`"),
    ] {
        let shown = world.sql("main", &[sql]).await;
        assert!(shown.contains(expected), "{sql}: {shown}");
    }
}

#[tokio::test]
async fn errors_name_the_function_and_the_line() {
    let world = world().await;
    let int = "(a BIGINT) RETURNS BIGINT";
    for (signature, code, expected) in [
        (
            int,
            "def f(a):\n    return half(a)\n\ndef half(a):\n    return 1 / 0",
            "the function `f` failed: ZeroDivisionError: division by zero (line 6 of its code)",
        ),
        (int, "import nothing_here\ndef f(a):\n    return a", "ModuleNotFoundError"),
        (int, "def f(a):\n    return [1]", "the function `f` returned 1 values for 3 rows"),
        (
            int,
            "def f(a):\n    return ['x'] * len(a)",
            "the function `f` returned values of type string, not int64",
        ),
        (
            int,
            "def f(a):\n    return [1.5] * len(a)",
            "the function `f` returned values that are not int64",
        ),
        (
            int,
            "import pyarrow\ndef f(a):\n    return pyarrow.array(['1'] * len(a))",
            "the function `f` returned values of type string, not int64",
        ),
        (int, "def f(a):\n    return 5", "the function `f` returned `int`, not a pyarrow array"),
        (int, "def f(a):\n    return None", "the function `f` returned `NoneType`"),
        (int, "def f(a, b):\n    return a", "TypeError"),
        (int, "import os\ndef f(a):\n    os._exit(3)", "function `f`"),
        (
            "(a BIGINT) RETURNS BIGINT TIMEOUT = '1s'",
            "def f(a):\n    while True:\n        pass",
            "function `f` ran longer than its limit of 1 s",
        ),
        (
            "(a BIGINT) RETURNS VARCHAR MEMORY = '256MiB'",
            "def f(a):\n    return ['x' * (1 << 30)] * len(a)",
            "function `f` needs more memory than its limit",
        ),
        (
            "(a BIGINT) RETURNS VARCHAR",
            "def f(a):\n    return ['x' * (100 << 20)] * len(a)",
            "the function `f` returned 300 MiB for one batch (limit 256 MiB)",
        ),
        (
            int,
            "import socket\ndef f(a):\n    socket.create_connection(('192.0.2.1', 80), 2)",
            "Error",
        ),
    ] {
        let shown = check(&world, signature, code, "SELECT f(n) FROM t").await;
        assert!(shown.contains(expected), "{code}: {shown}");
    }
    world.sql("main", &[TWICE]).await;
    for (query, expected) in [
        ("SELECT twice('a')", "the parameter `a` of `twice` takes BIGINT, not VARCHAR"),
        ("SELECT twice(1.5)", "the parameter `a` of `twice` takes BIGINT, not"),
        ("SELECT twice(1, 2)", "no signature of the function"),
        ("SELECT twice(b => 1)", "b"),
        ("SELECT twice(n) OVER () FROM t", "OVER with the function `twice` is not supported"),
        ("SELECT nowhere.twice(n) FROM t", "there is no function `nowhere.twice`"),
    ] {
        let shown = world.sql("main", &[query]).await;
        assert!(shown.contains(expected), "{query}: {shown}");
    }
}

#[tokio::test]
async fn a_statement_has_its_own_instances_for_many_batches() {
    let world = world().await;
    let code = "CREATE FUNCTION seen(a BIGINT) RETURNS VARCHAR LANGUAGE python AS $$
import os

calls = []

def seen(a):
    calls.append(len(a))
    return [f'{os.getpid()} {len(calls)}'] * len(a)
$$";
    world.sql("main", &[code]).await;
    world
        .sql("main", &["CREATE TABLE many AS SELECT value AS n FROM generate_series(1, 100000)"])
        .await;
    let query = "SELECT count(DISTINCT split_part(x, ' ', 1)) <= 2
        AND max(CAST(split_part(x, ' ', 2) AS BIGINT)) > 4 FROM (SELECT seen(n) AS x FROM many)";
    let shown = world.sql("main", &[query]).await;
    assert_eq!(values(&shown), "true", "{shown}");
    for _ in 0..2 {
        let shown = world.sql("main", &["SELECT split_part(seen(1), ' ', 2)"]).await;
        assert_eq!(values(&shown), "1", "globals are not shared by statements: {shown}");
    }
}

#[tokio::test]
async fn a_plan_that_is_only_shown_calls_no_function() {
    let world = world().await;
    let query = "EXPLAIN SELECT f(1), f(n) FROM t WHERE f(2) = 3";
    let code = "def f(a):\n    raise ValueError('called')";
    let shown = check(&world, "(a BIGINT) RETURNS BIGINT", code, query).await;
    assert!(shown.contains("physical_plan"), "{shown}");
    for (query, expected) in [
        ("EXPLAIN COST SELECT f(n) FROM t", "total"),
        ("DESCRIBE SELECT f(n) FROM t", "long"),
        ("EXPLAIN SELECT * FROM (VALUES (f(1))) AS v(a)", "EXPLAIN does not call the function"),
        ("SELECT f(1)", "ValueError: called"),
    ] {
        let shown = world.sql("main", &[query]).await;
        assert!(shown.to_lowercase().contains(&expected.to_lowercase()), "{query}: {shown}");
    }
}

#[tokio::test]
async fn a_function_is_an_object_of_its_branch() {
    let world = world().await;
    world.branch("dev").await;
    world.sql("dev", &[TWICE]).await;
    assert!(world.sql("main", &["SELECT twice(1)"]).await.contains("there is no function"));
    assert_eq!(values(&world.sql("dev", &["SELECT twice(1)"]).await), "2");
    let request = || MergeRequest::new(RefSpec::Name("dev".to_owned()));
    world.lake.merge("main", request(), "tester").await.unwrap();
    assert_eq!(values(&world.sql("main", &["SELECT twice(1)"]).await), "2");
    let thrice = TWICE.replace("(a, 2)", "(a, 3)");
    world.sql("dev", &[&thrice]).await;
    assert_eq!(values(&world.sql("main", &["SELECT twice(1)"]).await), "2");
    // Different changes on both sides are a conflict.
    let other = TWICE.replace("(a, 2)", "(a, 4)");
    world.sql("main", &[&other]).await;
    let merged = world.lake.merge("main", request(), "tester").await.unwrap();
    let conflict = merged.conflicts.first().expect("a conflict");
    assert_eq!(conflict.causes[0].message, "both sides changed the function");
    let choices = [("twice()".parse().unwrap(), MergeChoice::Theirs)].into();
    let resolved = MergeRequest { choices, ..request() };
    world.lake.merge("main", resolved, "tester").await.unwrap();
    assert_eq!(values(&world.sql("main", &["SELECT twice(1)"]).await), "3");
    // A function can have the name of a table or view, and lists of tables and views contain no
    // functions.
    world.sql("main", &["CREATE TABLE twice (a BIGINT)"]).await;
    assert!(!world.sql("main", &["SHOW VIEWS"]).await.contains("twice"));
    let shown = world.sql("main", &["SHOW FUNCTIONS"]).await;
    assert!(shown.contains("| public    | twice    | a BIGINT   | BIGINT  |"), "{shown}");
    let stolen = world.sql("main", &["CREATE VIEW \"twice()\" AS SELECT 1 AS a"]).await;
    assert!(stolen.contains("only the names of functions end with `()`"), "{stolen}");
    assert!(world.sql("main", &["DROP VIEW \"twice()\""]).await.contains("is not in"));
    assert!(world.sql("main", &["SELECT * FROM \"twice()\""]).await.contains("is not in"));
    assert!(world.sql("main", &["CREATE FUNCTION twice(a INT) RETURNS INT LANGUAGE python AS 'def twice(a): return a'"]).await.contains("function `twice` already exists"));
    world.sql("main", &["DROP FUNCTION twice"]).await;
    assert!(world.sql("main", &["SELECT twice(1)"]).await.contains("there is no function"));
    assert!(world.sql("main", &["DESCRIBE twice"]).await.contains("long"));
    world.sql("dev", &[TWICE]).await;
    let merged = world.lake.merge("main", request(), "tester").await.unwrap();
    let cause = &merged.conflicts.first().expect("a conflict").causes[0].message;
    assert_eq!(cause, "the target dropped the function, and the source changed it");
}

#[tokio::test]
async fn a_statement_keeps_the_function_that_it_started_with() {
    use futures::StreamExt;
    use headwater_engine::SessionOptions;

    let world = world().await;
    world.sql("main", &[TWICE]).await;
    world
        .sql("main", &["CREATE TABLE many AS SELECT value AS n FROM generate_series(1, 60000)"])
        .await;
    let session = world.engine.session(SessionOptions::default()).unwrap();
    let mut rows = session.execute("SELECT twice(n) FROM many").await.unwrap().stream;
    rows.next().await.unwrap().unwrap();
    world.sql("main", &["DROP FUNCTION twice"]).await;
    let mut count = 0;
    while let Some(batch) = rows.next().await {
        count += batch.map_err(|error| error.to_problem()).unwrap().num_rows();
    }
    assert!(count > 0, "the rest of the rows follows");
}

#[tokio::test]
async fn usage_counts_the_calls_of_a_statement() {
    use futures::TryStreamExt;
    use headwater_engine::SessionOptions;

    let world = world().await;
    world.sql("main", &[TWICE]).await;
    let session = world.engine.session(SessionOptions::default()).unwrap();
    for _ in 0..2 {
        let answer = session.execute("SELECT twice(n) FROM t").await.unwrap();
        answer.stream.try_collect::<Vec<_>>().await.unwrap();
        let usage = answer.metrics.usage();
        assert_eq!((usage.calls, usage.wall_ms), (1, 0), "{usage:?}");
        assert!(usage.bytes_in > 0 && usage.bytes_out > 0, "{usage:?}");
    }
}

#[tokio::test]
async fn a_model_runs_again_when_its_function_changes() {
    let world = world().await;
    world.sql("main", &[TWICE]).await;
    let model = "-- headwater: materialization = replace\nSELECT sum(twice(n)) AS n FROM t";
    let project = files("", &[("total.sql", model)]);
    assert!(world.run(&project).await.all(StepStatus::Succeeded));
    assert_eq!(values(&world.sql("main", &["SELECT n FROM total"]).await), "6");
    assert!(world.run(&project).await.all(StepStatus::Unchanged));
    world.sql("main", &[&TWICE.replace("(a, 2)", "(a, 3)")]).await;
    assert!(world.run(&project).await.all(StepStatus::Succeeded));
    assert_eq!(values(&world.sql("main", &["SELECT n FROM total"]).await), "9");
}
