//! Forecasts of a plan: rows and bytes to read, costs, environments to build, changes of columns,
//! and readers of changed tables outside the run. No step is run, and nothing is written.

use std::collections::{BTreeMap, BTreeSet};

use arrow::datatypes::Schema;
use headwater_catalog::TableEntry;
use headwater_jobs::JobFilter;
use headwater_lake::CommitView;
use headwater_model::{
    Action, AffectedReader, JobKind, JobStatus, PlannedColumns, PlannedInstall, RunPlan, RunReport,
    StepStatus, TableName, Usage,
};
use headwater_project::{Materialization, Step, StepInput, fingerprint};

use crate::column_inference::OutputColumns;
use crate::plan::Plan;
use crate::{Error, Result, Runner};

/// Number of earlier runs whose costs are considered.
const RUNS_CONSIDERED: usize = 50;

/// Number of rows and bytes that a step reads from table files.
#[derive(Debug, Clone, Copy, Default)]
struct ReadVolume {
    rows: u64,
    bytes: u64,
}

impl ReadVolume {
    fn add(&mut self, rows: u64, bytes: u64) {
        self.rows += rows;
        self.bytes += bytes;
    }
}

impl Plan {
    /// Returns the plan in the format of the API, including forecasts.
    pub(crate) async fn forecast(&self, runner: &Runner) -> Result<RunPlan> {
        let mut plan = self.listed();
        let costs = self.last_costs(runner).await?;
        let rates = &self.project.rates;
        // Do not show the number of rows to a user with a row filter, because it would reveal the
        // number of hidden rows.
        let hidden = runner.access.as_ref().and_then(|access| access.restriction_digest());
        for (index, listed) in self.listed_steps().zip(&mut plan.steps) {
            if self.steps[index].reason.is_none() {
                continue;
            }
            let volume = match hidden {
                Some(_) => ReadVolume::default(),
                None => self.volume(index).await?,
            };
            let reading = Usage { bytes_read: volume.bytes, ..Usage::default() };
            let known = costs.get(&self.project.steps[index].name);
            let cost = known.copied().unwrap_or_else(|| rates.cost(&reading));
            listed.rows_read = Some(volume.rows);
            listed.bytes_read = Some(volume.bytes);
            listed.cost = Some(cost);
            listed.columns = self.column_changes(index);
            plan.rows_read += volume.rows;
            plan.bytes_read += volume.bytes;
            plan.cost += cost;
        }
        plan.currency.clone_from(&rates.currency);
        plan.installs = self.installs(runner);
        plan.affected = self.affected(runner).await?;
        Ok(plan)
    }

    /// Returns the rows and bytes that a step reads. For an input that is a model of the project,
    /// counts the model's current table, even if the run will change this table.
    async fn volume(&self, index: usize) -> Result<ReadVolume> {
        let step = &self.project.steps[index];
        let increments = self.increments(index, &self.view).await?;
        let mut volume = ReadVolume::default();
        for (number, input) in step.inputs.iter().enumerate() {
            if let Some(files) = increments.new.get(&number) {
                volume.add(files.files.rows(), files.files.bytes());
                continue;
            }
            match self.graph.model(input) {
                Some(parent) => {
                    let table = self.steps[parent].table.as_ref();
                    if let Some(table) = table {
                        volume.add(table.rows(), table.bytes());
                    }
                }
                None => self.add_lake_table(input, &mut volume).await?,
            }
        }
        Ok(volume)
    }

    async fn add_lake_table(&self, input: &StepInput, volume: &mut ReadVolume) -> Result<()> {
        let failed = |error: headwater_lake::Error| Error::other(&error);
        let other = match &input.reference {
            Some(reference) => Some(self.view.lake().view(reference).await.map_err(failed)?),
            None => None,
        };
        let view = other.as_ref().unwrap_or(&self.view);
        let found = view.state().find(&input.table.namespace, &input.table.name).await;
        let Some((name, entry)) = found.map_err(|error| Error::other(&error))? else {
            return Ok(());
        };
        let entries =
            if entry.is_view() { below(view, &name).await? } else { [(name, entry)].into() };
        for entry in entries.values().filter(|entry| !entry.is_view()) {
            let table = view.load(entry).await.map_err(failed)?;
            volume.add(table.rows(), table.bytes());
        }
        Ok(())
    }

    /// Returns the cost of each step in the last run in which the step succeeded, by step name.
    /// Empty if this run will run no step.
    async fn last_costs(&self, runner: &Runner) -> Result<BTreeMap<String, f64>> {
        if self.steps.iter().all(|step| step.reason.is_none()) {
            return Ok(BTreeMap::new());
        }
        let filter = JobFilter {
            kinds: vec![JobKind::Run],
            statuses: vec![JobStatus::Succeeded],
            limit: RUNS_CONSIDERED,
            ..JobFilter::default()
        };
        let jobs = runner.jobs().list(&filter).await.map_err(|error| Error::other(&error))?;
        let mut costs = BTreeMap::new();
        for job in jobs {
            let Ok(report) = serde_json::from_value::<RunReport>(job.result) else { continue };
            if report.project != self.project.name {
                continue;
            }
            let ran = report.steps.into_iter().filter(|step| step.status == StepStatus::Succeeded);
            for step in ran {
                costs.entry(step.step).or_insert(step.cost);
            }
        }
        Ok(costs)
    }

    /// Returns the Python environments that the run must build before it can call its functions.
    fn installs(&self, runner: &Runner) -> Vec<PlannedInstall> {
        let mut installs: Vec<PlannedInstall> = Vec::new();
        let defaults = &self.project.defaults;
        for index in self.listed_steps().filter(|index| self.steps[*index].reason.is_some()) {
            let step = &self.project.steps[index];
            let Some(function) = step.function() else { continue };
            let spec = self.pinned.spec(runner, defaults, function);
            let is_known = runner.environments.find(&runner.functions, &spec).is_some();
            if is_known || runner.functions.has_environment(&spec) {
                continue;
            }
            let environment = fingerprint::environment_text(defaults, function);
            let known = installs.iter_mut().find(|install| install.environment == environment);
            if let Some(install) = known {
                install.steps.push(step.name.clone());
            } else {
                installs.push(PlannedInstall { environment, steps: vec![step.name.clone()] });
            }
        }
        installs
    }

    /// Returns the changes of a table's columns that are known before the run.
    fn column_changes(&self, index: usize) -> Option<PlannedColumns> {
        let (step, plan) = (&self.project.steps[index], &self.steps[index]);
        if plan.reuses.is_some() {
            return None;
        }
        let before = plan.table.as_ref()?.schema();
        let keeps = step.materialization != Materialization::Replace;
        match &plan.columns {
            OutputColumns::Unknown => None,
            OutputColumns::Names(names) => {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                Some(differences(&before, &names, keeps))
            }
            OutputColumns::Typed(after) => {
                let names: Vec<&str> =
                    after.fields().iter().map(|field| field.name().as_str()).collect();
                let mut changes = differences(&before, &names, keeps);
                changes.retyped = retyped(&before, after);
                Some(changes)
            }
        }
    }

    /// Returns the readers of changed tables that are not part of the run.
    async fn affected(&self, runner: &Runner) -> Result<Vec<AffectedReader>> {
        let mut affected = Vec::new();
        if self.running().next().is_none() {
            return Ok(affected);
        }
        for index in self.graph.order.iter().copied() {
            let step = &self.project.steps[index];
            let sources = self.running_ancestors(index);
            if !self.selection.planned[index] && !sources.is_empty() {
                affected.push(self.reader(step.name.clone(), step.kind.as_str(), &sources));
            }
        }
        affected.extend(self.affected_views(runner).await?);
        Ok(affected)
    }

    async fn affected_views(&self, runner: &Runner) -> Result<Vec<AffectedReader>> {
        let written: BTreeMap<&TableName, usize> =
            self.running().map(|index| (&self.project.steps[index].table, index)).collect();
        if written.is_empty() {
            return Ok(Vec::new());
        }
        let entries =
            self.view.state().entries(None).await.map_err(|error| Error::other(&error))?;
        let mut affected = Vec::new();
        for (name, entry) in entries.iter().filter(|(_, entry)| entry.is_view()) {
            let is_model = |step: &Step| step.is_view() && step.table == *name;
            if self.project.steps.iter().any(is_model) {
                continue;
            }
            let object = entry.object(name);
            if runner.access.as_ref().is_some_and(|it| !it.allows(Action::Select, &object)) {
                continue;
            }
            // A view that cannot be read must not make the plan fail, so skip the view.
            let Ok(below) = below(&self.view, name).await else { continue };
            let sources = written.iter().filter(|(table, _)| below.contains_key(**table));
            let sources: BTreeSet<usize> = sources.map(|(_, index)| *index).collect();
            if !sources.is_empty() {
                affected.push(self.reader(name.to_string(), "view", &sources));
            }
        }
        Ok(affected)
    }

    fn reader(&self, name: String, kind: &str, sources: &BTreeSet<usize>) -> AffectedReader {
        let changes = sources.iter().map(|index| self.column_changes(*index));
        let changes: Option<Vec<PlannedColumns>> = changes.collect();
        AffectedReader {
            name,
            kind: kind.to_owned(),
            reads: sources.iter().map(|index| self.project.steps[*index].name.clone()).collect(),
            breaking: changes.map(|changes| changes.iter().any(PlannedColumns::is_breaking)),
        }
    }

    /// Returns the models whose tables the run writes.
    fn running(&self) -> impl Iterator<Item = usize> {
        self.graph.order.iter().copied().filter(|index| self.writes(*index))
    }

    /// Returns true if the run changes the table of a step.
    fn writes(&self, index: usize) -> bool {
        let plan = &self.steps[index];
        let is_changed = plan.reason.is_some() || plan.reuses.is_some();
        is_changed && self.project.steps[index].is_materialized()
    }

    fn running_ancestors(&self, index: usize) -> BTreeSet<usize> {
        let mut found = BTreeSet::new();
        let mut seen = BTreeSet::new();
        let mut open = vec![index];
        while let Some(step) = open.pop() {
            for parent in self.graph.parents[step].iter().filter(|parent| seen.insert(**parent)) {
                if self.writes(*parent) {
                    found.insert(*parent);
                }
                open.push(*parent);
            }
        }
        found
    }
}

type TableEntries = BTreeMap<TableName, TableEntry>;

/// Returns the tables and views that a view reads.
async fn below(view: &CommitView, name: &TableName) -> Result<TableEntries> {
    let below = headwater_engine::tables_below(view, name).await;
    Ok(below.map_err(|error| Error::other(&error))?.entries)
}

/// Returns the columns that a table gains and loses if its columns `before` become `after`,
/// compared by name. If `keeps` is set, the table keeps columns that are missing in `after`.
fn differences(before: &Schema, after: &[&str], keeps: bool) -> PlannedColumns {
    let has = |name: &str| before.fields().iter().any(|field| field.name() == name);
    let added = after.iter().filter(|name| !has(name)).map(|name| (*name).to_owned());
    let gone = |name: &&String| !keeps && !after.contains(&name.as_str());
    let removed = before.fields().iter().map(|field| field.name()).filter(gone).cloned();
    PlannedColumns { added: added.collect(), removed: removed.collect(), retyped: Vec::new() }
}

/// Returns the columns whose type in the table will change.
fn retyped(before: &Schema, after: &Schema) -> Vec<String> {
    let after = headwater_tables::normalise_schema(after);
    let Ok(after) = after.map(|after| headwater_tables::without_nanoseconds(&after)) else {
        return Vec::new();
    };
    let changed = before.fields().iter().filter_map(|old| {
        let new = after.field_with_name(old.name()).ok()?;
        let differs = !old.data_type().equals_datatype(new.data_type());
        differs.then(|| format!("{}: {} -> {}", old.name(), old.data_type(), new.data_type()))
    });
    changed.collect()
}
