//! One instance: a process that runs one function once, from its task to what came of it.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use headwater_model::{ErrorCode, Fault, LogStream, Usage};
use tokio::net::unix::pipe::Receiver;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinHandle};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::arena::Arena;
use crate::environment::prefix_of;
use crate::feed::{Fed, Feed};
use crate::listen::{Lines, Listening, listen, listen_to_pipe, receiver};
use crate::memory::{GivenFile, Made, MemoryFile, Pages, aside};
use crate::network::Reach;
use crate::spawner::{
    Channel, Copied, Ended, Exit, Plan, Running, Sandbox, Signal, Spawner, Taken, Work, watch,
};
use crate::turns::Turn;
use crate::warm::Warm;
use crate::worker::{self, Heard, Said, Sent};
use crate::zygote::Zygote;
use crate::{
    Argument, ArgumentValue, Environment, Error, FunctionEvent, Invocation, Limits, Outcome,
    Result, Returned, Returns, SharedTable,
};

/// How long a function may take to end after it was asked to.
const GRACE: Duration = Duration::from_secs(1);

/// The most processes and threads of an instance.
const PROCESSES_MAX: u64 = 4096;

/// Where a sandbox shows the project, the worker and the environment.
const PROJECT: &str = "/project";
pub(crate) const WORKER: &str = "/headwater";
pub(crate) const ENVIRONMENT: &str = "/environment";

/// What is raised where there is no memory left: by Python, numpy and pyarrow. What others call so means
/// something of their own.
const OUT_OF_MEMORY: [&str; 4] = [
    "MemoryError",
    "numpy._core._exceptions._ArrayMemoryError",
    "numpy.core._exceptions._ArrayMemoryError",
    "pyarrow.lib.ArrowMemoryError",
];

/// How long what a call has said may take to be read once the call has to end.
const HEARD_MAX: Duration = Duration::from_secs(2);

/// Where an instance comes from.
#[derive(Debug, Clone)]
pub(crate) enum Origin {
    /// A fresh process without a sandbox, in this folder of its own.
    Folder(PathBuf),
    /// A fresh process in a sandbox.
    Sandbox,
    /// A clone of a zygote, in a sandbox.
    Zygote(Arc<Zygote>),
}

/// A process that runs a function.
pub(crate) struct Instance {
    invocation: Invocation,
    /// The files of its arguments, by the numbers that its worker knows them by.
    files: Vec<GivenFile>,
    running: Running,
    zygote: Option<Arc<Zygote>>,
    /// Whether it may turn out that there is nobody to run the call.
    cloned: bool,
    started: Instant,
    said: oneshot::Receiver<Heard>,
    printed: [Printed; 2],
    /// Ends all listening.
    listening: AbortHandle,
    /// Cancelled when the call has ended and its process goes on.
    pause: CancellationToken,
    /// What it was fed while it ran.
    fed: Arc<Fed>,
    feeding: Vec<JoinHandle<()>>,
    /// What earlier calls of the process have taken.
    cpu_us_before: u64,
    /// What it may reach, where that is anything.
    reach: Option<Reach>,
    /// The inodes of the files it was given, whose memory is the server's.
    inputs: Vec<u64>,
    /// Cancelled when the process has ended, or nobody waits for it.
    over: CancellationToken,
    _ends: DropGuard,
}

/// What native code prints, until it is heard to its end.
struct Printed {
    listening: Option<oneshot::Receiver<Option<Receiver>>>,
    pipe: Option<Receiver>,
}

impl Printed {
    fn new(listening: oneshot::Receiver<Option<Receiver>>) -> Self {
        Printed { listening: Some(listening), pipe: None }
    }

    /// Waits for the end of listening. May be dropped and called again.
    async fn end(&mut self) {
        if let Some(listening) = &mut self.listening {
            self.pipe = listening.await.unwrap_or_default();
            self.listening = None;
        }
    }
}

/// Why an instance was asked to end.
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
        (reach, pages, has_arena): (Option<Reach>, Option<Arc<Pages>>, bool),
        sink: mpsc::Sender<FunctionEvent>,
    ) -> Result<Self> {
        let project = match origin {
            Origin::Folder(folder) => folder.join("project"),
            Origin::Sandbox | Origin::Zygote(_) => PathBuf::from(PROJECT),
        };
        let (mine, theirs) = Channel::pair().map_err(Error::io("make a socket"))?;
        let reuse = reusable(invocation) && !matches!(origin, Origin::Folder(_));
        // What a process that goes on has asked others to write there, nobody sees.
        let pages = pages.filter(|_| !reuse);
        let arena = invocation.arena
            && has_arena
            && pages.is_some()
            && matches!(origin, Origin::Zygote(_))
            && Arena::suits(&invocation.environment);
        let how = worker::How { reuse, huge_pages: pages.is_some(), arena };
        let sent = worker::send_task(&mine, invocation, &project, how)?;
        let (stdout, stdout_end) = pipe()?;
        let (stderr, stderr_end) = pipe()?;
        let files = files(invocation, origin, reach.as_ref())?;
        let descriptors: [BorrowedFd<'_>; 4] =
            [stdout_end.as_fd(), stderr_end.as_fd(), theirs.as_fd(), files.descriptor()];
        let started = Instant::now();
        let running = match origin {
            Origin::Zygote(zygote) => {
                let running = zygote.seat(spawner, &invocation.limits)?;
                running.fill(descriptors)?;
                zygote.prepare(spawner, &invocation.limits);
                running
            }
            Origin::Folder(_) | Origin::Sandbox => {
                spawner.run(plan(invocation, origin)?, &descriptors)?
            }
        };
        let channel = watch(mine).map_err(Error::io("listen to a worker"))?;
        let (stdout, stderr) = (receiver(stdout)?, receiver(stderr)?);
        let zygote = match origin {
            Origin::Zygote(zygote) => Some(zygote.clone()),
            Origin::Folder(_) | Origin::Sandbox => None,
        };
        let cloned = zygote.is_some();
        let warm = Warm { running, zygote, channel, stdout, stderr, cpu_us: 0 };
        let call = (invocation.bare(), sent, pages);
        Self::listening(warm, call, (started, cloned), (reach, sink))
    }

    /// Has a process that ran the same function before run it again.
    pub(crate) fn resume(
        mut warm: Warm,
        invocation: &Invocation,
        sink: mpsc::Sender<FunctionEvent>,
    ) -> Result<Self> {
        let started = Instant::now();
        warm.running.resume()?;
        let how = worker::How { reuse: true, huge_pages: false, arena: false };
        let channel = warm.channel.get_ref();
        let sent = worker::send_task(channel, invocation, Path::new(PROJECT), how)?;
        let call = (invocation.bare(), sent, None);
        Self::listening(warm, call, (started, true), (None, sink))
    }

    fn listening(
        warm: Warm,
        (invocation, sent, pages): (Invocation, Sent, Option<Arc<Pages>>),
        (started, cloned): (Instant, bool),
        (reach, sink): (Option<Reach>, mpsc::Sender<FunctionEvent>),
    ) -> Result<Self> {
        let Warm { running, zygote, channel, stdout, stderr, cpu_us } = warm;
        let lines = Lines::new(sink.clone());
        let (over, pause) = (CancellationToken::new(), CancellationToken::new());
        let until = || (over.clone(), pause.clone());
        let pipes = [
            listen_to_pipe(stdout, LogStream::Stdout, lines.clone(), until()),
            listen_to_pipe(stderr, LogStream::Stderr, lines.clone(), until()),
        ];
        let network = reach.clone().map(|reach| (reach, sink));
        let room = invocation.room.clone();
        let worker = listen(channel, lines, network, (room, pages), over.clone());
        let Listening { said, printed, end } = Listening::start(worker, pipes);
        let Sent { files, feeds } = sent;
        let (ends, inputs) = (over.clone().drop_guard(), inodes(&files));
        let fed = Arc::new(Fed::default());
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
            printed: printed.map(Printed::new),
            listening: end,
            pause,
            fed,
            feeding,
            cpu_us_before: cpu_us,
            reach,
            inputs,
            over,
            _ends: ends,
        })
    }

    /// Waits for the call to end, and ends the process where it must not go on. What it took is told
    /// whatever came of it; an error means that nobody knows. Where the process waits for another
    /// call, it is given back. After `prompt` it has no better claim to a processor than any other.
    pub(crate) async fn finish(
        mut self,
        (until, prompt, mut turn): (Instant, Duration, Turn),
        cancelled: CancellationToken,
    ) -> Result<(Outcome, Option<Warm>)> {
        let limit = || tokio::time::sleep_until(until.into());
        let stopped = async {
            tokio::select! {
                () = limit() => Stopped::TimeLimit,
                () = cancelled.cancelled() => Stopped::Cancelled,
            }
        };
        tokio::pin!(stopped);
        let long = tokio::time::sleep_until((self.started + prompt).into());
        tokio::pin!(long);
        let (mut heard, mut settled) = (None, false);
        let early = loop {
            tokio::select! {
                ended = self.running.ended() => break Ok(ended?),
                () = &mut long, if !settled => {
                    self.running.settle();
                    turn.settle();
                    settled = true;
                }
                said = &mut self.said, if heard.is_none() => {
                    let said = heard.insert(said.unwrap_or_default());
                    // User code may say so, too; its process is watched to its end all the same.
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
        let Heard { begun, said, given, .. } = heard.unwrap_or_default();
        let usage = usage(elapsed, &ended, (self.cpu_us_before, &self.fed));
        if self.cloned && !begun && why.is_none() && !ended.out_of_memory {
            return Err(Error::NotCloned { reason: ended.exit.describe() });
        }
        let said = (said, given, self.files);
        let known = (why, &*self.fed, self.reach.as_ref());
        let returned = conclude(&self.invocation, ended, known, said).await;
        Ok((Outcome { returned, usage }, None))
    }

    /// Waits for what the call has said and printed. Whoever reads the lines may not do so: then the
    /// call ends all the same.
    async fn hear_the_rest(
        &mut self,
        heard: &mut Option<Heard>,
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

    /// Listens to the end of a call whose process waits for another, and asks what it took. May be
    /// dropped.
    async fn pause(&mut self) -> Option<Taken> {
        self.pause.cancel();
        for printed in &mut self.printed {
            printed.end().await;
        }
        self.running.pause(&self.inputs).await
    }

    /// Ends a call whose process waits for another.
    async fn keep(self, heard: Heard, taken: Option<Taken>) -> Result<(Outcome, Option<Warm>)> {
        let elapsed = self.started.elapsed();
        let [stdout, stderr] = self.printed.map(|printed| printed.pipe);
        let mut ended =
            Ended { exit: Exit::Code(0), cpu_us: 0, memory_bytes_peak: 0, out_of_memory: false };
        let (cpu_us_before, fed) = (self.cpu_us_before, self.fed);
        let warm = if let (Some(channel), Some(stdout), Some(stderr), Some(taken)) =
            (heard.kept, stdout, stderr, taken)
        {
            (ended.cpu_us, ended.memory_bytes_peak) = (taken.cpu_us, taken.memory_bytes_peak);
            let (running, zygote) = (self.running, self.zygote);
            Some(Warm { running, zygote, channel, stdout, stderr, cpu_us: taken.cpu_us })
        } else {
            // Without a measure of each call by itself nobody could say what it took.
            let mut running = self.running;
            running.signal(Signal::Kill);
            ended = Ended { exit: Exit::Code(0), ..running.ended().await? };
            None
        };
        let usage = usage(elapsed, &ended, (cpu_us_before, &fed));
        let said = (heard.said, heard.given, self.files);
        let returned = conclude(&self.invocation, ended, (None, &fed, None), said).await;
        Ok((Outcome { returned, usage }, warm))
    }

    /// Asks the process to end, and then sees to it.
    async fn stop(&mut self) -> Result<Ended> {
        self.running.signal(Signal::Terminate);
        if let Ok(ended) = tokio::time::timeout(GRACE, self.running.ended()).await {
            return ended;
        }
        self.running.signal(Signal::Kill);
        self.running.ended().await
    }
}

/// The inodes of the files that a call is given.
fn inodes(files: &[GivenFile]) -> Vec<u64> {
    let of = |file: &GivenFile| Some(rustix::fs::fstat(file.descriptor()).ok()?.st_ino);
    files.iter().filter_map(of).collect()
}

/// Whether another call may use the process of this one. Rows that it was fed, it may keep.
pub(crate) fn reusable(invocation: &Invocation) -> bool {
    let is_fed = |argument: &Argument| matches!(argument.value, ArgumentValue::Streamed(_));
    invocation.reuse
        && invocation.limits.network.is_off()
        && !invocation.arguments.iter().any(is_fed)
}

/// What a call took, of a process that had taken so much processor time before.
fn usage(elapsed: Duration, ended: &Ended, (cpu_us_before, fed): (u64, &Fed)) -> Usage {
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

/// What came of it, from how the process ended and what its worker said.
async fn conclude(
    invocation: &Invocation,
    ended: Ended,
    (stopped, fed, reach): (Option<Stopped>, &Fed, Option<&Reach>),
    (said, given, files): (Said, Made, Vec<GivenFile>),
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
        // Whatever it made of rows that did not all come is of no use.
        return Err(error);
    }
    match (said, stopped) {
        (_, Some(Stopped::Cancelled)) => Err(Error::Cancelled { label }),
        (Said::Table(file), _) => {
            read_table(invocation, aside(move || SharedTable::open(file)).await)
        }
        (Said::Laid(outline, own), _) => {
            let open = move || SharedTable::put_together(outline, (own, given), &files);
            read_table(invocation, aside(open).await)
        }
        (Said::Parts(table), _) => read_table(invocation, table),
        (Said::Value(file), _) if invocation.kind == Returns::Any => read_value(invocation, file),
        (Said::Text(text), _) if invocation.kind == Returns::Any => {
            Ok(Returned::Json(Bytes::from(text)))
        }
        (Said::Bool(value), _) if invocation.kind == Returns::Bool => Ok(Returned::Bool(value)),
        (said, Some(Stopped::TimeLimit)) => {
            let frames = if let Said::Raised { frames, .. } = said { frames } else { Vec::new() };
            let limit = invocation.limits.timeout;
            Err(Error::TimeLimit { label, limit, importing: false, frames })
        }
        _ if ended.out_of_memory => Err(memory_limit()),
        (Said::Raised { exception, .. }, _) if OUT_OF_MEMORY.contains(&&*exception) => {
            Err(memory_limit())
        }
        (Said::Raised { frames, full: Some(used), .. }, _) => {
            let limit = invocation.limits.temp_bytes;
            Err(Error::TempLimit { label, limit, used, frames })
        }
        (Said::Raised { exception, message, frames, hint, unreachable, .. }, _) => {
            let unlisted = || reach?.unlisted().hint(&message, unreachable);
            let hint = hint.or_else(unlisted);
            Err(Error::FunctionRaised { exception, message, frames, hint })
        }
        (Said::Unfit { returned, reason, hint }, _) => {
            Err(unfit(invocation, returned, (reason, hint)))
        }
        (Said::Bool(_) | Said::Value(_) | Said::Text(_), _) => {
            Err(unfit(invocation, "bool".to_owned(), (None, None)))
        }
        (Said::Nothing, _) => Err(Error::InstanceDied { label, reason: ended.exit.describe() }),
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

/// The most bytes of a value that is no table.
const VALUE_BYTES_MAX: u64 = 16 << 20;

/// What a function says in JSON. It comes from user code, and may be anything.
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

/// What a function returned that will not do, with the reason and a hint where the worker knows them.
fn unfit(
    invocation: &Invocation,
    returned: String,
    (reason, hint): (Option<String>, Option<String>),
) -> Error {
    let (function, wanted) = (invocation.function.clone(), invocation.kind);
    Error::NotATable { function, returned, reason, hint, wanted }
}

/// What the spawner is to start where there is no zygote.
fn plan(invocation: &Invocation, origin: &Origin) -> Result<Plan> {
    let (limits, environment) = (&invocation.limits, &*invocation.environment);
    let (worker, temp, python, walls) = if let Origin::Folder(folder) = origin {
        let (worker, temp) = (folder.join("headwater"), folder.join("tmp"));
        (worker, temp, environment.python.clone(), Work::Folder(folder.clone()))
    } else {
        let python = Path::new(ENVIRONMENT).join("bin").join("python");
        let sandbox =
            environment_sandbox(environment, limits.temp_bytes, !limits.network.is_off())?;
        (PathBuf::from(WORKER), PathBuf::from("/tmp"), python, Work::Sandbox(sandbox))
    };
    let programs = python.parent().map(Path::to_owned).unwrap_or_default();
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let command = [text(&python), "-I".into(), "-B".into(), text(&worker.join(worker::FILE))];
    Ok(Plan {
        command: command.to_vec(),
        variables: variables(&text(&programs), &text(&temp), limits.cpu_millis),
        control: true,
        walls,
        memory_bytes: Some(limits.memory_bytes),
        processes_max: Some(PROCESSES_MAX),
        cpu_millis: limits.cpu_millis,
        ..Plan::default()
    })
}

/// A sandbox in which a clone of a zygote waits for a call with these limits.
pub(crate) fn clone_plan(zygote: u64, limits: &Limits) -> Plan {
    let (temp_bytes, network) = (limits.temp_bytes, !limits.network.is_off());
    Plan {
        variables: variables("/environment/bin", "/tmp", limits.cpu_millis),
        walls: Work::Clone(Copied { zygote, temp_bytes, network }),
        memory_bytes: Some(limits.memory_bytes),
        processes_max: Some(PROCESSES_MAX),
        cpu_millis: limits.cpu_millis,
        ..Plan::default()
    }
}

/// The environment variables of an instance, and no others.
pub(crate) fn variables(
    programs: &str,
    temp: &str,
    cpu_millis: Option<u32>,
) -> Vec<(String, String)> {
    // Without `/sys` a library cannot count processors, and some warn about that at each call.
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

/// A sandbox that shows an environment and its interpreter.
pub(crate) fn environment_sandbox(
    environment: &Environment,
    temp_bytes: u64,
    network: bool,
) -> Result<Sandbox> {
    let interpreter = std::fs::canonicalize(&environment.python)
        .map_err(Error::io(format!("find the interpreter of `{}`", environment.id)))?;
    let mut shown = vec![(environment.folder(), PathBuf::from(ENVIRONMENT))];
    // Only the parts of the prefix that a Python needs: it may lie in somebody's home folder.
    let prefix = prefix_of(&interpreter).unwrap_or(Path::new("/usr"));
    if !prefix.starts_with("/usr") {
        let parts = ["bin", "lib", "lib64"].map(|part| prefix.join(part));
        shown.extend(parts.into_iter().filter(|part| part.exists()).map(|p| (p.clone(), p)));
    }
    Ok(Sandbox { shown, temp_bytes, network })
}

/// The project, the worker and the SDK, in a memory file: below the sandbox's root, or below the
/// work folder. A zygote has all but the project.
fn files(invocation: &Invocation, origin: &Origin, reach: Option<&Reach>) -> Result<MemoryFile> {
    let own = worker::files().map(|(path, text)| (format!("headwater/{path}"), text));
    let own = own.filter(|_| !matches!(origin, Origin::Zygote(_)));
    let project = invocation.files.iter();
    let project = project.map(|(path, text)| (format!("project/{path}"), text.as_str()));
    let names = reach.map(Reach::files).unwrap_or_default();
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
