//! Errors that planning finds, before anything is computed.

use crate::support::{World, files, refusal};

async fn world() -> World {
    let world = World::new().await;
    let rows =
        "CREATE TABLE t AS SELECT 1 AS id, 'EWR' AS origin, 1.5 AS share, DATE '2026-01-01' AS day";
    world.sql("main", &[rows]).await;
    world
}

fn with_filter(table: &str, filter: &str) -> String {
    format!(
        "import headwater\n\n\n@headwater.model()\ndef m(\n    t=headwater.Model(\n        \
         \"{table}\",\n        filter=\"{filter}\",\n    ),\n):\n    return t\n"
    )
}

#[tokio::test]
async fn a_misspelled_decorator_is_refused_by_a_run() {
    let world = world().await;
    for (package, other) in [("headwater", "@headwater.modle()"), ("bauplan", "@bauplan.expct()")] {
        let code = format!("import {package}\n\n\n{other}\ndef rows():\n    return []\n");
        let ran = world.run(&files("", &[("m.py", &code)])).await;
        let refused = ran.refusal();
        assert!(
            refused.starts_with("invalid_project: ") && refused.contains("(m.py:4)"),
            "{refused}"
        );
    }
}

#[test]
fn a_filter_is_one_condition() {
    let refused = |filter: &str| refusal(&files("", &[("m.py", &with_filter("t", filter))]));
    insta::assert_snapshot!(refused("id >"), @r"
    invalid_project: `filter` cannot be used: expected an expression, found the end (m.py:8)
      hint: Write a condition in SQL, as after WHERE.
    ");
    insta::assert_snapshot!(refused("id > 1 ORDER BY id"), @r"
    invalid_project: `filter` cannot be used: unexpected `ORDER` after the condition (line 1, column 8) (m.py:8)
      hint: Write a condition in SQL, as after WHERE.
    ");
    insta::assert_snapshot!(refused("id IN (SELECT id FROM u)"), @r"
    invalid_project: `filter` cannot be used: a subquery in a filter is not supported (line 1, column 1) (m.py:8)
      hint: Write a condition over the columns of one row, without subqueries, window functions and aggregates.
    ");
    insta::assert_snapshot!(refused("id = 1) OR (id = 2"), @r"
    invalid_project: `filter` cannot be used: unexpected `)` after the condition (line 1, column 7) (m.py:8)
      hint: Write a condition in SQL, as after WHERE.
    ");
    insta::assert_snapshot!(refused("id = $nothing"), @r"
    invalid_project: `m` uses parameter `nothing`, which the project does not declare (m.py:8)
      hint: Declare the parameter as `[parameters.nothing]` in headwater.toml.
    ");
}

#[tokio::test]
async fn a_filter_is_checked_against_the_columns_of_its_table() {
    let world = world().await;
    let plan =
        async |filter: &str| world.plan(&files("", &[("m.py", &with_filter("t", filter))])).await;
    insta::assert_snapshot!(plan("orgin = 'EWR'").await, @r"
    column_not_found: model `m` cannot be planned (m.py:6)
      caused by: column `orgin` is not in `t`
      hint: Did you mean `origin`?
    ");
    insta::assert_snapshot!(plan("origin").await, @r"
    invalid_sql: model `m` cannot be planned (m.py:6)
      caused by: cannot create filter with non-boolean predicate 't.origin' returning VARCHAR
      hint: Correct the query; `headwater table get TABLE` lists a table's columns.
    ");
    insta::assert_snapshot!(plan("count(*) > 1").await, @r"
    invalid_sql: model `m` cannot be planned (m.py:6)
      caused by: aggregate functions are not allowed in the WHERE clause. Consider using HAVING instead
      hint: Correct the query; `headwater table get TABLE` lists a table's columns.
    ");
    insta::assert_snapshot!(plan("nothing(id)").await, @r"
    invalid_sql: model `m` cannot be planned (m.py:6)
      caused by: there is no function `nothing`
      hint: Correct the query; `headwater table get TABLE` lists a table's columns.
    ");
    // Planning also finds missing columns of a model that has not run yet.
    let child = with_filter("parent", "idd = 1");
    let project = files("", &[("parent.sql", "SELECT id FROM t"), ("m.py", &child)]);
    insta::assert_snapshot!(world.plan(&project).await, @r"
    column_not_found: model `m` cannot be planned (m.py:6)
      caused by: column `idd` is not in `parent`
      hint: Did you mean `id`?
    ");
}

fn with_python(settings: &str) -> String {
    format!(
        "import headwater\n\n\n@headwater.model()\n@headwater.python(\n    {settings}\n)\ndef m():\n    return []\n"
    )
}

#[tokio::test]
async fn a_missing_python_is_reported_before_the_run() {
    let world = world().await;
    let first = |text: String| text.split("; found:").next().unwrap().to_owned();
    let plan = async |manifest: &str, code: &str| {
        first(world.plan(&files(manifest, &[("m.py", code)])).await)
    };
    insta::assert_snapshot!(plan("", &with_python("\"3.99\"")).await, @r"
    environment_failed: the Python version, packages or programs that `m` needs are not available (m.py:6)
      caused by: there is no Python `3.99` on this machine
    ");
    insta::assert_snapshot!(plan("", &with_python("version=\"3.8\"")).await, @r"
    environment_failed: the Python version, packages or programs that `m` needs are not available (m.py:6)
      caused by: Python `3.8` is too old
      hint: Ask for Python 3.10 or newer.
    ");
    insta::assert_snapshot!(plan("", &with_python("pip={\"no name\": \"1.0\"}")).await, @r#"
    environment_failed: the Python version, packages or programs that `m` needs are not available (m.py:8)
      caused by: `no name` is not the name of a package
      hint: Write the name as on PyPI, such as `pip={"polars": "1.38.1"}`.
    "#);
    let programs = with_python("system=[\"sh\", \"chromium-of-nobody\"]");
    insta::assert_snapshot!(plan("", &programs).await, @r"
    environment_failed: the Python version, packages or programs that `m` needs are not available (m.py:8)
      caused by: the program `chromium-of-nobody` is not on this machine
      hint: Install the program on this machine in `/usr/bin` or another system folder.
    ");
    let bare = "import headwater\n@headwater.model()\ndef m(): return []\n";
    insta::assert_snapshot!(plan("[defaults]\npython = \"3.99\"\n", bare).await, @r"
    environment_failed: the Python version, packages or programs that `m` needs are not available (headwater.toml:4)
      caused by: there is no Python `3.99` on this machine
    ");
    // The default version exists, so the error has the location of the function.
    let package = with_python("pip={\"no name\": \"1.0\"}");
    let shown = plan("[defaults]\npython = \"3.11\"\n", &package).await;
    assert!(shown.contains("are not available (m.py:8)"), "{shown}");
    // A plan does not require Python for a step that does not run.
    let kept = bare.replace("model()", "model(materialization=\"replace\")");
    let good = files("", &[("m.py", &kept.replace("[]", "[{'a': 1}]"))]);
    world.run(&good).await.report();
}

#[tokio::test]
async fn partition_fields_are_checked_against_the_models_columns() {
    let world = world().await;
    let plan = async |partition: &str| {
        let head = "-- headwater: materialization = replace\n-- headwater: partition_by =";
        let model = format!("{head} {partition}\nSELECT id, origin, share, day FROM t");
        world.plan(&files("", &[("m.sql", &model)])).await
    };
    insta::assert_snapshot!(plan("dya").await, @r"
    invalid_project: `m` is partitioned by `dya`, but does not return column `dya` (m.sql:2)
      hint: Did you mean `day`?
    ");
    insta::assert_snapshot!(plan("day(id)").await, @r"
    invalid_project: the table of `m` cannot be created: the table cannot be partitioned by `day(id)`: `day` requires a date or a timestamp (m.sql:2)
      hint: Partition by a column of the table, as `column`, `day(column)` or `bucket(16, column)`.
    ");
    insta::assert_snapshot!(plan("share").await, @r"
    invalid_project: the table of `m` cannot be created: the table cannot be partitioned by `share`: a partition column cannot be a floating-point number (m.sql:2)
      hint: Partition by a column of the table, as `column`, `day(column)` or `bucket(16, column)`.
    ");
    insta::assert_snapshot!(plan("week(day)").await, @r"
    invalid_project: `week(day)` is not a usable partition: a partition is written as `column`, `day(column)` or `bucket(16, column)` (m.sql:2)
      hint: Write `column`, `year(column)`, `month(column)`, `day(column)`, `hour(column)`, `bucket(16, column)` or `truncate(4, column)`.
    ");
    insta::assert_snapshot!(plan("day(day), Origin").await, @"m: first run");
    let python = "import headwater\n\n\n@headwater.model(\n    materialization=\"replace\",\n    \
                  columns=[\"id\"],\n    partition_by=[\"day(dya)\"],\n)\ndef m():\n    return []\n";
    insta::assert_snapshot!(world.plan(&files("", &[("m.py", python)])).await, @r"
    invalid_project: `m` is partitioned by `day(dya)`, but does not return column `dya` (m.py:7)
      hint: The columns are `id`.
    ");
    let month = python.replace("day(dya)", "week(id)");
    insta::assert_snapshot!(refusal(&files("", &[("m.py", &month)])), @r#"
    invalid_project: `partition_by` of `model` does not accept the value `["week(id)"]` (m.py:7)
      hint: Write the value as `["day(time_hour)", "origin"]`.
    "#);
}

#[tokio::test]
async fn unsupported_and_undeclared_columns_are_reported() {
    let world = world().await;
    let plan = async |model: &str| {
        let model = format!("-- headwater: materialization = replace\n{model}");
        world.plan(&files("", &[("m.sql", &model)])).await
    };
    let span = plan("SELECT INTERVAL '1' MONTH AS span FROM t").await;
    assert!(span.starts_with("invalid_project: the table of `m` cannot be created: "), "{span}");
    insta::assert_snapshot!(plan("-- headwater: columns = id, orgin\nSELECT id, origin FROM t").await, @r"
    function_failed: the columns that model `m` returned differ from its declaration: `orgin` is missing, `origin` is not declared (m.sql:1)
      hint: Change the declared columns or the result.
    ");
}

#[tokio::test]
async fn equal_aliases_are_reported_before_a_run() {
    let world = world().await;
    let model = |select: &str| {
        files("", &[("m.sql", &format!("-- headwater: materialization = replace\n{select}"))])
    };
    insta::assert_snapshot!(world.plan(&model("SELECT id AS x, origin AS x FROM t")).await, @r"
    invalid_sql: model `m` cannot be planned (m.sql:1)
      caused by: the query returns two columns with the name `x`
      hint: Give one of the columns another alias with AS.
    ");
    insta::assert_snapshot!(world.plan(&model("SELECT *, id FROM t")).await, @"m: first run");
}
