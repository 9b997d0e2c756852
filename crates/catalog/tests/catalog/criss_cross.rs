//! Criss-cross merges: no change is lost, and no reverted change returns.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use headwater_catalog::{Catalog, RequiredCheckStatus};
use headwater_model::{CommitId, FixedClock, MergeOutcome, MergeReport, MergeRequest};
use headwater_store::MemoryStore;
use proptest::prelude::*;

use crate::history::{History, Merged, Tables};
use crate::support::{catalog, fork, merge, merge_with, name, pairs, set, tables};

async fn head(catalog: &Catalog, branch: &str) -> CommitId {
    catalog.branch(branch).await.expect("a branch").commit
}

/// Merges `main` and `dev` into each other, each from its previous commit.
async fn criss_cross(catalog: &Catalog) -> [CommitId; 2] {
    let before = [head(catalog, "main").await, head(catalog, "dev").await];
    for (target, source) in [("main", before[1]), ("dev", before[0])] {
        let report = merge(catalog, &format!("@{source}"), target).await.expect("a merge");
        assert_eq!(report.outcome, MergeOutcome::Merged, "{target}");
    }
    before
}

#[tokio::test]
async fn a_change_reverted_after_criss_cross_merges_stays_reverted() {
    for (first, second) in [("main", "dev"), ("dev", "main")] {
        let catalog = catalog().await;
        set(&catalog, "main", &[("a", 1)]).await.expect("a commit");
        fork(&catalog, "dev").await;
        set(&catalog, first, &[("a", 2)]).await.expect("a commit");
        set(&catalog, second, &[("b", 1)]).await.expect("a commit");
        let before = criss_cross(&catalog).await;
        set(&catalog, first, &[("a", 1)]).await.expect("reverted");
        let heads = [head(&catalog, "main").await, head(&catalog, "dev").await];
        let bases = catalog.merge_bases(heads[0], heads[1]).await.expect("bases");
        assert_eq!(bases.into_iter().collect::<BTreeSet<_>>(), before.into(), "{first}");
        let report = merge(&catalog, second, first).await.expect("a merge");
        assert_eq!((report.outcome, report.tables), (MergeOutcome::Merged, vec![]), "{first}");
        assert_eq!(tables(&catalog, first).await, pairs(&[("a", "v1"), ("b", "v1")]));
        merge(&catalog, first, second).await.expect("a merge");
        assert_eq!(tables(&catalog, second).await, pairs(&[("a", "v1"), ("b", "v1")]));
    }
}

#[tokio::test]
async fn a_table_dropped_after_criss_cross_merges_stays_dropped() {
    for (first, second) in [("main", "dev"), ("dev", "main")] {
        let catalog = catalog().await;
        fork(&catalog, "dev").await;
        set(&catalog, first, &[("a", 1)]).await.expect("a commit");
        set(&catalog, second, &[("b", 1)]).await.expect("a commit");
        criss_cross(&catalog).await;
        set(&catalog, first, &[("a", 0)]).await.expect("dropped");
        merge(&catalog, second, first).await.expect("a merge");
        assert_eq!(tables(&catalog, first).await, pairs(&[("b", "v1")]), "{first}");
    }
}

#[tokio::test]
async fn different_resolutions_of_criss_cross_merges_conflict() {
    let catalog = catalog().await;
    set(&catalog, "main", &[("a", 1)]).await.expect("a commit");
    fork(&catalog, "dev").await;
    for (branch, version) in [("main", 2), ("dev", 3)] {
        set(&catalog, branch, &[("a", version)]).await.expect("a commit");
    }
    // Each branch resolves the conflict differently, in a merge commit with both parents.
    let before = [head(&catalog, "main").await, head(&catalog, "dev").await];
    for (target, source) in [("main", before[1]), ("dev", before[0])] {
        let source = format!("@{source}").parse().expect("a ref");
        let plan = catalog
            .merges()
            .plan(target, &source, RequiredCheckStatus::Required)
            .await
            .expect("a plan");
        let commit = headwater_catalog::MergeCommit::default();
        let made = catalog.merges().apply(&plan, Vec::new(), &commit).await.expect("a merge");
        assert!(made.is_some());
    }
    let report = merge(&catalog, "dev", "main").await.expect("a report");
    assert_eq!(report.outcome, MergeOutcome::Conflict);
    assert_eq!(report.conflicts[0].table, name("a"));
    // If one branch then makes the same change as the other branch, there is no conflict.
    set(&catalog, "dev", &[("a", 2)]).await.expect("a commit");
    let report = merge(&catalog, "dev", "main").await.expect("a report");
    assert_eq!(report.outcome, MergeOutcome::Merged);
    assert_eq!(tables(&catalog, "main").await, pairs(&[("a", "v2")]));
}

#[derive(Debug, Clone)]
enum Step {
    Set { branch: usize, table: usize, version: u32 },
    Remember { branch: usize, place: usize },
    Merge { place: usize, target: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..3_usize, 0..4_usize, 0..3_u32)
            .prop_map(|(branch, table, version)| Step::Set { branch, table, version }),
        3 => (0..3_usize, 0..4_usize).prop_map(|(branch, place)| Step::Remember { branch, place }),
        5 => (0..4_usize, 0..3_usize).prop_map(|(place, target)| Step::Merge { place, target }),
    ];
    proptest::collection::vec(step, 1..50)
}

const BRANCHES: [&str; 3] = ["main", "a", "b"];

/// The catalog under test and the model, with the ids of the model's commits.
struct Both {
    catalog: Catalog,
    clock: Arc<FixedClock>,
    history: History,
    ids: Vec<CommitId>,
    heads: [usize; 3],
    places: [usize; 4],
}

impl Both {
    async fn new() -> Self {
        let clock = Arc::new(FixedClock::at("2026-01-01T00:00:00Z".parse().expect("a moment")));
        let opened = Catalog::open(Arc::new(MemoryStore::new()), clock.clone()).await;
        let catalog = opened.expect("a catalog");
        let ids = vec![head(&catalog, "main").await];
        fork(&catalog, "a").await;
        fork(&catalog, "b").await;
        Both { catalog, clock, history: History::new(), ids, heads: [0; 3], places: [0; 4] }
    }

    async fn step(&mut self, step: &Step) {
        self.clock.advance(Duration::from_secs(1));
        match *step {
            Step::Remember { branch, place } => self.places[place] = self.heads[branch],
            Step::Set { branch, table, version } => {
                let table = format!("t{table}");
                let before = self.heads[branch];
                let mut after: Tables = self.history.tables(before).clone();
                match version {
                    0 => after.remove(&table),
                    version => after.insert(table.clone(), version),
                };
                let set = set(&self.catalog, BRANCHES[branch], &[(&table, version)]).await;
                self.ids.push(set.expect("a commit").id);
                self.heads[branch] = self.history.add(vec![before], after);
            }
            Step::Merge { place, target } => self.merge(self.places[place], target).await,
        }
    }

    async fn merge(&mut self, theirs: usize, target: usize) {
        let ours = self.heads[target];
        let expected = self.history.merge(ours, theirs);
        let bases = self.catalog.merge_bases(self.ids[ours], self.ids[theirs]).await;
        let known = self.history.bases(&[ours], theirs);
        let known: Vec<CommitId> = known.into_iter().map(|base| self.ids[base]).collect();
        assert_eq!(bases.expect("bases"), known);
        let source = format!("@{}", self.ids[theirs]).parse().expect("a ref");
        let request = MergeRequest::new(source);
        let report = merge_with(&self.catalog, BRANCHES[target], request, BTreeMap::new()).await;
        let report = report.expect("a report");
        assert_eq!(outcome(&expected), (report.outcome, names(&report)));
        match expected {
            Merged::Forward(_) => self.heads[target] = theirs,
            Merged::Tables(tables, _) => {
                self.ids.push(report.commit);
                self.heads[target] = self.history.add(vec![ours, theirs], tables);
            }
            Merged::UpToDate | Merged::Conflict(_) => {}
        }
        let found: BTreeMap<_, _> =
            tables(&self.catalog, BRANCHES[target]).await.into_iter().collect();
        let known = self.history.tables(self.heads[target]).iter();
        assert_eq!(found, known.map(|(name, at)| (name.clone(), format!("v{at}"))).collect());
    }
}

fn outcome(merged: &Merged) -> (MergeOutcome, BTreeSet<String>) {
    match merged {
        Merged::UpToDate => (MergeOutcome::UpToDate, BTreeSet::new()),
        Merged::Forward(taken) => (MergeOutcome::FastForward, taken.clone()),
        Merged::Tables(_, taken) => (MergeOutcome::Merged, taken.clone()),
        Merged::Conflict(tables) => (MergeOutcome::Conflict, tables.clone()),
    }
}

fn names(report: &MergeReport) -> BTreeSet<String> {
    let conflicts = report.conflicts.iter().map(|conflict| conflict.table.to_string());
    report.tables.iter().map(ToString::to_string).chain(conflicts).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..Default::default() })]

    #[test]
    fn merges_from_any_commit_into_any_branch_agree_with_the_model(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let mut both = Both::new().await;
            for step in &steps {
                both.step(step).await;
            }
        });
    }
}
