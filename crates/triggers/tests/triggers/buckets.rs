//! Objects of buckets: each change becomes one event, even if the process crashes at any call of
//! the store.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, stream};
use headwater_jobs::{Jobs, JobsOptions};
use headwater_model::{Clock, Event, FixedClock, Trigger, TriggerEventStatus};
use headwater_objects::{
    CompletedPart, ContentStream, CopyRequest, NewObject, NewUpload, ObjectHeaders, ObjectPath,
    ObjectPrecondition, Objects, UploadTarget,
};
use headwater_store::Store;
use headwater_triggers::{TriggerEventFilter, Triggers, TriggersOptions};
use serde_json::{Value, json};

use crate::support::{Dying, Mortal, clock, memory};
use crate::targets::Tables;

/// Number of objects that the crashing process writes.
const OBJECTS: usize = 6;

fn trigger(bucket: &Value) -> Trigger {
    let trigger = json!({"name": "landing", "run": true, "bucket": bucket});
    serde_json::from_value(trigger).expect("a trigger")
}

fn path(key: &str) -> ObjectPath {
    ObjectPath { bucket: "landing".to_owned(), key: key.to_owned() }
}

fn content(text: &str) -> ContentStream {
    stream::iter([Ok(Bytes::from(text.to_owned()))]).boxed()
}

async fn put(objects: &Objects, key: &str, text: &str) -> headwater_objects::Result<()> {
    let (headers, condition) = (ObjectHeaders::default(), ObjectPrecondition::Always);
    let new = NewObject { path: path(key), headers, condition, content: content(text) };
    objects.put(new).await.map(drop)
}

/// State that survives the end of a process.
struct Outside {
    clock: Arc<FixedClock>,
    tables: Arc<Tables>,
}

impl Outside {
    fn new() -> Self {
        Outside { clock: clock(), tables: Arc::new(Tables::default()) }
    }
}

/// A process with buckets and triggers.
struct Process {
    objects: Objects,
    triggers: Triggers,
    tables: Arc<Tables>,
}

impl Process {
    async fn open(
        store: &Arc<dyn Store>,
        outside: &Outside,
        folder: &Path,
        triggers: Vec<Trigger>,
    ) -> headwater_triggers::Result<Self> {
        let Outside { clock, tables } = outside;
        let as_clock: Arc<dyn Clock> = clock.clone();
        let opened = Objects::local(store.clone(), as_clock.clone(), &folder.join("objects"));
        let objects = opened.expect("a folder");
        let jobs = Jobs::open(store.clone(), as_clock.clone(), JobsOptions::default()).await?;
        let options = TriggersOptions {
            manual: true,
            objects: Some(objects.clone()),
            ..TriggersOptions::new(store.clone(), as_clock, jobs, folder)
        };
        let opened = Triggers::start(options, tables.clone()).await?;
        opened.reload(triggers).await?;
        // Read the position with a first poll, as a deployment does.
        opened.tick().await?;
        Ok(Process { objects, triggers: opened, tables: tables.clone() })
    }

    async fn new(folder: &Path, triggers: Vec<Trigger>) -> Self {
        let opened = Self::open(&memory(), &Outside::new(), folder, triggers).await;
        let process = opened.expect("a process");
        process.objects.create_bucket("landing").await.expect("a bucket");
        process
    }

    /// Returns the delivered events in order.
    async fn events(&self) -> Vec<Event> {
        self.triggers.tick().await.expect("a tick");
        self.tables.commits.lock().expect("commits").values().cloned().collect()
    }
}

fn named(events: &[Event]) -> Vec<String> {
    let name = |event: &Event| {
        let object = event.object().expect("an object");
        format!("{} {}", object.operation.aws_name(), object.key)
    };
    events.iter().map(name).collect()
}

#[tokio::test]
async fn every_operation_is_one_event_and_reading_is_none() {
    let folder = tempfile::tempdir().expect("a folder");
    let bucket = json!({"name": "landing", "events": ["created", "removed"]});
    let process = Process::new(folder.path(), vec![trigger(&bucket)]).await;
    let objects = &process.objects;
    put(objects, "a b.csv", "one").await.expect("a put");
    put(objects, "a b.csv", "other").await.expect("a put");
    let copy = CopyRequest {
        from: path("a b.csv"),
        to: path("copy"),
        headers: None,
        condition: ObjectPrecondition::Always,
    };
    objects.copy(copy).await.expect("a copy");
    let headers = ObjectHeaders::default();
    let new = NewUpload { path: path("parts"), headers };
    let id = objects.create_upload(new).await.expect("an upload");
    let target = UploadTarget { path: path("parts"), id };
    let part = objects.put_part(&target, 1, content("part")).await.expect("a part");
    let parts = [CompletedPart { number: 1, etag: part.etag }];
    objects.complete(&target, &parts, &ObjectPrecondition::Always).await.expect("an object");
    objects.complete(&target, &parts, &ObjectPrecondition::Always).await.expect("the same object");
    objects.head(&path("parts")).await.expect("an object");
    objects.delete(&path("copy"), &ObjectPrecondition::Always).await.expect("a deletion");
    objects.delete(&path("copy"), &ObjectPrecondition::Always).await.expect("no deletion");
    let refused = ObjectPrecondition::Matches("none".to_owned());
    objects.delete(&path("parts"), &refused).await.expect_err("a refusal");

    let events = process.events().await;
    let expected = [
        "ObjectCreated:Put a b.csv",
        "ObjectCreated:Put a b.csv",
        "ObjectCreated:Copy copy",
        "ObjectCreated:CompleteMultipartUpload parts",
        "ObjectRemoved:Delete copy",
    ];
    assert_eq!(named(&events), expected);
    let changed: Vec<_> = events.iter().filter_map(Event::object).collect();
    assert_eq!((changed[0].size, changed[1].size), (3, 5));
    assert_eq!(changed[2].etag, changed[1].etag);
    assert_eq!(changed[0].uri, "s3://landing/a b.csv");
    assert!(changed.is_sorted_by(|one, other| one.sequencer < other.sequencer));
    assert!(changed.iter().all(|one| one.sequencer.len() == 18));
    assert_eq!(events[0].subject.as_deref(), Some("a b.csv"));
    let left = objects.changes(0, 100).await.expect("changes");
    assert_eq!(left, [], "consumed changes are deleted");
}

#[tokio::test]
async fn a_trigger_selects_by_bucket_prefix_suffix_and_event() {
    let folder = tempfile::tempdir().expect("a folder");
    let filter = json!({"name": "landing", "prefix": "in/", "suffix": ".csv"});
    let process = Process::new(folder.path(), vec![trigger(&filter)]).await;
    let objects = &process.objects;
    objects.create_bucket("other").await.expect("a bucket");
    for key in ["in/a.csv", "in/a.txt", "out/a.csv", "in/.csv"] {
        put(objects, key, "x").await.expect("a put");
    }
    objects.delete(&path("in/a.csv"), &ObjectPrecondition::Always).await.expect("a deletion");
    let events = process.events().await;
    assert_eq!(named(&events), ["ObjectCreated:Put in/a.csv", "ObjectCreated:Put in/.csv"]);
}

#[tokio::test]
async fn a_filter_selects_objects_by_the_fields_of_the_event() {
    let folder = tempfile::tempdir().expect("a folder");
    let filter = json!({"subject": [{"wildcard": "in/*.csv"}],
        "data": {"object": {"size": [{"numeric": [">=", 2]}], "operation": ["put"]}}});
    let trigger = Trigger { filter: Some(filter), ..trigger(&json!({"name": "landing"})) };
    let process = Process::new(folder.path(), vec![trigger]).await;
    for (key, text) in [("in/a.csv", "22"), ("in/b.csv", "1"), ("out/c.csv", "22")] {
        put(&process.objects, key, text).await.expect("a put");
    }
    let events = process.events().await;
    assert_eq!(named(&events), ["ObjectCreated:Put in/a.csv"]);
    let left = process.objects.changes(0, 100).await.expect("changes");
    assert_eq!(left, [], "changes that the filter left out are consumed");
}

#[tokio::test]
async fn overlapping_triggers_both_fire_and_a_new_one_starts_at_its_deployment() {
    let folder = tempfile::tempdir().expect("a folder");
    let all = json!({"name": "landing"});
    let process = Process::new(folder.path(), vec![trigger(&all)]).await;
    put(&process.objects, "before", "x").await.expect("a put");
    let second = Trigger { name: "second".to_owned(), ..trigger(&all) };
    process.triggers.reload(vec![trigger(&all), second]).await.expect("a reload");
    let events = process.events().await;
    assert_eq!(named(&events), ["ObjectCreated:Put before"]);
    put(&process.objects, "after", "x").await.expect("a put");
    assert_eq!(process.events().await.len(), 3);
    // Without triggers, no changes are recorded and none remain.
    put(&process.objects, "last", "x").await.expect("a put");
    process.triggers.reload(Vec::new()).await.expect("a reload");
    put(&process.objects, "ignored", "x").await.expect("a put");
    assert_eq!(process.objects.changes(0, 100).await.expect("changes"), []);
}

#[tokio::test]
async fn a_trigger_does_not_fire_for_objects_that_it_caused() {
    let folder = tempfile::tempdir().expect("a folder");
    let all = json!({"name": "landing"});
    let second = Trigger { name: "second".to_owned(), ..trigger(&all) };
    let process = Process::new(folder.path(), vec![trigger(&all), second]).await;
    let (headers, condition) = (ObjectHeaders::default(), ObjectPrecondition::Always);
    let new = NewObject { path: path("out/a.csv"), headers, condition, content: content("x") };
    let caused_by = ["landing".to_owned()];
    process.objects.put_caused(new, &caused_by).await.expect("a put");
    let events = process.events().await;
    assert_eq!(named(&events), ["ObjectCreated:Put out/a.csv"]);
    assert_eq!(events[0].caused_by, caused_by);
    let trigger = Some("second".to_owned());
    let filter = TriggerEventFilter { trigger, ..TriggerEventFilter::default() };
    assert_eq!(process.triggers.events(&filter).await.expect("events").len(), 1);
}

#[tokio::test]
async fn a_missing_bucket_is_an_error_until_it_is_created() {
    let folder = tempfile::tempdir().expect("a folder");
    let triggers = vec![trigger(&json!({"name": "landing"}))];
    let process = Process::open(&memory(), &Outside::new(), folder.path(), triggers).await;
    let process = process.expect("a process");
    let fault = process.triggers.list()[0].error.clone().expect("a fault");
    assert_eq!(fault.message, "bucket `landing` does not exist");
    process.objects.create_bucket("landing").await.expect("a bucket");
    put(&process.objects, "a", "x").await.expect("a put");
    assert_eq!(named(&process.events().await), ["ObjectCreated:Put a"]);
    assert_eq!(process.triggers.list()[0].error, None);
}

/// Puts objects, deletes every third object and delivers their events, until the store fails.
async fn live(store: &Arc<dyn Store>, outside: &Outside, folder: &Path) -> Result<(), String> {
    let bucket = json!({"name": "landing", "events": ["created", "removed"]});
    let opened = Process::open(store, outside, folder, vec![trigger(&bucket)]).await;
    let process = opened.map_err(|error| error.to_string())?;
    for number in 0..OBJECTS {
        let key = number.to_string();
        let put = put(&process.objects, &key, "x").await;
        put.map_err(|error| error.to_string())?;
        if number % 3 == 2 {
            let deleted = process.objects.delete(&path(&key), &ObjectPrecondition::Always).await;
            deleted.map_err(|error| error.to_string())?;
        }
        if number % 2 == 1 {
            process.triggers.tick().await.map_err(|error| error.to_string())?;
        }
    }
    Ok(())
}

/// Runs a process that crashes at its store call number `calls`, and another process that delivers
/// the remaining events. Returns true if the first process crashed.
async fn crash_at(calls: i64, dying: Dying, folder: &Path) -> bool {
    let (store, outside) = (memory(), &Outside::new());
    // Deploy the trigger and create the bucket before the crash.
    let bucket = json!({"name": "landing", "events": ["created", "removed"]});
    let first = Process::open(&store, outside, folder, vec![trigger(&bucket)]).await;
    let objects = first.expect("a process").objects;
    objects.create_bucket("landing").await.expect("a bucket");

    let mortal = Mortal::new(&store, calls, dying);
    let as_store: Arc<dyn Store> = mortal.clone();
    let died = live(&as_store, outside, folder).await.is_err() || mortal.dead.is_cancelled();
    let second = Process::open(&store, outside, folder, vec![trigger(&bucket)]).await;
    let second = second.expect("the second process");
    let names = named(&second.events().await);
    let distinct: BTreeSet<&String> = names.iter().collect();
    assert_eq!(names.len(), distinct.len(), "{dying:?} call {calls}: {names:?}");
    for number in 0..OBJECTS {
        let key = number.to_string();
        let exists = second.objects.head(&path(&key)).await.is_ok();
        let is_event = |name: &str| distinct.contains(&format!("{name} {key}"));
        let (created, removed) = (is_event("ObjectCreated:Put"), is_event("ObjectRemoved:Delete"));
        assert_eq!(exists, created && !removed, "{dying:?} call {calls}, object {key}");
    }
    let every = TriggerEventFilter { limit: 1_000, ..TriggerEventFilter::default() };
    let events = second.triggers.events(&every).await.expect("events");
    assert!(events.iter().all(|event| event.status == TriggerEventStatus::Done));
    died
}

#[tokio::test]
async fn a_crash_at_any_call_of_the_store_loses_and_doubles_no_change() {
    let folder = tempfile::tempdir().expect("a folder");
    for dying in [Dying::Before, Dying::After] {
        let mut calls = 1;
        while crash_at(calls, dying, folder.path()).await {
            calls += 1;
        }
        assert!(calls > 30, "only {calls} calls");
    }
}
