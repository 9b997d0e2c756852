//! Triggers, from detection to delivery.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::support::{clock, jobs, memory, time, until};
use crate::targets::{Tables, by_hand, file, trigger};
use chrono::TimeDelta;
use headwater_jobs::{JobFilter, Jobs};
use headwater_model::{
    Clock, ErrorCode, FixedClock, JobStatus, SystemClock, ToProblem, Trigger, TriggerEventStatus,
};
use headwater_store::Store;
use headwater_triggers::{Error, TriggerEventFilter, Triggers, TriggersOptions};
use serde_json::json;
use tempfile::TempDir;

struct Stage {
    dir: TempDir,
    store: Arc<dyn Store>,
    clock: Arc<FixedClock>,
    tables: Arc<Tables>,
    jobs: Jobs,
    triggers: Triggers,
}

impl Stage {
    async fn new(definitions: Vec<Trigger>) -> Self {
        let (store, clock, tables) = (memory(), clock(), Arc::new(Tables::default()));
        let dir = tempfile::tempdir().expect("a folder");
        let jobs = jobs(&store, &clock).await;
        let triggers = by_hand(&store, &clock, &jobs, dir.path(), &tables).await.expect("triggers");
        let stage = Stage { dir, store, clock, tables, jobs, triggers };
        stage.triggers.reload(definitions).await.expect("definitions");
        stage
    }

    /// Ends the process and starts another.
    async fn again(self, definitions: Vec<Trigger>) -> Self {
        self.triggers.stop();
        let jobs = jobs(&self.store, &self.clock).await;
        let triggers = by_hand(&self.store, &self.clock, &jobs, self.dir.path(), &self.tables);
        let triggers = triggers.await.expect("triggers");
        let stage = Stage { jobs, triggers, ..self };
        stage.triggers.reload(definitions).await.expect("definitions");
        stage
    }

    fn file(&self, name: &str, text: &str) {
        file(&self.dir.path().join(name), text);
    }

    async fn tick(&self) {
        self.triggers.tick().await.expect("a tick");
    }

    /// Polls, waits until files are complete, polls again and delivers.
    async fn settle(&self) {
        self.tick().await;
        self.clock.advance(Duration::from_secs(1));
        self.tick().await;
    }

    async fn statuses(&self) -> Vec<(TriggerEventStatus, u32)> {
        let events = self.triggers.events(&TriggerEventFilter::default()).await.expect("events");
        events.iter().map(|event| (event.status, event.attempts)).collect()
    }
}

fn watched() -> Trigger {
    trigger(json!({"name": "landing", "files": {"folder": "in"}, "retries": 2}))
}

fn scheduled(cron: &str, catchup: &str) -> Trigger {
    let schedule = json!({"cron": cron, "timezone": "Europe/Berlin", "catchup": catchup});
    trigger(json!({"name": "nightly", "schedule": schedule}))
}

#[tokio::test]
async fn a_file_becomes_one_event_one_job_and_one_commit() {
    let stage = Stage::new(vec![watched()]).await;
    stage.file("in/a.csv", "1");
    stage.tick().await;
    assert_eq!(stage.tables.tries(), 0, "it may still be written");
    stage.clock.advance(Duration::from_secs(1));
    stage.tick().await;
    let path = stage.dir.path().join("in/a.csv").display().to_string();
    assert_eq!(stage.tables.files(), [path.as_str()]);
    stage.settle().await;
    assert_eq!(stage.tables.tries(), 1);
    let events = stage.triggers.events(&TriggerEventFilter::default()).await.expect("events");
    let event = &events[0];
    assert_eq!((event.status, event.attempts), (TriggerEventStatus::Done, 1));
    let file = &event.event.files()[0];
    assert_eq!((&file.path, file.size), (&path, 1));
    assert_eq!(file.uri, format!("file://{path}"));
    assert_eq!(event.event.subject.as_deref(), Some("a.csv"));
    let job = stage.jobs.job(event.job.expect("a job")).await.expect("a job");
    assert_eq!(job.status, JobStatus::Succeeded);
    assert_eq!(job.event.as_deref(), Some(event.event.id.as_str()));
    assert_eq!(job.summary, "landing: 1 file");
    let status = &stage.triggers.list()[0];
    assert_eq!((status.pending, status.done, status.failed), (0, 1, 0));
}

#[tokio::test]
async fn a_filter_selects_files_one_by_one() {
    let filter = json!({"data": {"files": {"size": [{"numeric": [">", 1]}]}},
        "$or": [{"subject": [{"prefix": "a"}]}, {"subject": [{"suffix": ".json"}]}]});
    let stage = Stage::new(vec![Trigger { filter: Some(filter), ..watched() }]).await;
    for (name, text) in [("a.csv", "22"), ("a2.csv", "1"), ("b.csv", "22"), ("b.json", "22")] {
        stage.file(&format!("in/{name}"), text);
    }
    stage.settle().await;
    let path = |name: &str| stage.dir.path().join("in").join(name).display().to_string();
    assert_eq!(stage.tables.files(), [path("a.csv"), path("b.json")]);
    // Files that the filter rejected do not become events after a restart either.
    let stage = stage.again(vec![watched()]).await;
    stage.settle().await;
    assert_eq!(stage.tables.files().len(), 2);
}

#[tokio::test]
async fn a_slowly_written_file_is_accepted_when_it_is_complete() {
    let stage = Stage::new(vec![watched()]).await;
    let mut text = String::new();
    for _ in 0..5 {
        text.push_str("1\n");
        stage.file("in/a.csv", &text);
        stage.clock.advance(Duration::from_millis(900));
        stage.tick().await;
    }
    assert_eq!(stage.tables.tries(), 0);
    stage.settle().await;
    assert_eq!(stage.tables.files().len(), 1);
}

#[tokio::test]
async fn a_new_version_of_a_file_is_a_new_event_and_so_is_the_old_one_again() {
    let stage = Stage::new(vec![watched()]).await;
    for text in ["1", "22", "1"] {
        let path = stage.dir.path().join("in/a.csv");
        file(&path, text);
        let modified = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        std::fs::File::options()
            .append(true)
            .open(path)
            .expect("a file")
            .set_modified(modified)
            .expect("a time");
        stage.settle().await;
    }
    assert_eq!(stage.tables.files().len(), 3);
    let stage = stage.again(vec![watched()]).await;
    stage.settle().await;
    assert_eq!(stage.tables.files().len(), 3, "a restart changes nothing");
}

#[tokio::test]
async fn a_missing_folder_is_an_error_until_it_is_created() {
    let stage = Stage::new(vec![watched()]).await;
    stage.tick().await;
    let error = stage.triggers.list()[0].error.clone().expect("an error");
    assert_eq!(error.code, ErrorCode::FileNotFound);
    assert!(error.hint.is_some());
    stage.file("in/a.csv", "1");
    stage.settle().await;
    assert_eq!(stage.triggers.list()[0].error, None);
    assert_eq!(stage.tables.files().len(), 1);
}

#[tokio::test]
async fn failed_events_are_retried_with_back_off_and_can_be_replayed() {
    let stage = Stage::new(vec![watched()]).await;
    stage.tables.fail(ErrorCode::BadRow, 3);
    stage.file("in/a.csv", "1");
    stage.settle().await;
    assert_eq!(stage.statuses().await, [(TriggerEventStatus::Pending, 1)]);
    stage.file("in/b.csv", "1");
    stage.tick().await;
    assert_eq!(stage.tables.tries(), 1, "the first retry is not due");
    stage.clock.advance(Duration::from_secs(1));
    stage.tick().await;
    assert_eq!(stage.tables.tries(), 2);
    let stage = stage.again(vec![watched()]).await;
    stage.tick().await;
    assert_eq!(stage.tables.tries(), 2, "a restart does not hurry");
    stage.clock.advance(Duration::from_secs(2));
    stage.tick().await;
    stage.settle().await;
    let expected = [(TriggerEventStatus::Done, 1), (TriggerEventStatus::Failed, 3)];
    assert_eq!(stage.statuses().await, expected, "the next one goes on");

    let stage = stage.again(vec![watched()]).await;
    let status = &stage.triggers.list()[0];
    assert_eq!((status.pending, status.done, status.failed), (0, 1, 1));
    let failed = TriggerEventFilter {
        statuses: vec![TriggerEventStatus::Failed],
        ..TriggerEventFilter::default()
    };
    let event = stage.triggers.events(&failed).await.expect("events").remove(0);
    assert_eq!(event.error.clone().map(|error| error.code), Some(ErrorCode::BadRow));
    let replayed = stage.triggers.replay(&event.event.id[24..]).await.expect("a replay");
    assert_eq!(
        (replayed.status, replayed.event),
        (TriggerEventStatus::Pending, event.event.clone())
    );
    stage.tick().await;
    assert_eq!(stage.statuses().await, [(TriggerEventStatus::Done, 1); 2]);
    let error = stage.triggers.replay(&event.event.id).await.expect_err("it is done");
    assert!(matches!(error, Error::EventNotReplayable { .. }));
    let error = stage.triggers.replay("nonsense").await.expect_err("no event");
    assert_eq!(error.code(), ErrorCode::EventNotFound);
}

#[tokio::test]
async fn replaying_an_event_that_waits_makes_it_due() {
    let stage = Stage::new(vec![watched()]).await;
    stage.tables.fail(ErrorCode::Storage, 1);
    stage.file("in/a.csv", "1");
    stage.settle().await;
    let event =
        stage.triggers.events(&TriggerEventFilter::default()).await.expect("events").remove(0);
    stage.triggers.replay(&event.event.id).await.expect("a replay");
    stage.tick().await;
    assert_eq!(stage.statuses().await, [(TriggerEventStatus::Done, 2)]);
}

#[tokio::test]
async fn being_too_busy_does_not_count_and_a_panic_does() {
    let stage = Stage::new(vec![watched()]).await;
    stage.tables.fail(ErrorCode::TooBusy, 4);
    stage.tables.fail(ErrorCode::Internal, 1);
    stage.file("in/a.csv", "1");
    stage.settle().await;
    for _ in 0..4 {
        assert_eq!(stage.statuses().await, [(TriggerEventStatus::Pending, 0)]);
        stage.clock.advance(Duration::from_secs(30));
        stage.tick().await;
    }
    assert_eq!(stage.statuses().await, [(TriggerEventStatus::Pending, 1)]);
    stage.clock.advance(Duration::from_secs(30));
    stage.tick().await;
    assert_eq!(stage.statuses().await, [(TriggerEventStatus::Done, 2)]);
}

#[tokio::test]
async fn triggers_are_reloaded_and_events_of_removed_ones_wait() {
    let stage = Stage::new(vec![watched()]).await;
    stage.tables.fail(ErrorCode::Storage, 1);
    stage.file("in/a.csv", "1");
    stage.settle().await;
    stage.triggers.reload(vec![]).await.expect("no triggers");
    stage.clock.advance(Duration::from_mins(1));
    stage.settle().await;
    assert_eq!(stage.tables.tries(), 1);
    assert_eq!(stage.triggers.list(), []);
    let broken = trigger(json!({"name": "x", "schedule": {"cron": "x"}}));
    let error = stage.triggers.reload(vec![watched(), broken]).await.expect_err("no cron pattern");
    assert_eq!(error.code(), ErrorCode::InvalidProject);
    let twice = stage.triggers.reload(vec![watched(), watched()]).await;
    assert!(matches!(twice, Err(Error::InvalidTrigger { .. })));
    assert_eq!(stage.triggers.list(), [], "a reload that fails changes nothing");
    stage.triggers.reload(vec![watched()]).await.expect("a trigger");
    stage.settle().await;
    assert_eq!(stage.statuses().await, [(TriggerEventStatus::Done, 2)]);
}

#[tokio::test]
async fn the_location_of_a_trigger_is_that_of_the_last_reload() {
    let at = |location: &str| Trigger { defined_at: location.to_owned(), ..watched() };
    let stage = Stage::new(vec![at("headwater.toml:4")]).await;
    assert_eq!(stage.triggers.list()[0].defined_at, "headwater.toml:4");
    stage.triggers.reload(vec![at("functions/clean.py:6")]).await.expect("a trigger");
    assert_eq!(stage.triggers.list()[0].defined_at, "functions/clean.py:6");
}

#[tokio::test]
async fn a_schedule_times_by_the_wall_clock_across_the_change_of_clocks() {
    let stage = Stage::new(vec![scheduled("30 2 * * *", "once")]).await;
    stage.tick().await;
    assert_eq!(stage.triggers.list()[0].next, Some(time("2026-03-01T01:30:00Z")));
    for _ in 0..31 * 24 {
        stage.clock.advance(Duration::from_hours(1));
        stage.tick().await;
    }
    let commits = stage.tables.commits.lock().expect("commits").clone();
    let times: Vec<_> = commits.values().map(|event| event.time).collect();
    assert_eq!(times.len(), 31);
    assert_eq!(times[27], time("2026-03-28T01:30:00Z"));
    assert_eq!(times[28], time("2026-03-29T01:00:00Z"), "half past two does not come");
    assert_eq!(times[29], time("2026-03-30T00:30:00Z"));
}

#[tokio::test]
async fn missed_times_are_skipped_or_fired_once_or_each() {
    for (missed, expected) in [("skip", 1), ("once", 2), ("all", 6)] {
        let definition = || vec![scheduled("0 9 * * *", missed)];
        let stage = Stage::new(definition()).await;
        stage.tick().await;
        stage.clock.advance(Duration::from_hours(12));
        stage.tick().await;
        assert_eq!(stage.tables.tries(), 1);
        stage.clock.advance(Duration::from_hours(120));
        let stage = stage.again(definition()).await;
        stage.tick().await;
        stage.tick().await;
        assert_eq!(stage.tables.tries(), expected, "{missed}");
        let last = stage.tables.tries.lock().expect("tries").last().map(|last| last.time);
        let newest = if missed == "skip" { "2026-03-01T08:00:00Z" } else { "2026-03-06T08:00:00Z" };
        assert_eq!(last, Some(time(newest)), "{missed}");
        stage.clock.advance(Duration::from_hours(24));
        stage.tick().await;
        assert_eq!(stage.tables.tries(), expected + 1, "{missed}: and then it goes on");
    }
}

#[tokio::test]
async fn a_one_off_schedule_fires_once_also_if_no_server_was_running() {
    for (missed, expected) in [("skip", 0), ("once", 1), ("all", 1)] {
        let definition = || vec![scheduled("at(2026-03-02T09:00:00)", missed)];
        let stage = Stage::new(definition()).await;
        stage.tick().await;
        assert_eq!(stage.triggers.list()[0].next, Some(time("2026-03-02T08:00:00Z")));
        stage.clock.advance(Duration::from_hours(96));
        let mut stage = stage.again(definition()).await;
        for _ in 0..3 {
            stage.tick().await;
            assert_eq!(stage.tables.tries(), expected, "{missed}");
            assert_eq!(stage.triggers.list()[0].next, None);
            stage.clock.advance(Duration::from_hours(24));
            stage = stage.again(definition()).await;
        }
        let fired = stage.tables.tries.lock().expect("tries").last().map(|last| last.time);
        assert_eq!(fired, (expected == 1).then(|| time("2026-03-02T08:00:00Z")), "{missed}");
    }
}

#[tokio::test]
async fn a_one_off_schedule_fires_at_its_time_and_not_before() {
    let definition = || vec![scheduled("at(2026-03-01T12:00:00)", "once")];
    let stage = Stage::new(definition()).await;
    for expected in [0, 0, 1, 1] {
        stage.tick().await;
        assert_eq!(stage.tables.tries(), expected);
        stage.clock.advance(Duration::from_hours(6));
    }
    // Neither a restart nor a trigger that is removed and deployed again fires a second time.
    let stage = stage.again(definition()).await;
    stage.tick().await;
    stage.triggers.reload(vec![]).await.expect("no triggers");
    stage.triggers.reload(definition()).await.expect("a trigger");
    stage.tick().await;
    assert_eq!(stage.tables.tries(), 1);
    // Another name and another catch-up policy do not fire the schedule again either.
    let changed = scheduled("at(2026-03-01T12:00:00)", "all");
    let renamed = Trigger { name: "renamed".to_owned(), ..changed.clone() };
    for trigger in [changed, renamed] {
        stage.triggers.reload(vec![trigger.clone()]).await.expect("a trigger");
        stage.tick().await;
        assert_eq!(stage.tables.tries(), 1, "{}", trigger.name);
    }
}

#[tokio::test]
async fn a_changed_schedule_has_no_missed_times() {
    let stage = Stage::new(vec![scheduled("0 9 * * *", "all")]).await;
    stage.tick().await;
    stage.clock.advance(Duration::from_hours(120));
    let stage = stage.again(vec![scheduled("0 10 * * *", "all")]).await;
    stage.tick().await;
    assert_eq!(stage.tables.tries(), 0);
}

#[tokio::test]
async fn missed_times_beyond_the_queue_limit_are_recorded_later() {
    let definition = || vec![scheduled("* * * * *", "all")];
    let stage = Stage::new(definition()).await;
    stage.tick().await;
    let start = stage.clock.now();
    stage.clock.advance(Duration::from_mins(2_500));
    let stage = stage.again(definition()).await;
    for _ in 0..5 {
        stage.tick().await;
    }
    let commits = stage.tables.commits.lock().expect("commits").clone();
    let times: Vec<_> = commits.values().map(|event| event.time).collect();
    let expected = (1..=2_500).map(|minute| start + TimeDelta::minutes(minute));
    assert!(times.into_iter().eq(expected));
}

/// Runs with the system's clock and file notifications.
async fn alive(project: &Path, store: &Arc<dyn Store>, tables: &Arc<Tables>) -> (Jobs, Triggers) {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let jobs = Jobs::open(store.clone(), clock.clone(), headwater_jobs::JobsOptions::default());
    let jobs = jobs.await.expect("jobs");
    let options = TriggersOptions::new(store.clone(), clock, jobs.clone(), project);
    let triggers = Triggers::start(options, tables.clone()).await.expect("triggers");
    (jobs, triggers)
}

#[tokio::test]
async fn new_files_are_detected_after_a_rename_or_a_slow_write() {
    let (dir, store, tables) =
        (tempfile::tempdir().expect("a folder"), memory(), Arc::new(Tables::default()));
    let folder = dir.path().join("in");
    std::fs::create_dir(&folder).expect("a folder");
    let (jobs, triggers) = alive(dir.path(), &store, &tables).await;
    let files = json!({"folder": "in", "debounce": "2s"});
    let definition = trigger(json!({"name": "landing", "files": files}));
    triggers.reload(vec![definition]).await.expect("a trigger");

    file(&folder.join("whole.csv"), "1");
    file(&dir.path().join("elsewhere.csv"), "1");
    std::fs::rename(dir.path().join("elsewhere.csv"), folder.join("renamed.csv"))
        .expect("a rename");
    let mut slow = std::fs::File::create(folder.join("slow.csv")).expect("a file");
    for _ in 0..8 {
        slow.write_all(b"1\n").expect("a line");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    drop(slow);
    until("three files", async || tables.files().len() == 3).await;
    let mut names = tables.files();
    names.sort();
    assert!(names[0].ends_with("renamed.csv") && names[1].ends_with("slow.csv"), "{names:?}");
    assert_eq!(
        tables.tries.lock().expect("tries").iter().flat_map(headwater_model::Event::files).count(),
        3
    );
    triggers.stop();
    jobs.drain(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn an_event_is_retried_after_a_shutdown_but_not_after_a_user_stops_it() {
    struct Hangs;
    #[async_trait::async_trait]
    impl headwater_triggers::TargetExecutor for Hangs {
        async fn execute(
            &self,
            _: &Trigger,
            _: &headwater_model::Event,
            _: Option<&headwater_model::Actor>,
            context: headwater_jobs::JobContext,
        ) -> Result<serde_json::Value, headwater_model::Problem> {
            context.cancelled().cancelled().await;
            Err(headwater_model::Problem::new(ErrorCode::Cancelled, "stopped"))
        }
    }
    for (shutdown, expected) in
        [(true, (TriggerEventStatus::Pending, 0)), (false, (TriggerEventStatus::Failed, 1))]
    {
        let (dir, store) = (tempfile::tempdir().expect("a folder"), memory());
        file(&dir.path().join("in/a.csv"), "1");
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let jobs = Jobs::open(store.clone(), clock.clone(), headwater_jobs::JobsOptions::default());
        let jobs = jobs.await.expect("jobs");
        let options = TriggersOptions::new(store.clone(), clock, jobs.clone(), dir.path());
        let triggers = Triggers::start(options, Arc::new(Hangs)).await.expect("triggers");
        let files = json!({"folder": "in", "debounce": "0s"});
        triggers
            .reload(vec![trigger(json!({"name": "t", "files": files}))])
            .await
            .expect("a trigger");
        let running = async || {
            let filter = JobFilter { statuses: vec![JobStatus::Running], ..JobFilter::default() };
            jobs.list(&filter).await.expect("jobs").first().map(|job| job.id)
        };
        until("it runs", async || running().await.is_some()).await;
        let id = running().await.expect("a job");
        if shutdown {
            triggers.stop();
            jobs.drain(Duration::from_millis(10)).await;
        } else {
            jobs.stop(id).await.expect("a job");
        }
        let status = jobs.wait(id).await.expect("a job").status;
        assert_eq!(status == JobStatus::Interrupted, shutdown);
        until("the event stands where it should", async || {
            let events = triggers.events(&TriggerEventFilter::default()).await.expect("events");
            (events[0].status, events[0].attempts) == expected
        })
        .await;
    }
}
