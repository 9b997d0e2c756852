//! Limits of users: concurrent jobs, and bytes and money per day.

use std::sync::Arc;
use std::time::Duration;

use crate::support::{Dying, Mortal, clock, jobs, memory, until};
use headwater_jobs::{JobGuard, Jobs, NewJob};
use headwater_model::{ErrorCode, JobKind, Limits, RateCard, ToProblem, Usage};
use headwater_store::{KeyRange, Store};
use serde_json::Value;

/// Returns jobs in which every user has these limits.
fn limited(jobs: Jobs, limits: Limits) -> Jobs {
    jobs.set_limits_of(Arc::new(move |_| limits));
    jobs
}

fn new(user: Option<&str>) -> NewJob {
    NewJob { user: user.map(str::to_owned), ..NewJob::new(JobKind::Query, "SELECT 1", "ada") }
}

async fn start(jobs: &Jobs, user: &str) -> Result<JobGuard, headwater_jobs::Error> {
    jobs.record(new(Some(user))).await.map(|(_, guard)| guard)
}

/// Runs a job that reads some bytes.
async fn read(jobs: &Jobs, user: &str, bytes_read: u64) -> Result<(), headwater_jobs::Error> {
    let (context, guard) = jobs.record(new(Some(user))).await?;
    context.set_usage(Usage { bytes_read, ..Usage::default() });
    guard.finish(Ok(Value::Null));
    Ok(())
}

#[tokio::test]
async fn a_user_has_a_job_limit_and_a_dropped_job_frees_its_permit() {
    let jobs = jobs(&memory(), &clock()).await;
    let jobs = limited(jobs, Limits { jobs: Some(2), ..Limits::default() });
    let first = start(&jobs, "ana").await.expect("one");
    let second = start(&jobs, "ana").await.expect("two");
    let error = start(&jobs, "ana").await.expect_err("a limit");
    assert_eq!(error.code(), ErrorCode::QuotaExceeded);
    let submitted = jobs.submit(NewJob { kind: JobKind::Run, ..new(Some("ana")) }).await;
    assert_eq!(submitted.expect_err("a limit").code(), ErrorCode::QuotaExceeded);
    assert!(jobs.check_quota("ana").await.is_err() && jobs.check_quota("ben").await.is_ok());
    let _other = start(&jobs, "ben").await.expect("of another user");
    let (_, owners) = jobs.record(new(None)).await.expect("the owner has no limit");
    drop(first);
    assert_eq!(jobs.usage_today("ana").await.expect("usage").jobs, 1);
    let _third = start(&jobs, "ana").await.expect("a free permit");
    second.finish(Ok(Value::Null));
    owners.finish(Ok(Value::Null));
    assert_eq!(jobs.usage_today("ana").await.expect("usage").jobs, 1);
}

#[tokio::test]
async fn a_queued_job_counts_also_after_a_restart() {
    let (store, clock) = (memory(), clock());
    let limits = Limits { jobs: Some(1), ..Limits::default() };
    let first = limited(jobs(&store, &clock).await, limits);
    let run = || NewJob { kind: JobKind::Run, ..new(Some("ana")) };
    let id = first.submit(run()).await.expect("a queued run");
    first.drain(Duration::from_secs(1)).await;
    drop(first);
    let second = limited(jobs(&store, &clock).await, limits);
    assert_eq!(second.submit(run()).await.expect_err("a limit").code(), ErrorCode::QuotaExceeded);
    second.stop(id).await.expect("stopped");
    crate::support::until("the permit is free", async || second.submit(run()).await.is_ok()).await;
}

#[tokio::test]
async fn the_usage_of_a_day_survives_a_restart_and_ends_at_midnight() {
    let (store, clock) = (memory(), clock());
    let limits = Limits { bytes_per_day: Some(1_000), ..Limits::default() };
    let first = limited(jobs(&store, &clock).await, limits);
    read(&first, "ana", 600).await.expect("below the limit");
    read(&first, "ana", 600).await.expect("passes the limit");
    assert!(read(&first, "ana", 1).await.is_err());
    read(&first, "ben", 600).await.expect("another user");
    first.flush().await.expect("stored");
    let second = limited(jobs(&store, &clock).await, limits);
    let usage = second.usage_today("ana").await.expect("usage");
    assert_eq!((usage.today.bytes, usage.jobs), (1_200, 0));
    let error = read(&second, "ana", 1).await.expect_err("a limit");
    assert_eq!(error.code(), ErrorCode::QuotaExceeded);
    let ends = usage.day_ends.format("%Y-%m-%dT00:00:00Z").to_string();
    assert!(error.hint().expect("a hint").contains(&ends), "{ends}");
    read(&second, "ben", 600).await.expect("another user");
    clock.advance(Duration::from_hours(24));
    read(&second, "ana", 1).await.expect("the next day");
    assert_eq!(second.usage_today("ana").await.expect("usage").today.bytes, 1);
}

#[tokio::test]
async fn the_cost_of_a_day_is_limited_in_the_currency_of_the_rate_card() {
    let jobs = jobs(&memory(), &clock()).await;
    let jobs = limited(jobs, Limits { money_per_day: Some(2.0), ..Limits::default() });
    jobs.set_rate_card(RateCard { gib_read: 1.0, ..RateCard::default() });
    read(&jobs, "ana", 1 << 30).await.expect("costs 1");
    read(&jobs, "ana", 1 << 30).await.expect("costs 1");
    assert!(read(&jobs, "ana", 1).await.is_err());
    assert!(jobs.usage_today("ana").await.expect("usage").today.money >= 2.0);
}

#[tokio::test]
async fn the_usage_of_a_day_is_stored_at_the_end_of_the_server_without_a_flush() {
    let (store, clock) = (memory(), clock());
    let first = jobs(&store, &clock).await;
    read(&first, "ana", 600).await.expect("a job");
    first.drain(Duration::from_secs(1)).await;
    drop(first);
    let second = jobs(&store, &clock).await;
    assert_eq!(second.usage_today("ana").await.expect("usage").today.bytes, 600);
}

#[tokio::test]
async fn the_usage_of_a_day_is_stored_although_no_later_job_ends() {
    let store = memory();
    let jobs = jobs(&store, &clock()).await;
    read(&jobs, "ana", 600).await.expect("a job");
    let days = async || store.scan("user_days", &KeyRange::default()).await.expect("days").len();
    until("the sum is stored", async || days().await == 1).await;
}

#[tokio::test]
async fn the_usage_of_a_day_is_kept_while_the_store_fails() {
    let (inner, clock) = (memory(), clock());
    let mortal = Mortal::new(&inner, i64::MAX, Dying::Before);
    let store: Arc<dyn Store> = mortal.clone();
    let first = jobs(&store, &clock).await;
    first.usage_today("ana").await.expect("a day in memory");
    mortal.fail();
    read(&first, "ana", 600).await.expect("a job");
    assert!(first.flush().await.is_err());
    mortal.revive();
    first.flush().await.expect("stored");
    let second = jobs(&inner, &clock).await;
    assert_eq!(second.usage_today("ana").await.expect("usage").today.bytes, 600);
}

#[tokio::test]
async fn usage_is_charged_although_the_sum_of_its_day_cannot_be_read() {
    let (inner, clock) = (memory(), clock());
    let first = jobs(&inner, &clock).await;
    read(&first, "ana", 600).await.expect("a job");
    first.flush().await.expect("stored");
    for (ended, is_read_first) in [(1, true), (2, false)] {
        let mortal = Mortal::new(&inner, i64::MAX, Dying::Before);
        let store: Arc<dyn Store> = mortal.clone();
        let limits = Limits { bytes_per_day: Some(600 + ended * 600), ..Limits::default() };
        let next = limited(jobs(&store, &clock).await, limits);
        mortal.fail();
        next.record_ended(&new(Some("ana")), &Usage { bytes_read: 600, ..Usage::default() });
        assert!(next.flush().await.is_err(), "the failure is reported");
        mortal.revive();
        if is_read_first {
            let error = next.check_day_quota("ana").await.expect_err("a limit");
            assert_eq!(error.code(), ErrorCode::QuotaExceeded);
        }
        next.flush().await.expect("stored");
        let last = jobs(&inner, &clock).await;
        let usage = last.usage_today("ana").await.expect("usage");
        assert_eq!(usage.today.bytes, 600 + ended * 600);
    }
}
