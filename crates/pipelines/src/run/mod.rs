//! Executes a run: starts each step when its parents, the steps that it reads, have ended. Steps
//! run in parallel until all steps have ended or a model fails. The children of a Python model, the
//! steps that read it, start when the result of the model is stored, while the model's process
//! exits. The run ends after the last process has exited, so that the usage of the run is complete.

mod input_query;
mod merge_rows;
mod preview_collector;
mod python_step;
mod quarantine;
mod report_reorder_buffer;
mod row_expectation_check;
mod sql_step;
mod step;
mod step_output;
mod step_permit;
mod table_write;
mod view_creation;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use headwater_engine::ExecutionMetrics;
use headwater_jobs::JobContext;
use headwater_model::{
    CommitId, ErrorCode, JobEventKind, Problem, RefSpec, StepReport, StepStatus, ToProblem, Usage,
};
use headwater_project::Severity;
use headwater_tables::Table;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::environment_packages::PackageVersions;
use crate::incremental_reads::IncrementalReads;
use crate::plan::Plan;
use crate::run_environments::RecordedEnvironments;
use crate::runner::Runner;
use crate::{Error, Result};
use preview_collector::PreviewCollector;
use report_reorder_buffer::ReportReorderBuffer;
use step_output::{StepOutput, StepOutputs};
use step_permit::StepPermit;

/// Maximum number of concurrent steps; function calls have a limit of their own.
const STEPS_AT_ONCE: usize = 4;

/// State shared by all steps of a run.
#[derive(Clone)]
pub(crate) struct Run {
    runner: Runner,
    plan: Arc<Plan>,
    branch: Arc<str>,
    strict: bool,
    context: JobContext,
    outputs: Arc<Mutex<StepOutputs>>,
    turns: Arc<Semaphore>,
    /// Commits that the run made on its branch.
    commits: Arc<Mutex<BTreeSet<CommitId>>>,
    /// Models whose commit has started. After an error, the commit may still have been stored.
    committing: Arc<Mutex<BTreeSet<String>>>,
    /// Packages of the functions that ran, by step.
    packages: Arc<Mutex<BTreeMap<String, PackageVersions>>>,
    /// Environments that are already recorded in the job's events.
    environments: Arc<Mutex<RecordedEnvironments>>,
    /// Token that is cancelled when the job is cancelled or a model fails.
    stop: CancellationToken,
}

/// Result of the steps, before the merge.
#[derive(Default)]
pub(crate) struct RunStepsResult {
    /// Reports of all steps, in the order they ended.
    pub reports: Vec<StepReport>,
    /// Failures that prevent the merge.
    pub failures: Vec<Problem>,
    /// Fingerprints of successful steps that write no table, and the code fingerprints of
    /// expectations that ended with a warning.
    pub passed: Vec<String>,
}

/// Progress of a step, kept even if the step fails.
#[derive(Default)]
struct StepProgress {
    rows: Option<u64>,
    /// Usage of the step, without the usage of its queries.
    usage: Usage,
    /// Metrics of the step's queries, which change while the queries run.
    queries: Vec<Arc<ExecutionMetrics>>,
    /// New files that the step reads, and its new read positions.
    increments: IncrementalReads,
    output: Option<StepOutput>,
    /// Number of rows in quarantine.
    quarantined: Option<u64>,
    /// Collector of the rows for a preview; `None` if the run is no preview.
    preview: Option<Arc<Mutex<PreviewCollector>>>,
    /// Result of an expectation.
    check: Option<ExpectationResult>,
    /// The permit of the step; `None` after the children of the step were released.
    permit: Option<StepPermit>,
}

impl StepProgress {
    /// Returns the usage so far. Rows read by queries are excluded, because they are counted as the
    /// step's input or output.
    fn usage_so_far(&self) -> Usage {
        let mut taken = self.usage;
        for query in &self.queries {
            taken.add(&Usage { rows_read: 0, rows_written: 0, ..query.usage() });
        }
        taken
    }
}

/// Result of an expectation.
enum ExpectationResult {
    Passed,
    /// The expectation returned false or failed an assertion.
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
        let environments = Arc::new(Mutex::new(plan.environments.clone()));
        Run {
            runner: runner.clone(),
            plan,
            branch: branch.into(),
            strict,
            context: context.clone(),
            outputs: Arc::new(Mutex::new(StepOutputs::default())),
            turns: Arc::new(Semaphore::new(STEPS_AT_ONCE)),
            commits: Arc::default(),
            committing: Arc::default(),
            packages: Arc::default(),
            environments,
            stop: context.cancelled().child_token(),
        }
    }

    /// Runs every step that is out of date. A failed model cancels the run. After a failed check,
    /// the remaining checks still run.
    pub async fn execute(&self) -> RunStepsResult {
        let mut finished = RunStepsResult::default();
        self.context.emit(JobEventKind::Planned { steps: self.plan.listed().steps });
        self.plan.environments.emit(&self.context);
        let graph = &self.plan.graph;
        let mut waiting: Vec<usize> =
            graph.parents.iter().map(std::collections::BTreeSet::len).collect();
        let mut ready: Vec<usize> =
            graph.order.iter().copied().filter(|step| waiting[*step] == 0).collect();
        let mut running: JoinSet<(usize, StepReport)> = JoinSet::new();
        let mut begun = vec![false; waiting.len()];
        let mut is_released = begun.clone();
        let mut reports = ReportReorderBuffer::new(graph);
        let (sender, mut released) = mpsc::unbounded_channel();
        loop {
            for step in std::mem::take(&mut ready) {
                if self.may_begin(step, &finished) {
                    begun[step] = true;
                    let (run, sender) = (self.clone(), sender.clone());
                    running.spawn(async move { (step, run.step(step, sender).await) });
                }
            }
            let step = tokio::select! {
                biased;
                Some(step) = released.recv() => step,
                ended = running.join_next() => match ended {
                    None => break,
                    Some(Ok((step, report))) => {
                        self.count(step, &report, &mut finished);
                        for (step, report) in reports.ended(step, report) {
                            self.record_report(step, report, &mut finished);
                        }
                        step
                    }
                    Some(Err(panic)) => {
                        finished.failures.push(panicked(&panic));
                        self.stop.cancel();
                        continue;
                    }
                },
            };
            if std::mem::replace(&mut is_released[step], true) {
                continue;
            }
            self.outputs.lock().ended(step, graph);
            for child in &graph.children[step] {
                waiting[*child] -= 1;
                if waiting[*child] == 0 {
                    ready.push(*child);
                }
            }
        }
        for (step, report) in reports.into_remaining() {
            self.record_report(step, report, &mut finished);
        }
        self.skip_remaining(&begun, &mut finished);
        finished
    }

    fn may_begin(&self, step: usize, finished: &RunStepsResult) -> bool {
        let is_check = self.plan.project.steps[step].is_expectation();
        !self.stop.is_cancelled() && (finished.failures.is_empty() || is_check)
    }

    /// Records the usage and the failure of a step when it ends, even if its report must wait for
    /// the report of an upstream step. Otherwise, an upstream step whose Python process has not
    /// exited yet would delay the check of daily limits.
    fn count(&self, step: usize, report: &StepReport, finished: &mut RunStepsResult) {
        if !self.plan.is_listed(step) {
            return;
        }
        self.context.add_usage(&report.usage);
        self.context.enforce_day_limits();
        let (StepStatus::Failed, Some(problem)) = (report.status, &report.error) else { return };
        finished.failures.push(problem.clone());
        if !self.plan.project.steps[step].is_expectation() {
            self.stop.cancel();
        }
    }

    /// Records the report of a step whose usage is already counted.
    fn record_report(&self, step: usize, report: StepReport, finished: &mut RunStepsResult) {
        if !self.plan.is_listed(step) {
            return;
        }
        if self.plan.remembers(step) {
            let plan = &self.plan.steps[step];
            match report.status {
                StepStatus::Succeeded => {
                    finished.passed.extend([plan.fingerprint.clone(), plan.code.clone()]);
                }
                // Record only the code fingerprint: the next run checks the expectation again, but
                // the expectation does not count as new.
                StepStatus::Warned => finished.passed.push(plan.code.clone()),
                _ => {}
            }
        }
        self.context.emit(JobEventKind::StepEnded { report: Box::new(report.clone()) });
        finished.reports.push(report);
        let done = finished.reports.len() as u64;
        self.context.emit(JobEventKind::Progress {
            stage: "run".to_owned(),
            done,
            total: Some(self.plan.listed_steps().count() as u64),
            unit: "steps".to_owned(),
        });
    }

    fn skip_remaining(&self, begun: &[bool], finished: &mut RunStepsResult) {
        for step in self.plan.listed_steps().filter(|step| !begun[*step]) {
            let report = StepReport { status: StepStatus::Skipped, ..self.plan.unchanged(step) };
            self.context.emit(JobEventKind::StepEnded { report: Box::new(report.clone()) });
            finished.reports.push(report);
        }
    }

    /// Allows the children of a step to start before the process of the step's function has exited.
    /// Does nothing after a failed check.
    fn release(&self, index: usize, done: &mut StepProgress) {
        if matches!(done.check, Some(ExpectationResult::Failed(_))) {
            return;
        }
        if let Some(output) = done.output.take() {
            self.outputs.lock().keep(index, output, &self.plan.graph);
        }
        if let Some(permit) = done.permit.take() {
            permit.release(index);
        }
    }

    /// Runs one step, or returns the report of an unchanged step. Sends the step's index to
    /// `released` if its children may start before its report is complete.
    async fn step(&self, index: usize, released: mpsc::UnboundedSender<usize>) -> StepReport {
        let unchanged = self.plan.unchanged(index);
        if let Some(reused) = &self.plan.steps[index].reuses {
            let rows = self.plan.steps[index].table.as_ref().map(Table::rows);
            let (status, reuses) = (StepStatus::Reused, Some(reused.branch.clone()));
            return StepReport { status, reuses, rows, ..unchanged };
        }
        if self.plan.steps[index].reason.is_none() {
            return self.unchanged(index).await;
        }
        let queued = Instant::now();
        let Ok(permit) = self.turns.clone().acquire_owned().await else { return unchanged };
        if self.stop.is_cancelled() {
            return StepReport { status: StepStatus::Skipped, ..unchanged };
        }
        let waited = millis(queued);
        let name = self.plan.project.steps[index].name.clone();
        self.context.emit(JobEventKind::StepStarted { step: name });
        let permit = Some(StepPermit::new(permit, released));
        let (began, mut done) =
            (Instant::now(), StepProgress { permit, ..StepProgress::default() });
        let outcome = Box::pin(self.compute(index, &mut done)).await;
        let taken = done.usage_so_far();
        // The step's wall time excludes the time in the queue and the time for the setup of the
        // environment.
        let wall_ms = millis(began).saturating_sub(taken.waited_ms()).max(1);
        let usage = Usage { wall_ms, queue_ms: waited + taken.queue_ms, ..taken };
        let report = StepReport {
            rows: done.rows,
            quarantined: done.quarantined,
            preview: done.preview.as_ref().and_then(|collector| collector.lock().finish().ok()),
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
                let (rows, quarantined, preview) = (None, None, None);
                StepReport { status, rows, quarantined, preview, error, ..report }
            }
        }
    }

    fn succeeded(&self, index: usize, done: StepProgress, report: StepReport) -> StepReport {
        let step = &self.plan.project.steps[index];
        if let Some(output) = done.output {
            self.outputs.lock().keep(index, output, &self.plan.graph);
        }
        let error = match done.check {
            Some(ExpectationResult::Failed(problem)) => {
                let (step, at) = (step.name.clone(), step.at.clone());
                Some(Error::ExpectationFailed { step, at, problem }.to_problem())
            }
            Some(ExpectationResult::Passed) | None => None,
        };
        let strict = self.strict && step.severity == Severity::Fail;
        let status = match (&error, strict) {
            (None, _) => StepStatus::Succeeded,
            (Some(_), true) => StepStatus::Failed,
            (Some(_), false) => StepStatus::Warned,
        };
        StepReport { status, error, ..report }
    }

    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// Records that the run made a commit on its branch.
    pub fn note_commit(&self, commit: Option<CommitId>) {
        self.commits.lock().extend(commit);
    }

    /// Returns true if the run made this commit.
    pub fn has_committed(&self, commit: CommitId) -> bool {
        self.commits.lock().contains(&commit)
    }

    /// Returns the ref that steps read and write.
    fn reference(&self) -> RefSpec {
        RefSpec::Name(self.branch.to_string())
    }

    fn cancelled_error(&self) -> Error {
        Error::Cancelled { target: self.branch.to_string(), branch: None }
    }

    /// Runs a future until it completes or the run is cancelled.
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
    let mut problem = Problem::new(ErrorCode::Internal, "a step ended with an internal error");
    problem.causes.push(error.to_string());
    problem
}
