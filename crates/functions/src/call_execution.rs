//! Execution of one call, in an idle instance, in a clone of the environment's zygote, or in a new
//! process. A call that runs out of memory may run a second time, with more memory.

use std::sync::Arc;
use std::time::{Duration, Instant};

use headwater_metrics::InstanceStartKind;
use headwater_model::Usage;
use headwater_sandbox::{EgressPolicy, NetworkAccess, nameservers};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::call_outcome::explain_refusal;
use crate::error::size;
use crate::functions::{Functions, unavailable};
use crate::instance::{CallStopConditions, InstanceOrigin, NewInstance, RunningInstance};
use crate::invoke::{log_system_line, millis};
use crate::queue::Permit;
use crate::warm_instance::{IdleInstance, WarmInstance};
use crate::zygote::ZygoteLookup;
use crate::{
    Environment, Error, FunctionEvent, Invocation, InvocationOutcome, Isolation, Limits, Result,
};

/// The execution of one call, which has a permit.
pub(crate) struct CallExecution<'a> {
    pub(crate) functions: &'a Functions,
    pub(crate) permit: &'a Permit<IdleInstance>,
    pub(crate) sink: &'a mpsc::Sender<FunctionEvent>,
    pub(crate) cancelled: &'a CancellationToken,
    /// The deadline of the call.
    pub(crate) until: Instant,
    /// The part of the call's usage that does not come from its own process: waiting times, and the
    /// resources used to start a zygote, for example.
    pub(crate) outside: Usage,
    /// The time that the call waited for the origin of its instance, for example until the zygote
    /// was ready.
    pub(crate) start_time: Duration,
    /// The kind of start of the instance; `None` until the instance has started.
    pub(crate) start: Option<InstanceStartKind>,
}

/// The outcome of a call, and the call's instance if another call can reuse it.
type FinishedCall = (InvocationOutcome, Option<WarmInstance>);

impl CallExecution<'_> {
    /// Runs a function. If it runs out of memory, runs it once more with twice the memory, if that
    /// much memory is free. A function with network access is not run again, because a second run
    /// would send the function's requests again.
    pub(crate) async fn run(
        &mut self,
        invocation: &Invocation,
        warm: Option<WarmInstance>,
    ) -> Result<FinishedCall> {
        let (mut first, warm) = self.run_once(invocation, warm).await?;
        if self.functions.0.isolation == Isolation::Sandbox {
            explain_refusal(&mut first.returned);
        }
        let Err(Error::MemoryLimit { limit, .. }) = first.returned else {
            return Ok((first, warm));
        };
        let is_answered =
            invocation.client.answer.as_ref().is_some_and(crate::ResponseSender::has_begun);
        if !invocation.limits.network.denies_all() || is_answered {
            return Ok((first, None));
        }
        let Some(_extra) = self.permit.grow_or_wait(limit).await else {
            return Ok((first, None));
        };
        let Limits { memory_bytes, .. } = invocation.limits;
        let limits = Limits { memory_bytes: 2 * memory_bytes, ..invocation.limits.clone() };
        let text = format!(
            "the call needs more memory than its limit of {} and is retried with {}. {}",
            size(limit),
            size(limits.memory_bytes),
            limits.settings.raise_hint("memory")
        );
        log_system_line(self.sink, text).await;
        let again = Invocation { limits, ..invocation.clone() };
        self.outside.retries += 1;
        if let Some(lake) = &invocation.lake {
            lake.restart();
        }
        let mut second = match self.run_once(&again, None).await {
            // Do not reuse the second process: its memory limit is higher than the limit for idle
            // instances.
            Ok((second, _)) => second,
            // The second attempt has no outcome, so return its error with the usage of the first
            // attempt, which is always charged.
            Err(error) => return Ok((InvocationOutcome { returned: Err(error), ..first }, None)),
        };
        if let Err(Error::MemoryLimit { limit, retried_with, .. }) = &mut second.returned {
            *retried_with = Some(std::mem::replace(limit, memory_bytes));
        }
        let mut usage = first.usage;
        usage.add(&second.usage);
        Ok((InvocationOutcome { usage, ..second }, None))
    }

    async fn run_once(
        &mut self,
        invocation: &Invocation,
        warm: Option<WarmInstance>,
    ) -> Result<FinishedCall> {
        if let Some(warm) = warm {
            self.start = Some(InstanceStartKind::Reused);
            if let Some(ended) = self.run_warm(invocation, warm).await? {
                return Ok(ended);
            }
            self.start = None;
        }
        let Limits { timeout: limit, settings, .. } = invocation.limits;
        let label = invocation.label.clone();
        let asked = Instant::now();
        let origin = tokio::select! {
            biased;
            origin = self.origin(invocation) => origin,
            () = self.cancelled.cancelled() => Err(Error::Cancelled { label }),
            () = tokio::time::sleep_until(self.until.into()) => {
                let frames = Vec::new();
                Err(Error::TimeLimit { label, limit, importing: true, settings, frames })
            }
        };
        self.outside.start_ms += millis(asked);
        self.start_time += asked.elapsed();
        let (origin, cold, cpu_us) = origin?;
        self.outside.cpu_us += cpu_us;
        self.start = Some(if cold { InstanceStartKind::Cold } else { InstanceStartKind::Zygote });
        let (outcome, warm) = self.run_new(origin, invocation).await?;
        let cold = cold || outcome.usage.cold_starts > 0;
        self.start = Some(if cold { InstanceStartKind::Cold } else { InstanceStartKind::Zygote });
        Ok((outcome.begun(cold), warm))
    }

    /// Runs a function in the idle instance that the permit contains. Returns `None` if this
    /// instance has ended.
    async fn run_warm(
        &self,
        invocation: &Invocation,
        warm: WarmInstance,
    ) -> Result<Option<FinishedCall>> {
        let Ok(instance) = RunningInstance::resume(warm, invocation, self.sink.clone()) else {
            return Ok(None);
        };
        match instance.finish(self.limits_of(invocation)).await {
            Ok((outcome, warm)) => Ok(Some((outcome.begun(false), warm))),
            // The idle instance has ended in the meantime, so the call needs a new instance.
            Err(Error::NotCloned { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Runs a function in a new instance that is created from `origin`. If the zygote has just
    /// ended and cannot be cloned, the function runs in a new process, which counts as a cold
    /// start.
    async fn run_new(
        &self,
        origin: InstanceOrigin,
        invocation: &Invocation,
    ) -> Result<FinishedCall> {
        let policy = tokio::select! {
            biased;
            policy = self.egress_policy(invocation) => policy,
            () = self.cancelled.cancelled() => {
                return Err(Error::Cancelled { label: invocation.label.clone() });
            }
            () = tokio::time::sleep_until(self.until.into()) => return Err(Error::TimeLimit {
                label: invocation.label.clone(),
                limit: invocation.limits.timeout,
                importing: false,
                settings: invocation.limits.settings,
                frames: Vec::new(),
            }),
        };
        let InstanceOrigin::Zygote(zygote) = &origin else {
            return self.run_from(&origin, invocation, policy).await;
        };
        match self.run_from(&origin, invocation, policy.clone()).await {
            Err(Error::NotCloned { reason }) => {
                let text = format!(
                    "this call imports its packages itself, because the process with the imported \
                     packages could not be cloned: {reason}"
                );
                log_system_line(self.sink, text).await;
                self.functions.0.zygotes.forget(zygote);
                self.run_from(&InstanceOrigin::Sandbox, invocation, policy).await
            }
            ended => {
                zygote.touch();
                ended.map(|(outcome, warm)| (outcome.begun(false), warm))
            }
        }
    }

    async fn run_from(
        &self,
        origin: &InstanceOrigin,
        invocation: &Invocation,
        policy: Option<EgressPolicy>,
    ) -> Result<FinishedCall> {
        let inner = &self.functions.0;
        let project = match origin {
            InstanceOrigin::Folder(_) => None,
            InstanceOrigin::Sandbox | InstanceOrigin::Zygote(_) => tokio::select! {
                biased;
                project = inner.projects.get(&invocation.files) => project,
                () = self.cancelled.cancelled() => {
                    return Err(Error::Cancelled { label: invocation.label.clone() });
                }
            },
        };
        let pages = inner.pages.clone().ok();
        let new = NewInstance { origin, policy, pages, project, prepares: false };
        let instance = RunningInstance::start(&inner.spawner, invocation, new, self.sink.clone())?;
        instance.finish(self.limits_of(invocation)).await
    }

    fn limits_of(&self, invocation: &Invocation) -> CallStopConditions {
        let boost = &self.functions.0.cpu_boost;
        let boost = boost.duration(&invocation.share.owner, Instant::now());
        CallStopConditions { until: self.until, boost, cancelled: self.cancelled.clone() }
    }

    /// Returns the origin of a call's new instance, true for a cold start, and the CPU time that
    /// starting the origin used, in microseconds.
    async fn origin(&self, invocation: &Invocation) -> Result<(InstanceOrigin, bool, u64)> {
        let inner = &self.functions.0;
        match (inner.isolation, &inner.spawner.report().sandbox_error) {
            (Isolation::Process, _) => {
                return Ok((InstanceOrigin::Folder(inner.environments.work_folder()), true, 0));
            }
            (Isolation::Sandbox, Some(reason)) => return Err(unavailable(reason)),
            (Isolation::Sandbox, None) => {}
        }
        if inner.projects.needs_sandbox(&invocation.files) {
            return Ok((InstanceOrigin::Sandbox, true, 0));
        }
        let ZygoteLookup { zygote, started, cpu_us, .. } =
            self.functions.zygote(&invocation.environment).await;
        Ok(match zygote {
            Some(zygote) => (InstanceOrigin::Zygote(zygote), started, cpu_us),
            None => (InstanceOrigin::Sandbox, true, cpu_us),
        })
    }

    /// Resolves the hosts to which a call may connect. Returns `None` without a sandbox, because
    /// only a sandbox can restrict the network.
    async fn egress_policy(&self, invocation: &Invocation) -> Option<EgressPolicy> {
        let (inner, network) = (&self.functions.0, &invocation.limits.network);
        if inner.isolation == Isolation::Process {
            if let NetworkAccess::Hosts(_) = network {
                let text = "without isolation, network access is not limited to the listed hosts";
                log_system_line(self.sink, text.to_owned()).await;
            }
            return None;
        }
        let nameservers = inner.nameservers.clone().unwrap_or_else(nameservers);
        let (policy, unknown) =
            EgressPolicy::resolve(network, nameservers, inner.connections.clone()).await;
        for text in unknown {
            log_system_line(self.sink, text).await;
        }
        policy
    }
}

impl Functions {
    /// Returns the zygote for a call. If the call is cancelled while the zygote starts, the start
    /// continues, so that the next call can use the zygote.
    pub(crate) async fn zygote(&self, environment: &Arc<Environment>) -> ZygoteLookup {
        let inner = &self.0;
        let (zygotes, environment) = (inner.zygotes.clone(), environment.clone());
        let closing = inner.closing.token().clone();
        let found = if let Some(found) = zygotes.try_get(&environment) {
            found
        } else {
            let (zygotes, closing) = (zygotes.clone(), closing.clone());
            let environment = environment.clone();
            let (sender, found) = oneshot::channel();
            tokio::spawn(async move {
                let found = tokio::select! {
                    found = zygotes.get(&environment) => found,
                    () = closing.cancelled() => ZygoteLookup::default(),
                };
                if let Err(unheard) = sender.send(found) {
                    zygotes.charge_next_call(&environment, unheard.cpu_us);
                }
            });
            found.await.unwrap_or_default()
        };
        // Instances that are kept for an expected regular call keep their zygotes alive. End these
        // instances, then the zygotes.
        if found.started && inner.zygotes.is_over_limit() {
            inner.queue.end_extended(Instant::now());
            inner.zygotes.end_idle_over_limit();
        }
        if found.again {
            tokio::spawn(async move {
                tokio::select! {
                    () = zygotes.retry_failed_start(&environment) => {}
                    () = closing.cancelled() => {}
                }
            });
        }
        found
    }
}
