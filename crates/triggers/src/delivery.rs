//! Delivery of events, with retries.
//!
//! One batch of the store records the start of an attempt and its job, and another batch records
//! the end of both. So the states of delivery and job agree. An attempt does not count towards the
//! maximum number of retries if it was throttled, or interrupted by the end of the process. Each
//! event is attempted at least once. An event is not retried after its maximum age.

use std::sync::Arc;
use std::time::Duration;

use headwater_event_values::event_summary;
use headwater_jobs::{Error as JobsError, JobContext, JobGuard, NewJob};
use headwater_model::{
    Event, EventData, JobKind, MAIN_BRANCH, Problem, ToProblem, TriggerEventStatus, TriggerTarget,
};
use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;

use crate::call_destination::{EndedCall, ResolvedDestination};
use crate::delivery_log::Delivery;
use crate::delivery_outcome::{
    DeliveryOutcome, RetryPolicy, THROTTLE_PAUSE, classify_outcome, is_complete, job_result,
    was_stopped,
};
use crate::event_ingestion::unreadable;
use crate::event_queue::TakenDelivery;
use crate::event_split::EndedAttempt;
use crate::target::CallPolicy;
use crate::trigger_worker::TriggerWorker;
use crate::{Error, Result};

/// Number of deliveries of a trigger after which the trigger's old deliveries are removed.
const TRIM_EVERY: u64 = 1_000;

/// Pauses of a delivery whose user has reached the limit of concurrent jobs, or a daily limit. The
/// pause for a daily limit is much shorter than a day, because the limit may be raised.
const JOBS_PAUSE: Duration = Duration::from_secs(1);
const DAY_PAUSE: Duration = Duration::from_secs(60);

/// Pause of all deliveries to a function that has no budget left. The pause is much shorter than a
/// day, because a running call may release its reservation, or a new version may raise the budget.
const BUDGET_PAUSE: Duration = Duration::from_secs(10);

/// An event to deliver, the policy of its function call, and the permit of a large event.
type PreparedDelivery = (Event, CallPolicy, Option<OwnedSemaphorePermit>);

/// A call that failed before its job began.
struct UnstartedCall<'a> {
    event: &'a Event,
    calls: &'a CallPolicy,
    /// True if the record of the call must not contain the event.
    is_hidden: bool,
}

impl TriggerWorker {
    /// Makes an attempt to deliver an event.
    pub(crate) async fn deliver(&self, taken: TakenDelivery) -> Result<()> {
        let event = taken.delivery.event.clone();
        let outcome = match self.attempt(taken.delivery.clone()).await {
            // Postpone only this delivery, because the limit of its user does not stop other users.
            Err(Error::Jobs(ref error @ JobsError::JobQuota { .. })) => {
                self.block(taken.delivery.clone(), error.to_problem(), JOBS_PAUSE);
                Ok(())
            }
            Err(Error::Jobs(ref error @ JobsError::DayQuota { .. })) => {
                self.block(taken.delivery.clone(), error.to_problem(), DAY_PAUSE);
                Ok(())
            }
            // All events of the queue call the same function, so all of them wait.
            Err(Error::Jobs(ref error @ JobsError::FunctionBudget { day_ends, .. })) => {
                let now = self.context.now();
                let resume = day_ends.min(now + BUDGET_PAUSE);
                self.context.queue.exhaust(error.to_problem(), resume, now);
                Ok(())
            }
            Err(Error::Jobs(JobsError::Stopping | JobsError::TooBusy { .. })) => {
                let now = self.context.now();
                self.context.queue.throttle(now + THROTTLE_PAUSE, now);
                Ok(())
            }
            outcome => outcome,
        };
        drop(taken);
        self.delete_abandoned(&event).await?;
        outcome
    }

    async fn attempt(&self, delivery: Delivery) -> Result<()> {
        let (options, log) = (&self.context.options, &self.context.log);
        let Some((event, calls, _permit)) = self.prepare(&delivery).await? else { return Ok(()) };
        let function = self.trigger().function.as_deref();
        let budget = match function.map_or(Ok(None), |name| self.targets.budget(name)) {
            Ok(budget) => budget,
            // A call never starts without its budget.
            Err(problem) => {
                self.block(delivery, problem, JOBS_PAUSE);
                return Ok(());
            }
        };
        // Share the event with the task of the call instead of copying it, because it may be large.
        let event = Arc::new(event);
        let id = options.jobs.new_id();
        let running = Delivery { status: TriggerEventStatus::Running, job: Some(id), ..delivery };
        let new = NewJob { budget, ..self.new_job(&event, &running) };
        let started = options.jobs.begin(id, &new, vec![running.open_entry()?]).await;
        let (context, guard) = match started {
            Err(JobsError::Stopped { .. }) => {
                let call = UnstartedCall { event: &event, calls: &calls, is_hidden: false };
                return self.end_as_failed(running, was_stopped(), call).await;
            }
            started => started?,
        };
        self.context.queue.update(running.clone());
        let (targets, trigger) = (self.targets.clone(), self.trigger().clone());
        let work = {
            let (context, event) = (context.clone(), Arc::clone(&event));
            let actor = running.actor.clone();
            let work =
                async move { targets.execute(&trigger, &event, actor.as_ref(), context).await };
            tokio::spawn(work)
        };
        let result = context.supervise(work).await;
        let outcome = {
            let result = result.as_ref().map(|_| ()).map_err(Clone::clone);
            let is_complete = |part: &str| is_complete(self.trigger(), &running.event, part);
            classify_outcome(result, is_complete, context.stop_reason())
        };
        let policy = RetryPolicy {
            retries: calls.retries.unwrap_or(self.trigger().retries),
            pause: options.retry_pause,
            pause_max: options.retry_pause_max,
            age_max: calls.max_age.unwrap_or(self.trigger().max_age),
            now: self.context.now(),
        };
        let trigger = self.trigger();
        let attempt =
            EndedAttempt { trigger, event, delivery: running, calls, result, outcome, policy };
        self.end(attempt, &context, guard).await?;
        if self.context.queue.done() % TRIM_EVERY == TRIM_EVERY - 1 {
            log.trim(options.done_kept).await?;
        }
        Ok(())
    }

    /// Stores the end of an attempt, and the parts of the event if it is divided.
    async fn end(
        &self,
        attempt: EndedAttempt<'_>,
        context: &JobContext,
        guard: JobGuard,
    ) -> Result<()> {
        let queue = &self.context.queue;
        let parts = attempt.divide();
        let is_replaced = attempt.is_replaced_by(&parts);
        let EndedAttempt { trigger, event, delivery, calls, result, outcome, policy } = attempt;
        let ended = if is_replaced {
            Delivery { status: TriggerEventStatus::Pending, ..delivery }
        } else {
            policy.apply(delivery, &outcome, queue.throttled())
        };
        let is_throttled = !matches!(outcome, DeliveryOutcome::Failed(_) | DeliveryOutcome::Done);
        // If the parts replace the event and all of them failed, `queue_parts` counts the failed
        // attempt in the metrics: once for each part.
        let is_failed = |part: &Delivery| part.status == TriggerEventStatus::Failed;
        if !is_replaced || !parts.iter().all(|(_, part)| is_failed(part)) {
            queue.counts.attempted(ended.status, is_throttled);
        }
        if outcome == DeliveryOutcome::Throttled {
            queue.throttle(ended.due, policy.now);
        } else {
            queue.end_throttling();
        }
        let mut entries =
            if is_replaced { ended.removal() } else { ended.entries(queue.done() + 1)? };
        for (event, part) in &parts {
            entries.extend(part.new_entries(event)?);
        }
        // The call for a divided event sends no record to the function's destination; the calls for
        // the parts do.
        let whole = parts.is_empty().then_some((&*event, &ended));
        let calls_ended = parts.iter().map(|(event, part)| (event, part)).chain(whole);
        let mut forwarded = Vec::new();
        for (event, delivery) in calls_ended {
            let result = &result;
            let call = EndedCall { event, trigger, delivery, result, is_hidden: false };
            forwarded.extend(self.forwarded(&call, &calls, Some(context)));
        }
        for (event, delivery) in &forwarded {
            entries.extend(delivery.new_entries(event)?);
        }
        guard.finish_with(job_result(result, &outcome), entries).await;
        self.end_span(&ended);
        if parts.is_empty() {
            queue.update(ended);
        } else {
            self.queue_parts(ended, parts.into_iter().map(|(_, part)| part).collect()).await?;
        }
        for (_, delivery) in forwarded {
            self.calls.push_call(delivery).await;
        }
        Ok(())
    }

    /// Replaces the delivery of a divided event by the deliveries of its parts.
    async fn queue_parts(&self, divided: Delivery, parts: Vec<Delivery>) -> Result<()> {
        let queue = &self.context.queue;
        for part in parts.iter().filter(|part| part.status == TriggerEventStatus::Failed) {
            queue.counts.attempted(part.status, false);
        }
        if divided.status == TriggerEventStatus::Pending {
            // The parts replace the event, so no later attempt ends the event's trace span.
            let error = parts.first().and_then(|part| part.error.clone());
            let status = TriggerEventStatus::Failed;
            self.end_span(&Delivery { status, error, ..divided.clone() });
        }
        let events: Vec<String> = parts.iter().map(|part| part.event.clone()).collect();
        queue.divide(&divided, parts);
        for event in &events {
            self.delete_abandoned(event).await?;
        }
        Ok(())
    }

    /// Reads the event of a delivery and the policy of its call, and acquires the memory permit of
    /// a large event. Ends the delivery as failed if the event cannot be read, if it was rejected
    /// when it was recorded, or if the causing identity no longer has the right to cause the event.
    async fn prepare(&self, delivery: &Delivery) -> Result<Option<PreparedDelivery>> {
        let Ok(calls) = self.call_policy().await else {
            self.context.queue.update(self.postponed(delivery.clone(), JOBS_PAUSE));
            return Ok(None);
        };
        let (event, permit) = match self.context.log.event_to_deliver(&delivery.event).await {
            Err(error @ (Error::EventNotFound { .. } | Error::Corrupt { .. })) => {
                let function = self.trigger().function.as_deref().unwrap_or_default();
                let event = delivery.unreadable_event(function, Value::Null);
                let call = UnstartedCall { event: &event, calls: &calls, is_hidden: false };
                let (id, trigger) = (&delivery.event, &delivery.trigger);
                let message = format!("event `{id}` of `{trigger}` cannot be delivered: {error}");
                let problem = unreadable(error.code(), message);
                self.end_as_failed(delivery.clone(), problem, call).await?;
                return Ok(None);
            }
            read => read?,
        };
        let authorized = self.targets.authorize(self.trigger(), &event, delivery.actor.as_ref());
        let denied = authorized.await.err();
        // The caller of a function knows its own arguments. The identity of a trigger may have lost
        // the right to see the event.
        let is_hidden = denied.is_some() && delivery.actor.is_none();
        let rejection = delivery.rejection().filter(|_| !is_hidden).cloned();
        let Some(problem) = rejection.or(denied) else { return Ok(Some((event, calls, permit))) };
        let call = UnstartedCall { event: &event, calls: &calls, is_hidden };
        self.end_as_failed(delivery.clone(), problem, call).await?;
        Ok(None)
    }

    /// Returns the record of an ended call, as an event for the call's destination, if it has one.
    /// `context` is the call's job, if it began.
    fn forwarded(
        &self,
        ended: &EndedCall<'_>,
        policy: &CallPolicy,
        context: Option<&JobContext>,
    ) -> Option<(Event, Delivery)> {
        match ended.destination(policy) {
            ResolvedDestination::None => None,
            ResolvedDestination::Loop(target) => {
                if let Some(context) = context {
                    context.log_system(format!(
                        "destination `{target}` was skipped: the call would create an endless loop"
                    ));
                }
                None
            }
            ResolvedDestination::Target(destination) => {
                let id = self.context.options.jobs.new_id().to_string();
                Some(ended.forward(destination, id, self.context.now()))
            }
        }
    }

    /// Returns the policy of the function calls that the worker delivers. For a trigger, only the
    /// destinations of the function apply; none if the trigger also has other targets.
    async fn call_policy(&self) -> Result<CallPolicy, Problem> {
        let trigger = self.trigger();
        let targets = trigger.targets();
        let [TriggerTarget::Function(function)] = targets.as_slice() else {
            return Ok(CallPolicy::default());
        };
        let policy = self.targets.call_policy(function).await.inspect_err(|problem| {
            tracing::warn!(function, error = problem.message, "cannot read the call policy");
        })?;
        if self.called_function().is_some() {
            return Ok(policy);
        }
        Ok(CallPolicy { retries: None, max_age: None, ..policy })
    }

    /// Postpones a delivery whose user has reached a limit, and stores the limit as the delivery's
    /// error. A delivery of a trigger has no `user`: the deployer's limits apply to all events of
    /// the trigger, so all of them wait.
    fn block(&self, delivery: Delivery, limit: Problem, pause: Duration) {
        if delivery.user.is_none() {
            let now = self.context.now();
            return self.context.queue.exhaust(limit, now + pause, now);
        }
        let delivery = Delivery { error: Some(limit), ..self.postponed(delivery, pause) };
        self.context.queue.block(delivery);
    }

    /// Returns the delivery with its next attempt postponed by a pause.
    fn postponed(&self, delivery: Delivery, pause: Duration) -> Delivery {
        Delivery { due: self.context.now() + pause, ..delivery }
    }

    /// Ends a delivery as failed before its job has begun. One batch stores the end and the record
    /// for the destination of the call.
    async fn end_as_failed(
        &self,
        delivery: Delivery,
        problem: Problem,
        call: UnstartedCall<'_>,
    ) -> Result<()> {
        let log = &self.context.log;
        let error = Some(problem.clone());
        let failed = Delivery { status: TriggerEventStatus::Failed, error, ..delivery };
        let UnstartedCall { event, calls, is_hidden } = call;
        let (trigger, delivery, result) = (self.trigger(), &failed, &Err(problem));
        let call = EndedCall { event, trigger, delivery, result, is_hidden };
        let forwarded = self.forwarded(&call, calls, None);
        // An earlier attempt may have stored this batch, although the store returned an error. A
        // second batch would send a second record.
        let stored = log.delivery(&failed.event).await?;
        let is_stored = stored.is_some_and(|stored| stored.status == failed.status);
        if !is_stored {
            let mut entries = vec![failed.open_entry()?];
            if let Some((event, delivery)) = &forwarded {
                entries.extend(delivery.new_entries(event)?);
            }
            log.append(entries).await?;
        }
        self.context.queue.counts.attempted(failed.status, false);
        self.end_span(&failed);
        self.context.queue.update(failed);
        match forwarded {
            Some((_, delivery)) if is_stored => self.calls.catch_up(&delivery.trigger).await,
            Some((_, delivery)) => self.calls.push_call(delivery).await,
            None => {}
        }
        Ok(())
    }

    /// Exports the trace span of an event, unless a further attempt follows.
    fn end_span(&self, ended: &Delivery) {
        if !matches!(ended.status, TriggerEventStatus::Done | TriggerEventStatus::Failed) {
            return;
        }
        let error = ended.error.as_ref().map(|problem| problem.code.as_str());
        let trigger = self.context.trigger.trim_start_matches('/');
        self.context.options.jobs.monitor().telemetry().end_event(&ended.event, trigger, error);
    }

    fn new_job(&self, event: &Event, delivery: &Delivery) -> NewJob {
        let trigger = self.trigger();
        let branch = || trigger.branch.clone().unwrap_or_else(|| MAIN_BRANCH.to_owned());
        let (kind, reference) = match trigger.targets().as_slice() {
            [TriggerTarget::Function(_)] => (JobKind::Function, None),
            _ => (JobKind::Trigger, Some(branch())),
        };
        let is_call = self.called_function().is_some();
        let user =
            delivery.user.clone().or_else(|| self.targets.user(trigger).filter(|_| !is_call));
        let author = delivery.author.clone();
        let author = author.unwrap_or_else(|| format!("trigger {}", trigger.name));
        let summary = match &event.data {
            EventData::FunctionInvoked { function, .. } => function.clone(),
            data => format!("{}: {}", trigger.name, event_summary(data)),
        };
        NewJob {
            name: self.called_name(&event.data),
            trigger: (!is_call).then(|| trigger.name.clone()),
            reference,
            user,
            event: Some(event.id.clone()),
            queue: self.targets.queue(trigger),
            ..NewJob::new(kind, summary, author)
        }
    }
}
