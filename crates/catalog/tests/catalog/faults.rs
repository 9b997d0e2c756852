//! A script of changes over a store that fails at one call, at each call in turn, before or after the
//! call was carried out. Whatever was acknowledged is there afterwards; what failed is there as a whole or
//! not at all; and the script can be finished, by a new catalog or by the same.

use std::sync::Arc;

use headwater_catalog::{Catalog, CommitRequest, EVENT_SCOPE, Error, NamespaceChange, NewBranch};
use headwater_model::{Branch, Commit, CreateRef, Namespace, Tag};
use headwater_store::{Append, Batch, KeyRange, MemoryStore, Store, Unique};

use crate::support::{Spoil, Watched, clock, merge, open, request, set, tables};

const STEPS: usize = 14;

/// Does one step. Each makes one change, so that it happens as a whole or not at all.
async fn step(catalog: &Catalog, number: usize) -> Result<(), Error> {
    let create = |name: &str, from: &str| CreateRef {
        name: name.into(),
        from: Some(from.parse().expect("a ref")),
        if_not_exists: false,
    };
    match number {
        0 => set(catalog, "main", &[("a", 1), ("b", 1)]).await.map(drop),
        1 => catalog.create_branch(create("dev", "main")).await.map(drop),
        2 => set(catalog, "dev", &[("a", 2), ("c", 1)]).await.map(drop),
        3 => catalog.create_tag(create("v1", "main")).await.map(drop),
        4 => set(catalog, "main", &[("b", 2), ("d", 1)]).await.map(drop),
        5 => merge(catalog, "dev", "main").await.map(drop),
        6 => catalog.rename_branch("dev", "dev2").await.map(drop),
        7 => catalog.protect_branch("main", true).await.map(drop),
        8 => catalog.commit(with_namespace()).await.map(drop),
        9 => catalog.commit(with_event()).await.map(drop),
        10 => catalog.quarantine_branch("dev2", Some("job")).await.map(drop),
        11 => {
            let from = "dev2".parse().expect("a ref");
            catalog.create_branch_with("child", &from, NewBranch::default()).await.map(drop)
        }
        12 => catalog.delete_branch("dev2").await,
        _ => catalog.delete_tag("v1").await,
    }
}

fn with_namespace() -> CommitRequest {
    let raw = Namespace { name: "raw".into(), properties: [].into() };
    let namespaces = vec![NamespaceChange::Create(raw)];
    CommitRequest { namespaces, ..request("dev2", &[("raw.a", None, Some(1))]) }
}

fn with_event() -> CommitRequest {
    let with = Batch {
        unique: vec![Unique { scope: EVENT_SCOPE.into(), key: "e1".into() }],
        entries: vec![Append {
            journal: "outbox".into(),
            key: "e1".into(),
            value: Some("done".into()),
        }],
        ..Batch::default()
    };
    CommitRequest { with, ..request("main", &[("d", Some(1), Some(2)), ("e", None, Some(1))]) }
}

/// Everything that can be seen of a lake.
#[derive(Debug, PartialEq)]
struct Seen {
    branches: Vec<Branch>,
    tags: Vec<Tag>,
    tables: Vec<Vec<(String, String)>>,
    logs: Vec<Vec<Commit>>,
    outbox: usize,
}

async fn look(catalog: &Catalog) -> Seen {
    let branches = catalog.branches(None).await.expect("branches");
    let (mut all, mut logs) = (Vec::new(), Vec::new());
    for branch in &branches {
        all.push(tables(catalog, &branch.name).await);
        logs.push(catalog.history(branch.commit, 1_000, None).await.expect("a log"));
    }
    let tags = catalog.tags(None).await.expect("tags");
    for tag in &tags {
        all.push(tables(catalog, &tag.name).await);
    }
    let outbox = catalog.store().scan("outbox", &KeyRange::all()).await.expect("read").len();
    Seen { branches, tags, tables: all, logs, outbox }
}

/// What is seen before each step and at the end, and how many calls of the store the script makes.
async fn without_faults() -> (Vec<Seen>, usize) {
    let inner: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let store = Watched::new(Arc::clone(&inner), Spoil::Nothing);
    let catalog = open(store.clone()).await;
    let mut seen = vec![look(&open(Arc::clone(&inner)).await).await];
    for number in 0..STEPS {
        step(&catalog, number).await.expect("the step is made");
        seen.push(look(&open(Arc::clone(&inner)).await).await);
    }
    (seen, store.counts().0)
}

/// Runs the script over a store with one fault, and goes on after it.
async fn with_fault(seen: &[Seen], spoil: Spoil, reopen: bool) {
    let inner: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let store: Arc<dyn Store> = Watched::new(Arc::clone(&inner), spoil);
    let mut catalog = match Catalog::open(Arc::clone(&store), clock()).await {
        Ok(catalog) => catalog,
        Err(_) => open(Arc::clone(&inner)).await,
    };
    let mut number = 0;
    while number < STEPS {
        if step(&catalog, number).await.is_ok() {
            number += 1;
            continue;
        }
        let now = look(&open(Arc::clone(&inner)).await).await;
        let done = now == seen[number + 1];
        assert!(done || now == seen[number], "half of step {number} is there: {spoil:?} {now:#?}");
        assert!(!done || matches!(spoil, Spoil::After(_)), "step {number} was made: {spoil:?}");
        number += usize::from(done);
        if reopen {
            catalog = open(Arc::clone(&inner)).await;
        }
    }
    assert_eq!(look(&open(inner).await).await, seen[STEPS], "{spoil:?}");
}

#[tokio::test]
async fn a_fault_at_any_call_loses_nothing_that_was_acknowledged() {
    let (seen, calls) = without_faults().await;
    assert!(calls > STEPS);
    for call in 0..calls + 20 {
        for spoil in [Spoil::Before(call), Spoil::After(call)] {
            for reopen in [true, false] {
                with_fault(&seen, spoil, reopen).await;
            }
        }
    }
}

#[tokio::test]
async fn a_damaged_object_is_told_and_not_believed() {
    let inner: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let commit = set(&open(Arc::clone(&inner)).await, "main", &[("a", 1)]).await.expect("a commit");
    let damaged = open(Watched::new(inner, Spoil::Objects)).await;
    let error = damaged.read_commit(commit.id).await.expect_err("it is damaged");
    assert!(matches!(&error, Error::Corrupt { what, .. } if what.contains(&commit.id.short())));
}
