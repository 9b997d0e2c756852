//! Triggers on tables: each commit belongs to one event.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use headwater_jobs::{Jobs, JobsOptions};
use headwater_model::{
    Clock, CommitId, ErrorCode, FixedClock, PROPERTY_EVENT, PROPERTY_JOB, Problem, SystemClock,
    Trigger, TriggerEvent, TriggerEventStatus,
};
use headwater_store::Store;
use headwater_triggers::{
    BranchCommit, CommitSource, TriggerEventFilter, Triggers, TriggersOptions, event_part,
};
use serde_json::json;
use tokio::sync::watch;

use crate::support::{Dying, Mortal, clock, jobs, memory, until};
use crate::targets::{Tables, trigger};

/// A branch that starts with one commit.
#[derive(Default)]
pub struct Branch {
    commits: Mutex<Vec<BranchCommit>>,
    missing: Mutex<bool>,
    made: watch::Sender<u64>,
    /// Number of requests for the changes of a commit.
    pub looks: AtomicUsize,
}

fn id(number: usize) -> CommitId {
    format!("{number:064x}").parse().expect("an id")
}

impl Branch {
    /// Creates a commit that changes tables, with properties.
    pub fn commit<'a>(
        &self,
        tables: &[&str],
        properties: impl IntoIterator<Item = (&'a str, String)>,
    ) -> CommitId {
        let mut commits = self.commits.lock().expect("commits");
        let id = id(commits.len() + 1);
        let properties = properties.into_iter().map(|(name, value)| (name.to_owned(), value));
        commits.push(BranchCommit {
            id,
            properties: properties.collect(),
            tables: tables.iter().map(|name| name.parse().expect("a name")).collect(),
        });
        drop(commits);
        self.made.send_modify(|count| *count += 1);
        id
    }
}

#[async_trait]
impl CommitSource for Branch {
    async fn head(&self, branch: &str) -> Result<Option<CommitId>, Problem> {
        assert_eq!(branch, "main");
        let commits = self.commits.lock().expect("commits");
        let head = commits.last().map_or(id(0), |commit| commit.id);
        Ok((!*self.missing.lock().expect("a flag")).then_some(head))
    }

    async fn start(&self, branch: &str) -> Result<Option<CommitId>, Problem> {
        Ok(self.head(branch).await?.map(|_| id(0)))
    }

    async fn since(
        &self,
        branch: &str,
        after: CommitId,
        limit: usize,
    ) -> Result<Option<Vec<CommitId>>, Problem> {
        let Some(head) = self.head(branch).await? else { return Ok(None) };
        let commits = self.commits.lock().expect("commits");
        let ids = commits.iter().map(|commit| commit.id);
        if after == id(0) {
            return Ok(Some(ids.take(limit).collect()));
        }
        let Some(at) = ids.clone().position(|id| id == after) else { return Ok(Some(vec![head])) };
        Ok(Some(ids.skip(at + 1).take(limit).collect()))
    }

    async fn change(&self, from: CommitId, to: CommitId) -> Result<BranchCommit, Problem> {
        self.looks.fetch_add(1, Ordering::Relaxed);
        let commits = self.commits.lock().expect("commits");
        let at = commits.iter().position(|commit| commit.id == to).expect("a commit");
        if at.checked_sub(1).map_or(id(0), |before| commits[before].id) == from {
            return Ok(commits[at].clone());
        }
        let all = commits[..=at].iter().flat_map(|commit| commit.tables.clone()).collect();
        Ok(BranchCommit { id: to, properties: [].into(), tables: all })
    }

    fn counter(&self) -> watch::Receiver<u64> {
        self.made.subscribe()
    }
}

/// A lake with a branch, and processes that follow it.
pub struct Stage {
    store: Arc<dyn Store>,
    clock: Arc<FixedClock>,
    pub branch: Arc<Branch>,
    pub tables: Arc<Tables>,
    jobs: Jobs,
    pub triggers: Triggers,
}

async fn open(
    (store, clock, jobs): (&Arc<dyn Store>, &Arc<FixedClock>, &Jobs),
    branch: &Arc<Branch>,
    tables: &Arc<Tables>,
) -> headwater_triggers::Result<Triggers> {
    let clock: Arc<dyn Clock> = clock.clone();
    let commits: Arc<dyn CommitSource> = branch.clone();
    let options = TriggersOptions {
        manual: true,
        commits: Some(commits),
        ..TriggersOptions::new(store.clone(), clock, jobs.clone(), Path::new("/none"))
    };
    Triggers::start(options, tables.clone()).await
}

impl Stage {
    pub async fn new(definitions: Vec<Trigger>) -> Self {
        let (store, clock) = (memory(), clock());
        let (branch, tables) = (Arc::<Branch>::default(), Arc::<Tables>::default());
        let jobs = jobs(&store, &clock).await;
        let triggers = open((&store, &clock, &jobs), &branch, &tables).await.expect("triggers");
        let stage = Stage { store, clock, branch, tables, jobs, triggers };
        stage.triggers.reload(definitions).await.expect("definitions");
        stage.tick().await;
        stage
    }

    /// Ends the process and starts another.
    async fn again(self, definitions: Vec<Trigger>) -> Self {
        self.triggers.stop();
        let jobs = jobs(&self.store, &self.clock).await;
        let triggers = open((&self.store, &self.clock, &jobs), &self.branch, &self.tables).await;
        let stage = Stage { jobs, triggers: triggers.expect("triggers"), ..self };
        stage.triggers.reload(definitions).await.expect("definitions");
        stage
    }

    async fn tick(&self) {
        self.triggers.tick().await.expect("a tick");
    }

    /// Polls, waits for the debounce time, polls again and delivers.
    pub async fn settle(&self) {
        for _ in 0..3 {
            self.tick().await;
            self.clock.advance(Duration::from_secs(1));
        }
        self.tick().await;
    }

    /// Returns all events, oldest first.
    pub async fn events(&self) -> Vec<TriggerEvent> {
        events(&self.triggers).await
    }
}

async fn events(triggers: &Triggers) -> Vec<TriggerEvent> {
    let filter = TriggerEventFilter { limit: 1_000, ..TriggerEventFilter::default() };
    let mut events = triggers.events(&filter).await.expect("events");
    events.reverse();
    events
}

pub fn follows(name: &str, tables: &[&str], batch: usize) -> Trigger {
    paced(name, tables, batch, 1_000_000)
}

/// Returns a trigger with a rate limit.
fn paced(name: &str, tables: &[&str], batch: usize, per_minute: u32) -> Trigger {
    let tables = json!({"names": tables, "batch": batch, "max_events_per_minute": per_minute});
    trigger(json!({"name": name, "tables": tables}))
}

#[tokio::test]
async fn a_trigger_that_causes_its_own_changes_is_throttled() {
    let stage = Stage::new(vec![paced("t", &["orders"], 500, 10)]).await;
    let half = Duration::from_millis(500);
    let mut last = stage.branch.commit(&["orders"], None);
    let mut acted = 0;
    // The trigger's runs create commits for ten minutes without pauses.
    for _ in 0..1_200 {
        stage.tick().await;
        if stage.tables.tries() > acted {
            acted = stage.tables.tries();
            last = stage.branch.commit(&["orders"], None);
        }
        stage.clock.advance(half);
    }
    assert!((155..=162).contains(&acted), "a burst, and then ten a minute: {acted}");
    let error = stage.triggers.list()[0].error.clone().expect("it is said");
    assert_eq!((error.code, error.hint.is_some()), (ErrorCode::TooBusy, true));
    // While the trigger is throttled, commits of other clients are collected into one event.
    for _ in 0..20 {
        last = stage.branch.commit(&["orders"], None);
        stage.tick().await;
    }
    for _ in 0..40 {
        stage.clock.advance(half);
        stage.tick().await;
    }
    assert!(stage.tables.tries() <= acted + 2);
    assert_eq!(stage.events().await.last().and_then(|event| event.event.commit()), Some(last));
    stage.clock.advance(Duration::from_mins(5));
    stage.tick().await;
    assert_eq!(stage.triggers.list()[0].error, None, "it has calmed down");
}

#[tokio::test]
async fn changes_caused_by_other_triggers_are_not_throttled() {
    let definitions = vec![paced("a", &["x"], 1, 10), paced("b", &["y"], 1, 10)];
    let stage = Stage::new(definitions).await;
    stage.branch.commit(&["x"], None);
    stage.tick().await;
    let first = stage.events().await.pop().expect("an event");
    for _ in 0..100 {
        stage.branch.commit(&["y"], Some((PROPERTY_EVENT, event_part(&first.event.id, "run"))));
    }
    stage.tick().await;
    assert_eq!(stage.tables.tries(), 101);
    assert!(stage.triggers.list().iter().all(|status| status.error.is_none()));
}

#[tokio::test]
async fn commits_within_the_debounce_time_are_one_event() {
    let stage = Stage::new(vec![follows("t", &["orders", "raw.*"], 500)]).await;
    stage.branch.commit(&["other"], None);
    stage.branch.commit(&["orders", "other"], None);
    stage.tick().await;
    stage.clock.advance(Duration::from_millis(900));
    stage.tick().await;
    let last = stage.branch.commit(&["raw.b", "raw.a"], None);
    stage.branch.commit(&["other"], None);
    stage.tick().await;
    assert!(stage.events().await.is_empty(), "others may follow");
    stage.settle().await;
    let events = stage.events().await;
    let [event] = &events[..] else { panic!("{events:?}") };
    assert_eq!(event.event.tables(), ["public.orders", "raw.a", "raw.b"]);
    assert_eq!((event.event.commit(), event.status), (Some(last), TriggerEventStatus::Done));
    let job = stage.jobs.job(event.job.expect("a job")).await.expect("a job");
    assert_eq!(job.summary, "t: 3 tables changed");
    stage.settle().await;
    assert_eq!(stage.tables.tries(), 1);
}

#[tokio::test]
async fn continuous_commits_do_not_delay_an_event_forever() {
    let stage = Stage::new(vec![follows("t", &["orders"], 500)]).await;
    for _ in 0..15 {
        stage.branch.commit(&["orders"], None);
        stage.tick().await;
        stage.clock.advance(Duration::from_millis(900));
    }
    assert_eq!(stage.events().await.len(), 1);
}

#[tokio::test]
async fn with_a_batch_of_one_each_commit_is_an_event() {
    let stage = Stage::new(vec![follows("t", &["orders"], 1)]).await;
    let commits: Vec<_> = (0..3).map(|_| Some(stage.branch.commit(&["orders"], None))).collect();
    stage.tick().await;
    let found: Vec<_> = stage.events().await.iter().map(|event| event.event.commit()).collect();
    assert_eq!(found, commits, "and none of them waits");
}

#[tokio::test]
async fn only_changes_after_the_deployment_fire_even_if_no_process_ran() {
    let definitions = || vec![follows("t", &["orders"], 1)];
    let stage = Stage::new(vec![]).await;
    stage.branch.commit(&["orders"], None);
    let stage = stage.again(definitions()).await;
    stage.settle().await;
    assert_eq!(stage.events().await.len(), 0);
    stage.branch.commit(&["orders"], None);
    let stage = stage.again(definitions()).await;
    stage.settle().await;
    assert_eq!(stage.events().await.len(), 1);
    for _ in 0..700 {
        stage.branch.commit(&["other"], None);
    }
    stage.settle().await;
    let stage = stage.again(definitions()).await;
    stage.settle().await;
    assert_eq!(stage.tables.tries(), 1, "a restart changes nothing");
    // A trigger that is deployed again starts at the current commit.
    let stage = stage.again(vec![]).await;
    stage.branch.commit(&["orders"], None);
    let stage = stage.again(definitions()).await;
    stage.settle().await;
    assert_eq!(stage.tables.tries(), 1);
    stage.branch.commit(&["orders"], None);
    stage.settle().await;
    assert_eq!(stage.tables.tries(), 2);
}

#[tokio::test]
async fn no_trigger_fires_for_changes_that_it_caused() {
    let stage = Stage::new(vec![follows("a", &["x", "y"], 500), follows("b", &["y"], 500)]).await;
    let caused = |event: &TriggerEvent| Some((PROPERTY_EVENT, event_part(&event.event.id, "run")));
    stage.branch.commit(&["x"], None);
    stage.settle().await;
    let first = stage.events().await.pop().expect("an event");
    // A change caused by `a` fires `b`. A change caused by that event of `b` fires neither.
    stage.branch.commit(&["y"], caused(&first));
    stage.settle().await;
    let second = stage.events().await.pop().expect("an event");
    assert_eq!(
        (second.trigger.as_str(), &second.event.caused_by[..]),
        ("b", &["a".to_owned()][..])
    );
    stage.branch.commit(&["x", "y"], caused(&second));
    let job = second.job.expect("a job").to_string();
    stage.branch.commit(&["x", "y"], Some((PROPERTY_JOB, job.clone())));
    // A client may set any value as the cause.
    let theirs = (PROPERTY_EVENT, "theirs".to_owned());
    stage.branch.commit(&["x", "y"], [theirs, (PROPERTY_JOB, job)]);
    stage.settle().await;
    assert_eq!(stage.events().await.len(), 2);
    // A concurrent change by another client becomes an event of both triggers.
    stage.branch.commit(&["y"], caused(&first));
    stage.branch.commit(&["y"], None);
    stage.settle().await;
    let events = stage.events().await;
    let caused_by = |name: &str| {
        let own = events[2..].iter().filter(|event| event.trigger == name);
        own.map(|event| event.event.caused_by.join(" ")).collect::<Vec<_>>()
    };
    assert_eq!(caused_by("a"), [""]);
    assert_eq!(caused_by("b"), ["a", ""]);
}

#[tokio::test]
async fn a_failed_store_call_does_not_make_a_trigger_fire_for_its_own_change() {
    let (store, clock) = (memory(), clock());
    let (branch, tables) = (Arc::<Branch>::default(), Arc::<Tables>::default());
    let shaky = Mortal::new(&store, i64::MAX, Dying::Before);
    let store: Arc<dyn Store> = shaky.clone();
    let jobs = jobs(&store, &clock).await;
    let triggers = open((&store, &clock, &jobs), &branch, &tables).await.expect("triggers");
    triggers.reload(vec![follows("t", &["orders"], 1)]).await.expect("a trigger");
    triggers.tick().await.expect("a tick");
    branch.commit(&["orders"], None);
    triggers.tick().await.expect("a tick");
    let job = events(&triggers).await.remove(0).job.expect("a job").to_string();
    for call in 1..12 {
        branch.commit(&["orders"], Some((PROPERTY_JOB, job.clone())));
        shaky.miss(call);
        let _ = triggers.tick().await;
        shaky.miss(0);
        triggers.tick().await.expect("a tick");
        assert_eq!(tables.tries(), 1, "call {call}");
    }
}

#[tokio::test]
async fn a_missing_branch_is_reported_and_a_recreated_one_is_compared() {
    let stage = Stage::new(vec![follows("t", &["orders"], 1)]).await;
    stage.branch.commit(&["orders"], None);
    stage.settle().await;
    *stage.branch.missing.lock().expect("a flag") = true;
    stage.tick().await;
    let error = stage.triggers.list()[0].error.clone().expect("a problem");
    assert_eq!((error.code, error.hint.is_some()), (ErrorCode::RefNotFound, true));
    *stage.branch.missing.lock().expect("a flag") = false;
    let id = "f".repeat(64).parse().expect("an id");
    stage.branch.commits.lock().expect("commits")[0].id = id;
    stage.settle().await;
    let commits: Vec<_> = stage.events().await.iter().map(|event| event.event.commit()).collect();
    assert_eq!(commits, [Some(self::id(1)), Some(id)]);
    assert!(stage.triggers.list()[0].error.is_none());
}

#[tokio::test]
async fn the_first_commits_of_a_new_watched_branch_are_changes() {
    let stage = Stage::new(vec![]).await;
    *stage.branch.missing.lock().expect("a flag") = true;
    stage.triggers.reload(vec![follows("t", &["orders"], 1)]).await.expect("a trigger");
    stage.tick().await;
    assert!(stage.triggers.list()[0].error.is_some());
    *stage.branch.missing.lock().expect("a flag") = false;
    let first = stage.branch.commit(&["orders"], None);
    stage.settle().await;
    let commits: Vec<_> = stage.events().await.iter().map(|event| event.event.commit()).collect();
    assert_eq!(commits, [Some(first)]);
}

#[tokio::test]
async fn a_waiting_commit_is_examined_only_once() {
    let stage = Stage::new(vec![follows("t", &["orders"], 500)]).await;
    for number in 1..=5 {
        stage.branch.commit(&["orders"], None);
        stage.tick().await;
        stage.clock.advance(Duration::from_millis(500));
        stage.tick().await;
        assert_eq!(stage.branch.looks.load(Ordering::Relaxed), number);
    }
    stage.settle().await;
    assert_eq!(stage.events().await.len(), 1);
    assert_eq!(stage.branch.looks.load(Ordering::Relaxed), 5);
}

#[tokio::test]
async fn commits_wait_while_the_event_queue_is_full_and_none_is_lost() {
    const OPEN: usize = 1_000;
    let stage = Stage::new(vec![follows("t", &["orders"], 1)]).await;
    stage.tables.fail(ErrorCode::TooBusy, 10);
    for _ in 0..OPEN + 5 {
        stage.branch.commit(&["orders"], None);
    }
    stage.tick().await;
    let first = stage.events().await[0].event.id.clone();
    // The last commit is the trigger's own commit, after commits of other clients.
    for _ in 0..5 {
        stage.branch.commit(&["orders"], None);
    }
    stage.branch.commit(&["orders"], Some((PROPERTY_EVENT, event_part(&first, "run"))));
    let looks = stage.branch.looks.load(Ordering::Relaxed);
    for _ in 0..3 {
        stage.tick().await;
        assert_eq!(stage.triggers.list()[0].pending, OPEN as u64);
    }
    assert_eq!(stage.branch.looks.load(Ordering::Relaxed), looks, "nothing is looked at in vain");
    stage.tables.problems.lock().expect("problems").clear();
    for _ in 0..3 {
        stage.clock.advance(Duration::from_mins(1));
        stage.tick().await;
    }
    let status = stage.triggers.list().remove(0);
    assert_eq!((status.pending, status.done), (0, OPEN as u64 + 10));
}

#[tokio::test]
async fn an_outdated_process_records_no_events_and_blocks_no_other() {
    let stage = Stage::new(vec![follows("t", &["orders"], 1)]).await;
    // In another process, a trigger `t` with other tables has already read the position.
    let changed = || vec![follows("t", &["raw"], 1)];
    let opened = open((&stage.store, &stage.clock, &stage.jobs), &stage.branch, &stage.tables);
    let other = opened.await.expect("triggers");
    other.reload(changed()).await.expect("a trigger");
    other.tick().await.expect("a tick");
    stage.branch.commit(&["raw"], None);
    other.tick().await.expect("a tick");
    other.stop();
    for _ in 0..150 {
        stage.branch.commit(&["raw"], None);
    }
    stage.tick().await;
    assert!(stage.triggers.list()[0].error.is_some(), "what it knows is not so any more");
    let stage = stage.again(changed()).await;
    stage.settle().await;
    let status = stage.triggers.list().remove(0);
    assert_eq!((status.done, status.error), (151, None));
}

const COMMITS: usize = 40;

/// Runs a process that follows the branch and delivers events while other clients commit.
async fn live(
    store: &Arc<dyn Store>,
    clock: &Arc<FixedClock>,
    branch: &Arc<Branch>,
    tables: &Arc<Tables>,
) -> headwater_triggers::Result<Triggers> {
    let as_clock: Arc<dyn Clock> = clock.clone();
    let jobs = Jobs::open(store.clone(), as_clock, JobsOptions::default()).await?;
    let triggers = open((store, clock, &jobs), branch, tables).await?;
    triggers.reload(vec![follows("t", &["orders"], 7)]).await?;
    for _ in 0..3 {
        triggers.tick().await?;
        while branch.commits.lock().expect("commits").len() < COMMITS {
            branch.commit(&["orders"], None);
        }
        clock.advance(Duration::from_secs(1));
    }
    triggers.tick().await?;
    Ok(triggers)
}

/// Crashes a process at store call `calls`, then runs another. Returns false without a crash.
async fn crash_at(calls: i64, dying: Dying) -> bool {
    let (store, clock) = (memory(), clock());
    let (branch, tables) = (Arc::<Branch>::default(), Arc::<Tables>::default());
    // A process that has followed the branch from its first commit.
    let first = jobs(&store, &clock).await;
    let triggers = open((&store, &clock, &first), &branch, &tables).await.expect("triggers");
    triggers.reload(vec![follows("t", &["orders"], 7)]).await.expect("a trigger");
    triggers.tick().await.expect("a look");
    triggers.stop();
    let mortal = Mortal::new(&store, calls, dying);
    let as_store: Arc<dyn Store> = mortal.clone();
    let died = tokio::select! {
        biased;
        () = mortal.dead.cancelled() => true,
        lived = live(&as_store, &clock, &branch, &tables) => {
            lived.is_err() || mortal.dead.is_cancelled()
        }
    };
    clock.advance(Duration::from_secs(1));
    let triggers = live(&store, &clock, &branch, &tables).await.expect("the second process");
    let events = events(&triggers).await;
    assert!(events.iter().all(|event| event.status == TriggerEventStatus::Done));
    let commits: Vec<_> = events.iter().filter_map(|event| event.event.commit()).collect();
    let distinct: BTreeSet<_> = commits.iter().collect();
    assert_eq!(commits.len(), distinct.len(), "{dying:?} call {calls}");
    assert_eq!(commits.len(), COMMITS.div_ceil(7), "{dying:?} call {calls}");
    assert_eq!(commits.last(), Some(&id(COMMITS)), "{dying:?} call {calls}");
    assert_eq!(tables.commits.lock().expect("commits").len(), commits.len());
    died
}

#[tokio::test]
async fn a_crash_at_any_call_of_the_store_loses_and_doubles_no_commit() {
    for dying in [Dying::Before, Dying::After] {
        let mut calls = 1;
        while crash_at(calls, dying).await {
            calls += 1;
        }
        assert!(calls > 20, "only {calls} calls");
    }
}

#[tokio::test]
async fn a_commit_is_detected_immediately() {
    let (store, branch, tables) = (memory(), Arc::<Branch>::default(), Arc::<Tables>::default());
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let jobs =
        Jobs::open(store.clone(), clock.clone(), JobsOptions::default()).await.expect("jobs");
    let commits: Arc<dyn CommitSource> = branch.clone();
    let options = TriggersOptions {
        commits: Some(commits),
        poll_interval: Duration::from_hours(1),
        ..TriggersOptions::new(store, clock, jobs, Path::new("/none"))
    };
    let triggers = Triggers::start(options, tables.clone()).await.expect("triggers");
    triggers.reload(vec![follows("t", &["orders"], 1)]).await.expect("a trigger");
    branch.commit(&["orders"], None);
    until("it fires", async || tables.tries() > 0).await;
    triggers.stop();
}
