//! Messages that a server sends. A task receives the messages, and the event source records them.
//!
//! The task connects, forwards messages to a bounded channel, and requests a poll. When the channel
//! is full, the task stops reading, so that the server holds back further messages. After a
//! failure, the task connects again, with back-off. Each batch of messages has a unique number. So
//! a batch that the store applied although it returned an error is not recorded twice.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use headwater_model::Problem;
use headwater_store::{Error as StoreError, JournalAppend, UniqueKey};
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::back_off::BackOff;
use crate::event_source::{DetectedEvents, NewEvent, SourceContext};
use crate::{Error, Result};

/// Maximum number of messages that wait to be recorded. A message has up to 1 MiB by default.
pub(crate) const MESSAGES_MAX: usize = 100;

/// Maximum time that a first poll waits for the connection.
const CONNECT_WAIT: Duration = Duration::from_secs(3);

/// Prefix of the `scope` of unique keys, each of which identifies a recorded batch.
const STEPS: &str = "trigger_inbox_steps";

/// A connection to a server that sends messages.
#[async_trait]
pub(crate) trait MessageReceiver: Send + 'static {
    /// A message of the server.
    type Message: Send;

    /// Connects, calls [`InboxSender::connected`] and forwards messages. Returns the problem that
    /// ended the connection; `None` if the event source has stopped.
    async fn receive(&mut self, sender: &InboxSender<Self::Message>) -> Option<Problem>;
}

/// The receiving end of the channel.
pub(crate) struct MessageInbox<T> {
    messages: mpsc::Receiver<T>,
    /// Messages that were taken from the channel and are not recorded yet.
    held: Vec<T>,
    /// True if the last attempt to record the messages in `held` failed.
    has_failed: bool,
    state: Arc<InboxState>,
    recorder: IdempotentBatchRecorder,
    _stop: DropGuard,
}

/// The sending end of the channel.
pub(crate) struct InboxSender<T> {
    messages: mpsc::Sender<T>,
    state: Arc<InboxState>,
    wake: Arc<Notify>,
    stop: CancellationToken,
}

#[derive(Debug)]
struct InboxState {
    fault: Mutex<Option<Problem>>,
    /// True after the first attempt to connect.
    attempted: watch::Sender<bool>,
}

impl<T> InboxSender<T> {
    /// Records that the server was reached: clears the problem and requests a poll.
    pub(crate) fn connected(&self) {
        *self.state.fault.lock() = None;
        self.state.attempted.send_replace(true);
        self.wake.notify_one();
    }

    /// Forwards a message. Returns false if the source has stopped.
    pub(crate) async fn send(&self, message: T) -> bool {
        let is_sent = self.messages.send(message).await.is_ok();
        self.wake.notify_one();
        is_sent
    }

    /// Returns true if the source has stopped.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Records a problem that can delay or lose some of the messages.
    pub(crate) fn record_problem(&self, problem: Problem) {
        self.failed(problem);
    }

    fn failed(&self, problem: Problem) {
        *self.state.fault.lock() = Some(problem);
        self.state.attempted.send_replace(true);
        self.wake.notify_one();
    }
}

impl<T: Send + 'static> MessageInbox<T> {
    /// Starts a task that receives messages until the inbox is dropped.
    pub(crate) fn open(
        context: &SourceContext,
        receiver: impl MessageReceiver<Message = T>,
    ) -> Self {
        let stop = context.stop.child_token();
        let (sender, messages) = mpsc::channel(MESSAGES_MAX);
        let state =
            Arc::new(InboxState { fault: Mutex::default(), attempted: watch::channel(false).0 });
        let (state_of_task, wake) = (state.clone(), context.wake.clone());
        let sender =
            InboxSender { messages: sender, state: state_of_task, wake, stop: stop.clone() };
        let options = &context.options;
        let back_off = BackOff::new(options.reconnect_pause, options.reconnect_pause_max);
        tokio::spawn(run(receiver, sender, context.trigger.clone(), back_off));
        let recorder = IdempotentBatchRecorder::new(context);
        let (held, has_failed) = (Vec::new(), false);
        MessageInbox { messages, held, has_failed, state, recorder, _stop: stop.drop_guard() }
    }

    /// Waits until the first attempt to connect has ended, for a limited time.
    pub(crate) async fn attempted(&self) {
        let mut attempted = self.state.attempted.subscribe();
        // At the time limit, go on. The wait cannot fail, because `self.state` holds the sender.
        let _ = tokio::time::timeout(CONNECT_WAIT, attempted.wait_for(|done| *done)).await;
    }

    /// Returns the problem that can delay or lose messages, if any.
    pub(crate) fn fault(&self) -> Option<Problem> {
        self.state.fault.lock().clone()
    }

    /// Takes at most `limit` received messages. Later calls return the same messages and further
    /// messages, until [`MessageInbox::record`] removes them. After a failed recording, calls
    /// return exactly the same messages, because their batch may be stored despite the error.
    pub(crate) fn take(&mut self, limit: usize) -> &[T] {
        if !self.has_failed {
            while self.held.len() < limit.min(MESSAGES_MAX)
                && let Ok(message) = self.messages.try_recv()
            {
                self.held.push(message);
            }
        }
        &self.held
    }

    /// Removes the messages that wait in the channel.
    pub(crate) fn discard(&mut self) {
        while self.messages.try_recv().is_ok() {}
    }

    /// Records the events of the messages that were taken, and removes the messages. If the
    /// recording fails, keeps the messages.
    pub(crate) async fn record(
        &mut self,
        context: &SourceContext,
        events: Vec<NewEvent>,
        entries: Vec<JournalAppend>,
    ) -> Result<Vec<T>> {
        self.has_failed = true;
        self.recorder.record(context, events, entries).await?;
        self.has_failed = false;
        Ok(std::mem::take(&mut self.held))
    }
}

/// Records batches of events. A counter identifies each batch, so that a batch is recorded only
/// once.
#[derive(Debug)]
pub(crate) struct IdempotentBatchRecorder {
    /// Unique id of this recorder. Recorders of other processes have other ids.
    id: String,
    step: u64,
}

impl IdempotentBatchRecorder {
    pub(crate) fn new(context: &SourceContext) -> Self {
        IdempotentBatchRecorder { id: context.log.jobs.new_id().to_string(), step: 0 }
    }

    /// Records a batch, unless an earlier attempt stored it although it returned an error.
    pub(crate) async fn record(
        &mut self,
        context: &SourceContext,
        events: Vec<NewEvent>,
        entries: Vec<JournalAppend>,
    ) -> Result<()> {
        let step = UniqueKey {
            scope: format!("{STEPS}/{}", context.trigger),
            key: format!("{}\n{}", self.id, self.step),
        };
        let detected = DetectedEvents { events, entries, unique: vec![step], is_durable: false };
        match context.record(detected).await {
            Ok(()) => {}
            Err(Error::Store(StoreError::NotUnique { .. })) => context.catch_up().await?,
            Err(error) => return Err(error),
        }
        self.step += 1;
        Ok(())
    }
}

async fn run<R: MessageReceiver>(
    mut receiver: R,
    sender: InboxSender<R::Message>,
    trigger: String,
    mut back_off: BackOff,
) {
    loop {
        let problem = tokio::select! {
            () = sender.stop.cancelled() => return,
            problem = receiver.receive(&sender) => problem,
        };
        let Some(problem) = problem else { return };
        if sender.state.fault.lock().is_none() {
            // The connection was lost after it was established, so the back-off starts again.
            back_off.reset();
            tracing::warn!(%problem, trigger, "the trigger lost the connection to its server");
        }
        sender.failed(problem);
        tokio::select! {
            () = sender.stop.cancelled() => return,
            () = tokio::time::sleep(back_off.next()) => {}
        }
    }
}
