//! A state machine test: the catalog and a simple model must agree after any sequence of
//! operations.
//!
//! The model stores every commit with a full copy of its tables.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use headwater_catalog::{Catalog, Error};
use headwater_model::{
    CommitId, CreateRef, ErrorCode, FixedClock, MergeOutcome, RefSpec, ToProblem,
};
use headwater_store::MemoryStore;
use proptest::prelude::*;
use proptest::test_runner::Config;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};

use crate::history::{History, Merged, Tables};
use crate::support::{merge, set};

#[derive(Debug, Clone)]
enum Change {
    Commit { branch: &'static str, set: Vec<usize>, drop: Vec<usize> },
    CreateBranch { name: &'static str, from: &'static str },
    DeleteBranch(&'static str),
    RenameBranch { from: &'static str, to: &'static str },
    Protect(&'static str, bool),
    CreateTag { name: &'static str, from: &'static str },
    DeleteTag(&'static str),
    Merge { source: &'static str, target: &'static str },
}

#[derive(Debug, Clone, PartialEq)]
enum Answer {
    Done,
    Refused(ErrorCode),
    Merged(MergeOutcome, BTreeSet<String>),
}

/// The model: refs point to commit numbers.
#[derive(Debug, Clone)]
struct Model {
    history: History,
    branches: BTreeMap<&'static str, (usize, bool)>,
    tags: BTreeMap<&'static str, usize>,
    version: u32,
    answer: Answer,
}

impl Model {
    fn new() -> Self {
        Model {
            history: History::new(),
            branches: BTreeMap::from([("main", (0, false))]),
            tags: BTreeMap::new(),
            version: 0,
            answer: Answer::Done,
        }
    }

    fn resolve(&self, name: &str) -> Result<usize, ErrorCode> {
        let branch = self.branches.get(name).map(|(commit, _)| *commit);
        branch.or_else(|| self.tags.get(name).copied()).ok_or(ErrorCode::RefNotFound)
    }

    fn branch(&mut self, name: &str) -> Result<&mut (usize, bool), ErrorCode> {
        self.branches.get_mut(name).ok_or(ErrorCode::RefNotFound)
    }

    fn free(&self, name: &str) -> Result<(), ErrorCode> {
        let taken = self.branches.contains_key(name) || self.tags.contains_key(name);
        if taken { Err(ErrorCode::AlreadyExists) } else { Ok(()) }
    }

    fn make(&mut self, change: &Change) -> Result<Answer, ErrorCode> {
        match change {
            Change::Commit { branch, set, drop } => {
                let (head, protected) = *self.branch(branch)?;
                if protected {
                    return Err(ErrorCode::BranchProtected);
                }
                let mut tables = self.history.tables(head).clone();
                self.version += 1;
                tables.extend(set.iter().map(|table| (table_name(*table), self.version)));
                for table in drop {
                    tables.remove(&table_name(*table));
                }
                self.branch(branch)?.0 = self.history.add(vec![head], tables);
            }
            Change::CreateBranch { name, from } => {
                let commit = self.resolve(from)?;
                self.free(name)?;
                self.branches.insert(name, (commit, false));
            }
            Change::DeleteBranch(name) => {
                let protected = self.branch(name)?.1;
                match (*name, protected) {
                    ("main", _) => return Err(ErrorCode::Forbidden),
                    (_, true) => return Err(ErrorCode::BranchProtected),
                    _ => self.branches.remove(name),
                };
            }
            Change::RenameBranch { from, to } => {
                if *from == "main" {
                    return Err(ErrorCode::Forbidden);
                }
                let branch = *self.branch(from)?;
                if branch.1 {
                    return Err(ErrorCode::BranchProtected);
                }
                self.free(to)?;
                self.branches.remove(from);
                self.branches.insert(to, branch);
            }
            Change::Protect(name, protected) => self.branch(name)?.1 = *protected,
            Change::CreateTag { name, from } => {
                let commit = self.resolve(from)?;
                self.free(name)?;
                self.tags.insert(name, commit);
            }
            Change::DeleteTag(name) => {
                self.tags.remove(name).ok_or(ErrorCode::RefNotFound)?;
            }
            Change::Merge { source, target } => return self.merge(source, target),
        }
        Ok(Answer::Done)
    }

    fn merge(&mut self, source: &str, target: &'static str) -> Result<Answer, ErrorCode> {
        let ours = self.branch(target)?.0;
        let theirs = self.resolve(source)?;
        Ok(match self.history.merge(ours, theirs) {
            Merged::UpToDate => Answer::Merged(MergeOutcome::UpToDate, BTreeSet::new()),
            Merged::Conflict(tables) => Answer::Merged(MergeOutcome::Conflict, tables),
            Merged::Forward(taken) => {
                self.branch(target)?.0 = theirs;
                Answer::Merged(MergeOutcome::FastForward, taken)
            }
            Merged::Tables(tables, taken) => {
                self.branch(target)?.0 = self.history.add(vec![ours, theirs], tables);
                Answer::Merged(MergeOutcome::Merged, taken)
            }
        })
    }
}

fn table_name(number: usize) -> String {
    format!("table_{number}")
}

fn names() -> impl Strategy<Value = &'static str> {
    prop_oneof![4 => Just("main"), 3 => Just("a"), 3 => Just("b"), 1 => Just("c"), 1 => Just("v1")]
}

/// Generates sets of few or many tables out of eighty, so that trie leaves split and merge.
fn some_tables() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![
        3 => proptest::collection::vec(0..80_usize, 0..3),
        1 => (0..80_usize, 0..60_usize).prop_map(|(from, count)| {
            (from..from + count).map(|table| table % 80).collect()
        }),
    ]
}

impl ReferenceStateMachine for Model {
    type State = Model;
    type Transition = Change;

    fn init_state() -> BoxedStrategy<Model> {
        Just(Model::new()).boxed()
    }

    fn transitions(_: &Model) -> BoxedStrategy<Change> {
        let pair = || (names(), names());
        prop_oneof![
            8 => (names(), some_tables(), some_tables())
                .prop_map(|(branch, set, drop)| Change::Commit { branch, set, drop }),
            4 => pair().prop_map(|(name, from)| Change::CreateBranch { name, from }),
            1 => names().prop_map(Change::DeleteBranch),
            1 => pair().prop_map(|(from, to)| Change::RenameBranch { from, to }),
            1 => (names(), any::<bool>()).prop_map(|(name, on)| Change::Protect(name, on)),
            1 => pair().prop_map(|(name, from)| Change::CreateTag { name, from }),
            1 => names().prop_map(Change::DeleteTag),
            6 => pair().prop_map(|(source, target)| Change::Merge { source, target }),
        ]
        .boxed()
    }

    fn apply(mut state: Model, change: &Change) -> Model {
        state.answer = match state.make(change) {
            Ok(answer) => answer,
            Err(code) => Answer::Refused(code),
        };
        state
    }
}

/// The catalog under test, with the id of each commit of the model.
struct Tested {
    runtime: tokio::runtime::Runtime,
    catalog: Catalog,
    clock: Arc<FixedClock>,
    ids: Vec<CommitId>,
}

impl Tested {
    async fn make(&self, change: &Change, version: u32) -> Result<Answer, Error> {
        let catalog = &self.catalog;
        let create = |name: &str, from: &str| CreateRef {
            name: name.into(),
            from: Some(from.parse().expect("a ref")),
            if_not_exists: false,
        };
        match change {
            Change::Commit { branch, set: made, drop } => {
                let mut versions: BTreeMap<String, u32> =
                    made.iter().map(|table| (table_name(*table), version)).collect();
                versions.extend(drop.iter().map(|table| (table_name(*table), 0)));
                let pairs: Vec<(&str, u32)> =
                    versions.iter().map(|(name, version)| (name.as_str(), *version)).collect();
                // A tag can be read, but it is not a branch.
                catalog.branch(branch).await?;
                set(catalog, branch, &pairs).await?;
            }
            Change::CreateBranch { name, from } => {
                catalog.create_branch(create(name, from)).await?;
            }
            Change::DeleteBranch(name) => catalog.delete_branch(name).await?,
            Change::RenameBranch { from, to } => {
                catalog.rename_branch(from, to).await?;
            }
            Change::Protect(name, protected) => {
                catalog.protect_branch(name, *protected).await?;
            }
            Change::CreateTag { name, from } => {
                catalog.tags().create(create(name, from)).await?;
            }
            Change::DeleteTag(name) => catalog.tags().delete(name).await?,
            Change::Merge { source, target } => {
                let report = merge(catalog, source, target).await?;
                let conflicts = report.conflicts.iter().map(|conflict| conflict.table.to_string());
                let tables = report.tables.iter().map(ToString::to_string).chain(conflicts);
                return Ok(Answer::Merged(report.outcome, tables.collect()));
            }
        }
        Ok(Answer::Done)
    }

    /// Records the ids of new commits of the model.
    async fn record_ids(&mut self, model: &Model) {
        if self.ids.len() == model.history.len() {
            return;
        }
        let newest = model.history.len() - 1;
        let heads = model.branches.iter().find(|(_, (commit, _))| *commit == newest);
        let (name, _) = heads.expect("a new commit is the head of a branch");
        self.ids.push(self.catalog.branch(name).await.expect("a branch").commit);
    }

    async fn compare(&self, model: &Model) {
        let branches = self.catalog.branches(None).await.expect("branches");
        let found: Vec<_> = branches
            .iter()
            .map(|branch| (&*branch.name, branch.commit, branch.protected))
            .collect();
        let expected: Vec<_> = model
            .branches
            .iter()
            .map(|(name, (commit, protected))| (*name, self.ids[*commit], *protected))
            .collect();
        assert_eq!(found, expected);
        let tags = self.catalog.tags().list(None).await.expect("tags");
        let found: Vec<_> = tags.iter().map(|tag| (&*tag.name, tag.commit)).collect();
        let expected: Vec<_> =
            model.tags.iter().map(|(name, commit)| (*name, self.ids[*commit])).collect();
        assert_eq!(found, expected);
        for (commit, _) in model.branches.values() {
            self.compare_commit(model, *commit).await;
        }
    }

    async fn compare_commit(&self, model: &Model, commit: usize) {
        let id = self.ids[commit];
        let state = self.catalog.state(id).await.expect("a state");
        let tables: Tables = versions(state.tables(None).await.expect("tables"));
        assert_eq!(&tables, model.history.tables(commit));
        let log = self.catalog.history(id, usize::MAX, None).await.expect("a log");
        let found: Vec<CommitId> = log.iter().map(|commit| commit.id).collect();
        let ancestors = model.history.ancestors(&[commit]);
        let expected: Vec<CommitId> = ancestors.iter().rev().map(|at| self.ids[*at]).collect();
        assert_eq!(found, expected, "newest first");
        let main = model.branches["main"].0;
        let changes = self.catalog.diff(self.ids[main], id).await.expect("a diff");
        let mut changed = model.history.tables(main).clone();
        for change in changes {
            let version = change.to.and_then(|entry| u32::try_from(entry.snapshot?).ok());
            assert_ne!(changed.get(&change.table.to_string()).copied(), version, "no change");
            match version {
                Some(version) => changed.insert(change.table.to_string(), version),
                None => changed.remove(&change.table.to_string()),
            };
        }
        assert_eq!(changed, tables, "the diff leads from one to the other");
    }
}

fn versions(tables: Vec<(headwater_model::TableName, headwater_catalog::TableEntry)>) -> Tables {
    let version = |entry: headwater_catalog::TableEntry| {
        entry.snapshot.and_then(|version| u32::try_from(version).ok()).expect("a version")
    };
    tables.into_iter().map(|(name, entry)| (name.to_string(), version(entry))).collect()
}

struct CatalogTest;

impl StateMachineTest for CatalogTest {
    type SystemUnderTest = Tested;
    type Reference = Model;

    fn init_test(_: &Model) -> Tested {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let clock = Arc::new(FixedClock::at("2026-01-01T00:00:00Z".parse().expect("a moment")));
        let opened = Catalog::open(Arc::new(MemoryStore::new()), clock.clone());
        let catalog = runtime.block_on(opened).expect("a catalog");
        let root = runtime.block_on(catalog.resolve(&RefSpec::main())).expect("main").commit;
        Tested { runtime, catalog, clock, ids: vec![root] }
    }

    fn apply(mut tested: Tested, model: &Model, change: Change) -> Tested {
        tested.clock.advance(Duration::from_secs(1));
        let answer = match tested.runtime.block_on(tested.make(&change, model.version)) {
            Ok(answer) => answer,
            Err(error) => Answer::Refused(error.code()),
        };
        assert_eq!(answer, model.answer, "{change:?}");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(tested.record_ids(model));
        tested
    }

    fn check_invariants(tested: &Tested, model: &Model) {
        tested.runtime.block_on(tested.compare(model));
    }
}

prop_state_machine! {
    #![proptest_config(Config { cases: 96, failure_persistence: None, ..Config::default() })]

    #[test]
    fn the_catalog_agrees_with_the_model(sequential 1..40 => CatalogTest);
}
