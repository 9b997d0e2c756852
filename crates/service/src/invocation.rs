//! Function calls: finds a function and calls it as a job. The job is recorded before its result is
//! returned.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::TryFutureExt;
use headwater_destinations::DestinationSender;
use headwater_executors::{
    CallOutputs, OutputWriter, ParsedDeployment, ParsedFunction, call_budget, call_rights,
    called_object, check_secrets, function_not_found, function_summary, instance_state, limits,
    parse_folder, record_secrets,
};
use headwater_function_lake::{CallIdentity, FunctionLakeAccess};
use headwater_functions::{Argument, FunctionResult, LakeAccess, OptionalCallParts, ResultKind};
use headwater_jobs::{DetachOnDrop, JobContext, NewJob};
use headwater_model::{
    AcceptedEvent, AccessObject, Action, Actor, ErrorCode, FunctionSummary, InvokeAsyncRequest,
    JobId, JobKind, MAIN_BRANCH, Principal, Problem, ProjectFiles, ResultExt,
};
use headwater_pipelines::{CallInput as PipelineInput, Callable, Project, parse_project};
use headwater_triggers::NewCall;
use serde_json::Value;
use tokio::sync::oneshot;

use crate::cloud_event::disabled;
use crate::layer::Layers;
use crate::operation_job::EndedJob;
use crate::run::project_object;
use crate::service::Components;
use crate::standalone_function::StandaloneFunctions;

/// Operations on functions.
#[derive(Clone)]
pub struct Invocations(pub(crate) Arc<Components>);

/// A function and the version to call.
pub struct ResolvedFunction {
    function: ParsedFunction,
    /// The name in the request, which can end with a version or alias.
    name: String,
    /// The version; `None` for a function of a project.
    version: Option<String>,
    /// Maximum number of concurrent calls; `None` without a limit.
    concurrency: Option<u32>,
    /// The triggers and event source mappings that caused the call.
    caused_by: Vec<String>,
}

/// The input of a call.
pub struct CallInput {
    /// The arguments, with their names.
    pub arguments: Vec<Argument>,
    /// The kind of result that the caller accepts.
    pub returns: ResultKind,
    /// Values from the client: the Lambda client context, and the receiver of a streamed response.
    pub client: OptionalCallParts,
    /// A permit for the memory of the arguments, held until the call has ended.
    pub permit: Option<Box<dyn Send>>,
    /// Receives the id of the call's job as soon as the job is recorded.
    pub started: Option<oneshot::Sender<JobId>>,
}

impl ResolvedFunction {
    fn of_project(project: Arc<Project>, callable: Callable, deployed_by: Option<Actor>) -> Self {
        let (name, concurrency) = (callable.name.clone(), callable.concurrency.reserved);
        let function = ParsedFunction { project, callable, deployed_by };
        ResolvedFunction { function, name, version: None, concurrency, caused_by: Vec::new() }
    }

    /// Sets the triggers and event source mappings that caused the call.
    pub(crate) fn with_lineage(self, caused_by: Vec<String>) -> Self {
        ResolvedFunction { caused_by, ..self }
    }

    pub(crate) fn called(&self) -> &ParsedFunction {
        &self.function
    }

    /// Returns the version to call: a number or `$LATEST`; `None` for a function of a project.
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// Returns the right that a call needs. A function in the files of the caller needs only the
    /// right to run their project, because a run of these files could execute the same code.
    fn right_to_call(&self) -> (Action, AccessObject) {
        match (&self.version, &self.function.deployed_by) {
            (None, None) => (Action::Run, AccessObject::project(&self.function.project.name)),
            _ => (Action::Invoke, self.function.object()),
        }
    }

    /// Returns the memory limit of a call in bytes.
    pub fn memory_bytes(&self) -> u64 {
        let ParsedFunction { callable, project, .. } = &self.function;
        callable.limits(&project.defaults).memory_bytes
    }

    /// Checks the names of a call's arguments. `table` is the argument that receives a table.
    ///
    /// Errors: `invalid_argument`.
    pub fn check_arguments(
        &self,
        values: &BTreeMap<String, Value>,
        table: Option<&str>,
    ) -> Result<(), Problem> {
        self.function.callable.check(values, table).or_problem()
    }

    /// Returns the only argument of the function, which receives an event.
    ///
    /// Errors: `invalid_argument` if the function has several arguments.
    pub fn event_argument(&self) -> Result<&str, Problem> {
        self.function.callable.event_argument().or_problem()
    }

    /// Returns the default argument that receives a table.
    ///
    /// Errors: `invalid_argument` if the function has several arguments.
    pub fn table_argument(&self) -> Result<&str, Problem> {
        self.function.callable.table_argument().or_problem()
    }
}

impl Invocations {
    /// Returns the operations on functions that are deployed without a project.
    pub fn standalone(&self) -> StandaloneFunctions {
        StandaloneFunctions(self.0.clone())
    }

    /// Returns the operations on layers.
    pub fn layers(&self) -> Layers {
        Layers(self.0.clone())
    }

    /// Lists the functions by name: functions of the deployed version, and functions without a
    /// project.
    pub async fn list(&self, principal: &Principal) -> Result<Vec<FunctionSummary>, Problem> {
        self.0.authenticated(principal)?;
        let version = self.0.deployer.deployed().version()?;
        let mut listed = Vec::new();
        if let Some(ParsedDeployment { project, .. }) = &version {
            for callable in project.callables.values() {
                let mut summary = callable.summary(&project.defaults);
                if let Some(call) = call_budget(callable, &project.defaults) {
                    summary.budget = Some(call.usage_today(&self.0.jobs).await.or_problem()?);
                }
                let status = self.0.functions.provisioned(&callable.name);
                summary.provisioned = status.map(instance_state);
                listed.push(summary);
            }
        }
        let stored = self.0.catalog.store().list().await.or_problem()?;
        let functions = &self.0.functions;
        listed.extend(stored.iter().map(|one| function_summary(functions, one)));
        let object = |name: &str| called_object(version.as_ref(), name);
        let allows = |name: &str| self.0.allows(principal, Action::Invoke, &object(name));
        listed.retain(|one| allows(&one.name));
        listed.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(listed)
    }

    /// Finds a function of the deployed version, or one that is deployed without a project. The
    /// name of a function without a project may end with a version or alias, as in `resize:3`.
    /// Records only a denial in the audit log, because the later call records an allowed access.
    pub async fn find(
        &self,
        principal: &Principal,
        name: &str,
    ) -> Result<ResolvedFunction, Problem> {
        let version = self.0.deployer.deployed().version();
        let object = called_object(version.as_ref().ok().and_then(Option::as_ref), name);
        self.0.check_allowed(principal, Action::Invoke, &object)?;
        if let Ok(Some(version)) = &version
            && let Some(callable) = version.project.callables.get(name)
        {
            let (project, by) = (version.project.clone(), Some(version.actor.clone()));
            return Ok(ResolvedFunction::of_project(project, callable.clone(), by));
        }
        if let Some(called) = self.0.catalog.find(name).await? {
            check_secrets(&self.0.access, &called.function.callable, Some(&called.actor))?;
            let (function, version) = (called.function, Some(called.version));
            let (name, concurrency) = (name.to_owned(), called.concurrency);
            let caused_by = Vec::new();
            return Ok(ResolvedFunction { function, name, version, concurrency, caused_by });
        }
        let version = version?;
        if self.0.is_unlimited(principal) && self.is_in_folder(name).await {
            let message = format!("function `{name}` is in the working folder, but not deployed");
            let hint = "Run `headwater deploy`, or call the function with `--working-folder`.";
            return Err(Problem::new(ErrorCode::FunctionNotFound, message).with_hint(hint));
        }
        let project = version.as_ref().map(|version| &*version.project);
        let mut problem = function_not_found(project, &self.0.catalog.names().await?, name);
        if !self.0.is_unlimited(principal) {
            problem.hint = None;
        }
        Err(problem)
    }

    /// Finds a function in the files of a project, which map paths to contents.
    pub async fn find_in_files(
        &self,
        principal: &Principal,
        files: ProjectFiles,
        name: &str,
    ) -> Result<ResolvedFunction, Problem> {
        // The files are undeployed code of the caller, so the caller needs the right to run it.
        self.0.authorize(principal, Action::Run, &project_object(&files))?;
        let wanted = name.to_owned();
        let read = move || {
            let parsed = parse_project(&files).or_problem()?;
            parsed.into_callable(&wanted).or_problem()
        };
        let read = tokio::task::spawn_blocking(read).await.map_err(|error| {
            Problem::new(ErrorCode::Internal, format!("reading the files failed: {error}"))
        })?;
        let (project, callable) = read?;
        let Some(callable) = callable else {
            let object = self.0.deployer.deployed().called_object(name);
            let is_allowed = self.0.allows(principal, Action::Invoke, &object);
            let mut problem = function_not_found(Some(&project), &[], name);
            if is_allowed && self.find(principal, name).await.is_ok() {
                let hint = "Call the deployed function without `--working-folder` and `--watch`.";
                problem.hint = Some(hint.to_owned());
            }
            return Err(problem);
        };
        for secret in &callable.function.secrets {
            self.0.authorize(principal, Action::Use, &AccessObject::secret(secret))?;
        }
        Ok(ResolvedFunction::of_project(Arc::new(project), callable, None))
    }

    /// Calls a function as a job, whose result `encode` converts. Stores the job's record before
    /// returning. An error of `encode` fails the job. Dropping the future stops the function.
    pub async fn call<T, F>(
        &self,
        principal: &Principal,
        function: ResolvedFunction,
        input: CallInput,
        encode: impl FnOnce(FunctionResult, JobContext) -> F + Send + 'static,
    ) -> Result<EndedJob<T>, Problem>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Problem>> + Send,
    {
        let (action, object) = function.right_to_call();
        let ResolvedFunction { function, name, concurrency, caused_by, .. } = function;
        let outputs = CallOutputs::new(&function, principal).with_lineage(caused_by.clone());
        self.0.authorize(principal, action, &object)?;
        let ParsedFunction { project, callable, deployed_by } = function;
        check_secrets(&self.0.access, &callable, deployed_by.as_ref())?;
        let needed = callable.limits(&project.defaults).memory_bytes;
        limits(&self.0.access, principal).check_memory(&callable.name, needed)?;
        let running = self.0.catalog.permit(&callable, concurrency)?;
        // Only a deployed function has a budget; a function in files that the caller sent has none.
        let budget = deployed_by.as_ref().and_then(|_| call_budget(&callable, &project.defaults));
        let new = NewJob::of(JobKind::Function, name, principal).named(&callable.name);
        let (context, guard) = self.0.jobs.record(NewJob { budget, ..new }).await.or_problem()?;
        let job = context.id();
        let CallInput { arguments, returns, client, permit, started } = input;
        if let Some(started) = started {
            // The receiver no longer exists if the client has disconnected.
            let _ = started.send(job);
        }
        record_secrets(&self.0.access, principal, &callable, job);
        let scope = CallIdentity {
            access: call_rights(&self.0.access, principal, deployed_by.as_ref(), job),
            author: principal.author().to_owned(),
            job,
            branch: MAIN_BRANCH.to_owned(),
            event: None,
            caused_by,
        };
        let lake = Arc::new(FunctionLakeAccess::new(self.0.lake_parts(), scope));
        // Dropping this guard stops the function if the caller disconnects; its usage is recorded.
        let leaving = context.cancelled().drop_guard();
        let components = self.0.clone();
        let call = DetachOnDrop::new(async move {
            let with = (&*project, &*components.given);
            let lake_access = Some(lake.clone() as Arc<dyn LakeAccess>);
            let input = PipelineInput { arguments, returns, lake: lake_access, client };
            let returned = components.runner.call(with, &callable, input, &context).await;
            drop((permit, running));
            let parts = components.lake_parts();
            let destinations =
                DestinationSender::new(parts, &components.queues, &components.secrets);
            let writer = OutputWriter::new(&destinations, &components.access, &context);
            let written = Box::pin(writer.finish(&outputs, returned.or_problem(), &lake));
            let result = written.and_then(|returned| encode(returned, context.clone())).await;
            let outcome = result.as_ref().map(|_| Value::Null).map_err(Clone::clone);
            guard.finish_stored(outcome).await.map_or(result, Err)
        });
        let result = call.await.unwrap_or_else(|| {
            Err(Problem::new(ErrorCode::Internal, "the call stopped before it finished"))
        });
        drop(leaving.disarm());
        Ok(EndedJob { job, result })
    }

    /// Accepts an asynchronous call of a deployed function. The event is durable on return.
    ///
    /// Errors: `function_not_found`; `invalid_argument` for wrong arguments or keys; `too_busy` if
    /// the function's queue is full.
    pub async fn accept(
        &self,
        principal: &Principal,
        name: &str,
        request: InvokeAsyncRequest,
    ) -> Result<AcceptedEvent, Problem> {
        let function = self.find(principal, name).await?;
        self.0.authorize(principal, Action::Invoke, &function.function.object())?;
        function.check_arguments(&request.arguments, None)?;
        limits(&self.0.access, principal).check_memory(name, function.memory_bytes())?;
        let Some(triggers) = &self.0.triggers else { return Err(disabled()) };
        let InvokeAsyncRequest { arguments, key, order_key, author } = request;
        let author = principal.clone().with_author(author).author().to_owned();
        let function =
            if function.version.is_some() { name } else { &function.function.callable.name };
        let function = function.to_owned();
        let user = principal.user_name().map(str::to_owned);
        if let Some(user) = &user {
            self.0.jobs.check_quota(user).await.or_problem()?;
        }
        let actor = Actor::of(principal).without_token();
        let call = NewCall { function, arguments, key, user, order_key, author, actor };
        triggers.accept(call).await.or_problem()
    }

    /// Returns true if the working folder defines a function.
    async fn is_in_folder(&self, name: &str) -> bool {
        let Some(folder) = self.0.config.project_dir.clone() else { return false };
        let parsed = parse_folder(folder).await.ok();
        parsed.is_some_and(|parsed| matches!(parsed.into_callable(name), Ok((_, Some(_)))))
    }
}
