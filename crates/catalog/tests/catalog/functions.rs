//! SQL functions, which are stored as views whose names end with `()`.

use headwater_catalog::{CommitRequest, EntryKind, NamespaceChange, TableChange, TableEntry};
use headwater_model::{Namespace, TableName, ToProblem};

use crate::support::{catalog, entry, request, set};

fn name(function: &str) -> TableName {
    TableName::of_function("raw", function).expect("a name")
}

#[tokio::test]
async fn a_function_is_stored_as_a_view_and_listed_apart() {
    let catalog = catalog().await;
    let raw = Namespace { name: "raw".into(), properties: [].into(), owner: None };
    let function = TableEntry { kind: EntryKind::View, ..entry("id-f", 1) };
    // An old version of Headwater accepted this name for a table.
    let table = entry("id-g", 1);
    let text = serde_json::to_string(&function).expect("JSON");
    assert!(text.contains(r#""kind":"view""#), "binaries without functions read the entry: {text}");
    let added =
        |name, entry: &TableEntry| TableChange { table: name, from: None, to: Some(entry.clone()) };
    let changes = vec![added(name("f"), &function), added(name("g"), &table)];
    let namespaces = vec![NamespaceChange::Create(raw)];
    let new = CommitRequest { changes, namespaces, ..request("main", &[]) };
    let commit = catalog.commit(new).await.expect("a commit");
    let state = catalog.state(commit.id).await.expect("a state");
    assert_eq!(state.function(&name("f")).await.expect("an answer"), Some(function));
    assert_eq!(state.entry(&name("f")).await.expect("an answer"), None);
    assert_eq!(state.find("raw", "f()").await.expect("an answer"), None);
    assert_eq!(state.function(&name("g")).await.expect("an answer"), None);
    assert_eq!(state.entry(&name("g")).await.expect("an answer"), Some(table));
    let names = |listed: Vec<(TableName, TableEntry)>| {
        listed.into_iter().map(|(name, _)| name.name).collect::<Vec<_>>()
    };
    assert_eq!(names(state.entries(None).await.expect("entries")), ["g()"]);
    assert_eq!(names(state.views(None).await.expect("views")), [] as [&str; 0]);
    assert_eq!(names(state.functions().await.expect("functions")), ["f()"]);
    assert_eq!(names(state.all_entries().await.expect("entries")), ["f()", "g()"]);
}

#[tokio::test]
async fn a_namespace_with_a_function_cannot_be_dropped() {
    let catalog = catalog().await;
    let raw = Namespace { name: "raw".into(), properties: [].into(), owner: None };
    let make = CommitRequest {
        namespaces: vec![NamespaceChange::Create(raw)],
        changes: vec![TableChange {
            table: name("f"),
            from: None,
            to: Some(TableEntry { kind: EntryKind::View, ..entry("id-f", 1) }),
        }],
        ..request("main", &[])
    };
    catalog.commit(make).await.expect("a commit");
    set(&catalog, "main", &[("b", 1)]).await.expect("a commit");
    let namespaces = vec![NamespaceChange::Drop("raw".into())];
    let drop = CommitRequest { namespaces, ..request("main", &[]) };
    let error = catalog.commit(drop).await.expect_err("it contains a function");
    let hint = error.hint().unwrap_or_default();
    assert_eq!(hint, "Drop the tables, views and functions of the namespace first.");
}
