//! Concurrent requests never lose the file of a committed object.
//!
//! A store pauses a request after it has listed records, so that another request runs between this
//! read and the request's commit.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures::channel::oneshot;
use futures::{StreamExt, TryStreamExt, stream};
use headwater_model::SystemClock;
use headwater_objects::{
    CompletedPart, ContentStream, Error, NewObject, NewUpload, ObjectHeaders, ObjectPath,
    ObjectPrecondition, Objects, UploadTarget,
};
use headwater_store::{MemoryStore, Result, Store, StoreWrapper};
use parking_lot::Mutex;
use tokio::sync::Notify;

const GARBAGE: &str = "object-garbage/";
const PARTS: &str = "object-parts/";

/// A store that pauses one list of refs after its read.
#[derive(Debug)]
struct PausingStore {
    inner: MemoryStore,
    /// The prefix of the refs whose next list pauses.
    paused: Mutex<Option<&'static str>>,
    reached: Notify,
    resumed: Notify,
}

#[async_trait]
impl StoreWrapper for PausingStore {
    fn inner(&self) -> &dyn Store {
        &self.inner
    }

    async fn references(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Bytes)>> {
        let found = self.inner.references(prefix, after, limit).await?;
        let pauses = self.paused.lock().take_if(|paused| prefix.starts_with(*paused)).is_some();
        if pauses {
            self.reached.notify_one();
            self.resumed.notified().await;
        }
        Ok(found)
    }
}

/// A lake with the bucket `landing`.
struct Lake {
    folder: tempfile::TempDir,
    store: Arc<PausingStore>,
    objects: Objects,
}

impl Lake {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (reached, resumed) = (Notify::new(), Notify::new());
        let (inner, paused) = (MemoryStore::new(), Mutex::new(None));
        let store = Arc::new(PausingStore { inner, paused, reached, resumed });
        let objects = open(&store, &folder);
        objects.create_bucket("landing").await.expect("a bucket");
        Lake { folder, store, objects }
    }

    /// Runs `work`. Runs `between` after `work` has listed refs with this prefix.
    async fn interleave<T>(
        &self,
        prefix: &'static str,
        work: impl Future<Output = T>,
        between: impl Future<Output = ()>,
    ) -> T {
        *self.store.paused.lock() = Some(prefix);
        let between = async {
            self.store.reached.notified().await;
            between.await;
            self.store.resumed.notify_one();
        };
        tokio::join!(work, between).0
    }

    /// Starts to write the object `a`. The write continues when the returned sender is used.
    async fn start_write(&self) -> (oneshot::Sender<()>, tokio::task::JoinHandle<Option<Error>>) {
        let (finish, finished) = oneshot::channel::<()>();
        let end = stream::once(async move {
            finished.await.expect("a signal");
            Ok(Bytes::from_static(b"end"))
        });
        let content = stream::iter([Ok(Bytes::from_static(b"start "))]).chain(end).boxed();
        let (headers, condition) = (ObjectHeaders::default(), ObjectPrecondition::Always);
        let new = NewObject { path: path(), headers, condition, content };
        let objects = self.objects.clone();
        let write = tokio::spawn(async move { objects.put(new).await.err() });
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.store.inner.references(GARBAGE, None, 1).await.expect("refs").is_empty() {
            assert!(Instant::now() < deadline, "the write has not started");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        (finish, write)
    }

    /// Starts an upload of the object `a` whose first part is `part`.
    async fn start_upload(&self) -> (UploadTarget, Vec<CompletedPart>) {
        let started = NewUpload { path: path(), headers: ObjectHeaders::default() };
        let id = self.objects.create_upload(started).await.expect("an upload");
        let target = UploadTarget { path: path(), id };
        let part = self.objects.put_part(&target, 1, content("part")).await.expect("a part");
        (target, vec![CompletedPart { number: 1, etag: part.etag }])
    }

    /// Deletes all garbage. Returns the content of the object `a`.
    async fn read_after_collection(&self) -> Vec<u8> {
        self.objects.collect_garbage_after(Duration::ZERO).await.expect("collected");
        let opened = self.objects.open_object(&path(), |info| Ok(0..info.size)).await;
        let content = opened.expect("an object").content;
        content.try_collect::<Vec<Bytes>>().await.expect("a content").concat()
    }

    /// Returns the number of files with content.
    fn files(&self) -> usize {
        let entries = std::fs::read_dir(self.folder.path()).expect("a folder");
        let folders = entries.map(|entry| entry.expect("an entry").path());
        folders.map(|path| std::fs::read_dir(path).expect("a folder").count()).sum()
    }
}

fn open(store: &Arc<PausingStore>, folder: &tempfile::TempDir) -> Objects {
    Objects::local(store.clone(), Arc::new(SystemClock), folder.path()).expect("a folder")
}

fn path() -> ObjectPath {
    ObjectPath { bucket: "landing".to_owned(), key: "a".to_owned() }
}

fn content(text: &'static str) -> ContentStream {
    stream::iter([Ok(Bytes::from_static(text.as_bytes()))]).boxed()
}

#[tokio::test]
async fn an_object_committed_during_a_garbage_collection_keeps_its_file() {
    let lake = Lake::new().await;
    let (finish, write) = lake.start_write().await;
    let collect = lake.objects.collect_garbage_after(Duration::ZERO);
    let commit = async {
        finish.send(()).expect("a write");
        assert!(write.await.expect("a result").is_none());
    };
    let deleted = lake.interleave(GARBAGE, collect, commit).await.expect("collected");
    assert_eq!(deleted, 0);
    assert_eq!(lake.read_after_collection().await, b"start end");
}

#[tokio::test]
async fn a_write_fails_if_another_process_deletes_its_file_before_the_commit() {
    let lake = Lake::new().await;
    let (finish, write) = lake.start_write().await;
    // Another handle has another list of active writes, as another process would.
    let other = open(&lake.store, &lake.folder);
    assert_eq!(other.collect_garbage_after(Duration::ZERO).await.expect("collected"), 1);
    finish.send(()).expect("a write");
    let failed = write.await.expect("a result").expect("no file");
    assert!(matches!(failed, Error::Conflict { .. }), "{failed}");
    let missing = lake.objects.head(&path()).await.expect_err("no object");
    assert!(matches!(missing, Error::NoObject { .. }), "{missing}");
    assert_eq!(lake.files(), 0, "the file was complete only after the other process deleted it");
}

#[tokio::test]
async fn a_part_repeated_during_the_completion_does_not_break_the_object() {
    let lake = Lake::new().await;
    let (target, parts) = lake.start_upload().await;
    let complete = lake.objects.complete(&target, &parts, &ObjectPrecondition::Always);
    let repeat = async {
        lake.objects.put_part(&target, 1, content("part")).await.expect("a part");
    };
    lake.interleave(PARTS, complete, repeat).await.expect("completed");
    assert_eq!(lake.read_after_collection().await, b"part");
    assert_eq!(lake.files(), 1);
}

#[tokio::test]
async fn a_part_stored_during_the_completion_leaves_no_file() {
    let lake = Lake::new().await;
    let (target, parts) = lake.start_upload().await;
    let complete = lake.objects.complete(&target, &parts, &ObjectPrecondition::Always);
    let store = async {
        lake.objects.put_part(&target, 2, content("late")).await.expect("a part");
    };
    lake.interleave(PARTS, complete, store).await.expect("completed");
    assert_eq!(lake.read_after_collection().await, b"part");
    assert_eq!(lake.files(), 1);
}

#[tokio::test]
async fn an_upload_completed_during_its_abort_keeps_its_files() {
    let lake = Lake::new().await;
    let (target, parts) = lake.start_upload().await;
    let complete = async {
        let completed = lake.objects.complete(&target, &parts, &ObjectPrecondition::Always).await;
        completed.expect("completed");
    };
    let aborted = lake.interleave(PARTS, lake.objects.abort(&target), complete).await;
    let error = aborted.expect_err("the upload is complete");
    assert!(matches!(error, Error::NoUpload { .. }), "{error}");
    assert_eq!(lake.read_after_collection().await, b"part");
}
