//! Reuse of tables that runs on other branches have computed from the same code, packages,
//! parameters and inputs.
//!
//! When a run is merged, the store records the table that each `replace` model wrote. A later run
//! on another branch finds it by the model's fingerprint, and commits the same table metadata
//! instead of running the model. Only a table that is current on a branch is reused: its files are
//! never removed, and the right to read the branch applies to it.
//!
//! A run reuses only what its user may read completely: the other branch, and the table without row
//! filters and column masks. The fingerprint of a user with row filters or column masks contains
//! them, so it equals only other fingerprints of the same user.

use std::collections::BTreeSet;

use arrow::datatypes::Schema;
use headwater_lake::{CommitView, Lake};
use headwater_model::{Action, MAIN_BRANCH, Object, PROPERTY_JOB, RefSpec, StepStatus, TableName};
use headwater_project::{Materialization, Step};
use headwater_store::{Expected, RefChange};
use headwater_tables::Table;
use serde::{Deserialize, Serialize};

use crate::plan::Plan;
use crate::run::{Run, RunResult};
use crate::runner::RunContext;
use crate::{Error, Result, Runner};

/// Prefix of the refs of computed tables: `computed/PROJECT/TABLE/BRANCH`.
const COMPUTED: &str = "computed/";

/// Maximum number of branches of one table that are considered.
const BRANCHES_MAX: usize = 500;

/// A table of another branch that a run uses instead of running its model.
#[derive(Debug, Clone)]
pub(crate) struct ReusedTable {
    /// The branch.
    pub branch: String,
    /// The branch's state, which keeps the table's files.
    view: CommitView,
}

/// The last table that a model computed on a branch.
#[derive(Debug, Serialize, Deserialize)]
struct ComputedTable {
    /// The model's fingerprint.
    fingerprint: String,
    /// The table's metadata file.
    metadata_location: String,
}

impl Plan {
    /// Uses the table of another branch instead of running a step, if there is one. The step and
    /// its parents must have been planned before.
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
        let same = found.iter().filter(|(_, computed)| computed.fingerprint == *fingerprint);
        for (branch, computed) in same {
            // After a merge, the branch may have been deleted, but `main` has the table.
            for branch in [branch, MAIN_BRANCH] {
                let table = self.table_on(branch, index, computed, runner).await?;
                if table.is_some() {
                    return Ok(table);
                }
            }
        }
        Ok(None)
    }

    /// Returns the computed table if it is current on a branch and the run may reuse it.
    async fn table_on(
        &self,
        branch: &str,
        index: usize,
        computed: &ComputedTable,
        runner: &Runner,
    ) -> Result<Option<(ReusedTable, Table)>> {
        if self.view.branch() == Some(branch) || !runner.may_read_branch(branch) {
            return Ok(None);
        }
        let lake = self.view.lake();
        let Ok(view) = lake.view(&RefSpec::Name(branch.to_owned())).await else {
            return Ok(None);
        };
        let (step, plan) = (&self.project.steps[index], &self.steps[index]);
        let found = view.state().find_table(&step.table.namespace, &step.table.name).await;
        let Some((name, entry)) = found.map_err(|error| Error::other(&error))? else {
            return Ok(None);
        };
        // A table with another id may have other row filters and column masks.
        let is_other = plan.table.as_ref().is_some_and(|table| table.id() != entry.id);
        if is_other
            || entry.metadata_location != computed.metadata_location
            || !runner.may_read_whole(&name, &entry.id)
            || !self.has_same_parents(index, &view).await?
        {
            return Ok(None);
        }
        let Ok(table) = view.load(&entry).await else { return Ok(None) };
        Ok(Some((ReusedTable { branch: branch.to_owned(), view }, table)))
    }

    /// Returns true if the tables of a step's parents are the same on another branch. Otherwise a
    /// model that is not deterministic could yield tables that do not belong together.
    async fn has_same_parents(&self, index: usize, other: &CommitView) -> Result<bool> {
        let mut open: Vec<usize> = self.graph.parents[index].iter().copied().collect();
        let mut seen = BTreeSet::new();
        while let Some(parent) = open.pop() {
            if !seen.insert(parent) {
                continue;
            }
            let step = &self.project.steps[parent];
            if !step.is_materialized() {
                open.extend(&self.graph.parents[parent]);
                continue;
            }
            let own = self.steps[parent].table.as_ref().map(Table::metadata_location);
            let found = other.state().find_table(&step.table.namespace, &step.table.name).await;
            let found = found.map_err(|error| Error::other(&error))?;
            if own != found.as_ref().map(|(_, entry)| entry.metadata_location.as_str()) {
                return Ok(false);
            }
        }
        Ok(true)
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
        for (index, reused) in plan.reusing() {
            let table = &plan.project.steps[index].table;
            let known = transaction.view().find(&table.namespace, &table.name).await;
            let known = known.map_err(failed)?.map(|(_, table)| table.schema());
            let state = reused.view.adopt_in(&mut transaction, table).await.map_err(failed)?;
            self.check_replacement(table, known.as_deref(), &state.schema())?;
        }
        transaction.property(PROPERTY_JOB, work.context.id().to_string());
        let made = transaction.commit("Tables computed on other branches").await;
        run.note_commit(made.map_err(failed)?.map(|commit| commit.id));
        Ok(())
    }

    /// Checks the permissions for replacing a table's columns and rows, or for creating it.
    fn check_replacement(
        &self,
        table: &TableName,
        known: Option<&Schema>,
        schema: &Schema,
    ) -> Result<()> {
        let actions: &[Action] = match known {
            None => &[Action::Create, Action::Insert],
            Some(known) if known.fields() == schema.fields() => &[Action::Insert, Action::Delete],
            Some(_) => &[Action::Insert, Action::Delete, Action::Alter],
        };
        actions.iter().try_for_each(|action| self.authorize(*action, &Object::table(table)))
    }

    fn may_read_branch(&self, branch: &str) -> bool {
        let access = self.access.as_ref();
        access.is_none_or(|access| access.allows(Action::Read, &Object::branch(branch)))
    }

    /// Returns true if the run may read all rows and values of a table.
    fn may_read_whole(&self, name: &TableName, id: &str) -> bool {
        self.access.as_ref().is_none_or(|access| {
            access.allows(Action::Select, &Object::table(name))
                && access.restrictions(name, Some(id)).is_none()
        })
    }

    /// Returns the changes that record the tables which a run computed or reused, as they are on
    /// its branch, and that remove the records of deleted branches.
    pub(crate) async fn record_computed(
        &self,
        plan: &Plan,
        work: &RunContext,
        view: &CommitView,
        finished: &RunResult,
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
        for (step, planned) in plan.project.steps.iter().zip(&plan.steps) {
            if !is_reusable(step) || !wrote.contains(step.name.as_str()) {
                continue;
            }
            let found = view.state().find_table(&step.table.namespace, &step.table.name).await;
            let Some((_, entry)) = found.map_err(|error| Error::other(&error))? else { continue };
            let computed = ComputedTable {
                fingerprint: planned.fingerprint.clone(),
                metadata_location: entry.metadata_location,
            };
            let prefix = prefix(plan, step);
            let change = |branch: &str, value| RefChange {
                name: format!("{prefix}{branch}"),
                expected: Expected::Anything,
                value,
            };
            let value = serde_json::json!(computed).to_string().into();
            changes.push(change(&work.target, Some(value)));
            let known = computed_on(self.lake(), &prefix).await?;
            let deleted = known.iter().map(|(branch, _)| branch.as_str());
            let deleted = deleted.filter(|branch| *branch != work.target && !exists(branch));
            changes.extend(deleted.map(|branch| change(branch, None)));
        }
        Ok(changes)
    }
}

fn prefix(plan: &Plan, step: &Step) -> String {
    format!("{COMPUTED}{}/{}/", plan.project.name, step.table.qualified())
}

/// Returns the last computed tables of a model, by branch.
async fn computed_on(lake: &Lake, prefix: &str) -> Result<Vec<(String, ComputedTable)>> {
    let found = lake.store().references(prefix, None, BRANCHES_MAX).await;
    let found = found.map_err(|error| Error::other(&error))?;
    let computed = found.into_iter().filter_map(|(name, value)| {
        let branch = name.strip_prefix(prefix)?.to_owned();
        Some((branch, serde_json::from_slice(&value).ok()?))
    });
    Ok(computed.collect())
}

/// Returns true if a model's table is determined by the model's fingerprint, and by nothing that an
/// earlier run, another table or the network has.
fn is_reusable(step: &Step) -> bool {
    step.is_materialized()
        && step.materialization == Materialization::Replace
        && step.quarantine_table().is_none()
        && !step.is_incremental()
        && !step.reads_network()
        && !step.always_runs
}
