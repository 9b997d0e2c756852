//! Reads the request bodies of calls and writes, with three limits: length, a memory quota for all
//! bodies, and a minimum transfer rate.
//!
//! Tables and JSON values have separate quotas, so that a large table does not delay a call with a
//! few numbers. A body acquires quota as its bytes arrive, so a stalled client holds no quota for
//! bytes that it has not sent. One body of each kind may exceed the quota, so that at least one can
//! be read to its end when the quota is used up.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::extract::Request;
use axum::http::header::CONTENT_LENGTH;
use bytes::Bytes;
use futures::StreamExt;
use headwater_lambda::EVENT_BYTES_MAX;
use headwater_model::{ErrorCode, Problem};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::error::{ErrorResponse, HandlerResult};

/// Unit of the quotas, in bytes.
const UNIT_BYTES: u64 = 64 << 10;

/// Minimum size of a quota, in units of [`UNIT_BYTES`].
const UNITS_MIN: usize = 1 << 12;

/// Minimum transfer rate of a body, in bytes per second. The rate is checked only after the timeout
/// for a body.
const RATE_MIN: u64 = 64 << 10;

/// Maximum number of bytes to read and discard from a body that is too long.
const SKIPPED_BYTES_MAX: usize = 128 << 20;

/// The message of the error for a body that is too long.
const TOO_LONG: &str = "the request body is too long";

/// Maximum time spent reading a body that is too long.
const SKIP_TIMEOUT: Duration = Duration::from_secs(10);

/// Quota that a body acquires in advance for bytes that have not arrived yet, in units of
/// [`UNIT_BYTES`].
const AHEAD_UNITS: usize = 16;

/// The kind of content in a body.
#[derive(Debug, Clone, Copy)]
pub enum BodyKind {
    /// A table. It needs memory for its bytes and for one copy of them.
    Table,
    /// The arguments of a call, as JSON values. Parsed values need many times the memory of their
    /// bytes.
    Call,
    /// Other JSON values, such as messages. They share the quota of calls.
    Values,
}

impl BodyKind {
    /// Returns the maximum length of a body in bytes.
    const fn bytes_max(self) -> usize {
        match self {
            BodyKind::Table => 256 << 20,
            BodyKind::Call => EVENT_BYTES_MAX,
            BodyKind::Values => 8 << 20,
        }
    }

    /// Returns the bytes of memory that a body needs for each of its bytes.
    const fn weight(self) -> usize {
        match self {
            BodyKind::Table => 2,
            BodyKind::Call | BodyKind::Values => 16,
        }
    }
}

/// The memory quotas for request bodies.
#[derive(Debug)]
pub struct BodyQuotas {
    tables: BodyQuota,
    values: BodyQuota,
    /// Maximum length of the body of a call in bytes. The length is smaller on servers with little
    /// memory.
    call_bytes_max: usize,
    timeout: Duration,
}

/// The memory quota for one kind of body.
#[derive(Debug)]
struct BodyQuota {
    kind: BodyKind,
    shared: Arc<Semaphore>,
    units: usize,
    /// The permit to exceed the quota, which only one body can hold at a time.
    last: Arc<Semaphore>,
}

/// The quota that a body holds until the value is dropped.
#[derive(Debug)]
pub struct BodyPermit {
    shared: Option<OwnedSemaphorePermit>,
    last: Option<OwnedSemaphorePermit>,
}

impl BodyQuotas {
    /// Creates quotas of `bytes` for each kind. A body is rejected if no bytes arrive for the time
    /// `timeout`.
    pub fn new(bytes: u64, timeout: Duration) -> Self {
        let units = usize::try_from(bytes / UNIT_BYTES).unwrap_or(usize::MAX);
        let units = units.clamp(UNITS_MIN, Semaphore::MAX_PERMITS);
        // A call with a body of `call_bytes_max` bytes needs at most twice `bytes` of memory. At
        // most two such bodies are in memory at once: one body holds the whole quota, and the other
        // body holds the permit to exceed the quota.
        let call_bytes_max = usize::try_from(bytes / 8).unwrap_or(usize::MAX);
        let call_bytes_max =
            call_bytes_max.clamp(BodyKind::Values.bytes_max(), BodyKind::Call.bytes_max());
        let tables = BodyQuota::new(BodyKind::Table, BodyKind::Table.bytes_max(), units);
        let values = BodyQuota::new(BodyKind::Call, call_bytes_max, units);
        BodyQuotas { tables, values, call_bytes_max, timeout }
    }

    /// Returns the maximum length of a body in bytes.
    pub fn bytes_max(&self, kind: BodyKind) -> usize {
        match kind {
            BodyKind::Call => self.call_bytes_max,
            BodyKind::Table | BodyKind::Values => kind.bytes_max(),
        }
    }

    /// Reads a body. The memory of the body counts against the quota until the permit is dropped.
    pub async fn read(
        &self,
        request: Request,
        kind: BodyKind,
    ) -> HandlerResult<(Bytes, BodyPermit)> {
        let length = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        let bytes_max = self.bytes_max(kind);
        let length = length.and_then(|text| text.parse::<usize>().ok()).unwrap_or(bytes_max);
        if length > bytes_max {
            self.skip(request.into_body().into_data_stream()).await;
            return Err(too_long(bytes_max));
        }
        let quota = match kind {
            BodyKind::Table => &self.tables,
            BodyKind::Call | BodyKind::Values => &self.values,
        };
        let mut permit = BodyPermit { shared: None, last: None };
        let body = request.into_body();
        let read = self.read_within(quota, length, body, &mut permit).await;
        let bytes =
            read.map_err(|error| if is_too_long(&error) { too_long(bytes_max) } else { error })?;
        quota.release_excess(&mut permit, bytes.len());
        Ok((bytes, permit))
    }

    /// Reads and discards the rest of a body, up to limits of length and time. Many clients read
    /// the response, here an error, only after they have sent the whole body.
    pub async fn skip(&self, mut rest: BodyDataStream) {
        let skip = async {
            let mut skipped = 0;
            while let Some(Ok(part)) = rest.next().await {
                skipped += part.len();
                if skipped > SKIPPED_BYTES_MAX {
                    return;
                }
            }
        };
        let _ = timeout(SKIP_TIMEOUT.min(self.timeout), skip).await;
    }

    /// Reads a body of at most `bytes_max` bytes. Fails if the body arrives slower than the minimum
    /// rate.
    async fn read_within(
        &self,
        quota: &BodyQuota,
        bytes_max: usize,
        body: Body,
        permit: &mut BodyPermit,
    ) -> HandlerResult<Bytes> {
        let mut started = Instant::now();
        let (mut parts, mut read) = (body.into_data_stream(), Vec::new());
        loop {
            let due = started + self.timeout + Duration::from_secs(read.len() as u64 / RATE_MIN);
            match timeout_at(due, parts.next()).await {
                Err(_) => return Err(too_slow()),
                Ok(None) => return Ok(read.into()),
                Ok(Some(Ok(part))) if read.len() + part.len() <= bytes_max => {
                    let waiting_since = Instant::now();
                    let bytes = read.len() + part.len();
                    quota.grow(permit, bytes, bytes_max, self.timeout).await?;
                    started += waiting_since.elapsed();
                    read.extend(part);
                }
                Ok(Some(Ok(_))) => {
                    // Release the quota of the body before its rest is read and discarded.
                    drop(read);
                    *permit = BodyPermit { shared: None, last: None };
                    self.skip(parts).await;
                    return Err(too_long(bytes_max));
                }
                Ok(Some(Err(error))) => {
                    let message = format!("the body is incomplete: {error}");
                    return Err(ErrorResponse::invalid(message, "Send the request again."));
                }
            }
        }
    }
}

impl BodyQuota {
    /// Creates a quota. All bodies share `units` minus a reserve. The reserve is for the one body
    /// that may exceed the quota: the units of `bytes_max` bytes, but at most half of `units`.
    fn new(kind: BodyKind, bytes_max: usize, units: usize) -> Self {
        let longest = units_of(kind, bytes_max);
        let units = units.saturating_sub(longest).max(units / 2);
        let (shared, last) = (Arc::new(Semaphore::new(units)), Arc::new(Semaphore::new(1)));
        BodyQuota { kind, shared, units, last }
    }

    /// Waits until `permit` covers the first `bytes` bytes of a body, or allows it to exceed the
    /// quota.
    async fn grow(
        &self,
        permit: &mut BodyPermit,
        bytes: usize,
        bytes_max: usize,
        timeout: Duration,
    ) -> HandlerResult<()> {
        let needed = units_of(self.kind, bytes).min(self.units);
        if needed <= permit.units() || permit.last.is_some() {
            return Ok(());
        }
        let wanted = (needed + AHEAD_UNITS).min(units_of(self.kind, bytes_max)).min(self.units);
        let more = wanted.max(needed) - permit.units();
        let more =
            Arc::clone(&self.shared).acquire_many_owned(u32::try_from(more).unwrap_or(u32::MAX));
        tokio::select! {
            biased;
            Ok(more) = more => permit.add(more),
            Ok(last) = Arc::clone(&self.last).acquire_owned() => permit.last = Some(last),
            () = sleep(timeout) => return Err(quota_exhausted()),
        }
        Ok(())
    }

    /// Releases the quota that a completely received body does not need.
    fn release_excess(&self, permit: &mut BodyPermit, bytes: usize) {
        let needed = units_of(self.kind, bytes).min(self.units);
        let missing = needed.saturating_sub(permit.units());
        if let Some(shared) = &mut permit.shared {
            drop(shared.split(shared.num_permits().saturating_sub(needed)));
        }
        let more = u32::try_from(missing).unwrap_or(u32::MAX);
        if permit.last.is_some()
            && let Ok(more) = Arc::clone(&self.shared).try_acquire_many_owned(more)
        {
            permit.add(more);
            permit.last = None;
        }
    }
}

impl BodyPermit {
    fn units(&self) -> usize {
        self.shared.as_ref().map_or(0, OwnedSemaphorePermit::num_permits)
    }

    fn add(&mut self, more: OwnedSemaphorePermit) {
        match &mut self.shared {
            Some(shared) => shared.merge(more),
            None => self.shared = Some(more),
        }
    }
}

/// Returns the quota that a body with this number of bytes needs, in units of [`UNIT_BYTES`].
fn units_of(kind: BodyKind, bytes: usize) -> usize {
    let units = (bytes.saturating_mul(kind.weight()) as u64).div_ceil(UNIT_BYTES);
    usize::try_from(units).unwrap_or(usize::MAX).max(1)
}

fn quota_exhausted() -> ErrorResponse {
    let message = "the memory quota for request bodies is exhausted";
    let problem = Problem::new(ErrorCode::TooBusy, message);
    ErrorResponse(problem.with_hint("Try again after other requests have ended."))
}

fn too_long(bytes_max: usize) -> ErrorResponse {
    let hint = format!("Send at most {} MiB in one request.", bytes_max >> 20);
    ErrorResponse::invalid(TOO_LONG, hint)
}

/// Returns true if the error reports a body that is too long.
pub fn is_too_long(error: &ErrorResponse) -> bool {
    error.0.message == TOO_LONG
}

fn too_slow() -> ErrorResponse {
    let problem = Problem::new(ErrorCode::TimeLimit, "the request body was sent too slowly");
    ErrorResponse(problem.with_hint("Send the request again, or import the rows into a table."))
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    fn small() -> BodyQuotas {
        BodyQuotas::new(0, Duration::from_millis(50))
    }

    fn endless() -> Request {
        Request::new(Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>()))
    }

    #[tokio::test]
    async fn a_stalled_body_is_rejected_and_takes_no_quota() {
        let bodies = Arc::new(small());
        let waiting = Arc::clone(&bodies);
        let slow =
            tokio::spawn(async move { waiting.read(endless(), BodyKind::Table).await.err() });
        tokio::task::yield_now().await;
        let short = Request::new(Body::from("{}"));
        let (bytes, room) = bodies.read(short, BodyKind::Values).await.expect("a body");
        assert_eq!(&bytes[..], b"{}");
        drop(room);
        let failure = slow.await.expect("a task").expect("a failure");
        assert_eq!(failure.0.code, ErrorCode::TimeLimit);
        let table = Request::new(Body::from("rows"));
        assert!(bodies.read(table, BodyKind::Table).await.is_ok(), "the quota is free again");
    }

    #[tokio::test]
    async fn a_short_body_without_a_length_takes_little_quota() {
        let bodies = small();
        let body = || {
            let parts = stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"{}"))]);
            Request::new(Body::from_stream(parts))
        };
        let mut held = Vec::new();
        for _ in 0..100 {
            let read = bodies.read(body(), BodyKind::Values);
            let read = tokio::time::timeout(Duration::from_secs(10), read).await;
            held.push(read.expect("quota is available").expect("a body").1);
        }
    }

    #[tokio::test]
    async fn a_body_without_a_length_is_limited() {
        let long = vec![b' '; BodyKind::Values.bytes_max() + 1];
        let parts = stream::iter([Ok::<_, std::io::Error>(Bytes::from(long))]);
        let request = Request::new(Body::from_stream(parts));
        let failure = small().read(request, BodyKind::Values).await.expect_err("a failure");
        assert!(failure.0.hint.is_some_and(|hint| hint.contains("8 MiB")));
    }

    #[tokio::test]
    async fn a_call_of_64_mib_is_read_and_a_longer_one_is_rejected() {
        let bodies = BodyQuotas::new(512 << 20, Duration::from_secs(60));
        let (bytes, permit) =
            bodies.read(in_parts(64 << 20), BodyKind::Call).await.expect("a body");
        assert_eq!(bytes.len(), 64 << 20);
        drop((bytes, permit));
        let failure = bodies.read(in_parts(65 << 20), BodyKind::Call).await.expect_err("long");
        assert!(
            is_too_long(&failure) && failure.0.hint.is_some_and(|hint| hint.contains("64 MiB"))
        );
        let failure = bodies.read(in_parts(9 << 20), BodyKind::Values).await.expect_err("long");
        assert!(failure.0.hint.is_some_and(|hint| hint.contains("8 MiB")));
        // The maximum length of a call is lower on a server with little memory.
        let bodies = BodyQuotas::new(128 << 20, Duration::from_secs(60));
        let failure = bodies.read(in_parts(17 << 20), BodyKind::Call).await.expect_err("long");
        assert!(failure.0.hint.is_some_and(|hint| hint.contains("16 MiB")));
    }

    #[tokio::test]
    async fn a_stalled_table_takes_no_quota() {
        let bodies = Arc::new(BodyQuotas::new(0, Duration::from_secs(60)));
        let waiting = Arc::clone(&bodies);
        let slow =
            tokio::spawn(async move { waiting.read(endless(), BodyKind::Table).await.err() });
        tokio::task::yield_now().await;
        let other = Request::new(Body::from(vec![b' '; 1 << 20]));
        let read = timeout(Duration::from_secs(10), bodies.read(other, BodyKind::Table)).await;
        assert_eq!(read.expect("quota is available").expect("a body").0.len(), 1 << 20);
        slow.abort();
    }

    fn in_parts(bytes: usize) -> Request {
        let parts = stream::iter((0..bytes).step_by(64 << 10)).then(|_| async {
            tokio::task::yield_now().await;
            Ok::<_, std::io::Error>(Bytes::from(vec![b' '; 64 << 10]))
        });
        Request::new(Body::from_stream(parts))
    }

    #[tokio::test]
    async fn bodies_that_exceed_the_quota_together_complete() {
        let bodies = BodyQuotas::new(0, Duration::from_secs(60));
        let all = (0..6).map(|_| bodies.read(in_parts(6 << 20), BodyKind::Values));
        let all = all.map(|read| async { read.await.expect("a body").0.len() });
        let all = timeout(Duration::from_secs(30), futures::future::join_all(all)).await;
        assert_eq!(all.expect("all complete"), [6 << 20; 6]);
    }

    #[tokio::test]
    async fn a_body_without_quota_is_rejected_after_the_timeout() {
        let bodies = small();
        let mut held = Vec::new();
        let failure = loop {
            match bodies.read(in_parts(6 << 20), BodyKind::Values).await {
                Ok((_, room)) => held.push(room),
                Err(failure) => break failure,
            }
        };
        assert_eq!((failure.0.code, held.len()), (ErrorCode::TooBusy, 2));
        held.clear();
        assert!(bodies.read(in_parts(6 << 20), BodyKind::Values).await.is_ok());
    }

    #[tokio::test]
    async fn a_stalled_body_that_is_too_long_is_rejected() {
        let mut request = endless();
        request.headers_mut().insert(CONTENT_LENGTH, (300 << 20).into());
        let read = timeout(Duration::from_secs(10), small().read(request, BodyKind::Table)).await;
        let failure = read.expect("no timeout").expect_err("a failure");
        assert!(failure.0.hint.is_some_and(|hint| hint.contains("256 MiB")));
    }
}
