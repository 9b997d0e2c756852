//! Tables of format version 3: deletion vectors and row lineage.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type};
use futures::TryStreamExt;
use headwater_model::{ErrorCode, ToProblem};
use headwater_table_merge::{Cause, MergeInputs, RowBudget, TableMergeResult, merge};
use headwater_table_rest::{NewTable, RestTables, TableCommit};
use headwater_tables::{Alteration, DataFile, RowIds, Table, TableOperation, Tables};
use serde_json::{Value, json};

use crate::fixture::{Warehouse, field_of};

async fn files(tables: &Tables, table: &Table) -> Vec<Arc<DataFile>> {
    tables.plan(table, None).await.unwrap().files().to_vec()
}

/// Returns the row ids of a table by the value of column `id`, read without caches.
async fn ids(warehouse: &Warehouse, table: &Table) -> BTreeMap<i64, Option<i64>> {
    let tables = warehouse.reopened();
    let table = tables.load(table.metadata_location()).await.unwrap();
    let mut found = BTreeMap::new();
    for file in files(&tables, &table).await {
        let rows = tables.rewrites().read(&table, std::slice::from_ref(&file)).unwrap();
        let batches: Vec<RecordBatch> = rows.try_collect().await.unwrap();
        let by_file = tables.rewrites().row_ids(&file).await.unwrap();
        for batch in &batches {
            let column = |name: &str| -> Int64Array {
                batch.column_by_name(name).unwrap().as_primitive::<Int64Type>().clone()
            };
            if !file.has_deletes() && batches.len() == 1 {
                let places = 0..batch.num_rows() as u64;
                let known: Vec<_> = places.map(|place| by_file.at(place)).collect();
                assert_eq!(known, column("_row_id").iter().collect::<Vec<_>>());
            }
            for (id, row_id) in column("id").iter().zip(column("_row_id").iter()) {
                assert_eq!(found.insert(id.unwrap(), row_id), None, "{id:?} is there once");
                if let RowIds::From(first) = by_file {
                    assert!(row_id.unwrap() >= first);
                }
            }
        }
    }
    let known: Vec<i64> = found.values().flatten().copied().collect();
    let distinct: std::collections::BTreeSet<i64> = known.iter().copied().collect();
    assert_eq!(distinct.len(), known.len(), "no id is there twice");
    found
}

fn rows(ids: impl IntoIterator<Item = i64>) -> Value {
    Value::Array(ids.into_iter().map(|id| json!({"id": id, "p": id % 2})).collect())
}

fn upgrade() -> TableOperation {
    let version = BTreeMap::from([("format-version".to_owned(), Some("3".to_owned()))]);
    let alterations = vec![Alteration::SetProperties(version)];
    TableOperation::Alter { alterations, after: None }
}

async fn new(warehouse: &Warehouse) -> Table {
    let table = warehouse.create(&[("id", "long"), ("p", "long")], &[]).await;
    warehouse.commit(&table, upgrade()).await
}

async fn delete(warehouse: &Warehouse, table: &Table, rows: &[u64]) -> Table {
    let rewrite = crate::deletes::delete(warehouse, table, rows).await;
    warehouse.commit(table, TableOperation::Rewrite(rewrite)).await
}

/// Compacts all files of a table into one.
async fn compact(warehouse: &Warehouse, table: &Table) -> Table {
    let removed = files(&warehouse.tables, table).await;
    let rows = warehouse.tables.rewrites().read(table, &removed).unwrap();
    let staged = warehouse.tables.write(table, rows).await.unwrap();
    warehouse.commit(table, TableOperation::Compact { removed, staged }).await
}

#[tokio::test]
async fn rows_keep_their_ids() {
    let warehouse = Warehouse::new();
    let table = new(&warehouse).await;
    let table = warehouse.append(&table, rows(0..3)).await;
    let table = warehouse.append(&table, rows(3..5)).await;
    let first = ids(&warehouse, &table).await;
    assert_eq!(first, (0..5).map(|id| (id, Some(id))).collect());
    let table = delete(&warehouse, &table, &[1]).await;
    let table = compact(&warehouse, &table).await;
    let left = ids(&warehouse, &table).await;
    assert!(left.len() < 5 && left.iter().all(|(id, row_id)| *row_id == Some(*id)), "{left:?}");
    let table = warehouse.append(&table, rows(10..12)).await;
    let table = compact(&warehouse, &table).await;
    let all = ids(&warehouse, &table).await;
    assert!(left.iter().all(|(id, row_id)| all[id] == *row_id));
    assert!(all[&10].unwrap() >= 5 && all[&11] == all[&10].map(|id| id + 1), "{all:?}");
    // The row ids do not change when many commits cause manifests to be merged.
    let mut table = table;
    for id in 100..140 {
        table = warehouse.append(&table, rows([id])).await;
    }
    let table = compact(&warehouse, &table).await;
    let file = files(&warehouse.tables, &table).await.remove(0);
    let known = warehouse.tables.rewrites().row_ids(&file).await.unwrap();
    assert!(matches!(known, RowIds::Runs(_)) && known.bytes() < 1024, "{known:?}");
    let later = ids(&warehouse, &table).await;
    assert!(all.iter().all(|(id, row_id)| later[id] == *row_id));
    assert_eq!(later.len(), all.len() + 40);
}

#[tokio::test]
async fn a_data_file_has_one_vector() {
    let warehouse = Warehouse::new();
    let table = new(&warehouse).await;
    let mut table = warehouse.append(&table, rows(0..10)).await;
    for round in 1..4 {
        table = delete(&warehouse, &table, &[round - 1]).await;
        let listed = warehouse.tables.list_files(&table).await.unwrap();
        let deletes: Vec<_> = listed.iter().filter(|file| file.content != "data").collect();
        assert_eq!(deletes.len(), 1);
        assert_eq!((deletes[0].format.as_str(), deletes[0].rows), ("puffin", round));
    }
    let summary = table.summary();
    assert_eq!((&*summary["added-dvs"], &*summary["removed-dvs"]), ("1", "1"));
    assert_eq!(warehouse.tables.count(&table).await.unwrap(), 7);
    // One Puffin file contains the vectors of several data files; each vector can be removed
    // separately.
    let table = warehouse.append(&table, rows(20..25)).await;
    let before = ids(&warehouse, &table).await;
    let table = delete(&warehouse, &table, &[0, 1]).await;
    assert!(ids(&warehouse, &table).await.iter().all(|(id, row_id)| before[id] == *row_id));
    let dangling = warehouse.tables.maintenance().dangling_deletes(&table, &[]).await.unwrap();
    assert_eq!(dangling, []);
}

#[tokio::test]
async fn an_upgrade_assigns_row_ids() {
    let warehouse = Warehouse::new();
    let table = warehouse.create(&[("id", "long"), ("p", "long")], &[]).await;
    let table = warehouse.append(&table, rows(0..4)).await;
    let table = delete(&warehouse, &table, &[0]).await;
    let table = warehouse.commit(&table, upgrade()).await;
    assert_eq!(table.format_version(), 3);
    assert!(ids(&warehouse, &table).await.values().all(Option::is_none));
    let table = warehouse.append(&table, rows(10..12)).await;
    let known = ids(&warehouse, &table).await;
    assert!(known.values().all(Option::is_some), "{known:?}");
    let table = delete(&warehouse, &table, &[0]).await;
    let listed = warehouse.tables.list_files(&table).await.unwrap();
    assert!(listed.iter().all(|file| file.format != "parquet" || file.content == "data"));
    assert!(ids(&warehouse, &table).await.iter().all(|(id, row_id)| known[id] == *row_id));
    let table = compact(&warehouse, &table).await;
    assert_eq!(table.delete_files(), 0);
    assert!(ids(&warehouse, &table).await.iter().all(|(id, row_id)| known[id] == *row_id));
}

#[tokio::test]
async fn files_staged_before_an_upgrade_conflict() {
    let warehouse = Warehouse::new();
    let table = warehouse.create(&[("id", "long"), ("p", "long")], &[]).await;
    let table = warehouse.append(&table, rows(0..4)).await;
    let rewrite = crate::deletes::delete(&warehouse, &table, &[0]).await;
    let table = warehouse.commit(&table, upgrade()).await;
    let rewrite = TableOperation::Rewrite(rewrite);
    let refused = warehouse.tables.commit(&table, rewrite, BTreeMap::new()).await;
    assert_eq!(refused.unwrap_err().code(), ErrorCode::CommitConflict);
    let table = delete(&warehouse, &table, &[0]).await;
    let listed = warehouse.tables.list_files(&table).await.unwrap();
    assert!(listed.iter().all(|file| file.content == "data" || file.format == "puffin"));
}

#[tokio::test]
async fn a_merge_with_an_invalid_result_is_a_conflict() {
    let warehouse = Warehouse::new();
    let base = warehouse.create(&[("id", "long")], &[]).await;
    let ours = warehouse.commit(&base, upgrade()).await;
    let add = TableOperation::add_columns(vec![field_of("_row_id", "long")]);
    let theirs = warehouse.commit(&base, add).await;
    let tables = &warehouse.tables;
    let mut budget = RowBudget::new(tables, 0);
    let inputs = MergeInputs::new(&base, &ours, &theirs);
    let merged = merge(tables, inputs, &mut budget).await.unwrap();
    let TableMergeResult::Conflicts(conflicts) = merged else { panic!("{merged:?}") };
    assert!(matches!(conflicts[0].cause, Cause::Schema { .. }), "{conflicts:?}");
}

fn schema(fields: &Value) -> Value {
    json!({"type": "struct", "schema-id": 1, "fields": fields})
}

fn change_schema(schema: &Value) -> Value {
    let updates = json!([
        {"action": "add-schema", "schema": schema},
        {"action": "set-current-schema", "schema-id": -1},
    ]);
    json!({"requirements": [], "updates": updates})
}

/// Changes of other engines are rejected if they would prevent all later changes of the table.
#[tokio::test]
async fn changes_that_would_block_further_changes_are_rejected() {
    let warehouse = Warehouse::new();
    let with_default = json!([
        {"id": 1, "name": "id", "required": false, "type": "long"},
        {"id": 2, "name": "n", "required": false, "type": "int", "write-default": 5},
    ]);
    let new = json!({"name": "t", "schema": schema(&with_default)});
    let new: NewTable = serde_json::from_value(new).unwrap();
    let refused = RestTables::new(&warehouse.tables)
        .create_new(&"t".parse().unwrap(), new)
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("a default requires format version 3"), "{refused}");
    let table = warehouse.create(&[("id", "long")], &[]).await;
    let commit = change_schema(&schema(&with_default));
    let commit: TableCommit = serde_json::from_value(commit).unwrap();
    let refused = warehouse.apply(&table, &commit).await.unwrap_err();
    assert!(refused.to_string().contains("a default requires format version 3"), "{refused}");
    let table = warehouse.commit(&table, upgrade()).await;
    let table = warehouse.apply(&table, &commit).await.unwrap();
    warehouse.append(&table, json!([{"id": 1}])).await;
    // The `iceberg` crate cannot write times before 1970 with a fraction of a second.
    let moment = json!([{
        "id": 1, "name": "id", "required": false, "type": "timestamptz",
        "write-default": "1969-12-31T23:59:59.500000+00:00",
    }]);
    let version = json!({"format-version": "3"});
    let new = json!({"name": "u", "schema": schema(&moment), "properties": version});
    let new: NewTable = serde_json::from_value(new).unwrap();
    let refused = RestTables::new(&warehouse.tables)
        .create_new(&"u".parse().unwrap(), new)
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("cannot be represented"), "{refused}");
}

#[tokio::test]
async fn an_unsupported_default_is_rejected() {
    let warehouse = Warehouse::new();
    let table = new(&warehouse).await;
    let field = json!({
        "id": 3, "name": "ts", "required": false, "type": "timestamp_ns",
        "initial-default": "2020-01-01T00:00:00.000000001",
    });
    let commit = change_schema(&schema(&json!([field])));
    let refused = serde_json::from_value::<TableCommit>(commit).unwrap_err();
    assert!(refused.to_string().contains("the default of column `ts`"), "{refused}");
    let within = json!({"id": 4, "name": "s", "required": false, "type": {
        "type": "struct", "fields": [field.clone()],
    }});
    let new = json!({"name": "u", "schema": schema(&json!([within]))});
    assert!(serde_json::from_value::<NewTable>(new).is_err());
    let content = warehouse.tables.files().read(table.metadata_location()).await.unwrap();
    let mut metadata: Value = serde_json::from_slice(&content).unwrap();
    metadata["last-column-id"] = json!(3);
    metadata["schemas"][0]["fields"].as_array_mut().unwrap().push(field);
    let location = format!("{}/metadata/other.metadata.json", table.location());
    let content = serde_json::to_vec(&metadata).unwrap();
    warehouse.tables.files().write(&location, content.into()).await.unwrap();
    let refused = warehouse.tables.load(&location).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::UnsupportedStatement, "{refused}");
}

#[tokio::test]
async fn an_identifier_field_is_required_and_can_be_widened() {
    let warehouse = Warehouse::new();
    let field = json!({"id": 1, "name": "id", "required": true, "type": "int"});
    let mut schema = schema(&json!([field]));
    schema["identifier-field-ids"] = json!([1]);
    let new = serde_json::from_value(json!({"name": "t", "schema": schema})).unwrap();
    let table =
        RestTables::new(&warehouse.tables).create_new(&"t".parse().unwrap(), new).await.unwrap();
    let alterations = vec![Alteration::AllowNulls(vec!["id".to_owned()])];
    let alter = TableOperation::Alter { alterations, after: None };
    let refused = warehouse.tables.commit(&table, alter, BTreeMap::new()).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::InvalidArgument);
    assert!(refused.to_string().contains("it identifies rows"), "{refused}");
    let wide = Field::new("id", DataType::Int64, false);
    let alterations =
        vec![Alteration::WidenColumn { column: vec!["id".to_owned()], data_type: wide }];
    let alter = TableOperation::Alter { alterations, after: None };
    let table = warehouse.commit(&table, alter).await;
    assert_eq!(table.schema().field(0).data_type(), &DataType::Int64);
}
