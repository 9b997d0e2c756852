//! Declared outputs of models: the rows of their tables are written to tables, objects, queues,
//! servers and PostgreSQL after the run is merged.
//!
//! The merge also records the outputs that are to be written. So the next run of the project on the
//! branch also writes outputs of earlier runs that are still missing. Each output has an id that
//! consists of the run, the model and the address, so that another attempt does not write it twice.
//! The outputs use the rights of the identity of the run that computed the rows, even if a run of
//! another identity writes them. These rights are checked before the run starts, and before each
//! output is written.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::error::ArrowError;
use futures::TryStreamExt;
use headwater_access::Access;
use headwater_destinations::{Payload, ResultPayload, check_table_format};
use headwater_engine::SessionOptions;
use headwater_functions::{FunctionResult, SharedTable};
use headwater_jobs::JobContext;
use headwater_model::{
    Actor, ErrorCode, MAIN_BRANCH, Principal, Problem, ProjectFiles, RefSpec, ResultExt,
    RunRequest, ToProblem,
};
use headwater_pipelines::{ModelOutput, PendingOutputs, Project, parse_project};
use headwater_secrets::SecretStore;
use parking_lot::Mutex;

use crate::call_output::{failed, output_id};
use crate::destination_delivery::{
    OutgoingPayload, authorize_destination, check_destination, check_outputs, declared, send,
};
use crate::rights::table_access;
use crate::run::RunExecutor;

/// Number of days after which an output that cannot be written is discarded.
const KEPT_DAYS: i64 = 7;

/// A run whose outputs are to be written.
pub(crate) struct RunWithOutputs<'a> {
    project: String,
    branch: String,
    actor: &'a Actor,
    /// The lineage of the run: names of triggers, function queues and event source mappings.
    caused_by: &'a [String],
    /// The addresses that the project's models declare.
    pub declared: BTreeSet<String>,
}

impl<'a> RunWithOutputs<'a> {
    /// Returns the run that a request describes; `None` if the run is not merged, or if the
    /// project's name cannot be read.
    pub fn of(request: &RunRequest, actor: &'a Actor, caused_by: &'a [String]) -> Option<Self> {
        if request.test || request.dry_run || request.preview.is_some() {
            return None;
        }
        let project = Project::read_settings(&request.files).ok()?.name;
        let branch = match &request.reference {
            Some(RefSpec::Name(name)) => name.clone(),
            Some(_) => return None,
            None => MAIN_BRANCH.to_owned(),
        };
        Some(RunWithOutputs { project, branch, actor, caused_by, declared: BTreeSet::new() })
    }
}

/// Checks that all outputs of a project's models are usable, and that the identity has the required
/// rights.
pub(crate) async fn check_model_outputs(
    project: &Project,
    access: &Access,
    secrets: &SecretStore,
    principal: &Principal,
) -> Result<(), Problem> {
    for step in &project.steps {
        let what = format!("`outputs` of model `{}`", step.name);
        let explain = |problem| declared(&step.at, &what, problem);
        check_outputs(&step.outputs).map_err(explain)?;
        for address in &step.outputs {
            check_table_format(address).map_err(explain)?;
        }
        for address in &step.outputs {
            let checked = check_destination(access, secrets, principal, address).await;
            checked.map(drop).map_err(explain)?;
        }
    }
    Ok(())
}

impl RunExecutor {
    /// Checks the outputs of the models in files, and returns their addresses. Accepts files with
    /// errors, which the run reports.
    pub(crate) async fn check_outputs(
        &self,
        files: &ProjectFiles,
        principal: &Principal,
    ) -> Result<BTreeSet<String>, Problem> {
        // Most projects have no outputs. Do not parse such a project here: the run parses it later.
        if !files.values().any(|file| file.text().contains("outputs")) {
            return Ok(BTreeSet::new());
        }
        let parsed = parse_project(files).ok().and_then(|parsed| parsed.into_runnable().ok());
        let Some(project) = parsed else { return Ok(BTreeSet::new()) };
        check_model_outputs(&project, &self.access, &self.secrets, principal).await?;
        Ok(project.steps.iter().flat_map(|step| step.outputs.iter().cloned()).collect())
    }

    /// Writes the outputs of merged runs that are not written yet.
    ///
    /// Errors: `forbidden`, and the errors of the outputs. The next run then writes the output.
    pub(crate) async fn write_outputs(
        &self,
        run: &RunWithOutputs<'_>,
        context: &JobContext,
    ) -> Result<(), Problem> {
        let found = self.runner.pending_outputs(&run.project, &run.branch).await.or_problem()?;
        let own = run.actor.clone().without_token();
        let oldest = chrono::Utc::now() - chrono::Duration::days(KEPT_DAYS);
        for mut pending in found {
            if pending.created < oldest {
                let job = pending.job;
                context.log_system(format!(
                    "the outputs of run {job} were discarded: they are older than {KEPT_DAYS} days"
                ));
                self.runner.discard_outputs(pending).await.or_problem()?;
                continue;
            }
            while let Some(output) = pending.outputs.first().cloned() {
                if !run.declared.contains(&output.address) {
                    let (name, job) = (&output.name, pending.job);
                    context.log_system(format!(
                        "an output of `{name}` in run {job} was discarded: the project no longer \
                         declares it"
                    ));
                    self.runner.remove_output(&mut pending).await.or_problem()?;
                    continue;
                }
                let written = Box::pin(self.write_output(&pending, &output, run, context)).await;
                match written {
                    Ok(()) => self.runner.remove_output(&mut pending).await.or_problem()?,
                    // A run of another user left this output. If that user has lost a right, this
                    // run must not fail.
                    Err(problem) if is_denied(&problem) && pending.actor != own => {
                        let reason = not_written(&output, problem).message;
                        context.log_system(format!("run {}: {reason}", pending.job));
                        break;
                    }
                    Err(problem) => return Err(not_written(&output, problem)),
                }
            }
        }
        Ok(())
    }

    async fn write_output(
        &self,
        pending: &PendingOutputs,
        output: &ModelOutput,
        run: &RunWithOutputs<'_>,
        context: &JobContext,
    ) -> Result<(), Problem> {
        let ModelOutput { namespace, name, address } = output;
        authorize_destination(&self.access, &pending.actor, address)?;
        let rows = self.rows(pending, output, context).await?;
        let value = FunctionResult::Table(rows);
        let job = pending.job.to_string();
        let id = output_id(&job, &format!("{namespace}.{name} {address}"));
        let call =
            ResultPayload { value: &value, event: &job, function: name, time: pending.created };
        let outgoing = OutgoingPayload {
            address,
            id: &id,
            payload: Payload::Result(call),
            actor: &pending.actor,
            commit: id.clone(),
            caused_by: run.caused_by.to_vec(),
        };
        send(&self.destinations, &self.access, outgoing, context).await?;
        context.log_system(format!("output of `{name}` written"));
        Ok(())
    }

    /// Returns the rows of a model's table in the commit of the run, with the rights of the run's
    /// identity.
    async fn rows(
        &self,
        pending: &PendingOutputs,
        output: &ModelOutput,
        context: &JobContext,
    ) -> Result<SharedTable, Problem> {
        let parts = &self.destinations.lake;
        let view = parts.lake.view(&RefSpec::Commit(pending.commit.to_string())).await;
        let reference = RefSpec::Name(pending.branch.clone());
        let view = view.or_problem()?.with_ref(reference.clone());
        let options = SessionOptions {
            author: context.author().to_owned(),
            access: table_access(&self.access, &pending.actor.principal(), Some(context.id())),
            view: Some(view),
            calls_functions: false,
            ..SessionOptions::at(reference)
        };
        let session = parts.engine.session(options).or_problem()?;
        let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        let (namespace, name) = (quoted(&output.namespace), quoted(&output.name));
        let sql = format!("SELECT * FROM {namespace}.{name}");
        let result = Box::pin(session.select(&sql)).await.or_problem()?;
        // The stream must have Arrow errors, which cannot contain a `Problem`. So keep the first
        // one here.
        let first = Arc::new(Mutex::new(None));
        let kept = Arc::clone(&first);
        let stream = result.stream.map_err(move |error| {
            let problem = error.to_problem();
            let message = problem.message.clone();
            kept.lock().get_or_insert(problem);
            ArrowError::ExternalError(message.into())
        });
        let rows = SharedTable::write_stream(result.schema, stream, self.runner.table_quota());
        let rows = rows.await.or_problem();
        let first = first.lock().take();
        rows.map_err(|problem| first.unwrap_or(problem))
    }
}

/// Adds the model's name to the problem of an output, and that the run is already merged.
fn not_written(output: &ModelOutput, problem: Problem) -> Problem {
    let problem = failed(&output.address, problem);
    let (name, reason) = (&output.name, &problem.message);
    let message = format!("the run is merged, but an output of model `{name}` failed: {reason}");
    let hint = problem.hint.clone();
    let hint = hint.unwrap_or_else(|| "Run the project again: it writes the output.".to_owned());
    Problem { message, ..problem }.with_hint(hint)
}

/// Returns true if the problem is that the identity is no longer valid, or has lost a right.
fn is_denied(problem: &Problem) -> bool {
    matches!(problem.code, ErrorCode::Forbidden | ErrorCode::Unauthenticated)
}

/// Returns true if a run is merged: it succeeded, or an earlier attempt for its event has committed
/// its changes.
pub(crate) fn is_merged<T>(ran: &Result<T, Problem>) -> bool {
    match ran {
        Ok(_) => true,
        Err(problem) => {
            problem.code == ErrorCode::AlreadyExists && problem.context.contains_key("event")
        }
    }
}
