//! Zygotes: one process per environment that holds its packages imported, and is cloned for each
//! function instead of starting a Python anew.
//!
//! A zygote lies in a sandbox of its own and runs nobody's code but that of the packages, since every
//! function of the lake that has this environment shares it. It is started by the first call that
//! wants it, which waits for it; it ends when it was idle for long or when zygotes hold too much
//! memory. Where it cannot be had a function starts in a fresh process, and is told why; it is tried
//! again from time to time, for which nobody waits.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::Deserialize;

use crate::arena::Arena;
use crate::instance::{clone_plan, environment_sandbox, variables};
use crate::memory::MemoryFile;
use crate::preload::{self, Preload};
use crate::spawner::{Channel, Plan, Running, Signal, Spawner, Work, watch};
use crate::{Environment, Error, Limits, Result, ZygoteOptions, worker};

/// How long importing an environment's packages may take.
const IMPORT_MAX: Duration = Duration::from_secs(120);

/// The most memory of a zygote, and its processes: those of its clones are not among them.
const MEMORY_BYTES_MAX: u64 = 8 << 30;
/// A library may start as many threads as there are processors when it is imported.
const PROCESSES_MAX: u64 = 1024;

/// How many clones wait while calls come one right after the other, and for how long after the last
/// of those.
const SEATS_BUSY: usize = 4;
const BUSY: Duration = Duration::from_secs(5);

/// How old a clone is that is surely there.
const MADE_BY_NOW: Duration = Duration::from_millis(100);

/// How long no zygote is tried again after one could not be started: the first time, twice as long each
/// time after it, and at most.
const RETRY: Duration = Duration::from_secs(60);
const RETRY_MAX: Duration = Duration::from_secs(3600);

/// How long it is known that one could not be started.
const REMEMBERED: Duration = Duration::from_secs(2 * 3600);

/// Which functions may share a zygote.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    environment: String,
    build: String,
}

impl Key {
    fn of(environment: &Environment) -> Self {
        Key { environment: environment.id.clone(), build: environment.build.clone() }
    }
}

/// All zygotes.
#[derive(Debug)]
pub(crate) struct Zygotes {
    spawner: Arc<Spawner>,
    options: ZygoteOptions,
    library: Preload,
    arena: Option<Arena>,
    slots: Mutex<HashMap<Key, Arc<Slot>>>,
}

/// The place of one zygote.
#[derive(Debug, Default)]
struct Slot {
    /// Held while it is started.
    state: tokio::sync::Mutex<State>,
    /// Processor time of starts that no call is metered by yet, in microseconds.
    owed_us: AtomicU64,
}

impl Slot {
    /// What a call finds, which is metered by what starts took that nobody else waited for.
    fn give(&self, found: Found) -> Found {
        Found { cpu_us: found.cpu_us + self.owed_us.swap(0, Ordering::Relaxed), ..found }
    }
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Absent,
    Alive(Arc<Zygote>),
    Failed(Failure),
}

/// Why there is none.
#[derive(Debug)]
struct Failure {
    since: Instant,
    reason: String,
    /// How long none is tried.
    pause: Duration,
    /// Whether one is being tried.
    tried: bool,
}

impl Failure {
    fn new(reason: String, before: Option<Duration>) -> Self {
        let pause = before.map_or(RETRY, |pause| (2 * pause).min(RETRY_MAX));
        Failure { since: Instant::now(), reason, pause, tried: false }
    }

    /// Whether whoever asks is to try again.
    fn is_due(&mut self, now: Instant) -> bool {
        let due = !self.tried && now.saturating_duration_since(self.since) >= self.pause;
        self.tried |= due;
        due
    }
}

impl State {
    /// What this means for a call; none where a zygote is to be started.
    fn found(&mut self) -> Option<Found> {
        match self {
            State::Alive(zygote) if zygote.is_alive() => {
                zygote.touch();
                Some(Found { zygote: Some(zygote.clone()), ..Found::default() })
            }
            State::Failed(failure) => {
                Some(Found { again: failure.is_due(Instant::now()), ..Found::default() })
            }
            State::Alive(_) | State::Absent => None,
        }
    }
}

/// One zygote. It is killed when the last holder lets go of it.
#[derive(Debug)]
pub(crate) struct Zygote {
    /// The number that the spawner knows it by.
    id: u64,
    running: Mutex<Running>,
    /// What it holds imported; its folder stays as long as this does.
    environment: Environment,
    ready: Ready,
    used: Mutex<Instant>,
    /// Clones that wait for the next calls, the longest first.
    seats: Mutex<Seats>,
}

/// Clones that wait, each for a call with its limits.
#[derive(Debug, Default)]
struct Seats {
    waiting: Vec<Seat>,
    /// Until when there are to be several: calls came faster than clones are made.
    busy_until: Option<Instant>,
}

#[derive(Debug)]
struct Seat {
    limits: Limits,
    running: Running,
    since: Instant,
}

impl Seats {
    /// How many are to wait.
    fn wanted(&self) -> usize {
        let busy = self.busy_until.is_some_and(|until| Instant::now() < until);
        if busy { SEATS_BUSY } else { 1 }
    }
}

/// What there is to say of the zygote of an environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZygoteReport {
    /// The environment's id.
    pub environment: String,
    /// Memory it holds for itself, in bytes.
    pub memory_bytes: u64,
    /// What its imports took, in milliseconds.
    pub imported_ms: u64,
    /// Packages that every call imports by itself, and why.
    pub skipped: BTreeMap<String, String>,
    /// Why there is none, so that every call imports everything by itself.
    pub failure: Option<String>,
}

/// What a call gets.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// The zygote to clone; none for a fresh process.
    pub(crate) zygote: Option<Arc<Zygote>>,
    /// Whether it was started for this call.
    pub(crate) started: bool,
    /// Processor time of starts, also of those in vain, that this call is metered by, in microseconds.
    pub(crate) cpu_us: u64,
    /// Whether one is to be tried again, for calls to come.
    pub(crate) again: bool,
}

/// What a zygote says when it is ready.
#[derive(Debug, Clone, Default, Deserialize)]
struct Ready {
    /// Packages that are not held imported, and why.
    skipped: BTreeMap<String, String>,
    memory_bytes: u64,
    took_ms: u64,
}

impl Zygotes {
    pub(crate) fn new(
        spawner: Arc<Spawner>,
        options: ZygoteOptions,
        (library, arena): (Preload, Option<Arena>),
    ) -> Self {
        Zygotes { spawner, options, library, arena, slots: Mutex::default() }
    }

    /// What there is for functions of an environment without waiting, if that is known.
    pub(crate) fn at_hand(&self, environment: &Environment) -> Option<Found> {
        if !self.options.enabled {
            return Some(Found::default());
        }
        let key = Key::of(environment);
        let slot = self.slots.lock().get(&key)?.clone();
        let found = slot.state.try_lock().ok()?.found()?;
        Some(slot.give(found))
    }

    /// The zygote for functions of an environment, started where there is none.
    pub(crate) async fn get(&self, environment: &Environment) -> Found {
        let key = Key::of(environment);
        let slot = self.slots.lock().entry(key).or_default().clone();
        let mut state = slot.state.lock().await;
        if let Some(found) = state.found() {
            return slot.give(found);
        }
        let mut cpu_us = 0;
        *state = self.start_or_not(environment, None, &mut cpu_us).await;
        let zygote = if let State::Alive(zygote) = &*state { Some(zygote.clone()) } else { None };
        drop(state);
        self.make_room();
        slot.give(Found { started: zygote.is_some(), zygote, cpu_us, again: false })
    }

    /// Has the next call of an environment be metered by a start whose own call went away.
    pub(crate) fn owe(&self, environment: &Environment, cpu_us: u64) {
        if let Some(slot) = self.slots.lock().get(&Key::of(environment)) {
            slot.owed_us.fetch_add(cpu_us, Ordering::Relaxed);
        }
    }

    /// Tries again to start a zygote where that failed before. Meanwhile calls do without.
    pub(crate) async fn try_again(&self, environment: &Environment) {
        let slot = self.slots.lock().get(&Key::of(environment)).cloned();
        let Some(slot) = slot else { return };
        let State::Failed(Failure { pause, .. }) = *slot.state.lock().await else { return };
        let mut cpu_us = 0;
        let state = self.start_or_not(environment, Some(pause), &mut cpu_us).await;
        *slot.state.lock().await = state;
        slot.owed_us.fetch_add(cpu_us, Ordering::Relaxed);
        self.make_room();
    }

    /// Starts a zygote, after others were not tried for so long.
    async fn start_or_not(
        &self,
        environment: &Environment,
        before: Option<Duration>,
        cpu_us: &mut u64,
    ) -> State {
        match self.start(environment, cpu_us).await {
            Ok(zygote) => State::Alive(Arc::new(zygote)),
            Err(error) => {
                tracing::warn!(environment = environment.id, %error, "no zygote");
                State::Failed(Failure::new(error.to_string(), before))
            }
        }
    }

    /// Starts one, and tells the processor time that this took, whatever came of it.
    async fn start(&self, environment: &Environment, cpu_us: &mut u64) -> Result<Zygote> {
        let (mine, theirs) = Channel::pair().map_err(Error::io("make a socket"))?;
        let files = worker::files().map(|(path, text)| (format!("headwater/{path}"), text));
        let files = serde_json::to_vec(&files.collect::<BTreeMap<_, _>>())
            .map_err(|error| Error::io("write the zygote's files")(error.into()))?;
        let files = MemoryFile::with("headwater-files", &files)?;
        let silent = std::fs::File::options().write(true).open("/dev/null");
        let silent = silent.map_err(Error::io("open /dev/null"))?;
        let plan = plan(environment, &self.library, self.arena.as_ref())?;
        let descriptors = [silent.as_fd(), silent.as_fd(), theirs.as_fd(), files.descriptor()];
        let mut running = self.spawner.run(plan, &descriptors)?;
        drop(theirs);
        let mine = watch(mine).map_err(Error::io("listen to a zygote"))?;
        let said = tokio::select! {
            said = crate::listen::receive(&mine) => said,
            () = tokio::time::sleep(IMPORT_MAX) => None,
        };
        let ready = said.and_then(|said| serde_json::from_slice::<Ready>(&said.bytes).ok());
        let Some(ready) = ready else {
            running.signal(Signal::Kill);
            let ended = running.ended().await?;
            *cpu_us = ended.cpu_us;
            let reason = ended.exit.describe();
            return Err(Error::InstanceDied { label: "the zygote".to_owned(), reason });
        };
        *cpu_us = running.meter().await;
        let (id, running) = (running.id(), Mutex::new(running));
        let (environment, used) = (environment.held_apart()?, Mutex::new(Instant::now()));
        Ok(Zygote { id, running, environment, ready, used, seats: Mutex::default() })
    }

    /// Ends a zygote that could not be cloned, once its last clone has ended.
    pub(crate) fn forget(&self, zygote: &Arc<Zygote>) {
        let held = |slot: &Arc<Slot>| {
            let state = slot.state.try_lock();
            state
                .is_ok_and(|state| matches!(&*state, State::Alive(one) if Arc::ptr_eq(one, zygote)))
        };
        self.slots.lock().retain(|_, slot| !held(slot));
    }

    /// Has nobody call the zygotes of these environments any more; each ends with the last call that
    /// does.
    pub(crate) fn end_where(&self, gone: impl Fn(&Environment) -> bool) {
        self.slots.lock().retain(|_, slot| {
            let state = slot.state.try_lock();
            let held = state.is_ok_and(
                |state| matches!(&*state, State::Alive(zygote) if gone(&zygote.environment)),
            );
            !held
        });
    }

    /// Ends the zygotes of these environments that nobody uses.
    pub(crate) fn end_unused(&self, gone: impl Fn(&Environment) -> bool) {
        self.let_go(|zygote| gone(&zygote.environment));
    }

    /// Ends the zygotes that have been idle for too long, and those that are gone.
    pub(crate) fn sweep(&self) {
        self.let_go(|zygote| {
            zygote.calm_down();
            zygote.used.lock().elapsed() >= self.options.idle_max
        });
    }

    /// Ends idle zygotes, the longest idle first, until the others hold no more than they may.
    fn make_room(&self) {
        let mut held: Vec<(Instant, u64, u64)> = Vec::new();
        self.let_go(|zygote| {
            held.push((*zygote.used.lock(), zygote.id, zygote.ready.memory_bytes));
            false
        });
        held.sort();
        let mut total: u64 = held.iter().map(|(_, _, bytes)| bytes).sum();
        for (_, id, bytes) in held {
            if total <= self.options.memory_bytes_max {
                return;
            }
            self.let_go(|zygote| zygote.id == id);
            total -= bytes;
        }
    }

    /// Lets go of the zygotes that nobody uses and for which this holds, and of those that ended.
    fn let_go(&self, mut holds: impl FnMut(&Zygote) -> bool) {
        self.slots.lock().retain(|_, slot| {
            // One that is being started, or looked at, is in use.
            let Ok(mut state) = slot.state.try_lock() else { return true };
            match &*state {
                State::Alive(zygote) if zygote.is_alive() => {
                    let unused = Arc::strong_count(zygote) == 1;
                    if holds(zygote) && unused {
                        *state = State::Absent;
                        return false;
                    }
                    true
                }
                State::Failed(failure) => failure.since.elapsed() < REMEMBERED,
                State::Alive(_) | State::Absent => Arc::strong_count(slot) > 1,
            }
        });
    }

    /// What there is to say of those that are neither being started nor looked at.
    pub(crate) fn reports(&self) -> Vec<ZygoteReport> {
        self.let_go(|_| false);
        let report = |(key, slot): (&Key, &Arc<Slot>)| {
            let state = slot.state.try_lock().ok()?;
            let (ready, failure) = match &*state {
                State::Alive(zygote) => (zygote.ready.clone(), None),
                State::Failed(failure) => (Ready::default(), Some(failure.reason.clone())),
                State::Absent => return None,
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

    /// A clone for a call: the one that waits, or a new one.
    pub(crate) fn seat(&self, spawner: &Spawner, limits: &Limits) -> Result<Running> {
        let seat = {
            let mut seats = self.seats.lock();
            let fits =
                |seat: &mut Seat| limits.as_made_for(&seat.limits) && seat.running.is_alive();
            let found = (0..seats.waiting.len()).find(|at| fits(&mut seats.waiting[*at]));
            let seat = found.map(|at| seats.waiting.remove(at));
            if seat.as_ref().is_none_or(|seat| seat.since.elapsed() < MADE_BY_NOW) {
                seats.busy_until = Some(Instant::now() + BUSY);
            }
            seat
        };
        match seat {
            Some(seat) => Ok(seat.running),
            None => spawner.run(clone_plan(self.id, limits), &[]),
        }
    }

    /// Has clones wait for the next calls, which most often have the same limits; one more than there
    /// are at a time, so that they are made between calls.
    pub(crate) fn prepare(&self, spawner: &Spawner, limits: &Limits) {
        let mut seats = self.seats.lock();
        seats.waiting.retain_mut(|seat| seat.running.is_alive());
        let fitting = seats.waiting.iter().filter(|seat| limits.as_made_for(&seat.limits)).count();
        if fitting >= seats.wanted() {
            return;
        }
        // Where this fails, the next call finds out why.
        if let Ok(running) = spawner.run(clone_plan(self.id, limits), &[]) {
            let since = Instant::now();
            seats.waiting.push(Seat { limits: limits.clone(), running, since });
        }
        let others = seats.waiting.len() > SEATS_BUSY;
        let oldest = others.then(|| seats.waiting.remove(0));
        drop(seats);
        drop(oldest);
    }

    /// Lets go of the clones that calls one right after the other would need.
    fn calm_down(&self) {
        let mut seats = self.seats.lock();
        let surplus = seats.waiting.len().saturating_sub(seats.wanted());
        let surplus: Vec<Seat> = seats.waiting.drain(..surplus).collect();
        drop(seats);
        drop(surplus);
    }

    /// Notes that a call begins or ended just now.
    pub(crate) fn touch(&self) {
        *self.used.lock() = Instant::now();
    }
}

/// What the spawner is to start.
fn plan(environment: &Environment, library: &Preload, arena: Option<&Arena>) -> Result<Plan> {
    let mut sandbox = environment_sandbox(environment, 256 << 20, false)?;
    let script = format!("{}/{}", crate::instance::WORKER, worker::ZYGOTE);
    let python = format!("{}/bin/python", crate::instance::ENVIRONMENT);
    let mut variables = variables("/environment/bin", "/tmp", None);
    let packages = serde_json::to_string(&environment.requested).unwrap_or_default();
    variables.push(("HEADWATER_PACKAGES".to_owned(), packages));
    // jemalloc in pyarrow would start a thread, which no clone would have.
    variables.push(("JE_ARROW_MALLOC_CONF".to_owned(), "background_thread:false".to_owned()));
    let mut libraries = vec![library.clone()];
    if let Some(arena) = arena.filter(|_| Arena::suits(environment)) {
        libraries.push(arena.library());
        variables.push(Arena::variable());
    }
    sandbox.shown.extend(libraries.iter().map(Preload::shown));
    variables.push(preload::variable(&libraries));
    Ok(Plan {
        command: vec![python, "-I".to_owned(), "-B".to_owned(), script],
        variables,
        control: true,
        walls: Work::Sandbox(sandbox),
        memory_bytes: Some(MEMORY_BYTES_MAX),
        processes_max: Some(PROCESSES_MAX),
        zygote: true,
        ..Plan::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_cannot_be_started_is_tried_again_by_one_call_and_ever_more_seldom() {
        let mut failure = Failure::new("it raises".to_owned(), None);
        let after = |pause| failure.since + pause;
        let (early, late) = (after(RETRY / 2), after(RETRY));
        assert!(!failure.is_due(early) && failure.is_due(late));
        assert!(!failure.is_due(late + RETRY), "somebody does");
        let mut pauses = vec![failure.pause];
        while pauses.len() < 8 {
            let again = Failure::new("it raises".to_owned(), pauses.last().copied());
            pauses.push(again.pause);
        }
        let seconds: Vec<u64> = pauses.iter().map(Duration::as_secs).collect();
        assert_eq!(seconds, [60, 120, 240, 480, 960, 1920, 3600, 3600]);
    }
}
