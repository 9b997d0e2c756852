//! Zygotes: one process per environment, with the environment's packages already imported. Each
//! call runs in a clone of the zygote, which starts faster than a new Python process.
//!
//! A zygote has a separate sandbox and runs only code of the packages, because all functions with
//! this environment share it. The first call that needs a zygote starts the zygote, and waits until
//! it is ready. A zygote ends after a long idle time, or when all zygotes together use too much
//! memory. If a zygote cannot be started, calls run in new processes and report the reason, and the
//! start is retried later in the background.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use headwater_sandbox::{Channel, ProcessIsolation, ProcessSpec, RunningProcess, Signal, Spawner};
use headwater_shared_memory::MemoryFile;
use parking_lot::Mutex;
use serde::Deserialize;

use crate::instance_spec::{ENVIRONMENT, WORKER, environment_sandbox, variables};
use crate::preload_library::PreloadLibrary;
use crate::prepared_clones::PreparedClones;
use crate::{Environment, Error, Limits, Result, ZygoteOptions, worker_protocol};

/// Time limit for a zygote to import the packages of its environment.
const IMPORT_MAX: Duration = Duration::from_secs(120);

/// Memory limit of a zygote without its clones, in bytes.
const MEMORY_BYTES_MAX: u64 = 8 << 30;
/// Maximum number of processes and threads of a zygote. A library may start one thread per
/// processor when it is imported.
const PROCESSES_MAX: u64 = 1024;

/// Delay before a zygote is started again after the first failed start. The delay doubles with each
/// failure, up to [`RETRY_MAX`].
const RETRY: Duration = Duration::from_secs(60);
const RETRY_MAX: Duration = Duration::from_secs(3600);

/// Time after which a failed start is forgotten.
const REMEMBERED: Duration = Duration::from_secs(2 * 3600);

/// The properties of an environment that its zygote depends on. All calls with the same key share
/// one zygote.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct ZygoteKey {
    environment: String,
    build: String,
}

impl ZygoteKey {
    fn of(environment: &Environment) -> Self {
        ZygoteKey { environment: environment.id.clone(), build: environment.build.clone() }
    }
}

/// The zygotes of all environments.
#[derive(Debug)]
pub(crate) struct Zygotes {
    spawner: Arc<Spawner>,
    options: ZygoteOptions,
    library: PreloadLibrary,
    slots: Mutex<HashMap<ZygoteKey, Arc<ZygoteSlot>>>,
}

/// The zygote of one environment, or its absence.
#[derive(Debug, Default)]
struct ZygoteSlot {
    /// The state of the zygote. The lock is held while the zygote starts.
    state: tokio::sync::Mutex<ZygoteState>,
    /// CPU time of starts that must still be charged to a call, in microseconds.
    uncharged_us: AtomicU64,
}

impl ZygoteSlot {
    /// Charges the CPU time of starts that was not charged yet to the call for which `found` was
    /// looked up, and returns `found`.
    fn charge_starts(&self, found: ZygoteLookup) -> ZygoteLookup {
        ZygoteLookup {
            cpu_us: found.cpu_us + self.uncharged_us.swap(0, Ordering::Relaxed),
            ..found
        }
    }

    /// Returns true if CPU time must still be charged to a call. As long as this is true, the slot
    /// is kept, even without a zygote.
    fn has_uncharged_cpu(&self) -> bool {
        self.uncharged_us.load(Ordering::Relaxed) > 0
    }
}

#[derive(Debug, Default)]
enum ZygoteState {
    #[default]
    Absent,
    Alive(Arc<Zygote>),
    Failed(FailedStart),
}

/// A failed start: its time and reason, and the delay before the next attempt.
#[derive(Debug)]
struct FailedStart {
    since: Instant,
    reason: String,
    /// The delay before the next attempt.
    pause: Duration,
    /// True if a caller is already making the next attempt.
    tried: bool,
}

impl FailedStart {
    fn new(reason: String, before: Option<Duration>) -> Self {
        let pause = before.map_or(RETRY, |pause| (2 * pause).min(RETRY_MAX));
        FailedStart { since: Instant::now(), reason, pause, tried: false }
    }

    /// Returns true if the next attempt is due, and the caller must make it.
    fn is_due(&mut self, now: Instant) -> bool {
        let due = !self.tried && now.saturating_duration_since(self.since) >= self.pause;
        self.tried |= due;
        due
    }
}

impl ZygoteState {
    /// Returns the lookup result for a call; `None` if the caller must start a zygote first.
    fn lookup(&mut self) -> Option<ZygoteLookup> {
        match self {
            ZygoteState::Alive(zygote) if zygote.is_alive() => {
                zygote.touch();
                Some(ZygoteLookup { zygote: Some(zygote.clone()), ..ZygoteLookup::default() })
            }
            ZygoteState::Failed(failure) => Some(ZygoteLookup {
                again: failure.is_due(Instant::now()),
                ..ZygoteLookup::default()
            }),
            ZygoteState::Alive(_) | ZygoteState::Absent => None,
        }
    }
}

/// A running zygote. Its process is killed when the last reference is dropped.
#[derive(Debug)]
pub(crate) struct Zygote {
    /// The id of the process in the spawner's protocol.
    id: u64,
    running: Mutex<RunningProcess>,
    /// The zygote's environment. It is kept here because its folder must not be removed before the
    /// zygote ends.
    environment: Environment,
    ready: ReadyMessage,
    used: Mutex<Instant>,
    clones: PreparedClones,
}

/// The state of an environment's zygote, for users.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZygoteReport {
    /// The environment's id.
    pub environment: String,
    /// The private memory of the zygote in bytes.
    pub memory_bytes: u64,
    /// The duration of the zygote's imports in milliseconds.
    pub imported_ms: u64,
    /// Packages that the zygote could not import, with the reasons. Each call imports these
    /// packages itself.
    pub skipped: BTreeMap<String, String>,
    /// The reason why there is no zygote, if its start failed. Each call then imports all packages
    /// itself.
    pub failure: Option<String>,
}

/// The result of looking up the zygote for a call.
#[derive(Debug, Default)]
pub(crate) struct ZygoteLookup {
    /// The zygote to clone; `None` if the call must start a new process.
    pub(crate) zygote: Option<Arc<Zygote>>,
    /// True if the zygote was started in this lookup.
    pub(crate) started: bool,
    /// CPU time of zygote starts that is charged to this call, in microseconds. Includes failed
    /// starts.
    pub(crate) cpu_us: u64,
    /// True if the caller must retry the failed start in the background, for later calls.
    pub(crate) again: bool,
}

/// The first message of a zygote, which it sends after its imports.
#[derive(Debug, Clone, Default, Deserialize)]
struct ReadyMessage {
    /// Packages that the zygote could not import, with the reasons.
    skipped: BTreeMap<String, String>,
    memory_bytes: u64,
    took_ms: u64,
}

impl Zygotes {
    pub(crate) fn new(
        spawner: Arc<Spawner>,
        options: ZygoteOptions,
        library: PreloadLibrary,
    ) -> Self {
        Zygotes { spawner, options, library, slots: Mutex::default() }
    }

    /// Returns the lookup result for an environment if it is known without waiting for a start,
    /// otherwise `None`.
    pub(crate) fn try_get(&self, environment: &Environment) -> Option<ZygoteLookup> {
        let key = ZygoteKey::of(environment);
        if !self.options.enabled {
            let (slot, none) = (self.slots.lock().get(&key).cloned(), ZygoteLookup::default());
            return Some(if let Some(slot) = slot { slot.charge_starts(none) } else { none });
        }
        let slot = self.slots.lock().get(&key)?.clone();
        let found = slot.state.try_lock().ok()?.lookup()?;
        Some(slot.charge_starts(found))
    }

    /// Returns the zygote of an environment, and starts it if there is none.
    pub(crate) async fn get(&self, environment: &Environment) -> ZygoteLookup {
        let key = ZygoteKey::of(environment);
        let slot = self.slots.lock().entry(key).or_default().clone();
        let mut state = slot.state.lock().await;
        if let Some(found) = state.lookup() {
            return slot.charge_starts(found);
        }
        let mut cpu_us = 0;
        *state = self.start_or_not(environment, None, &mut cpu_us).await;
        let zygote =
            if let ZygoteState::Alive(zygote) = &*state { Some(zygote.clone()) } else { None };
        drop(state);
        self.end_idle_over_limit();
        slot.charge_starts(ZygoteLookup { started: zygote.is_some(), zygote, cpu_us, again: false })
    }

    /// Charges CPU time of a start to the next call, because the call that caused the start was
    /// cancelled, or because the start had no call as its cause.
    pub(crate) fn charge_next_call(&self, environment: &Environment, cpu_us: u64) {
        if cpu_us > 0 {
            let mut slots = self.slots.lock();
            let slot = slots.entry(ZygoteKey::of(environment)).or_default();
            slot.uncharged_us.fetch_add(cpu_us, Ordering::Relaxed);
        }
    }

    /// Tries to start a zygote again after a failed start. Meanwhile, calls run without a zygote.
    pub(crate) async fn retry_failed_start(&self, environment: &Environment) {
        let slot = self.slots.lock().get(&ZygoteKey::of(environment)).cloned();
        let Some(slot) = slot else { return };
        let ZygoteState::Failed(FailedStart { pause, .. }) = *slot.state.lock().await else {
            return;
        };
        let mut cpu_us = 0;
        let state = self.start_or_not(environment, Some(pause), &mut cpu_us).await;
        *slot.state.lock().await = state;
        slot.uncharged_us.fetch_add(cpu_us, Ordering::Relaxed);
        self.end_idle_over_limit();
    }

    /// Starts a zygote. If this fails, records the reason and the time of the next attempt.
    /// `before` is the previous delay after a failure.
    async fn start_or_not(
        &self,
        environment: &Environment,
        before: Option<Duration>,
        cpu_us: &mut u64,
    ) -> ZygoteState {
        match self.start(environment, cpu_us).await {
            Ok(zygote) => ZygoteState::Alive(Arc::new(zygote)),
            Err(error) => {
                tracing::warn!(environment = environment.id, %error, "a zygote cannot be started");
                ZygoteState::Failed(FailedStart::new(error.to_string(), before))
            }
        }
    }

    /// Starts a zygote. Stores the CPU time of the start in `cpu_us`, even if the start fails.
    async fn start(&self, environment: &Environment, cpu_us: &mut u64) -> Result<Zygote> {
        let (mine, theirs) = Channel::pair().map_err(Error::io("create a socket"))?;
        let files =
            worker_protocol::files().map(|(path, text)| (format!("headwater/{path}"), text));
        let files = serde_json::to_vec(&files.collect::<BTreeMap<_, _>>())
            .map_err(|error| Error::io("write the worker files")(error.into()))?;
        let files = MemoryFile::with("headwater-files", &files)?;
        let silent = std::fs::File::options().write(true).open("/dev/null");
        let silent = silent.map_err(Error::io("open /dev/null"))?;
        let plan = plan(environment, &self.library)?;
        let descriptors = [silent.as_fd(), silent.as_fd(), theirs.as_fd(), files.descriptor()];
        let mut running = self.spawner.run(plan, &descriptors)?;
        drop(theirs);
        let mine = mine.into_async().map_err(Error::io("listen to a process"))?;
        let said = tokio::select! {
            said = crate::worker_io::receive(&mine) => said,
            () = tokio::time::sleep(IMPORT_MAX) => None,
        };
        let ready = said.and_then(|said| serde_json::from_slice::<ReadyMessage>(&said.bytes).ok());
        let Some(ready) = ready else {
            running.signal(Signal::Kill);
            let ended = running.ended().await?;
            *cpu_us = ended.cpu_us;
            let reason = ended.exit.describe();
            return Err(Error::InstanceDied { label: "import of packages".to_owned(), reason });
        };
        *cpu_us = running.take_unmetered_cpu_us().await;
        let (id, running) = (running.id(), Mutex::new(running));
        let (environment, used) = (environment.with_separate_lock()?, Mutex::new(Instant::now()));
        Ok(Zygote { id, running, environment, ready, used, clones: PreparedClones::default() })
    }

    /// Removes a zygote that could not be cloned. Its process ends after its last clone has ended.
    pub(crate) fn forget(&self, zygote: &Arc<Zygote>) {
        let held = |slot: &Arc<ZygoteSlot>| {
            let state = slot.state.try_lock();
            state.is_ok_and(
                |state| matches!(&*state, ZygoteState::Alive(one) if Arc::ptr_eq(one, zygote)),
            )
        };
        self.slots.lock().retain(|_, slot| !held(slot));
    }

    /// Removes the zygotes for whose environment `gone` returns true. Each zygote ends after the
    /// last call that uses it.
    pub(crate) fn end_where(&self, gone: impl Fn(&Environment) -> bool) {
        self.slots.lock().retain(|_, slot| {
            let state = slot.state.try_lock();
            let held = state.is_ok_and(
                |state| matches!(&*state, ZygoteState::Alive(zygote) if gone(&zygote.environment)),
            );
            !held
        });
    }

    /// Ends the idle zygotes for whose environment `gone` returns true.
    pub(crate) fn end_unused(&self, gone: impl Fn(&Environment) -> bool) {
        self.remove_unused(|zygote| gone(&zygote.environment));
    }

    /// Ends the zygotes that have been idle for too long. Removes the zygotes whose processes have
    /// ended.
    pub(crate) fn sweep(&self) {
        self.remove_unused(|zygote| {
            zygote.clones.remove_surplus();
            zygote.used.lock().elapsed() >= self.options.idle_max
        });
    }

    /// Returns true if all zygotes together exceed the memory limit for idle zygotes.
    pub(crate) fn is_over_limit(&self) -> bool {
        let total: u64 = self.reports().iter().map(|zygote| zygote.memory_bytes).sum();
        total > self.options.memory_bytes_max
    }

    /// Ends idle zygotes until the remaining zygotes are within the memory limit. The longest idle
    /// time comes first.
    pub(crate) fn end_idle_over_limit(&self) {
        let mut held: Vec<(Instant, u64, u64)> = Vec::new();
        self.remove_unused(|zygote| {
            held.push((*zygote.used.lock(), zygote.id, zygote.ready.memory_bytes));
            false
        });
        held.sort();
        let mut total: u64 = held.iter().map(|(_, _, bytes)| bytes).sum();
        for (_, id, bytes) in held {
            if total <= self.options.memory_bytes_max {
                return;
            }
            self.remove_unused(|zygote| zygote.id == id);
            total -= bytes;
        }
    }

    /// Removes the unused zygotes for which `holds` returns true, and the zygotes whose processes
    /// have ended.
    fn remove_unused(&self, mut holds: impl FnMut(&Zygote) -> bool) {
        self.slots.lock().retain(|_, slot| {
            // A locked slot is in use: keep it.
            let Ok(mut state) = slot.state.try_lock() else { return true };
            match &*state {
                ZygoteState::Alive(zygote) if zygote.is_alive() => {
                    let unused = Arc::strong_count(zygote) == 1;
                    if holds(zygote) && unused {
                        *state = ZygoteState::Absent;
                        return slot.has_uncharged_cpu();
                    }
                    true
                }
                ZygoteState::Failed(failure) => {
                    failure.since.elapsed() < REMEMBERED || slot.has_uncharged_cpu()
                }
                ZygoteState::Alive(_) | ZygoteState::Absent => {
                    // The zygote has exited, or there is none. Drop an exited zygote, because it
                    // keeps its environment locked.
                    *state = ZygoteState::Absent;
                    Arc::strong_count(slot) > 1 || slot.has_uncharged_cpu()
                }
            }
        });
    }

    /// Returns the states of all zygotes, except of those that are just starting.
    pub(crate) fn reports(&self) -> Vec<ZygoteReport> {
        self.remove_unused(|_| false);
        let report = |(key, slot): (&ZygoteKey, &Arc<ZygoteSlot>)| {
            let state = slot.state.try_lock().ok()?;
            let (ready, failure) = match &*state {
                ZygoteState::Alive(zygote) => (zygote.ready.clone(), None),
                ZygoteState::Failed(failure) => {
                    (ReadyMessage::default(), Some(failure.reason.clone()))
                }
                ZygoteState::Absent => return None,
            };
            Some(ZygoteReport {
                environment: key.environment.clone(),
                memory_bytes: ready.memory_bytes,
                imported_ms: ready.took_ms,
                skipped: ready.skipped,
                failure,
            })
        };
        self.slots.lock().iter().filter_map(report).collect()
    }

    pub(crate) fn idle_max(&self) -> Duration {
        self.options.idle_max
    }
}

impl Zygote {
    pub(crate) fn is_alive(&self) -> bool {
        self.running.lock().is_alive()
    }

    /// Returns a clone of the zygote for a call with these limits.
    pub(crate) fn take_clone(&self, spawner: &Spawner, limits: &Limits) -> Result<RunningProcess> {
        self.clones.take(self.id, spawner, limits)
    }

    /// Prepares clones of the zygote for later calls.
    pub(crate) fn prepare_clones(&self, spawner: &Spawner, limits: &Limits) {
        self.clones.prepare(self.id, spawner, limits);
    }

    /// Records that a call starts or ends, which resets the idle time.
    pub(crate) fn touch(&self) {
        *self.used.lock() = Instant::now();
    }
}

/// Returns the process specification of a zygote.
fn plan(environment: &Environment, library: &PreloadLibrary) -> Result<ProcessSpec> {
    let mut sandbox = environment_sandbox(environment, 256 << 20, false)?;
    let script = format!("{WORKER}/{}", worker_protocol::ZYGOTE);
    let python = format!("{ENVIRONMENT}/bin/python");
    let mut variables = variables("/environment/bin", "/tmp", None);
    let packages = serde_json::to_string(&environment.requested).unwrap_or_default();
    variables.push(("HEADWATER_PACKAGES".to_owned(), packages));
    // Without this setting, jemalloc in pyarrow would start a thread, which clones do not inherit.
    variables.push(("JE_ARROW_MALLOC_CONF".to_owned(), "background_thread:false".to_owned()));
    sandbox.read_only.push(library.mount_paths());
    variables.push(PreloadLibrary::variable());
    Ok(ProcessSpec {
        command: vec![python, "-I".to_owned(), "-B".to_owned(), script],
        variables,
        control: true,
        confinement: ProcessIsolation::Sandbox(sandbox),
        memory_bytes: Some(MEMORY_BYTES_MAX),
        processes_max: Some(PROCESSES_MAX),
        zygote: true,
        ..ProcessSpec::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_starts_are_retried_with_back_off() {
        let mut failure = FailedStart::new("it raises".to_owned(), None);
        let after = |pause| failure.since + pause;
        let (early, late) = (after(RETRY / 2), after(RETRY));
        assert!(!failure.is_due(early) && failure.is_due(late));
        assert!(!failure.is_due(late + RETRY), "an attempt is in progress");
        let mut pauses = vec![failure.pause];
        while pauses.len() < 8 {
            let again = FailedStart::new("it raises".to_owned(), pauses.last().copied());
            pauses.push(again.pause);
        }
        let seconds: Vec<u64> = pauses.iter().map(Duration::as_secs).collect();
        assert_eq!(seconds, [60, 120, 240, 480, 960, 1920, 3600, 3600]);
    }
}
