//! An instance: the process that executes a call, from receiving its task to returning its result.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use headwater_model::{LogStream, Usage};
use headwater_sandbox::{
    Channel, EgressPolicy, ExitStatus, ProcessEnd, ResourceUsage, RunningProcess, Signal, Spawner,
};
use headwater_shared_memory::{HugePageFs, WorkerFile};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::call_outcome::{CallEndState, conclude, usage};
use crate::instance_spec::{PROJECT, files, plan};
use crate::project_folders::ProjectFolder;
use crate::runtime_start_clock::RuntimeStartClock;
use crate::streaming_input::{InputFeed, InputFeedUsage};
use crate::unreleased_files::UnreleasedFiles;
use crate::warm_instance::WarmInstance;
use crate::worker_io::{CallContext, LineSink, WorkerReaders, listen, listen_to_pipe, receiver};
use crate::worker_protocol::{self, FinalMessage, TaskFiles, WorkerCallState};
use crate::zygote::Zygote;
use crate::{
    Argument, ArgumentValue, Error, FunctionEvent, FunctionResult, Invocation, InvocationOutcome,
    Result, ReuseScope,
};

/// Time between a stop request and the kill of a function that does not end.
const GRACE: Duration = Duration::from_secs(1);

/// Time limit for reading the remaining messages of a worker after its call was stopped.
const HEARD_MAX: Duration = Duration::from_secs(2);

/// The way in which the process of a new instance is created.
#[derive(Debug, Clone)]
pub(crate) enum InstanceOrigin {
    /// A new process without a sandbox, in its own folder.
    Folder(PathBuf),
    /// A new process in a sandbox.
    Sandbox,
    /// A clone of a zygote, in a sandbox.
    Zygote(Arc<Zygote>),
}

/// The settings of a new instance.
pub(crate) struct NewInstance<'a> {
    pub(crate) origin: &'a InstanceOrigin,
    /// The allowed destinations, if the function has network access.
    pub(crate) policy: Option<EgressPolicy>,
    /// The file system with huge pages for the result; `None` to use memory files.
    pub(crate) pages: Option<Arc<HugePageFs>>,
    /// The folder with the project's files; `None` to write them into the sandbox.
    pub(crate) project: Option<Arc<ProjectFolder>>,
    /// True if the process only imports the function, and then waits for a call.
    pub(crate) prepares: bool,
}

/// The conditions that stop a call: its deadline and a token. Also its CPU boost.
pub(crate) struct CallStopConditions {
    pub(crate) until: Instant,
    pub(crate) boost: Duration,
    pub(crate) cancelled: CancellationToken,
}

/// A call whose task has been sent to a process.
struct SentCall {
    invocation: Invocation,
    sent: TaskFiles,
    pages: Option<Arc<HugePageFs>>,
    policy: Option<EgressPolicy>,
    started: Instant,
    /// True if the process is a clone, which may end before it starts the call.
    cloned: bool,
    /// True if the process has executed other calls before.
    is_warm: bool,
}

/// A process that is executing a call.
pub(crate) struct RunningInstance {
    invocation: Invocation,
    /// The files with the call's arguments. The task refers to a file by its index in this list.
    files: Vec<WorkerFile>,
    running: RunningProcess,
    zygote: Option<Arc<Zygote>>,
    /// The project's folder, which the sandbox mounts; kept until the process ends.
    project: Option<Arc<ProjectFolder>>,
    /// True if the process is a clone, which may end before it starts the call.
    cloned: bool,
    started: Instant,
    /// Extends the deadline by the time that the start of the call's runtime, such as Node, takes.
    start_clock: RuntimeStartClock,
    readers: WorkerReaders,
    /// Stops the readers of the output pipes when the call has ended and its process is kept.
    pause: CancellationToken,
    /// The usage of the call's streamed inputs, and their error.
    fed: Arc<InputFeedUsage>,
    feeding: Vec<JoinHandle<()>>,
    /// The CPU time that earlier calls in this process used, in microseconds.
    cpu_us_before: u64,
    /// The allowed destinations, if the function has network access.
    policy: Option<EgressPolicy>,
    /// The files of earlier calls that the process may still hold.
    unreleased: UnreleasedFiles,
    /// Cancelled when the process has ended or the call is dropped.
    over: CancellationToken,
    _ends: DropGuard,
}

/// The reason why the runtime ends an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InstanceStopReason {
    TimeLimit,
    /// The call's runtime did not start within the time limit plus the extra time for its start.
    StartLimit,
    Cancelled,
}

impl InstanceStopReason {
    fn at_limit(clock: &RuntimeStartClock) -> Self {
        if clock.is_starting() { Self::StartLimit } else { Self::TimeLimit }
    }
}

impl RunningInstance {
    /// Starts the process of a new instance, and sends it the task of the call.
    pub(crate) fn start(
        spawner: &Spawner,
        invocation: &Invocation,
        NewInstance { origin, policy, pages, project: folder, prepares }: NewInstance<'_>,
        sink: mpsc::Sender<FunctionEvent>,
    ) -> Result<Self> {
        let project = match origin {
            InstanceOrigin::Folder(folder) => folder.join("project"),
            InstanceOrigin::Sandbox | InstanceOrigin::Zygote(_) => PathBuf::from(PROJECT),
        };
        let (mine, theirs) = Channel::pair().map_err(Error::io("create a socket"))?;
        let reuse = reusable(invocation) && !matches!(origin, InstanceOrigin::Folder(_));
        // Give no huge-page file to a process that is reused: it could keep the file of an earlier
        // call open for writing.
        let pages = pages.filter(|_| !reuse);
        let how = worker_protocol::CallSettings { reuse, huge_pages: pages.is_some(), prepares };
        let sent = worker_protocol::send_task(&mine, invocation, &project, how)?;
        let (stdout, stdout_end) = pipe()?;
        let (stderr, stderr_end) = pipe()?;
        let files = files(invocation, origin, policy.as_ref(), folder.as_deref())?;
        let descriptors: [BorrowedFd<'_>; 4] =
            [stdout_end.as_fd(), stderr_end.as_fd(), theirs.as_fd(), files.descriptor()];
        let started = Instant::now();
        let running = match origin {
            InstanceOrigin::Zygote(zygote) => {
                let running = zygote.take_clone(spawner, &invocation.limits)?;
                running.begin(descriptors, folder.as_deref().map(ProjectFolder::path))?;
                zygote.prepare_clones(spawner, &invocation.limits);
                running
            }
            InstanceOrigin::Folder(_) | InstanceOrigin::Sandbox => {
                spawner.run(plan(invocation, origin, folder.as_deref())?, &descriptors)?
            }
        };
        let channel = mine.into_async().map_err(Error::io("listen to a function's process"))?;
        let (stdout, stderr) = (receiver(stdout)?, receiver(stderr)?);
        let zygote = match origin {
            InstanceOrigin::Zygote(zygote) => Some(zygote.clone()),
            InstanceOrigin::Folder(_) | InstanceOrigin::Sandbox => None,
        };
        let cloned = zygote.is_some();
        let warm = WarmInstance {
            running,
            zygote,
            project: folder,
            channel,
            stdout,
            stderr,
            cpu_us: 0,
            unreleased: UnreleasedFiles::default(),
        };
        let invocation = invocation.without_arguments();
        let is_warm = false;
        let call = SentCall { invocation, sent, pages, policy, started, cloned, is_warm };
        Self::listening(warm, call, sink)
    }

    /// Sends another call to an idle process of the same function.
    pub(crate) fn resume(
        mut warm: WarmInstance,
        invocation: &Invocation,
        sink: mpsc::Sender<FunctionEvent>,
    ) -> Result<Self> {
        let started = Instant::now();
        warm.running.resume()?;
        let how = worker_protocol::CallSettings { reuse: true, huge_pages: false, prepares: false };
        let channel = warm.channel.get_ref();
        let sent = worker_protocol::send_task(channel, invocation, Path::new(PROJECT), how)?;
        let invocation = invocation.without_arguments();
        let (pages, policy) = (None, None);
        let (cloned, is_warm) = (true, true);
        let call = SentCall { invocation, sent, pages, policy, started, cloned, is_warm };
        Self::listening(warm, call, sink)
    }

    fn listening(
        warm: WarmInstance,
        call: SentCall,
        sink: mpsc::Sender<FunctionEvent>,
    ) -> Result<Self> {
        let SentCall { invocation, sent, pages, policy, started, cloned, is_warm } = call;
        let WarmInstance { running, zygote, project, channel, stdout, stderr, .. } = warm;
        let (cpu_us, unreleased) = (warm.cpu_us, warm.unreleased);
        let lines = LineSink::new(sink.clone());
        let (over, pause) = (CancellationToken::new(), CancellationToken::new());
        let until = || (over.clone(), pause.clone());
        let pipes = [
            listen_to_pipe(stdout, LogStream::Stdout, lines.clone(), until()),
            listen_to_pipe(stderr, LogStream::Stderr, lines.clone(), until()),
        ];
        let network = policy.clone().map(|policy| (policy, sink));
        let (quota, lake) = (invocation.quota.clone(), invocation.lake.clone());
        let answer = invocation.client.answer.clone();
        let start_clock = RuntimeStartClock::new(invocation.starts_runtime && !is_warm);
        let start = start_clock.clone();
        let supplies = CallContext { quota, pages, lake, answer, start, is_warm };
        let worker = listen(channel, lines, network, supplies, over.clone());
        let readers = WorkerReaders::new(worker, pipes);
        let TaskFiles { files, feeds } = sent;
        let ends = over.clone().drop_guard();
        let fed = Arc::new(InputFeedUsage::default());
        let start =
            |feed: InputFeed| feed.start(invocation.quota.clone(), fed.clone(), over.clone());
        let feeding = feeds.into_iter().map(start).collect::<Result<_>>()?;
        Ok(RunningInstance {
            invocation,
            files,
            running,
            zygote,
            project,
            cloned,
            started,
            start_clock,
            readers,
            pause,
            fed,
            feeding,
            cpu_us_before: cpu_us,
            policy,
            unreleased,
            over,
            _ends: ends,
        })
    }

    /// Waits for the end of the call, and returns its outcome with the usage. If another call can
    /// reuse the process, returns the process, too; it may still be running. Otherwise ends the
    /// process. If the method fails, the usage is unknown.
    pub(crate) async fn finish(
        mut self,
        CallStopConditions { until, boost, cancelled }: CallStopConditions,
    ) -> Result<(InvocationOutcome, Option<WarmInstance>)> {
        let start_clock = self.start_clock.clone();
        let stopped = async {
            tokio::select! {
                () = start_clock.sleep_until(until) => InstanceStopReason::at_limit(&start_clock),
                () = cancelled.cancelled() => InstanceStopReason::Cancelled,
            }
        };
        tokio::pin!(stopped);
        let long = tokio::time::sleep_until((self.started + boost).into());
        tokio::pin!(long);
        let (mut heard, mut settled, mut concluded) = (None, false, None);
        let early = loop {
            tokio::select! {
                ended = self.running.ended() => break Ok(ended?),
                () = &mut long, if !settled => {
                    self.running.end_boost();
                    settled = true;
                }
                said = self.readers.messages() => {
                    let said = heard.insert(said);
                    // User code can also send the message that the call has ended. So if the
                    // process is not reused, wait for its end.
                    if said.kept.is_none() || self.invocation.reuse == ReuseScope::Never {
                        concluded = Box::pin(self.conclude_early(said)).await;
                        continue;
                    }
                    let taken = tokio::select! {
                        taken = self.measure() => taken,
                        why = &mut stopped => break Err(why),
                    };
                    return self.keep(heard.take().unwrap_or_default(), taken).await;
                }
                why = &mut stopped => break Err(why),
            }
        };
        let (ended, mut why) = match early {
            Ok(ended) => (ended, None),
            Err(why) => (self.stop(&mut heard).await?, Some(why)),
        };
        let elapsed = self.started.elapsed();
        self.over.cancel();
        if let Err(late) = self.wait_for_remaining_output(&mut heard, why, stopped).await {
            why = Some(late);
        }
        for feeding in self.feeding.drain(..) {
            let _ = feeding.await;
        }
        let WorkerCallState { begun, said, given, .. } = heard.unwrap_or_default();
        let measured = usage(elapsed, &ended, self.cpu_us_before, &self.fed);
        // If the process ended during the start of its runtime, the measured start must not exceed
        // the time of the call.
        let runtime_start_ms = self.start_clock.milliseconds().min(measured.wall_ms);
        let usage = Usage { runtime_start_ms, ..measured };
        if self.cloned && !begun && why.is_none() && !ended.out_of_memory {
            return Err(Error::NotCloned { reason: ended.exit.describe() });
        }
        let end = CallEndState {
            ended,
            stopped: why,
            fed: &self.fed,
            policy: self.policy.as_ref(),
            message: said,
            result_file: given,
            files: self.files,
        };
        let returned = match concluded {
            Some(returned) => returned,
            None => conclude(&self.invocation, end).await,
        };
        Ok((InvocationOutcome { returned, usage }, None))
    }

    /// Sends the early result of a call whose worker has sent its last message, and returns the
    /// result. Returns `None` if the caller wants no early result, or if the exit could still
    /// change the result: after an exception, with streamed rows, or if the process can still write
    /// to the table.
    async fn conclude_early(
        &mut self,
        messages: &mut WorkerCallState,
    ) -> Option<Result<FunctionResult>> {
        use FinalMessage::{Bool, Laid, Table};
        let early = self.invocation.early_result.as_ref()?;
        // These tables are sealed, so the process cannot change them.
        let is_final = matches!(messages.said, Table(_) | Laid(_, Some(_)) | Bool(_));
        if !messages.is_last || !is_final || !self.feeding.is_empty() {
            return None;
        }
        let ended = ProcessEnd {
            exit: ExitStatus::Code(0),
            cpu_us: 0,
            memory_bytes_peak: 0,
            out_of_memory: false,
        };
        let end = CallEndState {
            ended,
            stopped: None,
            fed: &self.fed,
            policy: self.policy.as_ref(),
            message: std::mem::take(&mut messages.said),
            result_file: std::mem::take(&mut messages.given),
            files: self.files.clone(),
        };
        let returned = conclude(&self.invocation, end).await;
        if let Ok(result) = &returned {
            early.send(result);
        }
        Some(returned)
    }

    /// Waits for the remaining messages and output of a call. After the call is stopped, the wait
    /// is limited: a receiver that reads no lines cannot prevent the end of the call.
    async fn wait_for_remaining_output(
        &mut self,
        heard: &mut Option<WorkerCallState>,
        why: Option<InstanceStopReason>,
        stopped: impl Future<Output = InstanceStopReason>,
    ) -> std::result::Result<(), InstanceStopReason> {
        let all = async {
            if heard.is_none() {
                *heard = Some(self.readers.messages().await);
            }
            self.readers.output().await;
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
        Err(late)
    }

    /// Reads the remaining output of a call whose process may be kept, and returns the usage of the
    /// process. If the future is dropped, no data is lost.
    async fn measure(&mut self) -> Option<ResourceUsage> {
        self.pause.cancel();
        self.readers.output().await;
        if self.running.is_metered() && self.unreleased.may_skip_check(&self.files) {
            return self.running.measure(&[]).await;
        }
        let usage = self.running.measure(&self.unreleased.inodes(&self.files)).await;
        if usage.is_some() {
            // The process holds none of the files that the measurement has checked.
            self.unreleased = UnreleasedFiles::released();
        }
        usage
    }

    /// Ends a call whose process is kept for another call.
    async fn keep(
        self,
        heard: WorkerCallState,
        taken: Option<ResourceUsage>,
    ) -> Result<(InvocationOutcome, Option<WarmInstance>)> {
        let elapsed = self.started.elapsed();
        let [stdout, stderr] = self.readers.into_pipes();
        let mut ended = ProcessEnd {
            exit: ExitStatus::Code(0),
            cpu_us: 0,
            memory_bytes_peak: 0,
            out_of_memory: false,
        };
        let (cpu_us_before, fed) = (self.cpu_us_before, self.fed);
        let warm = if let (Some(channel), Some(stdout), Some(stderr), Some(taken)) =
            (heard.kept, stdout, stderr, taken)
        {
            (ended.cpu_us, ended.memory_bytes_peak) = (taken.cpu_us, taken.memory_bytes_peak);
            Some(WarmInstance {
                running: self.running,
                zygote: self.zygote,
                project: self.project,
                channel,
                stdout,
                stderr,
                cpu_us: taken.cpu_us,
                unreleased: self.unreleased.with(&self.files),
            })
        } else {
            // Reuse a process only if its usage can be measured, so that each call is charged.
            let mut running = self.running;
            running.signal(Signal::Kill);
            ended = ProcessEnd { exit: ExitStatus::Code(0), ..running.ended().await? };
            None
        };
        let runtime_start_ms = self.start_clock.milliseconds();
        let usage = Usage { runtime_start_ms, ..usage(elapsed, &ended, cpu_us_before, &fed) };
        let end = CallEndState {
            ended,
            stopped: None,
            fed: &fed,
            policy: None,
            message: heard.said,
            result_file: heard.given,
            files: self.files,
        };
        let returned = conclude(&self.invocation, end).await;
        Ok((InvocationOutcome { returned, usage }, warm))
    }

    /// Requests that the process ends, reads its remaining messages, and kills it after [`GRACE`].
    async fn stop(&mut self, heard: &mut Option<WorkerCallState>) -> Result<ProcessEnd> {
        self.running.signal(Signal::Terminate);
        let killed = tokio::time::sleep(GRACE);
        tokio::pin!(killed);
        let mut is_killed = false;
        loop {
            tokio::select! {
                ended = self.running.ended() => return Ok(ended?),
                said = self.readers.messages() => *heard = Some(said),
                () = &mut killed, if !is_killed => {
                    self.running.signal(Signal::Kill);
                    is_killed = true;
                }
            }
        }
    }
}

/// Returns true if another call may use the process of this call. Returns false for a call with
/// streamed rows, because the process may still hold these rows.
pub(crate) fn reusable(invocation: &Invocation) -> bool {
    let is_fed = |argument: &Argument| matches!(argument.value, ArgumentValue::Streamed(_));
    invocation.reuse != ReuseScope::Never
        && invocation.limits.network.denies_all()
        && !invocation.arguments.iter().any(is_fed)
}

fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .map_err(|errno| Error::io("make a pipe")(errno.into()))
}
