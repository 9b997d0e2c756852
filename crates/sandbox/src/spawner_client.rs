//! Client of the spawner: starts it, sends requests to it, and receives the exits of its processes.

use std::collections::{HashMap, VecDeque};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::channel::Channel;
use crate::spawner::cgroup::{CgroupHierarchies, ProcessCgroups};
use crate::spawner::cgroup_registry::{CgroupRegistry, remove_stale};
use crate::spawner_protocol::{
    HostReport, ProcessEnd, ProcessSpec, Reply, Request, ResourceUsage, Signal,
};
use crate::{Error, Result};

/// Command that starts the spawner: usually this binary with an argument that selects
/// [`spawner_main`](crate::spawner_main).
#[derive(Debug, Clone)]
pub struct SpawnerCommand {
    /// The program.
    pub program: PathBuf,
    /// The arguments of the program, such as `__spawner`.
    pub arguments: Vec<String>,
}

/// Handle of the spawner process, which is restarted if it ends.
#[derive(Debug)]
pub struct Spawner {
    command: SpawnerCommand,
    /// Folder of the [`CgroupRegistry`]s, which list the control groups of each spawner.
    records: PathBuf,
    connection: Mutex<Option<Arc<Connection>>>,
    next: AtomicU64,
    report: HostReport,
}

type UsageSender = oneshot::Sender<Option<ResourceUsage>>;

/// Connection to one spawner process, and the requests that wait for its replies.
#[derive(Debug)]
struct Connection {
    channel: Channel,
    /// Senders for the exits of running processes, by process id. `None` after the spawner has
    /// ended.
    ends: Mutex<Option<HashMap<u64, oneshot::Sender<ProcessEnd>>>>,
    measurements: Mutex<HashMap<u64, VecDeque<UsageSender>>>,
    totals: Mutex<HashMap<u64, oneshot::Sender<Option<u64>>>>,
    groups: OnceLock<CgroupHierarchies>,
}

/// Handle of a process that the spawner runs. Dropping the handle kills the process.
#[derive(Debug)]
pub struct RunningProcess {
    id: u64,
    connection: Arc<Connection>,
    end: oneshot::Receiver<ProcessEnd>,
    ended: bool,
    /// Reads the usage without the spawner. Set after the spawner has first paused the process.
    meter: Option<CgroupMeter>,
    /// Receives the spawner's reply to [`RunningProcess::start_pause`].
    pausing: Option<oneshot::Receiver<Option<ResourceUsage>>>,
    /// True if a pause was requested since the last resume.
    is_paused: bool,
    /// True if the CPU boost was ended since the last resume.
    is_boost_ended: bool,
}

/// Reads the usage of a process directly from its control groups, which is faster than a request to
/// the spawner. The spawner still pauses processes, because writing to a control file may block the
/// writer.
#[derive(Debug)]
struct CgroupMeter {
    group: ProcessCgroups,
    /// CPU time that the zygote used to fork this process, in microseconds.
    fork_cpu_us: u64,
}

impl CgroupMeter {
    /// Creates the meter of a paused process. Returns `None` if the server cannot read the files of
    /// the control groups.
    fn new(group: ProcessCgroups, usage: &ResourceUsage) -> Option<Self> {
        // Reading the usage also resets the peak memory, so that the next call starts at zero.
        group.usage()?;
        Some(CgroupMeter { group, fork_cpu_us: usage.fork_cpu_us })
    }

    fn read(&self) -> Option<ResourceUsage> {
        Some(self.group.usage()?.with_fork(self.fork_cpu_us))
    }
}

impl Spawner {
    /// Starts the spawner and waits until it is ready. `records` is an existing folder for the
    /// files that list the spawner's control groups.
    pub async fn start(command: SpawnerCommand, records: PathBuf) -> Result<Self> {
        remove_stale(&records);
        let (connection, report) = connect(&command, &records)?;
        let report = report.await.map_err(|_| ended())?;
        let connection = Mutex::new(Some(connection));
        Ok(Spawner { command, records, connection, next: AtomicU64::new(1), report })
    }

    /// Returns the capabilities of the host.
    pub fn report(&self) -> &HostReport {
        &self.report
    }

    /// Starts a process. `descriptors` are standard output, standard error, then the control socket
    /// and the project's files, if any. A clone gets its descriptors later, in
    /// [`RunningProcess::begin`].
    pub fn run(&self, spec: ProcessSpec, descriptors: &[BorrowedFd<'_>]) -> Result<RunningProcess> {
        let connection = self.connection()?;
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, end) = oneshot::channel();
        match &mut *connection.ends.lock() {
            Some(ends) => ends.insert(id, sender),
            None => return Err(ended()),
        };
        connection.send(&Request::Start { id, spec }, descriptors)?;
        Ok(RunningProcess {
            id,
            connection,
            end,
            ended: false,
            meter: None,
            pausing: None,
            is_paused: false,
            is_boost_ended: false,
        })
    }

    /// Returns the CPU time of all processes of this spawner, in microseconds; `None` if unknown.
    pub async fn total_cpu_us(&self) -> Option<u64> {
        let connection = self.connection().ok()?;
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, total) = oneshot::channel();
        connection.totals.lock().insert(id, sender);
        connection.send(&Request::Total { id }, &[]).ok()?;
        total.await.ok()?
    }

    /// Returns the connection to the spawner. Starts a new spawner if the previous spawner has
    /// ended.
    fn connection(&self) -> Result<Arc<Connection>> {
        let mut held = self.connection.lock();
        if let Some(connection) = held.as_ref().filter(|connection| connection.is_open()) {
            return Ok(connection.clone());
        }
        tracing::warn!("the spawner ended and is restarted");
        let (connection, _) = connect(&self.command, &self.records)?;
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

impl RunningProcess {
    /// Returns the id of the process in the spawner's protocol.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Starts the call of a waiting clone. `descriptors` are standard output, standard error, the
    /// control socket and the project's files. `project` is a folder to mount read-only at
    /// `/project`, which requires [`HostReport::folder_mounts`].
    pub fn begin(&self, descriptors: [BorrowedFd<'_>; 4], project: Option<&Path>) -> Result<()> {
        let project = project.map(Path::to_owned);
        self.connection.send(&Request::Begin { id: self.id, project }, &descriptors)
    }

    /// Returns true until the exit of the process was received.
    pub fn is_alive(&mut self) -> bool {
        let pending = Err(oneshot::error::TryRecvError::Empty);
        self.ended |= self.end.try_recv().map(drop) != pending;
        !self.ended
    }

    /// Returns true if the process was measured before, so that its usage can be read without a
    /// freeze.
    pub fn is_metered(&self) -> bool {
        self.meter.is_some()
    }

    /// Returns the usage of the process so far. Returns `None` if the process cannot be frozen, if
    /// its usage is unknown, or if it still has one of the files `inputs` (inode numbers) open or
    /// mapped.
    ///
    /// Freezes the process, except if it was measured before and `inputs` is empty. A process that
    /// is not frozen here continues to run until [`RunningProcess::start_pause`] or until its next
    /// call. The CPU time that it uses until then is charged to the next call.
    pub async fn measure(&mut self, inputs: &[u64]) -> Option<ResourceUsage> {
        if let (Some(meter), true) = (&self.meter, inputs.is_empty()) {
            return meter.read();
        }
        let usage = self.request_pause(inputs)?.await.ok()??;
        if let Some(meter) = &mut self.meter {
            meter.fork_cpu_us = usage.fork_cpu_us;
        } else {
            let groups = self.connection.groups.get();
            self.meter = groups.and_then(|groups| CgroupMeter::new(groups.of(self.id), &usage));
        }
        Some(usage)
    }

    /// Requests that the spawner freezes the process, without waiting for the result. Does nothing
    /// if a freeze was already requested. If the freeze fails, [`RunningProcess::resume`] returns
    /// an error.
    pub fn start_pause(&mut self) {
        if !self.is_paused {
            self.pausing = self.request_pause(&[]);
        }
    }

    /// Requests that the spawner freezes and measures the process. The receiver gets the same
    /// result as from [`RunningProcess::measure`]. Returns `None` if the spawner has ended.
    pub fn request_pause(
        &mut self,
        inputs: &[u64],
    ) -> Option<oneshot::Receiver<Option<ResourceUsage>>> {
        self.is_paused = true;
        self.request_usage(&Request::Pause { id: self.id, inputs: inputs.to_vec() })
    }

    /// Returns and resets the CPU time of a zygote that was not charged to a clone, in
    /// microseconds; 0 if unknown.
    pub async fn take_unmetered_cpu_us(&self) -> u64 {
        let Some(usage) = self.request_usage(&Request::Meter { id: self.id }) else { return 0 };
        usage.await.ok().flatten().map_or(0, |usage| usage.cpu_us)
    }

    fn request_usage(&self, request: &Request) -> Option<oneshot::Receiver<Option<ResourceUsage>>> {
        let (sender, usage) = oneshot::channel();
        // Replies about one process arrive in the order of the requests, so a queue of senders
        // assigns each reply to its request.
        self.connection.measurements.lock().entry(self.id).or_default().push_back(sender);
        self.connection.send(request, &[]).ok()?;
        Some(usage)
    }

    /// Thaws a paused process and starts a new CPU boost. Fails if the pause failed.
    pub fn resume(&mut self) -> Result<()> {
        if !self.is_paused && !self.is_boost_ended {
            return Ok(());
        }
        if let Some(pausing) = &mut self.pausing {
            match pausing.try_recv() {
                Ok(Some(usage)) => {
                    self.meter.iter_mut().for_each(|meter| meter.fork_cpu_us = usage.fork_cpu_us);
                    self.pausing = None;
                }
                // The pause is still pending. The spawner handles requests in order, so it pauses
                // the process before it resumes the process.
                Err(oneshot::error::TryRecvError::Empty) => {}
                Ok(None) | Err(oneshot::error::TryRecvError::Closed) => return Err(ended()),
            }
        }
        (self.is_paused, self.is_boost_ended) = (false, false);
        self.connection.send(&Request::Resume { id: self.id }, &[])
    }

    /// Ends the CPU boost: resets the CPU weight of the process to its normal value.
    pub fn end_boost(&mut self) {
        self.is_boost_ended = true;
        // Sending fails only if the spawner has ended, which also ends the process.
        let _ = self.connection.send(&Request::EndBoost { id: self.id }, &[]);
    }

    /// Sends a signal to the process.
    pub fn signal(&self, signal: Signal) {
        // Sending fails only if the spawner has ended, which also ends the process.
        let _ = self.connection.send(&Request::Signal { id: self.id, signal }, &[]);
    }

    /// Waits for the exit of the process. If the future is dropped, the method can be called again.
    pub async fn ended(&mut self) -> Result<ProcessEnd> {
        let end = (&mut self.end).await.map_err(|_| ended());
        self.ended = true;
        end
    }
}

impl Drop for RunningProcess {
    fn drop(&mut self) {
        if !self.ended {
            self.signal(Signal::Kill);
        }
    }
}

impl Connection {
    fn is_open(&self) -> bool {
        self.ends.lock().is_some()
    }

    fn send(&self, request: &Request, descriptors: &[BorrowedFd<'_>]) -> Result<()> {
        let bytes = serde_json::to_vec(request)
            .map_err(|error| Error::io("write a request")(error.into()))?;
        self.channel.send(&bytes, descriptors).map_err(Error::io("reach the spawner"))
    }

    /// Removes and returns the sender for the oldest measurement request of a process that has no
    /// reply yet.
    fn pending_measurement(&self, id: u64) -> Option<UsageSender> {
        let mut measurements = self.measurements.lock();
        let pending = measurements.get_mut(&id)?;
        let first = pending.pop_front();
        if pending.is_empty() {
            measurements.remove(&id);
        }
        first
    }

    /// Passes each reply to the receiver of its request. When the spawner ends, drops all pending
    /// requests, and returns the record of the spawner's control groups, so that the caller can
    /// remove these groups.
    fn receive_replies(
        &self,
        ready: oneshot::Sender<HostReport>,
        records: &Path,
    ) -> Option<CgroupRegistry> {
        let (mut ready, mut record) = (Some(ready), None);
        while let Ok(Some(received)) = self.channel.receive() {
            match serde_json::from_slice(&received.bytes) {
                Ok(Reply::Ready(report)) => {
                    let written = CgroupRegistry::write(records, &report);
                    let written = written.inspect_err(
                        |error| tracing::warn!(%error, "cannot record control groups"),
                    );
                    record = written.ok();
                    let _ = self.groups.set(report.groups.clone());
                    let _ = ready.take().map(|ready| ready.send(report));
                }
                Ok(Reply::Measured { id, usage }) => {
                    let _ = self.pending_measurement(id).map(|sender| sender.send(usage));
                }
                Ok(Reply::Total { id, cpu_us }) => {
                    let sender = self.totals.lock().remove(&id);
                    let _ = sender.map(|sender| sender.send(cpu_us));
                }
                Ok(Reply::Ended { id, end }) => {
                    let sender = self.ends.lock().as_mut().and_then(|all| all.remove(&id));
                    let _ = sender.map(|sender| sender.send(end));
                }
                Err(error) => tracing::error!(%error, "the spawner sent a malformed reply"),
            }
        }
        self.ends.lock().take();
        self.measurements.lock().clear();
        self.totals.lock().clear();
        record
    }
}

fn ended() -> Error {
    Error::Spawner { reason: "stopped, together with all processes that it had started".to_owned() }
}

/// Starts a spawner process and connects to it. The standard library uses `posix_spawn`, so the
/// server does not fork.
fn connect(
    command: &SpawnerCommand,
    records: &Path,
) -> Result<(Arc<Connection>, oneshot::Receiver<HostReport>)> {
    let (own, other) = Channel::pair().map_err(Error::io("create a socket"))?;
    let mut child = Command::new(&command.program)
        .args(&command.arguments)
        .stdin(Stdio::from(OwnedFd::from(other)))
        .stdout(Stdio::null())
        .spawn()
        .map_err(Error::io(format!("start the spawner `{}`", command.program.display())))?;
    let connection = Arc::new(Connection {
        channel: own,
        ends: Mutex::new(Some(HashMap::new())),
        measurements: Mutex::default(),
        totals: Mutex::default(),
        groups: OnceLock::new(),
    });
    let (sender, ready) = oneshot::channel();
    let (receiver, records) = (connection.clone(), records.to_owned());
    std::thread::Builder::new()
        .name("spawner".to_owned())
        .spawn(move || {
            let record = receiver.receive_replies(sender, &records);
            let _ = child.wait();
            if let Some(record) = record {
                record.remove();
            }
        })
        .map_err(Error::io("start a thread"))?;
    Ok((connection, ready))
}
