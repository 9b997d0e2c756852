//! The runner: plans a project, runs what has anything new to do on a branch of the run's own, and
//! merges.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use headwater_catalog::{EVENT_SCOPE, NewBranch};
use headwater_engine::Engine;
use headwater_functions::Functions;
use headwater_jobs::{JobContext, Jobs};
use headwater_lake::Lake;
use headwater_model::{
    CommitId, Event, JobId, MergeOutcome, MergeRequest, PROPERTY_EVENT, PROPERTY_JOB, RefSpec,
    RunPlan, RunReport, RunRequest, StepReport, StepStatus, Usage,
};
use headwater_store::{Batch, Unique};

use crate::plan::{self, Plan, PlanOptions};
use crate::run::{Finished, Run};
use crate::{Error, Project, Result, checks};

/// Plans and runs projects. Cheap to clone.
#[derive(Clone)]
pub struct Runner {
    pub(crate) engine: Engine,
    pub(crate) functions: Functions,
    jobs: Jobs,
}

impl std::fmt::Debug for Runner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runner").finish_non_exhaustive()
    }
}

/// The branch that a run works on.
fn run_branch(job: JobId) -> String {
    format!("run/{job}")
}

impl Runner {
    /// A runner over the parts.
    pub fn new(engine: Engine, functions: Functions, jobs: Jobs) -> Self {
        Runner { engine, functions, jobs }
    }

    fn lake(&self) -> &Lake {
        self.engine.lake()
    }

    /// What a run would do; every mistake that can be known is found.
    pub async fn plan(&self, request: &RunRequest) -> Result<RunPlan> {
        Ok(self.make_plan(request).await?.listed())
    }

    async fn make_plan(&self, request: &RunRequest) -> Result<Plan> {
        let project = Project::parse(&request.files)?;
        let values = project.parameter_values(&request.parameters)?;
        let reference = request.reference.clone().unwrap_or_else(RefSpec::main);
        let view = self.lake().view(&reference).await.map_err(|error| Error::other(&error))?;
        plan::branch_of(&view, &reference)?;
        let options = PlanOptions { no_cache: request.no_cache };
        Plan::new(&self.engine, project, view, values, options).await
    }

    /// Runs a project within a job. A failure leaves the target as it was, and the run's own branch
    /// for reading, marked so that it cannot be merged unchecked.
    pub async fn run(&self, request: RunRequest, context: JobContext) -> Result<RunReport> {
        let plan = Arc::new(self.make_plan(&request).await?);
        let reference = request.reference.clone().unwrap_or_else(RefSpec::main);
        let target = plan::branch_of(&plan.view, &reference)?;
        let work = Work { target, branch: run_branch(context.id()), request, context };
        if plan.has_work() {
            self.run_on_branch(&plan, &work).await
        } else {
            let unchanged = plan.graph.order.iter().map(|step| plan.unchanged(*step));
            let steps: Vec<StepReport> = unchanged.collect();
            for report in &steps {
                work.context.emit(Event::StepEnded { report: Box::new(report.clone()) });
            }
            Ok(work.report(&plan, steps, None, Vec::new()))
        }
    }

    async fn run_on_branch(&self, plan: &Arc<Plan>, work: &Work) -> Result<RunReport> {
        let options =
            NewBranch { quarantine: Some(work.context.id().to_string()), ..NewBranch::default() };
        let from = RefSpec::Commit(plan.view.commit().to_string());
        let catalog = self.lake().catalog();
        // In quarantine from the start: a run that is killed leaves its branch as a failed one's.
        catalog
            .create_branch_with(&work.branch, &from, options)
            .await
            .map_err(|error| Error::other(&error))?;
        self.create_namespaces(plan, work).await?;
        let strict = work.request.strict.unwrap_or(true);
        let run = Run::new(self, Arc::clone(plan), &work.branch, strict, &work.context);
        let finished = run.execute().await;
        let (author, context) = (work.author(), &work.context);
        if context.cancelled().is_cancelled() {
            return Err(Error::Cancelled { target: work.target.clone() });
        }
        if !finished.failures.is_empty() {
            return Err(Error::Run {
                target: work.target.clone(),
                branch: Some(work.branch.clone()),
                failures: finished.failures,
            });
        }
        let (commit, tables) = self.merge(plan, work, &author, &finished).await?;
        // The run is merged; a branch that stays behind is no reason to call it failed.
        if let Err(error) = catalog.delete_branch(&work.branch).await {
            tracing::warn!("the branch `{}` of a merged run stays behind: {error}", work.branch);
        }
        Ok(work.report(plan, finished.reports, commit, tables))
    }

    /// Merges the run's branch into its target, with all that stands or falls with it.
    async fn merge(
        &self,
        plan: &Plan,
        work: &Work,
        author: &str,
        finished: &Finished,
    ) -> Result<(Option<CommitId>, Vec<String>)> {
        let mut properties =
            BTreeMap::from([(PROPERTY_JOB.to_owned(), work.context.id().to_string())]);
        let mut with = checks::remember(finished.passed.iter().cloned());
        if let Some(event) = &work.request.event {
            properties.insert(PROPERTY_EVENT.to_owned(), event.clone());
            with.unique.push(Unique { scope: EVENT_SCOPE.to_owned(), key: event.clone() });
        }
        let request = MergeRequest {
            source: RefSpec::Name(work.branch.clone()),
            message: Some(format!("Run {}", plan.project.name)),
            dry_run: false,
            unchecked: true,
        };
        let catalog = self.lake().catalog();
        let report = catalog
            .merge_with(&work.target, request, author, properties, with.clone())
            .await
            .map_err(|error| Error::other(&error))?;
        let tables: Vec<String> = report.tables.iter().map(ToString::to_string).collect();
        match report.outcome {
            MergeOutcome::Conflict => Err(Error::Conflict {
                target: work.target.clone(),
                branch: work.branch.clone(),
                tables: report.conflicts.iter().map(|one| one.table.to_string()).collect(),
            }),
            MergeOutcome::UpToDate => {
                // No table changed, so that there was no commit for the checks to go with.
                self.remember(with).await?;
                Ok((None, tables))
            }
            MergeOutcome::FastForward | MergeOutcome::Merged => Ok((Some(report.commit), tables)),
        }
    }

    /// Stores what there was no commit for. An event that was stored by an earlier try is done.
    async fn remember(&self, with: Batch) -> Result<()> {
        if with.is_empty() {
            return Ok(());
        }
        match self.lake().store().apply(with).await {
            Ok(_) => Ok(()),
            Err(headwater_store::Error::NotUnique { scope, .. }) if scope == EVENT_SCOPE => Ok(()),
            Err(error) => Err(Error::other(&error)),
        }
    }

    /// Makes the namespaces of the models' tables before any step, so that no two steps make the
    /// same one.
    async fn create_namespaces(&self, plan: &Plan, work: &Work) -> Result<()> {
        let known = plan.view.namespaces().await.map_err(|error| Error::other(&error))?;
        let steps = plan.project.steps.iter().filter(|step| step.is_materialized());
        let wanted: BTreeSet<&str> = steps.map(|step| step.table.namespace.as_str()).collect();
        let missing: Vec<&str> = wanted
            .into_iter()
            .filter(|name| known.iter().all(|namespace| namespace.name != *name))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let author = work.author();
        let transaction = self.lake().transaction(&work.branch, &author).await;
        let mut transaction = transaction.map_err(|error| Error::other(&error))?;
        for name in missing {
            transaction.create_namespace(name, BTreeMap::new());
        }
        let made = transaction.commit("Namespaces of the models").await;
        made.map(drop).map_err(|error| Error::other(&error))
    }

    /// Marks the branch of a run that was interrupted, if it got that far.
    pub async fn quarantine(&self, job: JobId) -> Result<()> {
        let (catalog, branch) = (self.lake().catalog(), run_branch(job));
        let found = catalog.branches(Some(&branch)).await.map_err(|error| Error::other(&error))?;
        if found.iter().any(|one| one.name == branch && one.quarantine.is_none()) {
            let run = job.to_string();
            let marked = catalog.quarantine_branch(&branch, Some(&run)).await;
            marked.map_err(|error| Error::other(&error))?;
        }
        Ok(())
    }

    /// The jobs that this runner's runs are recorded with.
    pub fn jobs(&self) -> &Jobs {
        &self.jobs
    }
}

/// One run: what was asked for, and where it works.
struct Work {
    target: String,
    branch: String,
    request: RunRequest,
    context: JobContext,
}

impl Work {
    fn author(&self) -> String {
        let named = self.request.author.clone();
        named.unwrap_or_else(|| self.context.author().to_owned())
    }

    fn report(
        &self,
        plan: &Plan,
        steps: Vec<StepReport>,
        commit: Option<CommitId>,
        tables: Vec<String>,
    ) -> RunReport {
        let mut usage = Usage::default();
        for step in &steps {
            usage.add(&step.usage);
        }
        RunReport {
            project: plan.project.name.clone(),
            branch: self.target.clone(),
            run_branch: self.branch.clone(),
            commit,
            tables,
            // An empty sum of floats would be `-0.0`.
            cost: steps.iter().fold(0.0, |sum, step| sum + step.cost),
            currency: plan.project.rates.currency.clone(),
            steps,
            usage,
        }
    }
}

impl Plan {
    /// The report of a step that has nothing new to do.
    pub(crate) fn unchanged(&self, index: usize) -> StepReport {
        let step = &self.project.steps[index];
        StepReport {
            step: step.name.clone(),
            kind: step.kind.as_str().to_owned(),
            status: StepStatus::Unchanged,
            rows: None,
            usage: Usage::default(),
            cost: 0.0,
            environment_ms: 0,
            queue_ms: 0,
            error: None,
        }
    }
}
