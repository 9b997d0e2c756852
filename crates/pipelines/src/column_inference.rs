//! Infers the columns of steps before a run, and checks them.
//!
//! Columns are known for lake tables and for SQL models over known columns. For a Python model,
//! only the declared names are known. A step that reads a column that cannot exist is an error.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use headwater_engine::{PreparedStatement, QueryColumns, Session, SessionOptions};
use headwater_model::name::quoted;
use headwater_model::{ErrorCode, ToProblem};
use headwater_project::{
    Error as ProjectError, PythonFunction, Step, StepCode, StepInput, check_memory,
    may_name_version, unknown_name_hints,
};
use headwater_tables::{SqlView, Table, Tables};

use crate::checked_query_cache::CheckedQuery;
use crate::declared_columns::{check_distinct_names, declared_schema, type_differences};
use crate::environment_spec::EnvironmentConsumer;
use crate::plan::{Plan, sql_error};
use crate::{Error, Location, Result, Runner};

/// Known columns of a step's output.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum OutputColumns {
    /// The columns are not known before the run.
    #[default]
    Unknown,
    /// Column names.
    Names(Vec<String>),
    /// Column names and types.
    Typed(SchemaRef),
}

impl OutputColumns {
    fn names(&self) -> Option<Vec<&str>> {
        match self {
            OutputColumns::Unknown => None,
            OutputColumns::Names(names) => Some(names.iter().map(String::as_str).collect()),
            OutputColumns::Typed(schema) => {
                Some(schema.fields().iter().map(|field| field.name().as_str()).collect())
            }
        }
    }

    /// Returns a schema for planning; `None` if the columns are not known. Columns of unknown type
    /// have the type `Null`.
    pub(crate) fn to_plan_with(&self) -> Option<SchemaRef> {
        let untyped = |name: &String| Field::new(name, DataType::Null, true);
        match self {
            OutputColumns::Unknown => None,
            OutputColumns::Names(names) => {
                Some(Arc::new(Schema::new(names.iter().map(untyped).collect::<Vec<_>>())))
            }
            OutputColumns::Typed(schema) => Some(Arc::clone(schema)),
        }
    }

    pub(crate) const fn is_typed(&self) -> bool {
        matches!(self, OutputColumns::Typed(_))
    }
}

/// Index of a checked step, its columns and, for an SQL step, the columns of its query.
type CheckedStepColumns = (usize, OutputColumns, Option<QueryColumns>);

/// Inputs of a query with the columns known before the run.
#[derive(Clone, Copy, Default)]
struct KnownInputColumns<'a> {
    inputs: &'a [StepInput],
    columns: &'a [OutputColumns],
}

impl Plan {
    /// Checks every step that runs against its input columns. A step is checked after the steps
    /// that it reads. Steps of the same level of the graph are checked in parallel.
    pub(crate) async fn check(mut self, runner: &Runner) -> Result<Plan> {
        for level in self.graph.levels() {
            let (running, unchanged): (Vec<usize>, Vec<usize>) =
                level.into_iter().partition(|index| self.steps[*index].reason.is_some());
            // An unchanged step needs no check, because it was checked when it ran.
            for index in unchanged {
                self.steps[index].columns = self.table_columns(index);
            }
            if running.is_empty() {
                continue;
            }
            let shared = Arc::new(self);
            let size = running.len().div_ceil(runner.engine.thread_count());
            let tasks = running
                .chunks(size)
                .map(|steps| Arc::clone(&shared).check_steps(runner.clone(), steps.to_vec()));
            let checked = runner.engine.plan_all(tasks.collect::<Vec<_>>()).await;
            let checked: Vec<Vec<CheckedStepColumns>> = checked
                .map_err(|error| Error::other(&error))?
                .into_iter()
                .collect::<Result<_>>()?;
            self = Arc::unwrap_or_clone(shared);
            for (index, columns, query) in checked.into_iter().flatten() {
                self.describe(index, query.as_ref());
                self.steps[index].columns = columns;
            }
        }
        Ok(self)
    }

    async fn check_steps(
        self: Arc<Self>,
        runner: Runner,
        steps: Vec<usize>,
    ) -> Result<Vec<CheckedStepColumns>> {
        let mut checked = Vec::with_capacity(steps.len());
        for index in steps {
            let (columns, query) = self.check_step(&runner, index).await?;
            checked.push((index, columns, query));
        }
        Ok(checked)
    }

    fn table_columns(&self, index: usize) -> OutputColumns {
        let plan = &self.steps[index];
        let table = plan.table.as_ref().map(Table::schema);
        let schema = table.or_else(|| plan.lake_view.as_ref().map(SqlView::schema));
        schema.map_or(OutputColumns::Unknown, OutputColumns::Typed)
    }

    /// Checks a step. Returns its columns and, for an SQL step, the columns of its query.
    async fn check_step(
        &self,
        runner: &Runner,
        index: usize,
    ) -> Result<(OutputColumns, Option<QueryColumns>)> {
        let step = &self.project.steps[index];
        let inputs: Vec<OutputColumns> =
            (0..step.inputs.len()).map(|input| self.input_columns(index, input)).collect();
        for (input, columns) in step.inputs.iter().zip(&inputs) {
            check_names(step, input, columns)?;
        }
        check_lineage(step, &inputs)?;
        let mut query = None;
        let given = match &step.body {
            StepCode::Sql(sql) => {
                let checked = self.check_query(runner, index, sql, inputs).await?;
                query.clone_from(&checked.query);
                checked.output.clone()
            }
            StepCode::Python(function) => {
                check_memory(&self.project.defaults, step)?;
                self.check_environment(runner, step, function)?;
                for (input, columns) in step.inputs.iter().zip(&inputs) {
                    self.check_filter(runner, step, input, columns).await?;
                }
                declared_columns(step)
            }
        };
        check_output(step, &given)?;
        let given = with_declared_types(step, given);
        self.check_row_expectations(runner, step, &given).await?;
        self.check_overwrite_filter(runner, index).await?;
        self.check_increments(index).await?;
        Ok((self.with_table(index, given), query))
    }

    /// Plans the query of a SQL model, unless an earlier plan has checked it with the same inputs.
    async fn check_query(
        &self,
        runner: &Runner,
        index: usize,
        sql: &str,
        inputs: Vec<OutputColumns>,
    ) -> Result<Arc<CheckedQuery>> {
        let (step, plan) = (&self.project.steps[index], &self.steps[index]);
        // Do not use the cache if tables are hidden from the user, because planning checks the
        // access to each table. Also do not use it if the query may read an earlier version of a
        // table, because the fingerprint does not cover such versions.
        let must_plan = runner.access.as_ref().is_some_and(|access| access.is_limited())
            || may_name_version(sql);
        if !must_plan && let Some(checked) = runner.checked.find(&plan.fingerprint, &inputs) {
            return Ok(checked);
        }
        let known = KnownInputColumns { inputs: &step.inputs, columns: &inputs };
        let (output, query) = self.plan_query(runner, step, sql, known).await?;
        check_distinct_names(step, output.names().unwrap_or_default())?;
        let checked = Arc::new(CheckedQuery { inputs, output, query });
        if !must_plan {
            runner.checked.insert(&plan.fingerprint, Arc::clone(&checked));
        }
        Ok(checked)
    }

    /// Checks that the Python version, packages and programs of a function can be installed.
    fn check_environment(
        &self,
        runner: &Runner,
        step: &Step,
        function: &PythonFunction,
    ) -> Result<()> {
        let defaults = &self.project.defaults;
        let spec = self.pinned.spec(runner, defaults, function);
        if runner.environments.find(&runner.functions, &spec).is_some() {
            return Ok(());
        }
        EnvironmentConsumer { name: &step.name, at: &step.at, function, defaults }
            .check(&runner.functions, &spec)
    }

    fn input_columns(&self, index: usize, input: usize) -> OutputColumns {
        match self.graph.model(&self.project.steps[index].inputs[input]) {
            Some(parent) => self.steps[parent].columns.clone(),
            None => self.steps[index].inputs[input]
                .clone()
                .map_or(OutputColumns::Unknown, OutputColumns::Typed),
        }
    }

    /// Returns the columns of an input that a Python step reads: the selected columns or, if none
    /// are selected, all known columns.
    pub(crate) fn columns_read(&self, index: usize, input: usize) -> Vec<String> {
        if let Some(columns) = &self.project.steps[index].inputs[input].columns {
            return columns.clone();
        }
        let known = self.input_columns(index, input);
        known.names().unwrap_or_default().into_iter().map(str::to_owned).collect()
    }

    /// Adds the existing columns of a model's table to the model's columns, if the table keeps rows
    /// of earlier runs.
    fn with_table(&self, index: usize, given: OutputColumns) -> OutputColumns {
        let accumulates = self.project.steps[index].materialization.accumulates();
        let Some(table) = self.steps[index].table.as_ref().filter(|_| accumulates) else {
            return given;
        };
        let schema = table.schema();
        match given {
            OutputColumns::Unknown => OutputColumns::Unknown,
            OutputColumns::Names(mut names) => {
                names.extend(schema.fields().iter().map(|field| field.name().clone()));
                names.sort();
                names.dedup();
                OutputColumns::Names(names)
            }
            OutputColumns::Typed(given) => {
                let new = given.fields().iter().filter(|new| schema.index_of(new.name()).is_err());
                let fields: Vec<_> = schema.fields().iter().chain(new).cloned().collect();
                OutputColumns::Typed(Arc::new(Schema::new(fields)))
            }
        }
    }

    /// Checks that the row filter of a Python input is a valid condition over the input's columns.
    async fn check_filter(
        &self,
        runner: &Runner,
        step: &Step,
        input: &StepInput,
        columns: &OutputColumns,
    ) -> Result<()> {
        if input.filter.is_none() {
            return Ok(());
        }
        let (inputs, columns) = (std::slice::from_ref(input), std::slice::from_ref(columns));
        let inputs = KnownInputColumns { inputs, columns };
        let checked = self.plan_query(runner, step, &input.query(), inputs).await;
        checked.map(|_| ()).map_err(|error| without_position(error, &input.at))
    }

    /// Checks that the overwrite filter of a model, if any, is a valid condition over its table.
    async fn check_overwrite_filter(&self, runner: &Runner, index: usize) -> Result<()> {
        let step = &self.project.steps[index];
        let (Some(filter), Some(_)) = (&step.overwrite_filter, &self.steps[index].table) else {
            return Ok(());
        };
        let query = format!("SELECT 1 FROM {} WHERE {filter}", quoted(&step.table.to_string()));
        let checked = self.plan_query(runner, step, &query, KnownInputColumns::default()).await;
        checked.map(|_| ()).map_err(|error| without_position(error, &step.at))
    }

    /// Plans a query and returns its columns. Returns unknown columns if the columns of any input
    /// are unknown.
    async fn plan_query(
        &self,
        runner: &Runner,
        step: &Step,
        sql: &str,
        given: KnownInputColumns<'_>,
    ) -> Result<(OutputColumns, Option<QueryColumns>)> {
        let KnownInputColumns { inputs, columns } = given;
        let session = self.planning_session(runner)?;
        let mut typed = true;
        for (input, columns) in inputs.iter().zip(columns) {
            if self.graph.model(input).is_none() {
                continue; // The session finds lake tables itself.
            }
            let Some(schema) = columns.to_plan_with() else {
                return Ok((OutputColumns::Unknown, None));
            };
            typed &= columns.is_typed();
            let name = self.registered_name(input);
            let registered = session.register_empty(&name, schema);
            registered.map_err(|error| Error::other(&error))?;
        }
        let planned = match PreparedStatement::parse(sql).and_then(|query| query.bind(&self.values))
        {
            Ok(query) => session.columns_of(query).await,
            Err(error) => Err(error.into()),
        };
        match planned {
            Ok(query) if typed => Ok((OutputColumns::Typed(query.schema.clone()), Some(query))),
            Ok(query) => {
                let names = query.schema.fields().iter().map(|field| field.name().clone());
                Ok((OutputColumns::Names(names.collect()), Some(query)))
            }
            // Some column types are placeholders, which can cause errors that the run does not
            // have. Only a missing column is certainly an error.
            Err(error) if !typed && error.code() != ErrorCode::ColumnNotFound => {
                Ok((OutputColumns::Unknown, None))
            }
            Err(error) => Err(sql_error(step, sql, &error).with_parameters(&self.values)),
        }
    }

    pub(crate) fn planning_session(&self, runner: &Runner) -> Result<Session> {
        let options = SessionOptions {
            reference: self.view.spec().clone(),
            namespace: self.project.defaults.namespace.clone(),
            view: Some(self.view.clone()),
            access: runner.access.clone(),
            ..SessionOptions::default()
        };
        runner.engine.session(options).map_err(|error| Error::other(&error))
    }

    /// Returns the name under which a model's rows are registered in a session.
    pub(crate) fn registered_name(&self, input: &StepInput) -> String {
        let table = &input.table;
        if table.namespace == self.project.defaults.namespace {
            table.name.clone()
        } else {
            format!("{}.{}", table.namespace, table.name)
        }
    }
}

/// Returns the declared columns of a model if its columns have no known types and the declaration
/// contains all types. Otherwise returns `given`.
fn with_declared_types(step: &Step, given: OutputColumns) -> OutputColumns {
    match declared_schema(&step.contract) {
        Some(schema) if !given.is_typed() => OutputColumns::Typed(Arc::new(schema)),
        _ => given,
    }
}

/// Returns the columns that a Python model declares.
fn declared_columns(step: &Step) -> OutputColumns {
    if let Some(schema) = declared_schema(&step.contract) {
        return OutputColumns::Typed(Arc::new(schema));
    }
    step.columns.clone().map_or(OutputColumns::Unknown, OutputColumns::Names)
}

/// Checks that the output columns of a model match its declaration. The types are checked if
/// `schema` contains them.
pub(crate) fn check_declared(step: &Step, given: &[&str], schema: Option<&Schema>) -> Result<()> {
    let mut differences = Vec::new();
    if let Some(declared) = &step.columns {
        let missing = declared.iter().filter(|name| !given.contains(&name.as_str()));
        differences.extend(missing.map(|name| format!("`{name}` is missing")));
        let more = given.iter().filter(|name| !declared.iter().any(|known| known == *name));
        differences.extend(more.map(|name| format!("`{name}` is not declared")));
    }
    let types = schema.map(|schema| type_differences(&step.contract, schema));
    differences.extend(types.into_iter().flatten());
    let difference = differences.join(", ");
    if difference.is_empty() {
        return Ok(());
    }
    Err(Error::DeclaredColumns { step: step.name.clone(), at: step.at.clone(), difference })
}

/// Checks that the known columns of a model contain its keys and partition columns, and have types
/// that tables support.
fn check_output(step: &Step, columns: &OutputColumns) -> Result<()> {
    let Some(known) = columns.names() else { return Ok(()) };
    let schema = if let OutputColumns::Typed(schema) = columns { Some(&**schema) } else { None };
    check_declared(step, &known, schema)?;
    if !step.is_materialized() {
        return Ok(());
    }
    for key in &step.keys {
        if !known.iter().any(|name| name.eq_ignore_ascii_case(key)) {
            let message =
                format!("`{}` does not return column `{key}`, which is one of its keys", step.name);
            let hint = unknown_name_hints::hint(key, known, "columns");
            return Err(Error::invalid(step.at.clone(), message, hint));
        }
    }
    for field in &step.partition_by {
        if !known.iter().any(|name| name.eq_ignore_ascii_case(&field.column)) {
            let message = format!(
                "`{}` is partitioned by `{field}`, but does not return column `{}`",
                step.name, field.column
            );
            let hint = unknown_name_hints::hint(&field.column, known, "columns");
            return Err(Error::invalid(step.partition_at.clone(), message, hint));
        }
    }
    let OutputColumns::Typed(schema) = columns else { return Ok(()) };
    let refused = |at: &Location, error: headwater_tables::Error| {
        let message = format!("the table of `{}` cannot be created: {error}", step.name);
        ProjectError::Invalid { at: at.clone(), message, hint: error.hint() }.into()
    };
    Tables::check(schema, &[]).map_err(|error| refused(&step.at, error))?;
    if step.partition_by.is_empty() {
        return Ok(());
    }
    Tables::check(schema, &step.partition_by).map_err(|error| refused(&step.partition_at, error))
}

/// Replaces the position in an error of a condition by the location of the condition, because
/// positions in the generated query mean nothing to the user.
pub(crate) fn without_position(error: Error, at: &Location) -> Error {
    match error {
        Error::Project(ProjectError::Sql { step, mut problem, .. }) => {
            let place = problem.message.rfind(" (line ").unwrap_or(problem.message.len());
            problem.message.truncate(place);
            problem.context.remove("column");
            problem.context.remove("excerpt");
            ProjectError::Sql { step, at: at.clone(), problem }.into()
        }
        other => other,
    }
}

/// Checks that the input has the columns that a Python step selects, with the declared types.
fn check_names(step: &Step, input: &StepInput, columns: &OutputColumns) -> Result<()> {
    let Some(known) = columns.names() else { return Ok(()) };
    for column in input.columns.iter().flatten() {
        if !known.iter().any(|name| name.eq_ignore_ascii_case(column)) {
            return Err(Error::ColumnMissing {
                step: step.name.clone(),
                table: input.table.to_string(),
                column: column.clone(),
                at: input.at.clone(),
                hint: unknown_name_hints::hint(column, known, "columns"),
            });
        }
    }
    let OutputColumns::Typed(schema) = columns else { return Ok(()) };
    let difference = type_differences(&input.contract, schema).join(", ");
    if difference.is_empty() {
        return Ok(());
    }
    let message = format!(
        "the schema that `{}` declares for its input `{}` does not match the table: {difference}",
        step.name, input.table
    );
    Err(Error::invalid(input.at.clone(), message, "Correct the types in the schema."))
}

/// Checks that the inputs of a Python model have the columns that the model declares as the sources
/// of its own columns.
fn check_lineage(step: &Step, columns: &[OutputColumns]) -> Result<()> {
    for source in step.lineage.values().flatten() {
        let known = columns.get(source.input).and_then(OutputColumns::names);
        let Some((input, known)) = step.inputs.get(source.input).zip(known) else { continue };
        if !known.iter().any(|name| name.eq_ignore_ascii_case(&source.column)) {
            return Err(Error::ColumnMissing {
                step: step.name.clone(),
                table: input.table.to_string(),
                column: source.column.clone(),
                at: input.at.clone(),
                hint: unknown_name_hints::hint(&source.column, known, "columns"),
            });
        }
    }
    Ok(())
}
