//! Delete files: the rows that they delete, and their removal when data files change.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::StreamExt;
use headwater_model::{ErrorCode, ToProblem};
use headwater_tables::{DataFile, Positions, RowRewrite, StagedFiles, Table, TableOperation};
use iceberg::spec::FormatVersion::{V2, V3};
use serde_json::{Value, json};

use crate::fixture::{Warehouse, json_batch, overwrite_partitions, rows_at, stream_of};
use crate::foreign::{Foreign, commit};

async fn files(warehouse: &Warehouse, table: &Table) -> Vec<Arc<DataFile>> {
    warehouse.tables.plan(table, None).await.unwrap().files().to_vec()
}

/// Returns the values of column `a`, read without caches.
async fn remaining(warehouse: &Warehouse, table: &Table) -> Vec<i64> {
    let tables = warehouse.reopened();
    let table = tables.load(table.metadata_location()).await.unwrap();
    let rows = rows_at(&tables, &table, None).await;
    let rows: Vec<i64> =
        rows.as_array().unwrap().iter().map(|row| row["a"].as_i64().unwrap_or(-1)).collect();
    assert_eq!(tables.count(&table).await.unwrap(), rows.len() as u64);
    rows
}

fn rows_of(values: impl IntoIterator<Item = i64>) -> Value {
    Value::Array(values.into_iter().map(|value| json!({"a": value, "b": value % 3})).collect())
}

#[tokio::test]
async fn position_deletes_apply_to_the_files_they_refer_to() {
    let warehouse = Warehouse::new();
    let table = warehouse.create(&[("a", "long"), ("b", "long")], &[]).await;
    let table = warehouse.append(&table, rows_of(0..5)).await;
    let table = warehouse.append(&table, rows_of(5..10)).await;
    let data = files(&warehouse, &table).await;
    let both = Foreign::positions(&table, &[(&data[0], 0), (&data[0], 4), (&data[1], 2)]);
    let one = Foreign::positions(&table, &[(&data[1], 3), (&data[1], 400)]).about(&data[1]);
    let table = commit(&warehouse, &table, vec![both, one], V2).await;
    assert_eq!(remaining(&warehouse, &table).await, [1, 2, 3, 5, 6, 9]);
    // Rows that are added after the delete file are not deleted.
    let table = warehouse.append(&table, rows_of(10..12)).await;
    assert_eq!(remaining(&warehouse, &table).await, [1, 2, 3, 5, 6, 9, 10, 11]);
    let summary = table.summary();
    assert_eq!((&*summary["total-delete-files"], &*summary["total-position-deletes"]), ("2", "5"));
    let first = files(&warehouse, &table).await[0].clone();
    let rows = warehouse.tables.read(&table, &[first], None, Some(2)).unwrap();
    assert_eq!(rows.map(|batch| batch.unwrap().num_rows()).collect::<Vec<_>>().await, [2]);
}

#[tokio::test]
async fn equality_deletes_apply_to_older_rows_with_equal_values() {
    let warehouse = Warehouse::new();
    let columns = [("a", "long"), ("b", "long"), ("c", "string")];
    let table = warehouse.create(&columns, &[]).await;
    let rows = json!([
        {"a": 1, "b": 1, "c": "x"}, {"a": 2, "b": 1}, {"a": 3, "c": "x"}, {"a": 4, "b": 7},
        {"a": 5, "b": 7, "c": "y"}, {"b": 9}
    ]);
    let table = warehouse.append(&table, rows.clone()).await;
    let pairs = json!([{"b": 1}, {"b": 7, "c": "y"}, {"c": "x"}]);
    let pairs = Foreign::equality(&table, &["b", "c"], &pairs);
    let keys = Foreign::equality(&table, &["a"], &json!([{"a": 4}, {"a": null}, {"a": 77}]));
    let table = commit(&warehouse, &table, vec![pairs, keys], V2).await;
    // Nulls match nulls, and a row is deleted only if it matches all columns of a key.
    assert_eq!(remaining(&warehouse, &table).await, [1]);
    let table = warehouse.append(&table, rows).await;
    assert_eq!(remaining(&warehouse, &table).await, [1, 1, 2, 3, 4, 5, -1]);
    let again = Foreign::equality(&table, &["a"], &json!([{"a": 1}, {"a": 5}]));
    let table = commit(&warehouse, &table, vec![again], V2).await;
    assert_eq!(remaining(&warehouse, &table).await, [2, 3, 4, -1]);
}

#[tokio::test]
async fn deletes_apply_within_their_partition() {
    let warehouse = Warehouse::new();
    let table = warehouse.create(&[("a", "long"), ("b", "string")], &["b"]).await;
    let rows = json!([{"a": 1, "b": "x"}, {"a": 2, "b": "x"}, {"a": 1, "b": "y"}]);
    let table = warehouse.append(&table, rows).await;
    let data = files(&warehouse, &table).await;
    let of_x = data.iter().find(|file| file.partition == "b=x").unwrap();
    let of_y = data.iter().find(|file| file.partition == "b=y").unwrap();
    let keys = Foreign::equality(&table, &["a"], &json!([{"a": 1}])).within("x");
    let elsewhere = Foreign::positions(&table, &[(of_y, 0), (of_x, 1)]).within("x");
    let table = commit(&warehouse, &table, vec![keys], V2).await;
    assert_eq!(warehouse.rows(&table).await.as_array().unwrap().len(), 2);
    let table = commit(&warehouse, &table, vec![elsewhere], V2).await;
    assert_eq!(warehouse.rows(&table).await, json!([{"a": 1, "b": "y"}]));
    // Overwriting a partition also removes the partition's delete files.
    let staged = warehouse.write(&table, json!([{"a": 1, "b": "x"}])).await.unwrap();
    let table = warehouse.commit(&table, overwrite_partitions(staged)).await;
    assert_eq!(remaining(&warehouse, &table).await.len(), 2);
    assert_eq!(table.summary()["total-delete-files"], "0");
}

#[tokio::test]
async fn a_deletion_vector_replaces_position_deletes() {
    let warehouse = Warehouse::new();
    let table = warehouse.create(&[("a", "long"), ("b", "long")], &[]).await;
    let table = warehouse.append(&table, rows_of(0..6)).await;
    let table = warehouse.append(&table, rows_of(6..8)).await;
    let data = files(&warehouse, &table).await;
    let stale = Foreign::positions(&table, &[(&data[0], 0), (&data[1], 0)]);
    let vector = Foreign::vector(&table, &data[0], &[0, 2, 3]);
    let table = commit(&warehouse, &table, vec![stale, vector], V3).await;
    assert_eq!(remaining(&warehouse, &table).await, [1, 4, 5, 7]);
    let table = warehouse.append(&table, rows_of(9..10)).await;
    assert_eq!(remaining(&warehouse, &table).await, [1, 4, 5, 7, 9]);
    // The vector that Headwater writes includes the positions of the other engine's vector. The
    // position deletes, which no longer apply to the first file, still apply to the second file.
    let rewrite = delete(&warehouse, &table, &[4]).await;
    let table = warehouse.commit(&table, TableOperation::Rewrite(rewrite)).await;
    assert_eq!(remaining(&warehouse, &table).await, [1, 5, 7, 9]);
}

#[tokio::test]
async fn equality_deletes_match_columns_by_id() {
    let warehouse = Warehouse::new();
    let table = warehouse.create(&[("a", "long"), ("b", "long")], &[]).await;
    let table = warehouse.append(&table, rows_of(0..4)).await;
    let added = vec![crate::fixture::field_of("c", "long")];
    let keys = Foreign::equality(&table, &["b"], &json!([{"b": 1}]));
    let table =
        warehouse.commit(&table, TableOperation::AddColumns { columns: added, after: None }).await;
    let later = Foreign::equality(&table, &["c", "a"], &json!([{"a": 2}, {"a": 3, "c": 1}]));
    let table = commit(&warehouse, &table, vec![keys, later], V2).await;
    assert_eq!(remaining(&warehouse, &table).await, [0, 3]);
}

#[tokio::test]
async fn equality_deletes_use_the_name_mapping_for_files_without_ids() {
    let warehouse = Warehouse::new();
    let table = warehouse.create(&[("a", "long"), ("b", "long")], &[]).await;
    let names = json!([{"field-id": 1, "names": ["old"]}, {"field-id": 2, "names": ["b"]}]);
    let names = [("schema.name-mapping.default".to_owned(), names.to_string())];
    let table = warehouse.commit(&table, TableOperation::SetProperties(names.into())).await;
    let data = Foreign::data(&table, &[("old", &[1, 2, 3]), ("b", &[10, 20, 30])]);
    let table = commit(&warehouse, &table, vec![data], V2).await;
    assert_eq!(remaining(&warehouse, &table).await, [1, 2, 3]);
    let keys = Foreign::equality(&table, &["a"], &json!([{"a": 2}]));
    let table = commit(&warehouse, &table, vec![keys], V2).await;
    assert_eq!(remaining(&warehouse, &table).await, [1, 3]);
}

#[tokio::test]
async fn delete_files_are_read_once() {
    let warehouse = Warehouse::new();
    let mut table = warehouse.create(&[("a", "long"), ("b", "long")], &[]).await;
    for start in 0..8 {
        table = warehouse.append(&table, rows_of(start * 10..start * 10 + 10)).await;
    }
    let before: std::collections::HashSet<_> =
        warehouse.files(&table, ".parquet").into_iter().collect();
    let many = (0..100).map(|key| Foreign::equality(&table, &["a"], &json!([{"a": key}])));
    let table = commit(&warehouse, &table, many.collect(), V2).await;
    let data = files(&warehouse, &table).await;
    assert_eq!(warehouse.tables.deletes().deleted(&data[0]).await.unwrap().unwrap().len(), 10);
    for file in warehouse.files(&table, ".parquet") {
        if !before.contains(&file) {
            std::fs::remove_file(file).unwrap();
        }
    }
    for file in &data {
        assert_eq!(warehouse.tables.deletes().deleted(file).await.unwrap().unwrap().len(), 10);
    }
}

/// Deletes rows of the first file.
pub async fn delete(warehouse: &Warehouse, table: &Table, rows: &[u64]) -> RowRewrite {
    let seen = warehouse.tables.plan(table, None).await.unwrap();
    let rows: Positions = rows.iter().copied().collect();
    let file = seen.files()[0].clone();
    let deletes = warehouse.tables.deletes().write(table, vec![(file, rows)]).await.unwrap();
    let staged = nothing(warehouse, table).await.and(deletes);
    RowRewrite { seen, removed: Vec::new(), staged, unseen: None }
}

async fn nothing(warehouse: &Warehouse, table: &Table) -> StagedFiles {
    let none = json_batch(&table.schema(), &json!([]));
    warehouse.tables.write(table, stream_of(none)).await.unwrap()
}

/// Returns a change that adds a row, and that conflicts with rows which are added concurrently.
async fn strict_change(warehouse: &Warehouse, table: &Table) -> RowRewrite {
    let seen = warehouse.tables.plan(table, None).await.unwrap();
    let staged = warehouse.write(table, rows_of(77..78)).await.unwrap();
    RowRewrite { seen, removed: Vec::new(), staged, unseen: Some(Arc::new(|_| true)) }
}

#[tokio::test]
async fn restored_rows_conflict_like_added_rows() {
    for version in [V2, V3] {
        let warehouse = Warehouse::new();
        let table = warehouse.create(&[("a", "long"), ("b", "long")], &[]).await;
        let whole = warehouse.append(&table, rows_of(0..6)).await;
        let data = files(&warehouse, &whole).await;
        let gone = match version {
            V3 => Foreign::vector(&whole, &data[0], &[1, 2]),
            _ => Foreign::positions(&whole, &[(&data[0], 1), (&data[0], 2)]).about(&data[0]),
        };
        let thin = commit(&warehouse, &whole, vec![gone], version).await;
        let change = strict_change(&warehouse, &thin).await;
        let undone = warehouse.tables.commit(
            &whole,
            TableOperation::Rewrite(change.clone()),
            BTreeMap::new(),
        );
        let error = undone.await.expect_err("rows came back");
        assert_eq!(error.code(), ErrorCode::CommitConflict);
        // If another commit deletes further rows, there is no conflict.
        let more = delete(&warehouse, &thin, &[4]).await;
        let thinner = warehouse.commit(&thin, TableOperation::Rewrite(more)).await;
        let both = warehouse.commit(&thinner, TableOperation::Rewrite(change)).await;
        assert_eq!(remaining(&warehouse, &both).await, [0, 3, 5, 77]);
    }
}

#[tokio::test]
async fn a_data_file_has_one_delete_file_which_is_removed_with_it() {
    let warehouse = Warehouse::new();
    let table = warehouse.create(&[("a", "long"), ("b", "long")], &[]).await;
    let table = warehouse.append(&table, rows_of(0..6)).await;
    let table = warehouse.append(&table, rows_of(6..8)).await;
    let first = delete(&warehouse, &table, &[1, 2]).await;
    let overtaken = delete(&warehouse, &table, &[5]).await;
    let table = warehouse.commit(&table, TableOperation::Rewrite(first)).await;
    assert_eq!((remaining(&warehouse, &table).await, table.rows()), (vec![0, 3, 4, 5, 6, 7], 6));
    assert_eq!(table.summary()["operation"], "delete");
    let conflict =
        warehouse.tables.commit(&table, TableOperation::Rewrite(overtaken), BTreeMap::new()).await;
    assert_eq!(conflict.unwrap_err().code(), ErrorCode::CommitConflict);
    let second = delete(&warehouse, &table, &[4]).await;
    let table = warehouse.commit(&table, TableOperation::Rewrite(second)).await;
    assert_eq!((remaining(&warehouse, &table).await, table.rows()), (vec![0, 3, 5, 6, 7], 5));
    let summary = table.summary();
    assert_eq!((&*summary["total-delete-files"], &*summary["total-position-deletes"]), ("1", "3"));
    // Rewriting a data file without its deleted rows removes its delete file.
    let seen = warehouse.tables.plan(&table, None).await.unwrap();
    let removed = vec![seen.files()[0].clone()];
    let gone = Positions::from_iter([0]);
    let rest = warehouse.tables.rewrites().read_live(&table, vec![(removed[0].clone(), gone)]);
    let staged = warehouse.tables.write(&table, rest).await.unwrap();
    let rewrite = RowRewrite { seen, removed, staged, unseen: None };
    let table = warehouse.commit(&table, TableOperation::Rewrite(rewrite)).await;
    assert_eq!((remaining(&warehouse, &table).await, table.rows()), (vec![6, 7, 3, 5], 4));
    assert_eq!(table.summary()["total-delete-files"], "0");
    assert!(!table.has_deletes());
}

#[tokio::test]
async fn corrupt_delete_files_are_named() {
    let warehouse = Warehouse::new();
    let table = warehouse.create(&[("a", "long"), ("b", "long")], &[]).await;
    let table = warehouse.append(&table, rows_of(0..6)).await;
    let data = files(&warehouse, &table).await;
    let before: std::collections::HashSet<_> = warehouse.files(&table, "").into_iter().collect();
    let deletes = vec![
        Foreign::positions(&table, &[(&data[0], 0)]),
        Foreign::equality(&table, &["a"], &json!([{"a": 1}])),
        Foreign::vector(&table, &data[0], &[2]),
    ];
    let table = commit(&warehouse, &table, deletes, V3).await;
    for file in warehouse.files(&table, "") {
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        let is_delete = name.ends_with(".puffin") || name.ends_with(".parquet");
        if before.contains(&file) || !is_delete {
            continue;
        }
        let good = std::fs::read(&file).unwrap();
        for broken in [Vec::new(), good[..good.len() / 2].to_vec()] {
            std::fs::write(&file, broken).unwrap();
            let tables = warehouse.reopened();
            let found = tables.load(table.metadata_location()).await.unwrap();
            let plan = tables.plan(&found, None).await.unwrap();
            let read = tables.deletes().deleted(&plan.files()[0]).await;
            match read {
                Ok(_) => assert!(is_stale(&name), "{name} was not read"),
                Err(error) => assert!(error.to_string().contains(&name), "{error}"),
            }
        }
        std::fs::write(&file, good).unwrap();
    }
}

/// Returns true for the position delete file that a deletion vector replaces. This file is not
/// read.
fn is_stale(name: &str) -> bool {
    name.ends_with(".parquet")
}
