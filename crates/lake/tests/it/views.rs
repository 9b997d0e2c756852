//! SQL views in the lake: names shared with tables, merges, diffs, reverts and maintenance.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use headwater_catalog::{CommitRequest, EntryKind, TableChange, TableEntry, operation};
use headwater_lake::{Lake, MaintenanceProgress, ViewCommit};
use headwater_model::{
    CherryPickRequest, Clock, ConflictKind, CreateRef, ErrorCode, FixedClock, MaintainRequest,
    MergeOutcome, MergeRequest, RevertRequest, SqlView, SystemClock, TableName, ToProblem,
};
use headwater_tables::ViewDefinition;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::support::{Fixture, name, numbers, rows_of, schema};

fn definition(sql: &str) -> ViewDefinition {
    ViewDefinition {
        schema: schema("id"),
        sql: sql.to_owned(),
        dialect: "headwater".to_owned(),
        namespace: "public".to_owned(),
        engine: ("headwater".to_owned(), "1".to_owned()),
    }
}

/// Creates or replaces the view `v`.
async fn write(lake: &Lake, branch: &str, sql: &str) {
    let mut transaction = lake.transaction(branch, "eva").await.unwrap();
    transaction.views().create(&name("v"), &definition(sql), true).await.unwrap();
    transaction.commit(&format!("view {sql}")).await.unwrap().unwrap();
}

async fn set(lake: &Lake, branch: &str, properties: &[(&str, &str)]) {
    let updates: BTreeMap<&str, &str> = properties.iter().copied().collect();
    let commit = json!({"updates": [{"action": "set-properties", "updates": updates}]});
    let commit: ViewCommit = serde_json::from_value(commit).unwrap();
    let mut transaction = lake.transaction(branch, "eva").await.unwrap();
    transaction.views().apply(&name("v"), &commit).await.unwrap();
    transaction.commit("properties").await.unwrap().unwrap();
}

async fn drop_view(lake: &Lake, branch: &str) {
    let mut transaction = lake.transaction(branch, "eva").await.unwrap();
    transaction.views().drop(&name("v")).await.unwrap();
    transaction.commit("drop view v").await.unwrap().unwrap();
}

async fn branch(lake: &Lake) {
    let dev = CreateRef { name: "dev".into(), from: None, if_not_exists: false };
    lake.create_branch(dev).await.unwrap();
}

async fn view(lake: &Lake, reference: &str) -> SqlView {
    lake.describe_view(&reference.parse().unwrap(), &name("v")).await.unwrap()
}

async fn sql(lake: &Lake, reference: &str) -> String {
    view(lake, reference).await.queries[0].sql.clone()
}

fn merge() -> MergeRequest {
    MergeRequest::new("dev".parse().unwrap())
}

#[tokio::test]
async fn a_view_and_a_table_cannot_have_the_same_name() {
    let fixture = Fixture::new().await;
    let lake = &fixture.lake;
    write(lake, "main", "SELECT 1").await;
    let mut transaction = lake.transaction("main", "eva").await.unwrap();
    let made = transaction.create(&name("v"), schema("id"), Vec::new(), BTreeMap::new()).await;
    assert_eq!(made.unwrap_err().code(), ErrorCode::AlreadyExists);
    let append = transaction.append(&name("V"), rows_of(numbers("id", [1]))).await.unwrap_err();
    assert_eq!(append.to_string(), "`v` is a view, not a table");
    drop(transaction);

    // If two transactions create a view with the same name, only one succeeds.
    let mut one = lake.transaction("main", "eva").await.unwrap();
    one.create(&name("w"), schema("id"), Vec::new(), BTreeMap::new()).await.unwrap();
    let mut other = lake.transaction("main", "ida").await.unwrap();
    other.views().create(&name("w"), &definition("SELECT 1"), false).await.unwrap();
    one.commit("table").await.unwrap().unwrap();
    let error = other.commit("view").await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::CommitConflict);
    assert!(fixture.has_table("w").await);
    let files = fixture.metadata_files();
    let mut one = lake.transaction("main", "eva").await.unwrap();
    one.views().create(&name("x"), &definition("SELECT 1"), false).await.unwrap();
    let mut other = lake.transaction("main", "ida").await.unwrap();
    other.create(&name("x"), schema("id"), Vec::new(), BTreeMap::new()).await.unwrap();
    one.commit("view").await.unwrap().unwrap();
    let error = other.commit("table").await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::CommitConflict);
    assert_eq!(fixture.metadata_files(), files + 1, "uncommitted files are removed");
}

#[tokio::test]
async fn two_changed_queries_of_a_view_conflict() {
    let fixture = Fixture::in_memory().await;
    let lake = &fixture.lake;
    write(lake, "main", "SELECT 1").await;
    branch(lake).await;
    write(lake, "dev", "SELECT 2").await;
    assert_eq!(lake.merge("main", merge(), "eva").await.unwrap().tables, [name("v")]);
    assert_eq!(sql(lake, "main").await, "SELECT 2");

    write(lake, "dev", "SELECT 3").await;
    write(lake, "main", "SELECT 4").await;
    let report = lake.merge("main", merge(), "eva").await.unwrap();
    assert_eq!(report.outcome, MergeOutcome::Conflict);
    let conflict = &report.conflicts[0];
    assert_eq!((conflict.table.clone(), conflict.causes[0].kind), (name("v"), ConflictKind::View));
    assert_eq!(conflict.causes[0].message, "both sides changed the query of the view");
    assert_eq!(
        (conflict.target_change.as_str(), conflict.source_change.as_str()),
        ("changed", "changed")
    );
    assert_eq!(sql(lake, "main").await, "SELECT 4");
    let theirs = MergeRequest { on_conflict: headwater_model::MergeChoice::Theirs, ..merge() };
    assert_eq!(lake.merge("main", theirs, "eva").await.unwrap().outcome, MergeOutcome::Merged);
    assert_eq!(sql(lake, "main").await, "SELECT 3");
}

#[tokio::test]
async fn changes_of_query_and_properties_merge() {
    let fixture = Fixture::in_memory().await;
    let lake = &fixture.lake;
    write(lake, "main", "SELECT 1").await;
    set(lake, "main", &[("kept", "1"), ("owner", "eva")]).await;
    branch(lake).await;
    write(lake, "dev", "SELECT 2").await;
    set(lake, "dev", &[("owner", "ida")]).await;
    set(lake, "main", &[("comment", "first")]).await;
    let report = lake.merge("main", merge(), "eva").await.unwrap();
    assert_eq!((report.outcome, report.tables), (MergeOutcome::Merged, vec![name("v")]));
    let merged = view(lake, "main").await;
    assert_eq!((merged.queries[0].sql.as_str(), merged.version), ("SELECT 2", 2));
    let properties: Vec<(&str, &str)> =
        merged.properties.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(properties, [("comment", "first"), ("kept", "1"), ("owner", "ida")]);

    set(lake, "main", &[("owner", "eva")]).await;
    set(lake, "dev", &[("owner", "uta")]).await;
    let report = lake.merge("main", merge(), "eva").await.unwrap();
    assert_eq!(
        report.conflicts[0].causes[0].message,
        "both sides set the property `owner` to different values"
    );
}

#[tokio::test]
async fn views_created_on_both_sides_merge_only_if_equal() {
    let fixture = Fixture::in_memory().await;
    let lake = &fixture.lake;
    branch(lake).await;
    write(lake, "main", "SELECT 1").await;
    write(lake, "dev", "SELECT 1").await;
    let report = lake.merge("main", merge(), "eva").await.unwrap();
    assert_eq!((report.outcome, report.tables), (MergeOutcome::Merged, Vec::new()));
    write(lake, "dev", "SELECT 2").await;
    drop_view(lake, "main").await;
    let report = lake.merge("main", merge(), "eva").await.unwrap();
    assert_eq!(
        report.conflicts[0].causes[0].message,
        "the target dropped the view, and the source changed it"
    );
    fixture.import_text("v", "v.csv", "id\n1\n").await.unwrap();
    let report = lake.merge("main", merge(), "eva").await.unwrap();
    assert_eq!(
        report.conflicts[0].causes[0].message,
        "the target has a table of this name, and the source a view"
    );
}

#[tokio::test]
async fn a_change_of_a_view_can_be_cherry_picked_and_reverted() {
    let fixture = Fixture::in_memory().await;
    let lake = &fixture.lake;
    write(lake, "main", "SELECT 1").await;
    branch(lake).await;
    write(lake, "dev", "SELECT 2").await;
    set(lake, "dev", &[("comment", "later")]).await;
    set(lake, "main", &[("owner", "eva")]).await;
    let pick = json!({"commit": "dev~1"});
    let pick: CherryPickRequest = serde_json::from_value(pick).unwrap();
    let report = lake.cherry_pick("main", pick, "eva").await.unwrap();
    assert_eq!(report.outcome, MergeOutcome::Merged, "{report:?}");
    let picked = view(lake, "main").await;
    assert_eq!(picked.queries[0].sql, "SELECT 2");
    assert_eq!(picked.properties, BTreeMap::from([("owner".to_owned(), "eva".to_owned())]));
    set(lake, "main", &[("more", "1")]).await;
    let revert: RevertRequest = serde_json::from_value(json!({"commit": "main~1"})).unwrap();
    let report = lake.revert("main", revert, "eva").await.unwrap();
    assert_eq!(report.outcome, MergeOutcome::Merged, "{report:?}");
    let undone = view(lake, "main").await;
    assert_eq!((undone.queries[0].sql.as_str(), undone.properties.len()), ("SELECT 1", 2));
}

#[tokio::test]
async fn a_diff_shows_changes_of_a_view() {
    let fixture = Fixture::in_memory().await;
    let lake = &fixture.lake;
    write(lake, "main", "SELECT 1").await;
    branch(lake).await;
    write(lake, "dev", "SELECT 2").await;
    set(lake, "dev", &[("owner", "ida")]).await;
    let [main, dev] = ["main", "dev"].map(|name| lake.catalog().branch(name));
    let (main, dev) = (main.await.unwrap().commit, dev.await.unwrap().commit);
    let changes = lake.catalog().diff(main, dev).await.unwrap();
    let [change] = changes.as_slice() else { panic!("{changes:?}") };
    let table = lake.diff_view(change.clone()).await.unwrap();
    let queries = table.view.clone().unwrap();
    assert_eq!(
        (queries.before[0].sql.as_str(), queries.after[0].sql.as_str()),
        ("SELECT 1", "SELECT 2")
    );
    assert_eq!(
        (table.properties[0].key.as_str(), table.properties[0].after.as_deref()),
        ("owner", Some("ida"))
    );
    assert!(table.columns.is_empty());
}

#[tokio::test]
async fn idempotency_keys_expire_after_a_week() {
    let clock = Arc::new(FixedClock::at(SystemClock.now()));
    let fixture = Fixture::at(clock.clone()).await;
    let lake = &fixture.lake;
    for request in ["one", "two"] {
        let mut transaction = lake.transaction("main", "eva").await.unwrap();
        transaction.views().create(&name("v"), &definition(request), true).await.unwrap();
        transaction.iceberg_rest().request(request);
        transaction.commit(request).await.unwrap().unwrap();
        clock.advance(Duration::from_hours(24 * 4));
    }
    assert_eq!(lake.iceberg_rest_requests().forget().await.unwrap(), 1);
    assert!(!lake.iceberg_rest_requests().is_done("one").await.unwrap());
    assert!(lake.iceberg_rest_requests().is_done("two").await.unwrap());
    assert_eq!(lake.iceberg_rest_requests().forget().await.unwrap(), 0);
}

#[tokio::test]
async fn maintenance_keeps_the_files_of_views() {
    let clock = Arc::new(FixedClock::at(SystemClock.now()));
    let fixture = Fixture::at(clock.clone()).await;
    let lake = &fixture.lake;
    fixture.import_text("t", "t.csv", "id\n1\n").await.unwrap();
    write(lake, "main", "SELECT 1").await;
    write(lake, "main", "SELECT 2").await;
    branch(lake).await;
    write(lake, "dev", "SELECT 3").await;
    let files = fixture.metadata_files();
    lake.catalog().delete_branch("dev").await.unwrap();
    clock.advance(Duration::from_hours(24 * 30));
    let request = MaintainRequest {
        orphans: true,
        expire_before_seconds: Some(86_400),
        ..MaintainRequest::default()
    };
    let progress: MaintenanceProgress = Arc::new(|_, _| {});
    let stop = CancellationToken::new();
    let report =
        Box::pin(lake.maintenance().run("main", None, &request, progress, stop)).await.unwrap();
    assert_eq!(report.removed_files.unwrap().orphans, 1, "what only the deleted branch had");
    assert_eq!(fixture.metadata_files(), files - 1);
    assert_eq!(sql(lake, "main~1").await, "SELECT 1");
    assert_eq!(sql(lake, "main").await, "SELECT 2");
}

#[tokio::test]
async fn a_table_conflicts_with_a_concurrently_created_view() {
    let fixture = Fixture::in_memory().await;
    let lake = &fixture.lake;
    let mut table = lake.transaction("main", "eva").await.unwrap();
    table.create(&name("v"), schema("id"), Vec::new(), [].into()).await.unwrap();
    write(lake, "main", "SELECT 1 AS id").await;
    let begun = std::time::Instant::now();
    let refused = table.commit("create table v").await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::CommitConflict);
    assert!(begun.elapsed() < Duration::from_secs(5), "it was tried again and again");
    assert_eq!(sql(lake, "main").await, "SELECT 1 AS id");
}

#[tokio::test]
async fn a_function_never_replaces_a_table_of_the_same_name() {
    let fixture = Fixture::in_memory().await;
    let lake = &fixture.lake;
    let function = TableName::of_function("public", "f").unwrap();
    // An old version of Headwater accepted this name for a table.
    let table = TableEntry {
        kind: EntryKind::Table,
        id: "old".to_owned(),
        metadata_location: "memory://lake/old.json".to_owned(),
        snapshot: None,
        operation: operation::CREATED.to_owned(),
        owner: None,
    };
    let changes =
        vec![TableChange { table: function.clone(), from: None, to: Some(table.clone()) }];
    let old = CommitRequest {
        branch: "main".to_owned(),
        changes,
        author: "eva".to_owned(),
        ..CommitRequest::default()
    };
    lake.catalog().commit(old).await.unwrap();
    let mut transaction = lake.transaction("main", "eva").await.unwrap();
    let created = transaction.views().create_function(&function, &definition("code"), true).await;
    assert_eq!(created.unwrap_err().code(), ErrorCode::AlreadyExists);
    assert!(!transaction.views().drop_function(&function).await.unwrap());
    let head = lake.view(&"main".parse().unwrap()).await.unwrap();
    assert_eq!(head.state().entry(&function).await.unwrap(), Some(table));
}
