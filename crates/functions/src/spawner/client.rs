//! The server's side of the spawner: starts it, asks it for processes, and hears of their end.

use std::collections::{HashMap, VecDeque};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::Channel;
use super::cgroup::{Cgroups, Group};
use super::ledger::{self, Note};
use super::plan::{Ended, Plan, Reply, Report, Request, Signal, Taken};
use crate::{Error, Result, SpawnCommand};

/// The spawner, started again where it ended.
#[derive(Debug)]
pub(crate) struct Spawner {
    command: SpawnCommand,
    /// Where it is noted what a spawner leaves when it is killed.
    notes: PathBuf,
    connection: Mutex<Option<Arc<Connection>>>,
    next: AtomicU64,
    report: Report,
}

#[derive(Debug)]
struct Connection {
    channel: Channel,
    waiting: Mutex<Option<HashMap<u64, oneshot::Sender<Ended>>>>,
    measuring: Mutex<HashMap<u64, VecDeque<oneshot::Sender<Option<Taken>>>>>,
    adding: Mutex<HashMap<u64, oneshot::Sender<Option<u64>>>>,
    groups: OnceLock<Cgroups>,
}

/// A process that was asked for.
#[derive(Debug)]
pub(crate) struct Running {
    id: u64,
    connection: Arc<Connection>,
    ended: oneshot::Receiver<Ended>,
    over: bool,
    /// What measures it, once the spawner has stopped it and said that this is known.
    meter: Option<OwnMeter>,
    /// What the spawner says of having stopped it, where nobody waited for that.
    stopping: Option<oneshot::Receiver<Option<Taken>>>,
}

/// Reads what a process has taken from its groups, which takes a small part of the time that it takes to
/// ask the spawner. Stopping it is left to that: a write to a group may have to wait for others, and
/// here everybody would.
#[derive(Debug)]
struct OwnMeter {
    group: Group,
    /// What its zygote took to fork it.
    for_it_us: u64,
}

impl OwnMeter {
    /// The meter of a process that is stopped; nothing where the groups are not to be read.
    fn of(group: Group, taken: &Taken) -> Option<Self> {
        // From here on the most memory is that of the next call.
        group.taken()?;
        Some(OwnMeter { group, for_it_us: taken.for_it_us })
    }

    fn read(&self) -> Option<Taken> {
        Some(self.group.taken()?.with(self.for_it_us))
    }
}

impl Spawner {
    /// Starts the spawner and waits for its report of the host. `notes` is a folder that is there.
    pub(crate) async fn start(command: SpawnCommand, notes: PathBuf) -> Result<Self> {
        ledger::settle_stale(&notes);
        let (connection, report) = connect(&command, &notes)?;
        let report = report.await.map_err(|_| died())?;
        let connection = Mutex::new(Some(connection));
        Ok(Spawner { command, notes, connection, next: AtomicU64::new(1), report })
    }

    /// What it found out about the host.
    pub(crate) fn report(&self) -> &Report {
        &self.report
    }

    /// Asks for a process. Descriptors: standard output, standard error, then what the plan names.
    pub(crate) fn run(&self, plan: Plan, descriptors: &[BorrowedFd<'_>]) -> Result<Running> {
        let connection = self.connection()?;
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, ended) = oneshot::channel();
        match &mut *connection.waiting.lock() {
            Some(waiting) => waiting.insert(id, sender),
            None => return Err(died()),
        };
        connection.send(&Request::Start { id, plan }, descriptors)?;
        Ok(Running { id, connection, ended, over: false, meter: None, stopping: None })
    }

    /// What all that this spawner started has taken of the processors, in microseconds.
    pub(crate) async fn total(&self) -> Option<u64> {
        let connection = self.connection().ok()?;
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, total) = oneshot::channel();
        connection.adding.lock().insert(id, sender);
        connection.send(&Request::Total { id }, &[]).ok()?;
        total.await.ok()?
    }

    /// The connection, to a new spawner where the last one is gone.
    fn connection(&self) -> Result<Arc<Connection>> {
        let mut held = self.connection.lock();
        if let Some(connection) = held.as_ref().filter(|connection| connection.alive()) {
            return Ok(connection.clone());
        }
        tracing::warn!("the spawner ended; it is started again");
        let (connection, _) = connect(&self.command, &self.notes)?;
        *held = Some(connection.clone());
        Ok(connection)
    }
}

impl Drop for Spawner {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.lock().take() {
            connection.channel.shutdown();
        }
    }
}

impl Running {
    /// The number it was started under.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Has a clone begin: with standard output, standard error, the control socket, the files.
    pub(crate) fn fill(&self, descriptors: [BorrowedFd<'_>; 4]) -> Result<()> {
        self.connection.send(&Request::Fill { id: self.id }, &descriptors)
    }

    /// Whether it has not ended yet, as far as is known.
    pub(crate) fn is_alive(&mut self) -> bool {
        let waiting = Err(oneshot::error::TryRecvError::Empty);
        self.over |= self.ended.try_recv().map(drop) != waiting;
        !self.over
    }

    /// Stops the process where it is, whatever it is at, and tells what it has taken so far; nothing
    /// where it cannot be stopped, where that is not known, or where it still has any of these files.
    /// What is known to be possible is not waited for: what it takes until then is the next call's.
    pub(crate) async fn pause(&mut self, inputs: &[u64]) -> Option<Taken> {
        if let (Some(meter), true) = (&self.meter, inputs.is_empty()) {
            // Before the spawner does, which has the kernel forget how much memory it was.
            let taken = meter.read()?;
            self.stopping = Some(self.ask_to_pause(inputs)?);
            return Some(taken);
        }
        let taken = self.ask_to_pause(inputs)?.await.ok()??;
        let groups = self.connection.groups.get();
        self.meter = groups.and_then(|groups| OwnMeter::of(groups.of(self.id), &taken));
        Some(taken)
    }

    /// Asks for the same, whose answer may be waited for; nothing where nobody can be asked.
    pub(crate) fn ask_to_pause(&self, inputs: &[u64]) -> Option<oneshot::Receiver<Option<Taken>>> {
        self.ask(&Request::Pause { id: self.id, inputs: inputs.to_vec() })
    }

    /// The processor time that a zygote has taken and that no call is metered by yet, in microseconds:
    /// whoever asks is. Nothing where that is not known.
    pub(crate) async fn meter(&self) -> u64 {
        let Some(taken) = self.ask(&Request::Meter { id: self.id }) else { return 0 };
        taken.await.ok().flatten().map_or(0, |taken| taken.cpu_us)
    }

    /// Asks what this process has taken.
    fn ask(&self, request: &Request) -> Option<oneshot::Receiver<Option<Taken>>> {
        let (sender, taken) = oneshot::channel();
        // Whoever asks again before there is an answer gets the second.
        self.connection.measuring.lock().entry(self.id).or_default().push_back(sender);
        self.connection.send(request, &[]).ok()?;
        Some(taken)
    }

    /// Has a process that was stopped go on. Fails where it could not be stopped.
    pub(crate) fn resume(&mut self) -> Result<()> {
        if let Some(stopping) = &mut self.stopping {
            match stopping.try_recv() {
                Ok(Some(taken)) => {
                    self.meter.iter_mut().for_each(|meter| meter.for_it_us = taken.for_it_us);
                    self.stopping = None;
                }
                // The spawner does what it is asked in its order.
                Err(oneshot::error::TryRecvError::Empty) => {}
                Ok(None) | Err(oneshot::error::TryRecvError::Closed) => return Err(died()),
            }
        }
        self.connection.send(&Request::Resume { id: self.id }, &[])
    }

    /// Says that it runs for long.
    pub(crate) fn settle(&self) {
        // Where this fails the spawner is gone, and the process with it.
        let _ = self.connection.send(&Request::Settle { id: self.id }, &[]);
    }

    /// Asks the process to end.
    pub(crate) fn signal(&self, signal: Signal) {
        // Where this fails the spawner is gone, and the process with it.
        let _ = self.connection.send(&Request::Signal { id: self.id, signal }, &[]);
    }

    /// Waits for its end. May be dropped and called again.
    pub(crate) async fn ended(&mut self) -> Result<Ended> {
        let ended = (&mut self.ended).await.map_err(|_| died());
        self.over = true;
        ended
    }
}

impl Drop for Running {
    /// Nobody waits for it any more.
    fn drop(&mut self) {
        if !self.over {
            self.signal(Signal::Kill);
        }
    }
}

impl Connection {
    fn alive(&self) -> bool {
        self.waiting.lock().is_some()
    }

    fn send(&self, request: &Request, descriptors: &[BorrowedFd<'_>]) -> Result<()> {
        let bytes = serde_json::to_vec(request)
            .map_err(|error| Error::io("write a request")(error.into()))?;
        self.channel.send(&bytes, descriptors).map_err(Error::io("reach the spawner"))
    }

    /// Who waits for the next answer of what a process has taken.
    fn asked(&self, id: u64) -> Option<oneshot::Sender<Option<Taken>>> {
        let mut measuring = self.measuring.lock();
        let asked = measuring.get_mut(&id)?;
        let first = asked.pop_front();
        if asked.is_empty() {
            measuring.remove(&id);
        }
        first
    }

    /// Hands replies on until the spawner ends; then everybody who waits hears of that.
    fn listen(&self, mut ready: Option<oneshot::Sender<Report>>, notes: &Path) -> Option<Note> {
        let mut note = None;
        while let Ok(Some(received)) = self.channel.receive() {
            match serde_json::from_slice(&received.bytes) {
                Ok(Reply::Ready(report)) => {
                    let written = Note::write(notes, &report);
                    note = written.inspect_err(|error| tracing::warn!(%error, "no note")).ok();
                    let _ = self.groups.set(report.groups.clone());
                    let _ = ready.take().map(|ready| ready.send(report));
                }
                Ok(Reply::Measured { id, taken }) => {
                    let _ = self.asked(id).map(|sender| sender.send(taken));
                }
                Ok(Reply::Total { id, cpu_us }) => {
                    let sender = self.adding.lock().remove(&id);
                    let _ = sender.map(|sender| sender.send(cpu_us));
                }
                Ok(Reply::Ended { id, ended }) => {
                    let sender = self.waiting.lock().as_mut().and_then(|all| all.remove(&id));
                    let _ = sender.map(|sender| sender.send(ended));
                }
                Err(error) => tracing::error!(%error, "the spawner said what cannot be read"),
            }
        }
        self.waiting.lock().take();
        self.measuring.lock().clear();
        self.adding.lock().clear();
        note
    }
}

fn died() -> Error {
    Error::Spawner { reason: "ended, and with it what it had started".to_owned() }
}

/// Starts a spawner. The standard library starts processes by `posix_spawn`, so nothing is forked.
fn connect(
    command: &SpawnCommand,
    notes: &Path,
) -> Result<(Arc<Connection>, oneshot::Receiver<Report>)> {
    let (mine, theirs) = Channel::pair().map_err(Error::io("make a socket"))?;
    let mut child = Command::new(&command.program)
        .args(&command.arguments)
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .spawn()
        .map_err(Error::io(format!("start the spawner `{}`", command.program.display())))?;
    let connection = Arc::new(Connection {
        channel: mine,
        waiting: Mutex::new(Some(HashMap::new())),
        measuring: Mutex::default(),
        adding: Mutex::default(),
        groups: OnceLock::new(),
    });
    let (sender, ready) = oneshot::channel();
    let (listener, notes) = (connection.clone(), notes.to_owned());
    std::thread::Builder::new()
        .name("spawner".to_owned())
        .spawn(move || {
            let note = listener.listen(Some(sender), &notes);
            let _ = child.wait();
            if let Some(note) = note {
                note.settle();
            }
        })
        .map_err(Error::io("start a thread"))?;
    Ok((connection, ready))
}
