//! SQL models: settings in comments, inputs and parameters found by parsing, errors with their
//! line.

use headwater_project::{Materialization, Project, Step, StepKind};
use headwater_sql::time_travel::ConstantValue;

use crate::support::{self, files, refusal};

fn model(path: &str, sql: &str) -> Step {
    let manifest = "[parameters.p]\ndefault = \"x\"\n";
    let mut project = support::parse(&files(manifest, &[(path, sql)])).unwrap();
    project.steps.remove(0)
}

fn refused(sql: &str) -> String {
    refusal(&files("", &[("models/m.sql", sql)]))
}

#[test]
fn a_file_is_a_model_of_its_name() {
    let step =
        model("models/daily.sql", "SELECT day, $p AS p\nFROM orders JOIN \"days@dev\" ON 1=1");
    assert_eq!((step.name.as_str(), step.kind), ("daily", StepKind::Sql));
    assert_eq!(step.materialization, Materialization::None);
    assert_eq!(step.at.to_string(), "models/daily.sql:1");
    let inputs: Vec<String> =
        step.inputs.iter().map(|input| format!("{} {}", input.table, input.at)).collect();
    assert_eq!(inputs, ["orders models/daily.sql:2", "days models/daily.sql:2"]);
    assert_eq!(step.inputs[1].reference.as_ref().map(ToString::to_string).as_deref(), Some("dev"));
    assert_eq!(step.parameters[0].name, "p");
}

#[test]
fn settings_stand_in_comments_above_the_query() {
    let step = model(
        "daily.sql",
        "-- What happened, by day.\n--headwater: name=shop.by_day\n\
         -- headwater: materialization = APPEND\n\n\
         -- headwater: partition_by = \"day(at), origin\"\n-- headwater: columns = at, origin\n\
         -- headwater: memory = 64MiB\n-- headwater: timeout = 2s\n\
         SELECT at, origin FROM t -- the end",
    );
    assert_eq!(step.name, "shop.by_day");
    assert_eq!(step.table.namespace, "shop");
    assert_eq!(step.materialization, Materialization::Append);
    let partition: Vec<String> = step.partition_by.iter().map(ToString::to_string).collect();
    assert_eq!(partition, ["day(at)", "origin"]);
    assert_eq!(step.columns, Some(vec!["at".to_owned(), "origin".to_owned()]));
    assert_eq!(step.memory_bytes, Some(64 << 20));
    assert_eq!(step.timeout.map(|limit| limit.as_secs()), Some(2));
}

#[test]
fn a_model_with_outputs_is_stored_as_a_table() {
    let stored = "-- headwater: materialization = replace\n";
    let outputs = "-- headwater: outputs = table://a, bucket://b/{date}.csv\n\
                   -- headwater: outputs = postgres://u@h/d?table=t&key=id#secret=P\n";
    let step = model("m.sql", &format!("{stored}{outputs}SELECT 1 AS id"));
    let expected =
        ["table://a", "bucket://b/{date}.csv", "postgres://u@h/d?table=t&key=id#secret=P"];
    assert_eq!(step.outputs, expected);
    insta::assert_snapshot!(refused(&format!("{outputs}SELECT 1 AS id")), @r"
    invalid_project: `m` has `outputs`, but is not stored as a table (models/m.sql:1)
      hint: Set `materialization`, for example `replace`.
    ");
}

#[test]
fn mistakes_are_rejected_with_their_line() {
    insta::assert_snapshot!(refused("-- headwater: materialisation = replace\nSELECT 1"), @r"
    invalid_project: `materialisation` is not a setting of a SQL model (models/m.sql:1)
      hint: Did you mean `materialization`?
    ");
    insta::assert_snapshot!(refused("-- headwater: materialization = table\nSELECT 1"), @"
    invalid_project: `table` is not a materialization (models/m.sql:1)
      hint: The materializations are `none`, `replace`, `append`, `merge`, `overwrite_partitions`, `view`.
    ");
    insta::assert_snapshot!(refused("-- headwater: replace\nSELECT 1"), @r"
    invalid_project: the setting `replace` has no `=` (models/m.sql:1)
      hint: Write `-- headwater: key = value`.
    ");
    insta::assert_snapshot!(refused("-- headwater materialization = replace\nSELECT 1"), @r"
    invalid_project: the setting `materialization = replace` has no colon after `headwater` (models/m.sql:1)
      hint: Write `-- headwater: materialization = replace`.
    ");
    insta::assert_snapshot!(refused("-- headwater reads a = b\nSELECT 1"), @"nothing is wrong");
    insta::assert_snapshot!(refused("SELECT *\nFROM {{ ref('orders') }}"), @r"
    invalid_project: `{{ ref('orders') }}` is Jinja, which is not supported (models/m.sql:2)
      hint: Write the table's name: `orders`.
    ");
    insta::assert_snapshot!(refused("{% set a = 1 %}\nSELECT 1"), @r"
    invalid_project: `{% set a = 1 %}` is Jinja, which is not supported (models/m.sql:1)
      hint: Write SQL: a table's name, or `$NAME` for a parameter.
    ");
    insta::assert_snapshot!(refused("-- x\n-- headwater: partition_by = week(d)\nSELECT 1"), @r"
    invalid_project: `week(d)` is not a usable partition: a partition is written as `column`, `day(column)` or `bucket(16, column)` (models/m.sql:2)
      hint: Write `column`, `year(column)`, `month(column)`, `day(column)`, `hour(column)`, `bucket(16, column)` or `truncate(4, column)`.
    ");
    insta::assert_snapshot!(refused("SELECT 1\n-- headwater: name = x\nFROM t"), @r"
    invalid_project: the setting `name = x` is below the first line of the query (models/m.sql:2)
      hint: Move the setting above the query.
    ");
    insta::assert_snapshot!(refused("-- headwater: name = t@dev\nSELECT 1"), @r#"
    invalid_project: `t@dev` is not a usable table name: the name contains one of the characters / \ " ` @ # ~ * (models/m.sql:1)
      hint: Rename the file, or set `-- headwater: name = …`.
    "#);
    insta::assert_snapshot!(refused("-- headwater: timeout = soon\nSELECT 1"), @r"
    invalid_project: `soon` is not a valid timeout (models/m.sql:1)
      hint: Write a number with a unit: `512MiB`, `30s`.
    ");
    insta::assert_snapshot!(refused("SELECT a\nFORM t"), @r"
    invalid_sql: model `m` cannot be planned (models/m.sql:2)
      models/m.sql:2:1
      2 | FORM t
        | ^
      caused by: expected end of statement, found `t` (line 2, column 1)
      hint: Did you mean `FROM`?
    ");
    insta::assert_snapshot!(refused("SELECT 1;\nSELECT 2"), @r"
    unsupported_statement: model `m` cannot be planned (models/m.sql:1)
      caused by: more than one statement at once is not supported
      hint: Write one statement here.
    ");
    insta::assert_snapshot!(refused("CREATE TABLE a AS SELECT 1"), @r"
    unsupported_statement: model `m` cannot be planned (models/m.sql:1)
      caused by: CREATE TABLE here is not supported
      hint: Write a SELECT.
    ");
    insta::assert_snapshot!(refused(""), @r"
    invalid_sql: model `m` cannot be planned (models/m.sql:1)
      caused by: there is no statement
      hint: Correct the query; `headwater table get TABLE` lists a table's columns.
    ");
    insta::assert_snapshot!(refused("SELECT $q"), @r"
    invalid_project: `m` uses parameter `q`, which the project does not declare (models/m.sql:1)
      hint: Declare the parameter as `[parameters.q]` in headwater.toml.
    ");
}

#[test]
fn constants_are_computed_by_the_caller() {
    let files = files("", &[("m.sql", "SELECT * FROM t AT (BRANCH => lower('DEV'))")]);
    let dev = |_| Some(ConstantValue::Text("dev".to_owned()));
    let project = Project::parse(&files, dev).unwrap();
    let reference = project.steps[0].inputs[0].reference.as_ref().unwrap();
    assert_eq!(reference.to_string(), "dev");
    insta::assert_snapshot!(refusal(&files), @r"
    invalid_sql: model `m` cannot be planned (m.sql:1)
      m.sql:1:15
      1 | SELECT * FROM t AT (BRANCH => lower('DEV'))
        |               ^
      caused by: the version of a table must be a constant (line 1, column 15)
      hint: Correct the query; `headwater table get TABLE` lists a table's columns.
    ");
}
