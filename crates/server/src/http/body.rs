//! Bodies of calls: held to a length, to the room that there is for all of them, and to a pace.
//!
//! Tables and values have room apart, so that a large table on its way holds up no call with a few
//! numbers.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::CONTENT_LENGTH;
use bytes::Bytes;
use futures::StreamExt;
use headwater_model::{ErrorCode, Problem};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::failure::{Answer, Failure};

/// The grain of the room, and how much of it there is at least.
const UNIT_BYTES: u64 = 64 << 10;
const UNITS_MIN: usize = 1 << 12;

/// The slowest that a body may come, in bytes a second, after a patience that all have.
const PACE: u64 = 64 << 10;

/// How much is read of a body that is too long.
const SKIPPED_BYTES_MAX: usize = 64 << 20;

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

/// Room for the bodies of calls. Who holds a permit holds the room for what it was given for.
#[derive(Debug)]
pub struct Bodies {
    tables: Arc<Semaphore>,
    values: Arc<Semaphore>,
    units: usize,
    patience: Duration,
}

impl Bodies {
    /// Room for so many bytes of tables, and for as many of values. Whoever sends nothing for as long as
    /// `patience`, or sends slowly for longer, is cut.
    pub fn new(bytes: u64, patience: Duration) -> Self {
        let units = usize::try_from(bytes / UNIT_BYTES).unwrap_or(usize::MAX);
        let units = units.clamp(UNITS_MIN, Semaphore::MAX_PERMITS);
        let room = || Arc::new(Semaphore::new(units));
        Bodies { tables: room(), values: room(), units, patience }
    }

    /// Reads a body, once there is room for what it takes.
    pub async fn read(
        &self,
        request: Request,
        kind: Kind,
    ) -> Answer<(Bytes, OwnedSemaphorePermit)> {
        let said = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        let said = said.and_then(|text| text.parse::<usize>().ok()).unwrap_or(kind.most());
        if said > kind.most() {
            skip(request.into_body()).await;
            return Err(too_long(kind));
        }
        let mut room = self.room_for(kind, said).await;
        let bytes = self.read_at_pace(request.into_body(), kind, said).await?;
        // One that did not say how long it is may have been short.
        let rest = room.num_permits().saturating_sub(self.units_of(kind, bytes.len()));
        drop(room.split(rest));
        Ok((bytes, room))
    }

    async fn read_at_pace(&self, body: Body, kind: Kind, most: usize) -> Answer<Bytes> {
        let begun = Instant::now();
        let (mut parts, mut read) = (body.into_data_stream(), Vec::new());
        loop {
            let due = begun + self.patience + Duration::from_secs(read.len() as u64 / PACE);
            match timeout_at(due, parts.next()).await {
                Err(_) => return Err(too_slow()),
                Ok(None) => return Ok(read.into()),
                Ok(Some(Ok(part))) if read.len() + part.len() <= most => read.extend(part),
                Ok(Some(Ok(_))) => return Err(too_long(kind)),
                Ok(Some(Err(error))) => {
                    let message = format!("the body ended before it was whole: {error}");
                    return Err(Failure::invalid(message, "Send it again."));
                }
            }
        }
    }

    /// The room of so many bytes: at most all that there is.
    fn units_of(&self, kind: Kind, bytes: usize) -> usize {
        let units = (bytes.saturating_mul(kind.weight()) as u64).div_ceil(UNIT_BYTES) as usize;
        units.clamp(1, self.units)
    }

    /// Waits until there is room; for more than there is, until all of it is free.
    async fn room_for(&self, kind: Kind, bytes: usize) -> OwnedSemaphorePermit {
        let room = match kind {
            Kind::Table => &self.tables,
            Kind::Values => &self.values,
        };
        let units = u32::try_from(self.units_of(kind, bytes)).unwrap_or(u32::MAX);
        loop {
            // It is never closed.
            if let Ok(room) = Arc::clone(room).acquire_many_owned(units).await {
                return room;
            }
        }
    }
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
}
