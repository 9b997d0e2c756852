//! Transactions: atomicity, rebase and conflicts.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use headwater_lake::Error;
use headwater_model::{CreateRef, ErrorCode, PROPERTY_EVENT, RefSpec, ToProblem};
use serde_json::json;

use crate::support::{Fixture, name, numbers, rows_of, schema};

/// Creates a table `t` with the rows 1 and 2.
async fn with_table() -> Fixture {
    let lake = Fixture::new().await;
    let mut transaction = lake.lake.transaction("main", "me").await.unwrap();
    transaction.create(&name("t"), schema("id"), Vec::new(), BTreeMap::new()).await.unwrap();
    transaction.append(&name("t"), rows_of(numbers("id", [1, 2]))).await.unwrap();
    transaction.commit("make t").await.unwrap();
    lake
}

async fn ids(lake: &Fixture, table: &str) -> Vec<i64> {
    lake.rows(table).await.iter().map(|row| row["id"].as_i64().unwrap()).collect()
}

#[tokio::test]
async fn several_tables_change_in_one_commit() {
    let lake = with_table().await;
    let mut transaction = lake.lake.transaction("main", "Ann").await.unwrap();
    transaction.create_namespace("sales", BTreeMap::new());
    transaction.append(&name("T"), rows_of(numbers("id", [3]))).await.unwrap();
    transaction
        .replace(&name("u"), schema("id"), Vec::new(), rows_of(numbers("id", [9])))
        .await
        .unwrap();
    transaction.create(&name("sales.v"), schema("n"), Vec::new(), BTreeMap::new()).await.unwrap();
    transaction.property("why", "test");
    transaction.event("e-1");
    assert_eq!(transaction.written().rows_written, 2);
    let commit = transaction.commit("three tables").await.unwrap().unwrap();
    assert_eq!((commit.author.as_str(), commit.message.as_str()), ("Ann", "three tables"));
    assert_eq!(commit.properties["why"], "test");
    assert_eq!(commit.properties[PROPERTY_EVENT], "e-1");
    assert_eq!((ids(&lake, "t").await, ids(&lake, "u").await), (vec![1, 2, 3], vec![9]));
    let listed = lake.lake.list(&RefSpec::main(), None, |_| true).await.unwrap();
    let names: Vec<String> = listed.iter().map(|table| table.name.to_string()).collect();
    assert_eq!(names, ["t", "u", "sales.v"]);

    let mut again = lake.lake.transaction("main", "Ann").await.unwrap();
    again.append(&name("t"), rows_of(numbers("id", [4]))).await.unwrap();
    again.event("e-1");
    assert_eq!(again.commit("twice").await.unwrap_err().code(), ErrorCode::AlreadyExists);
    assert_eq!(ids(&lake, "t").await, [1, 2, 3]);
}

#[tokio::test]
async fn an_append_is_rebased_and_an_overwrite_conflicts() {
    let lake = with_table().await;
    let mut first = lake.lake.transaction("main", "a").await.unwrap();
    let mut second = lake.lake.transaction("main", "b").await.unwrap();
    let mut third = lake.lake.transaction("main", "c").await.unwrap();
    first.append(&name("t"), rows_of(numbers("id", [3]))).await.unwrap();
    second.append(&name("t"), rows_of(numbers("id", [4]))).await.unwrap();
    third.overwrite(&name("t"), rows_of(numbers("id", [5]))).await.unwrap();
    let files = lake.data_files();
    first.commit("a").await.unwrap();
    second.commit("b").await.unwrap();
    assert_eq!(lake.data_files(), files, "nothing was written again");
    let error = third.commit("c").await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::CommitConflict);
    assert!(error.to_string().contains("`t`"), "{error}");
    assert_eq!(ids(&lake, "t").await, [1, 2, 3, 4]);
    assert_eq!(lake.data_files(), files - 1, "uncommitted files are removed");
}

#[tokio::test]
async fn added_columns_and_rows_are_rebased_together() {
    let lake = with_table().await;
    let column = |name: &str| vec![Field::new(name, DataType::Int64, true)];
    let mut adds = lake.lake.transaction("main", "a").await.unwrap();
    adds.add_columns(&name("t"), column("n")).await.unwrap();
    adds.append(&name("t"), rows_of(numbers("n", [7]))).await.unwrap();
    let mut also_adds = lake.lake.transaction("main", "b").await.unwrap();
    also_adds.add_columns(&name("t"), column("m")).await.unwrap();
    also_adds.append(&name("t"), rows_of(numbers("m", [8]))).await.unwrap();

    let mut append = lake.lake.transaction("main", "c").await.unwrap();
    append.append(&name("t"), rows_of(numbers("id", [3]))).await.unwrap();
    append.commit("c").await.unwrap();
    adds.commit("a").await.unwrap();
    // Columns that are added concurrently have different ids.
    also_adds.commit("b").await.unwrap();
    let rows = lake.rows("t").await;
    assert_eq!(rows.len(), 5);
    assert!(rows.contains(&json!({"id": null, "n": 7, "m": null})));
    assert!(rows.contains(&json!({"id": null, "n": null, "m": 8})));

    // Adding a column that another commit has added is a conflict.
    let mut late = lake.lake.transaction("main", "d").await.unwrap();
    late.add_columns(&name("t"), column("k")).await.unwrap();
    let mut first = lake.lake.transaction("main", "e").await.unwrap();
    first.add_columns(&name("t"), column("k")).await.unwrap();
    first.commit("e").await.unwrap();
    assert_eq!(late.commit("d").await.unwrap_err().code(), ErrorCode::CommitConflict);
}

#[tokio::test]
async fn new_columns_on_two_branches_get_different_field_ids() {
    let lake = with_table().await;
    let column = |name: &str| vec![Field::new(name, DataType::Int64, true)];
    let mut early = lake.lake.transaction("main", "a").await.unwrap();
    early.add_columns(&name("t"), column("n")).await.unwrap();
    early.append(&name("t"), rows_of(numbers("n", [7]))).await.unwrap();
    let mut late = lake.lake.transaction("main", "b").await.unwrap();
    late.add_columns(&name("t"), column("m")).await.unwrap();
    late.append(&name("t"), rows_of(numbers("m", [8]))).await.unwrap();
    let mut replaces = lake.lake.transaction("main", "c").await.unwrap();
    let rows = rows_of(numbers("z", [5]));
    let columns = ["id", "z"].map(|name| Field::new(name, DataType::Int64, true));
    let columns = Arc::new(Schema::new(columns.to_vec()));
    replaces.replace(&name("t"), columns, Vec::new(), rows).await.unwrap();
    replaces.commit("c").await.unwrap();
    late.commit("b").await.unwrap();
    early.commit("a").await.unwrap();
    let rows = lake.rows("t").await;
    let row = |z: Option<i64>, m: Option<i64>, n: Option<i64>| json!({"id": null, "z": z, "m": m, "n": n});
    let expected = [row(Some(5), None, None), row(None, Some(8), None), row(None, None, Some(7))];
    assert_eq!(rows, expected);
}

#[tokio::test]
async fn two_transactions_that_create_one_table_conflict() {
    let lake = Fixture::new().await;
    let mut first = lake.lake.transaction("main", "a").await.unwrap();
    let mut second = lake.lake.transaction("main", "b").await.unwrap();
    for transaction in [&mut first, &mut second] {
        transaction.create(&name("t"), schema("id"), Vec::new(), BTreeMap::new()).await.unwrap();
    }
    first.commit("a").await.unwrap();
    assert_eq!(second.commit("b").await.unwrap_err().code(), ErrorCode::CommitConflict);
    let mut third = lake.lake.transaction("main", "c").await.unwrap();
    let error = third.create(&name("t"), schema("id"), Vec::new(), BTreeMap::new()).await;
    assert!(matches!(error, Err(Error::TableExists { .. })));
}

#[tokio::test]
async fn a_dropped_transaction_removes_what_it_wrote() {
    let lake = with_table().await;
    let files = lake.data_files();
    let mut transaction = lake.lake.transaction("main", "a").await.unwrap();
    transaction.append(&name("t"), rows_of(numbers("id", [3]))).await.unwrap();
    assert_eq!(lake.data_files(), files + 1);
    drop(transaction);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while lake.data_files() > files {
        assert!(std::time::Instant::now() < deadline, "the file is still there");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let empty = lake.lake.transaction("main", "a").await.unwrap();
    assert_eq!(empty.commit("nothing").await.unwrap(), None);
}

#[tokio::test]
async fn tables_are_replaced_partly_overwritten_and_dropped() {
    let lake = with_table().await;
    let mut transaction = lake.lake.transaction("main", "a").await.unwrap();
    transaction
        .replace(&name("t"), schema("n"), Vec::new(), rows_of(numbers("n", [7])))
        .await
        .unwrap();
    transaction.append(&name("t"), rows_of(numbers("n", [8]))).await.unwrap();
    transaction.commit("replace").await.unwrap();
    assert_eq!(lake.rows("t").await, [json!({"n": 7}), json!({"n": 8})]);

    let mut transaction = lake.lake.transaction("main", "a").await.unwrap();
    let partition = vec!["id".parse().unwrap()];
    transaction.create(&name("p"), schema("id"), partition, BTreeMap::new()).await.unwrap();
    transaction.append(&name("p"), rows_of(numbers("id", [1, 1, 2]))).await.unwrap();
    transaction.commit("p").await.unwrap();
    let mut transaction = lake.lake.transaction("main", "a").await.unwrap();
    transaction.overwrite_partitions(&name("p"), rows_of(numbers("id", [1, 3]))).await.unwrap();
    transaction.drop(&name("t"), false).await.unwrap();
    transaction.drop(&name("nothing"), true).await.unwrap();
    transaction.commit("p again").await.unwrap();
    let mut found = ids(&lake, "p").await;
    found.sort_unstable();
    assert_eq!(found, [1, 2, 3]);
    assert!(!lake.has_table("t").await);
    let mut transaction = lake.lake.transaction("main", "a").await.unwrap();
    let error = transaction.drop(&name("flihgts"), false).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::TableNotFound);
}

#[tokio::test]
async fn a_read_snapshot_does_not_change_and_finds_names() {
    let lake = with_table().await;
    let view = lake.lake.view(&RefSpec::main()).await.unwrap();
    let mut transaction = lake.lake.transaction("main", "a").await.unwrap();
    transaction.append(&name("t"), rows_of(numbers("id", [3]))).await.unwrap();
    transaction
        .replace(&name("flights"), schema("id"), Vec::new(), rows_of(numbers("id", [])))
        .await
        .unwrap();
    transaction.commit("more").await.unwrap();
    assert_eq!(view.table(&name("T")).await.unwrap().rows(), 2);
    assert!(view.find("public", "flights").await.unwrap().is_none());

    let now = lake.lake.view(&RefSpec::main()).await.unwrap();
    let error = now.table(&name("fligths")).await.unwrap_err();
    assert_eq!(error.hint().as_deref(), Some("Did you mean `flights`?"));
    let old = format!("main@{}", view.commit()).parse().unwrap();
    assert_eq!(lake.lake.view(&old).await.unwrap().table(&name("t")).await.unwrap().rows(), 2);
    let error = lake.lake.list(&RefSpec::main(), Some("pubic"), |_| true).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::NamespaceNotFound);
}

#[tokio::test]
async fn a_protected_branch_rejects_direct_writes() {
    let lake = with_table().await;
    lake.lake.catalog().protect_branch("main", true).await.unwrap();
    let files = lake.data_files();
    let mut transaction = lake.lake.transaction("main", "a").await.unwrap();
    transaction.append(&name("t"), rows_of(numbers("id", [3]))).await.unwrap();
    assert_eq!(transaction.commit("no").await.unwrap_err().code(), ErrorCode::BranchProtected);
    assert_eq!(lake.data_files(), files);
    let dev = CreateRef { name: "dev".into(), from: None, if_not_exists: false };
    lake.lake.catalog().create_branch(dev).await.unwrap();
    let mut transaction = lake.lake.transaction("dev", "a").await.unwrap();
    transaction.append(&name("t"), rows_of(numbers("id", [3]))).await.unwrap();
    transaction.commit("yes").await.unwrap();
    assert_eq!(lake.rows_at("dev", "t").await.len(), 3);
}

#[tokio::test]
async fn a_table_requires_an_existing_or_new_namespace() {
    let lake = Fixture::new().await;
    let table = name("sales.orders");
    let mut change = lake.lake.transaction("main", "eva").await.unwrap();
    let error = change.create(&table, schema("id"), vec![], BTreeMap::new()).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::NamespaceNotFound);
    assert_eq!(lake.data_files(), 0);
    change.create_namespace("sales", BTreeMap::new());
    change.create(&table, schema("id"), vec![], BTreeMap::new()).await.unwrap();
    change.commit("both").await.unwrap();
    let mut change = lake.lake.transaction("main", "eva").await.unwrap();
    let table = name("Sales.orders");
    let error = change.create(&table, schema("id"), vec![], BTreeMap::new()).await.unwrap_err();
    assert_eq!(error.hint().as_deref(), Some("Did you mean `sales`?"));
}

#[tokio::test]
async fn a_suggested_table_of_another_namespace_is_qualified() {
    let lake = Fixture::new().await;
    let mut change = lake.lake.transaction("main", "eva").await.unwrap();
    change.create_namespace("raw", BTreeMap::new());
    for table in ["flights", "raw.planes"] {
        change.create(&name(table), schema("id"), vec![], BTreeMap::new()).await.unwrap();
    }
    change.commit("both").await.unwrap();
    let view = lake.lake.view(&RefSpec::main()).await.unwrap();
    for (wanted, hint) in [
        ("raw.flights", Some("Did you mean `public.flights`?")),
        ("planes", Some("Did you mean `raw.planes`?")),
        ("fligths", Some("Did you mean `flights`?")),
        ("raw.plane", Some("Did you mean `raw.planes`?")),
        ("customers", Some("List the tables with `headwater table ls`.")),
    ] {
        let error = view.table(&name(wanted)).await.unwrap_err();
        assert_eq!(error.hint().as_deref(), hint, "{wanted}");
    }
}

#[tokio::test]
async fn files_of_a_failed_commit_are_removed() {
    let lake = with_table().await;
    let begin = async || lake.lake.transaction("main", "eva").await.unwrap();
    let before = lake.metadata_files();
    let mut refused = begin().await;
    refused.overwrite(&name("t"), rows_of(numbers("id", [9]))).await.unwrap();
    refused.add_columns(&name("t"), vec![Field::new("more", DataType::Int64, true)]).await.unwrap();
    refused.create(&name("u"), schema("id"), Vec::new(), BTreeMap::new()).await.unwrap();
    assert!(lake.metadata_files() > before);
    let mut first = begin().await;
    first.append(&name("t"), rows_of(numbers("id", [3]))).await.unwrap();
    first.commit("first").await.unwrap();
    let after_first = lake.metadata_files();
    assert!(matches!(refused.commit("late").await, Err(Error::CommitConflict { .. })));
    // The three files of a commit with one append are the metadata file, the manifest and the
    // manifest list.
    assert_eq!(lake.metadata_files(), before + 3, "{after_first}");
    assert_eq!(ids(&lake, "t").await, [1, 2, 3]);

    // A change is first applied and later applied again in a rebase. Only the files of the rebase
    // remain.
    let mut late = begin().await;
    late.append(&name("t"), rows_of(numbers("id", [5]))).await.unwrap();
    late.table(&name("t")).await.unwrap();
    let mut between = begin().await;
    between.append(&name("t"), rows_of(numbers("id", [4]))).await.unwrap();
    between.commit("between").await.unwrap();
    late.commit("late").await.unwrap();
    assert_eq!(lake.metadata_files(), before + 9);
    assert_eq!(ids(&lake, "t").await, [1, 2, 3, 4, 5]);

    let mut dropped = begin().await;
    dropped.append(&name("t"), rows_of(numbers("id", [6]))).await.unwrap();
    dropped.table(&name("t")).await.unwrap();
    drop(dropped);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while lake.metadata_files() > before + 9 {
        assert!(std::time::Instant::now() < deadline, "files of a dropped transaction remain");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}
