//! Tests of the life cycle of jobs and of their stored records.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::{Dying, Mortal, clock, jobs, jobs_with, memory, until};
use async_trait::async_trait;
use futures::StreamExt;
use headwater_jobs::{Error, Executor, JobContext, JobFilter, JobsOptions, KindLimits, NewJob};
use headwater_model::{
    ErrorCode, JobEventKind, JobId, JobKind, JobStatus, LogStream, Problem, ToProblem, Usage,
};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

/// An executor whose behaviour the payload specifies.
struct Work {
    gate: Semaphore,
    running: AtomicUsize,
    running_most: AtomicUsize,
    discarded: Mutex<Vec<(JobId, Value)>>,
}

impl Work {
    fn new() -> Arc<Self> {
        Arc::new(Work {
            gate: Semaphore::new(0),
            running: AtomicUsize::new(0),
            running_most: AtomicUsize::new(0),
            discarded: Mutex::default(),
        })
    }

    /// Returns the jobs that were discarded, each with its payload.
    fn discarded(&self) -> Vec<(JobId, Value)> {
        self.discarded.lock().expect("the list").clone()
    }

    async fn wait(&self, context: &JobContext) -> Result<(), Problem> {
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.running_most.fetch_max(running, Ordering::SeqCst);
        let cancelled = context.cancelled();
        let result = tokio::select! {
            () = cancelled.cancelled() => Err(Problem::new(ErrorCode::Cancelled, "stopped")),
            permit = self.gate.acquire() => { permit.expect("a gate").forget(); Ok(()) }
        };
        self.running.fetch_sub(1, Ordering::SeqCst);
        result
    }
}

#[async_trait]
impl Executor for Work {
    async fn execute(&self, context: JobContext, payload: Value) -> Result<Value, Problem> {
        match payload["do"].as_str() {
            Some("wait") => self.wait(&context).await?,
            Some("hang") => std::future::pending::<()>().await,
            Some("panic") => panic!("no hands"),
            Some("fail") => return Err(Problem::new(ErrorCode::BadRow, "line 7")),
            Some("print") => {
                for number in 0..payload["lines"].as_u64().unwrap_or_default() {
                    context.emit(line(&format!("line {number}")));
                }
            }
            _ => {}
        }
        context.add_usage(&Usage { cpu_us: 2_000_000, rows_written: 3, ..Usage::default() });
        Ok(json!({"answer": 42}))
    }

    async fn discard(&self, job: JobId, payload: Value) {
        let panics = payload["do"] == "panic";
        self.discarded.lock().expect("the list").push((job, payload));
        assert!(!panics, "no hands");
    }
}

fn line(text: &str) -> JobEventKind {
    JobEventKind::Log {
        stream: LogStream::Stdout,
        model: Some("m".into()),
        file: Some("m.py".into()),
        line: Some(1),
        text: text.to_owned(),
    }
}

fn new(kind: JobKind, payload: Value) -> NewJob {
    NewJob { payload, ..NewJob::new(kind, "test", "ada") }
}

fn run(what: &str) -> NewJob {
    new(JobKind::Run, json!({"do": what}))
}

#[tokio::test]
async fn a_job_record_contains_the_outcome() {
    let (store, clock) = (memory(), clock());
    let first = jobs(&store, &clock).await;
    first.register(JobKind::Run, Work::new());
    let id = first.submit(run("nothing")).await.expect("a job");
    let job = first.wait(id).await.expect("a job");
    assert_eq!(job.status, JobStatus::Succeeded);
    assert_eq!(job.result, json!({"answer": 42}));
    assert_eq!((job.usage.cpu_us, job.usage.rows_written), (2_000_000, 3));
    assert!((job.cost - 2.0 * first.rate_card().cpu_second).abs() < 1e-12);
    let second = jobs(&store, &clock).await;
    assert_eq!(second.job(id).await.expect("a job"), job);
    assert_eq!(second.interrupted(), []);
    assert_eq!(second.get(&id.short()).await.expect("by its end").id, id);
    assert_eq!(
        second.get(&id.to_string()[..18].to_uppercase()).await.expect("by its beginning").id,
        id
    );
}

#[tokio::test]
async fn the_newest_payloads_are_kept_after_their_jobs() {
    let (store, clock) = (memory(), clock());
    let first = jobs(&store, &clock).await;
    first.register(JobKind::Run, Work::new());
    let mut ids = Vec::new();
    for _ in 0..101 {
        let id = first.submit(run("nothing")).await.expect("a job");
        first.wait(id).await.expect("a job");
        ids.push(id);
    }
    let second = jobs(&store, &clock).await;
    assert_eq!(second.payload(ids[0]).await.expect("an answer"), None);
    for id in [ids[1], ids[100]] {
        let payload = second.payload(id).await.expect("an answer");
        assert_eq!(payload, Some(json!({"do": "nothing"})));
    }
}

#[tokio::test]
async fn a_failure_and_a_panic_end_the_job_and_nothing_else() {
    let (store, clock) = (memory(), clock());
    let jobs = jobs(&store, &clock).await;
    jobs.register(JobKind::Run, Work::new());
    for (what, code, text) in
        [("panic", ErrorCode::Internal, "no hands"), ("fail", ErrorCode::BadRow, "line 7")]
    {
        let id = jobs.submit(run(what)).await.expect("a job");
        let job = jobs.wait(id).await.expect("a job");
        let error = job.error.expect("an error");
        assert_eq!((job.status, error.code), (JobStatus::Failed, code));
        assert!(format!("{error:?}").contains(text), "{error:?}");
    }
    let id = jobs.submit(run("nothing")).await.expect("a job");
    assert_eq!(jobs.wait(id).await.expect("a job").status, JobStatus::Succeeded);
}

#[tokio::test]
async fn jobs_of_one_queue_run_in_order_and_report_the_job_that_they_wait_for() {
    let (store, clock) = (memory(), clock());
    let queued = |what: &str, queue: &str| NewJob { queue: Some(queue.into()), ..run(what) };
    let jobs = jobs_with(&store, &clock, JobsOptions::default()).await;
    let work = Work::new();
    jobs.register(JobKind::Run, work.clone());
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(jobs.submit(queued("wait", "main")).await.expect("a job"));
    }
    let other = jobs.submit(queued("wait", "dev")).await.expect("a job");
    until("one of each queue runs", async || work.running.load(Ordering::SeqCst) == 2).await;
    let waits = vec![format!("waits for job {}", ids[0].short())];
    let listed = jobs.list(&JobFilter::default()).await.expect("jobs");
    let found: Vec<_> = listed.iter().map(|job| (job.id, &job.waits_for)).collect();
    let none = Vec::new();
    assert_eq!(found, [(other, &none), (ids[2], &waits), (ids[1], &waits), (ids[0], &none)]);
    let texts = jobs.events(ids[2], 0).await.expect("events");
    assert!(format!("{texts:?}").contains(&waits[0]), "{texts:?}");

    // The cancelled job is skipped, and the queued job stays queued in the next process.
    assert_eq!(jobs.stop(ids[1]).await.expect("a job").status, JobStatus::Cancelled);
    jobs.drain(Duration::from_millis(1)).await;
    let next = jobs_with(&store, &clock, JobsOptions::default()).await;
    let last = next.submit(queued("wait", "main")).await.expect("a job");
    let waits = vec![format!("waits for job {}", ids[2].short())];
    assert_eq!(next.job(last).await.expect("a job").waits_for, waits);
    let work = Work::new();
    next.register(JobKind::Run, work.clone());
    work.gate.add_permits(2);
    for id in [ids[2], last] {
        assert_eq!(next.wait(id).await.expect("a job").status, JobStatus::Succeeded);
    }
    assert_eq!(work.running_most.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn jobs_wait_for_a_slot_and_too_many_are_refused() {
    let (store, clock) = (memory(), clock());
    let limits = [(JobKind::Run, KindLimits { concurrency: 2, queue: 3 })].into();
    let jobs = jobs_with(&store, &clock, JobsOptions { limits, ..JobsOptions::default() }).await;
    let work = Work::new();
    jobs.register(JobKind::Run, work.clone());
    let mut ids = Vec::new();
    for _ in 0..2 {
        ids.push(jobs.submit(run("wait")).await.expect("a job"));
    }
    until("two run", async || work.running.load(Ordering::SeqCst) == 2).await;
    for _ in 0..3 {
        ids.push(jobs.submit(run("wait")).await.expect("a job"));
    }
    let error = jobs.submit(run("wait")).await.expect_err("a full queue");
    assert_eq!(error.code(), ErrorCode::TooBusy);
    assert_eq!(jobs.monitor().running(), 5);
    work.gate.add_permits(5);
    for id in ids {
        assert_eq!(jobs.wait(id).await.expect("a job").status, JobStatus::Succeeded);
    }
    assert_eq!(work.running_most.load(Ordering::SeqCst), 2);
    assert_eq!(jobs.monitor().running(), 0);
    assert_eq!(jobs.list(&JobFilter::default()).await.expect("jobs").len(), 5);
}

#[tokio::test]
async fn queued_running_and_unresponsive_jobs_are_stopped() {
    let (store, clock) = (memory(), clock());
    let limits = [(JobKind::Run, KindLimits { concurrency: 1, queue: 9 })].into();
    let stop_grace = Duration::from_millis(20);
    let options = JobsOptions { limits, stop_grace, ..JobsOptions::default() };
    let jobs = jobs_with(&store, &clock, options).await;
    let work = Work::new();
    jobs.register(JobKind::Run, work.clone());
    let runs = jobs.submit(run("wait")).await.expect("a job");
    let waits = jobs.submit(run("wait")).await.expect("a job");
    until("one runs", async || work.running.load(Ordering::SeqCst) == 1).await;
    let panics = jobs.submit(run("panic")).await.expect("a job");
    for queued in [waits, panics] {
        let stopped = jobs.stop(queued).await.expect("a job");
        assert_eq!((stopped.status, stopped.started), (JobStatus::Cancelled, None));
        assert_eq!(stopped.error.map(|error| error.code), Some(ErrorCode::Cancelled));
    }
    let discarded = [(waits, json!({"do": "wait"})), (panics, json!({"do": "panic"}))];
    assert_eq!(work.discarded(), discarded);
    jobs.stop(runs).await.expect("a job");
    let stopped = jobs.wait(runs).await.expect("a job");
    assert_eq!(stopped.status, JobStatus::Cancelled);
    assert_eq!(stopped.error.map(|error| error.code), Some(ErrorCode::Cancelled));
    let hangs = jobs.submit(run("hang")).await.expect("a job");
    until("it runs", async || jobs.job(hangs).await.expect("a job").status == JobStatus::Running)
        .await;
    jobs.stop(hangs).await.expect("a job");
    assert_eq!(jobs.wait(hangs).await.expect("a job").status, JobStatus::Cancelled);
    let again = jobs.stop(hangs).await.expect("stopping again changes nothing");
    assert_eq!(again.status, JobStatus::Cancelled);
    assert_eq!(work.discarded(), discarded, "only jobs that were never executed are discarded");
}

#[tokio::test]
async fn after_a_crash_running_jobs_are_interrupted_and_queued_jobs_run() {
    let (store, clock) = (memory(), clock());
    let mortal = Mortal::new(&store, i64::MAX, Dying::Before);
    let limits = [(JobKind::Run, KindLimits { concurrency: 1, queue: 9 })].into();
    let options = JobsOptions { limits, ..JobsOptions::default() };
    let as_store: Arc<dyn headwater_store::Store> = mortal.clone();
    let first = jobs_with(&as_store, &clock, options).await;
    let work = Work::new();
    first.register(JobKind::Run, work.clone());
    let ran = first.submit(run("wait")).await.expect("a job");
    let waited = first.submit(run("nothing")).await.expect("a job");
    let (_query, guard) = first.record(new(JobKind::Query, Value::Null)).await.expect("a query");
    until("one runs", async || work.running.load(Ordering::SeqCst) == 1).await;
    first.flush().await.expect("the query's record");
    mortal.fail();

    let second = jobs(&store, &clock).await;
    assert_eq!(second.interrupted(), [ran, guard.id()]);
    for id in [ran, guard.id()] {
        let job = second.job(id).await.expect("a job");
        let code = job.error.map(|error| error.code);
        assert_eq!((job.status, code), (JobStatus::Interrupted, Some(ErrorCode::Interrupted)));
        let last = second.events(id, 0).await.expect("events").pop().expect("an event");
        assert!(matches!(last.event, JobEventKind::Ended { status: JobStatus::Interrupted, .. }));
    }
    assert_eq!(second.job(waited).await.expect("a job").status, JobStatus::Queued);
    second.register(JobKind::Run, Work::new());
    assert_eq!(second.wait(waited).await.expect("a job").status, JobStatus::Succeeded);
    let third = jobs(&store, &clock).await;
    assert_eq!(third.interrupted(), [], "they are interrupted once");
}

#[tokio::test]
async fn events_are_followed_while_the_job_runs_and_afterwards() {
    let (store, clock) = (memory(), clock());
    let jobs = jobs(&store, &clock).await;
    let work = Work::new();
    jobs.register(JobKind::Run, work.clone());
    let id = jobs.submit(run("wait")).await.expect("a job");
    let mut early = jobs.follow(id, 0).await.expect("a stream");
    let first = early.next().await.expect("an event").expect("an event");
    assert_eq!((first.sequence, first.event), (1, JobEventKind::Started));
    work.gate.add_permits(1);
    let rest: Vec<_> = early.map(|event| event.expect("an event")).collect().await;
    assert!(matches!(rest[..], [ref last] if last.sequence == 2
        && matches!(last.event, JobEventKind::Ended { status: JobStatus::Succeeded, .. })));
    let late: Vec<_> = jobs.follow(id, 1).await.expect("a stream").collect().await;
    assert_eq!(late.len(), 1);
    let second = crate::support::jobs(&store, &clock).await;
    assert_eq!(second.events(id, 1).await.expect("events"), rest);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_lines_are_stored_in_few_transactions() {
    const LINES: usize = 100_000;
    let (store, clock) = (memory(), clock());
    let mortal = Mortal::new(&store, i64::MAX, Dying::Before);
    let as_store: Arc<dyn headwater_store::Store> = mortal.clone();
    let jobs = jobs(&as_store, &clock).await;
    jobs.register(JobKind::Run, Work::new());
    let print = new(JobKind::Run, json!({"do": "print", "lines": LINES}));
    let id = jobs.submit(print).await.expect("a job");
    let followed: Vec<_> = jobs.follow(id, 0).await.expect("a stream").collect().await;
    let sequences = followed.iter().map(|event| event.as_ref().expect("an event").sequence);
    assert!(sequences.eq(1..=LINES as u64 + 2));
    assert!(mortal.applied.load(Ordering::SeqCst) < 1_000, "{:?}", mortal.applied);
    let stored = jobs.events(id, 0).await.expect("events");
    assert_eq!(stored.len(), LINES + 2);
    assert_eq!(stored[777].event, line("line 776"));
    let tail = jobs.events(id, LINES as u64).await.expect("events");
    assert_eq!(tail[0].event, line(&format!("line {}", LINES - 1)));
}

#[tokio::test]
async fn an_end_that_cannot_be_stored_is_not_acknowledged_as_success() {
    let (store, clock) = (memory(), clock());
    let mortal = Mortal::new(&store, i64::MAX, Dying::Before);
    let as_store: Arc<dyn headwater_store::Store> = mortal.clone();
    let jobs = jobs(&as_store, &clock).await;
    let work = Work::new();
    jobs.register(JobKind::Run, work.clone());
    let id = jobs.submit(run("wait")).await.expect("a job");
    until("it runs", async || work.running.load(Ordering::SeqCst) == 1).await;
    mortal.fail();
    work.gate.add_permits(1);
    let job = jobs.wait(id).await.expect("a job");
    assert_eq!(job.status, JobStatus::Failed);
    assert_eq!(job.error.clone().map(|error| error.code), Some(ErrorCode::DiskFull));
    mortal.revive();
    until("it is stored after all", async || jobs.flush().await.is_ok()).await;
    let second = crate::support::jobs(&store, &clock).await;
    assert_eq!(second.job(id).await.expect("a job"), job);
}

#[tokio::test]
async fn a_drain_finishes_running_jobs_keeps_queued_jobs_and_interrupts_the_rest() {
    let (store, clock) = (memory(), clock());
    let limits = [(JobKind::Run, KindLimits { concurrency: 1, queue: 9 })].into();
    let first = jobs_with(&store, &clock, JobsOptions { limits, ..JobsOptions::default() }).await;
    let work = Work::new();
    first.register(JobKind::Run, work.clone());
    let runs = first.submit(run("wait")).await.expect("a job");
    let waits = first.submit(run("nothing")).await.expect("a job");
    until("one runs", async || work.running.load(Ordering::SeqCst) == 1).await;
    first.drain(Duration::from_millis(20)).await;
    assert!(matches!(first.submit(run("nothing")).await, Err(Error::Stopping)));
    assert_eq!(first.job(runs).await.expect("a job").status, JobStatus::Interrupted);
    let second = jobs(&store, &clock).await;
    assert_eq!(second.interrupted(), []);
    assert_eq!(second.job(waits).await.expect("a job").status, JobStatus::Queued);
}

#[tokio::test]
async fn a_queued_job_can_be_stopped_during_shutdown() {
    let (store, clock) = (memory(), clock());
    let limits = [(JobKind::Run, KindLimits { concurrency: 1, queue: 9 })].into();
    let first = jobs_with(&store, &clock, JobsOptions { limits, ..JobsOptions::default() }).await;
    let work = Work::new();
    first.register(JobKind::Run, work.clone());
    first.submit(run("wait")).await.expect("a job");
    let waits = first.submit(run("nothing")).await.expect("a job");
    until("one runs", async || work.running.load(Ordering::SeqCst) == 1).await;
    first.drain(Duration::from_millis(20)).await;
    let stopped = tokio::time::timeout(Duration::from_secs(60), first.stop(waits)).await;
    let stopped = stopped.expect("it does not wait for the next process").expect("a job");
    assert_eq!((stopped.status, stopped.started), (JobStatus::Cancelled, None));
    assert_eq!(work.discarded(), [(waits, json!({"do": "nothing"}))]);
    let second = jobs(&store, &clock).await;
    assert_eq!(second.job(waits).await.expect("a job").status, JobStatus::Cancelled);
}

#[tokio::test]
async fn queued_calls_do_not_block_queries_or_other_callers() {
    let (store, clock) = (memory(), clock());
    let limits = [(JobKind::Function, KindLimits { concurrency: 50_000, queue: 0 })].into();
    let jobs = jobs_with(&store, &clock, JobsOptions { limits, ..JobsOptions::default() }).await;
    let call = |author: &str| {
        let call = NewJob::new(JobKind::Function, "test", author);
        let jobs = jobs.clone();
        async move { jobs.record(call).await }
    };
    let mut calls = Vec::new();
    let refused = loop {
        match call("ada").await {
            Ok(one) => calls.push(one),
            Err(refused) => break refused,
        }
    };
    assert_eq!((refused.code(), calls.len()), (ErrorCode::TooBusy, 25_000));
    calls.push(call("eva").await.expect("a call of another user"));
    jobs.record(new(JobKind::Query, Value::Null)).await.expect("a query");
    calls.truncate(20_000);
    calls.push(call("ada").await.expect("what has ended makes room"));
}
