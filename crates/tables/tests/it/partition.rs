//! Partitioning of rows, and overwrites of partitions.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Date32Array, Int32Array, Int64Array, RecordBatch, Time64MicrosecondArray,
    TimestampMicrosecondArray,
};
use headwater_model::ErrorCode;
use headwater_model::ToProblem;
use headwater_tables::{Table, TableOperation};
use iceberg::spec::{FormatVersion, Literal};
use serde_json::{Value, json};

use crate::fixture::{Warehouse, overwrite_partitions, partition_of, request, rows_at, stream_of};
use crate::foreign::{self, Foreign};

const COLUMNS: [(&str, &str); 3] = [("at", "timestamp"), ("origin", "string"), ("n", "int")];

#[tokio::test]
async fn rows_are_written_to_the_file_of_their_partition() {
    let warehouse = Warehouse::new();
    let table = warehouse.create(&COLUMNS, &["day(at)", "origin"]).await;
    assert_eq!(table.partition(), partition_of(&["day(at)", "origin"]));
    let rows = json!([
        {"at": "2013-01-01T23:59:59.999999", "origin": "EWR", "n": 1},
        {"at": "2013-01-02T00:00:00", "origin": "EWR", "n": 2},
        {"at": "2013-01-01T00:00:00", "origin": "EWR", "n": 3},
        {"at": "1969-12-31T23:00:00", "origin": "a/b c", "n": 4},
        {"n": 5}
    ]);
    let table = warehouse.append(&table, rows).await;
    let reopened = warehouse.reopened();
    let table = reopened.load(table.metadata_location()).await.unwrap();
    let plan = reopened.plan(&table, None).await.unwrap();
    let mut found: Vec<_> =
        plan.files().iter().map(|file| (file.partition.as_str(), file.rows)).collect();
    found.sort_unstable();
    assert_eq!(
        found,
        [
            ("at_day=1969-12-31/origin=a/b c", 1),
            ("at_day=2013-01-01/origin=EWR", 2),
            ("at_day=2013-01-02/origin=EWR", 1),
            ("at_day=null/origin=null", 1),
        ]
    );
    let odd = plan.files().iter().find(|file| file.partition.contains("b c")).unwrap();
    assert!(odd.location.contains("/data/at_day=1969-12-31/origin=a_b_c/"), "{}", odd.location);
    let mut rows = rows_at(&reopened, &table, None).await.as_array().unwrap().clone();
    rows.sort_by_key(|row| row["n"].as_i64());
    assert_eq!(rows[3], json!({"at": "1969-12-31T23:00:00", "origin": "a/b c", "n": 4}));
    assert_eq!(table.summary()["changed-partition-count"], "4");
}

#[tokio::test]
async fn every_supported_type_partitions() {
    let warehouse = Warehouse::new();
    let columns = [
        ("flag", "boolean"),
        ("small", "int"),
        ("large", "long"),
        ("price", "decimal(5, 2)"),
        ("day", "date"),
        ("at", "time"),
        ("local", "timestamp"),
        ("moment", "timestamptz"),
        ("name", "string"),
        ("raw", "binary"),
        ("fixed", "fixed[2]"),
    ];
    let names = columns.map(|(name, _)| name);
    let table = warehouse.create(&columns, &names).await;
    let row = json!({
        "flag": true, "small": 1, "large": 2, "price": 1.5, "day": "2013-01-01",
        "at": "10:00:00", "local": "2013-01-01T00:00:00", "moment": "2013-01-01T00:00:00Z",
        "name": "x", "raw": "00ff", "fixed": "0102"
    });
    let table = warehouse.append(&table, json!([row.clone(), row.clone(), {}])).await;
    assert_eq!(table.files(), 2);
    let reopened = warehouse.reopened();
    let table = reopened.load(table.metadata_location()).await.unwrap();
    let rows = rows_at(&reopened, &table, None).await;
    assert_eq!((&rows[0], &rows[1], &rows[2]), (&row, &row, &json!({})));
    let staged = warehouse.write(&table, json!([row.clone()])).await.unwrap();
    let table = warehouse.commit(&table, overwrite_partitions(staged)).await;
    assert_eq!(table.rows(), 2);
}

#[tokio::test]
async fn overwriting_partitions_keeps_the_others() {
    let warehouse = Warehouse::new();
    let table = warehouse.create(&COLUMNS, &["origin"]).await;
    let first = json!([{"origin": "EWR", "n": 1}, {"origin": "JFK", "n": 2}, {"n": 3}]);
    let table = warehouse.append(&table, first).await;
    let table = warehouse.append(&table, json!([{"origin": "EWR", "n": 4}])).await;
    let new = json!([{"origin": "EWR", "n": 10}, {"n": 11}, {"origin": "LGA", "n": 12}]);
    let staged = warehouse.write(&table, new).await.unwrap();
    let table = warehouse.commit(&table, overwrite_partitions(staged)).await;
    let reopened = warehouse.reopened();
    let table = reopened.load(table.metadata_location()).await.unwrap();
    let rows = rows_at(&reopened, &table, None).await;
    let mut left: Vec<_> =
        rows.as_array().unwrap().iter().map(|row| row["n"].as_i64().unwrap()).collect();
    left.sort_unstable();
    assert_eq!(left, [2, 10, 11, 12]);
    assert_eq!((table.rows(), table.files()), (4, 4));
    let summary = table.summary();
    assert_eq!(
        (summary["deleted-records"].as_str(), summary["operation"].as_str()),
        ("3", "overwrite")
    );

    let nothing = warehouse.write(&table, json!([])).await.unwrap();
    let same = warehouse.commit(&table, overwrite_partitions(nothing)).await;
    assert_eq!(same.metadata_location(), table.metadata_location());
}

#[tokio::test]
async fn an_unpartitioned_table_is_one_partition() {
    let warehouse = Warehouse::new();
    let table = warehouse.create(&COLUMNS, &[]).await;
    let table = warehouse.append(&table, json!([{"n": 1}])).await;
    let staged = warehouse.write(&table, json!([{"n": 2}])).await.unwrap();
    let table = warehouse.commit(&table, overwrite_partitions(staged)).await;
    assert_eq!(warehouse.rows(&table).await, json!([{"n": 2}]));
}

#[tokio::test]
async fn many_partitions_are_written_in_turn() {
    let warehouse = Warehouse::new();
    let table = warehouse.create(&[("k", "int"), ("v", "int")], &["k"]).await;
    let rows: Vec<_> = (0..400).map(|n| json!({"k": n % 200, "v": n})).collect();
    let table = warehouse.append(&table, json!(rows)).await;
    assert_eq!(table.rows(), 400);
    assert!(table.files() >= 200);
    let rows = warehouse.rows(&table).await;
    let sum: i64 = rows.as_array().unwrap().iter().map(|row| row["v"].as_i64().unwrap()).sum();
    assert_eq!(sum, 399 * 400 / 2);
}

#[tokio::test]
async fn invalid_partition_fields_are_rejected() {
    let warehouse = Warehouse::new();
    let check = async |partition: &[&str], message: &str| {
        let columns = [("f", "double"), ("s", "string"), ("l", "list<int>"), ("d", "date")];
        let error = warehouse.tables.create(request(&columns, partition)).await.unwrap_err();
        assert_eq!(error.to_string(), message);
        assert_eq!(error.code(), ErrorCode::InvalidArgument);
    };
    let by = "the table cannot be partitioned by";
    check(&["x"], &format!("{by} `x`: the column does not exist")).await;
    check(&["f"], &format!("{by} `f`: a partition column cannot be a floating-point number")).await;
    check(&["l"], &format!("{by} `l`: a partition column must have a primitive type")).await;
    check(&["day(s)"], &format!("{by} `day(s)`: `day` requires a date or a timestamp")).await;
    check(&["d", "d"], &format!("{by} `d`: the partition field occurs twice")).await;
}

#[tokio::test]
async fn a_column_may_have_the_name_of_a_derived_partition() {
    let warehouse = Warehouse::new();
    let columns = [("at", "timestamptz"), ("at_day", "string")];
    let table = warehouse.create(&columns, &["day(at)", "at_day"]).await;
    let table =
        warehouse.append(&table, json!([{"at": "2020-01-01T00:00:00Z", "at_day": "x"}])).await;
    let plan = warehouse.tables.plan(&table, None).await.unwrap();
    assert_eq!(plan.files()[0].partition, "at_day_2=2020-01-01/at_day=x");
    let set = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
    let table = warehouse.commit(&table, TableOperation::SetProperties(set)).await;
    assert_eq!(table.partition(), partition_of(&["day(at)", "at_day"]));
}

/// Returns the table after another engine widened the type of `p`.
async fn widened(warehouse: &Warehouse, table: &Table) -> Table {
    let fields = json!([
        {"id": 1, "name": "p", "required": false, "type": "long"},
        {"id": 2, "name": "v", "required": false, "type": "int"},
    ]);
    let schema = json!({"type": "struct", "schema-id": 1, "fields": fields});
    let updates = json!([
        {"action": "add-schema", "schema": schema},
        {"action": "set-current-schema", "schema-id": -1},
    ]);
    let commit = json!({"requirements": [], "updates": updates});
    warehouse.apply(table, &serde_json::from_value(commit).unwrap()).await.unwrap()
}

/// Returns the values of `v`, read without caches.
async fn values(warehouse: &Warehouse, table: &Table) -> Vec<i64> {
    let reopened = warehouse.reopened();
    let table = reopened.load(table.metadata_location()).await.unwrap();
    let rows = rows_at(&reopened, &table, None).await;
    let value = |row: &Value| row["v"].as_i64().unwrap();
    let mut found: Vec<i64> = rows.as_array().unwrap().iter().map(value).collect();
    found.sort_unstable();
    found
}

/// Returns the number of files that may contain rows of a partition.
async fn candidates(warehouse: &Warehouse, table: &Table, p: i64) -> usize {
    let plan = warehouse.tables.plan(table, None).await.unwrap();
    let wanted: ArrayRef = Arc::new(Int64Array::from(vec![p]));
    let held = plan.may_contain("p", &wanted).unwrap();
    held.iter().filter(|held| *held != Some(false)).count()
}

#[tokio::test]
async fn partitions_are_equal_across_type_promotion() {
    let warehouse = Warehouse::new();
    let mut table = warehouse.create(&[("p", "int"), ("v", "int")], &["p"]).await;
    for v in 0..10 {
        table = warehouse.append(&table, json!([{"p": v % 2, "v": v}])).await;
    }
    let mut table = widened(&warehouse, &table).await;
    assert_eq!(candidates(&warehouse, &table, 1).await, 5);
    // Deletes apply to earlier rows, even if the stored partition values of these rows have another
    // type.
    let deletes = Foreign::equality(&table, &["v"], &json!([{"v": 1}, {"v": 2}]));
    let deletes = deletes.within_value(Literal::long(1));
    table = foreign::commit(&warehouse, &table, vec![deletes], FormatVersion::V2).await;
    assert_eq!(values(&warehouse, &table).await, [0, 2, 3, 4, 5, 6, 7, 8, 9]);
    let rewrite = crate::deletes::delete(&warehouse, &table, &[0]).await;
    table = warehouse.commit(&table, TableOperation::Rewrite(rewrite)).await;
    assert_eq!(values(&warehouse, &table).await, [2, 3, 4, 5, 6, 7, 8, 9]);
    let staged = warehouse.write(&table, json!([{"p": 1, "v": 11}])).await.unwrap();
    table = warehouse.commit(&table, overwrite_partitions(staged)).await;
    assert_eq!(values(&warehouse, &table).await, [2, 4, 6, 8, 11]);
    // Manifests from before the type was widened are merged with later manifests.
    for v in 20..40 {
        table = warehouse.append(&table, json!([{"p": v % 2, "v": v}])).await;
    }
    assert_eq!(values(&warehouse, &table).await.len(), 25);
    table = warehouse.commit(&table, TableOperation::ArrangeManifests).await;
    assert_eq!(values(&warehouse, &table).await.len(), 25);
    assert_eq!(candidates(&warehouse, &table, 1).await, 11);
}

#[tokio::test]
async fn every_partition_value_has_a_name() {
    let (least, most) = (i32::MIN, i32::MAX);
    let small = vec![least, -1_000_000_000, -1, 0, 1, most];
    let large = vec![i64::MIN, i64::MIN / 1000, -500_000, -1, 0, 1, i64::MAX];
    let of = |name: &str| -> ArrayRef {
        match name {
            "int" => Arc::new(Int32Array::from(small.clone())),
            "long" => Arc::new(Int64Array::from(large.clone())),
            "date" => Arc::new(Date32Array::from(small.clone())),
            "time" => Arc::new(Time64MicrosecondArray::from(large.clone())),
            "timestamp" => Arc::new(TimestampMicrosecondArray::from(large.clone())),
            _ => {
                let micros = TimestampMicrosecondArray::from(large.clone());
                Arc::new(micros.with_timezone("+00:00"))
            }
        }
    };
    let whole = ["x", "bucket(4, x)", "truncate(10, x)"];
    let times = ["x", "year(x)", "month(x)", "day(x)", "hour(x)", "bucket(4, x)"];
    let all = [
        ("int", &whole[..]),
        ("long", &whole),
        ("time", &["x", "bucket(4, x)"]),
        ("date", &["x", "year(x)", "month(x)", "day(x)", "bucket(4, x)"]),
        ("timestamp", &times),
        ("timestamptz", &times),
    ];
    for (name, partitions) in all {
        for partition in partitions {
            let warehouse = Warehouse::new();
            let mut request = request(&[("x", name)], &[partition]);
            request.properties.insert("format-version".to_owned(), "3".to_owned());
            let table = warehouse.tables.create(request).await.unwrap();
            let column = arrow::compute::cast(&of(name), table.schema().field(0).data_type());
            let batch = RecordBatch::try_new(table.schema(), vec![column.unwrap()]).unwrap();
            let rows = batch.num_rows();
            let staged = warehouse.tables.write(&table, stream_of(batch)).await.unwrap();
            let table = warehouse.commit(&table, TableOperation::Append(staged)).await;
            let reopened = warehouse.reopened();
            let table = reopened.load(table.metadata_location()).await.unwrap();
            let plan = reopened.plan(&table, None).await.unwrap();
            assert_eq!(plan.rows(), rows as u64, "{name} by {partition}");
            assert!(plan.files().iter().all(|file| !file.partition.is_empty()));
        }
    }
}
