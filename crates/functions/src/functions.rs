//! The handle of the runtime: environments and invocations, within the machine's resources.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use headwater_environments::{Environments, EnvironmentsOptions};
use headwater_model::{LogStream, Usage};
use headwater_sandbox::{ConnectionCap, EgressPolicy, Network, Spawner, nameservers};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::call_registry::CallRegistry;
use crate::cpu_boost::CpuBoost;
use crate::error::size;
use crate::instance::{Instance, Origin};
use crate::memory::HugePageFs;
use crate::preload::Preload;
use crate::queue::{Permit, Queue};
use crate::warm_pool::{MatchingInstances, WarmInstance, WarmPool};
use crate::zygote::{ZygoteLookup, Zygotes};
use crate::{
    Environment, EnvironmentEvent, EnvironmentSpec, Error, FunctionEvent, FunctionsOptions,
    Invocation, Isolation, Limits, Outcome, Result, Returned, ZygoteReport,
};

/// Interval between promotions of starved calls.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Interval between evictions of idle zygotes.
const SWEEP_MIN: Duration = Duration::from_millis(50);
const SWEEP_MAX: Duration = Duration::from_secs(30);

/// Interval between checks of idle instances, normally and while one shrinks its memory.
const REST_LOOK: Duration = Duration::from_secs(1);
const REST_STEP: Duration = Duration::from_millis(10);

/// Builds environments and runs functions. Cheap to clone; dropping the last clone ends the spawner
/// and all processes that it started.
#[derive(Debug, Clone)]
pub struct Functions(pub(crate) Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    spawner: Arc<Spawner>,
    pub(crate) environments: Arc<Environments>,
    pub(crate) zygotes: Arc<Zygotes>,
    pub(crate) warm: WarmPool,
    pub(crate) calls: CallRegistry,
    cpu_boost: CpuBoost,
    /// Cancelled when the last handle is dropped.
    closing: DropGuard,
    isolation: Isolation,
    /// The huge-page file system for results, or the reason why memory files are used.
    pub(crate) pages: std::result::Result<Arc<HugePageFs>, String>,
    nameservers: Option<Vec<SocketAddr>>,
    connections: Arc<ConnectionCap>,
    pub(crate) queue: Arc<Queue>,
}

impl Functions {
    /// Starts the spawner. A host that does not support sandboxes is not an error here: each call
    /// fails, and [`Functions::warnings`] contains the reason.
    pub async fn start(options: FunctionsOptions) -> Result<Functions> {
        let own = options.own_dir.clone();
        std::fs::create_dir_all(&own).map_err(Error::io("make the functions' folder"))?;
        let spawner = Arc::new(Spawner::start(options.spawner.clone(), own).await?);
        let environments =
            Arc::new(Environments::open(environments_options(&options), spawner.clone())?);
        let library = Preload::install(&options.tools_dir)?;
        let zygotes = Zygotes::new(spawner.clone(), options.zygotes.clone(), library);
        let pages = pages(options.isolation, spawner.report().separate_users);
        let connections = ConnectionCap::new(options.reachable_own, options.connections_max);
        let (places, memory) = (options.concurrency, options.memory_bytes_total);
        let inner = Arc::new(Inner {
            spawner,
            environments,
            zygotes: Arc::new(zygotes),
            warm: WarmPool::default(),
            calls: CallRegistry::default(),
            cpu_boost: CpuBoost::default(),
            closing: CancellationToken::new().drop_guard(),
            isolation: options.isolation,
            pages,
            nameservers: options.nameservers.clone(),
            connections: Arc::new(connections),
            queue: Queue::new(places, memory, options.waiting_max),
        });
        tokio::spawn(sweep(Arc::downgrade(&inner)));
        tokio::spawn(rest(Arc::downgrade(&inner)));
        tokio::spawn(Queue::look(Arc::downgrade(&inner.queue), LOOK_EVERY));
        Ok(Functions(inner))
    }

    /// Returns weaknesses of the isolation on this host, to log at the start; usually none.
    pub fn warnings(&self) -> Vec<String> {
        let report = self.0.spawner.report();
        let mut warnings = Vec::new();
        match (self.0.isolation, &report.sandbox_error) {
            (Isolation::Process, _) => warnings.push(
                "functions run without isolation: they can read and change what this user can, and \
                 use the network; `/tmp` is not limited"
                    .to_owned(),
            ),
            (Isolation::Sandbox, Some(reason)) => {
                warnings.push(format!("Python functions cannot run on this host: {reason}"));
            }
            (Isolation::Sandbox, None) => {}
        }
        if !report.memory_limits {
            warnings.push(
                "no control group can limit memory here: functions are sampled, and may pass their \
                 limit for a moment; shared memory is not counted"
                    .to_owned(),
            );
        }
        if !report.cpu_limits {
            warnings.push("no control group can hold back a function's use of processors".into());
        }
        if !report.process_limits {
            warnings.push("no control group can limit how many processes a function starts".into());
        }
        warnings
    }

    /// Returns true if functions write their results to huge pages: the host has them, and this
    /// user may use them.
    pub fn uses_huge_pages(&self) -> bool {
        self.0.pages.is_ok()
    }

    /// Rejects an environment that cannot be built here: a missing Python version, or an invalid
    /// requirement. Starts and downloads nothing.
    pub fn check_environment(&self, spec: &EnvironmentSpec) -> Result<()> {
        Ok(self.0.environments.check(spec)?)
    }

    /// Returns the environment of a set of packages, and builds it if missing.
    pub async fn environment(
        &self,
        spec: &EnvironmentSpec,
        on_progress: &(dyn Fn(EnvironmentEvent) + Send + Sync),
    ) -> Result<Arc<Environment>> {
        Ok(self.0.environments.get(spec, on_progress).await?)
    }

    /// Returns true if an environment still exists and was not rebuilt.
    pub fn counts(&self, environment: &Environment) -> bool {
        self.0.environments.current_build(&environment.id).as_ref() == Some(&environment.build)
    }

    /// Runs a function once, in a process of its own, and waits for it. Printed lines go to `sink`
    /// during the run; a full sink blocks the function, a closed one discards the lines. Dropping
    /// the future kills the process.
    pub async fn invoke(
        &self,
        invocation: Invocation,
        sink: mpsc::Sender<FunctionEvent>,
        cancelled: CancellationToken,
    ) -> Outcome {
        let mut invocation = invocation;
        let most = self.0.queue.memory_bytes();
        if invocation.limits.memory_bytes > most {
            let asked = std::mem::replace(&mut invocation.limits.memory_bytes, most);
            // An unset limit means the default.
            if asked != Limits::default().memory_bytes {
                let (asked, has) = (size(asked), size(most));
                let text = format!(
                    "it asks for {asked} of memory, and gets {has}: all functions have no more"
                );
                remark(&sink, text).await;
            }
        }
        let listed = self.0.calls.add(&invocation);
        let (queued, bytes_in) = (Instant::now(), invocation.bytes());
        let of = (listed.number(), &invocation.share, &*invocation.label);
        let owner = invocation.share.owner.clone();
        let wanted = invocation.limits.memory_bytes;
        let kept = MatchingInstances { waiting: &self.0.warm, invocation: &invocation };
        let turn = tokio::select! {
            turn = self.0.queue.turn(of, wanted, &kept) => turn,
            () = cancelled.cancelled() => {
                Err(Error::Cancelled { label: invocation.label.clone() })
            }
            () = invocation.begins_until.cancelled() => {
                Err(Error::Stopping { label: invocation.label.clone() })
            }
        };
        // Resources that it waits for, and resources outside its process.
        let mut beside = Usage { queue_ms: millis(queued), ..Usage::default() };
        let outcome = match turn {
            Ok((Permit { place: _place, mut memory }, warm)) => {
                listed.runs();
                let with = (&sink, &cancelled);
                let ran = self.run_with_more(&invocation, warm, &mut beside, with).await;
                ran.map(|(outcome, warm)| {
                    // An idle instance holds its memory unless another call needs that.
                    if let Some(warm) = warm
                        && !self.0.queue.would_help(memory.bytes())
                    {
                        memory.belong_to(None);
                        self.0.warm.put(invocation, warm, memory);
                        if self.0.queue.would_help(0) {
                            self.0.warm.end_one();
                        }
                    }
                    outcome
                })
            }
            Err(error) => Err(error),
        };
        let mut outcome = match outcome {
            Ok(mut outcome) => {
                let bytes_out = outcome.returned.as_ref().map_or(0, Returned::bytes);
                outcome.usage.bytes_in += bytes_in;
                outcome.usage.bytes_out = bytes_out;
                self.0.cpu_boost.record(&owner, outcome.usage.cpu_us, Instant::now());
                outcome
            }
            Err(error) => Outcome { returned: Err(error), usage: Usage::default() },
        };
        outcome.usage.add(&beside);
        outcome
    }

    /// Runs a function, and once more with twice the memory if it ran out of memory and the machine
    /// has enough. A function with network access runs once, since its requests would be repeated.
    async fn run_with_more(
        &self,
        invocation: &Invocation,
        warm: Option<WarmInstance>,
        beside: &mut Usage,
        (sink, cancelled): (&mpsc::Sender<FunctionEvent>, &CancellationToken),
    ) -> Result<(Outcome, Option<WarmInstance>)> {
        let until = Instant::now() + invocation.limits.timeout;
        let with = (sink, cancelled);
        let now = (until, &mut *beside);
        let (first, warm) = self.run_in_turn(invocation, warm, now, with).await?;
        let Err(Error::MemoryLimit { limit, .. }) = first.returned else {
            return Ok((first, warm));
        };
        if !invocation.limits.network.is_off() {
            return Ok((first, None));
        }
        let more = self.0.queue.more(&invocation.share.owner, limit, || self.0.warm.end_one());
        let Some(_more) = more else { return Ok((first, None)) };
        let Limits { memory_bytes, .. } = invocation.limits;
        let limits = Limits { memory_bytes: 2 * memory_bytes, ..invocation.limits.clone() };
        let text = format!(
            "it needs more memory than its limit of {}: it runs once more, with {}; `memory` in its \
             decorator gives it that from the start",
            size(limit),
            size(limits.memory_bytes)
        );
        remark(sink, text).await;
        let again = Invocation { limits, ..invocation.clone() };
        beside.retries += 1;
        let mut second = match self.run_in_turn(&again, None, (until, beside), with).await {
            // Its process holds more memory than an idle instance may.
            Ok((second, _)) => second,
            // The usage of the first attempt counts in any case.
            Err(error) => return Ok((Outcome { returned: Err(error), ..first }, None)),
        };
        if let Err(Error::MemoryLimit { limit, retried_with, .. }) = &mut second.returned {
            *retried_with = Some(std::mem::replace(limit, memory_bytes));
        }
        let mut usage = first.usage;
        usage.add(&second.usage);
        Ok((Outcome { usage, ..second }, None))
    }

    async fn run_in_turn(
        &self,
        invocation: &Invocation,
        warm: Option<WarmInstance>,
        (until, beside): (Instant, &mut Usage),
        (sink, cancelled): (&mpsc::Sender<FunctionEvent>, &CancellationToken),
    ) -> Result<(Outcome, Option<WarmInstance>)> {
        if let Some(warm) = warm
            && let Some(ran) = self.run_again(invocation, warm, until, (sink, cancelled)).await?
        {
            return Ok(ran);
        }
        let (label, limit) = (invocation.label.clone(), invocation.limits.timeout);
        let asked = Instant::now();
        let origin = tokio::select! {
            biased;
            origin = self.origin(invocation) => origin,
            () = cancelled.cancelled() => Err(Error::Cancelled { label }),
            () = tokio::time::sleep_until(until.into()) => {
                Err(Error::TimeLimit { label, limit, importing: true, frames: Vec::new() })
            }
        };
        beside.start_ms += millis(asked);
        let (origin, cold, cpu_us) = origin?;
        beside.cpu_us += cpu_us;
        self.run((origin, cold), invocation, until, (sink, cancelled)).await
    }

    /// Runs a function in an instance from this origin, or in a new process if the zygote cannot be
    /// cloned because it has just ended.
    async fn run(
        &self,
        (origin, cold): (Origin, bool),
        invocation: &Invocation,
        until: Instant,
        (sink, cancelled): (&mpsc::Sender<FunctionEvent>, &CancellationToken),
    ) -> Result<(Outcome, Option<WarmInstance>)> {
        let policy = tokio::select! {
            biased;
            policy = self.egress_policy(invocation, sink) => policy,
            () = cancelled.cancelled() => {
                return Err(Error::Cancelled { label: invocation.label.clone() });
            }
            () = tokio::time::sleep_until(until.into()) => return Err(Error::TimeLimit {
                label: invocation.label.clone(),
                limit: invocation.limits.timeout,
                importing: false,
                frames: Vec::new(),
            }),
        };
        let mut origin = Some(origin);
        while let Some(from) = origin.take() {
            let (spawner, lines) = (&self.0.spawner, sink.clone());
            let pages = self.0.pages.clone().ok();
            let means = (policy.clone(), pages);
            let instance = Instance::start(spawner, invocation, &from, means, lines)?;
            let boost = self.0.cpu_boost.duration(&invocation.share.owner, Instant::now());
            let finished = instance.finish(until, boost, cancelled.clone()).await;
            match (finished, &from) {
                (Err(Error::NotCloned { reason }), Origin::Zygote(zygote)) => {
                    let text = format!("this call imports its packages by itself: {reason}");
                    remark(sink, text).await;
                    self.0.zygotes.forget(zygote);
                    origin = Some(Origin::Sandbox);
                }
                (finished, Origin::Zygote(zygote)) => {
                    zygote.touch();
                    return finished.map(|(outcome, warm)| (outcome.begun(cold), warm));
                }
                (finished, _) => return finished,
            }
        }
        Err(headwater_sandbox::Error::Spawner { reason: "started nothing".to_owned() }.into())
    }

    /// The origin of a call's instance, whether the call is cold, and the processor time of the
    /// start.
    async fn origin(&self, invocation: &Invocation) -> Result<(Origin, bool, u64)> {
        match (self.0.isolation, &self.0.spawner.report().sandbox_error) {
            (Isolation::Process, _) => {
                return Ok((Origin::Folder(self.0.environments.work_folder()), true, 0));
            }
            (Isolation::Sandbox, Some(reason)) => return Err(unavailable(reason)),
            (Isolation::Sandbox, None) => {}
        }
        let ZygoteLookup { zygote, started, cpu_us, .. } = self.zygote(invocation).await;
        Ok(match zygote {
            Some(zygote) => (Origin::Zygote(zygote), started, cpu_us),
            None => (Origin::Sandbox, true, cpu_us),
        })
    }

    /// Runs a function in an idle instance, if it still exists.
    async fn run_again(
        &self,
        invocation: &Invocation,
        warm: WarmInstance,
        until: Instant,
        (sink, cancelled): (&mpsc::Sender<FunctionEvent>, &CancellationToken),
    ) -> Result<Option<(Outcome, Option<WarmInstance>)>> {
        let Ok(instance) = Instance::resume(warm, invocation, sink.clone()) else {
            return Ok(None);
        };
        let boost = self.0.cpu_boost.duration(&invocation.share.owner, Instant::now());
        match instance.finish(until, boost, cancelled.clone()).await {
            Ok((outcome, warm)) => Ok(Some((outcome.begun(false), warm))),
            // The instance ended while it was idle.
            Err(Error::NotCloned { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Resolves the network access of a call; none without a sandbox, which does not restrict it.
    async fn egress_policy(
        &self,
        invocation: &Invocation,
        sink: &mpsc::Sender<FunctionEvent>,
    ) -> Option<EgressPolicy> {
        let network = &invocation.limits.network;
        if self.0.isolation == Isolation::Process {
            if let Network::Hosts(_) = network {
                let text = "without isolation nobody holds it to the hosts that it lists";
                remark(sink, text.to_owned()).await;
            }
            return None;
        }
        let nameservers = self.0.nameservers.clone().unwrap_or_else(nameservers);
        let (policy, unknown) =
            EgressPolicy::resolve(network, nameservers, self.0.connections.clone()).await;
        for text in unknown {
            remark(sink, text).await;
        }
        policy
    }

    /// Returns a call's zygote. Its start continues if the call does not wait for it, so that the
    /// next call finds it.
    async fn zygote(&self, invocation: &Invocation) -> ZygoteLookup {
        let zygotes = self.0.zygotes.clone();
        let (environment, closing) =
            (invocation.environment.clone(), self.0.closing.token().clone());
        let found = if let Some(found) = zygotes.at_hand(&environment) {
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
                    zygotes.owe(&environment, unheard.cpu_us);
                }
            });
            found.await.unwrap_or_default()
        };
        if found.again {
            tokio::spawn(async move {
                tokio::select! {
                    () = zygotes.try_again(&environment) => {}
                    () = closing.cancelled() => {}
                }
            });
        }
        found
    }

    /// Returns the CPU time of all processes of the spawner, in microseconds; none without control
    /// groups.
    pub async fn kernel_cpu_us(&self) -> Option<u64> {
        self.0.spawner.total_cpu_us().await
    }

    /// Returns the zygotes.
    pub fn zygotes(&self) -> Vec<ZygoteReport> {
        self.0.zygotes.reports()
    }
}

fn environments_options(options: &FunctionsOptions) -> EnvironmentsOptions {
    EnvironmentsOptions {
        environments_dir: options.environments_dir.clone(),
        tools_dir: options.tools_dir.clone(),
        cache_dir: options.cache_dir.clone(),
        python_search: options.python_search.clone(),
    }
}

/// Creates the huge-page file system for results, or returns the reason for memory files. A process
/// of the user that owns the files could make them writable again.
fn pages(isolation: Isolation, users_apart: bool) -> std::result::Result<Arc<HugePageFs>, String> {
    match (isolation, users_apart) {
        (Isolation::Process, _) => Err("functions run without isolation".to_owned()),
        (Isolation::Sandbox, false) => {
            Err("the server does not run as root, and functions run as its user".to_owned())
        }
        (Isolation::Sandbox, true) => {
            let failed = |error| format!("a file system of them cannot be mounted: {error}");
            HugePageFs::open().map(Arc::new).map_err(failed)
        }
    }
}

fn millis(since: Instant) -> u64 {
    since.elapsed().as_millis() as u64
}

/// Sends a line of the system to the reader of a function's output.
async fn remark(sink: &mpsc::Sender<FunctionEvent>, text: String) {
    let (stream, file, line) = (LogStream::System, None, None);
    // The reader may have disconnected.
    let _ = sink.send(FunctionEvent::Line { stream, file, line, text }).await;
}

/// Evicts idle zygotes, until the runtime ends.
async fn sweep(functions: Weak<Inner>) {
    loop {
        let Some(inner) = functions.upgrade() else { return };
        inner.zygotes.sweep();
        inner.warm.sweep();
        let environments = inner.environments.clone();
        let pause = (inner.zygotes.idle_max() / 4).clamp(SWEEP_MIN, SWEEP_MAX);
        drop(inner);
        let _ = tokio::task::spawn_blocking(move || environments.sweep()).await;
        tokio::time::sleep(pause).await;
    }
}

/// Shrinks the memory of idle instances, until the runtime ends.
async fn rest(functions: Weak<Inner>) {
    let mut pause = REST_LOOK;
    loop {
        tokio::time::sleep(pause).await;
        let Some(inner) = functions.upgrade() else { return };
        pause = if inner.warm.rest() { REST_STEP } else { REST_LOOK };
    }
}

fn unavailable(reason: &str) -> Error {
    let hint = "Allow user namespaces (`sysctl user.max_user_namespaces=15000`; on Ubuntu also \
                `sysctl kernel.apparmor_restrict_unprivileged_userns=0`; in a container, run it \
                with `--privileged`), or accept weaker isolation with `--isolation process`.";
    Error::IsolationUnavailable { reason: reason.to_owned(), hint: hint.to_owned() }
}
