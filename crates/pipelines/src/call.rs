//! Calls of functions by name. A call uses one environment and one invocation, and adds the lines
//! that the function prints to the events of its job.

use std::sync::Arc;
use std::time::Instant;

use headwater_functions::{
    Argument, CallOwner, Environment, EnvironmentCache, EnvironmentSpec, FunctionResult,
    LakeAccess, OptionalCallParts, ResultKind, ReuseScope,
};
use headwater_jobs::JobContext;
use headwater_model::Usage;

use crate::environment_spec::environment_spec;
use crate::function_secrets::FunctionSecrets;
use crate::invocation::FunctionCall;
use crate::{Callable, Error, Project, Result, Runner};

/// The input of a call.
pub struct CallInput {
    /// The arguments.
    pub arguments: Vec<Argument>,
    /// The expected kind of result.
    pub returns: ResultKind,
    /// The function's access to the lake, for `headwater.lake`.
    pub lake: Option<Arc<dyn LakeAccess>>,
    /// Values from the client: the Lambda client context, and the receiver of a streamed response.
    pub client: OptionalCallParts,
}

impl Runner {
    /// Returns the environment of a specification if it is installed. Installs nothing.
    pub(crate) fn installed_environment(&self, spec: &EnvironmentSpec) -> Option<Arc<Environment>> {
        if let Some(environment) = self.environments.find(&self.functions, spec) {
            return Some(environment);
        }
        let environment = self.functions.installed_environment(spec)?;
        self.environments.insert(spec.clone(), &environment);
        Some(environment)
    }

    /// Calls a function of a project within a job. On return, even with an error, the job contains
    /// the printed lines, the usage and the queue time.
    pub async fn call(
        &self,
        (project, given): (&Project, &EnvironmentCache),
        callable: &Callable,
        input: CallInput,
        context: &JobContext,
    ) -> Result<FunctionResult> {
        let CallInput { arguments, returns, lake, client } = input;
        let (cancelled, draining) = (context.cancelled(), context.draining());
        let (asked, label) = (Instant::now(), callable.name.clone());
        let environment = tokio::select! {
            environment = self.environment_of(project, given, callable, context) => environment,
            () = cancelled.cancelled() => {
                Err(Error::other(&headwater_functions::Error::Cancelled { label }))
            }
            () = draining.cancelled() => {
                Err(Error::other(&headwater_functions::Error::Stopping { label }))
            }
        };
        let environment_ms = u64::try_from(asked.elapsed().as_millis()).unwrap_or(u64::MAX);
        context.add_usage(&Usage { environment_ms, ..Usage::default() });
        let environment = environment?;
        let secrets = FunctionSecrets::read(&self.secrets, &callable.function).await?;
        let call = FunctionCall {
            project,
            function: &callable.function,
            environment,
            arguments,
            returns,
            limits: callable.limits(&project.defaults),
            secrets,
            label: &callable.name,
            model: None,
            share: CallOwner {
                owner: format!("caller `{}`", context.author()).into(),
                job: Some(context.id()),
                priority: callable.priority(&project.defaults),
            },
            reuse: if callable.function.reuse {
                ReuseScope::SameFunction
            } else {
                ReuseScope::Never
            },
            start_until: context.draining(),
            lake,
            client,
            early_result: None,
        };
        let outcome = self.invoke(call, context, cancelled.clone()).await;
        context.add_usage(&outcome.usage);
        let settled = match outcome.returned {
            // Count the table against the quota for rows of all runs instead of the function's
            // memory.
            Ok(FunctionResult::Table(table)) => {
                let table = table.claim_or_spill(&self.table_quota).await;
                table.map(FunctionResult::Table).map_err(headwater_functions::Error::from)
            }
            other => other,
        };
        settled.map_err(|error| Error::other(&error))
    }

    async fn environment_of(
        &self,
        project: &Project,
        given: &EnvironmentCache,
        callable: &Callable,
        context: &JobContext,
    ) -> Result<Arc<Environment>> {
        let spec = environment_spec(&project.defaults, &callable.function);
        if let Some(environment) = given.find(&self.functions, &spec) {
            return Ok(environment);
        }
        let installed = self.install_environment(&spec, None, context).await;
        let environment = installed.map_err(|error| Error::other(&error))?;
        given.insert(spec, &environment);
        Ok(environment)
    }
}
