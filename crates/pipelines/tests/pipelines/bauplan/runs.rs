//! Runs of projects written for Bauplan.

use headwater_model::{ErrorCode, StepStatus};
use headwater_pipelines::register_system_tables;

use crate::lineage::{COLUMNS, rows};
use crate::support::{World, bauplan_files};

pub const DEFAULTS: &str = "defaults: {python: {version: '3.11'}}\n";

/// Creates a lake with the table `bauplan.trips`.
pub async fn world() -> World {
    let world = World::new().await;
    let trips = "CREATE TABLE bauplan.trips AS SELECT * FROM (VALUES
        (1, 12.5, TIMESTAMP '2026-01-01 08:00:00', 'a'), (2, 0.5, TIMESTAMP '2026-01-01 09:00:00', 'b'),
        (3, 7.0, TIMESTAMP '2026-01-02 10:00:00', NULL)) AS t(id, miles, picked_up, zone)";
    let trips = format!("{}\n", trips.replace("12.5", "CAST(12.5 AS DOUBLE)"));
    world.sql("main", &["CREATE SCHEMA bauplan", &trips]).await;
    world
}

const LEGACY: &str = r#"
import bauplan
from bauplan.standard_expectations import expect_column_all_unique, expect_column_no_nulls
from lengths import is_long


@bauplan.model(materialization_strategy="REPLACE", columns=["id", "miles"], partitioned_by="id")
@bauplan.python("3.11")
def long_trips(
    trips=bauplan.Model("clean_trips", columns=["id", "miles"], filter="miles >= $least"),
    least=bauplan.Parameter("least"),
):
    print("at least", least, "of", trips.nbytes, "bytes")
    return [row for row in trips.to_pylist() if is_long(row["miles"], least)]


@bauplan.expectation()
@bauplan.python("3.11")
def ids_are_unique(data=bauplan.Model("long_trips", columns=["id"])):
    assert expect_column_no_nulls(data, "id"), "ids"
    return expect_column_all_unique(data, "id")
"#;

const CLEAN: &str = "-- bauplan: name = clean_trips
SELECT id, miles, picked_up, zone, FROM bauplan.trips
WHERE picked_up >= '2026-01-01T00:00:00-00:00'::TIMESTAMP AND 1 == 1
LIMIT CASE WHEN $size > 0 THEN $size ELSE 100 END";

#[tokio::test]
async fn a_project_of_sql_python_and_helper_modules_runs_unchanged() {
    let world = world().await;
    let manifest = format!(
        "parameters:\n  least: {{type: float, default: 5}}\n  size: {{type: int, default: 0}}\n{DEFAULTS}"
    );
    let helper = "def is_long(miles, least):\n    return miles >= least\n";
    let others = [("models.py", LEGACY), ("clean.sql", CLEAN), ("lengths.py", helper)];
    let project = bauplan_files(&manifest, &others);
    let ran = world.run(&project).await;
    assert_eq!(ran.report().tables, ["bauplan.long_trips"]);
    assert_eq!(ran.printed(), ["bauplan.long_trips models.py:13 at least 5.0 of 32 bytes"]);
    let rows = world.sql("main", &["SELECT * FROM bauplan.long_trips ORDER BY id"]).await;
    assert!(rows.contains("| 1  | 12.5  |") && rows.contains("| 3  | 7.0   |"), "{rows}");
    let again = world.run(&project).await;
    assert!(again.all(StepStatus::Unchanged), "{}", again.steps());
}

const TYPED: &str = r#"
from typing import Annotated

import bauplan
import pyarrow as pa
from bauplan import Float64, Int64, Model, Parameter, String, TableField, TableSchema


class Trips(TableSchema):
    """The columns of trips."""

    miles: Annotated[Float64 | None, TableField(doc="Length of the trip.")]
    zone: String | None


class Zones(TableSchema):
    zone: Annotated[String, TableField(lineage=Trips["zone"])]
    trips: Int64


@bauplan.model(materialization_strategy="REPLACE")
@bauplan.python("3.11")
def zones(
    trips: Annotated[pa.Table, Model("trips", projection_schema=Trips, filter="zone IS NOT NULL")],
    least: Annotated[float, Parameter("least")],
) -> Annotated[pa.Table, Zones]:
    assert trips.column_names == ["miles", "zone"], trips.column_names
    names = trips.column("zone")
    return RETURNED


@bauplan.expectation()
def there_are_zones(zones: Annotated[pa.Table, Model("zones")]) -> bool:
    return zones.num_rows > 0
"#;

#[tokio::test]
async fn typed_contracts_are_checked_when_the_model_ran() {
    let world = world().await;
    let manifest = format!("parameters: {{least: {{type: float, default: 5}}}}\n{DEFAULTS}");
    let run = async |returned: &str| {
        let code = TYPED.replace("RETURNED", returned);
        world.run(&bauplan_files(&manifest, &[("models.py", &code)])).await
    };
    for (returned, expected) in [
        (
            "pa.table({'zone': names, 'trips': pa.array([1, 1], pa.int32())})",
            "`trips` has the type Int32, not Int64",
        ),
        (
            "pa.table({'zone': pa.array(['a', None]), 'trips': pa.array([1, 1])})",
            "`zone` has nulls",
        ),
        ("pa.table({'zone': names})", "`trips` is missing"),
        ("pa.table({'zone': names, 'trips': pa.array([1, 1]), 'x': names})", "`x` is not declared"),
    ] {
        let refused = run(returned).await.refusal();
        assert!(refused.contains(expected), "{returned}\n{refused}");
    }
    let ran = run("pa.table({'zone': names, 'trips': pa.array([1] * len(names))})").await;
    assert_eq!(ran.report().tables, ["bauplan.zones"]);

    // The contract names the source of `zone` only.
    register_system_tables(&world.engine);
    let expected = [
        "zones,trips,trips,miles,false",
        "zones,trips,trips,zone,false",
        "zones,zone,trips,zone,true",
    ];
    assert_eq!(rows(&world, "main", COLUMNS).await, expected);
}

#[tokio::test]
async fn contracts_of_sql_models_are_checked() {
    let world = world().await;
    let schemas = "import bauplan\nclass Zones(bauplan.TableSchema):\n    zone: bauplan.String\n";
    let sql = "-- bauplan: materialization_strategy = STRATEGY\n-- bauplan: output_schema = Zones\nSELECT COLUMN FROM trips";
    for strategy in ["REPLACE", "NONE"] {
        for (column, expected) in [
            (
                "zone",
                "the columns that model `zones` returned differ from its declaration: `zone` has \
                 nulls in 1 row (zones.sql:1)",
            ),
            ("id AS zone", "`zone` has the type Int64, not String"),
            ("zone AS place", "`zone` is missing, `place` is not declared"),
        ] {
            let sql = sql.replace("STRATEGY", strategy).replace("COLUMN", column);
            let refused =
                world.run(&bauplan_files("", &[("zones.sql", &sql), ("models.py", schemas)])).await;
            let refused = refused.refusal();
            assert!(refused.contains(expected), "{strategy} {column}\n{refused}");
        }
    }
    let good = sql.replace("STRATEGY", "REPLACE").replace("COLUMN", "coalesce(zone, '') AS zone");
    let ran = world.run(&bauplan_files("", &[("zones.sql", &good), ("models.py", schemas)])).await;
    assert_eq!(ran.report().tables, ["bauplan.zones"]);
}

#[tokio::test]
async fn documentation_of_columns_is_stored_and_types_of_inputs_are_checked_before_the_run() {
    let world = world().await;
    let code = |miles: &str| {
        format!(
            "from typing import Annotated\nimport bauplan\nimport pyarrow\n\
             class Trips(bauplan.TableSchema):\n    miles: Annotated[{miles} | None, bauplan.TableField(doc='Length, in miles.')]\n\
             @bauplan.model(materialization_strategy='REPLACE')\n\
             def m(t: Annotated[pyarrow.Table, bauplan.Model('trips', projection_schema=Trips)])\
              -> Annotated[pyarrow.Table, Trips]:\n    return t\n"
        )
    };
    let wrong =
        world.plan(&bauplan_files(DEFAULTS, &[("models.py", &code("bauplan.String"))])).await;
    let expected = "the schema that `bauplan.m` declares for its input `bauplan.trips` does not \
                    match the table: `miles` has the type Float64, not String (models.py:7)";
    assert!(wrong.contains(expected), "{wrong}");
    let project = bauplan_files(DEFAULTS, &[("models.py", &code("bauplan.Float64"))]);
    for _ in 0..2 {
        world.run_with(&project, |request| request.no_cache = true).await.report();
        let shown = world.sql("main", &["DESCRIBE bauplan.m"]).await;
        assert!(shown.contains("Length, in miles."), "{shown}");
    }
}

#[tokio::test]
async fn a_false_expectation_fails_a_strict_run_and_warns_otherwise() {
    let world = world().await;
    for body in ["return False", "assert False, 'never'"] {
        let code = format!(
            "import bauplan\n@bauplan.expectation()\ndef never(data=bauplan.Model('trips')):\n    {body}\n"
        );
        let project = bauplan_files(DEFAULTS, &[("models.py", &code)]);
        let strict = world.run(&project).await;
        assert_eq!(strict.outcome.as_ref().unwrap_err().code, ErrorCode::ExpectationFailed);
        let lenient = world.run_with(&project, |request| request.strict = Some(false)).await;
        assert!(lenient.all(StepStatus::Warned), "{}", lenient.steps());
    }
}

#[tokio::test]
async fn other_columns_than_declared_fail_a_strict_run_and_warn_otherwise() {
    let world = world().await;
    let code = "import bauplan\n@bauplan.model(columns=['a'], materialization_strategy='REPLACE')\n\
                def m(t=bauplan.Model('trips')):\n    return [{'b': 1}]\n";
    let project = bauplan_files(DEFAULTS, &[("models.py", code)]);
    let strict = world.run(&project).await.refusal();
    assert!(strict.contains("`a` is missing, `b` is not declared (models.py:3)"), "{strict}");
    let lenient = world.run_with(&project, |request| request.strict = Some(false)).await;
    assert_eq!(lenient.report().tables, ["bauplan.m"]);
    assert!(lenient.printed()[0].contains("warning: ") && lenient.printed()[0].contains("`b`"));
}

#[tokio::test]
async fn every_type_of_table_is_returned() {
    let world = world().await;
    let code = r#"
import bauplan
import pyarrow as pa


@bauplan.model(materialization_strategy="REPLACE")
def dicts(trips=bauplan.Model("trips")):
    return [{"n": trips.num_rows}]


@bauplan.model(materialization_strategy="REPLACE")
def readers(trips=bauplan.Model("trips", columns=["id"])):
    return pa.RecordBatchReader.from_batches(trips.schema, trips.to_batches())


@bauplan.model(materialization_strategy="REPLACE")
@bauplan.python("3.11", pip={"pandas": "2.2", "polars": "1.37", "duckdb": "1.4.1"})
def pandas_frames(trips=bauplan.Model("trips", columns=["id"])):
    return trips.to_pandas()


@bauplan.model(materialization_strategy="REPLACE")
@bauplan.python("3.11", pip={"pandas": "2.2", "polars": "1.37", "duckdb": "1.4.1"})
def polars_frames(trips=bauplan.Model("trips", columns=["id", "picked_up"])):
    import polars as pl

    return pl.DataFrame(trips).with_columns(pl.col("picked_up").cast(pl.Datetime("ns")))


@bauplan.model(materialization_strategy="REPLACE")
@bauplan.python("3.11", pip={"pandas": "2.2", "polars": "1.37", "duckdb": "1.4.1"})
def queries(trips=bauplan.Model("trips")):
    import duckdb

    return duckdb.sql("SELECT count(*) AS n, sum(miles) AS miles FROM trips").arrow()
"#;
    let ran = world.run(&bauplan_files(DEFAULTS, &[("models.py", code)])).await;
    assert_eq!(ran.report().tables.len(), 5);
    let counts = "SELECT (SELECT n FROM bauplan.dicts) AS a, (SELECT count(*) FROM bauplan.readers) AS b,
        (SELECT count(*) FROM bauplan.pandas_frames) AS c, (SELECT count(*) FROM bauplan.polars_frames) AS d,
        (SELECT n FROM bauplan.queries) AS e";
    let rows = world.sql("main", &[counts]).await;
    assert!(rows.contains("| 3 | 3 | 3 | 3 | 3 |"), "{rows}");
}

#[tokio::test]
async fn a_secret_parameter_is_a_secret_of_the_lake() {
    let world = world().await;
    let code = "import bauplan\n@bauplan.model(materialization_strategy='REPLACE')\n\
                def m(token=bauplan.Parameter('token')):\n    print('got', token)\n    return [{'n': len(token)}]\n";
    let manifest = format!(
        "parameters: {{token: {{type: secret, default: abc=, key: 'awskms:///k'}}}}\n{DEFAULTS}"
    );
    let project = bauplan_files(&manifest, &[("models.py", code)]);
    let missing = world.run(&project).await;
    assert_eq!(missing.outcome.as_ref().unwrap_err().code, ErrorCode::SecretNotFound);
    let given = |request: &mut headwater_model::RunRequest| {
        request.parameters.insert("token".to_owned(), "hunter2-hunter2".to_owned());
    };
    let refused = world.run_with(&project, given).await.refusal();
    assert!(
        refused.contains("headwater secret set token") && !refused.contains("hunter2"),
        "{refused}"
    );
    world.secrets.set("token", "hunter2-hunter2", "ada").await.unwrap();
    let ran = world.run(&project).await;
    assert_eq!(ran.report().tables, ["bauplan.m"]);
    assert!(ran.printed()[0].ends_with("got ***"), "{:?}", ran.printed());
    assert!(world.sql("main", &["SELECT n FROM bauplan.m"]).await.contains("| 15 |"));
}

#[tokio::test]
async fn a_self_reference_or_missing_table_is_rejected_before_the_run() {
    let world = world().await;
    let model = |name: &str, table: &str| {
        format!(
            "import bauplan\n@bauplan.model()\ndef {name}(t=bauplan.Model('{table}')):\n    return t\n"
        )
    };
    for (code, expected) in [
        (model("trips", "trips"), "`bauplan.trips` (models.py:3) reads `bauplan.trips`"),
        (model("m", "trps"), "hint: Did you mean `bauplan.trips`?"),
        (model("m", "elsewhere.trips"), "`elsewhere.trips`, which is neither a model nor a table"),
    ] {
        let plan = world.plan(&bauplan_files(DEFAULTS, &[("models.py", &code)])).await;
        assert!(plan.contains(expected), "{plan}");
    }
}

#[tokio::test]
async fn filters_compare_timestamps_with_text_and_keep_the_case_of_columns() {
    let world = World::new().await;
    world
        .sql(
            "main",
            &[
                "CREATE SCHEMA bauplan",
                "CREATE TABLE bauplan.taxi AS SELECT * FROM (VALUES
                    (1, TIMESTAMPTZ '2026-01-01T23:00:00Z'), (2, TIMESTAMPTZ '2026-02-02T01:00:00Z'))
                    AS t(\"PULocationID\", pickup_datetime)",
            ],
        )
        .await;
    let code = r#"
import bauplan


@bauplan.model(materialization_strategy="REPLACE")
def rides(
    data=bauplan.Model(
        "taxi",
        columns=["PULocationID", "pickup_datetime"],
        filter="""
            pickup_datetime >= '2026-01-01T00:00:00-05:00'
            AND pickup_datetime < '2026-02-01T00:00:00-05:00' AND PULocationID IN (1, 2)
        """,
    ),
):
    print(data.schema.field("PULocationID").type, data.num_rows)
    return data.rename_columns(["place", "picked up"])
"#;
    let ran = world.run(&bauplan_files(DEFAULTS, &[("models.py", code)])).await;
    assert_eq!(ran.report().tables, ["bauplan.rides"]);
    assert!(ran.printed()[0].ends_with(" int64 1"), "{:?}", ran.printed());
}

#[tokio::test]
async fn a_table_is_read_at_another_ref() {
    let world = world().await;
    world.branch("ada.dev").await;
    world.sql("ada.dev", &["DELETE FROM bauplan.trips WHERE id = 1"]).await;
    let code = "import bauplan\n@bauplan.model(materialization_strategy='REPLACE')\n\
                def m(old=bauplan.Model('trips', ref='ada.dev'), new=bauplan.Model('trips')):\n    \
                return [{'old': old.num_rows, 'new': new.num_rows}]\n";
    world.run(&bauplan_files(DEFAULTS, &[("models.py", code)])).await.report();
    let rows = world.sql("main", &["SELECT old, new FROM bauplan.m"]).await;
    assert!(rows.contains("| 2   | 3   |"), "{rows}");
}

#[tokio::test]
async fn hints_for_failed_functions_have_the_words_of_bauplan() {
    let world = world().await;
    let code = "import bauplan\n@bauplan.model()\ndef m(t=bauplan.Model('trips')):\n    \
                import socket\n    socket.create_connection(('192.0.2.1', 9), 1)\n    return t\n";
    let off = world.run(&bauplan_files(DEFAULTS, &[("models.py", code)])).await;
    assert!(off.refusal().contains("hint: Set `internet_access=True`"), "{}", off.refusal());
    let code =
        "import bauplan\n@bauplan.model()\ndef m(t=bauplan.Model('trips')):\n    import sklearn\n";
    let missing = world.run(&bauplan_files(DEFAULTS, &[("models.py", code)])).await.refusal();
    assert!(missing.contains("in the function's `@bauplan.python`."), "{missing}");
}

#[tokio::test]
async fn tables_are_in_the_namespace_and_parameters_are_filled_in() {
    let world = World::new().await;
    let manifest = "parameters:\n  least: {type: int, default: 2}\n  most: {type: int}\n";
    let sql = "-- headwater: materialization = replace\n\
               SELECT a, $most IS NULL AS open FROM bauplan.numbers WHERE a >= $least";
    world
        .sql(
            "main",
            &[
                "CREATE SCHEMA bauplan",
                "CREATE TABLE bauplan.numbers AS SELECT * FROM (VALUES (1), (2), (3)) AS t(a)",
            ],
        )
        .await;
    let ran = world.run(&bauplan_files(manifest, &[("large.sql", sql)])).await;
    assert_eq!(ran.report().tables, ["bauplan.large"]);
    let rows = world.sql("main", &["SELECT * FROM bauplan.large ORDER BY a"]).await;
    assert!(rows.contains("| 2 | true |") && rows.contains("| 3 | true |"), "{rows}");
}
