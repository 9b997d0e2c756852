//! Examples of commits and merges.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use headwater_catalog::{
    CommitRequest, Error, MergeCommit, NewBranch, RequiredCheckStatus, TableChange,
};
use headwater_model::{
    BranchMerge, CommitId, CreateRef, MERGE_JOURNAL, MergeOutcome, MergeRequest, Namespace, RefSpec,
};
use headwater_store::{MemoryStore, OccurrenceJournal, Store, UniqueKey, WriteBatch};

use headwater_catalog::NamespaceChange;

use crate::support::{
    catalog, entry, fork, merge, merge_with, name, open, pairs, request, set, tables,
};

#[tokio::test]
async fn a_merge_into_an_unmoved_target_is_a_fast_forward() {
    let catalog = catalog().await;
    fork(&catalog, "dev").await;
    let commit = set(&catalog, "dev", &[("a", 1)]).await.expect("a commit");
    let report = merge(&catalog, "dev", "main").await.expect("a merge");
    assert_eq!((report.outcome, report.commit), (MergeOutcome::FastForward, commit.id));
    let again = merge(&catalog, "dev", "main").await.expect("a merge");
    assert_eq!(again.outcome, MergeOutcome::UpToDate);
}

#[tokio::test]
async fn changes_to_different_tables_merge_and_merged_changes_are_not_merged_again() {
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
    let reported: Vec<_> = report
        .conflicts
        .iter()
        .map(|c| (c.table.to_string(), c.target_change.as_str(), c.source_change.as_str()))
        .collect();
    assert_eq!(
        reported,
        [("a".into(), "appended", "appended"), ("b".into(), "dropped", "appended")]
    );
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
    // A branch that merged a branch in quarantine with `--unchecked` inherits the quarantine.
    fork(&catalog, "between").await;
    set(&catalog, "between", &[("b", 1)]).await.expect("a commit");
    let unchecked = |source: &str| {
        let source = source.parse().expect("a ref");
        MergeRequest { unchecked: true, ..MergeRequest::new(source) }
    };
    merge_with(&catalog, "between", unchecked("child"), BTreeMap::new()).await.expect("a merge");
    let error = merge(&catalog, "between", "main").await.expect_err("a refusal");
    assert!(matches!(&error, Error::Quarantined { run, .. } if run == "job"), "{error}");
    merge_with(&catalog, "main", unchecked("child"), BTreeMap::new()).await.expect("a merge");
    assert_eq!(catalog.branch("main").await.expect("main").quarantine, None);
}

#[tokio::test]
async fn each_commit_of_many_failed_runs_is_in_quarantine() {
    let catalog = catalog().await;
    let mut heads: Vec<(CommitId, bool)> = Vec::new();
    let mut commits = Vec::new();
    for number in 0..30_u32 {
        // Some branches start at an earlier branch, and every third branch is not in quarantine.
        let from = match number {
            0..5 => RefSpec::main(),
            _ => RefSpec::Name(format!("run/{}", number / 2)),
        };
        let run = (number % 3 != 0).then(|| number.to_string());
        let options = NewBranch { quarantine: run.clone(), ..NewBranch::default() };
        let name = format!("run/{number}");
        catalog.create_branch_with(&name, &from, options).await.expect("a branch");
        catalog.quarantine_branch(&name, run.as_deref()).await.expect("a mark");
        let made = set(&catalog, &name, &[(&format!("t{number}"), 1)]).await.expect("a commit");
        commits.push(made.id);
        heads.push((made.id, run.is_some()));
        if number % 4 == 1 {
            set(&catalog, "main", &[("m", number)]).await.expect("a commit");
        }
    }
    let (mut refused, main) = (0, catalog.branch("main").await.expect("main").commit);
    heads.push((main, false));
    for commit in commits {
        let (mut failed, mut accepted) = (false, false);
        for (head, is_failed) in &heads {
            if catalog.merge_bases(commit, *head).await.expect("bases") == [commit] {
                failed |= is_failed;
                accepted |= !is_failed;
            }
        }
        let source = format!("@{commit}").parse().expect("a ref");
        let planned = catalog.merges().plan("main", &source, RequiredCheckStatus::Required).await;
        let is_refused = matches!(planned, Err(Error::Quarantined { .. }));
        assert_eq!(is_refused, failed && !accepted, "{commit}: {planned:?}");
        refused += usize::from(is_refused);
    }
    assert!((5..25).contains(&refused), "{refused} are refused");
}

#[tokio::test]
async fn merges_are_recorded_while_they_are_watched() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let (catalog, journal) =
        (open(store.clone()).await, OccurrenceJournal::new(&*store, MERGE_JOURNAL));
    fork(&catalog, "dev").await;
    let source: RefSpec = "dev".parse().expect("a ref");
    let merged = async |table: &str, name: Option<&str>| {
        let commit = set(&catalog, "dev", &[(table, 1)]).await.expect("a commit");
        let planned = catalog.merges().plan("main", &source, RequiredCheckStatus::Required).await;
        let mut plan = planned.expect("a plan");
        plan.merged = name.map(str::to_owned);
        let with = MergeCommit { author: "eva".into(), ..MergeCommit::default() };
        let applied = catalog.merges().apply(&plan, plan.taken.clone(), &with).await;
        assert_eq!(applied.expect("a merge"), Some(commit.id));
        commit.id
    };
    merged("a", Some("dev")).await;
    journal.watch(Some(Bytes::from_static(b"all"))).await.expect("a watch");
    merged("b", None).await;
    assert_eq!(journal.after(0, 10).await.expect("entries"), []);
    let id = merged("c", Some("dev")).await;
    let entries = journal.after(0, 10).await.expect("entries");
    let [entry] = entries.as_slice() else { panic!("{entries:?}") };
    let merge: BranchMerge = serde_json::from_slice(&entry.value).expect("a merge");
    assert_eq!((merge.branch.as_str(), merge.source.as_str()), ("main", "dev"));
    assert_eq!((merge.commit, merge.source_commit), (id, id));
    assert_eq!((merge.tables, merge.author), (vec!["public.c".to_owned()], "eva".to_owned()));
}

#[tokio::test]
async fn a_protected_branch_accepts_only_merges() {
    let catalog = catalog().await;
    fork(&catalog, "dev").await;
    catalog.protect_branch("main", true).await.expect("protected");
    let error = set(&catalog, "main", &[("a", 1)]).await.expect_err("a refusal");
    assert!(matches!(error, Error::Protected { .. }), "{error}");
    set(&catalog, "dev", &[("a", 1)]).await.expect("a commit");
    merge(&catalog, "dev", "main").await.expect("a merge");
}

#[tokio::test]
async fn an_event_is_committed_only_once() {
    let catalog = catalog().await;
    let request = |table: &str| CommitRequest {
        branch: "main".into(),
        changes: vec![TableChange { table: name(table), from: None, to: Some(entry(table, 1)) }],
        with: WriteBatch {
            unique: vec![UniqueKey {
                scope: headwater_catalog::EVENT_SCOPE.into(),
                key: "e1".into(),
            }],
            ..WriteBatch::default()
        },
        ..CommitRequest::default()
    };
    catalog.commit(request("a")).await.expect("the first time");
    let error = catalog.commit(request("b")).await.expect_err("the second time");
    assert!(matches!(error, Error::EventAlreadyCommitted { .. }), "{error}");
}

#[tokio::test]
async fn refs_resolve_by_name_and_by_hash_prefix() {
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
async fn the_trie_depends_only_on_the_set_of_tables() {
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
        set(&catalog, "dev", &[(name, *version)]).await.expect("created again");
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

fn namespace(name: &str) -> Namespace {
    let properties = [("owner".into(), "eva".into())].into();
    Namespace { name: name.into(), properties, owner: None }
}

#[tokio::test]
async fn a_merge_restores_the_namespace_of_a_merged_table() {
    let catalog = catalog().await;
    let make = CommitRequest {
        namespaces: vec![NamespaceChange::Create(namespace("raw"))],
        ..request("main", &[])
    };
    catalog.commit(make).await.expect("a commit");
    fork(&catalog, "dev").await;
    set(&catalog, "dev", &[("raw.a", 1)]).await.expect("a commit");
    let drop = CommitRequest {
        namespaces: vec![NamespaceChange::Drop("raw".into())],
        ..request("main", &[])
    };
    catalog.commit(drop).await.expect("the namespace is empty on main");
    let report = merge(&catalog, "dev", "main").await.expect("a merge");
    assert_eq!(report.outcome, MergeOutcome::Merged);
    assert_eq!(tables(&catalog, "main").await, pairs(&[("raw.a", "v1")]));
    let state = catalog.state(report.commit).await.expect("a state");
    assert_eq!(state.namespace("raw").await.expect("read"), Some(namespace("raw")));
}

#[tokio::test]
async fn a_merge_restores_the_outer_namespace_of_a_merged_namespace() {
    let catalog = catalog().await;
    let change = async |branch: &str, change: NamespaceChange| {
        let namespaces = vec![change];
        catalog.commit(CommitRequest { namespaces, ..request(branch, &[]) }).await
    };
    change("main", NamespaceChange::Create(namespace("shop"))).await.expect("made");
    fork(&catalog, "dev").await;
    change("dev", NamespaceChange::Create(namespace("shop.eu"))).await.expect("made");
    change("main", NamespaceChange::Drop("shop".into())).await.expect("dropped");
    merge(&catalog, "dev", "main").await.expect("a merge");
    let head = catalog.branch("main").await.expect("main").commit;
    let found = catalog.state(head).await.expect("a state").namespaces().await.expect("namespaces");
    let names: Vec<&str> = found.iter().map(|namespace| &*namespace.name).collect();
    assert_eq!(names, ["public", "shop", "shop.eu"]);
}

#[tokio::test]
async fn a_merge_drops_a_namespace_only_if_it_is_empty() {
    let catalog = catalog().await;
    let make = CommitRequest {
        namespaces: vec![NamespaceChange::Create(namespace("raw"))],
        ..request("main", &[("raw.a", None, Some(1))])
    };
    catalog.commit(make).await.expect("a commit");
    for branch in ["empty", "used"] {
        fork(&catalog, branch).await;
    }
    set(&catalog, "empty", &[("b", 1)]).await.expect("a commit");
    set(&catalog, "used", &[("raw.b", 1)]).await.expect("a commit");
    let drop = CommitRequest {
        namespaces: vec![NamespaceChange::Drop("raw".into())],
        ..request("main", &[("raw.a", Some(1), None)])
    };
    catalog.commit(drop).await.expect("the table is dropped in the same commit");
    for (branch, stays) in [("empty", false), ("used", true)] {
        let report = merge(&catalog, "main", branch).await.expect("a merge");
        let state = catalog.state(report.commit).await.expect("a state");
        assert_eq!(state.namespace("raw").await.expect("read").is_some(), stays, "{branch}");
    }
    assert_eq!(tables(&catalog, "used").await, pairs(&[("raw.b", "v1")]));
}

#[tokio::test]
async fn equal_changes_on_both_sides_do_not_conflict() {
    let catalog = catalog().await;
    fork(&catalog, "dev").await;
    set(&catalog, "dev", &[("a", 1), ("b", 1)]).await.expect("a commit");
    set(&catalog, "main", &[("a", 1), ("c", 1)]).await.expect("a commit");
    let report = merge(&catalog, "dev", "main").await.expect("a merge");
    assert_eq!((report.outcome, report.tables), (MergeOutcome::Merged, vec![name("b")]));
    let expected = pairs(&[("a", "v1"), ("b", "v1"), ("c", "v1")]);
    assert_eq!(tables(&catalog, "main").await, expected);
}

#[tokio::test]
async fn a_conflict_names_the_commit_behind_a_merge() {
    let catalog = catalog().await;
    set(&catalog, "main", &[("a", 1)]).await.expect("a commit");
    for branch in ["dev", "other"] {
        fork(&catalog, branch).await;
    }
    let made = set(&catalog, "other", &[("a", 2)]).await.expect("a commit");
    set(&catalog, "dev", &[("b", 1)]).await.expect("a commit");
    merge(&catalog, "other", "dev").await.expect("a merge");
    set(&catalog, "dev", &[("b", 2)]).await.expect("a commit");
    set(&catalog, "main", &[("a", 3)]).await.expect("a commit");
    let report = merge(&catalog, "dev", "main").await.expect("a report");
    assert_eq!(report.outcome, MergeOutcome::Conflict);
    assert_eq!(report.conflicts.len(), 1);
    assert_eq!(report.conflicts[0].source.as_ref().map(|commit| commit.id), Some(made.id));
}

#[tokio::test]
async fn a_merge_with_properties_creates_a_commit_and_a_dry_run_changes_nothing() {
    let catalog = catalog().await;
    let before = fork(&catalog, "dev").await;
    set(&catalog, "dev", &[("a", 1)]).await.expect("a commit");
    let source = || "dev".parse().expect("a ref");
    let ask = |dry_run| MergeRequest { dry_run, ..MergeRequest::new(source()) };
    let report = merge_with(&catalog, "main", ask(true), BTreeMap::new()).await.expect("a report");
    assert_eq!((report.outcome, report.commit), (MergeOutcome::FastForward, before.commit));
    assert_eq!(tables(&catalog, "main").await, pairs(&[]));
    let properties = [("headwater.job".to_owned(), "7".to_owned())].into();
    let merged = merge_with(&catalog, "main", ask(false), properties).await;
    let report = merged.expect("a merge");
    assert_eq!((report.outcome, report.tables), (MergeOutcome::Merged, vec![name("a")]));
    let commit = catalog.read_commit(report.commit).await.expect("a commit");
    assert_eq!(commit.properties["headwater.job"], "7");
    assert_eq!(commit.message, "Merge dev into main");
    assert_eq!(commit.parents.len(), 2);
}
