//! Statistics in scan plans.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, Date32Array, Decimal128Array, Float64Array, Int64Array, RecordBatch,
    StringArray, TimestampMicrosecondArray, UInt64Array,
};
use headwater_tables::{ScanPlan, Table, TableOperation};
use iceberg::spec::FormatVersion;
use serde_json::json;

use crate::fixture::{Warehouse, stream_of};
use crate::foreign::{self, Foreign};

async fn plan_of(warehouse: &Warehouse, table: &Table) -> ScanPlan {
    let reopened = warehouse.reopened();
    let table = reopened.load(table.metadata_location()).await.unwrap();
    reopened.plan(&table, None).await.unwrap()
}

fn same(found: Option<ArrayRef>, expected: impl Array + 'static) {
    let expected: ArrayRef = Arc::new(expected);
    assert_eq!(&found.unwrap(), &expected);
}

#[tokio::test]
async fn bounds_and_counts_have_the_tables_types() {
    let warehouse = Warehouse::new();
    let columns = [
        ("id", "long"),
        ("name", "string"),
        ("price", "decimal(20, 2)"),
        ("cents", "decimal(5, 2)"),
        ("day", "date"),
        ("at", "timestamptz"),
    ];
    let table = warehouse.create(&columns, &[]).await;
    let table = warehouse
        .append(
            &table,
            json!([
                {"id": 5, "name": "abcdefghijklmnopqrstuvwxyz", "price": "-1.50", "cents": "0.01",
                 "day": "1970-01-02", "at": "1970-01-01T00:00:01Z"},
                {"id": -3, "price": "100.00", "cents": "-9.99", "day": "1969-12-31"}
            ]),
        )
        .await;
    let table = warehouse.append(&table, json!([{"id": 7}])).await;
    let plan = plan_of(&warehouse, &table).await;
    assert_eq!((plan.rows(), plan.files().len()), (3, 2));
    same(plan.min("id"), Int64Array::from(vec![-3, 7]));
    same(plan.max("id"), Int64Array::from(vec![5, 7]));
    same(plan.min("name"), StringArray::from(vec![Some("abcdefghijklmnop"), None]));
    same(plan.max("name"), StringArray::from(vec![Some("abcdefghijklmnoq"), None]));
    let decimals = |values: Vec<Option<i128>>, precision| {
        Decimal128Array::from(values).with_precision_and_scale(precision, 2).unwrap()
    };
    same(plan.min("price"), decimals(vec![Some(-150), None], 20));
    same(plan.max("price"), decimals(vec![Some(10_000), None], 20));
    same(plan.min("cents"), decimals(vec![Some(-999), None], 5));
    same(plan.max("cents"), decimals(vec![Some(1), None], 5));
    same(plan.min("day"), Date32Array::from(vec![Some(-1), None]));
    let times = TimestampMicrosecondArray::from(vec![Some(1_000_000), None]).with_timezone("UTC");
    same(plan.max("at"), times);
    same(plan.null_counts("name"), UInt64Array::from(vec![1, 1]));
    same(Some(plan.row_counts()), UInt64Array::from(vec![2, 1]));
    assert!(plan.min("nothing").is_none());
    assert!(plan.is_exact("id") && plan.is_exact("at") && !plan.is_exact("name"));
    assert!(plan.files()[0].column_bytes(1).unwrap() > 0);
    let kept = plan.retain(&[false, true]);
    assert_eq!((kept.rows(), kept.files().len()), (1, 1));
    same(kept.min("id"), Int64Array::from(vec![7]));
}

#[tokio::test]
async fn bounds_of_other_engines_are_not_exact() {
    let warehouse = Warehouse::new();
    let table = warehouse.create(&[("a", "long")], &[]).await;
    let table = warehouse.append(&table, json!([{"a": 1}])).await;
    let theirs = vec![Foreign::data(&table, &[("a", &[5])])];
    let table = foreign::commit(&warehouse, &table, theirs, FormatVersion::V2).await;
    let plan = plan_of(&warehouse, &table).await;
    let exact: Vec<bool> = plan.files().iter().map(|file| file.has_exact_bounds()).collect();
    assert_eq!(exact, [true, false]);
}

#[tokio::test]
async fn a_column_with_nans_has_no_bounds_to_prune_by() {
    let warehouse = Warehouse::new();
    let mut table = warehouse.create(&[("x", "double")], &[]).await;
    for values in [vec![1.0, 2.5], vec![1.0, f64::NAN], vec![f64::NAN]] {
        let column = Arc::new(Float64Array::from(values));
        let batch = RecordBatch::try_new(table.schema(), vec![column]).unwrap();
        let staged = warehouse.tables.write(&table, stream_of(batch)).await.unwrap();
        table = warehouse.commit(&table, TableOperation::Append(staged)).await;
    }
    let plan = plan_of(&warehouse, &table).await;
    same(plan.min("x"), Float64Array::from(vec![Some(1.0), None, None]));
    same(plan.max("x"), Float64Array::from(vec![Some(2.5), None, None]));
}

#[tokio::test]
async fn a_column_added_later_is_unknown_in_older_files() {
    let warehouse = Warehouse::new();
    let table = warehouse.create(&[("a", "int")], &[]).await;
    let table = warehouse.append(&table, json!([{"a": 1}])).await;
    let added = vec![crate::fixture::field_of("b", "long")];
    let table = warehouse.commit(&table, TableOperation::add_columns(added)).await;
    let table = warehouse.append(&table, json!([{"a": 2, "b": 8}])).await;
    let plan = plan_of(&warehouse, &table).await;
    same(plan.min("b"), Int64Array::from(vec![None, Some(8)]));
    same(plan.null_counts("b"), UInt64Array::from(vec![None, Some(0)]));
}

#[tokio::test]
async fn metadata_files_are_read_once() {
    let warehouse = Warehouse::new();
    let table = warehouse.create(&[("a", "int")], &[]).await;
    let table = warehouse.append(&table, json!([{"a": 1}])).await;
    let reopened = warehouse.reopened();
    let loaded = reopened.load(table.metadata_location()).await.unwrap();
    assert_eq!(reopened.plan(&loaded, None).await.unwrap().rows(), 1);
    for file in warehouse.files(&table, ".avro") {
        std::fs::remove_file(file).unwrap();
    }
    std::fs::remove_file(warehouse.file(table.metadata_location())).unwrap();
    let loaded = reopened.load(table.metadata_location()).await.unwrap();
    assert_eq!(reopened.plan(&loaded, None).await.unwrap().rows(), 1);
    assert!(warehouse.reopened().load(table.metadata_location()).await.is_err());
}
