//! One run: steps in parallel as soon as their parents are done, until all are or one failed.

mod merge;
mod output;
mod python;
mod reading;
mod sql;
mod step;
mod write;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use headwater_engine::Metrics;
use headwater_jobs::JobContext;
use headwater_model::{
    CommitId, ErrorCode, Event, Fault, Problem, RefSpec, StepReport, StepStatus, Usage,
};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::increments::Increments;
use crate::plan::Plan;
use crate::runner::Runner;
use crate::{Error, Result};
use output::{Output, Outputs};

/// Steps that run at once; functions have a bound of their own.
const STEPS_AT_ONCE: usize = 4;

/// What every step of a run shares.
#[derive(Clone)]
pub(crate) struct Run {
    runner: Runner,
    plan: Arc<Plan>,
    branch: Arc<str>,
    strict: bool,
    context: JobContext,
    outputs: Arc<Mutex<Outputs>>,
    turns: Arc<Semaphore>,
    /// The commits that the run made on its branch.
    commits: Arc<Mutex<BTreeSet<CommitId>>>,
    /// Cancelled when the job is stopped, and when a model failed: then nothing more is of use.
    stop: CancellationToken,
}

/// How a run ended, before anything is merged.
#[derive(Default)]
pub(crate) struct Finished {
    /// Every step, in the order they ended.
    pub reports: Vec<StepReport>,
    /// Why it cannot be merged.
    pub failures: Vec<Problem>,
    /// The fingerprints of the steps that succeeded and leave nothing else.
    pub passed: Vec<String>,
}

/// What a step did, up to where it ended or failed.
#[derive(Default)]
struct Done {
    rows: Option<u64>,
    /// What it took besides its queries.
    usage: Usage,
    /// The queries that it made, each still counting.
    queries: Vec<Arc<Metrics>>,
    /// What it reads only the new of.
    increments: Increments,
    output: Option<Output>,
    /// What an expectation answered.
    check: Option<Check>,
}

impl Done {
    /// What the step took so far. The rows of its queries are its inputs or its output, which are
    /// counted where they are used.
    fn taken(&self) -> Usage {
        let mut taken = self.usage;
        for query in &self.queries {
            taken.add(&Usage { rows_read: 0, rows_written: 0, ..query.usage() });
        }
        taken
    }
}

/// What an expectation answered.
enum Check {
    Passed,
    /// It returned false, or asserted what is not so.
    Failed(Option<Box<Problem>>),
}

impl Run {
    pub fn new(
        runner: &Runner,
        plan: Arc<Plan>,
        branch: &str,
        strict: bool,
        context: &JobContext,
    ) -> Self {
        Run {
            runner: runner.clone(),
            plan,
            branch: branch.into(),
            strict,
            context: context.clone(),
            outputs: Arc::new(Mutex::new(Outputs::default())),
            turns: Arc::new(Semaphore::new(STEPS_AT_ONCE)),
            commits: Arc::default(),
            stop: context.cancelled().child_token(),
        }
    }

    /// Runs every step that has anything to do. When a model fails, everything stops; when a check
    /// does, the other checks that can be made still are.
    pub async fn execute(&self) -> Finished {
        let mut finished = Finished::default();
        let graph = &self.plan.graph;
        let mut waiting: Vec<usize> =
            graph.parents.iter().map(std::collections::BTreeSet::len).collect();
        let mut ready: Vec<usize> =
            graph.order.iter().copied().filter(|step| waiting[*step] == 0).collect();
        let mut running: JoinSet<(usize, StepReport)> = JoinSet::new();
        let mut begun = vec![false; waiting.len()];
        loop {
            for step in std::mem::take(&mut ready) {
                if self.may_begin(step, &finished) {
                    begun[step] = true;
                    let run = self.clone();
                    running.spawn(async move { (step, run.step(step).await) });
                }
            }
            let Some(ended) = running.join_next().await else { break };
            let (step, report) = match ended {
                Ok(ended) => ended,
                Err(panic) => {
                    finished.failures.push(panicked(&panic));
                    self.stop.cancel();
                    continue;
                }
            };
            self.note(step, report, &mut finished);
            self.outputs.lock().ended(step, graph);
            for child in &graph.children[step] {
                waiting[*child] -= 1;
                if waiting[*child] == 0 {
                    ready.push(*child);
                }
            }
        }
        self.skip_rest(&begun, &mut finished);
        finished
    }

    fn may_begin(&self, step: usize, finished: &Finished) -> bool {
        let is_check = self.plan.project.steps[step].is_expectation();
        !self.stop.is_cancelled() && (finished.failures.is_empty() || is_check)
    }

    fn note(&self, step: usize, report: StepReport, finished: &mut Finished) {
        if report.status == StepStatus::Succeeded && self.plan.remembers(step) {
            finished.passed.push(self.plan.steps[step].fingerprint.clone());
        }
        if let (StepStatus::Failed, Some(problem)) = (report.status, &report.error) {
            finished.failures.push(problem.clone());
            if !self.plan.project.steps[step].is_expectation() {
                self.stop.cancel();
            }
        }
        self.context.add_usage(&report.usage);
        self.context.emit(Event::StepEnded { report: Box::new(report.clone()) });
        finished.reports.push(report);
        let done = finished.reports.len() as u64;
        self.context.emit(Event::Progress {
            stage: "run".to_owned(),
            done,
            total: Some(self.plan.steps.len() as u64),
            unit: "steps".to_owned(),
        });
    }

    fn skip_rest(&self, begun: &[bool], finished: &mut Finished) {
        for step in self.plan.graph.order.iter().filter(|step| !begun[**step]) {
            let report = StepReport { status: StepStatus::Skipped, ..self.plan.unchanged(*step) };
            self.context.emit(Event::StepEnded { report: Box::new(report.clone()) });
            finished.reports.push(report);
        }
    }

    /// Runs one step, or says that it is unchanged.
    async fn step(&self, index: usize) -> StepReport {
        let unchanged = self.plan.unchanged(index);
        if self.plan.steps[index].reason.is_none() {
            return unchanged;
        }
        let queued = Instant::now();
        let Ok(_turn) = self.turns.acquire().await else { return unchanged };
        if self.stop.is_cancelled() {
            return StepReport { status: StepStatus::Skipped, ..unchanged };
        }
        let waited = millis(queued);
        let name = self.plan.project.steps[index].name.clone();
        self.context.emit(Event::StepStarted { step: name });
        let (began, mut done) = (Instant::now(), Done::default());
        let outcome = Box::pin(self.compute(index, &mut done)).await;
        let taken = done.taken();
        // What a step waited for, its turn and its packages, is no work of its own.
        let wall_ms = millis(began).saturating_sub(taken.waited_ms()).max(1);
        let usage = Usage { wall_ms, queue_ms: waited + taken.queue_ms, ..taken };
        let report = StepReport {
            rows: done.rows,
            usage,
            cost: self.plan.project.rates.cost(&usage),
            ..unchanged
        };
        match outcome {
            Ok(()) => self.succeeded(index, done, report),
            Err(error) => {
                let stopped = error.code() == ErrorCode::Cancelled && self.stop.is_cancelled();
                let status = if stopped { StepStatus::Skipped } else { StepStatus::Failed };
                let error = (!stopped).then(|| error.to_problem());
                StepReport { status, rows: None, error, ..report }
            }
        }
    }

    fn succeeded(&self, index: usize, done: Done, report: StepReport) -> StepReport {
        let step = &self.plan.project.steps[index];
        if let Some(output) = done.output {
            self.outputs.lock().keep(index, output, &self.plan.graph);
        }
        let error = match done.check {
            Some(Check::Failed(problem)) => {
                let (step, at) = (step.name.clone(), step.at.clone());
                Some(Error::ExpectationFailed { step, at, problem }.to_problem())
            }
            Some(Check::Passed) | None => None,
        };
        let status = match (&error, self.strict) {
            (None, _) => StepStatus::Succeeded,
            (Some(_), true) => StepStatus::Failed,
            (Some(_), false) => StepStatus::Warned,
        };
        StepReport { status, error, ..report }
    }

    /// Notes a commit that the run made on its branch.
    pub fn note_commit(&self, commit: Option<CommitId>) {
        self.commits.lock().extend(commit);
    }

    /// Whether the run made this commit on its branch.
    pub fn made(&self, commit: CommitId) -> bool {
        self.commits.lock().contains(&commit)
    }

    /// The ref that steps read at and write to.
    fn reference(&self) -> RefSpec {
        RefSpec::Name(self.branch.to_string())
    }

    fn cancelled_error(&self) -> Error {
        Error::Cancelled { target: self.branch.to_string(), branch: None }
    }

    /// Work that ends when the run is stopped.
    async fn unless_cancelled<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            outcome = work => outcome,
            () = self.stop.cancelled() => Err(self.cancelled_error()),
        }
    }
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros().div_ceil(1000)).unwrap_or(u64::MAX)
}

fn panicked(error: &tokio::task::JoinError) -> Problem {
    let mut problem =
        Problem::new(ErrorCode::Internal, "a step ended by a fault of Headwater's own");
    problem.causes.push(error.to_string());
    problem
}
