//! An instance: a process that executes a call, from its task to its result.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use headwater_model::{ErrorCode, Fault, LogStream, Usage};
use headwater_sandbox::{
    Channel, CloneSpec, Confinement, EgressPolicy, Exit, ProcessEnd, ProcessSpec, ResourceUsage,
    RunningProcess, SandboxSpec, Signal, Spawner,
};
use tokio::net::unix::pipe::Receiver;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinHandle};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::memory::{HugePageFs, MemoryFile, ResultFile, WorkerFile, aside};
use crate::streaming_input::{Feed, FeedUsage};
use crate::warm_pool::WarmInstance;
use crate::worker::{self, FinalMessage, SentTask, WorkerMessages};
use crate::worker_io::{Lines, Readers, listen, listen_to_pipe, receiver};
use crate::zygote::Zygote;
use crate::{
    Argument, ArgumentValue, Environment, Error, FunctionEvent, Invocation, Limits, Outcome,
    Result, Returned, Returns, SharedTable,
};

/// Time that a function has to end after a request.
const GRACE: Duration = Duration::from_secs(1);

/// Maximum number of processes and threads of an instance.
const PROCESSES_MAX: u64 = 4096;

/// Paths of the project, the worker and the environment in a sandbox.
const PROJECT: &str = "/project";
pub(crate) const WORKER: &str = "/headwater";
pub(crate) const ENVIRONMENT: &str = "/environment";

/// Exceptions of Python, numpy and pyarrow for exhausted memory. Other exceptions of the same name
/// have other meanings.
const OUT_OF_MEMORY: [&str; 4] = [
    "MemoryError",
    "numpy._core._exceptions._ArrayMemoryError",
    "numpy.core._exceptions._ArrayMemoryError",
    "pyarrow.lib.ArrowMemoryError",
];

/// Time to read the messages of a call that must end.
const HEARD_MAX: Duration = Duration::from_secs(2);

/// The origin of an instance.
#[derive(Debug, Clone)]
pub(crate) enum Origin {
    /// A new process without a sandbox, in its own folder.
    Folder(PathBuf),
    /// A new process in a sandbox.
    Sandbox,
    /// A clone of a zygote, in a sandbox.
    Zygote(Arc<Zygote>),
}

/// A process that executes a call.
pub(crate) struct Instance {
    invocation: Invocation,
    /// The files of its arguments, by the worker's numbers.
    files: Vec<WorkerFile>,
    running: RunningProcess,
    zygote: Option<Arc<Zygote>>,
    /// Whether the zygote may have ended before the call starts.
    cloned: bool,
    started: Instant,
    said: oneshot::Receiver<WorkerMessages>,
    printed: [OutputReaders; 2],
    /// Ends all readers.
    listening: AbortHandle,
    /// Cancelled when the call has ended and its process remains.
    pause: CancellationToken,
    /// The usage of its feeds.
    fed: Arc<FeedUsage>,
    feeding: Vec<JoinHandle<()>>,
    /// The usage of earlier calls of the process.
    cpu_us_before: u64,
    /// Allowed destinations, if it has network access.
    policy: Option<EgressPolicy>,
    /// The inodes of its files, whose memory belongs to the server.
    inputs: Vec<u64>,
    /// Cancelled when the process has ended or the call is dropped.
    over: CancellationToken,
    _ends: DropGuard,
}

/// Readers of native output, until they end.
struct OutputReaders {
    listening: Option<oneshot::Receiver<Option<Receiver>>>,
    pipe: Option<Receiver>,
}

impl OutputReaders {
    fn new(listening: oneshot::Receiver<Option<Receiver>>) -> Self {
        OutputReaders { listening: Some(listening), pipe: None }
    }

    /// Waits for the readers. May be dropped and called again.
    async fn end(&mut self) {
        if let Some(listening) = &mut self.listening {
            self.pipe = listening.await.unwrap_or_default();
            self.listening = None;
        }
    }
}

/// The reason for ending an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stopped {
    TimeLimit,
    Cancelled,
}

impl Instance {
    /// Starts the process.
    pub(crate) fn start(
        spawner: &Spawner,
        invocation: &Invocation,
        origin: &Origin,
        (policy, pages): (Option<EgressPolicy>, Option<Arc<HugePageFs>>),
        sink: mpsc::Sender<FunctionEvent>,
    ) -> Result<Self> {
        let project = match origin {
            Origin::Folder(folder) => folder.join("project"),
            Origin::Sandbox | Origin::Zygote(_) => PathBuf::from(PROJECT),
        };
        let (mine, theirs) = Channel::pair().map_err(Error::io("make a socket"))?;
        let reuse = reusable(invocation) && !matches!(origin, Origin::Folder(_));
        // Output of processes that remain after their call is not read.
        let pages = pages.filter(|_| !reuse);
        let how = worker::CallSettings { reuse, huge_pages: pages.is_some() };
        let sent = worker::send_task(&mine, invocation, &project, how)?;
        let (stdout, stdout_end) = pipe()?;
        let (stderr, stderr_end) = pipe()?;
        let files = files(invocation, origin, policy.as_ref())?;
        let descriptors: [BorrowedFd<'_>; 4] =
            [stdout_end.as_fd(), stderr_end.as_fd(), theirs.as_fd(), files.descriptor()];
        let started = Instant::now();
        let running = match origin {
            Origin::Zygote(zygote) => {
                let running = zygote.seat(spawner, &invocation.limits)?;
                running.begin(descriptors)?;
                zygote.prepare(spawner, &invocation.limits);
                running
            }
            Origin::Folder(_) | Origin::Sandbox => {
                spawner.run(plan(invocation, origin)?, &descriptors)?
            }
        };
        let channel = mine.into_async().map_err(Error::io("listen to a worker"))?;
        let (stdout, stderr) = (receiver(stdout)?, receiver(stderr)?);
        let zygote = match origin {
            Origin::Zygote(zygote) => Some(zygote.clone()),
            Origin::Folder(_) | Origin::Sandbox => None,
        };
        let cloned = zygote.is_some();
        let warm = WarmInstance { running, zygote, channel, stdout, stderr, cpu_us: 0 };
        let call = (invocation.bare(), sent, pages);
        Self::listening(warm, call, (started, cloned), (policy, sink))
    }

    /// Executes another call in an idle process of the same function.
    pub(crate) fn resume(
        mut warm: WarmInstance,
        invocation: &Invocation,
        sink: mpsc::Sender<FunctionEvent>,
    ) -> Result<Self> {
        let started = Instant::now();
        warm.running.resume()?;
        let how = worker::CallSettings { reuse: true, huge_pages: false };
        let channel = warm.channel.get_ref();
        let sent = worker::send_task(channel, invocation, Path::new(PROJECT), how)?;
        let call = (invocation.bare(), sent, None);
        Self::listening(warm, call, (started, true), (None, sink))
    }

    fn listening(
        warm: WarmInstance,
        (invocation, sent, pages): (Invocation, SentTask, Option<Arc<HugePageFs>>),
        (started, cloned): (Instant, bool),
        (policy, sink): (Option<EgressPolicy>, mpsc::Sender<FunctionEvent>),
    ) -> Result<Self> {
        let WarmInstance { running, zygote, channel, stdout, stderr, cpu_us } = warm;
        let lines = Lines::new(sink.clone());
        let (over, pause) = (CancellationToken::new(), CancellationToken::new());
        let until = || (over.clone(), pause.clone());
        let pipes = [
            listen_to_pipe(stdout, LogStream::Stdout, lines.clone(), until()),
            listen_to_pipe(stderr, LogStream::Stderr, lines.clone(), until()),
        ];
        let network = policy.clone().map(|policy| (policy, sink));
        let room = invocation.room.clone();
        let worker = listen(channel, lines, network, (room, pages), over.clone());
        let Readers { said, printed, end } = Readers::start(worker, pipes);
        let SentTask { files, feeds } = sent;
        let (ends, inputs) = (over.clone().drop_guard(), inodes(&files));
        let fed = Arc::new(FeedUsage::default());
        let start = |feed: Feed| feed.start(invocation.room.clone(), fed.clone(), over.clone());
        let feeding = feeds.into_iter().map(start).collect::<Result<_>>()?;
        Ok(Instance {
            invocation,
            files,
            running,
            zygote,
            cloned,
            started,
            said,
            printed: printed.map(OutputReaders::new),
            listening: end,
            pause,
            fed,
            feeding,
            cpu_us_before: cpu_us,
            policy,
            inputs,
            over,
            _ends: ends,
        })
    }

    /// Waits for the call, and ends the process if it must not remain. The result includes the
    /// usage; an error means that it is unknown. An idle process is returned. `boost` is the
    /// duration of the CPU boost.
    pub(crate) async fn finish(
        mut self,
        until: Instant,
        boost: Duration,
        cancelled: CancellationToken,
    ) -> Result<(Outcome, Option<WarmInstance>)> {
        let limit = || tokio::time::sleep_until(until.into());
        let stopped = async {
            tokio::select! {
                () = limit() => Stopped::TimeLimit,
                () = cancelled.cancelled() => Stopped::Cancelled,
            }
        };
        tokio::pin!(stopped);
        let long = tokio::time::sleep_until((self.started + boost).into());
        tokio::pin!(long);
        let (mut heard, mut settled) = (None, false);
        let early = loop {
            tokio::select! {
                ended = self.running.ended() => break Ok(ended?),
                () = &mut long, if !settled => {
                    self.running.end_boost();
                    settled = true;
                }
                said = &mut self.said, if heard.is_none() => {
                    let said = heard.insert(said.unwrap_or_default());
                    // User code can send this message too; its process is watched until its end.
                    if said.kept.is_none() || !self.invocation.reuse {
                        continue;
                    }
                    let taken = tokio::select! {
                        taken = self.pause() => taken,
                        why = &mut stopped => break Err(why),
                    };
                    return self.keep(heard.take().unwrap_or_default(), taken).await;
                }
                why = &mut stopped => break Err(why),
            }
        };
        let (ended, mut why) = match early {
            Ok(ended) => (ended, None),
            Err(why) => (self.stop().await?, Some(why)),
        };
        let elapsed = self.started.elapsed();
        self.over.cancel();
        if let Err(late) = self.hear_the_rest(&mut heard, why, stopped).await {
            why = Some(late);
        }
        for feeding in self.feeding.drain(..) {
            let _ = feeding.await;
        }
        let WorkerMessages { begun, said, given, .. } = heard.unwrap_or_default();
        let usage = usage(elapsed, &ended, (self.cpu_us_before, &self.fed));
        if self.cloned && !begun && why.is_none() && !ended.out_of_memory {
            return Err(Error::NotCloned { reason: ended.exit.describe() });
        }
        let said = (said, given, self.files);
        let known = (why, &*self.fed, self.policy.as_ref());
        let returned = conclude(&self.invocation, ended, known, said).await;
        Ok((Outcome { returned, usage }, None))
    }

    /// Waits for the messages and output of the call. If the receiver of lines is blocked, the call
    /// ends anyway.
    async fn hear_the_rest(
        &mut self,
        heard: &mut Option<WorkerMessages>,
        why: Option<Stopped>,
        stopped: impl Future<Output = Stopped>,
    ) -> std::result::Result<(), Stopped> {
        let all = async {
            if heard.is_none() {
                *heard = Some((&mut self.said).await.unwrap_or_default());
            }
            for printed in &mut self.printed {
                printed.end().await;
            }
        };
        let patience = async {
            let why = match why {
                Some(why) => why,
                None => stopped.await,
            };
            tokio::time::sleep(HEARD_MAX).await;
            why
        };
        let late = tokio::select! {
            biased;
            () = all => return Ok(()),
            late = patience => late,
        };
        self.listening.abort();
        Err(late)
    }

    /// Reads the rest of a call whose process remains, and its usage. May be dropped.
    async fn pause(&mut self) -> Option<ResourceUsage> {
        self.pause.cancel();
        for printed in &mut self.printed {
            printed.end().await;
        }
        self.running.pause(&self.inputs).await
    }

    /// Ends a call whose process remains.
    async fn keep(
        self,
        heard: WorkerMessages,
        taken: Option<ResourceUsage>,
    ) -> Result<(Outcome, Option<WarmInstance>)> {
        let elapsed = self.started.elapsed();
        let [stdout, stderr] = self.printed.map(|printed| printed.pipe);
        let mut ended = ProcessEnd {
            exit: Exit::Code(0),
            cpu_us: 0,
            memory_bytes_peak: 0,
            out_of_memory: false,
        };
        let (cpu_us_before, fed) = (self.cpu_us_before, self.fed);
        let warm = if let (Some(channel), Some(stdout), Some(stderr), Some(taken)) =
            (heard.kept, stdout, stderr, taken)
        {
            (ended.cpu_us, ended.memory_bytes_peak) = (taken.cpu_us, taken.memory_bytes_peak);
            let (running, zygote) = (self.running, self.zygote);
            Some(WarmInstance { running, zygote, channel, stdout, stderr, cpu_us: taken.cpu_us })
        } else {
            // Without separate usage per call, its usage would be unknown.
            let mut running = self.running;
            running.signal(Signal::Kill);
            ended = ProcessEnd { exit: Exit::Code(0), ..running.ended().await? };
            None
        };
        let usage = usage(elapsed, &ended, (cpu_us_before, &fed));
        let said = (heard.said, heard.given, self.files);
        let returned = conclude(&self.invocation, ended, (None, &fed, None), said).await;
        Ok((Outcome { returned, usage }, warm))
    }

    /// Requests the process to end, and kills it after a timeout.
    async fn stop(&mut self) -> Result<ProcessEnd> {
        self.running.signal(Signal::Terminate);
        if let Ok(ended) = tokio::time::timeout(GRACE, self.running.ended()).await {
            return Ok(ended?);
        }
        self.running.signal(Signal::Kill);
        Ok(self.running.ended().await?)
    }
}

/// Returns the inodes of the files of a call.
fn inodes(files: &[WorkerFile]) -> Vec<u64> {
    let of = |file: &WorkerFile| Some(rustix::fs::fstat(file.descriptor()).ok()?.st_ino);
    files.iter().filter_map(of).collect()
}

/// Returns true if another call may use the process. It may keep streamed rows.
pub(crate) fn reusable(invocation: &Invocation) -> bool {
    let is_fed = |argument: &Argument| matches!(argument.value, ArgumentValue::Streamed(_));
    invocation.reuse
        && invocation.limits.network.is_off()
        && !invocation.arguments.iter().any(is_fed)
}

/// Returns the usage of a call of a process with this earlier CPU time.
fn usage(elapsed: Duration, ended: &ProcessEnd, (cpu_us_before, fed): (u64, &FeedUsage)) -> Usage {
    Usage {
        wall_ms: elapsed.as_micros().div_ceil(1000) as u64,
        cpu_us: ended.cpu_us.saturating_sub(cpu_us_before),
        memory_bytes_peak: ended.memory_bytes_peak,
        bytes_in: fed.bytes(),
        calls: 1,
        cold_starts: 1,
        ..Usage::default()
    }
}

/// Returns the result, from the end of the process and the worker's messages.
async fn conclude(
    invocation: &Invocation,
    ended: ProcessEnd,
    (stopped, fed, policy): (Option<Stopped>, &FeedUsage, Option<&EgressPolicy>),
    (said, given, files): (FinalMessage, ResultFile, Vec<WorkerFile>),
) -> Result<Returned> {
    let label = invocation.label.clone();
    let limit = invocation.limits.memory_bytes;
    let memory_limit = || {
        let (label, used) = (label.clone(), ended.memory_bytes_peak);
        Error::MemoryLimit { label, limit, retried_with: None, used }
    };
    if stopped != Some(Stopped::Cancelled)
        && let Some(error) = fed.take_failure()
    {
        // A result from incomplete rows is discarded.
        return Err(error);
    }
    match (said, stopped) {
        (_, Some(Stopped::Cancelled)) => Err(Error::Cancelled { label }),
        (FinalMessage::Table(file), _) => {
            read_table(invocation, aside(move || SharedTable::open(file)).await)
        }
        (FinalMessage::Laid(outline, own), _) => {
            let open = move || SharedTable::put_together(outline, (own, given), &files);
            read_table(invocation, aside(open).await)
        }
        (FinalMessage::MultipartTable(table), _) => read_table(invocation, table),
        (FinalMessage::Value(file), _) if invocation.kind == Returns::Any => {
            read_value(invocation, file)
        }
        (FinalMessage::Text(text), _) if invocation.kind == Returns::Any => {
            Ok(Returned::Json(Bytes::from(text)))
        }
        (FinalMessage::Bool(value), _) if invocation.kind == Returns::Bool => {
            Ok(Returned::Bool(value))
        }
        (said, Some(Stopped::TimeLimit)) => {
            let frames =
                if let FinalMessage::Raised { frames, .. } = said { frames } else { Vec::new() };
            let limit = invocation.limits.timeout;
            Err(Error::TimeLimit { label, limit, importing: false, frames })
        }
        _ if ended.out_of_memory => Err(memory_limit()),
        (FinalMessage::Raised { exception, .. }, _) if OUT_OF_MEMORY.contains(&&*exception) => {
            Err(memory_limit())
        }
        (FinalMessage::Raised { frames, full: Some(used), .. }, _) => {
            let limit = invocation.limits.temp_bytes;
            Err(Error::TempLimit { label, limit, used, frames })
        }
        (FinalMessage::Raised { exception, message, frames, hint, unreachable, .. }, _) => {
            let denied = || policy?.denied_hosts().hint(&message, unreachable);
            let hint = hint.or_else(denied);
            Err(Error::FunctionRaised { exception, message, frames, hint })
        }
        (FinalMessage::Unfit { returned, reason, hint }, _) => {
            Err(unfit(invocation, returned, (reason, hint)))
        }
        (FinalMessage::Bool(_) | FinalMessage::Value(_) | FinalMessage::Text(_), _) => {
            Err(unfit(invocation, "bool".to_owned(), (None, None)))
        }
        (FinalMessage::Nothing, _) => {
            Err(Error::InstanceDied { label, reason: ended.exit.describe() })
        }
    }
}

fn read_table(invocation: &Invocation, table: Result<SharedTable>) -> Result<Returned> {
    if invocation.kind == Returns::Bool {
        return Err(unfit(invocation, "a table".to_owned(), (None, None)));
    }
    table.map(Returned::Table).map_err(|error| match error {
        full if full.code() == ErrorCode::DiskFull => full,
        Error::Arrow(error) => bad_output(invocation, error.to_string()),
        Error::Io { what, source } => bad_output(invocation, format!("cannot {what}: {source}")),
        other => bad_output(invocation, other.to_string()),
    })
}

/// Maximum size of a result that is not a table, in bytes.
const VALUE_BYTES_MAX: u64 = 16 << 20;

/// Returns a function's JSON. It comes from user code and may have any content.
fn read_value(invocation: &Invocation, file: OwnedFd) -> Result<Returned> {
    let bad = |reason: String| bad_output(invocation, reason);
    let file = MemoryFile::seal(file).map_err(|error| bad(error.to_string()))?;
    if file.bytes() > VALUE_BYTES_MAX {
        let function = invocation.function.clone();
        return Err(Error::LargeValue { function, most: VALUE_BYTES_MAX });
    }
    Ok(Returned::Json(Bytes::copy_from_slice(&file.buffer()?)))
}

fn bad_output(invocation: &Invocation, reason: String) -> Error {
    Error::BadOutput { label: invocation.label.clone(), reason }
}

/// Returns the error for a result of the wrong type, with the worker's reason and hint.
fn unfit(
    invocation: &Invocation,
    returned: String,
    (reason, hint): (Option<String>, Option<String>),
) -> Error {
    let (function, wanted) = (invocation.function.clone(), invocation.kind);
    Error::NotATable { function, returned, reason, hint, wanted }
}

/// Returns the process of an instance without a zygote.
fn plan(invocation: &Invocation, origin: &Origin) -> Result<ProcessSpec> {
    let (limits, environment) = (&invocation.limits, &*invocation.environment);
    let (worker, temp, python, confinement) = if let Origin::Folder(folder) = origin {
        let (worker, temp) = (folder.join("headwater"), folder.join("tmp"));
        (worker, temp, environment.python.clone(), Confinement::Folder(folder.clone()))
    } else {
        let python = Path::new(ENVIRONMENT).join("bin").join("python");
        let sandbox =
            environment_sandbox(environment, limits.temp_bytes, !limits.network.is_off())?;
        (PathBuf::from(WORKER), PathBuf::from("/tmp"), python, Confinement::Sandbox(sandbox))
    };
    let programs = python.parent().map(Path::to_owned).unwrap_or_default();
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let command = [text(&python), "-I".into(), "-B".into(), text(&worker.join(worker::FILE))];
    Ok(ProcessSpec {
        command: command.to_vec(),
        variables: variables(&text(&programs), &text(&temp), limits.cpu_millis),
        control: true,
        confinement,
        memory_bytes: Some(limits.memory_bytes),
        processes_max: Some(PROCESSES_MAX),
        cpu_millis: limits.cpu_millis,
        ..ProcessSpec::default()
    })
}

/// Returns the sandbox of a clone for calls with these limits.
pub(crate) fn clone_plan(zygote: u64, limits: &Limits) -> ProcessSpec {
    let (temp_bytes, network) = (limits.temp_bytes, !limits.network.is_off());
    ProcessSpec {
        variables: variables("/environment/bin", "/tmp", limits.cpu_millis),
        confinement: Confinement::Clone(CloneSpec { zygote, temp_bytes, network }),
        memory_bytes: Some(limits.memory_bytes),
        processes_max: Some(PROCESSES_MAX),
        cpu_millis: limits.cpu_millis,
        ..ProcessSpec::default()
    }
}

/// Returns the environment variables of an instance; it has no others.
pub(crate) fn variables(
    programs: &str,
    temp: &str,
    cpu_millis: Option<u32>,
) -> Vec<(String, String)> {
    // Without `/sys` libraries cannot count processors, and some log a warning at each call.
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let limit = cpu_millis.map_or(processors, |millis| millis.div_ceil(1000).max(1) as usize);
    let threads = processors.min(limit).to_string();
    let variables = [
        ("PATH", format!("{programs}:/usr/local/bin:/usr/bin:/bin")),
        ("HOME", temp.to_owned()),
        ("TMPDIR", temp.to_owned()),
        ("USER", "function".to_owned()),
        ("LANG", "C.UTF-8".to_owned()),
        ("OMP_NUM_THREADS", threads.clone()),
        ("LOKY_MAX_CPU_COUNT", threads),
    ];
    variables.map(|(name, value)| (name.to_owned(), value)).to_vec()
}

/// Returns a sandbox with an environment and its interpreter.
pub(crate) fn environment_sandbox(
    environment: &Environment,
    temp_bytes: u64,
    network: bool,
) -> Result<SandboxSpec> {
    let read_only = environment.mounts(Path::new(ENVIRONMENT))?;
    Ok(SandboxSpec { read_only, temp_bytes, network })
}

/// Writes the project, the worker and the SDK to a memory file: below the sandbox's root, or below
/// the work folder. A zygote has all but the project.
fn files(
    invocation: &Invocation,
    origin: &Origin,
    policy: Option<&EgressPolicy>,
) -> Result<MemoryFile> {
    let own = worker::files().map(|(path, text)| (format!("headwater/{path}"), text));
    let own = own.filter(|_| !matches!(origin, Origin::Zygote(_)));
    let project = invocation.files.iter();
    let project = project.map(|(path, text)| (format!("project/{path}"), text.as_str()));
    let names = policy.map(EgressPolicy::files).unwrap_or_default();
    let names = names.iter().map(|(path, text)| (path.clone(), text.as_str()));
    let files: BTreeMap<String, &str> = own.chain(project).chain(names).collect();
    let bytes = serde_json::to_vec(&files)
        .map_err(|error| Error::io("write the project's files")(error.into()))?;
    MemoryFile::with("headwater-files", &bytes)
}

fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .map_err(|errno| Error::io("make a pipe")(errno.into()))
}
