//! A running trigger: one task polls its source, another delivers its events.

use std::sync::Arc;
use std::time::Duration;

use headwater_model::{
    ErrorCode, EventData, Problem, Timestamp, ToProblem, Trigger, TriggerStatus,
};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::TargetExecutor;
use crate::definition::{TriggerDefinition, TriggerSource};
use crate::event_queue::TakenDelivery;
use crate::event_source::{ABSENT_PAUSE, EventSource, SourceContext};
use crate::pending_deliveries::NextDelivery;
use crate::triggers::WeakTriggers;

/// Maximum sleep between two checks. After the machine was suspended or its clock was set, a check
/// is late by at most this time.
pub(crate) const SLEEP_MAX: Duration = Duration::from_secs(30);
/// Pause after an error of the store.
const STORE_PAUSE: Duration = Duration::from_secs(1);
/// A poll starts after this time without notifications, or at the latest after the maximum wait.
const QUIET: Duration = Duration::from_millis(50);
const QUIET_MAX: Duration = Duration::from_millis(500);

/// The tasks of a trigger: one polls the source, one delivers the events.
pub(crate) struct TriggerWorker {
    pub context: SourceContext,
    pub targets: Arc<dyn TargetExecutor>,
    pub definition: TriggerDefinition,
    /// The queues of asynchronous calls, which receive the records for destinations.
    pub calls: WeakTriggers,
    source: tokio::sync::Mutex<Box<dyn EventSource>>,
    /// The worker for the previous definition; `None` after the first poll of this worker.
    before: Mutex<Option<Arc<TriggerWorker>>>,
    /// The file and line of the declaration, which can change while the worker runs.
    defined_at: Mutex<String>,
    /// Reason why events may be missing or late, if any.
    fault: Mutex<Option<Problem>>,
    /// The last scheduled time for which the target was prepared.
    pub(crate) prepared: Mutex<Option<Timestamp>>,
}

impl TriggerWorker {
    pub(crate) fn new(
        context: SourceContext,
        targets: Arc<dyn TargetExecutor>,
        definition: TriggerDefinition,
        calls: WeakTriggers,
        before: Option<Arc<TriggerWorker>>,
    ) -> Arc<Self> {
        let source = tokio::sync::Mutex::new(definition.source.open());
        let defined_at = Mutex::new(definition.trigger.defined_at.clone());
        Arc::new(TriggerWorker {
            context,
            targets,
            definition,
            calls,
            source,
            before: Mutex::new(before),
            defined_at,
            fault: Mutex::default(),
            prepared: Mutex::default(),
        })
    }

    /// Starts the tasks of the worker.
    pub(crate) fn spawn(self: &Arc<Self>) {
        tokio::spawn(self.clone().poll_loop());
        tokio::spawn(self.clone().deliver_loop());
        if matches!(self.definition.source, TriggerSource::Schedule(_)) {
            tokio::spawn(self.clone().prepare_loop());
        }
    }

    pub(crate) fn trigger(&self) -> &Trigger {
        &self.definition.trigger
    }

    /// Returns the function whose asynchronous calls the worker delivers.
    pub(crate) fn called_function(&self) -> Option<&str> {
        let is_calls = matches!(self.definition.source, TriggerSource::Calls);
        self.definition.trigger.function.as_deref().filter(|_| is_calls)
    }

    /// Returns the name of the function that is called with an event, without a version or alias,
    /// if any. For a record of an ended call, returns the address of the destination.
    pub(crate) fn called_name(&self, data: &EventData) -> Option<String> {
        let called = match data {
            EventData::FunctionInvoked { function, .. } => function,
            _ => self.trigger().function.as_ref()?,
        };
        let name = called.split_once(':').filter(|(_, rest)| !rest.starts_with("//"));
        Some(name.map_or(called.as_str(), |(name, _)| name).to_owned())
    }

    /// Sets the new location of a declaration that was moved.
    pub(crate) fn set_defined_at(&self, location: &str) {
        location.clone_into(&mut self.defined_at.lock());
    }

    pub(crate) fn stop(&self) -> &CancellationToken {
        &self.context.stop
    }

    /// Returns the trigger's status.
    pub(crate) fn status(&self) -> TriggerStatus {
        let queue = &self.context.queue;
        TriggerStatus {
            trigger: self.definition.trigger.clone(),
            defined_at: self.defined_at.lock().clone(),
            next: self.definition.source.next_after(self.context.now()),
            pending: queue.open_count() as u64,
            done: queue.done(),
            failed: queue.failed_count() as u64,
            error: self.fault.lock().clone(),
        }
    }

    async fn poll_loop(self: Arc<Self>) {
        while !self.stop().is_cancelled() {
            let pause = self.poll().await.min(SLEEP_MAX);
            tokio::select! {
                () = self.stop().cancelled() => {}
                () = self.context.wake.notified() => {
                    if self.definition.source.waits_for_quiet() {
                        self.until_quiet().await;
                    }
                }
                () = self.context.queue.capacity.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Waits until no notification has arrived for the time `QUIET`, but at most for `QUIET_MAX`.
    async fn until_quiet(&self) {
        let wake = &self.context.wake;
        let quiet = async { while tokio::time::timeout(QUIET, wake.notified()).await.is_ok() {} };
        tokio::select! {
            () = self.stop().cancelled() => {}
            () = quiet => {}
            () = tokio::time::sleep(QUIET_MAX) => {}
        }
    }

    /// Polls the source once. Returns the pause until the next poll.
    pub(crate) async fn poll(&self) -> Duration {
        let mut source = self.source.lock().await;
        let mut before = self.before.lock().take();
        while let Some(worker) = before {
            // Wait for the last poll of the previous worker: it stores the position to read.
            drop(worker.source.lock().await);
            before = worker.before.lock().take();
        }
        if self.stop().is_cancelled() {
            return SLEEP_MAX;
        }
        let denied = self.targets.authorize_source(self.trigger()).err();
        if let Some(problem) = denied.as_ref().filter(|problem| !self.skips_denied(problem)) {
            // Replacing the source ends its notifications and connections.
            *source = self.definition.source.open();
            *self.fault.lock() = Some(problem.clone());
            return ABSENT_PAUSE;
        }
        let (fault, pause) = match source.poll(&self.context).await {
            Ok(polled) => (polled.fault, polled.pause),
            Err(error) => {
                *source = self.definition.source.open();
                tracing::warn!(trigger = self.context.trigger, %error, "cannot record events");
                (Some(error.to_problem()), STORE_PAUSE)
            }
        };
        *self.fault.lock() = denied.or(fault);
        pause
    }

    /// Returns true if the source is polled although the trigger's identity may not read it. The
    /// journal of occurrences must not grow, so the source reads it, and skips what the identity
    /// may not see.
    fn skips_denied(&self, problem: &Problem) -> bool {
        matches!(self.definition.source, TriggerSource::Occurrences(_))
            && matches!(problem.code, ErrorCode::Forbidden | ErrorCode::Unauthenticated)
    }

    async fn deliver_loop(self: Arc<Self>) {
        while !self.stop().is_cancelled() {
            let pause = match self.context.queue.take(self.context.now()) {
                NextDelivery::Due(taken) => {
                    tokio::spawn(self.clone().run_delivery(taken));
                    continue;
                }
                NextDelivery::NotDue(pause) => pause.min(SLEEP_MAX),
                NextDelivery::Idle => SLEEP_MAX,
            };
            tokio::select! {
                () = self.stop().cancelled() => {}
                () = self.context.queue.due.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
        // Pass the notification on: the worker of the trigger's new definition may wait for it.
        self.context.queue.due.notify_one();
    }

    async fn run_delivery(self: Arc<Self>, taken: TakenDelivery) {
        if let Err(error) = self.deliver(taken).await {
            tracing::warn!(trigger = self.context.trigger, %error, "cannot deliver events");
        }
    }

    /// Deletes an event after an attempt if its trigger was removed during the attempt. Otherwise,
    /// the event would be delivered to a later trigger with the same name. An event whose delivery
    /// succeeded is kept.
    pub(crate) async fn delete_abandoned(&self, event: &str) -> crate::Result<()> {
        let queue = &self.context.queue;
        if queue.take_abandoned(event)
            && (queue.take_failed(event) || queue.take_pending(event).is_some())
        {
            self.context.log.remove(event).await?;
        }
        Ok(())
    }

    /// Delivers all events that are due.
    pub(crate) async fn deliver_all(&self) -> crate::Result<()> {
        while !self.stop().is_cancelled()
            && let NextDelivery::Due(taken) = self.context.queue.take(self.context.now())
        {
            self.deliver(taken).await?;
        }
        Ok(())
    }
}
