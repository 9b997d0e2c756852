//! Shrinking of idle instances: an idle process returns unneeded memory to the kernel. For this,
//! the runtime resumes the paused process briefly. A call that arrives while the process returns
//! memory starts after that, because the process handles its requests in order.

use std::time::{Duration, Instant};

use headwater_sandbox::ResourceUsage;
use tokio::sync::oneshot;

use crate::warm_instance::WarmInstance;
use crate::worker_protocol::WorkerMessage;

/// Idle time of an instance before each attempt to shrink it. With a shorter time, calls would be
/// slower, because returning memory and allocating it again takes some milliseconds.
const REST_AFTER: Duration = Duration::from_secs(5);

/// Time limit of an attempt to shrink, and maximum number of attempts. Both are needed because user
/// code can report the end of its call and then continue to run.
const RUN_MAX: Duration = Duration::from_millis(100);
const TRIES_MAX: u32 = 3;

/// The progress of shrinking one instance.
#[derive(Debug)]
pub(crate) enum ShrinkState {
    /// The process has been idle since this time. The number counts the attempts that have timed
    /// out.
    Awake(Instant, u32),
    /// The process was resumed at this time, and is returning memory. The number counts the
    /// attempts, including this one.
    Running(Instant, u32),
    /// The process is being paused, and the receiver gets the result of the pause. The boxed value
    /// is the state after the pause.
    Stopping(oneshot::Receiver<Option<ResourceUsage>>, Box<ShrinkState>),
    /// No further attempt: the instance has no unneeded memory, or all attempts have timed out.
    Done,
}

impl ShrinkState {
    pub(crate) fn of(warm: &WarmInstance) -> ShrinkState {
        // A process that is not a clone of a zygote shares no memory with one, so it has nothing to
        // return.
        if warm.zygote.is_some() {
            ShrinkState::Awake(Instant::now(), 0)
        } else {
            ShrinkState::Done
        }
    }

    /// Returns true while the process is returning memory or is being paused, so that its next step
    /// is due soon.
    pub(crate) fn is_in_progress(&self) -> bool {
        matches!(self, ShrinkState::Running(..) | ShrinkState::Stopping(..))
    }

    /// Performs the next step if it is due, and returns the new state. Returns `None` if the
    /// process is no longer usable.
    pub(crate) fn next(self, warm: &mut WarmInstance) -> Option<ShrinkState> {
        match self {
            ShrinkState::Awake(since, tries) if since.elapsed() >= REST_AFTER => {
                warm.running.resume().ok()?;
                warm.channel.get_ref().send(b"rest", &[]).ok()?;
                Some(ShrinkState::Running(Instant::now(), tries + 1))
            }
            ShrinkState::Running(since, tries) => {
                let done = has_reported_shrunk(warm);
                if !done && since.elapsed() < RUN_MAX {
                    return Some(ShrinkState::Running(since, tries));
                }
                let again = !done && tries < TRIES_MAX;
                let next = if again {
                    ShrinkState::Awake(Instant::now(), tries)
                } else {
                    ShrinkState::Done
                };
                Some(ShrinkState::Stopping(warm.running.request_pause(&[])?, Box::new(next)))
            }
            ShrinkState::Stopping(mut paused, next) => match paused.try_recv() {
                Ok(taken) => taken.map(|_| *next),
                Err(oneshot::error::TryRecvError::Empty) => {
                    Some(ShrinkState::Stopping(paused, next))
                }
                Err(oneshot::error::TryRecvError::Closed) => None,
            },
            ShrinkState::Awake(..) | ShrinkState::Done => Some(self),
        }
    }
}

/// Returns true if the process has reported that it has returned its memory.
fn has_reported_shrunk(warm: &WarmInstance) -> bool {
    let said = warm.channel.get_ref().receive();
    said.ok().flatten().is_some_and(|said| {
        matches!(serde_json::from_slice(&said.bytes), Ok(WorkerMessage::Rested))
    })
}
