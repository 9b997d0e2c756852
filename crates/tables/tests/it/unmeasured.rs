//! Data files without metrics of some columns. Iceberg writes such files for tables with more than
//! a hundred columns. A column without metrics may still be in the file.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use futures::TryStreamExt;
use headwater_table_merge::{MergeInputs, RowBudget, TableMergeResult};
use headwater_tables::{Alteration, FIELD_ID, RowIds, Table, TableOperation};
use iceberg::spec::FormatVersion;
use serde_json::json;

use crate::fixture::{Warehouse, field_of, json_batch};
use crate::foreign::{self, Foreign};

fn upgrade() -> TableOperation {
    let version = BTreeMap::from([("format-version".to_owned(), Some("3".to_owned()))]);
    let alterations = vec![Alteration::SetProperties(version)];
    TableOperation::Alter { alterations, after: None }
}

/// Returns the operation that adds a column with the field id `after` + 1.
fn add(column: &str, after: i32) -> TableOperation {
    TableOperation::AddColumns { columns: vec![field_of(column, "string")], after: Some(after) }
}

async fn merge(warehouse: &Warehouse, base: &Table, ours: &Table, theirs: &Table) -> Table {
    let tables = &warehouse.tables;
    let mut budget = RowBudget::new(tables, 0);
    let inputs = MergeInputs::new(base, ours, theirs);
    let merged = headwater_table_merge::merge(tables, inputs, &mut budget).await.unwrap();
    let TableMergeResult::Both(merge) = merged else { panic!("{merged:?}") };
    merge.commit(tables, BTreeMap::new()).await.unwrap().table
}

#[tokio::test]
async fn a_merge_keeps_values_of_columns_without_metrics() {
    let warehouse = Warehouse::new();
    let base = warehouse.create(&[("id", "long"), ("other", "long")], &[]).await;
    let base = warehouse.append(&base, json!([{"id": 1}])).await;
    let ours = warehouse.commit(&base, add("note", 2)).await;
    let ours = warehouse.append(&ours, json!([{"id": 2, "note": "ours"}])).await;
    // The other side assigns another field id to the column of the same name.
    let theirs = warehouse.commit(&base, add("note", 3)).await;
    let rows = json_batch(&theirs.schema(), &json!([{"id": 3, "note": "theirs"}]));
    let file = Foreign::half_measured(&rows, &theirs, &[1]);
    let theirs = foreign::commit(&warehouse, &theirs, vec![file], FormatVersion::V2).await;
    let merged = merge(&warehouse, &base, &ours, &theirs).await;
    let rows = warehouse.rows(&merged).await;
    let mut notes: Vec<_> = rows.as_array().unwrap().iter().map(|row| &row["note"]).collect();
    notes.sort_by_key(ToString::to_string);
    assert_eq!(notes, [&json!("ours"), &json!("theirs"), &json!(null)]);
}

#[tokio::test]
async fn a_merge_detects_row_ids_without_metrics() {
    let warehouse = Warehouse::new();
    let base = warehouse.create(&[("id", "long"), ("other", "long")], &[]).await;
    let base = warehouse.commit(&base, upgrade()).await;
    let base = warehouse.append(&base, json!([{"id": 1}])).await;
    let ours = warehouse.append(&base, json!([{"id": 2}])).await;
    // The other side has a compacted file with a row that it added itself. Our side assigned the id
    // of that row to another row.
    let mut fields: Vec<_> = base.schema().fields().iter().cloned().collect();
    let ids = [(FIELD_ID.to_owned(), "2147483540".to_owned())];
    fields.push(Arc::new(Field::new("_row_id", DataType::Int64, true).with_metadata(ids.into())));
    let column = |value| Arc::new(Int64Array::from(vec![value])) as _;
    let columns = vec![column(Some(3)), column(None), column(Some(1))];
    let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
    let file = Foreign::half_measured(&rows, &base, &[1]);
    let theirs = foreign::commit(&warehouse, &base, vec![file], FormatVersion::V3).await;
    let plan = warehouse.tables.plan(&theirs, None).await.unwrap();
    let known = warehouse.tables.rewrites().row_ids(&plan.files()[1]).await.unwrap();
    assert_eq!(known.at(0), Some(1), "{known:?}");
    assert!(!matches!(known, RowIds::None));
    let merged = merge(&warehouse, &base, &ours, &theirs).await;
    let plan = warehouse.tables.plan(&merged, None).await.unwrap();
    let rows = warehouse.tables.rewrites().read(&merged, plan.files()).unwrap();
    let mut ids: Vec<i64> = Vec::new();
    for batch in rows.try_collect::<Vec<_>>().await.unwrap() {
        ids.extend(batch.column_by_name("_row_id").unwrap().as_primitive::<Int64Type>().values());
    }
    ids.sort_unstable();
    let all = ids.len();
    ids.dedup();
    assert_eq!((all, ids.len()), (3, 3), "no id is there twice: {ids:?}");
}
