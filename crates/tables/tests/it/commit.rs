//! Commits of each operation and the resulting metadata.

use std::collections::BTreeMap;

use headwater_model::{ErrorCode, FixedClock, ToProblem};
use headwater_tables::TableOperation;
use serde_json::json;

use crate::fixture::{Warehouse, field_of, json_batch, now, rows_at, schema_of, stream_of};

const COLUMNS: [(&str, &str); 2] = [("id", "long"), ("name", "string")];

#[tokio::test]
async fn a_new_table_is_empty_and_can_be_read() {
    let warehouse = Warehouse::new();
    let table = warehouse.create(&COLUMNS, &[]).await;
    assert_eq!((table.rows(), table.files(), table.snapshot_id()), (0, 0, None));
    assert_eq!(table.updated(), None);
    assert_eq!(warehouse.rows(&table).await, json!([]));
    assert!(table.metadata_location().starts_with(table.location()));
}

#[tokio::test]
async fn appends_update_the_totals() {
    let warehouse = Warehouse::new();
    let table = warehouse.create(&COLUMNS, &[]).await;
    let first = warehouse.append(&table, json!([{"id": 1, "name": "a"}])).await;
    let second = warehouse.append(&first, json!([{"id": 2}, {"id": 3}])).await;
    assert_eq!((second.rows(), second.files()), (3, 2));
    assert_eq!(second.updated(), Some(now()));
    assert_eq!(first.id(), second.id());
    let summary = second.summary();
    let get = |key: &str| summary.get(key).map(String::as_str);
    assert_eq!(get("operation"), Some("append"));
    assert_eq!((get("added-records"), get("added-data-files")), (Some("2"), Some("1")));
    assert_eq!((get("total-records"), get("total-data-files")), (Some("3"), Some("2")));
    assert_eq!(get("total-files-size"), Some(second.bytes().to_string().as_str()));
    assert_eq!((get("total-delete-files"), get("deleted-records")), (Some("0"), None));
    // Commits do not change an earlier state, neither in its own metadata nor in later metadata.
    assert_eq!(first.rows(), 1);
    let earlier = rows_at(&warehouse.tables, &second, first.snapshot_id()).await;
    assert_eq!(earlier, json!([{"id": 1, "name": "a"}]));
}

#[tokio::test]
async fn an_empty_append_commits_only_with_a_summary() {
    let warehouse = Warehouse::new();
    let table = warehouse.create(&COLUMNS, &[]).await;
    let nothing = warehouse.write(&table, json!([])).await.unwrap();
    assert!(nothing.is_empty());
    let same = warehouse.commit(&table, TableOperation::Append(nothing.clone())).await;
    assert_eq!(same.metadata_location(), table.metadata_location());
    let summary = BTreeMap::from([("headwater.note".to_owned(), "x".to_owned())]);
    let operation = TableOperation::Append(nothing);
    let noted = warehouse.tables.commit(&table, operation, summary).await.unwrap();
    assert_eq!(noted.summary()["headwater.note"], "x");
    assert_eq!(warehouse.rows(&noted).await, json!([]));
}

#[tokio::test]
async fn an_overwrite_replaces_all_rows_and_keeps_earlier_snapshots() {
    let warehouse = Warehouse::new();
    let table = warehouse.create(&COLUMNS, &[]).await;
    let old = warehouse.append(&table, json!([{"id": 1}, {"id": 2}])).await;
    let staged = warehouse.write(&old, json!([{"id": 9}])).await.unwrap();
    let new = warehouse.commit(&old, TableOperation::Overwrite(staged)).await;
    assert_eq!(warehouse.rows(&new).await, json!([{"id": 9}]));
    let summary = new.summary();
    assert_eq!(summary["operation"], "overwrite");
    assert_eq!((summary["deleted-records"].as_str(), new.rows()), ("2", 1));
    let past = rows_at(&warehouse.tables, &new, old.snapshot_id()).await;
    assert_eq!(past, json!([{"id": 1}, {"id": 2}]));

    let nothing = warehouse.write(&new, json!([])).await.unwrap();
    let empty = warehouse.commit(&new, TableOperation::Overwrite(nothing)).await;
    assert_eq!((empty.rows(), empty.files(), empty.bytes()), (0, 0, 0));
    assert_eq!(empty.summary()["operation"], "delete");
    let again = warehouse.append(&empty, json!([{"id": 4}])).await;
    let reopened = warehouse.reopened();
    let again = reopened.load(again.metadata_location()).await.unwrap();
    assert_eq!(rows_at(&reopened, &again, None).await, json!([{"id": 4}]));
}

#[tokio::test]
async fn rows_staged_for_an_earlier_state_can_be_appended_to_a_later_one() {
    let warehouse = Warehouse::new();
    let base = warehouse.create(&COLUMNS, &[]).await;
    let staged = warehouse.write(&base, json!([{"id": 1}])).await.unwrap();
    let moved = warehouse.append(&base, json!([{"id": 2}])).await;
    let added = vec![field_of("extra", "int")];
    let moved = warehouse.commit(&moved, TableOperation::add_columns(added)).await;
    let rebased = warehouse.commit(&moved, TableOperation::Append(staged)).await;
    assert_eq!(warehouse.rows(&rebased).await, json!([{"id": 2}, {"id": 1}]));
}

#[tokio::test]
async fn rows_staged_for_another_table_are_rejected() {
    let warehouse = Warehouse::new();
    let one = warehouse.create(&COLUMNS, &[]).await;
    let other = warehouse.create(&COLUMNS, &[]).await;
    let staged = warehouse.write(&one, json!([{"id": 1}])).await.unwrap();
    let operation = TableOperation::Append(staged);
    let error = warehouse.tables.commit(&other, operation, BTreeMap::new()).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::CommitConflict);
}

#[tokio::test]
async fn manifests_of_many_commits_are_merged() {
    let warehouse = Warehouse::new();
    let mut table = warehouse.create(&COLUMNS, &[]).await;
    for id in 0..70 {
        table = warehouse.append(&table, json!([{"id": id}])).await;
    }
    let reopened = warehouse.reopened();
    let table = reopened.load(table.metadata_location()).await.unwrap();
    let rows = rows_at(&reopened, &table, None).await;
    let expected: Vec<_> = (0..70).map(|id| json!({"id": id})).collect();
    assert_eq!(rows, json!(expected), "in the order in which they were added");
    let plan = reopened.plan(&table, None).await.unwrap();
    let numbers: Vec<_> = plan.files().iter().map(|file| file.sequence_number()).collect();
    assert_eq!(numbers, (1..=70).collect::<Vec<_>>(), "merging keeps sequence numbers");
    // The seventy commits wrote seventy manifests. Four merges combined sixteen manifests each.
    let largest =
        warehouse.files(&table, ".avro").iter().map(|f| f.metadata().unwrap().len()).max();
    assert!(largest.unwrap() < 40_000, "a manifest holds {largest:?} bytes");

    let staged = warehouse.write(&table, json!([{"id": 100}])).await.unwrap();
    let replaced = warehouse.commit(&table, TableOperation::Overwrite(staged)).await;
    assert_eq!(warehouse.rows(&replaced).await, json!([{"id": 100}]));
    assert_eq!(replaced.summary()["deleted-data-files"], "70");
}

#[tokio::test]
async fn a_metadata_file_lists_a_limited_number_of_snapshots() {
    let warehouse = Warehouse::with(|options| options.snapshots_listed_max = 3);
    let mut states = vec![warehouse.create(&COLUMNS, &[]).await];
    for id in 0..5 {
        let next = warehouse.append(states.last().unwrap(), json!([{"id": id}])).await;
        states.push(next);
    }
    let (oldest, latest) = (&states[1], &states[5]);
    assert_eq!(latest.rows(), 5);
    let gone = warehouse.tables.plan(latest, oldest.snapshot_id()).await.unwrap_err();
    assert_eq!(gone.code(), ErrorCode::InvalidArgument);
    let kept = rows_at(&warehouse.tables, latest, states[3].snapshot_id()).await;
    assert_eq!(kept, json!([{"id": 0}, {"id": 1}, {"id": 2}]));
    // The metadata file of the older state still lists the snapshot.
    let reopened = warehouse.reopened();
    let oldest = reopened.load(oldest.metadata_location()).await.unwrap();
    assert_eq!(rows_at(&reopened, &oldest, None).await, json!([{"id": 0}]));
}

#[tokio::test]
async fn a_table_property_sets_the_number_of_listed_snapshots() {
    let warehouse = Warehouse::with(|options| options.snapshots_listed_max = 3);
    let mut request = crate::fixture::request(&COLUMNS, &[]);
    let property = ("history.expire.min-snapshots-to-keep".to_owned(), "5".to_owned());
    request.properties.extend([property]);
    let mut table = warehouse.tables.create(request).await.unwrap();
    let mut snapshots = Vec::new();
    for id in 0..7 {
        table = warehouse.append(&table, json!([{"id": id}])).await;
        snapshots.push(table.snapshot_id());
    }
    assert_eq!(table.snapshots().len(), 5);
    for snapshot in &snapshots[2..] {
        assert!(warehouse.tables.plan(&table, *snapshot).await.is_ok());
    }
    assert!(warehouse.tables.plan(&table, snapshots[1]).await.is_err());
    assert_eq!(table.snapshots_before(crate::fixture::now(), 1), Vec::<i64>::new());
}

#[tokio::test]
async fn an_unreferenced_state_can_be_deleted() {
    let warehouse = Warehouse::new();
    let table = warehouse.create(&COLUMNS, &[]).await;
    let before = warehouse.append(&table, json!([{"id": 1}])).await;
    let files = warehouse.files(&before, "");
    let staged = warehouse.write(&before, json!([{"id": 2}])).await.unwrap();
    let made = warehouse.commit(&before, TableOperation::Overwrite(staged.clone())).await;
    warehouse.tables.discard_state(&before, Some(&before)).await.unwrap();
    warehouse.tables.discard_state(&made, Some(&before)).await.unwrap();
    warehouse.tables.discard(staged).await.unwrap();
    assert_eq!(warehouse.files(&before, ""), files);
    assert!(warehouse.tables.load(made.metadata_location()).await.is_err());
    assert_eq!(rows_at(&warehouse.reopened(), &before, None).await, json!([{"id": 1}]));
    let created = warehouse.create(&COLUMNS, &[]).await;
    warehouse.tables.discard_state(&created, None).await.unwrap();
    assert!(warehouse.files(&created, "").is_empty());
}

#[tokio::test]
async fn properties_can_be_set() {
    let warehouse = Warehouse::new();
    let table = warehouse.create(&COLUMNS, &[]).await;
    let set = BTreeMap::from([("owner".to_owned(), "ann".to_owned())]);
    let table = warehouse.commit(&table, TableOperation::SetProperties(set)).await;
    assert_eq!(table.properties()["owner"], "ann");
    let table = warehouse.append(&table, json!([{"id": 1}])).await;
    assert_eq!(table.properties()["owner"], "ann");
}

#[tokio::test]
async fn files_in_the_warehouse_can_be_written_and_read() {
    let warehouse = Warehouse::new();
    let table = warehouse.create(&COLUMNS, &[]).await;
    let location = format!("{}/metadata/imports-1.json", table.location());
    warehouse.tables.files().write(&location, "[]".into()).await.unwrap();
    assert_eq!(warehouse.reopened().files().read(&location).await.unwrap(), "[]");
    let outside = warehouse.tables.files().read("file:///etc/passwd").await.unwrap_err();
    assert!(outside.to_string().contains("is outside the warehouse"));
}

#[tokio::test]
async fn a_clock_set_back_does_not_block_commits() {
    let future = "2100-01-01T00:00:00Z".parse().unwrap();
    let warehouse =
        Warehouse::with(|options| options.clock = std::sync::Arc::new(FixedClock::at(future)));
    let table = warehouse.create(&COLUMNS, &[]).await;
    let table = warehouse.append(&table, json!([{"id": 1}])).await;
    let added = vec![field_of("extra", "int")];
    let table = warehouse.commit(&table, TableOperation::add_columns(added)).await;
    // The clock of another machine is seventy-four years slow.
    let other = warehouse.reopened();
    let table = other.load(table.metadata_location()).await.unwrap();
    let schema = schema_of(&[("id", "string")]);
    let replacement = other.replacement(&table, &schema, &[], None).unwrap();
    let batch = json_batch(&replacement.schema(), &json!([{"id": "x"}]));
    let staged = other.write(&replacement, stream_of(batch)).await.unwrap();
    let operation = TableOperation::Replace { schema, partition: Vec::new(), after: None, staged };
    let table = other.commit(&table, operation, BTreeMap::new()).await.unwrap();
    let set = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
    let operation = TableOperation::SetProperties(set);
    let table = other.commit(&table, operation, BTreeMap::new()).await.unwrap();
    assert_eq!(table.updated(), Some(future));
    assert_eq!(rows_at(&other, &table, None).await, json!([{"id": "x"}]));
}
