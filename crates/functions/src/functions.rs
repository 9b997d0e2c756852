//! The handle of this room: environments and invocations, within what the machine holds.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use headwater_model::{LogStream, Usage};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::arena::Arena;
use crate::calls::Calls;
use crate::environment::Environments;
use crate::error::size;
use crate::instance::{Instance, Origin};
use crate::memory::Pages;
use crate::network::{Gate, Reach, nameservers};
use crate::preload::Preload;
use crate::prompt::Prompt;
use crate::queue::{Queue, Turn};
use crate::spawner::Spawner;
use crate::turns::Turns;
use crate::warm::{KeptFor, Waiting, Warm};
use crate::zygote::{Found, Zygotes};
use crate::{
    Environment, EnvironmentEvent, EnvironmentSpec, Error, FunctionEvent, FunctionsOptions,
    Invocation, Isolation, Limits, Network, Outcome, Result, Returned, ZygoteReport,
};

/// How often it is looked which calls have waited for so long that they are next.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How often idle zygotes are looked for.
const SWEEP_MIN: Duration = Duration::from_millis(50);
const SWEEP_MAX: Duration = Duration::from_secs(30);

/// How often processes that wait are looked at, and one that rests.
const REST_LOOK: Duration = Duration::from_secs(1);
const REST_STEP: Duration = Duration::from_millis(10);

/// Builds environments and runs functions. Cheap to clone; the spawner and everything it started
/// end when the last clone is dropped.
#[derive(Debug, Clone)]
pub struct Functions(pub(crate) Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    spawner: Arc<Spawner>,
    pub(crate) environments: Arc<Environments>,
    pub(crate) zygotes: Arc<Zygotes>,
    pub(crate) warm: Waiting,
    pub(crate) calls: Calls,
    prompt: Prompt,
    turns: Turns,
    /// Cancelled when nobody is left who calls.
    closing: DropGuard,
    isolation: Isolation,
    /// Where tables are written that functions return, or why memory files must do.
    pub(crate) pages: std::result::Result<Arc<Pages>, String>,
    /// Whether zygotes have the arena preloaded.
    has_arena: bool,
    nameservers: Option<Vec<SocketAddr>>,
    gate: Arc<Gate>,
    pub(crate) queue: Arc<Queue>,
}

impl Functions {
    /// Starts the spawner and makes ready. A host that forbids sandboxes is no error yet: it is one
    /// for each call, and one of the [`Functions::warnings`].
    pub async fn start(options: FunctionsOptions) -> Result<Functions> {
        let own = options.own_dir.clone();
        std::fs::create_dir_all(&own).map_err(Error::io("make the functions' folder"))?;
        let spawner = Arc::new(Spawner::start(options.spawner.clone(), own).await?);
        let environments = Arc::new(Environments::open(&options, spawner.clone())?);
        let arena = options.arena.then(|| Arena::install(&options.tools_dir)).transpose()?;
        let has_arena = arena.is_some();
        let libraries = (Preload::zygote(&options.tools_dir)?, arena);
        let zygotes = Zygotes::new(spawner.clone(), options.zygotes.clone(), libraries);
        let pages = pages(options.isolation, spawner.report().users_apart);
        let (places, memory) = (options.concurrency, options.memory_bytes_total);
        let inner = Arc::new(Inner {
            spawner,
            environments,
            zygotes: Arc::new(zygotes),
            warm: Waiting::default(),
            calls: Calls::default(),
            prompt: Prompt::default(),
            turns: Turns::default(),
            closing: CancellationToken::new().drop_guard(),
            isolation: options.isolation,
            pages,
            has_arena,
            nameservers: options.nameservers.clone(),
            gate: Arc::new(Gate::open(options.reachable_own, options.connections_max)),
            queue: Queue::new(places, memory, options.waiting_max),
        });
        tokio::spawn(sweep(Arc::downgrade(&inner)));
        tokio::spawn(rest(Arc::downgrade(&inner)));
        tokio::spawn(Queue::look(Arc::downgrade(&inner.queue), LOOK_EVERY));
        Ok(Functions(inner))
    }

    /// What is weaker on this host than it should be, for people to read at start; often nothing.
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

    /// Whether functions write what they return to huge pages: the host has them, and whoever runs this may
    /// use them.
    pub fn uses_huge_pages(&self) -> bool {
        self.0.pages.is_ok()
    }

    /// Refuses an environment that cannot be made here: a Python that the machine does not have, a
    /// requirement that is none. Nothing is started and nothing fetched.
    pub fn check_environment(&self, spec: &EnvironmentSpec) -> Result<()> {
        self.0.environments.check(spec)
    }

    /// The environment for a set of packages, made where it is not there yet.
    pub async fn environment(
        &self,
        spec: &EnvironmentSpec,
        on_progress: &(dyn Fn(EnvironmentEvent) + Send + Sync),
    ) -> Result<Arc<Environment>> {
        self.0.environments.get(spec, on_progress).await
    }

    /// Whether an environment is still the one that its packages' names stand for: it was neither
    /// removed nor made anew.
    pub fn counts(&self, environment: &Environment) -> bool {
        self.0.environments.build_of(&environment.id).as_ref() == Some(&environment.build)
    }

    /// Runs a function once, in a process of its own, and waits for it. What it prints goes to
    /// `sink` while it runs; a full sink makes the function wait, a closed one loses the lines. The
    /// process is killed where the future is dropped.
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
            // Who said nothing asked for nothing.
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
        let kept = KeptFor { waiting: &self.0.warm, invocation: &invocation };
        let turn = tokio::select! {
            turn = self.0.queue.turn(of, wanted, &kept) => turn,
            () = cancelled.cancelled() => {
                Err(Error::Cancelled { label: invocation.label.clone() })
            }
            () = invocation.begins_until.cancelled() => {
                Err(Error::Stopping { label: invocation.label.clone() })
            }
        };
        // What it waits for, and what is taken for it beside its own process.
        let mut beside = Usage { queue_ms: millis(queued), ..Usage::default() };
        let outcome = match turn {
            Ok((Turn { place: _place, mut memory }, warm)) => {
                listed.runs();
                let with = (&sink, &cancelled);
                let ran = self.run_with_more(&invocation, warm, &mut beside, with).await;
                ran.map(|(outcome, warm)| {
                    // A process that waits holds its memory, unless somebody else waits for that.
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
                self.0.prompt.took(&owner, outcome.usage.cpu_us, Instant::now());
                outcome
            }
            Err(error) => Outcome { returned: Err(error), usage: Usage::default() },
        };
        outcome.usage.add(&beside);
        outcome
    }

    /// Runs a function, and once more with twice the memory where it needs more than it may hold and
    /// the machine has that to spare. One that can reach others runs once: what it asked of them would
    /// be asked twice.
    async fn run_with_more(
        &self,
        invocation: &Invocation,
        warm: Option<Warm>,
        beside: &mut Usage,
        (sink, cancelled): (&mpsc::Sender<FunctionEvent>, &CancellationToken),
    ) -> Result<(Outcome, Option<Warm>)> {
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
            // Its process holds more than it is to have while it waits.
            Ok((second, _)) => second,
            // What the first took is metered whatever became of the second.
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
        warm: Option<Warm>,
        (until, beside): (Instant, &mut Usage),
        (sink, cancelled): (&mpsc::Sender<FunctionEvent>, &CancellationToken),
    ) -> Result<(Outcome, Option<Warm>)> {
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

    /// Runs a function in an instance from this origin, or in a fresh one where a zygote cannot be
    /// cloned: it may have ended a moment ago.
    async fn run(
        &self,
        (origin, cold): (Origin, bool),
        invocation: &Invocation,
        until: Instant,
        (sink, cancelled): (&mpsc::Sender<FunctionEvent>, &CancellationToken),
    ) -> Result<(Outcome, Option<Warm>)> {
        let reach = tokio::select! {
            biased;
            reach = self.reach(invocation, sink) => reach,
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
            let means = (reach.clone(), pages, self.0.has_arena);
            let turn = self.0.turns.begin();
            let instance = Instance::start(spawner, invocation, &from, means, lines)?;
            let prompt = self.0.prompt.of(&invocation.share.owner, Instant::now());
            let finished = instance.finish((until, prompt, turn), cancelled.clone()).await;
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
        Err(Error::Spawner { reason: "started nothing".to_owned() })
    }

    /// Where a call's instance comes from, whether its packages are imported for it, and the processor
    /// time of that which it is metered by.
    async fn origin(&self, invocation: &Invocation) -> Result<(Origin, bool, u64)> {
        match (self.0.isolation, &self.0.spawner.report().sandbox_error) {
            (Isolation::Process, _) => {
                return Ok((Origin::Folder(self.0.environments.work_folder()), true, 0));
            }
            (Isolation::Sandbox, Some(reason)) => return Err(unavailable(reason)),
            (Isolation::Sandbox, None) => {}
        }
        let Found { zygote, started, cpu_us, .. } = self.zygote(invocation).await;
        Ok(match zygote {
            Some(zygote) => (Origin::Zygote(zygote), started, cpu_us),
            None => (Origin::Sandbox, true, cpu_us),
        })
    }

    /// Runs a function in a process that ran it before, where that is still there.
    async fn run_again(
        &self,
        invocation: &Invocation,
        warm: Warm,
        until: Instant,
        (sink, cancelled): (&mpsc::Sender<FunctionEvent>, &CancellationToken),
    ) -> Result<Option<(Outcome, Option<Warm>)>> {
        let turn = self.0.turns.begin();
        let Ok(instance) = Instance::resume(warm, invocation, sink.clone()) else {
            return Ok(None);
        };
        let prompt = self.0.prompt.of(&invocation.share.owner, Instant::now());
        match instance.finish((until, prompt, turn), cancelled.clone()).await {
            Ok((outcome, warm)) => Ok(Some((outcome.begun(false), warm))),
            // It ended while it waited.
            Err(Error::NotCloned { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What a call may reach. Without a sandbox that is whatever the host's user reaches.
    async fn reach(
        &self,
        invocation: &Invocation,
        sink: &mpsc::Sender<FunctionEvent>,
    ) -> Option<Reach> {
        let network = &invocation.limits.network;
        if self.0.isolation == Isolation::Process {
            if let Network::Hosts(_) = network {
                let text = "without isolation nobody holds it to the hosts that it lists";
                remark(sink, text.to_owned()).await;
            }
            return None;
        }
        let nameservers = self.0.nameservers.clone().unwrap_or_else(nameservers);
        let (reach, unknown) = Reach::of(network, nameservers, self.0.gate.clone()).await;
        for text in unknown {
            remark(sink, text).await;
        }
        reach
    }

    /// A call's zygote. One that has to be started for it goes on to start even where the call does
    /// not wait that long: the next call finds it.
    async fn zygote(&self, invocation: &Invocation) -> Found {
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
                    () = closing.cancelled() => Found::default(),
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

    /// The processor time that everything which the spawner started has taken, as the kernel has added
    /// it up, in microseconds; none where no control group counts it.
    pub async fn kernel_cpu_us(&self) -> Option<u64> {
        self.0.spawner.total().await
    }

    /// The processes that hold packages imported for functions to come.
    pub fn zygotes(&self) -> Vec<ZygoteReport> {
        self.0.zygotes.reports()
    }
}

/// Where functions write tables, or why that must be memory files. Whoever runs as the user who owns the
/// files could make them writable again.
fn pages(isolation: Isolation, users_apart: bool) -> std::result::Result<Arc<Pages>, String> {
    match (isolation, users_apart) {
        (Isolation::Process, _) => Err("functions run without isolation".to_owned()),
        (Isolation::Sandbox, false) => {
            Err("the server does not run as root, and functions run as its user".to_owned())
        }
        (Isolation::Sandbox, true) => {
            let failed = |error| format!("a file system of them cannot be mounted: {error}");
            Pages::open().map(Arc::new).map_err(failed)
        }
    }
}

fn millis(since: Instant) -> u64 {
    since.elapsed().as_millis() as u64
}

/// Tells whoever reads a function's lines something of the system's own.
async fn remark(sink: &mpsc::Sender<FunctionEvent>, text: String) {
    let (stream, file, line) = (LogStream::System, None, None);
    // Nobody may listen any more.
    let _ = sink.send(FunctionEvent::Line { stream, file, line, text }).await;
}

/// Ends zygotes that nobody has used for long, as long as there are functions.
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

/// Has processes that wait for a call rest, as long as there are functions.
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
