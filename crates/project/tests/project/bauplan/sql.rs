//! SQL models with `-- bauplan:` settings.

use headwater_project::{Materialization, Step};

use crate::support::{self, bauplan_files, refusal};

const SCHEMAS: &str = "import bauplan\nclass Pair(bauplan.TableSchema):\n    a: bauplan.Int64\n    b: bauplan.String | None\n";

fn model(text: &str) -> Step {
    let files = bauplan_files("", &[("m.sql", text), ("models.py", SCHEMAS)]);
    support::parse(&files).unwrap_or_else(|_| panic!("{}", refusal(&files))).steps.remove(0)
}

#[test]
fn every_setting_is_read_in_every_form() {
    let found = model(
        "-- bauplan: name = rides.trips\n--bauplan:materialization_strategy=REPLACE\n\
         -- bauplan: partitioned-by=\"day(c), d\"\n-- a comment\nSELECT c, d FROM t",
    );
    assert_eq!(found.table.to_string(), "rides.trips");
    assert_eq!(found.materialization, Materialization::Replace);
    let partition: Vec<String> = found.partition_by.iter().map(ToString::to_string).collect();
    assert_eq!(partition, ["day(c)", "d"]);
    assert!(found.allow_takeover);

    let schema = model(
        "-- bauplan: output_schema = Pair\n-- bauplan: cache_strategy = NONE\nSELECT a, b FROM t",
    );
    assert_eq!(schema.columns.as_deref().unwrap(), ["a", "b"]);
    assert_eq!(schema.materialization, Materialization::None);
    assert!(schema.always_runs);

    let overwrite = "-- bauplan: materialization_strategy=OVERWRITE_PARTITIONS\n-- bauplan: partitioned_by=d\n\
                     -- bauplan: overwrite_filter = \"d >= '2026-01-01'\"\nSELECT d FROM t";
    assert_eq!(model(overwrite).overwrite_filter.as_deref(), Some("d >= '2026-01-01'"));
}

#[test]
fn wrong_settings_are_refused_with_their_line() {
    for (text, expected) in [
        (
            "-- bauplan: materialisation = x\nSELECT 1",
            "`materialisation` is not a setting of a SQL model (m.sql:1)",
        ),
        (
            "-- bauplan: materialization_strategy = MERGE\nSELECT 1",
            "`MERGE` is not a materialization strategy (m.sql:1)",
        ),
        (
            "\n-- bauplan: name\nSELECT 1",
            "the setting `name` has no `=` (m.sql:2)\n  hint: Write `-- bauplan: key = value`.",
        ),
        (
            "-- bauplan: output_schema = Pairs\nSELECT 1",
            "no Python file of the project has the schema `Pairs` (m.sql:1)\n  hint: Did you mean `Pair`?",
        ),
        ("-- bauplan: cache_strategy = SOME\nSELECT 1", "`SOME` is not a cache strategy"),
        ("-- bauplan: partitioned_by = week(a)\nSELECT 1 AS a", "week(a)"),
        (
            "-- bauplan: overwrite_filter = a = 1\nSELECT 1 AS a",
            "`m` has `overwrite_filter`, but does not overwrite partitions",
        ),
        (
            "-- bauplan: materialization_strategy = OVERWRITE_PARTITIONS\nSELECT 1",
            "`m` overwrites partitions, but is not partitioned",
        ),
        (
            "SELECT 1\n-- bauplan: name = x",
            "the setting `name = x` is below the first line of the query (m.sql:2)",
        ),
    ] {
        let refused = refusal(&bauplan_files("", &[("m.sql", text), ("models.py", SCHEMAS)]));
        assert!(refused.contains(expected), "{text}\n{refused}");
    }
}

#[test]
fn a_name_in_sql_and_python_is_a_duplicate() {
    let code = "import bauplan\n@bauplan.model()\ndef m(t=bauplan.Model('t')):\n    return t\n";
    let files = bauplan_files("", &[("m.sql", "SELECT 1"), ("models.py", code)]);
    let refused = refusal(&files);
    assert!(refused.contains("m.sql:1") && refused.contains("models.py:3"), "{refused}");
}
