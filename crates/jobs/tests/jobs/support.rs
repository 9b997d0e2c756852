//! A store with injected failures, and a fixed clock.

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use headwater_jobs::{Jobs, JobsOptions};
use headwater_model::{Clock, FixedClock, ObjectId, Timestamp};
use headwater_store::{
    BatchResult, Error, JournalEntry, KeyRange, MemoryStore, Result, Store, WriteBatch,
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Parses a timestamp.
pub fn time(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

/// Returns a fixed clock at midnight.
pub fn clock() -> Arc<FixedClock> {
    Arc::new(FixedClock::at(time("2026-03-01T00:00:00Z")))
}

/// Returns an empty in-memory store.
pub fn memory() -> Arc<dyn Store> {
    Arc::new(MemoryStore::new())
}

/// Opens jobs over a store.
pub async fn jobs(store: &Arc<dyn Store>, clock: &Arc<FixedClock>) -> Jobs {
    jobs_with(store, clock, JobsOptions::default()).await
}

/// Opens jobs over a store with options.
pub async fn jobs_with(
    store: &Arc<dyn Store>,
    clock: &Arc<FixedClock>,
    options: JobsOptions,
) -> Jobs {
    let clock: Arc<dyn Clock> = clock.clone();
    Jobs::open(store.clone(), clock, options).await.expect("jobs")
}

/// Polls a condition; fails after two minutes.
pub async fn until(what: &str, mut so: impl AsyncFnMut() -> bool) {
    let waited = async {
        while !so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(120), waited).await.is_ok(), "not so: {what}");
}

/// The effect of the call at which the store fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dying {
    /// The call has no effect.
    Before,
    /// The call takes effect, but returns an error.
    After,
}

/// A store that fails at a given call, and at every later call.
#[derive(Debug)]
pub struct Mortal {
    inner: Arc<dyn Store>,
    left: AtomicI64,
    /// Countdown to a single call that fails.
    missed: AtomicI64,
    dying: Dying,
    /// Number of applied batches.
    pub applied: AtomicUsize,
    /// Token that is cancelled once the store has failed.
    pub dead: CancellationToken,
    /// Lock that blocks batches while a test holds it.
    pub turn: tokio::sync::Mutex<()>,
    /// Number of blocked batches.
    pub waiting: AtomicUsize,
    /// The journal whose next scan pauses after its read, until `resumed` is notified.
    pub paused: Mutex<Option<&'static str>>,
    /// Notified when a scan pauses.
    pub reached: Notify,
    pub resumed: Notify,
}

impl Mortal {
    pub fn new(inner: &Arc<dyn Store>, calls: i64, dying: Dying) -> Arc<Self> {
        Arc::new(Mortal {
            inner: inner.clone(),
            left: AtomicI64::new(calls),
            missed: AtomicI64::new(0),
            dying,
            applied: AtomicUsize::new(0),
            dead: CancellationToken::new(),
            turn: tokio::sync::Mutex::default(),
            waiting: AtomicUsize::new(0),
            paused: Mutex::default(),
            reached: Notify::new(),
            resumed: Notify::new(),
        })
    }

    /// Ends the failure of the store.
    pub fn revive(&self) {
        self.left.store(i64::MAX, Ordering::SeqCst);
    }

    /// Makes the store fail from the call with this number on, counted from now.
    pub fn die_at(&self, calls: i64) {
        self.left.store(calls, Ordering::SeqCst);
    }

    /// Makes only the call with this number fail, counted from now.
    pub fn miss(&self, call: i64) {
        self.missed.store(call, Ordering::SeqCst);
    }

    /// Makes every call fail until [`Mortal::revive`].
    pub fn fail(&self) {
        self.left.store(0, Ordering::SeqCst);
    }

    /// Returns two flags for this call: whether it takes effect, and whether it returns success.
    fn call(&self) -> (bool, bool) {
        if self.missed.fetch_sub(1, Ordering::SeqCst) == 1 {
            return (false, false);
        }
        let left = self.left.fetch_sub(1, Ordering::SeqCst);
        if left <= 1 {
            self.dead.cancel();
        }
        (left > 1 || (left == 1 && self.dying == Dying::After), left > 1)
    }

    fn failure<T>() -> Result<T> {
        Err(Error::DiskFull)
    }

    fn check(&self) -> Result<()> {
        if self.call().1 { Ok(()) } else { Self::failure() }
    }
}

#[async_trait]
impl Store for Mortal {
    async fn object(&self, id: &ObjectId) -> Result<Option<Bytes>> {
        self.check()?;
        self.inner.object(id).await
    }

    async fn objects(&self, ids: &[ObjectId]) -> Result<Vec<Option<Bytes>>> {
        self.check()?;
        self.inner.objects(ids).await
    }

    async fn objects_with_prefix(&self, digits: &str, limit: usize) -> Result<Vec<ObjectId>> {
        self.check()?;
        self.inner.objects_with_prefix(digits, limit).await
    }

    async fn reference(&self, name: &str) -> Result<Option<Bytes>> {
        self.check()?;
        self.inner.reference(name).await
    }

    async fn references(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Bytes)>> {
        self.check()?;
        self.inner.references(prefix, after, limit).await
    }

    async fn latest(&self, journal: &str, key: &str) -> Result<Option<JournalEntry>> {
        self.check()?;
        self.inner.latest(journal, key).await
    }

    async fn scan(&self, journal: &str, range: &KeyRange) -> Result<Vec<JournalEntry>> {
        self.check()?;
        let found = self.inner.scan(journal, range).await;
        let pauses = {
            let mut paused = self.paused.lock().expect("a journal");
            paused.take_if(|paused| *paused == journal).is_some()
        };
        if pauses {
            self.reached.notify_one();
            self.resumed.notified().await;
        }
        found
    }

    async fn read(&self, journal: &str, after: u64, limit: usize) -> Result<Vec<JournalEntry>> {
        self.check()?;
        self.inner.read(journal, after, limit).await
    }

    async fn history(
        &self,
        journal: &str,
        key_prefix: &str,
        after: u64,
        limit: usize,
    ) -> Result<Vec<JournalEntry>> {
        self.check()?;
        self.inner.history(journal, key_prefix, after, limit).await
    }

    async fn apply(&self, batch: WriteBatch) -> Result<BatchResult> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let _turn = self.turn.lock().await;
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        let (works, heard) = self.call();
        if !works {
            return Self::failure();
        }
        let applied = self.inner.apply(batch).await?;
        self.applied.fetch_add(1, Ordering::SeqCst);
        if heard { Ok(applied) } else { Self::failure() }
    }

    async fn trim(&self, journal: &str, range: &KeyRange) -> Result<u64> {
        self.check()?;
        self.inner.trim(journal, range).await
    }
}
