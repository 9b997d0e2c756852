//! Schema evolution.

use std::collections::BTreeMap;

use headwater_model::{ErrorCode, Table as Described, ToProblem};
use headwater_tables::{Table, TableOperation};
use serde_json::json;

use crate::fixture::{
    Warehouse, field_of, json_batch, partition_of, rows_at, schema_of, stream_of,
};

fn ids(table: &Table) -> Vec<(String, i32)> {
    let described: Described = table.describe(&"t".parse().unwrap());
    described.columns.into_iter().map(|column| (column.name, column.field_id)).collect()
}

fn id(name: &str, id: i32) -> (String, i32) {
    (name.to_owned(), id)
}

#[tokio::test]
async fn new_columns_are_null_in_old_rows() {
    let warehouse = Warehouse::new();
    let table = warehouse.create(&[("a", "int"), ("s", "struct<x: int>")], &[]).await;
    let old = warehouse.append(&table, json!([{"a": 1, "s": {"x": 1}}])).await;
    let added = vec![field_of("b", "string"), field_of("c", "list<int>")];
    let table = warehouse.commit(&old, TableOperation::add_columns(added)).await;
    assert_eq!(ids(&table), [id("a", 1), id("s", 2), id("b", 4), id("c", 5)]);
    assert_eq!(table.snapshot_id(), old.snapshot_id(), "no row changed");
    let table = warehouse.append(&table, json!([{"a": 2, "b": "x", "c": [1]}])).await;
    let reopened = warehouse.reopened();
    let table = reopened.load(table.metadata_location()).await.unwrap();
    let rows = rows_at(&reopened, &table, None).await;
    assert_eq!(rows, json!([{"a": 1, "s": {"x": 1}}, {"a": 2, "b": "x", "c": [1]}]));
    // An earlier snapshot keeps the schema that it had.
    let plan = reopened.plan(&table, old.snapshot_id()).await.unwrap();
    assert_eq!(plan.schema().fields().len(), 2);
}

#[tokio::test]
async fn invalid_new_columns_are_rejected() {
    let warehouse = Warehouse::new();
    let table = warehouse.create(&[("a", "int"), ("at", "date")], &["day(at)"]).await;
    let check = async |name: &str, text: &str, message: &str, code: ErrorCode| {
        let operation = TableOperation::add_columns(vec![field_of(name, text)]);
        let error = warehouse.tables.commit(&table, operation, BTreeMap::new()).await.unwrap_err();
        assert_eq!((error.to_string().as_str(), error.code()), (message, code));
    };
    check("a", "string", "column `a` already exists", ErrorCode::AlreadyExists).await;
    check(
        "b",
        "int!",
        "column `b` cannot be used: existing rows would have no value in a required column",
        ErrorCode::InvalidArgument,
    )
    .await;
    check(
        "at_day",
        "int",
        "column `at_day` cannot be used: a partition field of the table has this name",
        ErrorCode::InvalidArgument,
    )
    .await;
}

#[tokio::test]
async fn a_replacement_changes_columns_partitions_and_rows() {
    let warehouse = Warehouse::new();
    let table = warehouse.create(&[("a", "int"), ("b", "int"), ("c", "string")], &["c"]).await;
    let set = BTreeMap::from([("owner".to_owned(), "ann".to_owned())]);
    let table = warehouse.commit(&table, TableOperation::SetProperties(set)).await;
    let old = warehouse.append(&table, json!([{"a": 1, "b": 2, "c": "x"}])).await;

    let schema = schema_of(&[("b", "string"), ("a", "int"), ("d", "date")]);
    let partition = partition_of(&["day(d)"]);
    let future = warehouse.tables.replacement(&old, &schema, &partition, None).unwrap();
    let rows = json!([{"b": "y", "a": 3, "d": "2020-02-02"}]);
    let batch = json_batch(&future.schema(), &rows);
    let staged = warehouse.tables.write(&future, stream_of(batch)).await.unwrap();
    let operation =
        TableOperation::Replace { schema, partition: partition.clone(), after: None, staged };
    let new = warehouse.commit(&old, operation).await;

    assert_eq!(ids(&new), [id("b", 4), id("a", 1), id("d", 5)], "`a` is the same column still");
    assert_eq!(new.partition(), partition);
    assert_eq!(new.properties()["owner"], "ann");
    let reopened = warehouse.reopened();
    let new = reopened.load(new.metadata_location()).await.unwrap();
    assert_eq!(rows_at(&reopened, &new, None).await, rows);
    assert_eq!(new.summary()["deleted-records"], "1");
    let plan = reopened.plan(&new, old.snapshot_id()).await.unwrap();
    assert_eq!(plan.files()[0].partition, "c=x", "the past keeps its partitions");

    // Further commits succeed, and so does another replacement, which restores the old columns.
    let next = warehouse.append(&new, json!([{"a": 7}])).await;
    assert_eq!(next.rows(), 2);
    let back = schema_of(&[("a", "int"), ("b", "int"), ("c", "string")]);
    let future = warehouse.tables.replacement(&next, &back, &[], None).unwrap();
    let batch = json_batch(&future.schema(), &json!([{"c": "z"}]));
    let staged = warehouse.tables.write(&future, stream_of(batch)).await.unwrap();
    let operation =
        TableOperation::Replace { schema: back, partition: Vec::new(), after: None, staged };
    let back = warehouse.commit(&next, operation).await;
    let reopened = warehouse.reopened();
    let back = reopened.load(back.metadata_location()).await.unwrap();
    assert_eq!(rows_at(&reopened, &back, None).await, json!([{"c": "z"}]));
}

#[tokio::test]
async fn rows_written_before_a_replacement_conflict_with_it() {
    let warehouse = Warehouse::new();
    let old = warehouse.create(&[("a", "int")], &[]).await;
    let late = warehouse.write(&old, json!([{"a": 1}])).await.unwrap();
    let schema = schema_of(&[("a", "string")]);
    let future = warehouse.tables.replacement(&old, &schema, &[], None).unwrap();
    let batch = json_batch(&future.schema(), &json!([{"a": "x"}]));
    let staged = warehouse.tables.write(&future, stream_of(batch)).await.unwrap();
    let operation = TableOperation::Replace { schema, partition: Vec::new(), after: None, staged };
    let new = warehouse.commit(&old, operation).await;
    let operation = TableOperation::Append(late);
    let error = warehouse.tables.commit(&new, operation, BTreeMap::new()).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::CommitConflict);
    assert_eq!(error.to_string(), "the table's schema changed while its new rows were written");
}
