//! The cost of changes in a lake with five thousand tables: about the same as in an empty lake.

use std::sync::Arc;

use headwater_catalog::{CommitRequest, EntryKind, TableChange, TableEntry};
use headwater_model::{MergeOutcome, TableName};
use headwater_store::MemoryStore;

use crate::support::{InjectedFault, Watched, fork, merge, open, request, set};

const TABLES: usize = 5_000;

fn wide_entry(number: usize) -> TableEntry {
    let location =
        format!("file:///home/someone/lake/.headwater/warehouse/public/table_{number:05}");
    TableEntry {
        kind: EntryKind::Table,
        id: format!("{number:08}-0000-4000-8000-000000000000"),
        metadata_location: format!("{location}-0123abcd/metadata/00001-{number:032}.metadata.json"),
        snapshot: Some(7_000_000_000_000_000_000 + number as i64),
        operation: "appended".into(),
        owner: None,
    }
}

fn change(number: usize, from: Option<usize>, to: usize) -> TableChange {
    let table = TableName::new("public", format!("table_{number:05}")).expect("a name");
    TableChange { table, from: from.map(wide_entry), to: Some(wide_entry(to)) }
}

#[tokio::test]
async fn branch_cost_is_constant_and_commits_write_kilobytes() {
    let store = Watched::new(Arc::new(MemoryStore::new()), InjectedFault::Nothing);
    let catalog = open(store.clone()).await;
    store.counts();
    fork(&catalog, "dev/0").await;
    store.counts();
    fork(&catalog, "dev/1").await;
    let empty = store.counts();
    let changes = (0..TABLES).map(|number| change(number, None, number)).collect();
    catalog.commit(CommitRequest { changes, ..request("main", &[]) }).await.expect("a commit");
    store.counts();
    fork(&catalog, "dev/2").await;
    assert_eq!(store.counts(), empty, "calls and bytes for a branch");
    assert_eq!(empty.0, 1);
    for number in [0, 1_234, 4_999] {
        let changes = vec![change(number, Some(number), number + TABLES)];
        let request = CommitRequest { changes, ..request("main", &[]) };
        catalog.commit(request).await.expect("a commit");
        let (calls, bytes) = store.counts();
        assert!(bytes < 20_000, "{bytes} bytes for one table");
        assert_eq!(calls, 1, "objects read or written before are cached");
    }
}

#[tokio::test]
async fn a_merge_stores_only_new_objects() {
    let store = Watched::new(Arc::new(MemoryStore::new()), InjectedFault::Nothing);
    let catalog = open(store.clone()).await;
    let changes = (0..TABLES).map(|number| change(number, None, number)).collect();
    catalog.commit(CommitRequest { changes, ..request("main", &[]) }).await.expect("a commit");
    fork(&catalog, "dev").await;
    let hundred = (0..TABLES).step_by(50);
    let changes: Vec<_> = hundred.map(|at| change(at, Some(at), at + TABLES)).collect();
    let count = changes.len();
    catalog.commit(CommitRequest { changes, ..request("dev", &[]) }).await.expect("a commit");
    let changes = vec![change(7, Some(7), 7 + TABLES)];
    catalog.commit(CommitRequest { changes, ..request("main", &[]) }).await.expect("a commit");
    store.counts();
    let merged = merge(&catalog, "dev", "main").await.expect("a merge");
    assert_eq!((merged.outcome, merged.tables.len()), (MergeOutcome::Merged, count));
    let (_, bytes) = store.counts();
    assert!(bytes < 30_000, "{bytes} bytes for a merge");
    // Open the catalog again, so that its cache is empty.
    let catalog = open(store).await;
    let state = catalog.state(merged.commit).await.expect("a state");
    let tables = state.tables(None).await.expect("tables");
    let changed =
        tables.iter().enumerate().filter(|(at, (_, entry))| *entry == wide_entry(at + TABLES));
    assert_eq!((tables.len(), changed.count()), (TABLES, count + 1));
}

#[tokio::test]
async fn a_diff_does_not_read_equal_subtries() {
    let inner = Arc::new(MemoryStore::new());
    let catalog = open(inner.clone()).await;
    let changes = (0..TABLES).map(|number| change(number, None, number)).collect();
    let before = catalog.commit(CommitRequest { changes, ..request("main", &[]) }).await;
    let before = before.expect("a commit").id;
    let after = set(&catalog, "main", &[("table_00007", 2)]).await.expect("a commit").id;
    let store = Watched::new(inner, InjectedFault::Nothing);
    let catalog = open(store.clone()).await;
    store.counts();
    let changes = catalog.diff(before, after).await.expect("a diff");
    assert_eq!(changes.len(), 1);
    let (calls, _) = store.counts();
    assert!(calls <= 10, "{calls} reads");
    let state = catalog.state(after).await.expect("a state");
    assert_eq!(state.tables(None).await.expect("tables").len(), TABLES);
    let (calls, _) = store.counts();
    assert!(calls <= 6, "{calls} reads for every table");
}
