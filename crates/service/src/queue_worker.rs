//! The worker of an event source mapping: receives messages of a queue, calls a function with them,
//! and deletes the messages that the function has processed.
//!
//! - The messages of a call stay invisible while the function runs.
//! - Messages of a failed call are received again after the visibility timeout of the queue, until
//!   they move to the dead-letter queue.
//! - If the mapping bisects batches, a failed call is repeated with each half of its messages, so
//!   that only the messages that fail alone are received again.
//! - A call that was rejected because of a limit, a missing function or a missing right does not
//!   count as a reception.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use headwater_functions::{Argument, ArgumentValue, FunctionResult, OptionalCallParts, ResultKind};
use headwater_model::{AccessObject, Action, ErrorCode, Principal, Problem, ResultExt};
use headwater_queues::{
    EventSourceMapping, MessageFilter, Queues, ReceiveOptions, ReceivedMessage, batch_bytes,
    failed_message_ids, ordered_group, parse_filters, split_processed,
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::invocation::{CallInput, Invocations};
use crate::service::Components;

/// Default of the maximum number of concurrent calls.
const CONCURRENCY_DEFAULT: u32 = 5;

/// Maximum total size of the messages of a call (bodies and attributes), in bytes.
const BATCH_BYTES_MAX: usize = 6 << 20;

/// Maximum time to wait for a message before the rights are checked again.
const WAIT: Duration = Duration::from_secs(20);

/// Pause after an error: the queue or the function cannot be used.
const FAULT_PAUSE: Duration = Duration::from_secs(5);

/// Pause in seconds before the messages of a call are received again, if a limit rejected the call.
const THROTTLE_PAUSE: u32 = 1;

/// Minimum pause before failed messages are received again, in seconds.
const RETRY_PAUSE_MIN: u32 = 1;

/// Minimum visibility timeout of received messages, in seconds. The timeout is extended while the
/// function runs.
const VISIBILITY_MIN: u32 = 10;

/// The state of a worker that clients can read.
#[derive(Debug, Default)]
pub(crate) struct WorkerState {
    last_result: Mutex<Option<String>>,
}

impl WorkerState {
    /// Returns the result of the last batch.
    pub(crate) fn last_result(&self) -> Option<String> {
        self.last_result.lock().clone()
    }

    fn set(&self, result: String) {
        *self.last_result.lock() = Some(result);
    }

    fn set_problem(&self, problem: &Problem) {
        let hint = problem.hint.as_ref().map_or_else(String::new, |hint| format!(". {hint}"));
        self.set(format!("PROBLEM: {problem}{hint}"));
    }
}

/// The worker of a mapping. Clones share the worker's state.
#[derive(Clone)]
pub(crate) struct QueueWorker {
    components: Weak<Components>,
    queues: Queues,
    mapping: Arc<EventSourceMapping>,
    filters: Arc<Vec<MessageFilter>>,
    state: Arc<WorkerState>,
}

impl QueueWorker {
    pub(crate) fn new(
        components: &Arc<Components>,
        mapping: &EventSourceMapping,
        state: Arc<WorkerState>,
    ) -> Self {
        QueueWorker {
            components: Arc::downgrade(components),
            queues: components.queues.clone(),
            // The filters were validated before they were stored, so parsing them cannot fail.
            filters: Arc::new(parse_filters(&mapping.settings.filters).unwrap_or_default()),
            mapping: Arc::new(mapping.clone()),
            state,
        }
    }

    /// Starts the worker.
    pub(crate) fn spawn(self, stop: CancellationToken) {
        tokio::spawn(async move { self.run(&stop).await });
    }

    async fn run(&self, stop: &CancellationToken) {
        let calls = self.mapping.settings.concurrency.unwrap_or(CONCURRENCY_DEFAULT);
        let permits = Arc::new(Semaphore::new(calls as usize));
        loop {
            let permit = tokio::select! {
                () = stop.cancelled() => return,
                permit = permits.clone().acquire_owned() => permit,
            };
            let Ok(permit) = permit else { return };
            let visible = tokio::select! {
                () = stop.cancelled() => return,
                visible = self.visible() => visible,
            };
            let problem = match visible {
                Ok(false) => continue,
                Ok(true) => self.start_call(permit, stop).await.err(),
                Err(problem) => Some(problem),
            };
            let Some(problem) = problem else { continue };
            self.state.set_problem(&problem);
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(FAULT_PAUSE) => {}
            }
        }
    }

    /// Checks the right to read the queue, then waits for a message. Returns false after [`WAIT`].
    async fn visible(&self) -> Result<bool, Problem> {
        self.check_right()?;
        let is_visible = self.queues.wait(&self.mapping.queue, WAIT).await.or_problem()?;
        // The right can end while the worker waits.
        self.check_right().map(|()| is_visible)
    }

    /// Checks the right to read the queue.
    fn check_right(&self) -> Result<(), Problem> {
        let stopped = || Problem::new(ErrorCode::Unavailable, "the server is stopping");
        let components = self.components.upgrade().ok_or_else(stopped)?;
        let (principal, queue) = (self.principal(), AccessObject::queue(&self.mapping.queue));
        components.check_allowed(&principal, Action::Read, &queue)
    }

    fn principal(&self) -> Principal {
        self.mapping.actor.principal()
    }

    async fn start_call(
        &self,
        permit: OwnedSemaphorePermit,
        stop: &CancellationToken,
    ) -> Result<(), Problem> {
        let mut messages = Vec::new();
        let collected = self.collect(&mut messages, stop).await;
        if collected.is_err() {
            // The messages that were received before the error reach no call.
            self.release(&messages, 0).await;
        }
        let extended = collected?;
        if messages.is_empty() {
            return Ok(());
        }
        let Some(components) = self.components.upgrade() else {
            self.release(&messages, 0).await;
            return Ok(());
        };
        let worker = self.clone();
        tokio::spawn(async move {
            let _guards = (permit, components.mappings.begin_batch().await);
            worker.process(components, messages, extended).await;
        });
        Ok(())
    }

    /// Receives the messages of one call, and returns when they last became invisible.
    async fn collect(
        &self,
        messages: &mut Vec<ReceivedMessage>,
        stop: &CancellationToken,
    ) -> Result<Instant, Problem> {
        let settings = &self.mapping.settings;
        let deadline = Instant::now() + Duration::from_secs(u64::from(settings.window));
        let visibility = self.visibility()?;
        let half = Duration::from_secs(u64::from(visibility)) / 2;
        let mut extended = Instant::now();
        loop {
            let limit = (settings.batch as usize).saturating_sub(messages.len());
            let options = ReceiveOptions { limit, visibility: Some(visibility), wait: Some(0) };
            let bytes_max = BATCH_BYTES_MAX.saturating_sub(batch_bytes(messages));
            let received =
                self.queues.receive_limited(&self.mapping.queue, options, bytes_max).await;
            messages.extend(received.or_problem()?);
            let left = deadline.saturating_duration_since(Instant::now());
            if messages.is_empty()
                || messages.len() >= settings.batch as usize
                || batch_bytes(messages) >= BATCH_BYTES_MAX
                || left.is_zero()
                || stop.is_cancelled()
            {
                break;
            }
            // Wait at most until half of the timeout has passed. Then extend it, so that the
            // messages received first stay invisible.
            let pause = left.min(half.saturating_sub(extended.elapsed()));
            let waited = tokio::select! {
                () = stop.cancelled() => Ok(false),
                waited = self.queues.wait(&self.mapping.queue, pause) => waited,
            };
            waited.or_problem()?;
            if extended.elapsed() >= half {
                extended = Instant::now();
                self.extend(messages, visibility).await;
            }
        }
        self.release_surplus(messages).await;
        Ok(extended)
    }

    /// Releases messages above the size limit of a call, so that they are received again.
    async fn release_surplus(&self, messages: &mut Vec<ReceivedMessage>) {
        let (mut kept, mut bytes) = (0, 0);
        for message in messages.iter() {
            bytes += message.message.bytes();
            if kept > 0 && bytes > BATCH_BYTES_MAX {
                break;
            }
            kept += 1;
        }
        let surplus = messages.split_off(kept);
        self.release(&surplus, 0).await;
    }

    fn visibility(&self) -> Result<u32, Problem> {
        let attributes = self.queues.get(&self.mapping.queue).or_problem()?.attributes;
        Ok(attributes.visibility_timeout.max(VISIBILITY_MIN))
    }

    async fn release(&self, messages: &[ReceivedMessage], seconds: u32) {
        for message in messages {
            // The release fails if the message is no longer in flight, and so visible again.
            let _ = self.queues.release(&self.mapping.queue, &message.receipt, seconds).await;
        }
    }

    async fn extend(&self, messages: &[ReceivedMessage], seconds: u32) {
        for message in messages {
            let receipt = &message.receipt;
            let _ = self.queues.change_visibility(&self.mapping.queue, receipt, seconds).await;
        }
    }

    /// Returns the name that the mapping has in the lineage (`caused_by`) of messages.
    fn lineage_name(&self) -> String {
        format!("/mappings/{}", self.mapping.id)
    }

    /// Returns the messages without those that calls of this mapping caused, to prevent endless
    /// loops. Those stay in the queue; each reception counts towards `maxReceiveCount`.
    async fn without_loops(&self, messages: Vec<MessageRecord>) -> Vec<MessageRecord> {
        let own = self.lineage_name();
        let is_own = |(one, _): &MessageRecord| one.message.caused_by.contains(&own);
        let (looping, others): (Vec<MessageRecord>, Vec<MessageRecord>) =
            messages.into_iter().partition(is_own);
        if let Some((first, _)) = looping.first() {
            let (id, chain) = (&first.message.id, first.message.caused_by.join("`, `"));
            self.state.set(format!(
                "PROBLEM: message `{id}` closes a loop, so it is postponed: a call of this mapping \
                 caused the message; its causes: `{chain}`. Delete the message, and remove the \
                 code that sends it."
            ));
            self.postpone(&messages_of(&looping)).await;
        }
        others
    }

    /// Deletes messages that no filter selects, and calls the function with the remaining messages.
    async fn process(
        &self,
        components: Arc<Components>,
        messages: Vec<ReceivedMessage>,
        extended: Instant,
    ) {
        let records: Vec<Value> =
            messages.iter().map(|one| one.record(&self.mapping.queue)).collect();
        let is_selected = |record: &Value| {
            self.filters.is_empty() || self.filters.iter().any(|filter| filter.admits(record))
        };
        let selected: Vec<bool> = records.iter().map(is_selected).collect();
        let of_call = |wanted: bool| {
            let all = messages.iter().zip(&selected);
            all.filter(move |(_, is_selected)| **is_selected == wanted).map(|(one, _)| one.clone())
        };
        self.delete(of_call(false).map(|message| message.receipt).collect()).await;
        let records = records.into_iter().zip(&selected).filter(|(_, selected)| **selected);
        let records = records.map(|(record, _)| record);
        let called = self.without_loops(of_call(true).zip(records).collect()).await;
        self.call_in_parts(&components, called, extended).await;
    }

    /// Calls the function with messages, and deletes the processed messages. If the mapping bisects
    /// batches, each half of a failed batch gets a separate call, until each failing message is
    /// alone. `extended` is when the messages last became invisible.
    async fn call_in_parts(
        &self,
        components: &Arc<Components>,
        all: Vec<MessageRecord>,
        mut extended: Instant,
    ) {
        let mut parts = vec![all];
        let mut blocked = HashSet::new();
        while let Some(mut part) = parts.pop() {
            // If a message of a FIFO group failed, postpone the later messages of the group.
            let is_blocked = |(one, _): &MessageRecord| {
                ordered_group(one).is_some_and(|it| blocked.contains(it))
            };
            let waiting: Vec<MessageRecord> = part.extract_if(.., |one| is_blocked(one)).collect();
            self.postpone(&messages_of(&waiting)).await;
            if part.is_empty() {
                continue;
            }
            let called = messages_of(&part);
            let held: Vec<ReceivedMessage> =
                parts.iter().flat_map(|part| messages_of(part)).chain(called.clone()).collect();
            let failed = match self.call(components, &part, &held, &mut extended).await {
                Ok(failed) => {
                    self.state.set("OK".to_owned());
                    let (processed, failed) = split_processed(called, &failed);
                    self.delete(processed.into_iter().map(|one| one.receipt).collect()).await;
                    failed
                }
                Err(problem) => {
                    self.state.set_problem(&problem);
                    if let Some(seconds) = retry_pause(&problem) {
                        return self.release(&held, seconds).await;
                    }
                    if self.mapping.settings.bisects && part.len() > 1 {
                        let second = part.split_off(part.len() / 2);
                        parts.extend([second, part]);
                        continue;
                    }
                    called
                }
            };
            blocked.extend(failed.iter().filter_map(|one| ordered_group(one).cloned()));
            self.postpone(&failed).await;
        }
    }

    /// Deletes messages.
    async fn delete(&self, receipts: Vec<String>) {
        if !receipts.is_empty()
            && let Err(error) = self.queues.delete_messages(&self.mapping.queue, &receipts).await
        {
            tracing::warn!(queue = self.mapping.queue, %error, "cannot delete processed messages");
        }
    }

    /// Postpones failed messages: they become visible after the visibility timeout of the queue.
    async fn postpone(&self, failed: &[ReceivedMessage]) {
        let queue = self.queues.get(&self.mapping.queue);
        let timeout = queue.map_or(0, |queue| queue.attributes.visibility_timeout);
        self.extend(failed, timeout.max(RETRY_PAUSE_MIN)).await;
    }

    /// Calls the function with the records of messages. Returns the ids of the failed messages.
    /// Extends the invisibility of all messages in `held` during the call. `extended` is the time
    /// of the last extension, possibly in an earlier call.
    async fn call(
        &self,
        components: &Arc<Components>,
        part: &[MessageRecord],
        held: &[ReceivedMessage],
        extended: &mut Instant,
    ) -> Result<BTreeSet<String>, Problem> {
        let event = json!({"Records": part.iter().map(|(_, record)| record).collect::<Vec<_>>()});
        let invocations = Invocations(components.clone());
        let principal = self.principal();
        let lineage = part.iter().flat_map(|(one, _)| one.message.caused_by.iter().cloned());
        let lineage: BTreeSet<String> = lineage.chain([self.lineage_name()]).collect();
        let function = invocations.find(&principal, &self.mapping.settings.function).await?;
        let function = function.with_lineage(lineage.into_iter().collect());
        let name = function.event_argument()?.to_owned();
        let arguments = vec![Argument { name, value: ArgumentValue::Json(event) }];
        let (returns, client) = (ResultKind::Any, OptionalCallParts::default());
        let input = CallInput { arguments, returns, client, permit: None, started: None };
        let reports = self.mapping.settings.reports_failures;
        let ids: BTreeSet<String> = part.iter().map(|(one, _)| one.message.id.clone()).collect();
        let encode = move |returned, _| async move { failures(returned, reports, &ids) };
        let call = invocations.call(&principal, function, input, encode);
        tokio::pin!(call);
        let visibility = self.visibility()?;
        let pause = Duration::from_secs(u64::from(visibility)) / 2;
        loop {
            tokio::select! {
                ended = &mut call => return ended?.result,
                () = tokio::time::sleep_until(*extended + pause) => {
                    *extended = Instant::now();
                    self.extend(held, visibility).await;
                }
            }
        }
    }
}

/// A message with its record in the event.
type MessageRecord = (ReceivedMessage, Value);

fn messages_of(part: &[MessageRecord]) -> Vec<ReceivedMessage> {
    part.iter().map(|(message, _)| message.clone()).collect()
}

/// Returns the pause in seconds before messages are received again whose call was rejected before
/// its start; `None` if the function was called and failed.
fn retry_pause(problem: &Problem) -> Option<u32> {
    use ErrorCode as Code;
    match problem.code {
        Code::TooBusy | Code::Unavailable | Code::QuotaExceeded => Some(THROTTLE_PAUSE),
        Code::FunctionNotFound | Code::DeploymentNotFound | Code::Forbidden => {
            Some(FAULT_PAUSE.as_secs() as u32)
        }
        _ => None,
    }
}

/// Parses the ids of failed messages in the response of a function. An id that no message of the
/// call has is an error.
fn failures(
    returned: FunctionResult,
    reports: bool,
    ids: &BTreeSet<String>,
) -> Result<BTreeSet<String>, Problem> {
    let (FunctionResult::Json(text), true) = (returned, reports) else {
        return Ok(BTreeSet::new());
    };
    let invalid = |reason: String| {
        let message = format!("the function's `batchItemFailures` are invalid: {reason}");
        let hint = "Return a list with the `messageId` of each failed message, or an empty list.";
        Problem::new(ErrorCode::FunctionFailed, message).with_hint(hint)
    };
    failed_message_ids(&text, ids).map_err(invalid)
}
