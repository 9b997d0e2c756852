//! Preparation of functions in advance of expected calls. A preparation starts the zygote of the
//! environment. If the function's calls may reuse instances, it also starts an instance that
//! imports the function.
//!
//! A preparation is not a call: it has no permit, no usage and no metrics, and it does not run the
//! function itself. Its CPU time is charged to the first call that uses the instance. If no call
//! uses the instance, the time is charged to the next call that looks up the zygote. Errors and
//! output of the import are discarded, because the call imports the function again and reports
//! them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use headwater_model::Problem;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::functions::Functions;
use crate::instance::{CallStopConditions, InstanceOrigin, NewInstance, RunningInstance};
use crate::keep_alive::{ExpectedCall, KeepAlive};
use crate::lake_access::without_lake;
use crate::queue::{Reservation, ReservationResult};
use crate::warm_instance::{IdleInstance, UnchargedCpu};
use crate::zygote::ZygoteLookup;
use crate::{
    CallOwner, Error, Invocation, Isolation, LakeAccess, LakeRequest, LakeResponse,
    OptionalCallParts,
};

/// Time limit for starting an instance in advance. If instances of the function usually need this
/// long, only the zygote is started, because the instance would not be ready before the call.
const IMPORT_MAX: Duration = Duration::from_secs(60);

impl Functions {
    /// Returns how long before an expected call [`Functions::prepare`] should be called: about
    /// twice the start time of the function's earlier instances, and a margin; at most 90 seconds.
    pub fn preparation_time(&self, label: &str) -> Duration {
        self.0.start_durations.time_ahead(label)
    }

    /// Prepares a function for an expected call. The invocation describes the call; its arguments
    /// are not used. If the call may reuse an instance, starts one and keeps it until some seconds
    /// after the expected time.
    ///
    /// Does nothing if calls are waiting, or if no processor or memory is free. If a call must wait
    /// during the preparation, the preparation is cancelled.
    pub async fn prepare(&self, invocation: &Invocation, expected: ExpectedCall) {
        let inner = &self.0;
        let has_sandbox = inner.spawner.report().sandbox_error.is_none();
        if inner.isolation == Isolation::Process || !has_sandbox || inner.queue.is_busy() {
            return;
        }
        let mut invocation = invocation.for_preparation();
        let limits = &mut invocation.limits;
        limits.memory_bytes = limits.memory_bytes.min(inner.queue.memory_bytes());
        let is_slow = inner.start_durations.get(&invocation.label) >= Some(IMPORT_MAX);
        let key = inner.instance_keys.of(&invocation).filter(|_| !is_slow);
        let Some(key) = key else {
            return self.prepare_clone(&invocation).await;
        };
        let number = inner.calls.next_number();
        let memory_bytes = invocation.limits.memory_bytes;
        let mut reserved = inner.queue.reserve(number, &key, memory_bytes);
        if matches!(reserved, ReservationResult::Busy) {
            // End instances that are kept only for a regular call: this preparation has precedence.
            inner.queue.end_extended(Instant::now());
            reserved = inner.queue.reserve(number, &key, memory_bytes);
        }
        match reserved {
            ReservationResult::Reserved(reservation) => {
                let keep_alive = KeepAlive::started_for(&expected);
                let started = self.prepare_instance(&invocation, reservation, keep_alive).await;
                if let Err(reason) = started {
                    let function = &invocation.label;
                    tracing::debug!(function, reason, "a function cannot be prepared");
                }
            }
            ReservationResult::Exists => {
                inner.queue.with_next_idle(&key, |idle| idle.keep_alive.extend_for(&expected));
            }
            ReservationResult::Busy => {}
        }
    }

    /// Starts the zygote and prepares a clone of it, for a function whose calls do not reuse
    /// instances.
    async fn prepare_clone(&self, invocation: &Invocation) {
        let (inner, started) = (&self.0, Instant::now());
        let ZygoteLookup { zygote, cpu_us, .. } = self.zygote(&invocation.environment).await;
        inner.zygotes.charge_next_call(&invocation.environment, cpu_us);
        if let Some(zygote) = zygote {
            zygote.prepare_clones(&inner.spawner, &invocation.limits);
            zygote.touch();
        }
        inner.start_durations.record(&invocation.label, started.elapsed(), Instant::now());
    }

    /// Starts an instance in advance, which imports the function and then waits for a call.
    ///
    /// The error is the reason why the instance was not started, as text.
    pub(crate) async fn prepare_instance(
        &self,
        invocation: &Invocation,
        reservation: Reservation<IdleInstance>,
        keep_alive: KeepAlive,
    ) -> Result<(), String> {
        let (inner, started) = (&self.0, Instant::now());
        // Record the elapsed time of a failed preparation, so that the next preparation starts
        // earlier if this one was too slow.
        let raise_start = |reason: String| {
            inner.start_durations.set_minimum(&invocation.label, started.elapsed(), Instant::now());
            Err(reason)
        };
        let is_cancelled = || "a call needed the resources of this start".to_owned();
        let cancelled = reservation.cancelled.clone();
        let zygote = tokio::select! {
            biased;
            zygote = self.zygote(&invocation.environment) => zygote,
            // The start of the zygote continues, and its CPU time is charged to the next call.
            () = cancelled.cancelled() => return raise_start(is_cancelled()),
        };
        let mut uncharged = UnchargedCpu {
            zygotes: inner.zygotes.clone(),
            environment: invocation.environment.clone(),
            cpu_us: zygote.cpu_us,
        };
        let needs_sandbox = inner.projects.needs_sandbox(&invocation.files);
        let zygote = zygote.zygote.filter(|_| !needs_sandbox);
        let origin = zygote.map_or(InstanceOrigin::Sandbox, InstanceOrigin::Zygote);
        let project = tokio::select! {
            biased;
            project = inner.projects.get(&invocation.files) => project,
            () = cancelled.cancelled() => return raise_start(is_cancelled()),
        };
        let (policy, pages) = (None, None);
        let new = NewInstance { origin: &origin, policy, pages, project, prepares: true };
        let lake = Arc::new(RejectingLakeAccess::default());
        let task = Invocation { lake: Some(lake.clone()), ..invocation.without_arguments() };
        // The receiver is dropped, so the output is discarded.
        let (sink, _) = mpsc::channel(1);
        let instance = RunningInstance::start(&inner.spawner, &task, new, sink);
        let instance = instance.map_err(|error| error.to_string())?;
        let until = started + IMPORT_MAX.min(invocation.limits.timeout);
        let limits = CallStopConditions { until, boost: Duration::ZERO, cancelled };
        let finished = instance.finish(limits).await;
        let (outcome, warm) = finished.map_err(|error| error.to_string())?;
        uncharged.cpu_us += outcome.usage.cpu_us;
        // Discard the instance after a failed import, so that the call repeats the import. Also
        // discard the instance if the module requested the lake, because the module may have
        // handled the error.
        let has_failed = matches!(outcome.returned, Err(Error::FunctionRaised { .. }));
        let is_usable = !has_failed && !lake.0.load(Ordering::Relaxed);
        let Some(warm) = warm.filter(|_| is_usable) else {
            return raise_start(match outcome.returned {
                Err(error) => error.to_string(),
                Ok(_) if lake.0.load(Ordering::Relaxed) => {
                    "the function's module accesses the lake when it is imported".to_owned()
                }
                Ok(_) => "the instance ended during its start".to_owned(),
            });
        };
        inner.start_durations.record(&invocation.label, started.elapsed(), Instant::now());
        let idle = IdleInstance::new(warm, invocation, keep_alive).with_uncharged(uncharged);
        let (pause, queue) = (&inner.idle_pause, &inner.queue);
        reservation.keep(idle, |_| pause.schedule(queue));
        Ok(())
    }
}

/// Rejects all requests to the lake during a preparation, and records if there was one.
#[derive(Debug, Default)]
struct RejectingLakeAccess(AtomicBool);

#[async_trait]
impl LakeAccess for RejectingLakeAccess {
    async fn answer(&self, _request: LakeRequest) -> Result<LakeResponse, Problem> {
        self.0.store(true, Ordering::Relaxed);
        Err(without_lake())
    }

    fn restart(&self) {}
}

impl Invocation {
    /// Returns a copy of the invocation for a preparation: without arguments, job, client and
    /// access to the lake.
    pub(crate) fn for_preparation(&self) -> Invocation {
        Invocation {
            share: CallOwner { job: None, ..self.share.clone() },
            lake: None,
            client: OptionalCallParts::default(),
            begins_until: CancellationToken::new(),
            ..self.without_arguments()
        }
    }
}
