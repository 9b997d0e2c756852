//! Compares random histories of a lake with a map of rows, and simulates a crash at every call to
//! the store and the object store. After each crash, the lake opens, acknowledged changes are
//! durable, and the interrupted change is applied completely or not at all. `cargo xtask soak` runs
//! many more histories.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use headwater_lake::{Error, Lake, LakeOptions, json_rows};
use headwater_model::{
    Clock, CommitId, CreateRef, FixedClock, MaintainRequest, MergeOutcome, MergeRequest,
    SystemClock,
};
use headwater_store::MemoryStore;
use headwater_tables::{Positions, RowRewrite, TablesOptions};
use object_store::memory::InMemory;
use tokio_util::sync::CancellationToken;

use crate::crashing_store::{CrashingObjectStore, CrashingStore, SimulatedProcess};
use crate::support::{name, numbers, rows_of, schema};

type Rows = BTreeSet<i64>;

/// The rows of tables, by table name.
type Tables = BTreeMap<String, Rows>;

/// The storage of a lake, which survives a crash.
struct Disk {
    store: Arc<MemoryStore>,
    objects: Arc<InMemory>,
    clock: Arc<FixedClock>,
}

impl Disk {
    async fn new() -> Self {
        let clock = Arc::new(FixedClock::at(SystemClock.now()));
        let disk = Disk { store: Arc::default(), objects: Arc::default(), clock };
        disk.open(&SimulatedProcess::endless()).await.unwrap();
        disk
    }

    /// Opens the lake in a new simulated process, which ends with its simulated crash.
    async fn open(&self, life: &SimulatedProcess) -> Result<Lake, Error> {
        let mut tables = TablesOptions::new("memory://lake");
        tables.clock = self.clock.clone();
        Lake::open(LakeOptions {
            store: Arc::new(CrashingStore(self.store.clone(), life.clone())),
            object_store: Arc::new(CrashingObjectStore(self.objects.clone(), life.clone())),
            tables,
            clock: self.clock.clone(),
        })
        .await
    }

    /// Returns all rows of all tables on all branches.
    async fn look(&self) -> BTreeMap<String, Tables> {
        let lake = self.open(&SimulatedProcess::endless()).await.unwrap();
        let mut found = BTreeMap::new();
        for branch in lake.catalog().branches(None).await.unwrap() {
            let view = lake.view(&branch.name.parse().unwrap()).await.unwrap();
            let mut tables = Tables::new();
            for (name, table) in view.list(None).await.unwrap() {
                let table = lake.tables().load(&table.metadata_location).await.unwrap();
                let plan = lake.tables().plan(&table, None).await.unwrap();
                let rows = lake.tables().read(&table, plan.files(), None, None).unwrap();
                let rows = json_rows(&rows.try_collect::<Vec<_>>().await.unwrap()).unwrap();
                let ids: Rows = rows.iter().map(|row| row["id"].as_i64().unwrap()).collect();
                assert_eq!(ids.len(), rows.len(), "no row is there twice");
                tables.insert(name.name, ids);
            }
            found.insert(branch.name, tables);
        }
        found
    }
}

/// An operation on the lake.
#[derive(Debug, Clone)]
enum Step {
    Create(String, String),
    /// Changes several tables in one commit.
    Append(String, Vec<(String, Rows)>),
    /// Deletes rows of a table. The last field is true to write delete files instead of rewriting
    /// data files.
    Delete(String, String, Rows, bool),
    Replace(String, String, Rows),
    Drop(String, String),
    Fork(String),
    Forget(String),
    /// Merges a branch into `main`.
    Merge(String),
    Maintain(String, String),
}

/// The expected content of the lake.
#[derive(Debug, Clone)]
struct Model {
    branches: BTreeMap<String, Tables>,
    /// The tables at the merge base of `main` and each other branch.
    bases: BTreeMap<String, Tables>,
}

impl Model {
    /// Returns the expected content after a step.
    fn after(&self, step: &Step) -> Model {
        let mut next = self.clone();
        match step {
            Step::Fork(name) => {
                next.branches.insert(name.clone(), self.branches["main"].clone());
                next.bases.insert(name.clone(), self.branches["main"].clone());
            }
            Step::Forget(name) => {
                next.branches.remove(name);
                next.bases.remove(name);
            }
            Step::Merge(name) => {
                let theirs = &self.branches[name];
                let merged = merge(&self.branches["main"], theirs, &self.bases[name]);
                next.branches.insert("main".to_owned(), merged);
                next.bases.insert(name.clone(), theirs.clone());
            }
            Step::Maintain(..) => {}
            Step::Create(branch, table) => {
                next.tables(branch).insert(table.clone(), Rows::new());
            }
            Step::Append(branch, rows) => {
                for (table, rows) in rows {
                    next.tables(branch).entry(table.clone()).or_default().extend(rows);
                }
            }
            Step::Delete(branch, table, rows, _) => {
                next.tables(branch)
                    .entry(table.clone())
                    .or_default()
                    .retain(|id| !rows.contains(id));
            }
            Step::Replace(branch, table, rows) => {
                next.tables(branch).insert(table.clone(), rows.clone());
            }
            Step::Drop(branch, table) => {
                next.tables(branch).remove(table);
            }
        }
        next
    }

    fn tables(&mut self, branch: &str) -> &mut Tables {
        self.branches.entry(branch.to_owned()).or_default()
    }

    /// Chooses a random step that is valid now.
    fn choose(&self, random: &mut Random, number: i64) -> Step {
        let branches: Vec<&String> = self.branches.keys().collect();
        let branch = (*random.of(&branches)).clone();
        let tables: Vec<&String> = self.branches[&branch].keys().collect();
        let fresh = |count: i64| (0..count).map(|at| number * 100 + at).collect::<Rows>();
        if tables.is_empty() {
            return Step::Create(branch, format!("t{number}"));
        }
        let table = (*random.of(&tables)).clone();
        let held = &self.branches[&branch][&table];
        let others: Vec<&String> = branches.into_iter().filter(|name| *name != "main").collect();
        match random.below(20) {
            0 => Step::Create(branch, format!("t{number}")),
            1..5 => Step::Append(branch, vec![(table, fresh(3))]),
            5 => {
                let all = tables.iter().take(3).enumerate();
                let rows = all
                    .map(|(at, table)| ((*table).clone(), [number * 100 + 50 + at as i64].into()));
                Step::Append(branch, rows.collect())
            }
            6..10 if !held.is_empty() => {
                let gone = held.iter().filter(|id| *id % 3 == number % 3).copied().collect();
                Step::Delete(branch, table, gone, random.below(2) == 0)
            }
            10 => Step::Replace(branch, table, fresh(2)),
            // Tables are dropped only while there is one branch. If one side drops a table that the
            // other changes, there is a conflict, which other tests cover.
            11 if others.is_empty() && tables.len() > 1 => Step::Drop(branch, table),
            12 | 13 if others.len() < 2 => Step::Fork(format!("b{number}")),
            14..17 if !others.is_empty() => Step::Merge((*random.of(&others)).clone()),
            17 if !others.is_empty() => Step::Forget((*random.of(&others)).clone()),
            _ => Step::Maintain(branch, table),
        }
    }
}

/// Merges two sides that changed different rows.
fn merge(ours: &Tables, theirs: &Tables, base: &Tables) -> Tables {
    let names: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
    let merged = names.into_iter().filter_map(|name| {
        let (our, their, base) = (ours.get(name), theirs.get(name), base.get(name));
        let rows = match (our, their, base) {
            (Some(our), Some(their), Some(base)) => {
                let added = their.iter().filter(|id| !base.contains(id));
                let kept = our.iter().filter(|id| !base.contains(id) || their.contains(id));
                kept.chain(added).copied().collect()
            }
            (Some(our), None, None) => our.clone(),
            (None, Some(their), None) => their.clone(),
            // One side dropped the table.
            _ => return None,
        };
        Some((name.clone(), rows))
    });
    merged.collect()
}

/// Executes a step. Returns its commit, if there is one, and true if the step was applied.
async fn make(lake: &Lake, step: &Step) -> Result<(Option<CommitId>, bool), Error> {
    let (branch, message) = match step {
        Step::Fork(name) => {
            let create = CreateRef { name: name.clone(), from: None, if_not_exists: false };
            return Ok(lake.catalog().create_branch(create).await.map(|_| (None, true))?);
        }
        Step::Forget(name) => {
            return Ok(lake.catalog().delete_branch(name).await.map(|()| (None, true))?);
        }
        Step::Merge(name) => {
            let request = MergeRequest::new(name.parse().unwrap());
            let report = Box::pin(lake.merge("main", request, "eva")).await?;
            return Ok((None, report.outcome != MergeOutcome::Conflict));
        }
        Step::Maintain(branch, table) => {
            let request = MaintainRequest {
                compact: true,
                manifests: true,
                keep: Some(1),
                orphans: true,
                force: true,
                ..MaintainRequest::default()
            };
            let (progress, cancelled) = (Arc::new(|_, _| {}), CancellationToken::new());
            let table = name(table);
            let made = lake.maintenance().run(branch, Some(&table), &request, progress, cancelled);
            return Box::pin(made).await.map(|_| (None, true));
        }
        Step::Create(branch, ..)
        | Step::Append(branch, ..)
        | Step::Delete(branch, ..)
        | Step::Replace(branch, ..)
        | Step::Drop(branch, ..) => (branch, "a step"),
    };
    let mut change = lake.transaction(branch, "eva").await?;
    match step {
        Step::Create(_, table) => {
            change.create(&name(table), schema("id"), Vec::new(), BTreeMap::new()).await?;
        }
        Step::Append(_, rows) => {
            for (table, rows) in rows {
                change.append(&name(table), rows_of(numbers("id", rows.iter().copied()))).await?;
            }
        }
        Step::Replace(_, table, rows) => {
            change.overwrite(&name(table), rows_of(numbers("id", rows.iter().copied()))).await?;
        }
        Step::Drop(_, table) => change.drop(&name(table), false).await?,
        Step::Delete(_, table, rows, thin) => {
            delete(lake, &mut change, table, rows, *thin).await?;
        }
        _ => unreachable!("made above"),
    }
    Ok((change.commit(message).await?.map(|commit| commit.id), true))
}

async fn delete(
    lake: &Lake,
    change: &mut headwater_lake::Transaction,
    table: &str,
    gone: &Rows,
    thin: bool,
) -> Result<(), Error> {
    let name = name(table);
    let table = change.table(&name).await?;
    let seen = lake.tables().plan(&table, None).await?;
    let (mut removed, mut deletes, mut kept) = (Vec::new(), Vec::new(), Vec::new());
    for file in seen.files().iter() {
        let rows = lake.tables().read(&table, std::slice::from_ref(file), None, None)?;
        let rows = json_rows(&rows.try_collect::<Vec<_>>().await?)?;
        let ids: Vec<i64> = rows.iter().map(|row| row["id"].as_i64().unwrap()).collect();
        if !ids.iter().any(|id| gone.contains(id)) {
            continue;
        }
        if thin && !ids.iter().all(|id| gone.contains(id)) {
            let before = lake.tables().deletes().deleted(file).await?.unwrap_or_default();
            let live = (0..file.rows).filter(|row| !before.contains(*row)).zip(&ids);
            let places = live.filter(|(_, id)| gone.contains(id)).map(|(place, _)| place);
            deletes.push((file.clone(), places.collect::<Positions>()));
        } else {
            kept.extend(ids.into_iter().filter(|id| !gone.contains(id)));
            removed.push(file.clone());
        }
    }
    let mut staged = change.write_rows(&name, rows_of(numbers("id", kept))).await?;
    if !deletes.is_empty() {
        staged = staged.and(change.write_deletes(&name, deletes).await?);
    }
    change.rewrite(&name, RowRewrite { seen, removed, staged, unseen: None }).await
}

/// A deterministic pseudo-random generator.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    fn of<'a, T>(&mut self, some: &'a [T]) -> &'a T {
        &some[self.below(some.len() as u64) as usize]
    }
}

/// Statistics of a history.
#[derive(Debug, Default)]
struct HistoryStatistics {
    deaths: u64,
    /// The number of changes that were applied although their response was lost.
    unheard: u64,
    conflicts: u64,
}

/// Runs a history. In each step, the process crashes at the first call, then at a later call, and
/// so on, until the step completes. `stride` is the maximum number of calls between two crash
/// points.
async fn play(seed: u64, steps: i64, stride: u64) -> HistoryStatistics {
    let (mut random, disk) = (Random(seed), Disk::new().await);
    let main = BTreeMap::from([("main".to_owned(), Tables::new())]);
    let mut model = Model { branches: main, bases: BTreeMap::new() };
    let (mut told, mut acknowledged) = (HistoryStatistics::default(), Vec::new());
    for number in 0..steps {
        let step = model.choose(&mut random, number);
        if matches!(step, Step::Maintain(..)) {
            // The clock is advanced, so that all files are old enough to be removed.
            disk.clock.advance(Duration::from_hours(24 * 5));
        }
        let after = model.after(&step);
        let mut last = random.below(stride) as i64;
        loop {
            let life = SimulatedProcess::until(last, random.below(2) == 0);
            let case = format!("seed {seed}, step {number}, call {last}: {step:?}");
            let outcome = match disk.open(&life).await {
                Ok(lake) => Box::pin(make(&lake, &step)).await,
                Err(error) => Err(error),
            };
            let found = disk.look().await;
            match outcome {
                Ok((commit, true)) => {
                    assert_eq!(found, after.branches, "{case}");
                    acknowledged.extend(commit);
                    model = after;
                    break;
                }
                Ok((_, false)) => {
                    assert_eq!(found, model.branches, "{case}");
                    told.conflicts += 1;
                    break;
                }
                Err(error) => {
                    assert!(life.is_over(), "{case}: {error}");
                    told.deaths += 1;
                    if found == after.branches && found != model.branches {
                        told.unheard += 1;
                        model = after;
                        break;
                    }
                    assert_eq!(found, model.branches, "{case}");
                }
            }
            last += 1 + random.below(stride) as i64;
        }
    }
    check_commits(&disk, &acknowledged).await;
    told
}

/// Checks that every acknowledged commit can be read.
async fn check_commits(disk: &Disk, acknowledged: &[CommitId]) {
    let lake = disk.open(&SimulatedProcess::endless()).await.unwrap();
    for commit in acknowledged {
        lake.catalog().read_commit(*commit).await.unwrap();
    }
}

/// Returns `full` in a soak test, otherwise `small`.
fn count(small: u64, full: u64) -> u64 {
    if std::env::var_os("HEADWATER_SOAK").is_some() { full } else { small }
}

#[tokio::test]
async fn soak_a_crash_at_any_call_leaves_the_state_before_or_after_the_change() {
    let mut all = HistoryStatistics::default();
    for seed in 0..count(2, 40) {
        let told = play(seed + 1, 24, count(12, 1)).await;
        all.deaths += told.deaths;
        all.unheard += told.unheard;
        all.conflicts += told.conflicts;
    }
    assert!(all.deaths > 50 && all.unheard > 0, "{all:?}");
}
