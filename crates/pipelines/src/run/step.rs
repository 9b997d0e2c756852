//! Computes one step with the engine or a function, and provides its inputs.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use futures::{StreamExt, TryStreamExt};
use headwater_engine::{Session, SessionOptions};
use headwater_model::{
    JobEventKind, LogStream, PROPERTY_JOB, Problem, StepReport, StepStatus, ToProblem, Usage,
    run_reasons,
};
use headwater_project::{Step, StepCode, StepKind};
use parking_lot::Mutex;
use serde_json::Value;

use super::step_output::{self, StepOutput};
use super::{Run, StepProgress};
use crate::column_inference::check_declared;
use crate::incremental_reads::IncrementalReads;
use crate::plan::Plan;
use crate::{Error, Location, Result};

impl Run {
    /// Computes a step, and records its progress in `done`, even if the step fails.
    pub(super) async fn compute(&self, index: usize, done: &mut StepProgress) -> Result<()> {
        let step = &self.plan.project.steps[index];
        if step.is_incremental() {
            let view = self.runner.engine.lake().view(&self.reference()).await;
            let view = view.map_err(|error| Error::other(&error))?;
            done.increments = self.plan.increments(index, &view).await?;
        }
        match &step.body {
            StepCode::Sql(sql) => Box::pin(self.compute_sql(index, sql, done)).await,
            StepCode::Python(function) => {
                Box::pin(self.compute_python(index, function, done)).await
            }
        }
    }

    /// Creates a session at the run branch, with the outputs of the models that the step reads
    /// registered as tables.
    pub(super) async fn session(
        &self,
        step: &Step,
        inputs: &[usize],
        increments: &IncrementalReads,
    ) -> Result<Session> {
        let session = self.engine_session(step, BTreeMap::new())?;
        for number in inputs {
            let input = &step.inputs[*number];
            let name = self.plan.registered_name(input);
            if let Some(files) = increments.new.get(number) {
                let registered = session.register_files(&name, files.clone()).await;
                registered.map_err(|error| Error::other(&error))?;
                continue;
            }
            let Some(parent) = self.plan.graph.model(input) else { continue };
            let output = self.outputs.lock().get(parent);
            if let Some(StepOutput::Rows(rows)) = output {
                step_output::register(&session, &name, &rows)?;
            }
        }
        Ok(session)
    }

    /// Creates a session at the run branch. Each table snapshot that the session creates gets the
    /// properties `snapshot_properties`.
    pub(super) fn engine_session(
        &self,
        step: &Step,
        snapshot_properties: BTreeMap<String, String>,
    ) -> Result<Session> {
        let options = SessionOptions {
            reference: self.reference(),
            namespace: self.plan.project.defaults.namespace.clone(),
            author: self.context.author().to_owned(),
            memory_bytes: step.memory_bytes.filter(|_| step.kind == StepKind::Sql),
            properties: [(PROPERTY_JOB.to_owned(), self.context.id().to_string())].into(),
            snapshot_properties,
            access: self.runner.access_on(&self.branch),
            caches_columns: true,
            ..SessionOptions::default()
        };
        self.runner.engine.session(options).map_err(|error| Error::other(&error))
    }

    /// Checks that the output columns of a model match its declaration. If the run is not strict
    /// and the declaration is lenient, a difference is only logged.
    pub(super) fn check_columns(&self, step: &Step, schema: &Schema) -> Result<()> {
        let given: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        match check_declared(step, &given, Some(schema)) {
            Err(error) if step.lenient_columns && !self.strict => {
                self.log(step, format!("warning: {error}"));
                Ok(())
            }
            checked => checked,
        }
    }

    /// Logs a line about a step.
    pub(super) fn log(&self, step: &Step, text: String) {
        self.context.emit(JobEventKind::Log {
            stream: LogStream::System,
            model: Some(step.name.clone()),
            file: Some(step.at.file.to_string()),
            line: Some(step.at.line),
            text,
        });
    }

    /// Creates the error of a failed step, including its location.
    pub(crate) fn failed(step: &Step, at: Option<Location>, fault: &dyn ToProblem) -> Error {
        Error::StepFailed {
            step: step.name.clone(),
            at: at.unwrap_or_else(|| step.at.clone()),
            problem: Box::new(Self::problem(fault)),
        }
    }

    /// Converts a function's failure to a problem with the user's frames as causes.
    pub(super) fn problem(fault: &dyn ToProblem) -> Problem {
        let mut problem = fault.to_problem();
        let frames = problem.context.get("frames").and_then(Value::as_array);
        let frames: Vec<String> = frames.into_iter().flatten().map(frame).collect();
        problem.causes.extend(frames);
        problem
    }
}

/// The first error of a query. Stored separately, because the crates that forward the rows return
/// only an Arrow error.
pub(super) type FirstQueryError = Arc<Mutex<Option<headwater_engine::Error>>>;

/// Converts the errors in a query's rows to Arrow errors for another crate, and stores the first
/// error.
pub(super) fn capture_first_error(
    rows: headwater_engine::BatchStream,
    cause: &FirstQueryError,
) -> headwater_lake::BatchStream {
    let cause = Arc::clone(cause);
    rows.map_err(move |error| to_arrow_error(error, &cause)).boxed()
}

/// Converts an error to an Arrow error, and stores the original error.
pub(super) fn to_arrow_error(
    error: headwater_engine::Error,
    cause: &FirstQueryError,
) -> ArrowError {
    let failed = ArrowError::ComputeError(error.to_string());
    cause.lock().get_or_insert(error);
    failed
}

/// Runs a future with the step's time limit.
pub(super) async fn in_time<T>(step: &Step, work: impl Future<Output = Result<T>>) -> Result<T> {
    let Some(limit) = step.timeout else { return work.await };
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
        Err(Error::TimeLimit { step: step.name.clone(), at: step.at.clone(), limit })
    })
}

/// Formats a user frame as a traceback line.
fn frame(frame: &Value) -> String {
    let text = |key: &str| frame[key].as_str().unwrap_or_default().to_owned();
    let (file, function, source) = (text("file"), text("function"), text("source"));
    let place = format!("{file}:{} in {function}", frame["line"]);
    if source.is_empty() { place } else { format!("{place}: {}", source.trim()) }
}

impl Plan {
    /// Returns the report of a step that did not run.
    pub(crate) fn unchanged(&self, index: usize) -> StepReport {
        let (step, plan) = (&self.project.steps[index], &self.steps[index]);
        let reuses = plan.reuses.as_ref().map(|table| table.branch.as_str());
        StepReport {
            step: step.name.clone(),
            kind: step.kind.as_str().to_owned(),
            status: StepStatus::Unchanged,
            reuses: None,
            reasons: run_reasons(plan.reason, &plan.why, reuses),
            rows: None,
            quarantined: None,
            preview: None,
            usage: Usage::default(),
            cost: 0.0,
            error: None,
        }
    }
}
