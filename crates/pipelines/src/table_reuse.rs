//! Reuse of tables that earlier runs have computed from the same code, packages, parameters and
//! inputs, on the same branch or on another branch.
//!
//! When a run is merged, the store records the table that each model wrote. The records of the last
//! runs on the branch are kept. A later run finds the table by the model's fingerprint, and commits
//! the same table metadata instead of running the model. A table is reused only from the head or an
//! earlier commit of a branch that the user of the run may read. Maintenance may have removed the
//! files of an earlier commit. The run therefore checks that the files exist, and pins the commit
//! until the run has committed the table.
//!
//! The result of a model that keeps the rows of earlier runs also depends on its table before the
//! run. Such a table is reused only on a branch where the model's table is in the same state as
//! before the recorded run. The state of a table includes the read positions of incremental inputs.
//!
//! A run reuses a table only if its user may read the other branch, and has no row filter or column
//! mask on the table. The row filters and column masks of the user are part of the fingerprint. So
//! only runs with the same row filters and column masks have the same fingerprint.

use std::collections::{BTreeMap, BTreeSet};

use arrow::datatypes::Schema;
use headwater_catalog::TableEntry;
use headwater_lake::{CommitView, Lake, set_creator};
use headwater_model::{
    AccessObject, Action, CommitId, JobId, MAIN_BRANCH, PROPERTY_JOB, RefSpec, StepStatus,
    TableName,
};
use headwater_project::{Materialization, Step};
use headwater_store::{RefChange, RefPrecondition, WriteBatch};
use headwater_tables::Table;
use serde::{Deserialize, Serialize};

use crate::plan::Plan;
use crate::run::{Run, RunStepsResult};
use crate::run_context::RunContext;
use crate::{Error, Result, Runner};

/// Prefix of the store's refs that record computed tables: `computed/PROJECT/TABLE/BRANCH`.
const COMPUTED: &str = "computed/";

/// Maximum number of branches whose records of a table are searched.
const BRANCHES_MAX: usize = 500;

/// Maximum number of earlier results of a model that are recorded for each branch.
const EARLIER_MAX: usize = 8;

/// A table of an earlier run that a run uses instead of running its model.
#[derive(Debug, Clone)]
pub(crate) struct ReusedTable {
    /// The branch on which the table was found.
    pub branch: String,
    /// The catalog state that contains the table. While this view exists, the table's files are not
    /// removed.
    view: CommitView,
    /// Metadata file of the model's table before this run; `None` if there was no table.
    before: Option<String>,
}

/// The last table that a model computed on a branch, and the tables that it computed earlier.
#[derive(Debug, Serialize, Deserialize)]
struct ComputedTables {
    #[serde(flatten)]
    last: ComputedTable,
    /// Earlier results, newest first; at most [`EARLIER_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    earlier: Vec<ComputedTable>,
}

/// A table that a model computed.
#[derive(Debug, Serialize, Deserialize)]
struct ComputedTable {
    /// The model's fingerprint.
    fingerprint: String,
    /// The table's metadata file.
    metadata_location: String,
    /// Metadata file of the table before the run; `None` if there was no table.
    #[serde(default)]
    before: Option<String>,
    /// Metadata files of the tables of the models that this model reads (its parents), by name.
    #[serde(default)]
    parents: BTreeMap<String, String>,
    /// A commit that has the table; `None` in records that older versions of Headwater wrote.
    #[serde(default)]
    commit: Option<CommitId>,
}

impl ComputedTable {
    /// Returns true if both tables were computed from the same code and inputs.
    fn is_same_result(&self, other: &ComputedTable) -> bool {
        self.fingerprint == other.fingerprint
            && self.before == other.before
            && self.parents == other.parents
    }
}

impl ComputedTables {
    /// Returns the record with `last` as the new result. The previous results become earlier
    /// results, and the oldest are dropped.
    fn after(previous: Option<ComputedTables>, last: ComputedTable) -> ComputedTables {
        let previous = previous.into_iter();
        let mut earlier: Vec<ComputedTable> =
            previous.flat_map(|known| std::iter::once(known.last).chain(known.earlier)).collect();
        earlier.retain(|known| !known.is_same_result(&last));
        earlier.truncate(EARLIER_MAX);
        ComputedTables { last, earlier }
    }
}

impl Plan {
    /// Uses the table of an earlier run instead of running a step, if a branch has the table. The
    /// step and the steps that it reads must have been planned before.
    pub(crate) async fn reuse(&mut self, index: usize, runner: &Runner) -> Result<()> {
        if let Some((reused, table)) = self.find_reusable(index, runner).await? {
            let plan = &mut self.steps[index];
            plan.reason = None;
            plan.table = Some(table);
            plan.reuses = Some(reused);
        }
        Ok(())
    }

    async fn find_reusable(
        &self,
        index: usize,
        runner: &Runner,
    ) -> Result<Option<(ReusedTable, Table)>> {
        let step = &self.project.steps[index];
        let runs = |index: &usize| self.steps[*index].reason.is_some();
        if !is_reusable(step)
            || !self.selection.chosen[index]
            || self.graph.parents[index].iter().any(runs)
        {
            return Ok(None);
        }
        let fingerprint = &self.steps[index].fingerprint;
        let found = computed_on(self.view.lake(), &prefix(self, step)).await?;
        let (before, parents) = (self.table_before(index), self.parent_tables(index));
        let is_same = |computed: &ComputedTable| {
            computed.fingerprint == *fingerprint
                // Without this check, a model whose code is not deterministic could have other rows
                // on this branch than the rows from which the table was computed.
                && computed.parents == parents
                && (!step.materialization.accumulates() || computed.before == before)
        };
        for (branch, ComputedTables { last, earlier }) in &found {
            // Do not reuse the last result on the run's own branch. If it has the step's
            // fingerprint and the step must still run, another writer has changed the table since.
            let branch = branch.as_str();
            let last = Some(last).filter(|_| self.view.branch() != Some(branch));
            let same = last.into_iter().chain(earlier).filter(|computed| is_same(computed));
            for computed in same.collect::<Vec<_>>() {
                // A branch that was merged may have been deleted, but `main` has the table.
                for branch in [branch, MAIN_BRANCH] {
                    let table = self.table_on(branch, index, computed, runner).await?;
                    if table.is_some() {
                        return Ok(table);
                    }
                }
            }
        }
        Ok(None)
    }

    /// Returns the table of `computed` if the head of the branch or an earlier commit of the branch
    /// has this table, and the run may reuse it.
    async fn table_on(
        &self,
        branch: &str,
        index: usize,
        computed: &ComputedTable,
        runner: &Runner,
    ) -> Result<Option<(ReusedTable, Table)>> {
        if !runner.may_read_branch(branch) {
            return Ok(None);
        }
        let lake = self.view.lake();
        let Ok(head) = lake.view(&RefSpec::Name(branch.to_owned())).await else {
            return Ok(None);
        };
        let before = self.table_before(index);
        let reused = |view| ReusedTable { branch: branch.to_owned(), view, before };
        if self.view.branch() != Some(branch)
            && let Some(table) = self.table_in(&head, index, computed, runner).await?
        {
            return Ok(Some((reused(head), table)));
        }
        let Some(commit) = computed.commit else { return Ok(None) };
        // Check that the branch contains the commit, because the branch may have been deleted and
        // created again without it.
        let bases = lake.catalog().merge_bases(commit, head.commit()).await;
        if !bases.is_ok_and(|bases| bases == [commit]) {
            return Ok(None);
        }
        let table = &self.project.steps[index].table;
        let past = CommitView::of_history(lake, commit, table).await;
        let Ok(Some(past)) = past else { return Ok(None) };
        let table = self.table_in(&past, index, computed, runner).await?;
        Ok(table.map(|table| (reused(past), table)))
    }

    /// Returns the table of `computed` if the catalog state `view` contains this table, and the run
    /// may reuse it.
    async fn table_in(
        &self,
        view: &CommitView,
        index: usize,
        computed: &ComputedTable,
        runner: &Runner,
    ) -> Result<Option<Table>> {
        let (step, plan) = (&self.project.steps[index], &self.steps[index]);
        let found = view.state().find_table(&step.table.namespace, &step.table.name).await;
        let Some((name, entry)) = found.map_err(|error| Error::other(&error))? else {
            return Ok(None);
        };
        // Do not replace the step's table by a table with another id, because other row filters and
        // column masks may apply to that table.
        let is_other = plan.table.as_ref().is_some_and(|table| table.id() != entry.id);
        if is_other
            || entry.metadata_location != computed.metadata_location
            || !runner.may_read_all_rows(&name, &entry)
        {
            return Ok(None);
        }
        // Do not adopt a table if this would undo later changes of the table's properties.
        let table = view.load(&entry).await.ok().filter(|table| {
            plan.table.as_ref().is_none_or(|now| now.properties() == table.properties())
        });
        Ok(table.filter(|table| self.changed_packages(index, table).is_empty()))
    }

    /// Returns the metadata file of a model's table before the run.
    fn table_before(&self, index: usize) -> Option<String> {
        let plan = &self.steps[index];
        match &plan.reuses {
            Some(reused) => reused.before.clone(),
            None => plan.table.as_ref().map(|table| table.metadata_location().to_owned()),
        }
    }

    /// Returns the current metadata file of the table of each materialized model that a step reads,
    /// by name. The files stay current only if these models do not run.
    fn parent_tables(&self, index: usize) -> BTreeMap<String, String> {
        let tables = self.stored_parents(index).into_iter().filter_map(|parent| {
            let table = self.steps[parent].table.as_ref()?;
            let name = self.project.steps[parent].table.qualified();
            Some((name, table.metadata_location().to_owned()))
        });
        tables.collect()
    }

    /// Returns the materialized models that a step reads, directly or through intermediate models.
    fn stored_parents(&self, index: usize) -> Vec<usize> {
        let mut open: Vec<usize> = self.graph.parents[index].iter().copied().collect();
        let (mut seen, mut stored) = (BTreeSet::new(), Vec::new());
        while let Some(parent) = open.pop() {
            if !seen.insert(parent) {
                continue;
            }
            if self.project.steps[parent].is_materialized() {
                stored.push(parent);
            } else {
                open.extend(&self.graph.parents[parent]);
            }
        }
        stored
    }

    /// Returns the steps that reuse a table.
    pub(crate) fn reusing(&self) -> impl Iterator<Item = (usize, &ReusedTable)> {
        let steps = self.steps.iter().enumerate();
        steps.filter_map(|(index, plan)| Some((index, plan.reuses.as_ref()?)))
    }
}

impl Runner {
    /// Commits the reused tables to the run branch, before the first step.
    pub(crate) async fn adopt_tables(&self, run: &Run, work: &RunContext) -> Result<()> {
        let plan = run.plan();
        if plan.reusing().next().is_none() {
            return Ok(());
        }
        let failed = |error: headwater_lake::Error| Error::other(&error);
        let transaction = self.lake().transaction(&work.branch, &work.author()).await;
        let mut transaction = transaction.map_err(failed)?;
        set_creator(&mut transaction, self.creator());
        for (index, reused) in plan.reusing() {
            let step = &plan.project.steps[index];
            let table = &step.table;
            let known = transaction.view().find(&table.namespace, &table.name).await;
            let known = known.map_err(failed)?.map(|(_, table)| table.schema());
            let object = self.table_object(table, transaction.view()).await?;
            let state = reused.view.adopt_in(&mut transaction, table).await.map_err(failed)?;
            let actions = needed_actions(step, known.as_deref(), &state.schema());
            actions.into_iter().try_for_each(|action| self.authorize(action, &object))?;
        }
        transaction.property(PROPERTY_JOB, work.context.id().to_string());
        let made = transaction.commit("Reuse the tables of earlier runs").await;
        run.note_commit(made.map_err(failed)?.map(|commit| commit.id));
        Ok(())
    }

    fn may_read_branch(&self, branch: &str) -> bool {
        let access = self.access.as_ref();
        access.is_none_or(|access| access.allows(Action::Read, &AccessObject::branch(branch)))
    }

    /// Returns true if the run may read all rows and values of a table.
    fn may_read_all_rows(&self, name: &TableName, entry: &TableEntry) -> bool {
        self.access.as_ref().is_none_or(|access| {
            access.allows(Action::Select, &entry.object(name))
                && access.restrictions(name, Some(&entry.id)).is_none()
        })
    }

    /// Returns the ref changes that record the tables that a run computed or reused, with their
    /// states in `view`. The changes also remove the records of deleted branches.
    pub(crate) async fn record_computed(
        &self,
        plan: &Plan,
        work: &RunContext,
        view: &CommitView,
        finished: &RunStepsResult,
    ) -> Result<Vec<RefChange>> {
        if !work.is_strict() {
            return Ok(Vec::new());
        }
        let new = |status| matches!(status, StepStatus::Succeeded | StepStatus::Reused);
        let reports = finished.reports.iter().filter(|report| new(report.status));
        let wrote: BTreeSet<&str> = reports.map(|report| report.step.as_str()).collect();
        let branches = self.lake().catalog().branches(None).await;
        let branches = branches.map_err(|error| Error::other(&error))?;
        let exists = |name: &str| branches.iter().any(|branch| branch.name == name);
        let mut changes = Vec::new();
        for (index, step) in plan.project.steps.iter().enumerate() {
            // Do not record a rebuild of an incremental model, because its result does not depend
            // on the table before the run.
            let is_recorded = is_reusable(step) && !plan.is_rebuilt(index);
            if !is_recorded || !wrote.contains(step.name.as_str()) {
                continue;
            }
            let Some(metadata_location) = location(view, step).await? else { continue };
            let mut parents = BTreeMap::new();
            for parent in plan.stored_parents(index) {
                let parent = &plan.project.steps[parent];
                let found = location(view, parent).await?;
                parents.extend(found.map(|location| (parent.table.qualified(), location)));
            }
            let prefix = prefix(plan, step);
            let mut known = computed_on(self.lake(), &prefix).await?;
            let previous = known.iter().position(|(branch, _)| *branch == work.target);
            let previous = previous.map(|position| known.swap_remove(position).1);
            let computed = ComputedTable {
                fingerprint: plan.steps[index].fingerprint.clone(),
                metadata_location,
                before: plan.table_before(index),
                parents,
                commit: Some(view.commit()),
            };
            let computed = ComputedTables::after(previous, computed);
            let change = |branch: &str, value| RefChange {
                name: format!("{prefix}{branch}"),
                expected: RefPrecondition::Anything,
                value,
            };
            let value = serde_json::json!(computed).to_string().into();
            changes.push(change(&work.target, Some(value)));
            let deleted = known.iter().map(|(branch, _)| branch.as_str());
            let deleted = deleted.filter(|branch| !exists(branch));
            changes.extend(deleted.map(|branch| change(branch, None)));
        }
        Ok(changes)
    }
}

impl Runner {
    /// Records the tables of a run whose merge has a conflict, so that the repetition of the run
    /// can reuse them from the branch [`conflict_branch`]. `computed` are the records for the
    /// target.
    pub(crate) async fn record_for_repetition(
        &self,
        work: &RunContext,
        computed: Vec<RefChange>,
    ) -> Result<()> {
        if work.request.no_repeat {
            return Ok(());
        }
        let branch = conflict_branch(work.context.id());
        let refs = computed.into_iter().filter_map(|change| {
            change.value.as_ref()?;
            let name = format!("{}{branch}", change.name.strip_suffix(work.target.as_str())?);
            Some(RefChange { name, ..change })
        });
        let batch = WriteBatch { refs: refs.collect(), ..WriteBatch::default() };
        let stored = self.lake().store().apply(batch).await;
        stored.map(drop).map_err(|error| Error::other(&error))
    }

    /// Deletes the branch that an interrupted run kept for its repetition, if any.
    pub(crate) async fn delete_conflict_branch(&self, job: JobId) -> Result<()> {
        let (catalog, branch) = (self.lake().catalog(), conflict_branch(job));
        let found = catalog.branches(Some(&branch)).await.map_err(|error| Error::other(&error))?;
        if found.iter().all(|one| one.name != branch) {
            return Ok(());
        }
        catalog.delete_branch(&branch).await.map_err(|error| Error::other(&error))
    }
}

/// Returns the name of the branch that keeps the tables of an attempt with a conflict until the
/// repetition of the run has ended.
pub fn conflict_branch(job: JobId) -> String {
    format!("run/{job}-conflict")
}

fn prefix(plan: &Plan, step: &Step) -> String {
    format!("{COMPUTED}{}/{}/", plan.project.name, step.table.qualified())
}

/// Returns the computed tables of a model, by branch.
async fn computed_on(lake: &Lake, prefix: &str) -> Result<Vec<(String, ComputedTables)>> {
    let found = lake.store().references(prefix, None, BRANCHES_MAX).await;
    let found = found.map_err(|error| Error::other(&error))?;
    let computed = found.into_iter().filter_map(|(name, value)| {
        let branch = name.strip_prefix(prefix)?.to_owned();
        Some((branch, serde_json::from_slice(&value).ok()?))
    });
    Ok(computed.collect())
}

/// Returns the metadata file of a model's table at a catalog state.
async fn location(view: &CommitView, step: &Step) -> Result<Option<String>> {
    let found = view.state().find_table(&step.table.namespace, &step.table.name).await;
    let found = found.map_err(|error| Error::other(&error))?;
    Ok(found.map(|(_, entry)| entry.metadata_location))
}

/// Returns true if a model's fingerprint, its table before the run and the tables of its parents
/// determine its table after the run. This is not the case for quarantine tables, whose rows
/// contain the id of their run. It is also not the case for shared processes, in which a model can
/// read values of other models.
fn is_reusable(step: &Step) -> bool {
    step.is_materialized()
        && step.quarantine_table().is_none()
        && !step.reads_network()
        && !step.always_runs
        && !step.function().is_some_and(|function| function.reuse)
}

/// Returns the permissions that a run of the model would need to write a table with the columns
/// `schema`. `known` has the columns of the existing table, if there is one.
fn needed_actions(step: &Step, known: Option<&Schema>, schema: &Schema) -> Vec<Action> {
    let mut actions = match (known, step.materialization) {
        (None, _) => vec![Action::Create, Action::Insert],
        (Some(_), Materialization::Append) => vec![Action::Insert],
        (Some(_), Materialization::Merge) => vec![Action::Insert, Action::Update],
        (Some(_), _) => vec![Action::Insert, Action::Delete],
    };
    if known.is_some_and(|known| known.fields() != schema.fields()) {
        actions.push(Action::Alter);
    }
    actions
}
