//! Plans a run: the inputs of each step and their state, and the reason to run an outdated step.
//! Planning executes no step. Errors include the file and line.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use headwater_build_records::{BuildRecord, InputRecord, snapshot_property};
use headwater_lake::CommitView;
use headwater_model::{
    PlannedStep, PreviewOptions, Priority, RefSpec, RunEnvironment, RunPlan, SYSTEM_NAMESPACE,
    TableName, ToProblem, nearest,
};
use headwater_project::selector::Selection;
use headwater_project::{SourceText, Step, StepCode, StepGraph, StepInput, fingerprint};
use headwater_tables::{SqlView, Table};
use serde_json::Value;

use crate::column_inference::OutputColumns;
use crate::environment_packages::PackageVersions;
use crate::run_environments::{PinnedEnvironments, RecordedEnvironments};
use crate::table_reuse::ReusedTable;
use crate::{Error, Project, Result, Runner};

/// Snapshot property with the full fingerprint of the model that wrote the snapshot.
pub(crate) const FINGERPRINT: &str = "headwater.fingerprint";

/// Snapshot property with the code fingerprint of the model that wrote the snapshot.
pub(crate) const FINGERPRINT_CODE: &str = "headwater.fingerprint.code";

/// The plan of a run.
#[derive(Clone)]
pub(crate) struct Plan {
    pub project: Project,
    pub graph: StepGraph,
    pub view: CommitView,
    pub values: BTreeMap<String, Value>,
    /// The selected steps of the run.
    pub selection: Selection,
    /// True if every step runs, and incremental models are rebuilt from all rows of their inputs.
    pub full: bool,
    /// Priority of all function calls; overrides the priority of each function.
    pub priority: Option<Priority>,
    /// If set, the run returns rows of every model instead of merging.
    pub preview: Option<PreviewOptions>,
    /// Package versions to install without resolving them again.
    pub pinned: PinnedEnvironments,
    /// Installed environments of the Python steps.
    pub environments: RecordedEnvironments,
    /// Plans by step index.
    pub steps: Vec<StepPlan>,
}

/// The plan of one step.
#[derive(Debug, Clone, Default)]
pub(crate) struct StepPlan {
    /// Hash of the code.
    pub code: String,
    /// Hash of the code and the input states.
    pub fingerprint: String,
    /// Reason to run; `None` if the step is up to date.
    pub reason: Option<&'static str>,
    /// The table of an earlier run to use instead of running the step.
    pub reuses: Option<ReusedTable>,
    /// Phrases that explain the reason, such as the inputs that have changed.
    pub why: Vec<String>,
    /// Packages in the environment of a Python step; `None` if the environment is not installed.
    pub packages: Option<Arc<PackageVersions>>,
    /// Record of the inputs and code that the output depends on. Empty for a materialized model
    /// that does not run.
    pub record: BuildRecord,
    /// State of each input.
    pub states: Vec<InputState>,
    /// Lake tables that the step reads.
    pub tables: Vec<TableName>,
    /// Schema of each input that is a lake table; `None` for a model.
    pub inputs: Vec<Option<SchemaRef>>,
    /// The existing table, written by an earlier run, or the reused table.
    pub table: Option<Table>,
    /// The existing view of a model with `materialization = view`.
    pub lake_view: Option<SqlView>,
    /// Output columns that are known before the run.
    pub columns: OutputColumns,
}

/// State of an input of a step when the run was planned.
#[derive(Debug, Clone)]
pub(crate) struct InputState {
    pub name: String,
    /// String that changes if the input changes, such as the fingerprint of a model.
    pub state: String,
    /// The step that computes the input; `None` for a table of the lake.
    pub parent: Option<usize>,
    /// The snapshot of a table of the lake.
    pub snapshot: Option<i64>,
}

/// Options of a plan.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct PlanOptions<'a> {
    /// True to run every step.
    pub no_cache: bool,
    /// True to run steps even if earlier runs have computed their tables.
    pub no_reuse: bool,
    /// Priority of all function calls; overrides the priority of each function.
    pub priority: Option<Priority>,
    /// If set, the run returns rows of every model instead of merging.
    pub preview: Option<PreviewOptions>,
    /// Selectors of the steps to run; all steps if empty.
    pub select: &'a [String],
    /// Selectors of the steps to exclude.
    pub exclude: &'a [String],
    /// Package versions to install without resolving them again.
    pub environments: &'a [RunEnvironment],
}

impl Plan {
    /// Plans a run of a project at a catalog state.
    pub async fn new(
        runner: &Runner,
        project: Project,
        view: CommitView,
        values: BTreeMap<String, Value>,
        options: PlanOptions<'_>,
    ) -> Result<Plan> {
        let graph = StepGraph::new(&project)?;
        let steps = vec![StepPlan::default(); project.steps.len()];
        let PlanOptions { no_cache: full, priority, preview, .. } = options;
        let selection = Selection { chosen: Vec::new(), planned: Vec::new() };
        let pinned = PinnedEnvironments::new(options.environments);
        let environments = RecordedEnvironments::default();
        let mut plan = Plan {
            project,
            graph,
            view,
            values,
            selection,
            full,
            priority,
            preview,
            pinned,
            environments,
            steps,
        };
        let order = plan.graph.order.clone();
        for index in order.iter().copied() {
            plan.steps[index] = plan.existing(index).await?;
        }
        plan.selection = plan.select(runner, options).await?;
        let planned = || order.iter().copied().filter(|index| plan.selection.planned[*index]);
        let planned: Vec<usize> = planned().collect();
        plan.check_allowed(runner).await?;
        plan.find_packages(runner);
        for index in planned.iter().copied() {
            plan.steps[index] = plan.step(index, runner).await?;
            plan.steps[index].reason = plan.own_reason(index, options).await?;
            plan.compare_packages(index);
            let reuses = !(options.no_cache || options.no_reuse || options.preview.is_some());
            if reuses && plan.steps[index].reason.is_some() {
                plan.reuse(index, runner).await?;
            }
        }
        plan.keep_parents();
        for index in planned {
            let runs = plan.steps[index].reason.is_some();
            if runs || !plan.project.steps[index].is_materialized() {
                plan.steps[index].record = plan.build_record(index);
            }
            plan.steps[index].why = plan.changes_since_build(index).await;
        }
        plan.check(runner).await
    }

    /// Checks the permissions of the run, and that the secrets of its functions exist.
    async fn check_allowed(&self, runner: &Runner) -> Result<()> {
        runner.check_rights(self).await?;
        let functions = self.planned_steps().filter_map(Step::function);
        let secrets: Vec<String> = functions.flat_map(|it| it.secrets.iter().cloned()).collect();
        let checked = runner.secrets.check(&secrets).await;
        checked.map_err(|error| Error::other(&error))
    }

    /// Returns the first part of the plan of a step: the hash of its code, and its existing table
    /// or view.
    async fn existing(&self, index: usize) -> Result<StepPlan> {
        let step = &self.project.steps[index];
        let code = fingerprint::code(&self.project, step, &self.values);
        let mut found = StepPlan { code, ..StepPlan::default() };
        if step.is_materialized() {
            let (namespace, name) = (&step.table.namespace, &step.table.name);
            let table = self.view.find(namespace, name).await;
            found.table = table.map_err(|error| Error::other(&error))?.map(|(_, table)| table);
        }
        if step.is_view() {
            found.lake_view = self.existing_view(step).await?;
        }
        Ok(found)
    }

    async fn step(&self, index: usize, runner: &Runner) -> Result<StepPlan> {
        let step = &self.project.steps[index];
        let mut found = self.steps[index].clone();
        for input in &step.inputs {
            let (name, parent) = (input.table.to_string(), self.graph.model(input));
            let (state, schema, snapshot) = match parent {
                Some(parent) => (self.parent_state(step, input, parent).await?, None, None),
                None => self.lake_table(step, input, &mut found.tables).await?,
            };
            found.states.push(InputState { name, state, parent, snapshot });
            found.inputs.push(schema);
        }
        let states = found.states.iter().map(|input| (input.name.clone(), input.state.clone()));
        let mut states: Vec<(String, String)> = states.collect();
        // A row filter or column mask of the user changes the rows that a step reads. So the hash
        // of the user's filters and masks counts as a further input of the step.
        let digest = runner.access.as_ref().and_then(|access| access.restriction_digest());
        states.extend(digest.map(|digest| ("restrictions".to_owned(), digest)));
        states.extend(self.called_functions(step).await?);
        found.fingerprint = fingerprint::whole(&found.code, &states);
        self.check_view_inputs(index)?;
        self.check_owner(step, found.table.as_ref()).await?;
        self.check_quarantine_owner(step).await?;
        Ok(found)
    }

    /// Returns the record of a step. The records of the intermediate models that it reads must be
    /// complete.
    fn build_record(&self, index: usize) -> BuildRecord {
        let mut record = BuildRecord::of(&self.project, &self.values, &self.project.steps[index]);
        for InputState { name, state, parent, snapshot } in &self.steps[index].states {
            if let Some(parent) = parent {
                self.record_parent(*parent, state, &mut record);
            } else {
                let state = fingerprint::short_hash(state);
                record.inputs.insert(name.clone(), InputRecord { state, snapshot: *snapshot });
            }
        }
        record
    }

    /// Adds a model that a step reads to the record of the step. For an intermediate model, also
    /// adds everything that the model depends on.
    fn record_parent(&self, parent: usize, state: &str, record: &mut BuildRecord) {
        let (step, plan) = (&self.project.steps[parent], &self.steps[parent]);
        if step.is_materialized() {
            let input = InputRecord { state: fingerprint::short_hash(state), snapshot: None };
            record.inputs.insert(step.table.to_string(), input);
            return;
        }
        record.intermediate.insert(step.name.clone(), fingerprint::short_hash(&plan.code));
        record.intermediate.extend(plan.record.intermediate.clone());
        record.inputs.extend(plan.record.inputs.clone());
    }

    /// Returns a string that identifies the output of a model: the model's fingerprint. If the
    /// table keeps rows of earlier runs, the string also contains its snapshot, because other
    /// writers may change such a table.
    pub(crate) fn output_state(&self, index: usize) -> String {
        let plan = &self.steps[index];
        let accumulates = self.project.steps[index].materialization.accumulates();
        match &plan.table {
            Some(table)
                if accumulates
                    && plan.reason.is_none()
                    && snapshot_property(table, FINGERPRINT) != Some(&plan.fingerprint) =>
            {
                format!("{} {}", plan.fingerprint, table.metadata_location())
            }
            _ => plan.fingerprint.clone(),
        }
    }

    /// Returns the state, schema and snapshot of a lake table, or fails with `TableMissing`.
    async fn lake_table(
        &self,
        step: &Step,
        input: &StepInput,
        tables: &mut Vec<TableName>,
    ) -> Result<(String, Option<SchemaRef>, Option<i64>)> {
        if input.table.namespace == SYSTEM_NAMESPACE {
            // System tables change constantly, so a step that reads a system table always runs.
            return Ok((uuid::Uuid::new_v4().to_string(), None, None));
        }
        let other = match &input.reference {
            Some(reference) => {
                let lake = self.view.lake();
                Some(lake.view(reference).await.map_err(|error| Error::other(&error))?)
            }
            None => None,
        };
        let view = other.as_ref().unwrap_or(&self.view);
        let (namespace, name) = (&input.table.namespace, &input.table.name);
        let found = view.state().find(namespace, name).await;
        let found = found.map_err(|error| Error::other(&error))?;
        let Some((name, entry)) = found else {
            return Err(self.missing(view, step, input).await?);
        };
        if entry.is_view() {
            let found = self.lake_view(view, (step, input), name, tables).await;
            return found.map(|(state, schema)| (state, schema, None));
        }
        let table = view.load(&entry).await.map_err(|error| Error::other(&error))?;
        tables.push(name);
        let state = table.metadata_location().to_owned();
        Ok((state, Some(table.schema()), table.snapshot_id()))
    }

    /// Returns the states of the SQL functions that a step calls, by name.
    async fn called_functions(&self, step: &Step) -> Result<Vec<(String, String)>> {
        let namespace = &self.project.defaults.namespace;
        let called = headwater_engine::python_functions(&self.view, namespace, &step.calls).await;
        let mut called = called.map_err(|error| Error::other(&error))?;
        for query in conditions(step) {
            let other = headwater_engine::functions_below(&self.view, namespace, &query).await;
            called.extend(other.map_err(|error| Error::other(&error))?);
        }
        let called = called.into_iter();
        let states: BTreeMap<TableName, String> =
            called.map(|(name, entry)| (name, entry.metadata_location)).collect();
        Ok(states.into_iter().map(|(name, state)| (format!("function {name}"), state)).collect())
    }

    /// Returns the tables and views that models of this project write.
    fn models(&self) -> impl Iterator<Item = &TableName> {
        let steps = self.project.steps.iter();
        let models = steps.filter(|step| step.is_materialized() || step.is_view());
        models.map(|step| &step.table)
    }

    /// Returns a view's schema and its state, which combines the states of all tables it reads. A
    /// view that reads a model of this project is an error, because the view would return the rows
    /// from before the run.
    async fn lake_view(
        &self,
        view: &CommitView,
        (step, input): (&Step, &StepInput),
        name: TableName,
        tables: &mut Vec<TableName>,
    ) -> Result<(String, Option<SchemaRef>)> {
        let below = headwater_engine::tables_below(view, &name).await;
        let below = below.map_err(|error| Error::other(&error))?;
        if input.reference.is_none()
            && let Some(table) = self.models().find(|table| below.entries.contains_key(*table))
        {
            return Err(Error::ViewOfModel {
                step: step.name.clone(),
                at: input.at.clone(),
                view: name.to_string(),
                table: table.to_string(),
            });
        }
        let states = below.entries.values().map(|entry| entry.metadata_location.clone());
        let mut states: Vec<String> = states.collect();
        if below.elsewhere {
            // Changes of other refs and of system tables cannot be detected. A random state makes
            // the step run in every run.
            states.push(uuid::Uuid::new_v4().to_string());
        }
        let state = states.join(" ");
        let found = view.sql_view(&name).await.map_err(|error| Error::other(&error))?;
        tables.push(name);
        Ok((state, Some(found.schema())))
    }

    async fn missing(&self, view: &CommitView, step: &Step, input: &StepInput) -> Result<Error> {
        let tables = view.state().entries(None).await.map_err(|error| Error::other(&error))?;
        let mut names: Vec<String> = tables.iter().map(|(name, _)| name.to_string()).collect();
        names.extend(self.project.steps.iter().map(|step| step.table.to_string()));
        let name = input.table.to_string();
        let nearest = nearest(&name, names.iter().map(String::as_str));
        Ok(Error::TableMissing {
            step: step.name.clone(),
            reference: view.spec().to_string(),
            at: input.at.clone(),
            nearest,
            table: name,
        })
    }

    /// Returns the tables that the expectations of the plan check, directly or through intermediate
    /// models. The names are spelled as in the catalog state `view`, and the results of the
    /// expectations are valid only for the rows in this state.
    pub async fn checked_tables(&self, view: &CommitView) -> Result<BTreeSet<TableName>> {
        let steps = &self.project.steps;
        let mut next: Vec<usize> =
            (0..steps.len()).filter(|index| self.is_planned_check(*index)).collect();
        let mut seen = BTreeSet::new();
        let mut checked = BTreeSet::new();
        while let Some(index) = next.pop() {
            let fresh = self.graph.parents[index].iter().filter(|parent| seen.insert(**parent));
            for parent in fresh {
                let step = &steps[*parent];
                if !step.is_materialized() {
                    next.push(*parent);
                    continue;
                }
                let found = view.find(&step.table.namespace, &step.table.name).await;
                checked.extend(found.map_err(|error| Error::other(&error))?.map(|(name, _)| name));
            }
        }
        Ok(checked)
    }

    /// Returns true if any step runs or reuses a table.
    pub fn has_work(&self) -> bool {
        self.steps.iter().any(|step| step.reason.is_some() || step.reuses.is_some())
    }

    /// Returns the plan in the format of the API.
    pub fn listed(&self) -> RunPlan {
        let steps = self.listed_steps().map(|index| self.listed_step(index)).collect();
        RunPlan { project: self.project.name.clone(), steps, ..RunPlan::default() }
    }

    fn listed_step(&self, index: usize) -> PlannedStep {
        let (step, plan) = (&self.project.steps[index], &self.steps[index]);
        let parents: BTreeSet<String> =
            step.inputs.iter().map(|input| input.table.to_string()).collect();
        let materialization =
            (!step.is_expectation()).then(|| step.materialization.as_str().to_owned());
        let environment = match &step.body {
            StepCode::Sql(_) => None,
            StepCode::Python(function) => {
                Some(fingerprint::environment_text(&self.project.defaults, function))
            }
        };
        PlannedStep {
            name: step.name.clone(),
            kind: step.kind.as_str().to_owned(),
            file: step.at.file.to_string(),
            line: step.at.line,
            parents: parents.into_iter().collect(),
            tables: plan.tables.iter().map(ToString::to_string).collect(),
            materialization,
            environment,
            reason: plan.reason.map(str::to_owned),
            why: plan.why.clone(),
            reuses: plan.reuses.as_ref().map(|table| table.branch.clone()),
            tags: step.tags.clone(),
            rows_read: None,
            bytes_read: None,
            cost: None,
            columns: None,
        }
    }
}

/// Returns the filters of inputs and the row expectations of a step as queries, because they can
/// call functions too.
fn conditions(step: &Step) -> Vec<String> {
    let filtered = step.inputs.iter().filter(|input| input.filter.is_some()).map(StepInput::query);
    // A condition may end with an SQL line comment, so add the closing parenthesis on the next
    // line.
    let conditions = step.row_expectations.iter();
    let conditions = conditions.map(|one| format!("SELECT ({}\n)", one.condition));
    filtered.chain(conditions).collect()
}

/// Converts an engine error to an error with the location in the model's file.
pub(crate) fn sql_error(step: &Step, sql: &str, error: &headwater_engine::Error) -> Error {
    let source = SourceText::new(&step.at.file, sql);
    let at = headwater_project::located(&source, error);
    let problem = error.to_problem().with_file_excerpt(&step.at.file, sql);
    let step = step.name.clone();
    headwater_project::Error::Sql { step, at, problem: Box::new(problem) }.into()
}

/// Returns the branch that `view` shows. Fails if `reference`, the ref of the view, is not a
/// branch.
pub(crate) fn branch_of(view: &CommitView, reference: &RefSpec) -> Result<String> {
    view.branch()
        .map(str::to_owned)
        .ok_or_else(|| Error::NotABranch { reference: reference.to_string() })
}
