//! Partition values of every type are written to manifests and read back.

use headwater_tables::Table;
use serde_json::{Value, json};

use crate::fixture::{Warehouse, rows_at};

/// Reads the rows without caches.
async fn read(warehouse: &Warehouse, table: &Table) -> Value {
    let reopened = warehouse.reopened();
    let table = reopened.load(table.metadata_location()).await.unwrap();
    rows_at(&reopened, &table, None).await
}

/// Commits rows until manifests are merged, and reads all rows again.
async fn check_partition_survives_merge(column: (&str, &str), partition: &str, value: Value) {
    let warehouse = Warehouse::new();
    let (name, data_type) = column;
    let mut request = crate::fixture::request(&[("id", "int"), column], &[partition]);
    request.properties.insert("format-version".to_owned(), "3".to_owned());
    let mut table = warehouse.tables.create(request).await.unwrap();
    for id in 0..18 {
        let mut row = json!({"id": id});
        if id % 3 > 0 {
            row[name] = value.clone();
        }
        table = warehouse.append(&table, json!([row])).await;
    }
    let rows = read(&warehouse, &table).await;
    let count = |rows: &Value| {
        rows.as_array().unwrap().iter().filter(|row| row.get(name).is_some()).count()
    };
    assert_eq!((rows.as_array().unwrap().len(), count(&rows)), (18, 12), "{data_type}");
    assert_eq!(rows, warehouse.rows(&table).await, "{data_type} by {partition}");
    let files = warehouse.reopened().list_files(&table).await.unwrap();
    let nulls = files.iter().filter(|file| file.partition.ends_with("=null")).count();
    assert_eq!(nulls, 6, "{data_type} by {partition}");
    let known = warehouse.tables.list_files(&table).await.unwrap();
    let partitions = |files: &[headwater_tables::ListedFile]| {
        files.iter().map(|file| file.partition.clone()).collect::<Vec<_>>()
    };
    assert_eq!(partitions(&files), partitions(&known), "{data_type} by {partition}");
}

#[tokio::test]
async fn partition_values_of_every_type_are_read_back() {
    for (data_type, partition, value) in [
        ("uuid", "v", json!("f79c3e0961774c5a9d5b7a3d4a1e2b11")),
        ("uuid", "bucket(4, v)", json!("f79c3e0961774c5a9d5b7a3d4a1e2b11")),
        ("timestamp_ns", "v", json!("2026-01-01T00:00:00.123456789")),
        ("timestamptz_ns", "v", json!("1969-12-31T23:59:59.123456789Z")),
        ("timestamp", "v", json!("1969-12-31T23:59:59.123456")),
        ("timestamp", "month(v)", json!("1969-12-31T23:59:59.123456")),
        ("date", "v", json!("1969-12-31")),
        ("date", "year(v)", json!("1969-12-31")),
        ("decimal(20, 2)", "v", json!("-12345678901234567.89")),
        ("decimal(5, 2)", "truncate(10, v)", json!("1.00")),
        ("long", "v", json!(-(1_i64 << 40))),
        ("int", "v", json!(-7)),
        ("boolean", "v", json!(true)),
        ("string", "v", json!("日本語のテキストです、長い文章")),
        ("string", "truncate(3, v)", json!("日本語のテキストです、長い文章")),
        ("binary", "v", json!("00ff")),
        ("time", "v", json!("23:59:59.123456")),
    ] {
        check_partition_survives_merge(("v", data_type), partition, value).await;
    }
}
