//! Fault injection: a script of changes runs on a store that fails at one call, before or after the
//! call takes effect. The script runs once for each call. Acknowledged changes are durable, failed
//! changes are atomic, and the script can continue with the same or a new catalog.

use std::sync::Arc;

use headwater_catalog::{Catalog, CommitRequest, EVENT_SCOPE, Error, NamespaceChange, NewBranch};
use headwater_model::{Branch, Commit, CreateRef, Namespace, Tag};
use headwater_store::{JournalAppend, KeyRange, MemoryStore, Store, UniqueKey, WriteBatch};

use crate::support::{InjectedFault, Watched, clock, merge, open, request, set, tables};

const STEPS: usize = 14;

/// Executes one step of the script. Each step is one atomic change.
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
        3 => catalog.tags().create(create("v1", "main")).await.map(drop),
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
        _ => catalog.tags().delete("v1").await,
    }
}

fn with_namespace() -> CommitRequest {
    let raw = Namespace { name: "raw".into(), properties: [].into(), owner: None };
    let namespaces = vec![NamespaceChange::Create(raw)];
    CommitRequest { namespaces, ..request("dev2", &[("raw.a", None, Some(1))]) }
}

fn with_event() -> CommitRequest {
    let with = WriteBatch {
        unique: vec![UniqueKey { scope: EVENT_SCOPE.into(), key: "e1".into() }],
        entries: vec![JournalAppend {
            journal: "outbox".into(),
            key: "e1".into(),
            value: Some("done".into()),
        }],
        ..WriteBatch::default()
    };
    CommitRequest { with, ..request("main", &[("d", Some(1), Some(2)), ("e", None, Some(1))]) }
}

/// The observable state of a lake.
#[derive(Debug, PartialEq)]
struct Observed {
    branches: Vec<Branch>,
    tags: Vec<Tag>,
    tables: Vec<Vec<(String, String)>>,
    logs: Vec<Vec<Commit>>,
    outbox: usize,
}

async fn observe(catalog: &Catalog) -> Observed {
    let branches = catalog.branches(None).await.expect("branches");
    let (mut all, mut logs) = (Vec::new(), Vec::new());
    for branch in &branches {
        all.push(tables(catalog, &branch.name).await);
        logs.push(catalog.history(branch.commit, 1_000, None).await.expect("a log"));
    }
    let tags = catalog.tags().list(None).await.expect("tags");
    for tag in &tags {
        all.push(tables(catalog, &tag.name).await);
    }
    let outbox = catalog.store().scan("outbox", &KeyRange::all()).await.expect("read").len();
    Observed { branches, tags, tables: all, logs, outbox }
}

/// Runs the script without faults. Returns the state before each step and at the end, and the
/// number of store calls.
async fn without_faults() -> (Vec<Observed>, usize) {
    let inner: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let store = Watched::new(Arc::clone(&inner), InjectedFault::Nothing);
    let catalog = open(store.clone()).await;
    let mut observed = vec![observe(&open(Arc::clone(&inner)).await).await];
    for number in 0..STEPS {
        step(&catalog, number).await.expect("the step is made");
        observed.push(observe(&open(Arc::clone(&inner)).await).await);
    }
    (observed, store.counts().0)
}

/// Runs the script on a store with one fault, and continues the script after the fault.
async fn with_fault(observed: &[Observed], fault: InjectedFault, reopen: bool) {
    let inner: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let store: Arc<dyn Store> = Watched::new(Arc::clone(&inner), fault);
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
        let now = observe(&open(Arc::clone(&inner)).await).await;
        let done = now == observed[number + 1];
        assert!(
            done || now == observed[number],
            "step {number} was applied partially: {fault:?} {now:#?}"
        );
        assert!(
            !done || matches!(fault, InjectedFault::After(_)),
            "step {number} was applied: {fault:?}"
        );
        number += usize::from(done);
        if reopen {
            catalog = open(Arc::clone(&inner)).await;
        }
    }
    assert_eq!(observe(&open(inner).await).await, observed[STEPS], "{fault:?}");
}

#[tokio::test]
async fn a_fault_at_any_call_loses_no_acknowledged_change() {
    let (observed, calls) = without_faults().await;
    assert!(calls > STEPS);
    for call in 0..calls + 20 {
        for fault in [InjectedFault::Before(call), InjectedFault::After(call)] {
            for reopen in [true, false] {
                with_fault(&observed, fault, reopen).await;
            }
        }
    }
}

#[tokio::test]
async fn a_damaged_object_is_reported_as_corrupt() {
    let inner: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let commit = set(&open(Arc::clone(&inner)).await, "main", &[("a", 1)]).await.expect("a commit");
    let damaged = open(Watched::new(inner, InjectedFault::Objects)).await;
    let error = damaged.read_commit(commit.id).await.expect_err("it is damaged");
    assert!(matches!(&error, Error::Corrupt { what, .. } if what.contains(&commit.id.short())));
}
