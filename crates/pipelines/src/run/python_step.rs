//! Python steps: creates the environment, passes inputs in shared memory, invokes the function and
//! stores its rows.

use std::sync::Arc;
use std::time::Instant;

use futures::StreamExt;
use headwater_engine::PreparedStatement;
use headwater_functions::Error as FunctionError;
use headwater_functions::{
    Argument, ArgumentValue, CallOwner, EarlyResultSender, Environment, FunctionResult,
    OptionalCallParts, ResultKind, ReuseScope, SharedTable, StreamedInput,
};
use headwater_project::{PythonFunction, Retries, Step};
use tokio_util::sync::CancellationToken;

use super::input_query::InputQuery;
use super::step_output::StepOutput;
use super::{ExpectationResult, Run, StepProgress, millis};
use crate::declared_columns::{NullCounts, count_nulls, forbids_nulls, has_nulls};
use crate::function_secrets::FunctionSecrets;
use crate::invocation::FunctionCall;
use crate::{Error, Location, ParameterKind, Result, run_environments};

impl Run {
    pub(super) async fn compute_python(
        &self,
        index: usize,
        function: &PythonFunction,
        done: &mut StepProgress,
    ) -> Result<()> {
        let step = &self.plan.project.steps[index];
        let asked = Instant::now();
        let environment = self.unless_cancelled(self.environment(step, function)).await;
        done.usage.environment_ms = millis(asked);
        let environment = environment?;
        self.packages.lock().insert(step.name.clone(), environment.packages.clone());
        self.record_environment(function, &environment);
        let secrets = FunctionSecrets::read(&self.runner.secrets, function).await?;
        let inputs = Box::pin(self.arguments(step, &secrets, done));
        let (arguments, meanwhile) = self.unless_cancelled(inputs).await?;
        let mut arguments = arguments;
        let mut repetition = 0;
        let returned = loop {
            let again = repetition < function.retries.count;
            let arguments = if again { arguments.clone() } else { std::mem::take(&mut arguments) };
            let mut call = self.function_call(step, function, environment.clone(), arguments);
            call.secrets = secrets.clone();
            if repetition > 0 {
                // Do not reuse the process, because the failed call may have left global variables
                // in a wrong state.
                call.reuse = ReuseScope::Never;
            }
            let (sender, result) = EarlyResultSender::new();
            call.early_result = Some(sender);
            let mut invoked = Box::pin(self.runner.invoke(call, &self.context, self.stop.clone()));
            let outcome = tokio::select! {
                biased;
                outcome = &mut invoked => outcome,
                Ok(result) = result => {
                    // The steps that read the result can start while the process exits, before the
                    // usage of the process is known.
                    let stored = self.store_early(index, result, done);
                    let (stored, outcome) = tokio::join!(stored, invoked);
                    done.usage.add(&outcome.usage);
                    return stored;
                }
            };
            for reading in &meanwhile {
                reading.count(done);
            }
            done.usage.add(&outcome.usage);
            match outcome.returned {
                Err(error) if again && is_transient(&error) => {
                    repetition += 1;
                    let (retries, error) = (function.retries, error.to_string());
                    self.wait_for_retry(step, retries, repetition, &error).await?;
                }
                returned => break returned,
            }
        };
        match returned {
            Ok(result) => self.store_result(index, result, done).await?,
            Err(error) if step.is_expectation() && asserts(&error) => {
                done.check = Some(ExpectationResult::Failed(Some(Box::new(Self::problem(&error)))));
            }
            Err(error) => return Err(Self::call_error(step, &error, &meanwhile)),
        }
        Ok(())
    }

    /// Stores the result of a step whose process has not exited, and lets the steps that read the
    /// result start.
    async fn store_early(
        &self,
        index: usize,
        result: FunctionResult,
        done: &mut StepProgress,
    ) -> Result<()> {
        self.store_result(index, result, done).await?;
        self.release(index, done);
        Ok(())
    }

    /// Checks and stores the result of a function.
    async fn store_result(
        &self,
        index: usize,
        result: FunctionResult,
        done: &mut StepProgress,
    ) -> Result<()> {
        let step = &self.plan.project.steps[index];
        match result {
            FunctionResult::Bool(true) => done.check = Some(ExpectationResult::Passed),
            FunctionResult::Bool(false) => done.check = Some(ExpectationResult::Failed(None)),
            FunctionResult::Table(table) => Box::pin(self.keep(index, step, table, done)).await?,
            // Cannot occur: the worker rejects JSON results of models and expectations.
            FunctionResult::Json(_) => {}
        }
        Ok(())
    }

    /// Logs a failure that may be transient, and waits before the next attempt.
    pub(super) async fn wait_for_retry(
        &self,
        step: &Step,
        retries: Retries,
        repetition: u32,
        error: &str,
    ) -> Result<()> {
        let (wait, count) = (retries.wait(repetition), retries.count);
        let seconds = wait.as_secs_f64();
        self.log(step, format!("retry {repetition} of {count} in {seconds} s: {error}"));
        self.unless_cancelled(async {
            tokio::time::sleep(wait).await;
            Ok(())
        })
        .await
    }

    /// Returns the error of a failed call. If an input stream failed, returns the error of this
    /// stream's query instead.
    fn call_error(
        step: &Step,
        error: &headwater_functions::Error,
        read: &[Arc<InputQuery>],
    ) -> Error {
        let unfed = matches!(error, headwater_functions::Error::Arrow(_));
        let cause = |reading: &Arc<InputQuery>| Some((reading.at.clone(), reading.cause()?));
        match read.iter().filter(|_| unfed).find_map(cause) {
            Some((at, cause)) => Self::failed(step, Some(at), &cause),
            None => Self::failed(step, user_frame_location(error), error),
        }
    }

    /// Checks and stores the table that a model returned.
    async fn keep(
        &self,
        index: usize,
        step: &Step,
        table: SharedTable,
        done: &mut StepProgress,
    ) -> Result<()> {
        self.check_columns(step, &table.schema())?;
        check_nulls(step, &table).await?;
        let is_last = !step.is_materialized() && self.plan.graph.children[index].is_empty();
        if is_last && step.row_expectations.is_empty() {
            done.rows = Some(table.rows());
            done.usage.rows_written = table.rows();
            return self.collect_stored_preview(&table, done).await;
        }
        // Move the rows to the runner's row storage, in memory or on disk, to release the
        // function's memory.
        let settled = table.claim_or_spill(&self.runner.table_quota).await;
        let table = settled.map_err(|error| Self::failed(step, None, &error))?;
        self.unless_cancelled(Box::pin(self.store(index, table, done))).await
    }

    async fn environment(
        &self,
        step: &Step,
        function: &PythonFunction,
    ) -> Result<Arc<Environment>> {
        let plan = &self.plan;
        let spec = plan.pinned.spec(&self.runner, &plan.project.defaults, function);
        // Search the runner's cache first: a lookup in the folder of environments reads hundreds of
        // files, which takes longer than a small function.
        if let Some(environment) = self.runner.environments.find(&self.runner.functions, &spec) {
            return Ok(environment);
        }
        let installed =
            self.runner.install_environment(&spec, Some(&step.name), &self.context).await;
        let environment = installed.map_err(|error| Self::failed(step, None, &error))?;
        self.runner.environments.insert(spec, &environment);
        Ok(environment)
    }

    /// Records the packages of an environment, once for each run.
    fn record_environment(&self, function: &PythonFunction, environment: &Environment) {
        let mut recorded = self.environments.lock();
        let defaults = &self.plan.project.defaults;
        if let Some(used) = recorded.add(defaults, function, environment) {
            self.context.emit(run_environments::recorded(used));
        }
    }

    fn function_call<'a>(
        &'a self,
        step: &'a Step,
        function: &'a PythonFunction,
        environment: Arc<Environment>,
        arguments: Vec<Argument>,
    ) -> FunctionCall<'a> {
        let project = &self.plan.project;
        let priority = self.plan.priority.unwrap_or_else(|| function.priority(&project.defaults));
        FunctionCall {
            project,
            function,
            environment,
            arguments,
            returns: if step.is_expectation() { ResultKind::Bool } else { ResultKind::Table },
            limits: function.limits(&project.defaults, step.memory_bytes, step.timeout),
            secrets: FunctionSecrets::default(),
            label: &step.name,
            model: Some(&step.name),
            share: CallOwner {
                owner: format!("run `{}`", self.context.id().short()).into(),
                job: Some(self.context.id()),
                priority,
            },
            reuse: if function.reuse { ReuseScope::SameJob } else { ReuseScope::Never },
            // This token is never cancelled: during a shutdown of the server, a running job may
            // still start its function calls.
            start_until: CancellationToken::new(),
            lake: None,
            client: OptionalCallParts::default(),
            early_result: None,
        }
    }

    /// Returns the arguments of a call, and the input streams that the call reads while it runs.
    async fn arguments(
        &self,
        step: &Step,
        secrets: &FunctionSecrets,
        done: &mut StepProgress,
    ) -> Result<(Vec<Argument>, Vec<Arc<InputQuery>>)> {
        let (mut arguments, mut meanwhile) = (Vec::new(), Vec::new());
        for (number, input) in step.inputs.iter().enumerate() {
            let Some(name) = input.argument.clone() else { continue };
            let value = Box::pin(self.input(step, number, (done, &mut meanwhile))).await?;
            arguments.push(Argument { name, value });
        }
        for parameter in &step.parameters {
            let Some(name) = parameter.argument.clone() else { continue };
            let value = match self.plan.project.parameters.get(&parameter.name) {
                Some(declared) if declared.kind == ParameterKind::Secret => {
                    secrets.get(&parameter.name).into()
                }
                _ => self.plan.values[&parameter.name].clone(),
            };
            arguments.push(Argument { name, value: ArgumentValue::Json(value) });
        }
        Ok((arguments, meanwhile))
    }

    /// Returns an input as shared memory or as a stream. The output of a function is passed on
    /// unchanged, unless columns or rows are filtered. Everything else is read through the engine,
    /// as a stream if the input declares batches. A query that calls functions is not streamed,
    /// because the step would hold memory for which these calls wait, while the step waits for the
    /// calls.
    async fn input(
        &self,
        step: &Step,
        number: usize,
        (done, meanwhile): (&mut StepProgress, &mut Vec<Arc<InputQuery>>),
    ) -> Result<ArgumentValue> {
        let input = &step.inputs[number];
        let whole = if input.batches { ArgumentValue::Batches } else { ArgumentValue::Table };
        let parent = self.plan.graph.model(input);
        let output = parent.and_then(|parent| self.outputs.lock().get(parent));
        if let Some(StepOutput::Rows(table)) = &output
            && input.columns.is_none()
            && input.filter.is_none()
        {
            return Ok(whole(table.clone()));
        }
        let failed =
            |error: headwater_engine::Error| Self::failed(step, Some(input.at.clone()), &error);
        let session = self.session(step, &[number], &done.increments).await?;
        let query = PreparedStatement::parse(&input.query())
            .and_then(|query| query.bind(&self.plan.values))
            .map_err(|error| failed(error.into()))?;
        let (schema, reading) = InputQuery::new(session, query, &input.at).await.map_err(failed)?;
        let again = Arc::clone(&reading);
        if input.batches
            && !reading.calls_functions()
            && let Some(streamed) = StreamedInput::new(schema.clone(), move || again.rows())
        {
            meanwhile.push(reading);
            return Ok(ArgumentValue::Streamed(streamed));
        }
        let table =
            SharedTable::write_stream(schema, reading.rows(), &self.runner.table_quota).await;
        reading.count(done);
        if let Some(error) = reading.cause() {
            return Err(failed(error));
        }
        let table = table.map_err(|error| Self::failed(step, Some(input.at.clone()), &error))?;
        Ok(whole(table))
    }
}

/// Checks that the declared columns contain no nulls, unless their declaration allows nulls.
async fn check_nulls(step: &Step, table: &SharedTable) -> Result<()> {
    if !forbids_nulls(&step.contract) {
        return Ok(());
    }
    let (mut rows, mut counts) = (table.stream(), NullCounts::new());
    while let Some(batch) = rows.next().await {
        let batch = batch.map_err(|error| Run::failed(step, None, &FunctionError::Arrow(error)))?;
        count_nulls(&step.contract, &batch, &mut counts);
    }
    if counts.is_empty() { Ok(()) } else { Err(has_nulls(step, &counts)) }
}

/// Exceptions that indicate an error in the program, so a retry cannot help.
const PERMANENT: [&str; 10] = [
    "AssertionError",
    "AttributeError",
    "ImportError",
    "IndentationError",
    "ModuleNotFoundError",
    "NameError",
    "NotImplementedError",
    "SyntaxError",
    "TypeError",
    "UnboundLocalError",
];

/// Returns true if a failure may be transient: an exceeded time limit, a terminated process, or an
/// exception that may have an external cause.
fn is_transient(error: &FunctionError) -> bool {
    match error {
        FunctionError::FunctionRaised { exception, .. } => !PERMANENT.contains(&exception.as_str()),
        FunctionError::TimeLimit { .. }
        | FunctionError::StartLimit { .. }
        | FunctionError::InstanceDied { .. } => true,
        _ => false,
    }
}

/// Returns true if a function failed because of an assertion.
fn asserts(error: &headwater_functions::Error) -> bool {
    matches!(
        error,
        headwater_functions::Error::FunctionRaised { exception, .. } if exception == "AssertionError"
    )
}

/// Returns the location of the innermost user frame.
fn user_frame_location(error: &headwater_functions::Error) -> Option<Location> {
    match error {
        headwater_functions::Error::FunctionRaised { frames, .. } => {
            let frame = frames.last()?;
            Some(Location { file: frame.file.as_str().into(), line: frame.line })
        }
        _ => None,
    }
}
