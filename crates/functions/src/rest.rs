//! Rest: a process that has waited for its next call for a while gives back the memory that it holds for
//! nothing.
//!
//! It runs for a moment to do so, and is then stopped again where it is. A call may have it at any time:
//! what it is asked comes in order, whatever it is at.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::spawner::Taken;
use crate::warm::Warm;
use crate::worker::Message;

/// How long a process waits before it rests, and before it tries again: to rest, and to write again what was
/// given back, takes some milliseconds.
const REST_AFTER: Duration = Duration::from_secs(5);

/// How long it may run for it, and how often: user code may say that it waits, and do as it likes.
const RUN_MAX: Duration = Duration::from_millis(100);
const TRIES_MAX: u32 = 3;

/// How far a process has come with it.
#[derive(Debug)]
pub(crate) enum Rest {
    /// Since when it waits, and how often it was not done in time.
    Awake(Instant, u32),
    /// It runs.
    Running(Instant, u32),
    /// It is being stopped.
    Stopping(oneshot::Receiver<Option<Taken>>, Box<Rest>),
    /// It is done.
    Done,
}

impl Rest {
    pub(crate) fn of(warm: &Warm) -> Rest {
        // A fresh process shares nothing with others.
        if warm.zygote.is_some() { Rest::Awake(Instant::now(), 0) } else { Rest::Done }
    }

    /// Whether it is to be looked at soon.
    pub(crate) fn is_under_way(&self) -> bool {
        matches!(self, Rest::Running(..) | Rest::Stopping(..))
    }

    /// What comes next, if it is time for that; none where the process cannot go on.
    pub(crate) fn next(self, warm: &mut Warm) -> Option<Rest> {
        match self {
            Rest::Awake(since, tries) if since.elapsed() >= REST_AFTER => {
                warm.running.resume().ok()?;
                warm.channel.get_ref().send(b"rest", &[]).ok()?;
                Some(Rest::Running(Instant::now(), tries + 1))
            }
            Rest::Running(since, tries) => {
                let done = has_rested(warm);
                if !done && since.elapsed() < RUN_MAX {
                    return Some(Rest::Running(since, tries));
                }
                let again = !done && tries < TRIES_MAX;
                let next = if again { Rest::Awake(Instant::now(), tries) } else { Rest::Done };
                Some(Rest::Stopping(warm.running.ask_to_pause(&[])?, Box::new(next)))
            }
            Rest::Stopping(mut paused, next) => match paused.try_recv() {
                Ok(taken) => taken.map(|_| *next),
                Err(oneshot::error::TryRecvError::Empty) => Some(Rest::Stopping(paused, next)),
                Err(oneshot::error::TryRecvError::Closed) => None,
            },
            Rest::Awake(..) | Rest::Done => Some(self),
        }
    }
}

/// Whether a process has said that it is done.
fn has_rested(warm: &Warm) -> bool {
    let said = warm.channel.get_ref().receive();
    said.ok()
        .flatten()
        .is_some_and(|said| matches!(serde_json::from_slice(&said.bytes), Ok(Message::Rested)))
}
