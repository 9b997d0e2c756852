//! Computing one step: by the engine or by a function, its inputs registered or handed over.

use headwater_engine::{Session, SessionOptions};
use headwater_model::{Fault, PROPERTY_JOB};
use serde_json::Value;

use super::{Done, Run};
use crate::step::{Body, Input, Step};
use crate::{Error, Location, Result};

impl Run {
    pub(super) async fn compute(&self, index: usize) -> Result<Done> {
        let step = &self.plan.project.steps[index];
        match &step.body {
            Body::Sql(sql) => self.unless_cancelled(self.compute_sql(index, step, sql)).await,
            Body::Python(function) => self.compute_python(index, step, function).await,
        }
    }

    /// A session at the run's branch in which the outputs of these inputs' models are readable.
    pub(super) fn session(&self, inputs: &[Input]) -> Result<Session> {
        let options = SessionOptions {
            reference: self.reference(),
            namespace: self.plan.project.defaults.namespace.clone(),
            author: self.context.author().to_owned(),
            properties: [(PROPERTY_JOB.to_owned(), self.context.id().to_string())].into(),
            ..SessionOptions::default()
        };
        let session = self.runner.engine.session(options).map_err(|error| Error::other(&error))?;
        for input in inputs {
            let Some(parent) = self.plan.graph.model(input) else { continue };
            let output = self.outputs.lock().get(&parent).cloned();
            if let Some(batches) = output.and_then(|output| output.batches()) {
                let registered = session.register(&input.table.to_string(), &batches);
                registered.map_err(|error| Error::other(&error))?;
            }
        }
        Ok(session)
    }

    /// A step's failure, at its place.
    pub(super) fn failed(step: &Step, at: Option<Location>, fault: &dyn Fault) -> Error {
        let mut problem = fault.to_problem();
        let frames = problem.context.get("frames").and_then(Value::as_array);
        let frames: Vec<String> = frames.into_iter().flatten().map(frame).collect();
        problem.causes.extend(frames);
        Error::StepFailed {
            step: step.name.clone(),
            at: at.unwrap_or_else(|| step.at.clone()),
            problem: Box::new(problem),
        }
    }
}

/// One of the user's frames, as a line of a traceback.
fn frame(frame: &Value) -> String {
    let text = |key: &str| frame[key].as_str().unwrap_or_default().to_owned();
    let (file, function, source) = (text("file"), text("function"), text("source"));
    let place = format!("{file}:{} in {function}", frame["line"]);
    if source.is_empty() { place } else { format!("{place}: {}", source.trim()) }
}
