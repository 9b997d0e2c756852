//! Simulates a crash at one call to the store or the object store. This call may or may not be
//! executed, and all later calls fail.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use headwater_model::ObjectId;
use headwater_store::{BatchResult, JournalEntry, KeyRange, Store, WriteBatch};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult,
};

/// The simulated process: counts calls and fails after the crash.
#[derive(Debug, Clone)]
pub struct SimulatedProcess {
    calls: Arc<AtomicI64>,
    /// The number of the call at which the process crashes.
    last: i64,
    /// True if the call at the crash is executed, although its response is lost.
    done: bool,
    /// The current and the maximum number of concurrent calls.
    under_way: Arc<AtomicI64>,
    most: Arc<AtomicI64>,
}

impl SimulatedProcess {
    /// Creates a process that crashes at the call with this number, counted from 0.
    pub fn until(last: i64, done: bool) -> Self {
        let (under_way, most) = Default::default();
        SimulatedProcess { calls: Arc::default(), last, done, under_way, most }
    }

    /// Creates a process that does not crash.
    pub fn endless() -> Self {
        Self::until(i64::MAX, false)
    }

    pub fn is_over(&self) -> bool {
        self.calls.load(Ordering::SeqCst) > self.last
    }

    /// Returns the number of calls.
    pub fn calls(&self) -> i64 {
        self.calls.load(Ordering::SeqCst)
    }

    /// Returns the maximum number of concurrent calls.
    pub fn at_once(&self) -> i64 {
        self.most.load(Ordering::SeqCst)
    }

    async fn pass<T, E>(
        &self,
        call: impl Future<Output = Result<T, E>>,
        dead: impl FnOnce() -> E,
    ) -> Result<T, E> {
        let number = self.calls.fetch_add(1, Ordering::SeqCst);
        if number < self.last {
            let under_way = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(under_way, Ordering::SeqCst);
            let answer = call.await;
            self.under_way.fetch_sub(1, Ordering::SeqCst);
            return answer;
        }
        if number == self.last && self.done {
            let _ = call.await;
        }
        Err(dead())
    }
}

fn lost() -> headwater_store::Error {
    let source = Arc::new(std::io::Error::other("the process is dead"));
    headwater_store::Error::Storage { what: "go on".into(), source }
}

fn gone() -> object_store::Error {
    object_store::Error::Generic { store: "Crashing", source: "the process is dead".into() }
}

/// A store that fails after the crash.
#[derive(Debug)]
pub struct CrashingStore(pub Arc<dyn Store>, pub SimulatedProcess);

#[async_trait::async_trait]
impl Store for CrashingStore {
    async fn object(&self, id: &ObjectId) -> headwater_store::Result<Option<Bytes>> {
        self.1.pass(self.0.object(id), lost).await
    }

    async fn objects(&self, ids: &[ObjectId]) -> headwater_store::Result<Vec<Option<Bytes>>> {
        self.1.pass(self.0.objects(ids), lost).await
    }

    async fn objects_with_prefix(
        &self,
        digits: &str,
        limit: usize,
    ) -> headwater_store::Result<Vec<ObjectId>> {
        self.1.pass(self.0.objects_with_prefix(digits, limit), lost).await
    }

    async fn reference(&self, name: &str) -> headwater_store::Result<Option<Bytes>> {
        self.1.pass(self.0.reference(name), lost).await
    }

    async fn references(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> headwater_store::Result<Vec<(String, Bytes)>> {
        self.1.pass(self.0.references(prefix, after, limit), lost).await
    }

    async fn latest(
        &self,
        journal: &str,
        key: &str,
    ) -> headwater_store::Result<Option<JournalEntry>> {
        self.1.pass(self.0.latest(journal, key), lost).await
    }

    async fn scan(
        &self,
        journal: &str,
        range: &KeyRange,
    ) -> headwater_store::Result<Vec<JournalEntry>> {
        self.1.pass(self.0.scan(journal, range), lost).await
    }

    async fn read(
        &self,
        journal: &str,
        after: u64,
        limit: usize,
    ) -> headwater_store::Result<Vec<JournalEntry>> {
        self.1.pass(self.0.read(journal, after, limit), lost).await
    }

    async fn history(
        &self,
        journal: &str,
        key_prefix: &str,
        after: u64,
        limit: usize,
    ) -> headwater_store::Result<Vec<JournalEntry>> {
        self.1.pass(self.0.history(journal, key_prefix, after, limit), lost).await
    }

    async fn apply(&self, batch: WriteBatch) -> headwater_store::Result<BatchResult> {
        self.1.pass(self.0.apply(batch), lost).await
    }

    async fn trim(&self, journal: &str, range: &KeyRange) -> headwater_store::Result<u64> {
        self.1.pass(self.0.trim(journal, range), lost).await
    }
}

/// An object store that fails after the crash.
#[derive(Debug)]
pub struct CrashingObjectStore(pub Arc<dyn ObjectStore>, pub SimulatedProcess);

impl std::fmt::Display for CrashingObjectStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Crashing")
    }
}

#[async_trait::async_trait]
impl ObjectStore for CrashingObjectStore {
    async fn put_opts(
        &self,
        to: &Path,
        content: PutPayload,
        how: PutOptions,
    ) -> object_store::Result<PutResult> {
        self.1.pass(self.0.put_opts(to, content, how), gone).await
    }

    async fn put_multipart_opts(
        &self,
        to: &Path,
        how: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.1.pass(self.0.put_multipart_opts(to, how), gone).await
    }

    async fn get_opts(&self, from: &Path, how: GetOptions) -> object_store::Result<GetResult> {
        self.1.pass(self.0.get_opts(from, how), gone).await
    }

    async fn get_ranges(
        &self,
        from: &Path,
        ranges: &[Range<u64>],
    ) -> object_store::Result<Vec<Bytes>> {
        self.1.pass(self.0.get_ranges(from, ranges), gone).await
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        let (inner, life) = (self.0.clone(), self.1.clone());
        let delete = move |path: Path| {
            let (inner, life) = (inner.clone(), life.clone());
            async move {
                life.pass(inner.delete(&path), gone).await?;
                Ok(path)
            }
        };
        paths.and_then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        let (listed, life) = (self.0.list(prefix), self.1.clone());
        let first = async move { life.pass(async { Ok(listed) }, gone).await };
        futures::stream::once(first).try_flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.1.pass(self.0.list_with_delimiter(prefix), gone).await
    }

    async fn copy_opts(
        &self,
        from: &Path,
        to: &Path,
        how: CopyOptions,
    ) -> object_store::Result<()> {
        self.1.pass(self.0.copy_opts(from, to, how), gone).await
    }
}
