//! Objects of other object stores. Each version of an object becomes one event, even after restarts
//! and crashes. A poll lists a bounded number of pages.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::future::join_all;
use headwater_model::{Actor, ErrorCode, Event, Problem, Timestamp, Trigger};
use headwater_store::Store;
use headwater_triggers::{ConnectionPolicy, PageRequest, RemoteBuckets, RemoteObject, Triggers};
use serde_json::{Value, json};

use crate::external_servers::{Outside, until_fault};
use crate::support::{Dying, Mortal, until};

/// A bucket in memory.
#[derive(Default)]
struct Bucket {
    /// The entity tags by key.
    objects: Mutex<BTreeMap<String, String>>,
    /// Number of listed pages.
    pages: Mutex<usize>,
    /// The error of all requests, if any.
    problem: Mutex<Option<Problem>>,
}

impl Bucket {
    fn put(&self, key: &str, etag: &str) {
        self.objects.lock().expect("objects").insert(key.to_owned(), etag.to_owned());
    }

    fn fail(&self, problem: Option<Problem>) {
        *self.problem.lock().expect("a problem") = problem;
    }
}

#[async_trait]
impl RemoteBuckets for Bucket {
    async fn list(&self, bucket: &str, page: &PageRequest) -> Result<Vec<RemoteObject>, Problem> {
        assert_eq!(bucket, "s3://partner");
        *self.pages.lock().expect("pages") += 1;
        if let Some(problem) = self.problem.lock().expect("a problem").clone() {
            return Err(problem);
        }
        let objects = self.objects.lock().expect("objects");
        let follows = |key: &String| page.after.as_ref().is_none_or(|after| key > after);
        let listed = objects.iter().filter(|(key, _)| follows(key)).take(page.limit);
        let modified: Timestamp = "2026-03-01T00:00:00Z".parse().expect("a time");
        let object = |(key, etag): (&String, &String)| RemoteObject {
            key: key.clone(),
            size: 1,
            etag: etag.clone(),
            modified,
        };
        Ok(listed.map(object).collect())
    }
}

fn trigger(more: &Value) -> Trigger {
    let mut bucket = json!({"name": "s3://partner"});
    bucket.as_object_mut().expect("keys").extend(more.as_object().expect("keys").clone());
    let trigger = json!({"name": "partner", "run": true, "bucket": bucket});
    serde_json::from_value(trigger).expect("a trigger")
}

fn outside(bucket: &Arc<Bucket>) -> Outside {
    let remote: Arc<dyn RemoteBuckets> = bucket.clone();
    Outside { remote: Some(remote), ..Outside::new() }
}

impl Outside {
    /// The keys and entity tags of the delivered events, in order of their keys.
    fn versions(&self) -> Vec<(String, String)> {
        let events = self.events();
        let objects = events.iter().filter_map(Event::object);
        let mut found: Vec<_> =
            objects.map(|object| (object.key.clone(), object.etag.clone())).collect();
        found.sort();
        found
    }
}

fn version(key: &str, etag: &str) -> (String, String) {
    (key.to_owned(), etag.to_owned())
}

async fn until_versions(triggers: &Triggers, outside: &Outside, expected: &[(String, String)]) {
    until("all versions are delivered", async || {
        // The store of a process that crashed returns errors.
        let _ = triggers.tick().await;
        outside.versions().len() >= expected.len()
    })
    .await;
    assert_eq!(outside.versions(), expected);
}

#[tokio::test]
async fn each_version_of_an_object_is_one_event_over_restarts() {
    let bucket = Arc::<Bucket>::default();
    for key in ["in/a.csv", "in/b.csv", "in/c.txt", "in/folder/", "other/d.csv"] {
        bucket.put(key, "1");
    }
    let outside = outside(&bucket);
    let source = trigger(&json!({"prefix": "in/", "suffix": ".csv"}));
    let first = outside.start(source.clone()).await;
    let expected = [version("in/a.csv", "1"), version("in/b.csv", "1")];
    until_versions(&first, &outside, &expected).await;
    let event = outside.events().remove(0);
    assert_eq!(
        (event.source.as_str(), event.subject.as_deref()),
        ("s3://partner", Some("in/a.csv"))
    );
    let object = event.object().expect("an object");
    assert_eq!((&*object.bucket, &*object.uri), ("partner", "s3://partner/in/a.csv"));
    first.stop();

    bucket.put("in/b.csv", "2");
    let second = outside.start(source).await;
    let expected = [expected.to_vec(), vec![version("in/b.csv", "2")]].concat();
    until_versions(&second, &outside, &expected).await;
    for _ in 0..3 {
        second.tick().await.expect("a tick");
    }
    assert_eq!(outside.versions(), expected);
    // An earlier version that is stored again is a new change.
    bucket.put("in/b.csv", "1");
    until("the change is delivered", async || {
        second.tick().await.expect("a tick");
        outside.versions().len() == 4
    })
    .await;
}

#[tokio::test]
async fn a_poll_lists_a_bounded_number_of_pages() {
    let bucket = Arc::<Bucket>::default();
    for number in 0..12_500 {
        bucket.put(&format!("other/{number:06}"), "1");
    }
    bucket.put("z.csv", "1");
    let outside = outside(&bucket);
    let triggers = outside.start(trigger(&json!({"suffix": ".csv"}))).await;
    let pages = || *bucket.pages.lock().expect("pages");
    for _ in 0..4 {
        let before = pages();
        triggers.tick().await.expect("a tick");
        // A pass has 13 pages, so it needs two polls.
        assert!((3..=10).contains(&(pages() - before)), "{} pages", pages() - before);
    }
    until_versions(&triggers, &outside, &[version("z.csv", "1")]).await;
}

#[tokio::test]
async fn a_store_that_fails_is_a_fault_until_it_answers_again() {
    let bucket = Arc::<Bucket>::default();
    bucket.put("a.csv", "1");
    bucket.fail(Some(Problem::new(ErrorCode::Unavailable, "the store does not answer")));
    let outside = outside(&bucket);
    let triggers = outside.start(trigger(&json!({}))).await;
    let fault = until_fault(&triggers, "the store does not answer").await;
    assert_eq!(fault.code, ErrorCode::Unavailable);
    bucket.fail(None);
    until_versions(&triggers, &outside, &[version("a.csv", "1")]).await;
    assert_eq!(triggers.list()[0].error, None);
}

#[tokio::test]
async fn a_user_needs_the_right_to_read_the_location() {
    let bucket = Arc::<Bucket>::default();
    bucket.put("in/a.csv", "1");
    let outside = outside(&bucket);
    let policy = ConnectionPolicy::restricted(Actor::Anonymous, Arc::new(|_: &str| false));
    let source = vec![trigger(&json!({"prefix": "in/"}))];
    let triggers = outside.open_for(&outside.store, source, policy).await.expect("triggers");
    let fault = until_fault(&triggers, "may not read `s3://partner/in`").await;
    assert_eq!(fault.code, ErrorCode::Forbidden);
    assert_eq!(*bucket.pages.lock().expect("pages"), 0);
}

#[tokio::test]
async fn a_crash_at_any_call_of_the_store_loses_and_doubles_no_object() {
    let calls = 1..=4;
    let cases = calls.flat_map(|calls| [(calls, Dying::Before), (calls, Dying::After)]);
    join_all(cases.map(|(calls, dying)| crash_at(calls, dying))).await;
}

async fn crash_at(calls: i64, dying: Dying) {
    let bucket = Arc::<Bucket>::default();
    let outside = outside(&bucket);
    let source = vec![trigger(&json!({}))];
    let mortal = Mortal::new(&outside.store, i64::MAX, dying);
    let as_store: Arc<dyn Store> = mortal.clone();
    let first = outside.open(&as_store, source.clone()).await.expect("the first process");
    mortal.die_at(calls);
    let expected: Vec<_> = (0..5).map(|number| version(&format!("{number}.csv"), "1")).collect();
    for (key, etag) in &expected {
        bucket.put(key, etag);
    }
    until("the store failed", async || {
        let _ = first.tick().await;
        mortal.dead.is_cancelled()
    })
    .await;
    first.stop();
    let second = outside.open(&outside.store, source).await.expect("the second process");
    until_versions(&second, &outside, &expected).await;
}
