//! Diffs: from tables down to columns, files, rows and sample rows.

use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch};
use headwater_model::{ChangeKind, ColumnDiff, CreateRef};
use serde_json::json;

use crate::support::{Fixture, name, numbers, rows_of, schema};

#[tokio::test]
async fn a_diff_shows_tables_columns_files_rows_and_samples() {
    let lake = Fixture::new().await;
    for table in ["same", "grows", "goes"] {
        let text = "id,n\n1,2\n2,3\n";
        lake.import_text(table, &format!("{table}.csv"), text).await.unwrap();
    }
    let dev = CreateRef { name: "dev".into(), from: None, if_not_exists: false };
    lake.lake.catalog().create_branch(dev).await.unwrap();
    let mut transaction = lake.lake.transaction("dev", "me").await.unwrap();
    transaction.append(&name("grows"), rows_of(numbers("id", 10..30))).await.unwrap();
    transaction.drop(&name("goes"), false).await.unwrap();
    transaction
        .replace(&name("comes"), schema("x"), Vec::new(), rows_of(numbers("x", [1])))
        .await
        .unwrap();
    transaction.commit("change").await.unwrap();

    let (main, dev) = ("main".parse().unwrap(), "dev".parse().unwrap());
    let diff = lake.lake.diff(&main, &dev, 3).await.unwrap();
    let kinds: Vec<_> = diff.tables.iter().map(|t| (t.table.to_string(), t.kind)).collect();
    let expected = [
        ("comes".to_owned(), ChangeKind::Added),
        ("goes".to_owned(), ChangeKind::Removed),
        ("grows".to_owned(), ChangeKind::Changed),
    ];
    assert_eq!(kinds, expected);

    let comes = &diff.tables[0];
    let column = ColumnDiff { column: "x".into(), before: None, after: Some("long".into()) };
    assert_eq!(comes.columns, [column]);
    assert_eq!((comes.rows_before, comes.rows_after), (None, Some(1)));
    assert_eq!(comes.sample_added, [json!({"x": 1})]);

    let goes = &diff.tables[1];
    assert_eq!((goes.files_removed, goes.rows_in_files_removed), (1, 2));
    assert_eq!(goes.sample_removed, [json!({"id": 1, "n": 2}), json!({"id": 2, "n": 3})]);

    let grows = &diff.tables[2];
    assert_eq!((grows.files_added, grows.files_removed), (1, 0));
    assert_eq!(
        (grows.rows_before, grows.rows_after, grows.rows_in_files_added),
        (Some(2), Some(22), 20)
    );
    assert_eq!((grows.rows_removed, grows.rows_added), (Some(0), Some(20)));
    assert_eq!(grows.sample_added.len(), 3);
    assert_eq!(grows.sample_added[0], json!({"id": 10, "n": null}));
    assert!(grows.columns.is_empty());

    assert!(lake.lake.diff(&dev, &dev, 3).await.unwrap().tables.is_empty());
    let silent = lake.lake.diff(&main, &dev, 0).await.unwrap();
    assert!(silent.tables.iter().all(|table| table.sample_added.is_empty()));
}

#[tokio::test]
async fn rows_that_were_only_written_again_do_not_differ() {
    let lake = Fixture::new().await;
    lake.import_text("t", "t.csv", "id,n\n1,2\n2,3\n2,3\n4,\n").await.unwrap();
    let dev = CreateRef { name: "dev".into(), from: None, if_not_exists: false };
    lake.lake.catalog().create_branch(dev).await.unwrap();
    let mut transaction = lake.lake.transaction("dev", "me").await.unwrap();
    let columns = transaction.table(&name("t")).await.unwrap().schema();
    let ids = Arc::new(Int64Array::from(vec![4, 2, 1]));
    let counts = Arc::new(Int64Array::from(vec![None, Some(3), Some(7)]));
    let rows = RecordBatch::try_new(columns, vec![ids, counts]).unwrap();
    transaction.overwrite(&name("t"), rows_of(rows)).await.unwrap();
    transaction.commit("change").await.unwrap();
    let diff = lake.lake.diff(&"main".parse().unwrap(), &"dev".parse().unwrap(), 10).await.unwrap();
    let table = &diff.tables[0];
    assert_eq!((table.rows_removed, table.rows_added), (Some(2), Some(1)));
    assert_eq!(table.sample_removed, [json!({"id": 1, "n": 2}), json!({"id": 2, "n": 3})]);
    assert_eq!(table.sample_added, [json!({"id": 1, "n": 7})]);
}

#[tokio::test]
async fn rows_that_are_small_in_a_file_and_large_in_memory_are_not_compared() {
    let fixture = Fixture::new().await;
    let lake = &fixture.lake;
    let text = |first: &str| -> RecordBatch {
        let long = "x".repeat(1 << 20);
        let values = std::iter::once(first).chain(std::iter::repeat_n(long.as_str(), 99));
        let array: arrow::array::ArrayRef =
            Arc::new(arrow::array::StringArray::from_iter_values(values));
        RecordBatch::try_from_iter_with_nullable([("text", array, true)]).unwrap()
    };
    let mut transaction = lake.transaction("main", "me").await.unwrap();
    let (schema, rows) = (text("a").schema(), rows_of(text("a")));
    transaction.replace(&name("t"), schema, Vec::new(), rows).await.unwrap();
    transaction.commit("make").await.unwrap();
    let before = lake.catalog().branch("main").await.unwrap().commit;
    let mut transaction = lake.transaction("main", "me").await.unwrap();
    transaction.overwrite(&name("t"), rows_of(text("b"))).await.unwrap();
    transaction.commit("change").await.unwrap();
    let (before, main) = (format!("@{before}").parse().unwrap(), "main".parse().unwrap());
    let diff = lake.diff(&before, &main, 1).await.unwrap();
    let table = &diff.tables[0];
    assert!(fixture.lake.describe(&main, &name("t")).await.unwrap().bytes < 16 << 20);
    assert_eq!((table.rows_removed, table.rows_added), (None, None), "100 MiB are not held");
    assert_eq!((table.rows_before, table.rows_after), (Some(100), Some(100)));
}
