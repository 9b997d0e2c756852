//! Records of queries, lists, lookups and sums.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::support::{Dying, Mortal, clock, jobs, jobs_with, memory, until};
use headwater_jobs::{Error, JobFilter, Jobs, JobsOptions, NewJob, UsageGroup, UsageGrouping};
use headwater_model::{
    ErrorCode, JobEventKind, JobId, JobKind, JobStatus, Problem, StepReport, StepStatus, ToProblem,
    Usage,
};
use serde_json::Value;

async fn query(jobs: &Jobs, rows: u64) -> JobId {
    let new = NewJob::new(JobKind::Query, "SELECT 1", "ada");
    let (context, guard) = jobs.record(new).await.expect("a query");
    context.set_usage(Usage { rows_written: rows, cpu_us: 1_000, ..Usage::default() });
    let id = guard.id();
    guard.finish(Ok(Value::Null));
    id
}

#[tokio::test]
async fn records_of_queries_are_written_in_groups_and_outlive_the_process() {
    let (store, clock) = (memory(), clock());
    let mortal = Mortal::new(&store, i64::MAX, Dying::Before);
    let as_store: Arc<dyn headwater_store::Store> = mortal.clone();
    let first = jobs(&as_store, &clock).await;
    let mut ids = Vec::new();
    for rows in 0..500 {
        ids.push(query(&first, rows).await);
    }
    let listed = first.list(&JobFilter { limit: 1_000, ..JobFilter::default() }).await;
    assert_eq!(listed.expect("jobs").len(), 500, "they show before they are stored");
    until("they are stored", async || {
        let second = jobs(&store, &clock).await;
        second.list(&JobFilter { limit: 1_000, ..JobFilter::default() }).await.expect("jobs").len()
            == 500
    })
    .await;
    assert!(mortal.applied.load(Ordering::SeqCst) < 100, "{:?}", mortal.applied);
    mortal.fail();
    let second = jobs(&store, &clock).await;
    let job = second.job(ids[7]).await.expect("a job");
    assert_eq!((job.status, job.usage.rows_written), (JobStatus::Succeeded, 7));
    let events = second.events(ids[7], 0).await.expect("events");
    assert!(matches!(events[0].event, JobEventKind::Started));
    assert!(matches!(events[1].event, JobEventKind::Ended { status: JobStatus::Succeeded, .. }));
    assert_eq!(second.events(ids[7], 1).await.expect("events").len(), 1);
}

#[tokio::test]
async fn concurrent_short_calls_are_written_once() {
    let (store, clock) = (memory(), clock());
    let jobs = jobs(&store, &clock).await;
    let mut running = VecDeque::new();
    for call in 0..1_000 {
        let new = NewJob::new(JobKind::Function, "f", "ada");
        running.push_back(jobs.record(new).await.expect("a call").1);
        if call >= 64
            && let Some(guard) = running.pop_front()
        {
            assert_eq!(guard.finish_stored(Ok(Value::Null)).await, None);
        }
    }
    let written = store.read("query_jobs", 0, 10_000).await.expect("entries");
    // A call that runs for longer than a tenth of a second is also written while it runs.
    assert!((936..1_400).contains(&written.len()), "{} records", written.len());
}

#[tokio::test]
async fn the_end_of_a_call_is_reported_only_after_it_is_stored() {
    let (store, clock) = (memory(), clock());
    let slow = Mortal::new(&store, i64::MAX, Dying::Before);
    let as_store: Arc<dyn headwater_store::Store> = slow.clone();
    let first = jobs(&as_store, &clock).await;
    let new = NewJob::new(JobKind::Function, "f", "ada");
    let (_, guard) = first.record(new).await.expect("a call");
    let id = guard.id();
    let held = slow.turn.lock().await;
    let mut told = std::pin::pin!(guard.finish_stored(Ok(Value::Null)));
    while slow.waiting.load(Ordering::SeqCst) == 0 {
        assert!(futures::poll!(told.as_mut()).is_pending());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(futures::poll!(told.as_mut()).is_pending(), "nothing is stored yet");
    drop(held);
    assert!(told.await.is_none());
    slow.fail();
    let second = jobs(&store, &clock).await;
    assert_eq!(second.job(id).await.expect("a job").status, JobStatus::Succeeded);
}

#[tokio::test]
async fn the_end_of_a_commit_is_visible_when_its_client_has_the_response() {
    let (store, clock) = (memory(), clock());
    let slow = Mortal::new(&store, i64::MAX, Dying::Before);
    let as_store: Arc<dyn headwater_store::Store> = slow.clone();
    let jobs = jobs(&as_store, &clock).await;
    let new = NewJob::new(JobKind::Commit, "create a view", "ada");
    let (_, guard) = jobs.record(new).await.expect("a commit");
    let id = guard.id();
    let held = slow.turn.lock().await;
    guard.finish(Ok(Value::Null));
    assert_eq!(jobs.job(id).await.expect("a job").status, JobStatus::Succeeded);
    drop(held);
    jobs.flush().await.expect("written");
    let second = self::jobs(&store, &clock).await;
    assert_eq!(second.job(id).await.expect("a job").status, JobStatus::Succeeded);
}

#[tokio::test]
async fn a_query_is_cancelled_when_its_caller_disconnects() {
    let (store, clock) = (memory(), clock());
    let jobs = jobs(&store, &clock).await;
    let new = NewJob::new(JobKind::Query, "SELECT 1", "ada");
    let (context, guard) = jobs.record(new).await.expect("a query");
    drop(guard);
    assert_eq!(jobs.wait(context.id()).await.expect("a job").status, JobStatus::Cancelled);
}

#[tokio::test]
async fn lists_are_newest_first_and_filtered() {
    let (store, clock) = (memory(), clock());
    let jobs = jobs(&store, &clock).await;
    let mut ids = Vec::new();
    for kind in [JobKind::Query, JobKind::Import, JobKind::Query, JobKind::Import] {
        clock.advance(Duration::from_mins(1));
        let (_, guard) = jobs.record(NewJob::new(kind, "x", "ada")).await.expect("a job");
        ids.push(guard.id());
        let failed = Err(Problem::new(ErrorCode::BadRow, "no"));
        guard.finish(if kind == JobKind::Import { failed } else { Ok(Value::Null) });
    }
    jobs.flush().await.expect("written");
    let (_, running) = jobs.record(NewJob::new(JobKind::Query, "x", "ada")).await.expect("a job");
    ids.push(running.id());
    let list = async |filter: JobFilter| {
        let jobs = jobs.list(&filter).await.expect("jobs");
        jobs.iter().map(|job| ids.iter().position(|id| *id == job.id)).collect::<Vec<_>>()
    };
    let every = JobFilter::default();
    assert_eq!(list(every.clone()).await, [4, 3, 2, 1, 0].map(Some));
    assert_eq!(list(JobFilter { limit: 2, ..every.clone() }).await, [4, 3].map(Some));
    let imports = JobFilter { kinds: vec![JobKind::Import], ..every.clone() };
    assert_eq!(list(imports).await, [3, 1].map(Some));
    let failed = JobFilter { statuses: vec![JobStatus::Failed], ..every.clone() };
    assert_eq!(list(failed).await, [3, 1].map(Some));
    let since = Some(crate::support::time("2026-03-01T00:02:00Z"));
    let until = Some(crate::support::time("2026-03-01T00:04:00Z"));
    assert_eq!(list(JobFilter { since, until, ..every }).await, [2, 1].map(Some));
}

#[tokio::test]
async fn a_list_without_jobs_waits_for_a_visible_job() {
    let (store, clock) = (memory(), clock());
    let jobs = jobs(&store, &clock).await;
    query(&jobs, 1).await;
    let since = Some(crate::support::time("2026-03-01T00:01:00Z"));
    let filter = JobFilter { since, wait: Duration::from_secs(60), ..JobFilter::default() };
    let (handle, wanted) = (jobs.clone(), filter.clone());
    let waiting = tokio::spawn(async move {
        wanted.list_visible(&handle, |job| job.author == "ada").await.expect("jobs")
    });
    tokio::task::yield_now().await;
    clock.advance(Duration::from_mins(1));
    let _hidden = jobs.record(NewJob::new(JobKind::Query, "x", "bob")).await.expect("a job");
    let id = query(&jobs, 2).await;
    let found = waiting.await.expect("no panic");
    assert_eq!(found.iter().map(|job| job.id).collect::<Vec<_>>(), [id]);
    let since = Some(crate::support::time("2026-03-01T00:02:00Z"));
    let short = JobFilter { since, wait: Duration::from_millis(1), ..JobFilter::default() };
    assert!(short.list_visible(&jobs, |_| true).await.expect("jobs").is_empty());
    let long = JobFilter { since, ..filter };
    let (found, ()) = tokio::join!(long.list_visible(&jobs, |_| true), async { jobs.close() });
    assert!(found.expect("jobs").is_empty(), "a server that shuts down does not wait");
}

#[tokio::test]
async fn part_of_an_id_is_enough_unless_it_is_of_several() {
    let (store, clock) = (memory(), clock());
    let jobs = jobs(&store, &clock).await;
    let (one, two) = (query(&jobs, 1).await, query(&jobs, 2).await);
    jobs.flush().await.expect("written");
    assert_eq!(jobs.get(&one.short()).await.expect("a job").id, one);
    assert_eq!(jobs.get(&two.short()[6..]).await.expect("a job").id, two);
    let error = jobs.get(&one.to_string()[..8]).await.expect_err("two begin like this");
    assert!(matches!(&error, Error::AmbiguousJob { matches, .. } if matches.len() == 2));
    let mut wrong = one.short();
    let last = if wrong.pop() == Some('0') { '1' } else { '0' };
    wrong.push(last);
    let error = jobs.get(&wrong).await.expect_err("no such job");
    assert_eq!(error.code(), ErrorCode::JobNotFound);
    assert_eq!(error.hint(), Some(format!("Did you mean `{}`?", one.short())));
    let error = jobs.get("zzz").await.expect_err("no such job");
    assert!(error.hint().expect("a hint").contains("headwater job ls"));
}

fn step(name: &str, status: StepStatus, cpu_us: u64) -> JobEventKind {
    let usage = Usage { cpu_us, wall_ms: 5, ..Usage::default() };
    let report = StepReport {
        reuses: None,
        reasons: Vec::new(),
        step: name.into(),
        kind: "sql".into(),
        status,
        rows: None,
        quarantined: None,
        preview: None,
        usage,
        cost: 0.0,
        error: None,
    };
    JobEventKind::StepEnded { report: Box::new(report) }
}

#[tokio::test]
async fn a_call_is_charged_for_its_run_time_but_not_its_waiting_time() {
    let (store, clock) = (memory(), clock());
    let jobs = jobs(&store, &clock).await;
    let (context, guard) =
        jobs.record(NewJob::new(JobKind::Function, "f", "ada")).await.expect("a call");
    clock.advance(Duration::from_hours(1));
    context.add_usage(&Usage { cpu_us: 600, wall_ms: 5, ..Usage::default() });
    guard.finish(Ok(Value::Null));
    let job = jobs.wait(context.id()).await.expect("a job");
    assert_eq!(job.usage.wall_ms, 5);
}

#[tokio::test]
async fn usage_is_summed_by_day_kind_job_and_model() {
    let (store, clock) = (memory(), clock());
    let first = jobs(&store, &clock).await;
    for day in 0..2 {
        query(&first, 10).await;
        let new = NewJob::new(JobKind::Run, "x", "ada");
        let (context, guard) = first.record(new).await.expect("a run");
        context.emit(step("clean", StepStatus::Succeeded, 500));
        context.emit(step(
            "score",
            if day == 0 { StepStatus::Failed } else { StepStatus::Unchanged },
            100,
        ));
        context.add_usage(&Usage { cpu_us: 600, memory_bytes_peak: 1 << 20, ..Usage::default() });
        clock.advance(Duration::from_millis(1_500));
        guard.finish(Ok(Value::Null));
        clock.advance(Duration::from_hours(24));
    }
    let query_running = first.record(NewJob::new(JobKind::Query, "x", "ada")).await;
    first.flush().await.expect("written");
    let second = jobs(&store, &clock).await;
    let sums = async |since, by: UsageGroup| {
        let lines = second.usage(since, None, by.into()).await.expect("usage");
        let sum = |line: headwater_model::UsageLine| (line.group, line.jobs, line.usage.cpu_us);
        lines.into_iter().map(sum).collect::<Vec<_>>()
    };
    let line = |group: &str, jobs, cpu_us| (group.to_owned(), jobs, cpu_us);
    let days = [line("2026-03-01", 2, 1_600), line("2026-03-02", 2, 1_600)];
    assert_eq!(sums(None, UsageGroup::Day).await[..2], days);
    let since = Some(crate::support::time("2026-03-02T00:00:00Z"));
    assert_eq!(sums(since, UsageGroup::Day).await[0], days[1]);
    let kinds = sums(None, UsageGroup::Kind).await;
    assert_eq!(kinds[1], line("run", 2, 1_200));
    let models = [line("clean", 2, 1_000), line("score", 1, 100)];
    assert_eq!(sums(None, UsageGroup::Model).await, models);
    let both = UsageGrouping { first: UsageGroup::Day, second: Some(UsageGroup::Model) };
    let lines = second.usage(None, None, both).await.expect("usage");
    let names: Vec<_> = lines.iter().map(|line| (&*line.group, line.subgroup.as_deref())).collect();
    let (first_day, second_day) = ("2026-03-01", "2026-03-02");
    let expected = [(first_day, "clean"), (first_day, "score"), (second_day, "clean")];
    assert_eq!(names, expected.map(|(day, model)| (day, Some(model))));
    let lines = second.usage(None, None, UsageGroup::Job.into()).await.expect("usage");
    let run = lines.iter().find(|line| line.usage.memory_bytes_peak > 0).expect("a run");
    assert_eq!((run.usage.wall_ms, run.currency.as_str()), (1_500, "USD"));
    assert!(run.cost > 0.0);
    drop(query_running);
}

#[tokio::test]
async fn old_records_of_queries_become_sums_and_no_usage_is_lost() {
    let (store, clock) = (memory(), clock());
    let options = JobsOptions { queries_kept: 20, ..JobsOptions::default() };
    let first = jobs_with(&store, &clock, options.clone()).await;
    let mut ids = Vec::new();
    for _ in 0..100 {
        ids.push(query(&first, 1).await);
        first.flush().await.expect("written");
        clock.advance(Duration::from_hours(1));
    }
    until("old ones are gone", async || {
        query(&first, 1).await;
        first.flush().await.expect("written");
        let all = JobFilter { limit: 1_000, ..JobFilter::default() };
        let kept = first.list(&all).await.expect("jobs").len();
        (20..=24).contains(&kept)
    })
    .await;
    assert!(matches!(first.job(ids[0]).await, Err(Error::JobNotFound { .. })));
    drop(first);
    let second = jobs_with(&store, &clock, options).await;
    let by_kind = second.usage(None, None, UsageGroup::Kind.into()).await.expect("usage");
    let queries = by_kind.iter().find(|line| line.group == "query").expect("queries");
    assert!(queries.jobs > 100, "{queries:?}");
    assert_eq!(queries.usage.rows_written, queries.jobs);
    let by_day = second.usage(None, None, UsageGroup::Day.into()).await.expect("usage");
    assert_eq!(by_day[0].jobs, 24, "{by_day:?}");
    assert_eq!(by_day.iter().map(|line| line.jobs).sum::<u64>(), queries.jobs);
}

#[tokio::test]
async fn usage_by_function_and_trigger_covers_removed_calls() {
    let (store, clock) = (memory(), clock());
    let options = JobsOptions { queries_kept: 20, ..JobsOptions::default() };
    let first = jobs_with(&store, &clock, options.clone()).await;
    let call = async |new: NewJob| {
        let (context, guard) = first.record(new).await.expect("a call");
        let (wall_ms, memory_bytes_peak) = (1_000, 1 << 30);
        let usage = Usage { wall_ms, memory_bytes_peak, calls: 1, ..Usage::default() };
        context.add_usage(&usage);
        guard.finish(Ok(Value::Null));
        first.flush().await.expect("written");
    };
    for _ in 0..50 {
        call(NewJob::new(JobKind::Function, "price", "ada")).await;
        // The record of a call that was sent to a destination is not a call of a function.
        call(NewJob::new(JobKind::Function, "queue://failed", "ada")).await;
        call(NewJob {
            name: Some("clean".into()),
            trigger: Some("landing".into()),
            ..NewJob::new(JobKind::Function, "landing: a.csv", "trigger landing")
        })
        .await;
    }
    until("old ones are gone", async || {
        query(&first, 1).await;
        first.flush().await.expect("written");
        let all = JobFilter { limit: 1_000, ..JobFilter::default() };
        first.list(&all).await.expect("jobs").len() <= 24
    })
    .await;
    drop(first);
    let second = jobs_with(&store, &clock, options).await;
    let sums = async |since, by: UsageGroup| {
        let lines = second.usage(since, None, by.into()).await.expect("usage");
        let sum = |line: headwater_model::UsageLine| (line.group, line.jobs, line.gib_seconds);
        lines.into_iter().map(sum).collect::<Vec<_>>()
    };
    let line = |group: &str| (group.to_owned(), 50_u64, 50.0_f64);
    assert_eq!(sums(None, UsageGroup::Function).await, [line("clean"), line("price")]);
    assert_eq!(sums(None, UsageGroup::Trigger).await, [line("landing")]);
    let both = UsageGrouping { first: UsageGroup::Function, second: Some(UsageGroup::Day) };
    let lines = second.usage(None, None, both).await.expect("usage");
    let names = |line: headwater_model::UsageLine| (line.group, line.subgroup, line.jobs);
    let by_both: Vec<_> = lines.into_iter().map(names).collect();
    let day = Some("2026-03-01".to_owned());
    assert_eq!(by_both, [("clean".to_owned(), day.clone(), 50_u64), ("price".to_owned(), day, 50)]);
    let later = Some(crate::support::time("2026-03-02T00:00:00Z"));
    assert!(sums(later, UsageGroup::Function).await.is_empty());
}
