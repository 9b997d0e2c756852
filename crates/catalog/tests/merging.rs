//! Branches, commits and merges as a person meets them, over the store in memory.

use std::sync::Arc;

use headwater_catalog::{Catalog, CommitRequest, Error, NewBranch, TableChange, TableEntry};
use headwater_model::{
    Commit, CreateRef, MergeOutcome, MergeReport, MergeRequest, RefSpec, SystemClock, TableName,
};
use headwater_store::{Batch, MemoryStore, Unique};

async fn catalog() -> Catalog {
    Catalog::open(Arc::new(MemoryStore::new()), Arc::new(SystemClock)).await.expect("a catalog")
}

fn name(table: &str) -> TableName {
    table.parse().expect("a name")
}

fn entry(version: u32) -> TableEntry {
    TableEntry {
        id: "one".into(),
        metadata_location: format!("v{version}"),
        snapshot: Some(i64::from(version)),
        operation: "appended".into(),
    }
}

/// Sets tables on a branch to versions; version 0 drops.
async fn set(catalog: &Catalog, branch: &str, tables: &[(&str, u32)]) -> Result<Commit, Error> {
    let head = catalog.resolve(&branch.parse().expect("a ref")).await?.commit;
    let state = catalog.state(head).await?;
    let mut changes = Vec::new();
    for (table, version) in tables {
        let table = name(table);
        let from = state.table(&table).await?;
        let to = (*version > 0).then(|| entry(*version));
        changes.push(TableChange { table, from, to });
    }
    let request = CommitRequest {
        branch: branch.into(),
        changes,
        author: "eva".into(),
        message: format!("{tables:?}"),
        direct: true,
        ..CommitRequest::default()
    };
    catalog.commit(request).await
}

async fn fork(catalog: &Catalog, name: &str) {
    let request = CreateRef { name: name.into(), from: None, if_not_exists: false };
    catalog.create_branch(request).await.expect("a branch");
}

async fn merge(catalog: &Catalog, source: &str, target: &str) -> Result<MergeReport, Error> {
    let request = MergeRequest {
        source: source.parse().expect("a ref"),
        message: None,
        dry_run: false,
        unchecked: false,
    };
    catalog.merge(target, request, "eva").await
}

async fn tables(catalog: &Catalog, branch: &str) -> Vec<(String, String)> {
    let head = catalog.resolve(&branch.parse().expect("a ref")).await.expect("the branch").commit;
    let state = catalog.state(head).await.expect("a state");
    let tables = state.tables(None).await.expect("tables");
    tables.into_iter().map(|(name, entry)| (name.to_string(), entry.metadata_location)).collect()
}

fn pairs(tables: &[(&str, &str)]) -> Vec<(String, String)> {
    tables.iter().map(|(name, at)| ((*name).to_owned(), (*at).to_owned())).collect()
}

#[tokio::test]
async fn a_target_that_has_not_moved_moves_forward() {
    let catalog = catalog().await;
    fork(&catalog, "dev").await;
    let commit = set(&catalog, "dev", &[("a", 1)]).await.expect("a commit");
    let report = merge(&catalog, "dev", "main").await.expect("a merge");
    assert_eq!((report.outcome, report.commit), (MergeOutcome::FastForward, commit.id));
    let again = merge(&catalog, "dev", "main").await.expect("a merge");
    assert_eq!(again.outcome, MergeOutcome::UpToDate);
}

#[tokio::test]
async fn changes_to_different_tables_merge_and_earlier_merges_count() {
    let catalog = catalog().await;
    set(&catalog, "main", &[("a", 1), ("b", 1), ("c", 1)]).await.expect("a commit");
    fork(&catalog, "dev").await;
    set(&catalog, "dev", &[("a", 2), ("c", 0)]).await.expect("a commit");
    set(&catalog, "main", &[("b", 2)]).await.expect("a commit");
    let report = merge(&catalog, "dev", "main").await.expect("a merge");
    assert_eq!(report.outcome, MergeOutcome::Merged);
    assert_eq!(tables(&catalog, "main").await, pairs(&[("a", "v2"), ("b", "v2")]));
    set(&catalog, "dev", &[("a", 3)]).await.expect("a commit");
    let second = merge(&catalog, "dev", "main").await.expect("a merge");
    assert_eq!((second.outcome, second.tables), (MergeOutcome::Merged, vec![name("a")]));
    let commit = catalog.read_commit(second.commit).await.expect("the commit");
    assert_eq!(commit.parents.len(), 2);
}

#[tokio::test]
async fn a_conflict_names_tables_changes_and_commits_and_changes_nothing() {
    let catalog = catalog().await;
    set(&catalog, "main", &[("a", 1), ("b", 1)]).await.expect("a commit");
    fork(&catalog, "dev").await;
    let theirs = set(&catalog, "dev", &[("a", 2), ("b", 2)]).await.expect("a commit");
    let ours = set(&catalog, "main", &[("a", 3), ("b", 0)]).await.expect("a commit");
    let report = merge(&catalog, "dev", "main").await.expect("a report");
    assert_eq!((report.outcome, report.commit), (MergeOutcome::Conflict, ours.id));
    let told: Vec<_> = report
        .conflicts
        .iter()
        .map(|c| (c.table.to_string(), c.target_change.as_str(), c.source_change.as_str()))
        .collect();
    assert_eq!(told, [("a".into(), "appended", "appended"), ("b".into(), "dropped", "appended")]);
    assert_eq!(report.conflicts[0].target.as_ref().map(|commit| commit.id), Some(ours.id));
    assert_eq!(report.conflicts[0].source.as_ref().map(|commit| commit.id), Some(theirs.id));
    assert_eq!(tables(&catalog, "main").await, pairs(&[("a", "v3")]));
}

#[tokio::test]
async fn a_failed_runs_branch_and_its_children_cannot_be_merged_unchecked() {
    let catalog = catalog().await;
    let options = NewBranch { quarantine: Some("job".into()), ..NewBranch::default() };
    catalog.create_branch_with("run/job", &RefSpec::main(), options).await.expect("a branch");
    let commit = set(&catalog, "run/job", &[("a", 1)]).await.expect("a commit");
    let from = Some("run/job".parse().expect("a ref"));
    let request = CreateRef { name: "child".into(), from, if_not_exists: false };
    assert_eq!(
        catalog.create_branch(request).await.expect("a branch").quarantine,
        Some("job".into())
    );
    let hash = format!("@{}", commit.id);
    for source in ["run/job", "child", hash.as_str()] {
        let error = merge(&catalog, source, "main").await.expect_err("a refusal");
        assert!(matches!(error, Error::Quarantined { .. }), "{source}: {error}");
    }
    let request = MergeRequest {
        source: "child".parse().expect("a ref"),
        message: None,
        dry_run: false,
        unchecked: true,
    };
    catalog.merge("main", request, "eva").await.expect("a merge all the same");
}

#[tokio::test]
async fn a_protected_branch_takes_merges_only() {
    let catalog = catalog().await;
    fork(&catalog, "dev").await;
    catalog.protect_branch("main", true).await.expect("protected");
    let error = set(&catalog, "main", &[("a", 1)]).await.expect_err("a refusal");
    assert!(matches!(error, Error::Protected { .. }), "{error}");
    set(&catalog, "dev", &[("a", 1)]).await.expect("a commit");
    merge(&catalog, "dev", "main").await.expect("a merge");
}

#[tokio::test]
async fn one_event_commits_once() {
    let catalog = catalog().await;
    let request = |table: &str| CommitRequest {
        branch: "main".into(),
        changes: vec![TableChange { table: name(table), from: None, to: Some(entry(1)) }],
        with: Batch {
            unique: vec![Unique { scope: headwater_catalog::EVENT_SCOPE.into(), key: "e1".into() }],
            ..Batch::default()
        },
        ..CommitRequest::default()
    };
    catalog.commit(request("a")).await.expect("the first time");
    let error = catalog.commit(request("b")).await.expect_err("the second time");
    assert!(matches!(error, Error::EventAlreadyCommitted { .. }), "{error}");
}

#[tokio::test]
async fn refs_resolve_by_name_and_by_the_beginning_of_a_hash() {
    let catalog = catalog().await;
    let first = set(&catalog, "main", &[("a", 1)]).await.expect("a commit");
    set(&catalog, "main", &[("a", 2)]).await.expect("a commit");
    let digits = &first.id.to_string()[..10];
    for spec in [format!("main@{digits}"), format!("@{digits}"), format!("@{}", first.id)] {
        let resolved = catalog.resolve(&spec.parse().expect("a ref")).await.expect("a commit");
        assert_eq!((resolved.commit, resolved.branch), (first.id, None), "{spec}");
    }
    let error = catalog.resolve(&"mian".parse().expect("a ref")).await.expect_err("nothing");
    assert!(matches!(error, Error::RefNotFound { near: Some(near), .. } if near == "main"));
}

#[tokio::test]
async fn a_set_of_tables_has_one_shape_however_it_came_about() {
    let catalog = catalog().await;
    let names: Vec<String> = (0..300).map(|n| format!("table_{n}")).collect();
    let all: Vec<(&str, u32)> = names.iter().map(|name| (name.as_str(), 1)).collect();
    set(&catalog, "main", &all).await.expect("a commit");
    fork(&catalog, "dev").await;
    for part in all.chunks(40) {
        let dropped: Vec<_> = part.iter().map(|(name, _)| (*name, 0)).collect();
        set(&catalog, "dev", &dropped).await.expect("dropped");
    }
    assert_eq!(tables(&catalog, "dev").await.len(), 0);
    for (name, version) in all.iter().rev() {
        set(&catalog, "dev", &[(name, *version)]).await.expect("made again");
    }
    let head = |branch: &'static str| {
        let catalog = catalog.clone();
        async move { catalog.branch(branch).await.expect("a branch").commit }
    };
    let differences = catalog.diff(head("main").await, head("dev").await).await.expect("a diff");
    assert!(differences.is_empty());
    set(&catalog, "dev", &[("table_7", 2)]).await.expect("a commit");
    let differences = catalog.diff(head("main").await, head("dev").await).await.expect("a diff");
    assert_eq!(differences.len(), 1);
    assert_eq!(differences[0].table, name("table_7"));
}
