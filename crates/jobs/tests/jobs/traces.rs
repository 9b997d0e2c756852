//! Traces of jobs.

use headwater_jobs::{JobsOptions, NewJob};
use headwater_model::JobKind;
use headwater_telemetry::{Telemetry, TelemetryOptions};
use serde_json::Value;

use crate::support::{clock, jobs, jobs_with, memory};

/// Returns options with traces that reach no collector.
fn traced() -> JobsOptions {
    let endpoint = "http://127.0.0.1:9".to_owned();
    let options = TelemetryOptions { endpoint, ..TelemetryOptions::default() };
    let telemetry = Telemetry::start(&options).expect("an export");
    JobsOptions { telemetry, ..JobsOptions::default() }
}

#[tokio::test]
async fn the_trace_of_a_job_is_kept_until_its_end() {
    let jobs = jobs_with(&memory(), &clock(), traced()).await;
    let new = NewJob::new(JobKind::Query, "SELECT 1", "ada");
    let (context, guard) = jobs.record(new).await.expect("a query");
    let id = context.id();
    assert!(jobs.monitor().telemetry().of_job(id).is_some());
    guard.finish(Ok(Value::Null));
    assert_eq!(jobs.monitor().telemetry().of_job(id), None);
}

#[tokio::test]
async fn a_job_that_waits_has_a_trace_after_a_restart() {
    let (store, clock) = (memory(), clock());
    let first = jobs(&store, &clock).await;
    let id = first.submit(NewJob::new(JobKind::Import, "a file", "ada")).await.expect("a job");
    first.flush().await.expect("written");
    drop(first);
    let second = jobs_with(&store, &clock, traced()).await;
    assert!(second.monitor().telemetry().of_job(id).is_some());
    assert_eq!(
        second.monitor().telemetry().of_handler(id),
        second.monitor().telemetry().of_job(id)
    );
}
