//! Delivery of events to the targets of triggers: imports, runs and functions.
//!
//! Each commit contains the id of its part of the event. If an interrupted attempt has committed a
//! part, the next attempt skips this part, so that its changes are applied only once.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use headwater_destinations::{DestinationSender, is_address};
use headwater_function_lake::{AppendResult, CallIdentity, FunctionLakeAccess};
use headwater_functions::{
    Argument, ArgumentValue, EnvironmentCache, FunctionResult, OptionalCallParts, ResultKind,
};
use headwater_jobs::{CallBudget, JobContext};
use headwater_model::{
    Action, Actor, ErrorCode, Event, EventData, ImportRequest, MAIN_BRANCH, Problem, RefSpec,
    ResultExt, RunRequest, Timestamp, Trigger, TriggerImport, TriggerTarget, Usage,
};
use headwater_pipelines::{CallInput, Callable, Runner};
use headwater_triggers::{
    CallDestination, CallPolicy, FAILED_ITEMS, TargetExecutor, event_part, function_argument,
    with_retryable,
};
use serde::Serialize;
use serde_json::{Value, json};

use crate::batch_call::BatchCall;
use crate::call_budget::call_budget;
use crate::call_output::{CallOutputs, OutputWriter, kept};
use crate::call_rights::{call_rights, check_secrets};
use crate::deployer::{ActiveDeployment, ParsedDeployment};
use crate::destination_delivery::{self, RecordDelivery, authorize_destination};
use crate::function_catalog::{FunctionCatalog, ParsedFunction, missing_function, split_name};
use crate::import::ImportExecutor;
use crate::occurrence_rights::{event_rights, visible_to_deployer};
use crate::rights::{check_account, limits, reauthorize, record_secrets};
use crate::run::{RunExecutor, run_queue};
use crate::trigger_placeholders;
use crate::trigger_rights::{
    TargetProject, check_public, check_source, file_rights, trigger_rights, without_private,
};

/// The executor that delivers events to targets.
pub struct TriggerExecutor {
    /// The executor of imports.
    pub imports: ImportExecutor,
    /// The executor of runs.
    pub runs: RunExecutor,
    /// The runner of functions.
    pub runner: Runner,
    /// The project's folder. Paths in triggers are relative to this folder.
    pub project: PathBuf,
    /// Cache of the environments of function calls.
    pub given: Arc<EnvironmentCache>,
    /// The parts of the lake that functions can access, and the destinations of records.
    pub destinations: DestinationSender,
    /// The functions that are deployed without a project.
    pub catalog: FunctionCatalog,
    /// The active version of the project.
    pub deployed: Arc<ActiveDeployment>,
}

/// The cause of a function call, and the identity that it runs for.
struct CallCause<'a> {
    event: &'a Event,
    trigger: &'a Trigger,
    actor: &'a Actor,
}

#[async_trait]
impl TargetExecutor for TriggerExecutor {
    async fn execute(
        &self,
        trigger: &Trigger,
        event: &Event,
        actor: Option<&Actor>,
        context: JobContext,
    ) -> Result<Value, Problem> {
        let actor = match actor {
            Some(actor) => actor.clone(),
            None => self.deployed.actor_of(trigger)?,
        };
        let mut result = serde_json::Map::new();
        for target in trigger.targets() {
            match target {
                TriggerTarget::Import(import) => {
                    let request = self.import_request(trigger, import, event, &context)?;
                    let part = request.event.clone();
                    let report = self.imports.import(request, &actor, &context).await;
                    result.insert("import".into(), once(report, part.as_deref(), &context)?);
                }
                TriggerTarget::Run => {
                    let request = self.run_request(trigger, event, &context)?;
                    let part = request.event.clone();
                    let caused_by = caused_by(trigger, event);
                    let report = self.runs.run(request, &actor, &context, &caused_by).await;
                    result.insert("run".into(), once(report, part.as_deref(), &context)?);
                }
                TriggerTarget::Function(address) if is_address(address) => {
                    let actor = &actor;
                    let delivery = RecordDelivery { address, event, queue: &trigger.name, actor };
                    let (to, access) = (&self.destinations, &self.runs.access);
                    let sent =
                        destination_delivery::deliver(to, access, delivery, &context).await?;
                    result.insert("destination".into(), sent);
                }
                TriggerTarget::Function(name) => {
                    let caused = CallCause { event, trigger, actor: &actor };
                    let called = Box::pin(self.call(name, caused, &context)).await?;
                    result.extend(called);
                }
            }
        }
        Ok(Value::Object(result))
    }

    async fn authorize(
        &self,
        trigger: &Trigger,
        event: &Event,
        actor: Option<&Actor>,
    ) -> Result<(), Problem> {
        let access = &self.runs.access;
        let Some(actor) = actor else { return self.authorize_event(trigger, event) };
        let principal = actor.principal();
        match &event.data {
            EventData::FunctionInvoked { function, .. } if is_address(function) => {
                authorize_destination(access, actor, function)
            }
            // A call without a cause comes from a client, which needs the right to call. A call
            // with a cause is sent to a destination. The deployer of a function chose it; a caller
            // needs no right.
            EventData::FunctionInvoked { function, .. } if event.caused_by.is_empty() => {
                let object = self.deployed.called_object(function);
                reauthorize(access, &principal, Action::Invoke, &object)
            }
            _ => check_account(access, &principal),
        }
    }

    async fn call_policy(&self, function: &str) -> Result<CallPolicy, Problem> {
        if is_address(function) {
            return Ok(CallPolicy::default());
        }
        // Without the version, the destinations of its functions are unknown.
        if let Some(version) = self.deployed.version()?
            && let Some(callable) = version.project.callables.get(function)
        {
            let destination = |target: &Option<String>| {
                let actor = version.actor.clone();
                target.clone().map(|target| CallDestination { target, actor })
            };
            return Ok(CallPolicy {
                on_success: destination(&callable.destinations.on_success),
                on_failure: destination(&callable.destinations.on_failure),
                ..CallPolicy::default()
            });
        }
        self.catalog.call_policy(function).await
    }

    fn authorize_source(&self, trigger: &Trigger) -> Result<(), Problem> {
        check_source(&self.deployed, &self.imports, &self.project, trigger)
    }

    fn visible(&self, trigger: &str, data: EventData) -> Option<EventData> {
        let data = without_private(&self.deployed, &self.imports, trigger, data)?;
        let identity = || self.deployed.identity(trigger).ok().flatten();
        visible_to_deployer(&self.runs.access, identity, data)
    }

    fn preparation_time(&self, trigger: &Trigger) -> Option<Duration> {
        let name = trigger.function.as_deref().filter(|name| !is_address(name))?;
        Some(self.runner.preparation_time(split_name(name).0))
    }

    async fn prepare(&self, trigger: &Trigger, scheduled: Timestamp) {
        if let Err(problem) = Box::pin(self.prepare_function(trigger, scheduled)).await {
            // Only log the problem: the later delivery of the event reports it as its error.
            let reason = &problem.message;
            tracing::debug!(trigger = trigger.name, reason, "a function cannot be prepared");
        }
    }

    fn budget(&self, function: &str) -> Result<Option<CallBudget>, Problem> {
        if is_address(function) {
            return Ok(None);
        }
        let Some(ParsedDeployment { project, .. }) = self.deployed.version()? else {
            return Ok(None);
        };
        let callable = project.callables.get(function);
        Ok(callable.and_then(|callable| call_budget(callable, &project.defaults)))
    }

    fn user(&self, trigger: &Trigger) -> Option<String> {
        let actor = self.deployed.actor_of(trigger).ok()?;
        actor.principal().user_name().map(str::to_owned)
    }

    fn queue(&self, trigger: &Trigger) -> Option<String> {
        let version = self.deployed.version().ok().flatten().filter(|_| trigger.run)?;
        let branch = trigger.branch.as_deref().unwrap_or(MAIN_BRANCH);
        Some(run_queue(&version.project.name, branch))
    }
}

impl TriggerExecutor {
    /// Checks the rights of the identity that deployed or created a trigger: the rights that the
    /// deployment or creation checked, and the right to see the event.
    fn authorize_event(&self, trigger: &Trigger, event: &Event) -> Result<(), Problem> {
        // Check the trigger first: this error names the source, not the event's files or tables.
        self.authorize_trigger(trigger)?;
        if let Ok(Some(identity)) = self.deployed.identity(&trigger.name) {
            let principal = identity.principal();
            let mut needed = event_rights(&identity, trigger, &event.data);
            needed.extend(file_rights(event.files(), &self.project));
            for (action, object) in needed {
                reauthorize(&self.runs.access, &principal, action, &object)?;
            }
            if !event.files().is_empty() {
                let paths = event.files().iter().map(|file| Path::new(&file.path));
                check_public(&self.imports, &principal, paths)?;
            }
        }
        Ok(())
    }

    /// Checks that the identity that deployed or created a trigger still has all rights that the
    /// deployment or creation required.
    pub(crate) fn authorize_trigger(&self, trigger: &Trigger) -> Result<(), Problem> {
        let created = self.deployed.standalone().get(&trigger.name).map(|it| it.actor.clone());
        let (actor, needed) = if let Some(actor) = created {
            let version = self.deployed.version().ok().flatten();
            (actor, trigger_rights(trigger, TargetProject::Active(version.as_ref())))
        } else {
            // If no version is deployed, the attempt itself fails, with a more specific error.
            let Ok(Some(version)) = self.deployed.version() else { return Ok(()) };
            let needed = trigger_rights(trigger, TargetProject::Declares(&version.project));
            (version.actor, needed)
        };
        let (access, principal) = (&self.runs.access, actor.principal());
        for (action, object) in needed {
            reauthorize(access, &principal, action, &object)?;
        }
        check_account(access, &principal)
    }

    /// Returns a function and its limit on concurrent calls. The function belongs to the active
    /// version, or is deployed without a project.
    pub(crate) async fn find(&self, name: &str) -> Result<(ParsedFunction, Option<u32>), Problem> {
        let version = self.deployed.version()?;
        let declared = version.and_then(|version| {
            let callable = version.project.callables.get(name)?.clone();
            let deployed_by = Some(version.actor);
            Some(ParsedFunction { project: version.project, callable, deployed_by })
        });
        if let Some(function) = declared {
            let limit = function.callable.concurrency.reserved;
            return Ok((function, limit));
        }
        match self.catalog.find(name).await? {
            Some(called) => {
                check_secrets(&self.runs.access, &called.function.callable, Some(&called.actor))?;
                Ok((called.function, called.concurrency))
            }
            None => Err(missing_function(name)),
        }
    }

    /// Calls a function of the active version, or one that is deployed without a project, with an
    /// event.
    /// Returns the parts of the job's result.
    async fn call(
        &self,
        name: &str,
        caused: CallCause<'_>,
        context: &JobContext,
    ) -> Result<serde_json::Map<String, Value>, Problem> {
        let CallCause { event, trigger, actor } = caused;
        let batch = BatchCall::new(trigger, event);
        if let Some(batch) = &batch
            && let Some(failed) = batch.committed(&self.destinations.lake.lake).await?
        {
            context.log_system(ALREADY_COMMITTED);
            return Ok(call_result(Value::Null, failed));
        }
        let (function, concurrency) = self.find(name).await?;
        let _permit = self.catalog.permit(&function.callable, concurrency)?;
        let principal = actor.principal();
        let outputs = CallOutputs::new(&function, &principal).caused_by(event, &trigger.name);
        let ParsedFunction { project, callable, deployed_by } = function;
        check_secrets(&self.runs.access, &callable, deployed_by.as_ref())?;
        let needed = callable.limits(&project.defaults).memory_bytes;
        limits(&self.runs.access, &principal)
            .check_memory(&callable.name, needed)
            .map_err(|problem| with_retryable(problem, false))?;
        record_secrets(&self.runs.access, &principal, &callable, context.id());
        let by = deployed_by.as_ref();
        let scope = CallIdentity {
            access: call_rights(&self.runs.access, &principal, by, context.id()),
            author: context.author().to_owned(),
            job: context.id(),
            branch: trigger.branch.clone().unwrap_or_else(|| MAIN_BRANCH.to_owned()),
            event: Some(event_part(&event.id, "function")),
            caused_by: caused_by(trigger, event),
        };
        let lake = Arc::new(FunctionLakeAccess::new(self.destinations.lake.clone(), scope));
        let arguments = arguments(&callable, trigger, event)?;
        let (returns, client) = (ResultKind::Any, OptionalCallParts::default());
        let input = CallInput { arguments, returns, lake: Some(lake.clone()), client };
        let returned = self.runner.call((&*project, &*self.given), &callable, input, context).await;
        let (returned, failed) = match (returned.or_problem(), &batch) {
            (returned, Some(batch)) => batch.check(returned, &lake)?,
            (Ok(returned), None) => (returned, Vec::new()),
            // The call can fail because an earlier attempt committed its changes: CREATE TABLE, for
            // example.
            (Err(_), None) if lake.is_committed().await => {
                context.log_system(ALREADY_COMMITTED);
                return Ok(call_result(Value::Null, Vec::new()));
            }
            (Err(problem), None) => return Err(problem),
        };
        let kept = match &returned {
            FunctionResult::Table(_) if !outputs.is_empty() => Value::Null,
            returned => kept(returned.clone(), context)?,
        };
        let writer = OutputWriter::new(&self.destinations, &self.runs.access, context);
        Box::pin(writer.finish(&outputs, Ok(returned), &lake)).await?;
        Ok(call_result(kept, failed))
    }

    fn import_request(
        &self,
        trigger: &Trigger,
        import: &TriggerImport,
        event: &Event,
        context: &JobContext,
    ) -> Result<ImportRequest, Problem> {
        let sources = if let Some(object) = event.object() {
            vec![source_of(&object.uri)]
        } else if event.files().is_empty() {
            import.sources.iter().map(|source| absolute(&self.project, source)).collect()
        } else {
            event.files().iter().map(|file| file.path.clone()).collect()
        };
        Ok(ImportRequest {
            table: import.table.clone(),
            sources,
            reference: reference(trigger)?,
            on_error: import.on_error,
            author: Some(context.author().to_owned()),
            event: Some(event_part(&event.id, "import")),
            ..ImportRequest::default()
        })
    }

    fn run_request(
        &self,
        trigger: &Trigger,
        event: &Event,
        context: &JobContext,
    ) -> Result<RunRequest, Problem> {
        Ok(RunRequest {
            files: (*self.deployed.require()?.project.files).clone(),
            reference: reference(trigger)?,
            parameters: trigger_placeholders::parameters(trigger, event),
            author: Some(context.author().to_owned()),
            event: Some(event_part(&event.id, "run")),
            ..RunRequest::default()
        })
    }
}

/// Returns the parts of a job's result for a call: the returned value, and the positions of failed
/// items if there are any.
fn call_result(returned: Value, failed: Vec<usize>) -> serde_json::Map<String, Value> {
    let mut result = serde_json::Map::from_iter([("function".to_owned(), returned)]);
    if !failed.is_empty() {
        result.insert(FAILED_ITEMS.to_owned(), json!(failed));
    }
    result
}

/// Returns the triggers that caused the work of an event.
fn caused_by(trigger: &Trigger, event: &Event) -> Vec<String> {
    event.caused_by.iter().chain([&trigger.name]).cloned().collect()
}

/// Returns the arguments of a call: the arguments that a client gave, or else the event.
fn arguments(
    callable: &Callable,
    trigger: &Trigger,
    event: &Event,
) -> Result<Vec<Argument>, Problem> {
    let EventData::FunctionInvoked { arguments, .. } = &event.data else {
        let name = callable.event_argument().or_problem()?.to_owned();
        let value = ArgumentValue::Json(function_argument(trigger, event));
        return Ok(vec![Argument { name, value }]);
    };
    callable.check(arguments, None).or_problem()?;
    let argument = |(name, value): (&String, &Value)| Argument {
        name: name.clone(),
        value: ArgumentValue::Json(value.clone()),
    };
    Ok(arguments.iter().map(argument).collect())
}

/// The log message if an earlier attempt has committed the changes of an event.
const ALREADY_COMMITTED: &str = "the changes were already committed by an earlier attempt";

/// Commits the changes of a function, and records its usage.
pub(crate) async fn commit_appended(
    lake: &FunctionLakeAccess,
    context: &JobContext,
) -> Result<(), Problem> {
    let AppendResult { rows, bytes, is_repeated } = lake.commit().await?;
    if is_repeated {
        context.log_system(ALREADY_COMMITTED);
    }
    context.add_usage(&Usage { rows_written: rows, bytes_written: bytes, ..Usage::default() });
    Ok(())
}

fn reference(trigger: &Trigger) -> Result<Option<RefSpec>, Problem> {
    let parse = |branch: &String| branch.parse::<RefSpec>();
    let reference = trigger.branch.as_ref().map(parse).transpose();
    reference.map_err(|error| headwater_model::ToProblem::to_problem(&error))
}

/// Returns a source of an import as an absolute path; relative sources are in the project's root.
fn absolute(project: &Path, source: &str) -> String {
    // A URL of a bucket is absolute already.
    if source.contains("://") {
        return source.to_owned();
    }
    let is_pattern = source.contains(['*', '?', '[', '{']);
    let project = project.to_string_lossy();
    // Escape the project's path, because only the source may be a pattern.
    let project = if is_pattern { globset::escape(&project) } else { project.into_owned() };
    Path::new(&project).join(source).to_string_lossy().into_owned()
}

/// Returns an import source that matches exactly one object.
fn source_of(uri: &str) -> String {
    // If the object was deleted meanwhile, its name must not be interpreted as a pattern.
    if uri.contains(['*', '?', '[', '{']) { globset::escape(uri) } else { uri.to_owned() }
}

/// Returns the report of an import or run for an event; null if an earlier attempt has already
/// committed it.
fn once<T: Serialize>(
    report: Result<T, Problem>,
    part: Option<&str>,
    context: &JobContext,
) -> Result<Value, Problem> {
    match report {
        Ok(report) => Ok(json!(report)),
        Err(problem) if was_committed(&problem, part) => {
            context
                .log_system("this part of the event was already committed by an earlier attempt");
            Ok(Value::Null)
        }
        Err(problem) => Err(problem),
    }
}

fn was_committed(problem: &Problem, part: Option<&str>) -> bool {
    let committed = problem.context.get("event").and_then(Value::as_str);
    problem.code == ErrorCode::AlreadyExists && committed.is_some() && committed == part
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_part_of_the_same_event_was_committed() {
        let mut problem = Problem::new(ErrorCode::AlreadyExists, "committed");
        assert!(!was_committed(&problem, Some("e/import")));
        problem.context.insert("event".into(), "e/import".into());
        assert!(was_committed(&problem, Some("e/import")));
        assert!(!was_committed(&problem, Some("e/run")));
        problem.code = ErrorCode::CommitConflict;
        assert!(!was_committed(&problem, Some("e/import")));
    }

    #[test]
    fn sources_of_schedules_are_in_the_project() {
        assert_eq!(absolute(Path::new("/p"), "in/*.csv"), "/p/in/*.csv");
        assert_eq!(absolute(Path::new("/p"), "/in/a.csv"), "/in/a.csv");
        assert_eq!(absolute(Path::new("/p"), "s3://b/in/*.csv"), "s3://b/in/*.csv");
    }
}
