//! Buckets and objects, through the public API: files that remain after interrupted and replaced
//! writes.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use headwater_model::{ErrorCode, Problem, SystemClock};
use headwater_objects::{
    CompletedPart, ContentStream, Error, ListRequest, NewObject, NewUpload, ObjectHeaders,
    ObjectPath, ObjectPrecondition, Objects, UploadTarget,
};
use headwater_store::SqliteStore;

/// Size in bytes of content that is written in several parts.
const LARGE: usize = 20 << 20;

async fn open(folder: &Path) -> Objects {
    let store = SqliteStore::open(&folder.join("lake.db")).await.expect("a store");
    let objects = Objects::local(Arc::new(store), Arc::new(SystemClock), &folder.join("objects"));
    objects.expect("a folder")
}

fn path(key: &str) -> ObjectPath {
    ObjectPath { bucket: "landing".to_owned(), key: key.to_owned() }
}

fn content(bytes: impl Into<Bytes>) -> ContentStream {
    stream::iter([Ok(bytes.into())]).boxed()
}

fn new(key: &str, content: ContentStream) -> NewObject {
    let (headers, condition) = (ObjectHeaders::default(), ObjectPrecondition::Always);
    NewObject { path: path(key), headers, condition, content }
}

async fn put(objects: &Objects, key: &str, bytes: impl Into<Bytes>) {
    objects.put(new(key, content(bytes))).await.expect("an object");
}

async fn read(objects: &Objects, key: &str) -> Vec<u8> {
    let opened = objects.open_object(&path(key), |info| Ok(0..info.size)).await.expect(key);
    let parts: Vec<Bytes> = opened.content.try_collect().await.expect("a content");
    parts.concat()
}

/// Returns the number of files with content of objects.
fn files(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder.join("objects")).expect("a folder");
    let count = |path: &Path| std::fs::read_dir(path).expect("a folder").count();
    entries.map(|entry| count(&entry.expect("an entry").path())).sum()
}

/// Content whose stream fails in the middle.
fn interrupted() -> ContentStream {
    let parts = [Ok(Bytes::from(vec![1; LARGE])), Err(Problem::new(ErrorCode::Internal, "gone"))];
    stream::iter(parts).boxed()
}

#[tokio::test]
async fn an_interrupted_write_changes_nothing_and_leaves_no_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let objects = open(folder.path()).await;
    objects.create_bucket("landing").await.expect("a bucket");
    put(&objects, "a", "before").await;
    let failed = objects.put(new("a", interrupted())).await.expect_err("interrupted");
    assert!(matches!(failed, Error::Content(_)), "{failed}");
    let never = stream::iter([Ok(Bytes::from(vec![1; LARGE]))]).chain(stream::pending());
    let cancelled = objects.put(new("b", never.boxed()));
    let ended = tokio::time::timeout(Duration::from_millis(500), cancelled).await;
    assert!(ended.is_err(), "the content does not end");
    assert_eq!(read(&objects, "a").await, b"before");
    // Open the folder as a new process would after a crash: no write is in progress.
    let objects = open(folder.path()).await;
    objects.collect_garbage_after(Duration::ZERO).await.expect("collected");
    assert_eq!(files(folder.path()), 1);
    assert_eq!(read(&objects, "a").await, b"before");
    let missing = objects.head(&path("b")).await.expect_err("no object");
    assert!(matches!(missing, Error::NoObject { .. }), "{missing}");
}

#[tokio::test]
async fn a_killed_writer_leaves_files_that_are_deleted_later() {
    let folder = tempfile::tempdir().expect("a folder");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let path = folder.path().to_owned();
    // The end of the runtime stops both the write and its clean-up.
    runtime.spawn(async move {
        let objects = open(&path).await;
        objects.create_bucket("landing").await.expect("a bucket");
        let never = stream::iter([Ok(Bytes::from(vec![1; LARGE]))]).chain(stream::pending());
        objects.put(new("a", never.boxed())).await.map(drop)
    });
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while !folder.path().join("objects").exists() || files(folder.path()) == 0 {
        assert!(std::time::Instant::now() < deadline, "no file");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tokio::task::spawn_blocking(move || runtime.shutdown_timeout(Duration::from_secs(5)))
        .await
        .expect("ended");
    let objects = open(folder.path()).await;
    objects.collect_garbage_after(Duration::ZERO).await.expect("collected");
    assert_eq!(files(folder.path()), 0);
    assert!(objects.list(&all()).await.expect("a list").entries.is_empty());
}

#[tokio::test]
async fn a_replaced_content_stays_for_its_readers_and_is_deleted_later() {
    let folder = tempfile::tempdir().expect("a folder");
    let objects = open(folder.path()).await;
    objects.create_bucket("landing").await.expect("a bucket");
    put(&objects, "a", vec![1; LARGE]).await;
    let old = objects.open_object(&path("a"), |info| Ok(0..info.size)).await.expect("opened");
    put(&objects, "a", "new").await;
    assert_eq!(objects.collect_garbage().await.expect("collected"), 0);
    let parts: Vec<Bytes> = old.content.try_collect().await.expect("the old content");
    assert_eq!(parts.concat(), vec![1; LARGE]);
    assert_eq!(objects.collect_garbage_after(Duration::ZERO).await.expect("collected"), 1);
    assert_eq!((files(folder.path()), read(&objects, "a").await), (1, b"new".to_vec()));
    objects.delete(&path("a"), &ObjectPrecondition::Always).await.expect("deleted");
    objects.collect_garbage_after(Duration::ZERO).await.expect("collected");
    assert_eq!(files(folder.path()), 0);
    objects.delete_bucket("landing").await.expect("an empty bucket");
}

#[tokio::test]
async fn an_upload_is_an_object_only_when_it_is_complete() {
    let folder = tempfile::tempdir().expect("a folder");
    let objects = open(folder.path()).await;
    objects.create_bucket("landing").await.expect("a bucket");
    let started = NewUpload { path: path("a"), headers: ObjectHeaders::default() };
    let id = objects.create_upload(started.clone()).await.expect("an upload");
    let target = UploadTarget { path: path("a"), id };
    let mut parts = Vec::new();
    for (number, byte) in [(1, 1), (2, 2)] {
        let part = objects.put_part(&target, number, content(vec![byte; 6 << 20])).await;
        parts.push(CompletedPart { number, etag: part.expect("a part").etag });
    }
    objects.put_part(&target, 2, interrupted()).await.expect_err("interrupted");
    objects.put_part(&target, 3, content("unused")).await.expect("a part");
    objects.head(&path("a")).await.expect_err("not complete");
    // Parts survive a crash.
    let objects = open(folder.path()).await;
    objects.collect_garbage_after(Duration::ZERO).await.expect("collected");
    let info =
        objects.complete(&target, &parts, &ObjectPrecondition::Absent).await.expect("completed");
    assert_eq!(info.size, 12 << 20);
    assert_eq!(
        objects.complete(&target, &parts, &ObjectPrecondition::Absent).await.expect("again"),
        info
    );
    objects.collect_garbage_after(Duration::ZERO).await.expect("collected");
    assert_eq!(files(folder.path()), 2);
    let read = read(&objects, "a").await;
    assert!(
        read[..6 << 20].iter().all(|byte| *byte == 1) && read[6 << 20..].iter().all(|it| *it == 2)
    );

    let id = objects.create_upload(started).await.expect("an upload");
    let aborted = UploadTarget { path: path("a"), id };
    objects.put_part(&aborted, 1, content("part")).await.expect("a part");
    objects.abort(&aborted).await.expect("aborted");
    objects.delete(&path("a"), &ObjectPrecondition::Always).await.expect("deleted");
    objects.collect_garbage_after(Duration::ZERO).await.expect("collected");
    assert_eq!(files(folder.path()), 0);
}

fn all() -> ListRequest {
    ListRequest { bucket: "landing".to_owned(), limit: 1_000, ..ListRequest::default() }
}

#[tokio::test]
async fn pages_and_groups_of_many_keys_are_in_order() {
    let folder = tempfile::tempdir().expect("a folder");
    let objects = open(folder.path()).await;
    objects.create_bucket("landing").await.expect("a bucket");
    let keys: Vec<String> = (0..1_500).map(|n| format!("{}/{n:05}", n % 3)).collect();
    let puts = keys.iter().map(|key| put(&objects, key, ""));
    stream::iter(puts).buffer_unordered(64).collect::<Vec<()>>().await;
    let mut found = Vec::new();
    let mut list = all();
    loop {
        let page = objects.list(&list).await.expect("a page");
        found.extend(page.entries.iter().map(|entry| entry.name().to_owned()));
        list.after = page.next;
        if list.after.is_none() {
            break;
        }
    }
    let mut expected = keys;
    expected.sort();
    assert_eq!(found, expected);
    let delimiter = Some("/".to_owned());
    let groups = objects.list(&ListRequest { delimiter: delimiter.clone(), ..all() }).await;
    let groups = groups.expect("groups");
    let names: Vec<&str> = groups.entries.iter().map(headwater_objects::ListEntry::name).collect();
    assert_eq!((names, &groups.next), (vec!["0/", "1/", "2/"], &None));
    let page = ListRequest { delimiter, limit: 1, after: Some("0/".to_owned()), ..all() };
    let page = objects.list(&page).await.expect("a page");
    assert_eq!((page.entries[0].name(), page.next.as_deref()), ("1/", Some("1/")));
}

#[tokio::test]
async fn of_concurrent_conditional_writes_one_succeeds() {
    let folder = tempfile::tempdir().expect("a folder");
    let objects = open(folder.path()).await;
    objects.create_bucket("landing").await.expect("a bucket");
    let write = |number: usize| {
        let new = NewObject {
            condition: ObjectPrecondition::Absent,
            ..new("a", content(number.to_string()))
        };
        objects.put(new)
    };
    let results = futures::future::join_all((0..8).map(write)).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    let is_refusal = |error: &Error| matches!(error, Error::Precondition { .. });
    assert!(results.iter().filter_map(|result| result.as_ref().err()).all(is_refusal));
}
