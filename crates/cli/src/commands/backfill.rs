//! `headwater backfill`: runs the project for each value of a parameter, several at once.
//!
//! The first value runs on the branch itself. This run creates the tables, and computes the models
//! that do not depend on the parameter. Every other value runs on its own branch of the resulting
//! commit, so that these values all read the same state. The branches are merged one at a time.
//! After a merge conflict, the value runs again on the merged state, and merges of other values
//! wait.

use std::collections::BTreeMap;

use futures::{StreamExt, stream};
use headwater_backfill::{BackfillReport, ParameterValues, ValueReport, ValueStatus};
use headwater_model::{
    Branch, CommitId, CreateRef, ErrorCode, Job, JobStatus, MergeReport, MergeRequest, Problem,
    RefSpec, RunRequest,
};
use serde_json::json;
use tokio::sync::Mutex;

use crate::api::{Api, segment};
use crate::arguments::{Backfill, OutputFormat};
use crate::commands::reference;
use crate::commands::run::pairs;
use crate::context::Context;
use crate::error::{self, Result};
use crate::events;
use crate::output;
use crate::project;
use crate::terminal::Tone;

/// The branches and jobs to remove after an interrupt, by value.
#[derive(Default)]
struct ActiveValues {
    branches: BTreeMap<String, String>,
    jobs: BTreeMap<String, String>,
}

/// A backfill.
struct BackfillRun<'a> {
    context: &'a Context,
    api: &'a Api,
    target: String,
    request: RunRequest,
    name: String,
    total: usize,
    retries: u32,
    /// The arguments that repeat the backfill for other values.
    options: Vec<String>,
    /// Prefix of the branches of values.
    prefix: String,
    active: Mutex<ActiveValues>,
    /// Locked during a merge.
    merging: Mutex<()>,
    /// Number of finished values.
    done: Mutex<usize>,
}

/// Runs `headwater backfill`.
pub async fn backfill(context: &Context, api: &Api, arguments: &Backfill) -> Result<()> {
    let ParameterValues { name, values } = ParameterValues::parse(&arguments.values)?;
    let parameters = pairs(&arguments.parameters, "param")?;
    if parameters.contains_key(&name) {
        return Err(error::invalid(format!("the parameter `{name}` is given twice"))
            .with_hint(format!("Remove `--param {name}=…`.")));
    }
    let root = project::locate(arguments.project.as_ref(), &context.lake()?)?;
    let target = reference(context, arguments.on.reference.clone())?;
    let request = RunRequest {
        files: headwater_server::read_project(&root)?,
        parameters,
        strict: arguments.no_strict.then_some(false),
        select: arguments.select.clone(),
        exclude: arguments.exclude.clone(),
        ..RunRequest::default()
    };
    let id = uuid::Uuid::new_v4().simple().to_string();
    let work = BackfillRun {
        context,
        api,
        request,
        name,
        total: values.len(),
        retries: u32::from(arguments.retries),
        options: repeat_options(arguments),
        prefix: format!("backfill/{}", &id[..8]),
        target,
        active: Mutex::default(),
        merging: Mutex::default(),
        done: Mutex::default(),
    };
    let reports = tokio::select! {
        reports = work.run(&values, usize::from(arguments.jobs)) => reports?,
        interrupt = tokio::signal::ctrl_c() => {
            interrupt.map_err(error::from_io("listen for Ctrl-C"))?;
            return Err(work.stop().await);
        }
    };
    work.print(reports)
}

/// Returns the arguments that repeat the backfill for other values.
fn repeat_options(arguments: &Backfill) -> Vec<String> {
    let mut words = Vec::new();
    let mut add = |option: &str, values: &[String]| {
        if !values.is_empty() {
            words.push(format!("--{option}"));
            words.extend_from_slice(values);
        }
    };
    if let Some(project) = &arguments.project {
        add("project", &[project.display().to_string()]);
    }
    if let Some(branch) = &arguments.on.reference {
        add("ref", std::slice::from_ref(branch));
    }
    for parameter in &arguments.parameters {
        add("param", std::slice::from_ref(parameter));
    }
    add("select", &arguments.select);
    add("exclude", &arguments.exclude);
    if arguments.no_strict {
        words.push("--no-strict".to_owned());
    }
    words
}

impl BackfillRun<'_> {
    /// Runs all values, and then the project once more to check the merged tables.
    async fn run(&self, values: &[String], jobs: usize) -> Result<Vec<ValueReport>> {
        let Some((first, others)) = values.split_first() else { return Ok(Vec::new()) };
        let report = self.first(first).await;
        self.tell(&report).await;
        if report.error.is_some() {
            // Stop here, because the other values need the tables of the first value.
            return Ok(vec![report]);
        }
        let mut reports = vec![report];
        let start = self.head().await?;
        let running = others.iter().map(|value| self.value(value, start));
        let mut running = stream::iter(running).buffer_unordered(jobs);
        while let Some(report) = running.next().await {
            self.tell(&report).await;
            reports.push(report);
        }
        drop(running);
        reports.sort_by_key(|report| values.iter().position(|value| *value == report.value));
        let whole = reports.iter().all(|report| report.error.is_none());
        if let Some(last) = values.last().filter(|_| whole && !others.is_empty()) {
            self.job(last, &self.target).await?.1?;
        }
        Ok(reports)
    }

    /// Runs the first value on the target.
    async fn first(&self, value: &str) -> ValueReport {
        let mut report = ValueReport::new(value);
        loop {
            report.attempts += 1;
            let outcome = self.job(value, &self.target).await.and_then(|(job, outcome)| {
                report.job = Some(job);
                outcome
            });
            match outcome {
                Ok(job) => {
                    let commit = job.result.get("commit").cloned().unwrap_or_default();
                    report.merged(serde_json::from_value(commit).ok());
                    return report;
                }
                Err(problem) => match report.retry(self.retries, &problem) {
                    Some(wait) => tokio::time::sleep(wait).await,
                    None => return report.failed(problem),
                },
            }
        }
    }

    /// Runs a value on a branch of `start`, and merges the branch.
    async fn value(&self, value: &str, start: CommitId) -> ValueReport {
        let mut report = ValueReport::new(value);
        loop {
            report.attempts += 1;
            let outcome = self.attempt(&mut report, start).await;
            self.forget(value).await;
            match outcome {
                Ok(()) => return report,
                Err(problem) => match report.retry(self.retries, &problem) {
                    Some(wait) => tokio::time::sleep(wait).await,
                    None => return report.failed(problem),
                },
            }
        }
    }

    async fn attempt(&self, report: &mut ValueReport, start: CommitId) -> Result<()> {
        self.on_branch(report, start).await?;
        let _merging = self.merging.lock().await;
        match self.merge(report).await {
            Err(problem) if problem.code == ErrorCode::MergeConflict => {
                // This task holds the lock, so no other run of the backfill is merged at the same
                // time.
                self.forget(&report.value).await;
                report.attempts += 1;
                let head = self.head().await?;
                self.on_branch(report, head).await?;
                self.merge(report).await
            }
            outcome => outcome,
        }
    }

    /// Runs a value on a new branch of a commit.
    async fn on_branch(&self, report: &mut ValueReport, from: CommitId) -> Result<()> {
        let name = self.branch_of(report);
        let from = Some(RefSpec::Commit(from.to_string()));
        let request = CreateRef { name: name.clone(), from, if_not_exists: false };
        self.active.lock().await.branches.insert(report.value.clone(), name.clone());
        let _: Branch = self.api.post("/v1/branches", &request).await?;
        let (job, outcome) = self.job(&report.value, &name).await?;
        report.job = Some(job);
        outcome.map(drop)
    }

    async fn merge(&self, report: &mut ValueReport) -> Result<()> {
        let source = RefSpec::Name(self.branch_of(report));
        let message = Some(format!("Backfill {}={}", self.name, report.value));
        let request = MergeRequest { message, ..MergeRequest::new(source) };
        let path = format!("/v1/branches/{}/merge", segment(&self.target));
        let merged: MergeReport = self.api.post(path, &request).await?;
        report.merged((!merged.tables.is_empty()).then_some(merged.commit));
        Ok(())
    }

    /// Runs the project with a value on a branch, and waits. Returns the job's id and its outcome.
    async fn job(&self, value: &str, branch: &str) -> Result<(String, Result<Job>)> {
        let mut request = self.request.clone();
        request.reference = Some(branch.parse().map_err(error::from_fault)?);
        request.parameters.insert(self.name.clone(), value.to_owned());
        let job: Job = self.api.post("/v1/runs", &request).await?;
        let id = job.id.to_string();
        self.active.lock().await.jobs.insert(value.to_owned(), id.clone());
        let ended = events::wait(self.context, self.api, &id).await;
        self.active.lock().await.jobs.remove(value);
        let job = ended?;
        let outcome = match (job.status, &job.error) {
            (JobStatus::Succeeded, _) => Ok(job),
            (_, Some(problem)) => Err(problem.clone()),
            (status, None) => Err(error::unexpected(format!("job {id} ended as {status:?}"))),
        };
        Ok((id, outcome))
    }

    async fn head(&self) -> Result<CommitId> {
        let path = format!("/v1/branches/{}", segment(&self.target));
        let branch: Branch = self.api.get(path).await?;
        Ok(branch.commit)
    }

    fn branch_of(&self, report: &ValueReport) -> String {
        format!("{}-{}", self.prefix, report.branch_part())
    }

    /// Deletes the branch of a value.
    async fn forget(&self, value: &str) {
        let Some(branch) = self.active.lock().await.branches.remove(value) else { return };
        self.remove(&branch).await;
    }

    async fn remove(&self, branch: &str) {
        let path = format!("/v1/branches/{}?if_exists=true", segment(branch));
        if let Err(problem) = self.api.delete(path).await {
            self.context.style.say(format!("branch {branch} remains: {}", problem.message));
        }
    }

    /// Stops the running jobs and deletes the branches of values. Returns the error to report.
    async fn stop(&self) -> Problem {
        let active = std::mem::take(&mut *self.active.lock().await);
        for id in active.jobs.values() {
            let path = format!("/v1/jobs/{}/stop", segment(id));
            if self.api.post::<Job>(path, &json!({})).await.is_ok()
                && let Err(problem) = events::wait(self.context, self.api, id).await
            {
                self.context.style.say(format!("job {id} may still run: {}", problem.message));
            }
        }
        for branch in active.branches.values() {
            self.remove(branch).await;
        }
        let message = format!(
            "the backfill was stopped after {} of {} values",
            self.done.lock().await,
            self.total
        );
        Problem::new(ErrorCode::Cancelled, message)
            .with_hint("Run the command again; repeating a value does not duplicate its rows.")
    }

    /// Prints the outcome of a value.
    async fn tell(&self, report: &ValueReport) {
        let style = self.context.style;
        let mut done = self.done.lock().await;
        *done += usize::from(report.error.is_none());
        let sign = match report.status {
            ValueStatus::Merged => style.paint(Tone::Good, "✓"),
            ValueStatus::Unchanged => style.paint(Tone::Faint, "="),
            ValueStatus::Failed => style.paint(Tone::Bad, "✗"),
        };
        let count = style.paint(Tone::Faint, format!("{done} of {} done", self.total));
        let (name, value, outcome) = (&self.name, &report.value, report.outcome());
        style.say(format!("{sign} {name}={value} {outcome}  {count}"));
    }

    /// Prints the report as JSON if the output format is JSON. Fails if a value failed.
    fn print(&self, values: Vec<ValueReport>) -> Result<()> {
        let (parameter, branch, total) = (self.name.clone(), self.target.clone(), self.total);
        let report = BackfillReport { parameter, branch, total, values };
        if self.context.output == OutputFormat::Json {
            output::print_json(&report);
        }
        report.problem(&self.options).map_or(Ok(()), Err)
    }
}
