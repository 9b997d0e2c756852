//! Merges that recompute derived tables. A ref is merged on the run branch, and the project's
//! models run on the merged state. The result is one commit on the target.
//!
//! A table is derived if a `replace` model of the project writes it: its rows are a function of the
//! model's inputs. Tables of `append` and `merge` models contain rows of earlier runs, which cannot
//! be recomputed. They are merged by content, like all other tables.

use std::collections::BTreeSet;
use std::sync::Arc;

use headwater_catalog::{DivergedTable, MergePlan, NewBranch, RequiredCheckStatus};
use headwater_jobs::JobContext;
use headwater_lake::{MergeOptions, conflict_problem};
use headwater_model::{
    MergeChoice, MergeOutcome, MergeReport, MergeRequest, RefSpec, RunPlan, RunReport, RunRequest,
    TableName, ToProblem,
};
use headwater_tables::Table;

use crate::merge_rights::merge_rights;
use crate::parse::parse_project;
use crate::run_context::RunContext;
use crate::runner::Runner;
use crate::{Error, Materialization, Project, Result};

/// A merge that a run performs before its steps.
struct RerunMerge {
    request: MergeRequest,
    /// The project that computes the derived tables.
    project: Project,
    /// Merge plan that was computed at the start of the run. The run branch starts at the target's
    /// head in this plan.
    plan: MergePlan,
    /// Derived tables in conflict: each is taken from one side as a whole, and recomputed if it is
    /// out of date.
    whole: BTreeSet<TableName>,
}

impl Runner {
    /// Merges a ref into the run's target and runs the project on the merged state. On failure the
    /// target is unchanged, and the run branch keeps the merged state for inspection.
    pub(crate) async fn merge_and_run(
        &self,
        target: String,
        branch: String,
        request: RunRequest,
        context: JobContext,
    ) -> Result<RunReport> {
        let merge = self.plan_merge(&target, &request).await?;
        let start = merge.plan.head;
        self.branch_in_quarantine(&branch, start, context.id().to_string()).await?;
        let work = RunContext { target, branch, start, request, context, made: Vec::new() };
        let ran = Box::pin(self.merge_and_run_there(merge, &work)).await;
        if ran.is_err() {
            self.forget_empty(start, &work.branch).await;
        }
        ran
    }

    async fn merge_and_run_there(&self, merge: RerunMerge, work: &RunContext) -> Result<RunReport> {
        let stopped = work.context.cancelled();
        let author = work.author();
        let prepared = async {
            let merged = self.merge_on(&work.branch, &merge, (&work.target, &author)).await?;
            let reference = RefSpec::Name(work.branch.clone());
            let plan = self.make_plan(merge.project, &work.request, &reference).await;
            Ok::<_, Error>((merged, plan))
        };
        let (merged, plan) = tokio::select! {
            prepared = Box::pin(prepared) => prepared?,
            () = stopped.cancelled() => {
                let branch = self.changed_branch(work.start, &work.branch).await?;
                return Err(Error::Cancelled { target: work.target.clone(), branch });
            }
        };
        let plan = match plan {
            Ok(plan) => Arc::new(plan),
            Err(error) => {
                let branch = self.changed_branch(work.start, &work.branch).await?;
                let failures = vec![error.to_problem()];
                return Err(Error::Run { target: work.target.clone(), branch, failures });
            }
        };
        let mut report = Box::pin(self.run_there(&plan, work)).await?;
        report.merge = Some(merged);
        Ok(report)
    }

    /// Plans the models of a run that first merges a ref. Performs the merge on a temporary branch.
    pub(crate) async fn plan_merged(&self, target: &str, request: &RunRequest) -> Result<RunPlan> {
        let merge = self.plan_merge(target, request).await?;
        let id = uuid::Uuid::now_v7().to_string();
        let branch = format!("run/plan-{id}");
        self.branch_in_quarantine(&branch, merge.plan.head, id).await?;
        let planned = async {
            self.merge_on(&branch, &merge, (target, "")).await?;
            let reference = RefSpec::Name(branch.clone());
            self.make_plan(merge.project, request, &reference).await?.forecast(self).await
        };
        let planned = Box::pin(planned).await;
        let deleted = self.lake().catalog().delete_branch(&branch).await;
        deleted.map_err(|error| Error::other(&error))?;
        planned
    }

    /// Plans the merge and chooses a side for each derived table in conflict.
    async fn plan_merge(&self, target: &str, request: &RunRequest) -> Result<RerunMerge> {
        let project = parse_project(&request.files)?.into_runnable()?;
        let mut merge = request.merge.clone().unwrap_or_else(|| MergeRequest::new(RefSpec::main()));
        let checks = RequiredCheckStatus::required_unless(merge.unchecked);
        let plan = self.lake().catalog().merges().plan(target, &merge.source, checks).await;
        let plan = plan.map_err(|error| Error::other(&error))?;
        let mut whole = BTreeSet::new();
        for contested in &plan.contested {
            let Some(choice) = self.choice(&project, contested).await? else { continue };
            let [ours, theirs] = contested.names();
            let name = if contested.ours.is_some() { ours } else { theirs };
            if !merge.choices.keys().any(|chosen| is_same(chosen, name)) {
                merge.choices.insert(name.clone(), choice);
            }
            whole.extend([ours.clone(), theirs.clone()]);
        }
        Ok(RerunMerge { request: merge, project, plan, whole })
    }

    /// Returns the side to take for a table in conflict; `None` if the conflict remains. If a model
    /// of the project computes the table, this is the side that has the table, or the target if
    /// both sides have it. If the model was removed from the project, it is the side that dropped
    /// the table.
    async fn choice(
        &self,
        project: &Project,
        contested: &DivergedTable,
    ) -> Result<Option<MergeChoice>> {
        let has_model = contested.names().into_iter().any(|name| is_derived(project, name));
        let (present, absent) = match (&contested.ours, &contested.theirs) {
            (Some(_), Some(_)) => return Ok(has_model.then_some(MergeChoice::Ours)),
            (Some(ours), None) => (ours, MergeChoice::Theirs),
            (None, Some(theirs)) => (theirs, MergeChoice::Ours),
            (None, None) => return Ok(None),
        };
        if has_model {
            let other = match absent {
                MergeChoice::Ours => MergeChoice::Theirs,
                _ => MergeChoice::Ours,
            };
            return Ok(Some(other));
        }
        if present.is_view() {
            return Ok(None);
        }
        let table: Table = self
            .lake()
            .tables()
            .load(&present.metadata_location)
            .await
            .map_err(|error| Error::other(&error))?;
        let owner = self.lake().project_of(&table).await;
        Ok((owner.as_deref() == Some(project.name.as_str())).then_some(absent))
    }

    /// Performs the merge on a branch. Fails with `Other` if a table without a model is in
    /// conflict; the error lists the conflicts.
    async fn merge_on(
        &self,
        branch: &str,
        merge: &RerunMerge,
        (target, author): (&str, &str),
    ) -> Result<MergeReport> {
        let named = merge.request.source.to_string();
        let request = MergeRequest {
            // Merge the planned commit, even if the source ref has moved since the merge was
            // planned.
            source: RefSpec::Commit(merge.plan.source.to_string()),
            message: Some(message(&merge.request, target)),
            dry_run: false,
            unchecked: true,
            ..merge.request.clone()
        };
        let options = MergeOptions {
            author: author.to_owned(),
            whole: merge.whole.clone(),
            rights: self.access.clone().map(merge_rights),
            ..MergeOptions::default()
        };
        let report = self.lake().merge_with(branch, request, options).await;
        let report = report.map_err(|error| Error::other(&error))?;
        let report = self.visible(target, report).await?;
        if report.outcome == MergeOutcome::Conflict {
            return Err(Error::Other(Box::new(conflict_problem(target, &named, &report))));
        }
        Ok(report)
    }

    /// Creates a branch that is in quarantine from the start, so that a killed run leaves the same
    /// state as a failed run.
    pub(crate) async fn branch_in_quarantine(
        &self,
        branch: &str,
        from: headwater_model::CommitId,
        run: String,
    ) -> Result<()> {
        let options = NewBranch { quarantine: Some(run), ..NewBranch::default() };
        let from = RefSpec::Commit(from.to_string());
        let created = self.lake().catalog().create_branch_with(branch, &from, options).await;
        created.map(drop).map_err(|error| Error::other(&error))
    }
}

/// Returns the message of the merge commit.
pub(crate) fn message(merge: &MergeRequest, target: &str) -> String {
    let given = merge.message.clone();
    given.unwrap_or_else(|| format!("Merge {} into {target}", merge.source))
}

/// Returns true if a model of the project computes all rows of a table, or of its quarantine table.
fn is_derived(project: &Project, table: &TableName) -> bool {
    let mut models = project
        .steps
        .iter()
        .filter(|step| step.is_materialized() && step.materialization == Materialization::Replace);
    models.any(|step| {
        let quarantine = step.quarantine_table();
        is_same(&step.table, table) || quarantine.is_some_and(|own| is_same(&own, table))
    })
}

fn is_same(one: &TableName, other: &TableName) -> bool {
    one.namespace.eq_ignore_ascii_case(&other.namespace)
        && one.name.eq_ignore_ascii_case(&other.name)
}
