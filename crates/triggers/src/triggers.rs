//! The handle of this crate: defines and lists triggers. `event_operations.rs` has the operations
//! on events.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::future::join_all;
use headwater_metrics::EventMetrics;
use headwater_model::{Trigger, TriggerEventStatus, TriggerStatus, nearest};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::async_calls::target_of;
use crate::bucket_source::bucket_filters;
use crate::definition::{TriggerDefinition, TriggerSource};
use crate::delivery_log::{Delivery, DeliveryLog};
use crate::event_queue::EventQueue;
use crate::event_source::SourceContext;
use crate::occurrence_source;
use crate::trigger_worker::TriggerWorker;
use crate::{ConnectionPolicy, Error, Result, TargetExecutor, TriggersOptions};

/// The triggers of a lake. Clones are handles to the same triggers.
#[derive(Clone)]
pub struct Triggers {
    pub(crate) inner: Arc<TriggersInner>,
}

/// A handle that does not keep the triggers running.
#[derive(Clone)]
pub(crate) struct WeakTriggers(Weak<TriggersInner>);

impl WeakTriggers {
    /// Queues an asynchronous call that is stored.
    pub(crate) async fn push_call(&self, delivery: Delivery) {
        let Some(worker) = self.call_worker(&delivery.trigger).await else { return };
        worker.context.queue.counts.accepted(1);
        worker.context.queue.push(delivery);
    }

    /// Lets a queue of calls read its stored calls that it does not contain.
    pub(crate) async fn catch_up(&self, queue: &str) {
        let Some(worker) = self.call_worker(queue).await else { return };
        worker.context.queue.set_uncertain();
        worker.context.wake.notify_one();
    }

    async fn call_worker(&self, queue: &str) -> Option<Arc<TriggerWorker>> {
        let function = target_of(queue)?;
        let triggers = Triggers { inner: self.0.upgrade()? };
        let worker = triggers.call_worker(function).await.inspect_err(|error| {
            tracing::warn!(function, %error, "a stored call could not be queued");
        });
        worker.ok()
    }
}

pub(crate) struct TriggersInner {
    pub(crate) options: Arc<TriggersOptions>,
    pub(crate) log: DeliveryLog,
    targets: Arc<dyn TargetExecutor>,
    pub(crate) workers: Mutex<BTreeMap<String, Arc<TriggerWorker>>>,
    /// The workers for asynchronous calls, by queue.
    call_workers: Mutex<BTreeMap<String, Arc<TriggerWorker>>>,
    pub(crate) queues: Mutex<BTreeMap<String, Arc<EventQueue>>>,
    metrics: EventMetrics,
    stop: CancellationToken,
    reload: tokio::sync::Mutex<()>,
}

impl Triggers {
    /// Starts event delivery, and queues the unfinished events of the previous process. No source
    /// is polled before [`Triggers::reload`] is called.
    ///
    /// Events whose delivery was interrupted become pending again. The interrupted attempt does not
    /// count as an attempt.
    pub async fn start(
        options: TriggersOptions,
        targets: Arc<dyn TargetExecutor>,
    ) -> Result<Triggers> {
        let log = DeliveryLog::new(options.jobs.clone(), options.store.clone());
        let triggers = Triggers {
            inner: Arc::new(TriggersInner {
                options: Arc::new(options),
                log,
                targets,
                workers: Mutex::default(),
                call_workers: Mutex::default(),
                queues: Mutex::default(),
                metrics: EventMetrics::default(),
                stop: CancellationToken::new(),
                reload: tokio::sync::Mutex::default(),
            }),
        };
        triggers.queue_unfinished().await?;
        Ok(triggers)
    }

    async fn queue_unfinished(&self) -> Result<()> {
        let TriggersInner { options, log, .. } = &*self.inner;
        let mut interrupted = Vec::new();
        for mut delivery in log.unfinished().await? {
            if delivery.status == TriggerEventStatus::Running {
                delivery.status = TriggerEventStatus::Pending;
                delivery.due = options.clock.now();
                interrupted.push(delivery.clone());
            }
            self.queue(&delivery.trigger).await?.push(delivery);
        }
        for (queue, first, entry) in log.waiting("").await? {
            self.queue(&queue).await?.intake.list([(first, entry)]);
        }
        for queue in log.queues_with_ids().await? {
            // Start the queue's worker, which deletes event ids after their retention time.
            self.queue(&queue).await?;
        }
        // Only log errors: the lake must open even if the disk is full.
        if let Err(error) = log.store_open(&interrupted).await {
            tracing::warn!(%error, "cannot record interrupted trigger events");
        }
        if let Err(error) = log.trim(options.done_kept).await {
            tracing::warn!(%error, "cannot trim old trigger events");
        }
        Ok(())
    }

    /// Returns the names of all event queues.
    fn queue_names(&self) -> Vec<String> {
        self.inner.queues.lock().keys().cloned().collect()
    }

    pub(crate) async fn queue(&self, trigger: &str) -> Result<Arc<EventQueue>> {
        if let Some(queue) = self.inner.queues.lock().get(trigger) {
            return Ok(queue.clone());
        }
        let done = self.inner.log.done(trigger).await?;
        let counts = self.inner.metrics.of(trigger.strip_prefix('/').unwrap_or(trigger));
        let mut queues = self.inner.queues.lock();
        let queue = queues
            .entry(trigger.to_owned())
            .or_insert_with(|| Arc::new(EventQueue::new(done, counts)));
        Ok(queue.clone())
    }

    /// Replaces the triggers. Unchanged triggers keep running. Events of removed triggers wait
    /// until a trigger with the same name is defined again.
    ///
    /// Errors: `invalid_project`. After an error, the triggers are unchanged.
    pub async fn reload(&self, triggers: Vec<Trigger>) -> Result<()> {
        self.reload_for(triggers, &|_| ConnectionPolicy::default()).await
    }

    /// Replaces the triggers. `policy` returns the servers to which a trigger may connect.
    pub async fn reload_for(
        &self,
        triggers: Vec<Trigger>,
        policy: &(dyn Fn(&Trigger) -> ConnectionPolicy + Sync),
    ) -> Result<()> {
        let _turn = self.inner.reload.lock().await;
        let mut definitions = self.define(&triggers)?;
        for definition in definitions.values_mut() {
            definition.policy = policy(&definition.trigger);
        }
        if let Some(objects) = &self.inner.options.objects {
            // The buckets must record changes before the new triggers read their first positions.
            objects.watch(bucket_filters(&triggers));
        }
        occurrence_source::watch(&self.inner.log, &triggers).await?;
        self.forget_positions(&definitions).await;
        let mut queues = BTreeMap::new();
        for name in definitions.keys() {
            queues.insert(name.clone(), self.queue(name).await?);
        }
        let new = self.replace(definitions, &queues);
        self.start_call_workers().await?;
        if !self.inner.options.manual {
            // A new trigger fires for occurrences after its deployment, so store the positions now.
            let positioned =
                new.iter().filter(|one| one.definition.source.position_journal().is_some());
            join_all(positioned.map(|worker| worker.poll())).await;
        }
        Ok(())
    }

    fn define(&self, triggers: &[Trigger]) -> Result<BTreeMap<String, TriggerDefinition>> {
        let mut definitions = BTreeMap::new();
        for trigger in triggers {
            let definition = TriggerDefinition::new(trigger, &self.inner.options.project)?;
            if definitions.insert(trigger.name.clone(), definition).is_some() {
                return Err(Error::InvalidTrigger {
                    trigger: trigger.name.clone(),
                    reason: "another trigger has the same name".into(),
                    hint: "Rename one of the triggers.".into(),
                });
            }
        }
        Ok(definitions)
    }

    /// Removes the stored positions of triggers that are no longer defined.
    async fn forget_positions(&self, definitions: &BTreeMap<String, TriggerDefinition>) {
        for journal in TriggerSource::POSITION_JOURNALS {
            let has_position = |definition: &TriggerDefinition| {
                definition.source.position_journal() == Some(journal)
            };
            let kept = definitions.iter().filter(|(_, definition)| has_position(definition));
            let kept: Vec<&str> = kept.map(|(name, _)| name.as_str()).collect();
            if let Err(error) = self.inner.log.retain(journal, &kept).await {
                tracing::warn!(%error, "cannot delete the positions of removed triggers");
            }
        }
        let objects = self.inner.options.objects.as_ref();
        if let Err(error) = occurrence_source::forget_all(&self.inner.log, objects).await {
            tracing::warn!(%error, "cannot delete the pending occurrences of removed triggers");
        }
    }

    /// Starts workers for new definitions, and stops replaced ones. Returns the new workers.
    fn replace(
        &self,
        definitions: BTreeMap<String, TriggerDefinition>,
        queues: &BTreeMap<String, Arc<EventQueue>>,
    ) -> Vec<Arc<TriggerWorker>> {
        let mut new = Vec::new();
        let mut workers = self.inner.workers.lock();
        let mut before = std::mem::take(&mut *workers);
        for (name, definition) in definitions {
            let is_same = |worker: &Arc<TriggerWorker>| worker.definition.is_same(&definition);
            let Some(queue) = queues.get(&name) else { continue };
            let worker = match before.remove(&name) {
                Some(worker) if is_same(&worker) => {
                    worker.set_defined_at(&definition.trigger.defined_at);
                    worker
                }
                old => {
                    if let Some(old) = &old {
                        old.stop().cancel();
                    }
                    queue.configure(definition.concurrency);
                    let context = self.inner.source_context(&definition, queue.clone());
                    let (targets, calls) = (self.inner.targets.clone(), self.weak());
                    let worker = TriggerWorker::new(context, targets, definition, calls, old);
                    if !self.inner.options.manual {
                        worker.spawn();
                    }
                    new.push(worker.clone());
                    worker
                }
            };
            workers.insert(name, worker);
        }
        for removed in before.values() {
            removed.stop().cancel();
        }
        new
    }

    /// Returns the triggers by name.
    pub fn list(&self) -> Vec<TriggerStatus> {
        self.workers().iter().map(|worker| worker.status()).collect()
    }

    fn weak(&self) -> WeakTriggers {
        WeakTriggers(Arc::downgrade(&self.inner))
    }

    fn workers(&self) -> Vec<Arc<TriggerWorker>> {
        self.inner.workers.lock().values().cloned().collect()
    }

    /// Polls each source once and delivers all events that are due.
    pub async fn tick(&self) -> Result<()> {
        let mut workers = self.workers();
        workers.extend(self.inner.call_workers.lock().values().cloned());
        let ticks = workers.iter().map(async |worker| {
            worker.prepare_target().await;
            loop {
                let pause = worker.poll().await;
                worker.deliver_all().await?;
                if pause > Duration::ZERO {
                    return Ok(());
                }
            }
        });
        join_all(ticks).await.into_iter().collect()
    }

    /// Returns the queue of a delivery. Fails if no worker processes the queue.
    pub(crate) async fn queue_of(&self, delivery: &Delivery) -> Result<Arc<EventQueue>> {
        let trigger = delivery.trigger.as_str();
        let worker = match target_of(trigger) {
            Some(function) => Some(self.call_worker(function).await?),
            None => self.inner.workers.lock().get(trigger).cloned(),
        };
        let worker = worker.ok_or_else(|| self.no_trigger(trigger))?;
        Ok(worker.context.queue.clone())
    }

    /// Returns the worker for a function's asynchronous calls.
    pub(crate) async fn call_worker(&self, function: &str) -> Result<Arc<TriggerWorker>> {
        let definition = TriggerDefinition::of_calls(function);
        let name = definition.trigger.name.clone();
        if let Some(worker) = self.inner.call_workers.lock().get(&name) {
            return Ok(worker.clone());
        }
        let queue = self.queue(&name).await?;
        let mut workers = self.inner.call_workers.lock();
        if let Some(worker) = workers.get(&name) {
            return Ok(worker.clone());
        }
        queue.configure(definition.concurrency);
        let context = self.inner.source_context(&definition, queue);
        let (targets, calls) = (self.inner.targets.clone(), self.weak());
        let worker = TriggerWorker::new(context, targets, definition, calls, None);
        if !self.inner.options.manual {
            worker.spawn();
        }
        workers.insert(name, worker.clone());
        Ok(worker)
    }

    /// Starts the workers for calls that an earlier process accepted.
    async fn start_call_workers(&self) -> Result<()> {
        for queue in self.queue_names() {
            if let Some(function) = target_of(&queue) {
                self.call_worker(function).await?;
            }
        }
        Ok(())
    }

    /// Returns true if asynchronous calls are pending or running.
    pub fn has_calls(&self) -> bool {
        let workers = self.inner.call_workers.lock();
        let has_calls = |queue: &EventQueue| queue.open_count() + queue.intake.waiting() > 0;
        workers.values().any(|worker| has_calls(&worker.context.queue))
    }

    /// Returns the metrics of events. The label of a function's call queue is `functions/NAME`.
    pub fn metrics(&self) -> &EventMetrics {
        &self.inner.metrics
    }

    /// Returns the number of events that wait or are being delivered, by trigger.
    pub fn pending(&self) -> Vec<(String, u64)> {
        let pending = |(name, queue): (&String, &Arc<EventQueue>)| {
            let count = queue.open_count() + queue.intake.waiting();
            (name.trim_start_matches('/').to_owned(), count as u64)
        };
        self.inner.queues.lock().iter().map(pending).collect()
    }

    /// Stops the detection and delivery of events. Running deliveries end with their jobs;
    /// [`headwater_jobs::Jobs::drain`] waits for these.
    pub fn stop(&self) {
        self.inner.stop.cancel();
    }

    pub(crate) fn no_trigger(&self, name: &str) -> Error {
        let workers = self.inner.workers.lock();
        let near = nearest(name, workers.keys().map(String::as_str));
        Error::TriggerNotFound { name: name.to_owned(), near }
    }
}

impl TriggersInner {
    fn source_context(
        &self,
        definition: &TriggerDefinition,
        queue: Arc<EventQueue>,
    ) -> SourceContext {
        SourceContext {
            trigger: definition.trigger.name.clone(),
            policy: definition.policy.clone(),
            order_by: definition.order_by.clone(),
            filter: definition.filter.clone(),
            options: self.options.clone(),
            log: self.log.clone(),
            targets: self.targets.clone(),
            queue,
            wake: Arc::<Notify>::default(),
            stop: self.stop.child_token(),
        }
    }
}

impl Drop for TriggersInner {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl std::fmt::Debug for Triggers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Triggers").field("triggers", &self.workers().len()).finish()
    }
}
