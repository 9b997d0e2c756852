//! Killed processes, with the store that lakes use.
//!
//! The test starts itself again as another process, which watches a folder or reads a topic of
//! Kafka until it is killed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use headwater_jobs::{JobContext, JobFilter, Jobs, JobsOptions, NewJob};
use headwater_model::{
    Actor, ArrivedFile, Clock, ErrorCode, Event, EventData, JobKind, JobStatus, Problem,
    SystemClock, Trigger, TriggerEventStatus,
};
use headwater_store::{JournalAppend, KeyRange, SqliteStore, Store, UniqueKey, WriteBatch};
use headwater_triggers::{
    TargetExecutor, TriggerEventFilter, Triggers, TriggersOptions, mark_divisible,
};
use serde_json::{Value, json};

use crate::kafka_server::KafkaProcess;
use crate::support::until;
use crate::targets::{file, trigger};

/// The environment variable with the folder of the killed process.
const FOLDER: &str = "HEADWATER_JOBS_TEST_FOLDER";
const FILES: usize = 600;

/// The file with the servers of a Kafka cluster. If it exists, the process reads a topic.
const SERVERS: &str = "servers";
const RECORDS: usize = 300;

/// If this file exists, the process calls a function that fails for files whose names end with
/// `POISON`, and divides events.
const BISECTS: &str = "bisects";
const POISON: &str = "13.csv";

/// A target that commits an event's files or records to a journal, with the event's id as a unique
/// key, as a lake does.
struct Commits(Arc<dyn Store>);

#[async_trait]
impl TargetExecutor for Commits {
    async fn execute(
        &self,
        trigger: &Trigger,
        event: &Event,
        _: Option<&Actor>,
        context: JobContext,
    ) -> Result<Value, Problem> {
        context.log_system("committing");
        if trigger.bisect && names(event).iter().any(|name| name.ends_with(POISON)) {
            return Err(mark_divisible(Problem::new(ErrorCode::FunctionFailed, "a bad file")));
        }
        let entry = |name: String| JournalAppend {
            journal: "rows".into(),
            key: format!("{name} {}", event.id),
            value: Some(Bytes::from_static(b"1")),
        };
        let batch = WriteBatch {
            entries: names(event).into_iter().map(entry).collect(),
            unique: vec![UniqueKey { scope: "event".into(), key: event.id.clone() }],
            ..WriteBatch::default()
        };
        match self.0.apply(batch).await {
            Ok(_) => Ok(Value::Null),
            Err(headwater_store::Error::NotUnique { .. }) if trigger.bisect => Ok(Value::Null),
            Err(headwater_store::Error::NotUnique { key, .. }) => {
                let mut problem = Problem::new(ErrorCode::AlreadyExists, "committed before");
                problem.context.insert("event".into(), json!(key));
                Err(problem)
            }
            Err(error) => Err(Problem::new(ErrorCode::Storage, error.to_string())),
        }
    }
}

/// Returns the paths of the files, or the partitions and offsets of the records.
fn names(event: &Event) -> Vec<String> {
    match &event.data {
        EventData::KafkaReceived { partition, records, .. } => {
            records.iter().map(|record| format!("{partition}-{}", record.offset)).collect()
        }
        _ => event.files().iter().map(|file: &ArrivedFile| file.path.clone()).collect(),
    }
}

async fn open(folder: &Path) -> (Arc<dyn Store>, Jobs, Triggers) {
    let store = SqliteStore::open(&folder.join("lake.db")).await.expect("a store");
    let store: Arc<dyn Store> = Arc::new(store);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let jobs = Jobs::open(store.clone(), clock.clone(), JobsOptions::default());
    let jobs = jobs.await.expect("jobs");
    let options = TriggersOptions::new(store.clone(), clock, jobs.clone(), folder);
    let actions = Arc::new(Commits(store.clone()));
    let triggers = Triggers::start(options, actions).await.expect("triggers");
    let definition = if let Ok(servers) = std::fs::read_to_string(folder.join(SERVERS)) {
        let kafka = json!({"servers": servers, "topic": "orders", "batch": 7});
        let definition = json!({"name": "orders", "run": true, "kafka": kafka});
        serde_json::from_value(definition).expect("a trigger")
    } else {
        let files = json!({"folder": "in", "batch": 7, "debounce": "50ms"});
        if folder.join(BISECTS).exists() {
            let definition = json!({"name": "landing", "files": files, "function": "f",
                "bisect": true, "retries": 0, "order_by": "source"});
            serde_json::from_value(definition).expect("a trigger")
        } else {
            trigger(json!({"name": "landing", "files": files}))
        }
    };
    triggers.reload(vec![definition]).await.expect("one");
    (store, jobs, triggers)
}

/// The process that is killed. Does nothing unless another test started it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_process_that_is_killed() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    let (_store, jobs, _triggers) = open(&folder).await;
    for number in 0_u64.. {
        let (_, guard) = jobs
            .record(NewJob::new(JobKind::Query, number.to_string(), "ada"))
            .await
            .expect("a query");
        guard.finish(Ok(Value::Null));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn start(folder: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", "kill::the_process_that_is_killed"]).env(FOLDER, folder);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a process")
}

async fn rows(store: &Arc<dyn Store>) -> Vec<String> {
    let entries = store.scan("rows", &KeyRange::default()).await.expect("rows");
    let path = |key: &str| key.split(' ').next().map(str::to_owned);
    entries.iter().filter_map(|entry| path(&entry.key)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_land_while_processes_are_killed_are_each_committed_once() {
    let dir = tempfile::tempdir().expect("a folder");
    let watcher: Arc<dyn Store> =
        Arc::new(SqliteStore::open(&dir.path().join("lake.db")).await.expect("a store"));
    for round in 0..3 {
        for number in (round..FILES).step_by(3) {
            file(&dir.path().join(format!("in/{number}.csv")), "1");
        }
        let before = rows(&watcher).await.len();
        let mut child = start(dir.path());
        until("it commits", async || rows(&watcher).await.len() > before + 20).await;
        child.kill().expect("a kill");
        child.wait().expect("an end");
    }
    let (store, jobs, triggers) = open(dir.path()).await;
    until("all are there", async || rows(&store).await.len() >= FILES).await;
    triggers.stop();
    jobs.drain(Duration::from_secs(5)).await;
    let rows = rows(&store).await;
    let distinct: BTreeSet<&String> = rows.iter().collect();
    assert_eq!((rows.len(), distinct.len()), (FILES, FILES));

    let every = TriggerEventFilter { limit: 1_000, ..TriggerEventFilter::default() };
    let events = triggers.events(&every).await.expect("events");
    assert!(events.iter().all(|event| event.status == TriggerEventStatus::Done));
    assert!(events.iter().all(|event| event.event.files().len() <= 7));
    let all = JobFilter { limit: 100_000, ..JobFilter::default() };
    let listed = jobs.list(&all).await.expect("jobs");
    let queries: Vec<u64> = listed
        .iter()
        .filter(|job| job.kind == JobKind::Query && job.status == JobStatus::Succeeded)
        .filter_map(|job| job.summary.parse().ok())
        .collect();
    assert!(queries.iter().filter(|number| **number == 0).count() == 3, "one from each process");
    let gaps = queries.windows(2).filter(|pair| pair[1] + 1 != pair[0] && pair[1] != 0);
    assert!(gaps.count() <= 2, "only the last of each process are missing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_that_are_divided_while_processes_are_killed_lose_and_double_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::write(dir.path().join(BISECTS), "").expect("a file");
    let watcher: Arc<dyn Store> =
        Arc::new(SqliteStore::open(&dir.path().join("lake.db")).await.expect("a store"));
    for round in 0..3 {
        for number in (round..FILES).step_by(3) {
            file(&dir.path().join(format!("in/{number}.csv")), "1");
        }
        let before = rows(&watcher).await.len();
        let mut child = start(dir.path());
        until("it commits", async || rows(&watcher).await.len() > before + 20).await;
        child.kill().expect("a kill");
        child.wait().expect("an end");
    }
    let (store, jobs, triggers) = open(dir.path()).await;
    let is_poison = |number: &usize| format!("{number}.csv").ends_with(POISON);
    let poison = (0..FILES).filter(is_poison).count();
    until("all are there", async || rows(&store).await.len() >= FILES - poison).await;
    let filter = TriggerEventFilter {
        statuses: vec![TriggerEventStatus::Failed],
        limit: 1_000,
        ..TriggerEventFilter::default()
    };
    let failed = async || triggers.events(&filter).await.expect("events");
    until("the others failed", async || failed().await.len() >= poison).await;
    let failed = failed().await;
    triggers.stop();
    jobs.drain(Duration::from_secs(5)).await;
    let rows = rows(&store).await;
    let distinct: BTreeSet<&String> = rows.iter().collect();
    assert_eq!((rows.len(), distinct.len()), (FILES - poison, FILES - poison));
    let failed: Vec<String> = failed.iter().flat_map(|event| names(&event.event)).collect();
    assert!(failed.len() == poison && failed.iter().all(|name| name.ends_with(POISON)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_arrive_while_processes_are_killed_are_each_committed_once() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut kafka = KafkaProcess::start();
    std::fs::write(dir.path().join(SERVERS), kafka.servers()).expect("a file");
    let watcher: Arc<dyn Store> =
        Arc::new(SqliteStore::open(&dir.path().join("lake.db")).await.expect("a store"));
    for round in 0..4 {
        let before = rows(&watcher).await.len();
        let mut child = start(dir.path());
        let records = (0..RECORDS).map(|number| json!({"value": number.to_string()}));
        kafka.produce("orders", round % 2, &records.collect());
        until("it commits", async || rows(&watcher).await.len() > before + 20).await;
        child.kill().expect("a kill");
        child.wait().expect("an end");
    }
    let (store, jobs, triggers) = open(dir.path()).await;
    let total = 4 * RECORDS;
    until("all are there", async || rows(&store).await.len() >= total).await;
    triggers.stop();
    jobs.drain(Duration::from_secs(5)).await;
    let rows = rows(&store).await;
    let distinct: BTreeSet<&String> = rows.iter().collect();
    assert_eq!((rows.len(), distinct.len()), (total, total));
}
