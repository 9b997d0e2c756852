//! Other engines (PyIceberg and DuckDB) read all values that Headwater has written.
//!
//!
//! The engines are installed once, from PyPI into a virtual environment in the target folder.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use arrow::array::{ArrayRef, FixedSizeBinaryArray, Int32Array, RecordBatch};
use arrow::datatypes::Schema;
use headwater_tables::{Alteration, Table, TableOperation, with_default};
use serde_json::{Value, json};

use crate::fixture::{
    Warehouse, field_of, json_batch, overwrite_partitions, partition_of, request, schema_of,
    stream_of,
};

/// The packages that the script needs. The name of the environment's folder contains a hash of this
/// list, so that a changed list creates a new environment.
const PACKAGES: [&str; 5] = [
    "pyiceberg[pyarrow]==0.12.0",
    "duckdb==1.5.5",
    "pytz==2025.2",
    "duckdb-extension-iceberg==1.5.5",
    "duckdb-extension-avro==1.5.5",
];

/// Returns the Python interpreter of the environment. Creates the environment if it is missing or
/// incomplete.
fn python() -> PathBuf {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let folder = cache.join("iceberg-clients-pyiceberg-0.12.0-duckdb-1.5.5");
    if !folder.join("ready").exists() {
        let _ = std::fs::remove_dir_all(&folder);
        run(Command::new("python3").args(["-m", "venv"]).arg(&folder));
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
        run(Command::new(folder.join("bin/python")).args(pip).args(PACKAGES));
        std::fs::write(folder.join("ready"), "").unwrap();
    }
    folder.join("bin/python")
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed:\n{errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// Returns the content of a table as both engines read it.
fn read(table: &Table, snapshot: Option<i64>) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/clients/iceberg_read.py");
    let mut command = Command::new(python());
    command.arg(script).arg(table.metadata_location());
    command.args(snapshot.map(|snapshot| snapshot.to_string()));
    serde_json::from_str(&run(&mut command)).unwrap()
}

fn check_rows(found: &Value, expected: &Value) {
    for engine in ["pyiceberg", "duckdb"] {
        assert_eq!(&found[engine]["rows"], expected, "as {engine} reads it");
    }
}

/// One test covers all cases, because each engine takes seconds to start and the environment is
/// shared.
#[tokio::test]
async fn pyiceberg_and_duckdb_read_headwater_tables() {
    every_type().await;
    uuids().await;
    partitions_of_every_type().await;
    partitions_and_overwrites().await;
    evolution_and_many_commits().await;
    delete_files().await;
    layouts_and_version_3().await;
    nanoseconds().await;
}

async fn every_type() {
    let warehouse = Warehouse::new();
    let columns = [
        ("id", "long!"),
        ("flag", "boolean"),
        ("small", "int"),
        ("share", "float"),
        ("amount", "double"),
        ("cents", "decimal(9, 2)"),
        ("price", "decimal(18, 2)"),
        ("wide", "decimal(38, 5)"),
        ("day", "date"),
        ("clock", "time"),
        ("local", "timestamp"),
        ("moment", "timestamptz"),
        ("name", "string"),
        ("bytes", "binary"),
        ("tags", "list<string>"),
        ("place", "struct<lat: double, names: list<string>>"),
        ("counts", "map<string, int>"),
    ];
    let table = warehouse.create(&columns, &[]).await;
    let rows = json!([
        {
            "id": 1, "flag": true, "small": -7, "share": 0.5, "amount": 1e100, "cents": "-0.01",
            "price": "12.34", "wide": "-1.00001", "day": "1969-12-31", "clock": "10:11:12.000013",
            "local": "1969-12-31T23:59:59.999999", "moment": "2013-01-01T05:00:00Z",
            "name": "Zoë and a name of more than sixteen characters", "bytes": "00ff",
            "tags": ["a", null], "place": {"lat": 40.5, "names": ["NYC"]}, "counts": {"x": 1}
        },
        {"id": 2}
    ]);
    let table = warehouse.append(&table, rows).await;
    let table = warehouse.append(&table, json!([{"id": 3, "name": "c"}])).await;
    let empty = |id: i64, name: Value| {
        let mut row: serde_json::Map<String, Value> =
            columns.iter().map(|(column, _)| ((*column).to_owned(), Value::Null)).collect();
        row["id"] = json!(id);
        row["name"] = name;
        Value::Object(row)
    };
    let full = json!({
        "id": 1, "flag": true, "small": -7, "share": 0.5, "amount": 1e100, "cents": "-0.01",
        "price": "12.34", "wide": "-1.00001", "day": "1969-12-31", "clock": "10:11:12.000013",
        "local": "1969-12-31T23:59:59.999999", "moment": "2013-01-01T05:00:00+00:00",
        "name": "Zoë and a name of more than sixteen characters", "bytes": "00ff",
        "tags": ["a", null], "place": {"lat": 40.5, "names": ["NYC"]}, "counts": {"x": 1}
    });
    let found = read(&table, None);
    check_rows(&found, &json!([full, empty(2, Value::Null), empty(3, json!("c"))]));
    assert_eq!(found["pyiceberg"]["filtered"], json!([3]));
    assert_eq!(found["duckdb"]["filtered"], json!([3]));
    assert_eq!(found["pyiceberg"]["filtered_files"], 1, "bounds leave one file to read");
    assert_eq!(found["pyiceberg"]["bounds"], json!([[1, 2], [3, 3]]));
}

async fn uuids() {
    let warehouse = Warehouse::new();
    let extension = [("ARROW:extension:name".to_owned(), "arrow.uuid".to_owned())];
    let uuid = field_of("key", "uuid").with_metadata(extension.into());
    let mut request = request(&[], &[]);
    request.schema = Arc::new(Schema::new(vec![field_of("id", "int"), uuid]));
    let table = warehouse.tables.create(request).await.unwrap();
    assert_eq!(table.describe(&"t".parse().unwrap()).columns[1].data_type, "uuid");
    let keys = FixedSizeBinaryArray::try_from_iter([[0x12_u8; 16]].into_iter()).unwrap();
    let columns: Vec<ArrayRef> = vec![Arc::new(Int32Array::from(vec![1])), Arc::new(keys)];
    let batch = RecordBatch::try_new(table.schema(), columns).unwrap();
    let staged = warehouse.tables.write(&table, stream_of(batch)).await.unwrap();
    let table = warehouse.commit(&table, TableOperation::Append(staged)).await;
    check_rows(
        &read(&table, None),
        &json!([
            {"id": 1, "key": "12121212-1212-1212-1212-121212121212"}
        ]),
    );
}

async fn partitions_of_every_type() {
    let warehouse = Warehouse::new();
    let columns = [
        ("id", "long"),
        ("flag", "boolean"),
        ("price", "decimal(5, 2)"),
        ("day", "date"),
        ("clock", "time"),
        ("local", "timestamp"),
        ("name", "string"),
    ];
    let names = columns.map(|(name, _)| name);
    let table = warehouse.create(&columns, &names).await;
    let row = json!({
        "id": 1, "flag": true, "price": "-1.50", "day": "1969-12-31", "clock": "10:00:00",
        "local": "2013-01-01T00:00:00", "name": "x"
    });
    let table = warehouse.append(&table, json!([row.clone(), {"id": 2}])).await;
    let empty = json!({
        "id": 2, "flag": null, "price": null, "day": null, "clock": null, "local": null,
        "name": null
    });
    check_rows(&read(&table, None), &json!([row, empty]));
}

async fn partitions_and_overwrites() {
    let warehouse = Warehouse::new();
    let columns = [("id", "long"), ("at", "timestamptz"), ("origin", "string")];
    let table = warehouse.create(&columns, &["day(at)", "origin"]).await;
    let rows = json!([
        {"id": 1, "at": "2013-01-01T23:00:00Z", "origin": "EWR"},
        {"id": 2, "at": "2013-01-02T00:00:00Z", "origin": "EWR"},
        {"id": 3, "at": "1969-12-31T00:00:00Z", "origin": "a/b ü"},
        {"id": 4}
    ]);
    let before = warehouse.append(&table, rows).await;
    let new = json!([{"id": 5, "at": "2013-01-01T01:00:00Z", "origin": "EWR"}]);
    let staged = warehouse.write(&before, new).await.unwrap();
    let after = warehouse.commit(&before, overwrite_partitions(staged)).await;
    let row = |id: i64, at: &str, origin: &str| json!({"id": id, "at": at, "origin": origin});
    let kept = [
        row(2, "2013-01-02T00:00:00+00:00", "EWR"),
        row(3, "1969-12-31T00:00:00+00:00", "a/b ü"),
        json!({"id": 4, "at": null, "origin": null}),
    ];
    let mut now = kept.to_vec();
    now.push(row(5, "2013-01-01T01:00:00+00:00", "EWR"));
    let found = read(&after, None);
    check_rows(&found, &json!(now));
    assert_eq!(found["pyiceberg"]["filtered"], json!([3, 4, 5]));
    assert_eq!(found["pyiceberg"]["history"], 2);
    let mut past = vec![row(1, "2013-01-01T23:00:00+00:00", "EWR")];
    past.extend(kept);
    check_rows(&read(&after, before.snapshot_id()), &json!(past));
}

async fn delete_files() {
    let warehouse = Warehouse::new();
    let mut table = warehouse.create(&[("id", "int"), ("name", "string")], &["name"]).await;
    table = warehouse
        .append(
            &table,
            json!([{"id": 1, "name": "x"}, {"id": 2, "name": "x"}, {"id": 3, "name": "x"}]),
        )
        .await;
    table = warehouse.append(&table, json!([{"id": 4, "name": "y"}])).await;
    for row in [1, 2] {
        let rewrite = crate::deletes::delete(&warehouse, &table, &[row]).await;
        table = warehouse.commit(&table, TableOperation::Rewrite(rewrite)).await;
    }
    let rows = json!([{"id": 1, "name": "x"}, {"id": 4, "name": "y"}]);
    check_rows(&read(&table, None), &rows);
    assert_eq!(warehouse.rows(&table).await, rows);
}

/// Tests files with three partition specs, position deletes written before an upgrade, deletion
/// vectors, defaults, and rewritten rows with their ids.
async fn layouts_and_version_3() {
    let warehouse = Warehouse::new();
    let alter = async |table: &Table, alterations: Vec<Alteration>| {
        warehouse.commit(table, TableOperation::Alter { alterations, after: None }).await
    };
    let part = |text: &str| Alteration::AddPart { field: text.parse().unwrap(), name: None };
    let columns = [("id", "int"), ("name", "string"), ("at", "timestamp")];
    let row = |id: i64, name: &str, n: Value| json!({"id": id, "name": name, "at": format!("2026-01-0{id}T00:00:00"), "n": n});
    let bare = |id: i64, name: &str| json!({"id": id, "name": name, "at": format!("2026-01-0{id}T00:00:00")});
    let mut table = warehouse.create(&columns, &[]).await;
    table = warehouse.append(&table, json!([bare(1, "a"), bare(2, "b"), bare(3, "c")])).await;
    let rewrite = crate::deletes::delete(&warehouse, &table, &[1]).await;
    table = warehouse.commit(&table, TableOperation::Rewrite(rewrite)).await;
    let version = [("format-version".to_owned(), Some("3".to_owned()))].into();
    table = alter(&table, vec![Alteration::SetProperties(version), part("bucket(4, id)")]).await;
    table = warehouse.append(&table, json!([bare(4, "d"), bare(5, "e")])).await;
    let n = with_default(field_of("n", "int"), &(Arc::new(Int32Array::from(vec![7])) as ArrayRef));
    let n = Alteration::AddColumn {
        within: Vec::new(),
        column: n.unwrap(),
        place: None,
        if_not_exists: false,
    };
    table = alter(&table, vec![n, part("truncate(1, name)"), part("month(at)")]).await;
    table =
        warehouse.append(&table, json!([row(6, "f", json!(6)), row(7, "g", Value::Null)])).await;
    table = warehouse.append(&table, json!([row(8, "h", json!(8))])).await;
    let expected = json!([
        row(1, "a", json!(7)),
        row(3, "c", json!(7)),
        row(4, "d", json!(7)),
        row(5, "e", json!(7)),
        row(6, "f", json!(6)),
        row(7, "g", Value::Null),
        row(8, "h", json!(8)),
    ]);
    check_rows(&read(&table, None), &expected);
    // The deletion vector of the first file includes its position deletes.
    let rewrite = crate::deletes::delete(&warehouse, &table, &[2]).await;
    table = warehouse.commit(&table, TableOperation::Rewrite(rewrite)).await;
    let left: Vec<Value> =
        expected.as_array().unwrap().iter().filter(|row| row["id"] != 3).cloned().collect();
    check_rows(&read(&table, None), &json!(left));
    let removed = warehouse.tables.plan(&table, None).await.unwrap().files().to_vec();
    let rows = warehouse.tables.rewrites().read(&table, &removed).unwrap();
    let staged = warehouse.tables.write(&table, rows).await.unwrap();
    table = warehouse.commit(&table, TableOperation::Compact { removed, staged }).await;
    check_rows(&read(&table, None), &json!(left));
}

async fn nanoseconds() {
    let warehouse = Warehouse::new();
    let mut new = request(&[("id", "int"), ("at", "timestamp_ns")], &["day(at)", "bucket(4, at)"]);
    new.properties.insert("format-version".to_owned(), "3".to_owned());
    let table = warehouse.tables.create(new).await.unwrap();
    let rows = json!([
        {"id": 1, "at": "2026-01-01T00:00:00.000000001"},
        {"id": 2, "at": "1969-12-31T23:59:59.999999999"},
        {"id": 3, "at": "2026-01-01T00:00:00.123456789"},
    ]);
    let table = warehouse.append(&table, rows.clone()).await;
    assert_eq!(warehouse.rows(&table).await.as_array().map(Vec::len), Some(3));
    check_rows(&read(&table, None), &rows);
}

async fn evolution_and_many_commits() {
    let warehouse = Warehouse::new();
    let mut table = warehouse.create(&[("id", "int"), ("old", "string")], &[]).await;
    table = warehouse.append(&table, json!([{"id": 1, "old": "x"}])).await;
    let schema = schema_of(&[("name", "string"), ("id", "int")]);
    let partition = partition_of(&["name"]);
    let future = warehouse.tables.replacement(&table, &schema, &partition, None).unwrap();
    let batch = json_batch(&future.schema(), &json!([{"id": 1, "name": "n"}]));
    let staged = warehouse.tables.write(&future, stream_of(batch)).await.unwrap();
    table = warehouse
        .commit(&table, TableOperation::Replace { schema, partition, after: None, staged })
        .await;
    table = warehouse
        .commit(&table, TableOperation::add_columns(vec![field_of("extra", "double")]))
        .await;
    let mut expected = vec![json!({"id": 1, "name": "n", "extra": null})];
    for id in 2..20 {
        table = warehouse.append(&table, json!([{"id": id, "name": "n", "extra": 0.5}])).await;
        expected.push(json!({"id": id, "name": "n", "extra": 0.5}));
    }
    let found = read(&table, None);
    check_rows(&found, &json!(expected));
    assert_eq!(found["pyiceberg"]["filtered_files"], 17);
}
