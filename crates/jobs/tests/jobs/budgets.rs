//! Daily budgets of functions: calls, billed time and money.

use std::sync::Arc;
use std::time::Duration;

use crate::support::{Dying, Mortal, clock, jobs, memory};
use headwater_jobs::{CallBudget, Error, JobGuard, Jobs, NewJob};
use headwater_model::{DailyBudget, ErrorCode, JobKind, RateCard, ToProblem, Usage};
use headwater_store::Store;
use serde_json::Value;

/// The time limit of the function in milliseconds.
const TIMEOUT: u64 = 1_000;

fn of(budget: DailyBudget) -> CallBudget {
    let usage_max = Usage { wall_ms: TIMEOUT, cpu_us: TIMEOUT * 1_000, ..Usage::default() };
    CallBudget { function: "f".to_owned(), budget, usage_max }
}

fn calls(limit: u64) -> DailyBudget {
    DailyBudget { calls_per_day: Some(limit), ..DailyBudget::default() }
}

fn new(budget: DailyBudget) -> NewJob {
    NewJob { budget: Some(of(budget)), ..NewJob::new(JobKind::Function, "f", "ada") }
}

async fn start(jobs: &Jobs, budget: DailyBudget) -> Result<JobGuard, Error> {
    jobs.record(new(budget)).await.map(|(_, guard)| guard)
}

/// Calls the function, which runs for some milliseconds.
async fn call(jobs: &Jobs, budget: DailyBudget, wall_ms: u64) -> Result<(), Error> {
    let (context, guard) = jobs.record(new(budget)).await?;
    context.set_usage(Usage { wall_ms, cpu_us: wall_ms * 1_000, ..Usage::default() });
    guard.finish(Ok(Value::Null));
    Ok(())
}

#[tokio::test]
async fn running_and_ended_calls_count_until_midnight() {
    let clock = clock();
    let jobs = jobs(&memory(), &clock).await;
    let budget = calls(2);
    let first = start(&jobs, budget).await.expect("one");
    call(&jobs, budget, 5).await.expect("two");
    let error = start(&jobs, budget).await.map(drop).expect_err("a budget");
    assert_eq!(error.code(), ErrorCode::QuotaExceeded);
    let expected = "function `f` has no budget left for another call today: 2 calls \
                    (`calls_per_day` is 2)";
    assert_eq!(error.to_string(), expected);
    let hint = error.hint().expect("a hint");
    assert!(hint.contains("2026-03-02T00:00:00Z") && hint.contains("`calls_per_day`"), "{hint}");
    first.finish(Ok(Value::Null));
    assert!(start(&jobs, budget).await.is_err());
    // Calls with an empty budget are counted, but not limited.
    call(&jobs, DailyBudget::default(), 5).await.expect("no limit");
    let usage = of(budget).usage_today(&jobs).await.expect("usage");
    assert_eq!((usage.calls, usage.billed_ms, usage.is_exhausted), (3, 10, true));
    clock.advance(Duration::from_hours(24));
    call(&jobs, budget, 5).await.expect("the next day");
    assert_eq!(of(budget).usage_today(&jobs).await.expect("usage").calls, 1);
}

#[tokio::test]
async fn a_call_starts_only_if_its_time_limit_is_left_in_the_budget() {
    let jobs = jobs(&memory(), &clock()).await;
    let budget = DailyBudget { billed_ms_per_day: Some(2_500), ..DailyBudget::default() };
    let first = start(&jobs, budget).await.expect("one");
    let second = start(&jobs, budget).await.expect("two");
    let error = start(&jobs, budget).await.map(drop).expect_err("two calls can use 2,000 ms");
    assert!(error.to_string().contains("2000 ms reserved by running calls"), "{error}");
    assert!(!of(budget).usage_today(&jobs).await.expect("usage").is_exhausted);
    drop((first, second));
    // The reservations of the calls are released, so only the billed time counts.
    call(&jobs, budget, 900).await.expect("0 ms are used");
    call(&jobs, budget, 900).await.expect("900 ms are used");
    assert!(call(&jobs, budget, 900).await.is_err());
    let usage = of(budget).usage_today(&jobs).await.expect("usage");
    assert_eq!((usage.billed_ms, usage.is_exhausted), (1_800, true));
}

#[tokio::test]
async fn a_budget_that_is_too_small_for_a_call_has_another_hint() {
    let jobs = jobs(&memory(), &clock()).await;
    let time = DailyBudget { billed_ms_per_day: Some(500), ..DailyBudget::default() };
    for (budget, expected) in [(time, "lower `timeout`"), (calls(0), "Raise `calls_per_day`")] {
        let error = start(&jobs, budget).await.map(drop).expect_err("a budget");
        let hint = error.hint().expect("a hint");
        assert!(hint.contains("also on other days") && hint.contains(expected), "{hint}");
    }
}

#[tokio::test]
async fn the_cost_of_a_day_never_exceeds_the_budget() {
    let jobs = jobs(&memory(), &clock()).await;
    jobs.set_rate_card(RateCard { cpu_second: 1.0, memory_gib_second: 0.0, ..RateCard::default() });
    let budget = DailyBudget { money_per_day: Some(2.0), ..DailyBudget::default() };
    call(&jobs, budget, 750).await.expect("costs 0.75");
    call(&jobs, budget, 750).await.expect("costs 0.75");
    let error = call(&jobs, budget, 750).await.expect_err("can cost 1");
    assert!(error.to_string().contains("a cost of 1.500000"), "{error}");
    let usage = of(budget).usage_today(&jobs).await.expect("usage");
    assert!((usage.money - 1.5).abs() < 1e-9 && usage.is_exhausted, "{usage:?}");
}

#[tokio::test]
async fn an_ended_call_reserves_nothing_until_its_end_is_stored() {
    let jobs = jobs(&memory(), &clock()).await;
    let budget = calls(2);
    let first = start(&jobs, budget).await.expect("one");
    let ending = first.finish_with(Ok(Value::Null), Vec::new());
    tokio::pin!(ending);
    tokio::select! {
        biased;
        () = &mut ending => panic!("the end was stored without the writer"),
        () = std::future::ready(()) => {}
    }
    call(&jobs, budget, 5).await.expect("two");
    ending.await;
}

#[tokio::test]
async fn a_call_whose_start_cannot_be_stored_does_not_count() {
    let (inner, clock) = (memory(), clock());
    let mortal = Mortal::new(&inner, i64::MAX, Dying::Before);
    let store: Arc<dyn Store> = mortal.clone();
    let jobs = jobs(&store, &clock).await;
    let budget = calls(1);
    // Read the usage of the day first, so that only the write of the job fails.
    of(budget).usage_today(&jobs).await.expect("usage");
    mortal.fail();
    let begun = jobs.begin(jobs.new_id(), &new(budget), Vec::new()).await;
    assert!(begun.is_err(), "the store fails");
    mortal.revive();
    call(&jobs, budget, 5).await.expect("the first call");
}

#[tokio::test]
async fn calls_count_after_the_process_was_killed() {
    let (inner, clock) = (memory(), clock());
    let mortal = Mortal::new(&inner, i64::MAX, Dying::Before);
    let store: Arc<dyn Store> = mortal.clone();
    let first = jobs(&store, &clock).await;
    let budget = calls(2);
    // The end of this call is stored together with the sum of the day.
    let (_, guard) = first.record(new(budget)).await.expect("a call");
    assert!(guard.finish_stored(Ok(Value::Null)).await.is_none());
    first.flush().await.expect("stored");
    // This call runs when the process is killed.
    let begun = first.begin(first.new_id(), &new(budget), Vec::new()).await;
    let (_, running) = begun.expect("a call");
    mortal.fail();

    let second = jobs(&inner, &clock).await;
    let usage = of(budget).usage_today(&second).await.expect("usage");
    assert_eq!((usage.calls, usage.is_exhausted), (2, true));
    assert!(start(&second, budget).await.is_err());
    drop(running);
}
