//! Bodies of calls: held to a length, to the room that there is for all of them, and to a pace.
//!
//! Tables and values have room apart, so that a large table on its way holds up no call with a few
//! numbers. A body takes room as its bytes come, so that one that says nothing holds up nobody; and one
//! body of each kind may have more than there is, so that there is always one that comes to its end.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::CONTENT_LENGTH;
use bytes::Bytes;
use futures::StreamExt;
use headwater_model::{ErrorCode, Problem};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::failure::{Answer, Failure};

/// The grain of the room, and how much of it there is at least.
const UNIT_BYTES: u64 = 64 << 10;
const UNITS_MIN: usize = 1 << 12;

/// The slowest that a body may come, in bytes a second, after a patience that all have.
const PACE: u64 = 64 << 10;

/// How much is read of a body that is too long, and for how long.
const SKIPPED_BYTES_MAX: usize = 64 << 20;
const SKIPPED_FOR: Duration = Duration::from_secs(10);

/// How much room a body takes beyond what has come of it.
const AHEAD_UNITS: usize = 16;

/// What a body holds.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// A table, which is copied once.
    Table,
    /// Values in JSON, which take many times their bytes once they are read.
    Values,
}

impl Kind {
    /// The longest body, in bytes.
    const fn most(self) -> usize {
        match self {
            Kind::Table => 256 << 20,
            Kind::Values => 8 << 20,
        }
    }

    /// How many times its bytes a body takes.
    const fn weight(self) -> usize {
        match self {
            Kind::Table => 2,
            Kind::Values => 16,
        }
    }
}

/// Room for the bodies of calls.
#[derive(Debug)]
pub struct Bodies {
    tables: Room,
    values: Room,
    patience: Duration,
}

/// Room for the bodies of one kind.
#[derive(Debug)]
struct Room {
    kind: Kind,
    shared: Arc<Semaphore>,
    units: usize,
    /// Who has this one needs no more of the shared.
    last: Arc<Semaphore>,
}

/// The room that a body takes, given back where this is dropped.
#[derive(Debug)]
pub struct Held {
    shared: Option<OwnedSemaphorePermit>,
    last: Option<OwnedSemaphorePermit>,
}

impl Bodies {
    /// Room for so many bytes of tables, and for as many of values. Whoever sends nothing for as long as
    /// `patience`, or sends slowly for longer, is cut.
    pub fn new(bytes: u64, patience: Duration) -> Self {
        let units = usize::try_from(bytes / UNIT_BYTES).unwrap_or(usize::MAX);
        let units = units.clamp(UNITS_MIN, Semaphore::MAX_PERMITS);
        let room = |kind| Room::new(kind, units);
        Bodies { tables: room(Kind::Table), values: room(Kind::Values), patience }
    }

    /// Reads a body, as far as there is room for what it takes.
    pub async fn read(&self, request: Request, kind: Kind) -> Answer<(Bytes, Held)> {
        let said = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        let said = said.and_then(|text| text.parse::<usize>().ok()).unwrap_or(kind.most());
        if said > kind.most() {
            let _ = timeout(SKIPPED_FOR.min(self.patience), skip(request.into_body())).await;
            return Err(too_long(kind));
        }
        let room = match kind {
            Kind::Table => &self.tables,
            Kind::Values => &self.values,
        };
        let mut held = Held { shared: None, last: None };
        let bytes = self.read_at_pace(request.into_body(), (room, said), &mut held).await?;
        room.settle(&mut held, bytes.len());
        Ok((bytes, held))
    }

    async fn read_at_pace(
        &self,
        body: Body,
        (room, most): (&Room, usize),
        held: &mut Held,
    ) -> Answer<Bytes> {
        let (kind, mut begun) = (room.kind, Instant::now());
        let (mut parts, mut read) = (body.into_data_stream(), Vec::new());
        loop {
            let due = begun + self.patience + Duration::from_secs(read.len() as u64 / PACE);
            match timeout_at(due, parts.next()).await {
                Err(_) => return Err(too_slow()),
                Ok(None) => return Ok(read.into()),
                Ok(Some(Ok(part))) if read.len() + part.len() <= most => {
                    let waits = Instant::now();
                    room.grow(held, (read.len() + part.len(), most), self.patience).await?;
                    begun += waits.elapsed();
                    read.extend(part);
                }
                Ok(Some(Ok(_))) => return Err(too_long(kind)),
                Ok(Some(Err(error))) => {
                    let message = format!("the body ended before it was whole: {error}");
                    return Err(Failure::invalid(message, "Send it again."));
                }
            }
        }
    }
}

impl Room {
    fn new(kind: Kind, units: usize) -> Self {
        let longest = units_of(kind, kind.most());
        let units = units.saturating_sub(longest).max(units / 2);
        let (shared, last) = (Arc::new(Semaphore::new(units)), Arc::new(Semaphore::new(1)));
        Room { kind, shared, units, last }
    }

    /// Waits until there is room for so many bytes of a body, which is to have `most` of them.
    async fn grow(
        &self,
        held: &mut Held,
        (bytes, most): (usize, usize),
        patience: Duration,
    ) -> Answer<()> {
        let needed = units_of(self.kind, bytes).min(self.units);
        if needed <= held.units() || held.last.is_some() {
            return Ok(());
        }
        let wanted = (needed + AHEAD_UNITS).min(units_of(self.kind, most)).min(self.units);
        let more = wanted.max(needed) - held.units();
        let more =
            Arc::clone(&self.shared).acquire_many_owned(u32::try_from(more).unwrap_or(u32::MAX));
        tokio::select! {
            biased;
            Ok(more) = more => held.add(more),
            Ok(last) = Arc::clone(&self.last).acquire_owned() => held.last = Some(last),
            () = sleep(patience) => return Err(no_room()),
        }
        Ok(())
    }

    /// Gives back what a body that is whole does not take: it may have been shorter than it might.
    fn settle(&self, held: &mut Held, bytes: usize) {
        let needed = units_of(self.kind, bytes).min(self.units);
        let missing = needed.saturating_sub(held.units());
        if let Some(shared) = &mut held.shared {
            drop(shared.split(shared.num_permits().saturating_sub(needed)));
        }
        let more = u32::try_from(missing).unwrap_or(u32::MAX);
        if held.last.is_some()
            && let Ok(more) = Arc::clone(&self.shared).try_acquire_many_owned(more)
        {
            held.add(more);
            held.last = None;
        }
    }
}

impl Held {
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

/// The room that so many bytes take.
fn units_of(kind: Kind, bytes: usize) -> usize {
    let units = (bytes.saturating_mul(kind.weight()) as u64).div_ceil(UNIT_BYTES);
    usize::try_from(units).unwrap_or(usize::MAX).max(1)
}

fn no_room() -> Failure {
    let problem = Problem::new(ErrorCode::TooBusy, "too many bodies of calls are on their way");
    Failure(problem.with_hint("Wait for some of them to end, then try again."))
}

fn too_long(kind: Kind) -> Failure {
    let hint = format!("Send less in one call: {} MiB in this form.", kind.most() >> 20);
    Failure::invalid("the body is longer than this address takes", hint)
}

fn too_slow() -> Failure {
    let problem = Problem::new(ErrorCode::TimeLimit, "the body came too slowly");
    Failure(problem.with_hint("Send it again, or bring the rows into a table first."))
}

/// Reads on and keeps nothing, up to a bound: who is still sending would not see an answer.
async fn skip(body: Body) {
    let (mut rest, mut skipped) = (body.into_data_stream(), 0);
    while let Some(Ok(part)) = rest.next().await {
        skipped += part.len();
        if skipped > SKIPPED_BYTES_MAX {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    fn small() -> Bodies {
        Bodies::new(0, Duration::from_millis(50))
    }

    fn endless() -> Request {
        Request::new(Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>()))
    }

    #[tokio::test]
    async fn who_sends_nothing_is_cut_and_holds_up_nobody() {
        let bodies = Arc::new(small());
        let waiting = Arc::clone(&bodies);
        let slow = tokio::spawn(async move { waiting.read(endless(), Kind::Table).await.err() });
        tokio::task::yield_now().await;
        let short = Request::new(Body::from("{}"));
        let (bytes, room) = bodies.read(short, Kind::Values).await.expect("a body");
        assert_eq!(&bytes[..], b"{}");
        drop(room);
        let failure = slow.await.expect("a task").expect("a failure");
        assert_eq!(failure.0.code, ErrorCode::TimeLimit);
        let table = Request::new(Body::from("rows"));
        assert!(bodies.read(table, Kind::Table).await.is_ok(), "its room is free again");
    }

    #[tokio::test]
    async fn a_short_body_without_a_length_keeps_little_room() {
        let bodies = small();
        let unsaid = || {
            let parts = stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"{}"))]);
            Request::new(Body::from_stream(parts))
        };
        let mut held = Vec::new();
        for _ in 0..100 {
            let read = bodies.read(unsaid(), Kind::Values);
            let read = tokio::time::timeout(Duration::from_secs(10), read).await;
            held.push(read.expect("there is room").expect("a body").1);
        }
    }

    #[tokio::test]
    async fn a_body_without_a_length_is_held_to_the_most() {
        let long = vec![b' '; Kind::Values.most() + 1];
        let parts = stream::iter([Ok::<_, std::io::Error>(Bytes::from(long))]);
        let request = Request::new(Body::from_stream(parts));
        let failure = small().read(request, Kind::Values).await.expect_err("a failure");
        assert!(failure.0.hint.is_some_and(|hint| hint.contains("8 MiB")));
    }

    #[tokio::test]
    async fn a_table_that_says_nothing_holds_no_room() {
        let bodies = Arc::new(Bodies::new(0, Duration::from_secs(60)));
        let waiting = Arc::clone(&bodies);
        let slow = tokio::spawn(async move { waiting.read(endless(), Kind::Table).await.err() });
        tokio::task::yield_now().await;
        let other = Request::new(Body::from(vec![b' '; 1 << 20]));
        let read = timeout(Duration::from_secs(10), bodies.read(other, Kind::Table)).await;
        assert_eq!(read.expect("there is room").expect("a body").0.len(), 1 << 20);
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
    async fn bodies_that_there_is_no_room_for_together_come_to_their_ends() {
        let bodies = Bodies::new(0, Duration::from_secs(60));
        let all = (0..6).map(|_| bodies.read(in_parts(6 << 20), Kind::Values));
        let all = all.map(|read| async { read.await.expect("a body").0.len() });
        let all = timeout(Duration::from_secs(30), futures::future::join_all(all)).await;
        assert_eq!(all.expect("each has its turn"), [6 << 20; 6]);
    }

    #[tokio::test]
    async fn who_finds_no_room_for_long_is_told() {
        let bodies = small();
        let mut held = Vec::new();
        let failure = loop {
            match bodies.read(in_parts(6 << 20), Kind::Values).await {
                Ok((_, room)) => held.push(room),
                Err(failure) => break failure,
            }
        };
        assert_eq!((failure.0.code, held.len()), (ErrorCode::TooBusy, 2));
        held.clear();
        assert!(bodies.read(in_parts(6 << 20), Kind::Values).await.is_ok());
    }

    #[tokio::test]
    async fn a_body_that_is_too_long_and_does_not_come_is_refused() {
        let mut request = endless();
        request.headers_mut().insert(CONTENT_LENGTH, (300 << 20).into());
        let read = timeout(Duration::from_secs(10), small().read(request, Kind::Table)).await;
        let failure = read.expect("nobody waits for it").expect_err("a failure");
        assert!(failure.0.hint.is_some_and(|hint| hint.contains("256 MiB")));
    }
}
