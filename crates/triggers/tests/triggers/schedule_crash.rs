//! A crash at every call of the store while a schedule fires over a change of clocks: no scheduled
//! time is skipped, and none fires twice.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::support::{Dying, Mortal, clock, memory, time};
use crate::targets::{Tables, by_hand, trigger};
use headwater_jobs::{Jobs, JobsOptions};
use headwater_model::{Clock, FixedClock, Timestamp, Trigger, TriggerEventStatus};
use headwater_store::Store;
use headwater_triggers::{TriggerEventFilter, Triggers};
use serde_json::json;

/// Three days around a change of clocks in Berlin, and the times at which a schedule fires.
struct Days {
    start: &'static str,
    end: &'static str,
    times: [&'static str; 3],
}

/// The local time 02:30 does not exist on 29 March.
const SPRING: Days = Days {
    start: "2026-03-28T00:00:00Z",
    end: "2026-03-30T06:00:00Z",
    times: ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"],
};

/// The local time 02:30 occurs twice on 25 October.
const AUTUMN: Days = Days {
    start: "2026-10-24T00:00:00Z",
    end: "2026-10-26T06:00:00Z",
    times: ["2026-10-24T00:30:00Z", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"],
};

fn definition() -> Trigger {
    let schedule = json!({"cron": "30 2 * * *", "timezone": "Europe/Berlin", "catchup": "all"});
    trigger(json!({"name": "nightly", "schedule": schedule}))
}

/// Starts a process whose clock has the current time.
async fn open(
    store: &Arc<dyn Store>,
    clock: &Arc<FixedClock>,
    tables: &Arc<Tables>,
) -> headwater_triggers::Result<Triggers> {
    let as_clock: Arc<dyn Clock> = clock.clone();
    let jobs = Jobs::open(store.clone(), as_clock, JobsOptions::default()).await?;
    let triggers = by_hand(store, clock, &jobs, Path::new("/none"), tables).await?;
    triggers.reload(vec![definition()]).await?;
    triggers.tick().await?;
    Ok(triggers)
}

/// A process that polls every hour until `end`.
async fn live(
    store: &Arc<dyn Store>,
    clock: &Arc<FixedClock>,
    tables: &Arc<Tables>,
    end: Timestamp,
) -> headwater_triggers::Result<Triggers> {
    let triggers = open(store, clock, tables).await?;
    while clock.now() < end {
        clock.advance(Duration::from_hours(1));
        triggers.tick().await?;
    }
    Ok(triggers)
}

/// Runs a process that crashes at its store call number `calls`, and another process that
/// continues. Returns true if the first process crashed.
async fn crash_at(calls: i64, dying: Dying, days: &Days) -> bool {
    let (store, clock, tables) = (memory(), clock(), Arc::new(Tables::default()));
    let (start, end) = (time(days.start), time(days.end));
    clock.advance((start - clock.now()).to_std().expect("a later time"));
    // Deploy the trigger before the crash.
    open(&store, &clock, &tables).await.expect("a process").stop();
    let mortal = Mortal::new(&store, calls, dying);
    let as_store: Arc<dyn Store> = mortal.clone();
    let died = tokio::select! {
        biased;
        () = mortal.dead.cancelled() => true,
        lived = live(&as_store, &clock, &tables, end) => {
            lived.is_err() || mortal.dead.is_cancelled()
        }
    };
    mortal.fail();
    // The second process is polled after the end, so that it also repeats interrupted deliveries.
    let end = end + Duration::from_hours(3);
    let triggers = live(&store, &clock, &tables, end).await.expect("the second process");
    let events = triggers.events(&TriggerEventFilter::default()).await.expect("events");
    assert!(events.iter().all(|event| event.status == TriggerEventStatus::Done));
    let mut times: Vec<Timestamp> = events.iter().map(|event| event.event.time).collect();
    times.sort();
    assert_eq!(times, days.times.map(time), "{dying:?} call {calls}");
    let commits = tables.commits.lock().expect("commits").len();
    assert_eq!(commits, days.times.len(), "{dying:?} call {calls}");
    died
}

#[tokio::test]
async fn a_crash_at_any_call_of_the_store_skips_and_doubles_no_scheduled_time() {
    for (days, dying) in [
        (&SPRING, Dying::Before),
        (&SPRING, Dying::After),
        (&AUTUMN, Dying::Before),
        (&AUTUMN, Dying::After),
    ] {
        let mut calls = 1;
        while crash_at(calls, dying, days).await {
            calls += 1;
        }
        assert!(calls > 10, "only {calls} calls");
    }
}
