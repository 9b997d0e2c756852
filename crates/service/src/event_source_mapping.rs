//! Event source mappings: create, change, list and delete them. The workers of `queue_worker.rs`
//! execute them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use headwater_lake::Lake;
use headwater_model::{AccessObject, Action, Actor, ErrorCode, Principal, Problem, ResultExt};
use headwater_queues::{
    EventSourceMapping, EventSourceMappings as Stored, MappingSettings, parse_filters,
};
use parking_lot::Mutex;
use tokio::sync::{OwnedRwLockReadGuard, RwLock};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::Service;
use crate::invocation::Invocations;
use crate::queue_worker::{QueueWorker, WorkerState};
use crate::service::Components;

/// Maximum number of filters of a mapping.
const FILTERS_MAX: usize = 5;

/// Maximum time to wait at shutdown until the messages of ended calls are deleted.
const DRAIN_MAX: Duration = Duration::from_secs(5);

/// The event source mappings of a lake, and their workers.
pub(crate) struct MappingWorkers {
    stored: Stored,
    workers: Mutex<BTreeMap<String, RunningMapping>>,
    /// Lock that is held while mappings are changed.
    changes: tokio::sync::Mutex<()>,
    /// Lock that each batch of messages holds until its processed messages are deleted.
    batches: Arc<RwLock<()>>,
}

struct RunningMapping {
    state: Arc<WorkerState>,
    _stop: DropGuard,
}

impl MappingWorkers {
    pub(crate) fn open(lake: &Lake) -> Self {
        let stored = Stored::new(lake.store().clone(), lake.clock().clone());
        let (workers, batches) = (Mutex::default(), Arc::default());
        MappingWorkers { stored, workers, changes: tokio::sync::Mutex::default(), batches }
    }

    /// Returns true if any mapping can start a call.
    pub(crate) fn is_active(&self) -> bool {
        !self.workers.lock().is_empty()
    }

    /// Returns a guard that the caller holds while it processes a batch of messages.
    pub(crate) async fn begin_batch(&self) -> OwnedRwLockReadGuard<()> {
        self.batches.clone().read_owned().await
    }

    /// Waits until the messages of all batches are deleted, for a limited time.
    pub(crate) async fn drain(&self) {
        let _ = tokio::time::timeout(DRAIN_MAX, self.batches.write()).await;
    }

    /// Stops all workers. Running calls continue.
    pub(crate) fn stop(&self) {
        self.workers.lock().clear();
    }
}

/// A mapping with the state of its worker.
#[derive(Debug, Clone)]
pub struct MappingStatus {
    /// The mapping.
    pub mapping: EventSourceMapping,
    /// The result of the last batch: `OK`, or a problem; `None` before the first batch.
    pub last_result: Option<String>,
}

/// Operations on event source mappings.
#[derive(Clone)]
pub struct EventSourceMappings(pub(crate) Arc<Components>);

impl EventSourceMappings {
    /// Returns the operations of a service.
    pub fn of(service: &Service) -> Self {
        EventSourceMappings(service.shared().clone())
    }

    /// Starts the workers of all mappings.
    pub(crate) async fn start(components: &Arc<Components>) -> headwater_queues::Result<()> {
        let mappings = EventSourceMappings(components.clone());
        for mapping in components.mappings.stored.list().await? {
            mappings.restart(&mapping);
        }
        Ok(())
    }

    /// Creates a mapping. Its worker has the rights of the principal.
    pub async fn create(
        &self,
        principal: &Principal,
        queue: &str,
        settings: MappingSettings,
    ) -> Result<MappingStatus, Problem> {
        self.check(principal, queue, &settings).await?;
        let _guard = self.0.mappings.changes.lock().await;
        for known in self.0.mappings.stored.list().await.or_problem()? {
            if known.queue == queue && known.settings.function == settings.function {
                let message = format!(
                    "the mapping `{}` already calls `{}` with messages of queue `{queue}`",
                    known.id, settings.function
                );
                return Err(Problem::new(ErrorCode::AlreadyExists, message));
            }
        }
        let actor = Actor::of(principal).without_token();
        let created = self.0.mappings.stored.create(queue, settings, actor).await.or_problem()?;
        self.restart(&created);
        Ok(self.status(created))
    }

    /// Returns a mapping. The principal needs the right to deploy its function.
    pub async fn get(&self, principal: &Principal, id: &str) -> Result<MappingStatus, Problem> {
        self.0.authenticated(principal)?;
        let found = self.0.mappings.stored.get(id).await.or_problem()?;
        if !self.allows(principal, &found) {
            // Users without rights must not find out which mappings exist.
            let id = id.to_owned();
            return Err(headwater_queues::Error::MappingNotFound { id }).or_problem();
        }
        Ok(self.status(found))
    }

    /// Lists the mappings whose functions the principal may deploy, oldest first.
    pub async fn list(&self, principal: &Principal) -> Result<Vec<MappingStatus>, Problem> {
        self.0.authenticated(principal)?;
        let mut listed = self.0.mappings.stored.list().await.or_problem()?;
        listed.retain(|mapping| self.allows(principal, mapping));
        Ok(listed.into_iter().map(|mapping| self.status(mapping)).collect())
    }

    /// Changes a mapping. Its worker then has the rights of the principal.
    pub async fn update(
        &self,
        principal: &Principal,
        id: &str,
        change: impl FnOnce(&mut MappingSettings),
    ) -> Result<MappingStatus, Problem> {
        let _guard = self.0.mappings.changes.lock().await;
        let EventSourceMapping { queue, mut settings, .. } = self.get(principal, id).await?.mapping;
        change(&mut settings);
        self.check(principal, &queue, &settings).await?;
        let actor = Actor::of(principal).without_token();
        let updated = self.0.mappings.stored.update(id, settings, actor).await.or_problem()?;
        self.restart(&updated);
        Ok(self.status(updated))
    }

    /// Deletes a mapping. Running calls continue. Returns the deleted mapping.
    pub async fn delete(&self, principal: &Principal, id: &str) -> Result<MappingStatus, Problem> {
        let _guard = self.0.mappings.changes.lock().await;
        let deleted = self.get(principal, id).await?;
        self.0.mappings.stored.delete(id).await.or_problem()?;
        self.0.mappings.workers.lock().remove(id);
        Ok(deleted)
    }

    fn allows(&self, principal: &Principal, mapping: &EventSourceMapping) -> bool {
        let object = self.0.deployer.deployed().called_object(&mapping.settings.function);
        self.0.allows(principal, Action::Deploy, &object)
    }

    /// Checks the principal's rights on queue and function, and the settings of a mapping.
    async fn check(
        &self,
        principal: &Principal,
        queue: &str,
        settings: &MappingSettings,
    ) -> Result<(), Problem> {
        let object = self.0.deployer.deployed().called_object(&settings.function);
        self.0.authorize(principal, Action::Deploy, &object)?;
        self.0.authorize(principal, Action::Read, &AccessObject::queue(queue))?;
        let invocations = Invocations(self.0.clone());
        invocations.find(principal, &settings.function).await?.event_argument()?;
        let is_fifo = self.0.queues.get(queue).or_problem()?.attributes.is_fifo;
        let invalid = |reason: String| Err(Problem::new(ErrorCode::InvalidArgument, reason));
        if is_fifo && settings.window > 0 {
            return invalid(
                "a mapping of a FIFO queue does not support a batching window".to_owned(),
            );
        }
        let batch_max = if is_fifo { 10 } else { 10_000 };
        if !(1..=batch_max).contains(&settings.batch) {
            let batch = settings.batch;
            return invalid(format!(
                "the batch size must be between 1 and {batch_max}, not {batch}"
            ));
        }
        if settings.batch > 10 && settings.window == 0 {
            return invalid("a batch size above 10 needs a batching window".to_owned());
        }
        if settings.window > 300 {
            let window = settings.window;
            return invalid(format!(
                "the batching window must be between 0 and 300 seconds, not {window}"
            ));
        }
        if settings.concurrency.is_some_and(|calls| !(1..=1_000).contains(&calls)) {
            return invalid("the maximum concurrency must be between 1 and 1,000".to_owned());
        }
        if settings.filters.len() > FILTERS_MAX {
            return invalid(format!("a mapping has at most {FILTERS_MAX} filters"));
        }
        parse_filters(&settings.filters).map(drop)
    }

    /// Replaces the worker of a mapping.
    fn restart(&self, mapping: &EventSourceMapping) {
        let mut workers = self.0.mappings.workers.lock();
        workers.remove(&mapping.id);
        if !mapping.settings.is_enabled || !self.0.config.triggers {
            return;
        }
        let stop = CancellationToken::new();
        let state = Arc::<WorkerState>::default();
        QueueWorker::new(&self.0, mapping, state.clone()).spawn(stop.clone());
        workers.insert(mapping.id.clone(), RunningMapping { state, _stop: stop.drop_guard() });
    }

    fn status(&self, mapping: EventSourceMapping) -> MappingStatus {
        let workers = self.0.mappings.workers.lock();
        let state = workers.get(&mapping.id).map(|running| running.state.clone());
        let last_result = state.and_then(|state| state.last_result());
        MappingStatus { mapping, last_result }
    }
}
