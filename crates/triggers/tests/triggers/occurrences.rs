//! Triggers on merges and on ends of jobs: each occurrence is one event, even if the process
//! crashes at any call of the store.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use headwater_jobs::{JobFilter, Jobs, JobsOptions, NewJob};
use headwater_model::{
    BranchMerge, Clock, ErrorCode, EventData, FixedClock, JOB_END_JOURNAL, JobKind, MERGE_JOURNAL,
    PROPERTY_EVENT, Problem, Trigger, TriggerEvent, TriggerEventStatus,
};
use headwater_store::{JournalAppend, OccurrenceJournal, Store, WriteBatch};
use headwater_triggers::{TriggerEventFilter, Triggers};
use serde_json::{Value, json};

use crate::support::{Dying, Mortal, clock, memory, until};
use crate::targets::{Tables, by_hand, trigger};

/// Number of jobs of the crashing process.
const JOBS: usize = 6;

/// A process with jobs and triggers.
struct Process {
    store: Arc<dyn Store>,
    tables: Arc<Tables>,
    jobs: Jobs,
    triggers: Triggers,
}

impl Process {
    async fn open(
        store: &Arc<dyn Store>,
        clock: &Arc<FixedClock>,
        tables: &Arc<Tables>,
        definitions: Vec<Trigger>,
    ) -> headwater_triggers::Result<Self> {
        let as_clock: Arc<dyn Clock> = clock.clone();
        let jobs = Jobs::open(store.clone(), as_clock, JobsOptions::default()).await?;
        let triggers = by_hand(store, clock, &jobs, Path::new("/none"), tables).await?;
        triggers.reload(definitions).await?;
        // Read the positions with a first poll, as a deployment does.
        triggers.tick().await?;
        Ok(Process { store: store.clone(), tables: tables.clone(), jobs, triggers })
    }

    async fn new(definitions: Vec<Trigger>) -> Self {
        let (store, tables) = (memory(), Arc::<Tables>::default());
        Self::open(&store, &clock(), &tables, definitions).await.expect("a process")
    }

    /// Executes a job, which fails if its name begins with `bad`.
    async fn job(&self, new: NewJob) {
        let is_bad = new.name.as_deref().is_some_and(|name| name.starts_with("bad"));
        let (_, guard) = self.jobs.record(new).await.expect("a job");
        let failure = Problem::new(ErrorCode::Storage, "no disk");
        guard.finish_with(if is_bad { Err(failure) } else { Ok(Value::Null) }, Vec::new()).await;
    }

    /// Records a merge into a branch, as the catalog does.
    async fn merge(&self, branch: &str, properties: BTreeMap<String, String>) {
        let journal = OccurrenceJournal::new(&*self.store, MERGE_JOURNAL);
        if journal.watched().await.expect("a watch").is_none() {
            return;
        }
        let id = |digits: &str| digits.repeat(32).parse().expect("an id");
        let merge = BranchMerge {
            branch: branch.to_owned(),
            source: "dev".to_owned(),
            before: id("aa"),
            commit: id("bb"),
            source_commit: id("cc"),
            tables: vec!["public.orders".to_owned()],
            author: "ada".to_owned(),
            properties,
            time: "2026-03-01T00:00:00Z".parse().expect("a time"),
        };
        let value = serde_json::to_vec(&merge).expect("JSON");
        let key = self.jobs.new_id().to_string();
        let entries = vec![JournalAppend::put(MERGE_JOURNAL, key, value.into())];
        self.store.apply(WriteBatch { entries, ..WriteBatch::default() }).await.expect("applied");
    }

    /// Delivers all events and returns the events of a trigger, oldest first.
    async fn events(&self, trigger: &str) -> Vec<TriggerEvent> {
        for _ in 0..3 {
            self.triggers.tick().await.expect("a tick");
        }
        let filter = TriggerEventFilter { limit: 1_000, ..TriggerEventFilter::default() };
        let mut events = self.triggers.events(&filter).await.expect("events");
        events.retain(|event| event.trigger == trigger);
        events.reverse();
        events
    }
}

fn run(name: &str) -> NewJob {
    NewJob::new(JobKind::Run, "test", "ada").named(name)
}

fn follows(name: &str, jobs: &Value) -> Trigger {
    trigger(json!({"name": name, "jobs": jobs}))
}

fn subjects(events: &[TriggerEvent]) -> Vec<&str> {
    events.iter().filter_map(|event| event.event.subject.as_deref()).collect()
}

#[tokio::test]
async fn a_trigger_selects_ended_jobs_by_kind_status_and_name() {
    let failed = json!({"kinds": ["run"], "statuses": ["failed"]});
    let named = json!({"kinds": ["run", "import"], "names": ["shop*"]});
    let filter = json!({"data": {"job": {"error": {"code": ["storage"]}}}});
    let filtered = Trigger {
        filter: Some(filter),
        ..follows("filtered", &json!({"kinds": ["run", "import"]}))
    };
    let definitions = vec![follows("failed", &failed), follows("named", &named), filtered];
    let process = Process::new(definitions).await;
    for new in [
        run("shop"),
        run("bad"),
        NewJob { kind: JobKind::Import, ..run("shop_a") },
        NewJob { kind: JobKind::Query, ..run("shop_b") },
        NewJob { author: "hidden".to_owned(), ..run("shop_c") },
    ] {
        process.job(new).await;
    }
    let events = process.events("failed").await;
    assert_eq!(subjects(&events), ["bad"]);
    let event = serde_json::to_value(&events[0].event).expect("JSON");
    let job = &event["data"]["job"];
    assert_eq!(event["type"], "headwater.job.ended");
    assert_eq!(event["source"], format!("/jobs/{}", job["id"].as_str().expect("an id")));
    assert_eq!(job["error"]["code"], "storage");
    assert_eq!((&job["kind"], &job["status"]), (&json!("run"), &json!("failed")));
    assert_eq!(subjects(&process.events("named").await), ["shop", "shop_a"]);
    assert_eq!(subjects(&process.events("filtered").await), ["bad"]);
    let journal = OccurrenceJournal::new(&*process.store, JOB_END_JOURNAL);
    assert_eq!(journal.after(0, 10).await.expect("entries"), [], "consumed ends are deleted");
    // Without triggers, no ends are recorded.
    process.triggers.reload(Vec::new()).await.expect("a reload");
    process.job(run("shop")).await;
    assert_eq!(journal.after(0, 10).await.expect("entries"), []);
}

#[tokio::test]
async fn jobs_of_a_trigger_do_not_fire_the_trigger_again() {
    let all = json!({"kinds": ["run", "trigger"]});
    let process = Process::new(vec![follows("a", &all), follows("b", &all)]).await;
    process.job(run("shop")).await;
    // Each trigger fires for the run, and for the delivery of the run's event by the other trigger.
    for (name, other) in [("a", "b"), ("b", "a")] {
        let events = process.events(name).await;
        assert_eq!(subjects(&events), ["shop", other]);
        assert_eq!(events[1].event.caused_by, [other]);
    }
    let ended = process.events("a").await;
    process.triggers.tick().await.expect("a tick");
    assert_eq!(process.events("a").await.len(), ended.len());
}

#[tokio::test]
async fn a_trigger_selects_merges_by_their_target() {
    let into = json!({"into": ["main", "release/*"]});
    let some = trigger(json!({"name": "some", "merges": into}));
    let main = trigger(json!({"name": "main", "merges": {}}));
    let process = Process::new(vec![some, main]).await;
    for branch in ["main", "dev", "release/1"] {
        process.merge(branch, BTreeMap::new()).await;
    }
    let branches = |events: &[TriggerEvent]| {
        let branch = |event: &TriggerEvent| event.event.branch().map(str::to_owned);
        events.iter().filter_map(branch).collect::<Vec<_>>()
    };
    assert_eq!(branches(&process.events("some").await), ["main", "release/1"]);
    let events = process.events("main").await;
    assert_eq!(branches(&events), ["main"]);
    let event = &events[0].event;
    assert_eq!((event.source.as_str(), event.subject.as_deref()), ("/branches/main", Some("dev")));
    assert_eq!(event.tables(), ["public.orders"]);
    assert!(matches!(&event.data, EventData::BranchMerged { author, .. } if author == "ada"));
    // A merge that an event of the trigger caused does not fire it again.
    let caused = BTreeMap::from([(PROPERTY_EVENT.to_owned(), event.id.clone())]);
    process.merge("main", caused).await;
    assert_eq!(process.events("main").await.len(), 1);
    let events = process.events("some").await;
    assert_eq!(events[2].event.caused_by, ["main"]);
    assert_eq!(process.tables.tries(), 4);
}

/// Executes jobs and delivers the events of their ends, until the store fails.
async fn live(
    store: &Arc<dyn Store>,
    clock: &Arc<FixedClock>,
    tables: &Arc<Tables>,
) -> headwater_triggers::Result<()> {
    let process = Process::open(store, clock, tables, vec![every_run()]).await?;
    for number in 0..JOBS {
        process.job(run(&number.to_string())).await;
        if number % 2 == 1 {
            process.triggers.tick().await?;
        }
    }
    let _unfinished = process.jobs.record(run("unfinished")).await?;
    process.jobs.flush().await?;
    process.triggers.tick().await
}

fn every_run() -> Trigger {
    follows("t", &json!({"kinds": ["run"]}))
}

/// Runs a process that crashes at its store call number `calls`, and another process that delivers
/// the remaining events. Returns true if the first process crashed.
async fn crash_at(calls: i64, dying: Dying) -> bool {
    let (store, clock, tables) = (memory(), clock(), Arc::<Tables>::default());
    // Deploy the trigger before the crash.
    let first = Process::open(&store, &clock, &tables, vec![every_run()]).await;
    drop(first.expect("a process"));
    let mortal = Mortal::new(&store, calls, dying);
    let as_store: Arc<dyn Store> = mortal.clone();
    let died = tokio::select! {
        biased;
        () = mortal.dead.cancelled() => true,
        lived = live(&as_store, &clock, &tables) => lived.is_err() || mortal.dead.is_cancelled(),
    };
    mortal.fail();
    let second = Process::open(&store, &clock, &tables, vec![every_run()]).await;
    let second = second.expect("the second process");
    let filter = JobFilter { kinds: vec![JobKind::Run], ..JobFilter::default() };
    let ended = async || {
        let jobs = second.jobs.list(&filter).await.expect("jobs");
        jobs.into_iter().map(|job| (job.id, job.status)).collect::<Vec<_>>()
    };
    until("all jobs have ended", async || {
        ended().await.iter().all(|(_, status)| status.is_final())
    })
    .await;
    second.jobs.flush().await.expect("all ends are stored");
    let events = second.events("t").await;
    assert!(events.iter().all(|event| event.status == TriggerEventStatus::Done));
    let noted: Vec<_> = events.iter().filter_map(|event| event.event.job()).map(of).collect();
    let distinct: BTreeSet<_> = noted.iter().collect();
    assert_eq!(noted.len(), distinct.len(), "{dying:?} call {calls}: {noted:?}");
    let ended: Vec<_> = ended().await.iter().map(|(id, _)| id.to_string()).collect();
    assert_eq!(distinct, ended.iter().collect(), "{dying:?} call {calls}");
    assert_eq!(
        tables
            .commits
            .lock()
            .expect("commits")
            .values()
            .filter(|event| event.job().is_some())
            .count(),
        noted.len()
    );
    died
}

fn of(job: &headwater_model::EndedJob) -> String {
    job.id.to_string()
}

#[tokio::test]
async fn a_crash_at_any_call_of_the_store_loses_and_doubles_no_end_of_a_job() {
    for dying in [Dying::Before, Dying::After] {
        let mut calls = 1;
        while crash_at(calls, dying).await {
            calls += 1;
        }
        assert!(calls > 20, "only {calls} calls");
    }
}

#[tokio::test]
async fn a_store_that_fails_once_doubles_no_end_in_the_same_process() {
    let (store, clock, tables) = (memory(), clock(), Arc::<Tables>::default());
    let mortal = Mortal::new(&store, i64::MAX, Dying::After);
    let as_store: Arc<dyn Store> = mortal.clone();
    let process = Process::open(&as_store, &clock, &tables, vec![every_run()]).await;
    let process = process.expect("a process");
    for calls in 1..6 {
        let (_, guard) = process.jobs.record(run("shop")).await.expect("a job");
        process.jobs.flush().await.expect("stored");
        mortal.die_at(calls);
        guard.finish(Ok(Value::Null));
        let _failed = process.jobs.flush().await;
        mortal.revive();
        process.jobs.flush().await.expect("stored");
    }
    let mut events = Vec::new();
    until("all ends are events", async || {
        events = process.events("t").await;
        events.len() >= 5
    })
    .await;
    let ids: BTreeSet<_> = events.iter().filter_map(|event| event.event.job()).map(of).collect();
    assert_eq!((events.len(), ids.len()), (5, 5));
}
