//! Runs unit tests.
//!
//! Tests are defined in YAML files in the folder `tests` of a project. A test does not access
//! tables of the lake: it must give the rows of every table that its model reads.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use futures::TryStreamExt;
use headwater_engine::{PreparedStatement, RecordBatches, Session, SessionOptions};
use headwater_functions::{
    Argument, ArgumentValue, CallOwner, FunctionResult, OptionalCallParts, ResultKind, ReuseScope,
    SharedTable,
};
use headwater_jobs::JobContext;
use headwater_model::{
    ErrorCode, JobEventKind, Problem, RefSpec, RunReport, RunRequest, StepReport, StepStatus,
    ToProblem, Usage,
};
use headwater_project::selector::{SelectionContext, Selectors, StepState};
use headwater_project::unit_test::{self, ExpectedResult, UnitTest};
use headwater_project::{PythonFunction, Step, StepCode, StepGraph, StepInput};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{compare, given_rows};
use crate::environment_spec::environment_spec;
use crate::function_secrets::FunctionSecrets;
use crate::invocation::FunctionCall;
use crate::parse::parse_project;
use crate::{Error, Project, Result, Runner};

/// The rows of a tested model, or the result of a tested expectation.
enum StepResult {
    Rows(Vec<RecordBatch>),
    Bool(bool),
}

/// A test, prepared to run: the tested step, its parameter values, and a session with its inputs.
struct TestCase<'a> {
    test: &'a UnitTest,
    /// The project, reduced to the tested step.
    project: Project,
    values: BTreeMap<String, Value>,
    session: Session,
}

impl Runner {
    /// Runs the unit tests of a project, or of its selected models. Fails with `expectation_failed`
    /// if a test fails. Before the first test, checks the secrets and the memory of the functions,
    /// like a run.
    pub async fn test(&self, request: RunRequest, context: JobContext) -> Result<RunReport> {
        let project = parse_project(&request.files)?.into_runnable()?;
        let tests = selected(&project, unit_test::read(&project.files)?, &request)?;
        // A test without a model fails below, with its reason.
        for step in tests.iter().filter_map(|test| test.step(&project).ok()) {
            self.check_function(&project, step)?;
        }
        let mut reports = Vec::new();
        for test in &tests {
            if context.cancelled().is_cancelled() {
                return Err(cancelled());
            }
            context.emit(JobEventKind::StepStarted { step: test.name.clone() });
            let report = Box::pin(self.test_one(&project, test, &request, &context)).await;
            context.add_usage(&report.usage);
            context.emit(JobEventKind::StepEnded { report: Box::new(report.clone()) });
            reports.push(report);
        }
        finished(&project, reports)
    }

    async fn test_one(
        &self,
        project: &Project,
        test: &UnitTest,
        request: &RunRequest,
        context: &JobContext,
    ) -> StepReport {
        let (began, mut usage) = (std::time::Instant::now(), Usage::default());
        let outcome = async {
            let case = self.case(project, test, request).await?;
            let actual = Box::pin(self.actual(&case, context, &mut usage)).await?;
            check(test, &actual)
        };
        let error = outcome.await.err().map(|error| error.to_problem());
        usage.wall_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
        StepReport {
            reuses: None,
            reasons: Vec::new(),
            step: test.name.clone(),
            kind: "test".to_owned(),
            status: if error.is_some() { StepStatus::Failed } else { StepStatus::Succeeded },
            rows: None,
            quarantined: None,
            preview: None,
            cost: project.rates.cost(&usage),
            usage,
            error,
        }
    }

    /// Prepares a test: a session in which the inputs of the step are registered with the given
    /// rows.
    async fn case<'a>(
        &self,
        project: &Project,
        test: &'a UnitTest,
        request: &RunRequest,
    ) -> Result<TestCase<'a>> {
        let step = test.step(project)?;
        let project = Project { steps: vec![step.clone()], ..project.clone() };
        let texts = test.parameters.iter().map(|(name, value)| (name.clone(), text(value)));
        let values = project.parameter_values(&texts.collect())?;
        let options = SessionOptions {
            reference: request.reference.clone().unwrap_or_else(RefSpec::main),
            namespace: project.defaults.namespace.clone(),
            access: self.access.clone(),
            ..SessionOptions::default()
        };
        let session = self.engine.session(options).map_err(|error| Error::other(&error))?;
        for (input, given) in test.inputs(step)? {
            let batch = given_rows::batch(&session, given).await.map_err(|error| {
                test.invalid(format!("the given rows of `{}` cannot be read: {error}", input.table))
            })?;
            let rows = RecordBatches { schema: batch.schema(), batches: vec![batch] };
            let name = registered_name(&project, input);
            session.register(&name, &rows).map_err(|error| Error::other(&error))?;
        }
        Ok(TestCase { test, project, values, session })
    }

    async fn actual(
        &self,
        case: &TestCase<'_>,
        context: &JobContext,
        usage: &mut Usage,
    ) -> Result<StepResult> {
        let step = &case.project.steps[0];
        match &step.body {
            StepCode::Sql(sql) => {
                let failed = |error| crate::plan::sql_error(step, sql, &error);
                let query =
                    PreparedStatement::parse(sql).and_then(|query| query.bind(&case.values));
                let query = query.map_err(|error| failed(error.into()))?;
                let answer = Box::pin(case.session.select(query)).await.map_err(failed)?;
                let rows = answer.stream.try_collect().await.map_err(failed)?;
                Ok(StepResult::Rows(rows))
            }
            StepCode::Python(function) => {
                Box::pin(self.returned(case, function, context, usage)).await
            }
        }
    }

    async fn returned(
        &self,
        case: &TestCase<'_>,
        function: &PythonFunction,
        context: &JobContext,
        usage: &mut Usage,
    ) -> Result<StepResult> {
        let step = &case.project.steps[0];
        let failed = |fault: &dyn ToProblem| crate::run::Run::failed(step, None, fault);
        let spec = environment_spec(&case.project.defaults, function);
        let environment = self.install_environment(&spec, Some(&case.test.name), context).await;
        let defaults = &case.project.defaults;
        let call = FunctionCall {
            project: &case.project,
            function,
            environment: environment.map_err(|error| failed(&error))?,
            arguments: Box::pin(self.arguments_of(case, step)).await?,
            returns: if step.is_expectation() { ResultKind::Bool } else { ResultKind::Table },
            limits: function.limits(defaults, step.memory_bytes, step.timeout),
            secrets: FunctionSecrets::read(&self.secrets, function).await?,
            label: &step.name,
            model: Some(&case.test.name),
            share: CallOwner {
                owner: format!("test `{}`", context.id().short()).into(),
                job: Some(context.id()),
                priority: function.priority(defaults),
            },
            reuse: ReuseScope::Never,
            start_until: CancellationToken::new(),
            lake: None,
            client: OptionalCallParts::default(),
            early_result: None,
        };
        let outcome = Box::pin(self.invoke(call, context, context.cancelled())).await;
        usage.add(&outcome.usage);
        match outcome.returned.map_err(|error| failed(&error))? {
            FunctionResult::Table(table) => {
                let rows = table.stream().try_collect().await;
                rows.map(StepResult::Rows)
                    .map_err(|error| failed(&headwater_functions::Error::Arrow(error)))
            }
            FunctionResult::Bool(passed) => Ok(StepResult::Bool(passed)),
            // Cannot occur: the worker rejects JSON results of models and expectations.
            FunctionResult::Json(_) => Ok(StepResult::Rows(Vec::new())),
        }
    }

    async fn arguments_of(&self, case: &TestCase<'_>, step: &Step) -> Result<Vec<Argument>> {
        let mut arguments = Vec::new();
        for input in &step.inputs {
            let Some(name) = input.argument.clone() else { continue };
            let table = Box::pin(self.input_rows(case, step, input)).await?;
            let whole = if input.batches { ArgumentValue::Batches } else { ArgumentValue::Table };
            arguments.push(Argument { name, value: whole(table) });
        }
        for parameter in &step.parameters {
            let Some(name) = parameter.argument.clone() else { continue };
            let value = ArgumentValue::Json(case.values[&parameter.name].clone());
            arguments.push(Argument { name, value });
        }
        Ok(arguments)
    }

    /// Returns the given rows of an input, with its column selection and filter applied.
    async fn input_rows(
        &self,
        case: &TestCase<'_>,
        step: &Step,
        input: &StepInput,
    ) -> Result<SharedTable> {
        let at = || Some(input.at.clone());
        let failed = |error: headwater_engine::Error| crate::run::Run::failed(step, at(), &error);
        let query =
            PreparedStatement::parse(&input.query()).and_then(|query| query.bind(&case.values));
        let query = query.map_err(|error| failed(error.into()))?;
        let answer = Box::pin(case.session.select(query)).await.map_err(failed)?;
        let schema = answer.schema;
        let rows: Vec<RecordBatch> = answer.stream.try_collect().await.map_err(failed)?;
        let table = SharedTable::write(schema, rows.into_iter().map(Ok));
        table.map_err(|error| crate::run::Run::failed(step, at(), &error))
    }
}

/// Returns the tests of the selected models.
fn selected(
    project: &Project,
    tests: Vec<UnitTest>,
    request: &RunRequest,
) -> Result<Vec<UnitTest>> {
    if request.select.is_empty() && request.exclude.is_empty() {
        return Ok(tests);
    }
    let graph = StepGraph::new(project)?;
    let selectors = Selectors::parse(&request.select, &request.exclude)?;
    if selectors.needs_results() {
        let message = "`result:` cannot select unit tests, because it refers to runs";
        let problem = Problem::new(ErrorCode::InvalidArgument, message);
        return Err(problem.with_hint("Select the tests by the names of their models.").into());
    }
    let states = vec![StepState::Same; project.steps.len()];
    let tables = vec![true; project.steps.len()];
    let results = BTreeMap::new();
    let (graph, states, tables, results) = (&graph, &states, &tables, &results);
    let selection =
        selectors.resolve(&SelectionContext { project, graph, states, tables, results })?;
    let mut chosen = Vec::new();
    for test in tests {
        let step = test.step(project)?;
        let at = project.steps.iter().position(|one| one.name == step.name);
        if at.is_some_and(|at| selection.chosen[at]) {
            chosen.push(test);
        }
    }
    Ok(chosen)
}

fn check(test: &UnitTest, actual: &StepResult) -> Result<()> {
    let difference = match (&test.expect, actual) {
        (ExpectedResult::Passes(expected), StepResult::Bool(actual)) if expected == actual => {
            Vec::new()
        }
        (ExpectedResult::Passes(expected), StepResult::Bool(actual)) => {
            vec![format!("expected {expected}, got {actual}")]
        }
        (ExpectedResult::Rows(expected), StepResult::Rows(actual)) => {
            compare::differences(expected, actual).map_err(|error| test.invalid(error))?
        }
        (ExpectedResult::Passes(_), StepResult::Rows(_)) => {
            let message = "`expect` must be rows, because the test is of a model".to_owned();
            return Err(test.invalid(message).into());
        }
        (ExpectedResult::Rows(_), StepResult::Bool(_)) => {
            let message =
                "`expect` must be `true` or `false`, because the test is of an expectation";
            return Err(test.invalid(message.to_owned()).into());
        }
    };
    if difference.is_empty() {
        return Ok(());
    }
    let message = format!("test `{}` of `{}` failed ({})", test.name, test.model.value, test.file);
    let mut problem = Problem::new(ErrorCode::ExpectationFailed, message);
    problem.causes = difference;
    Err(problem.with_hint("Correct the model, or the expected rows.").into())
}

fn finished(project: &Project, steps: Vec<StepReport>) -> Result<RunReport> {
    let failures: Vec<&Problem> = steps.iter().filter_map(|step| step.error.as_ref()).collect();
    if let Some(first) = failures.first() {
        let message = format!("{} of {} tests failed", failures.len(), steps.len());
        let same = failures.iter().all(|failure| failure.code == first.code);
        let code = if same { first.code } else { ErrorCode::ExpectationFailed };
        let mut problem = Problem::new(code, message);
        let listed = |failure: &&Problem| {
            let causes = failure.causes.iter().map(|cause| format!("  {cause}"));
            std::iter::once(failure.message.clone()).chain(causes).collect::<Vec<_>>().join("\n")
        };
        problem.causes = failures.iter().map(listed).collect();
        return Err(problem.into());
    }
    let mut usage = Usage::default();
    for step in &steps {
        usage.add(&step.usage);
    }
    Ok(RunReport {
        project: project.name.clone(),
        branch: String::new(),
        run_branch: String::new(),
        commit: None,
        tables: Vec::new(),
        conflicts: Vec::new(),
        merge: None,
        cost: steps.iter().fold(0.0, |sum, step| sum + step.cost),
        currency: project.rates.currency.clone(),
        steps,
        usage,
    })
}

fn cancelled() -> Error {
    Problem::new(ErrorCode::Cancelled, "the tests were stopped").into()
}

/// Returns the name under which an input's rows are registered in a session.
fn registered_name(project: &Project, input: &StepInput) -> String {
    if input.table.namespace == project.defaults.namespace {
        return input.table.name.clone();
    }
    format!("{}.{}", input.table.namespace, input.table.name)
}

/// Formats a value in the form that the command line accepts.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
