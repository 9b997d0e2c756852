//! Preparation of functions ahead of expected calls: the environment, its zygote and an instance.
//! Provisioned instances start in the same way.

use std::sync::Arc;
use std::time::{Duration, Instant};

use headwater_functions::{
    CallOwner, Environment, EnvironmentCache, ExpectedCall, Invocation, OptionalCallParts,
    ResultKind, ReuseScope,
};
use headwater_model::Priority;
use tokio_util::sync::CancellationToken;

use crate::environment_spec::{EnvironmentConsumer, environment_spec};
use crate::function_secrets::FunctionSecrets;
use crate::invocation::FunctionCall;
use crate::{Callable, Error, Project, Result, Runner, StepCode};

/// A function with provisioned concurrency.
#[derive(Clone, Copy)]
pub struct ProvisionedCallable<'a> {
    /// The project that defines the function.
    pub project: &'a Project,
    /// Cache of the installed environments.
    pub given: &'a EnvironmentCache,
    /// The declaration of the function.
    pub callable: &'a Callable,
    /// Name of this provisioned-concurrency setting, unique for each function and version.
    pub name: &'a str,
}

impl Runner {
    /// Returns the time before an expected call of a function at which [`Runner::prepare`] should
    /// start.
    pub fn preparation_time(&self, function: &str) -> Duration {
        self.functions.preparation_time(function)
    }

    /// Prepares a function for an expected call, without calling it. Installs a missing
    /// environment. If the time of the call passes during the installation, does nothing more.
    ///
    /// An instance is started only for a function with `reuse` and without secrets. Secrets are
    /// read only within the job of a call, which records their use.
    pub async fn prepare(
        &self,
        project: &Project,
        given: &EnvironmentCache,
        callable: &Callable,
        expected: ExpectedCall,
    ) -> Result<()> {
        let environment = self.prepared_environment(project, given, callable).await?;
        if expected.at <= Instant::now() {
            return Ok(());
        }
        let invocation = self.preparation(project, callable, environment);
        self.functions.prepare(&invocation, expected).await;
        Ok(())
    }

    /// Sets the number of provisioned instances of a function. [`Runner::retain_provisioned`]
    /// removes the setting. Installs the environment if it is missing. Does not wait for the start
    /// of the instances.
    ///
    /// If the function cannot have provisioned instances, its status contains the reason.
    pub async fn provision(
        &self,
        ProvisionedCallable { project, given, callable, name }: ProvisionedCallable<'_>,
        count: usize,
    ) {
        let environment = if let Some(reason) = callable.provisioning_obstacle() {
            Err(reason.to_owned())
        } else {
            let found = self.prepared_environment(project, given, callable).await;
            found.map_err(|error| error.to_string())
        };
        let invocation =
            environment.map(|environment| self.preparation(project, callable, environment));
        self.functions.provision(name, count, invocation);
    }

    /// Removes the provisioned-concurrency settings whose names do not satisfy `keeps`, and ends
    /// their idle instances.
    pub fn retain_provisioned(&self, keeps: impl Fn(&str) -> bool) {
        self.functions.retain_provisioned(keeps);
    }

    /// Checks that the Python versions and programs of all functions of a project are available on
    /// this host, and that their package requirements are valid. Installs nothing.
    pub fn check_environments(&self, project: &Project) -> Result<()> {
        let callables = project.callables.values();
        let callables = callables.map(|one| (&one.name, &one.at, &one.function));
        let steps = project.steps.iter().filter_map(|step| match &step.body {
            StepCode::Python(function) => Some((&step.name, &step.at, &**function)),
            StepCode::Sql(_) => None,
        });
        for (name, at, function) in callables.chain(steps) {
            let spec = environment_spec(&project.defaults, function);
            if self.environments.find(&self.functions, &spec).is_some() {
                continue;
            }
            let user = EnvironmentConsumer { name, at, function, defaults: &project.defaults };
            user.check(&self.functions, &spec)?;
        }
        Ok(())
    }

    /// Returns the environment of a function, and installs it if it is missing.
    async fn prepared_environment(
        &self,
        project: &Project,
        given: &EnvironmentCache,
        callable: &Callable,
    ) -> Result<Arc<Environment>> {
        let spec = environment_spec(&project.defaults, &callable.function);
        if let Some(environment) = given.find(&self.functions, &spec) {
            return Ok(environment);
        }
        let installed = self.functions.environment(&spec, &|_| ()).await;
        let environment = installed.map_err(|error| Error::other(&error))?;
        given.insert(spec, &environment);
        Ok(environment)
    }

    /// Returns the invocation that describes the instance to start.
    fn preparation(
        &self,
        project: &Project,
        callable: &Callable,
        environment: Arc<Environment>,
    ) -> Invocation {
        let function = &callable.function;
        let may_start = function.reuse && function.secrets.is_empty();
        let owner = format!("preparation of `{}`", callable.name).into();
        let call = FunctionCall {
            project,
            function,
            environment,
            arguments: Vec::new(),
            returns: ResultKind::Any,
            limits: callable.limits(&project.defaults),
            secrets: FunctionSecrets::default(),
            label: &callable.name,
            model: None,
            share: CallOwner { owner, job: None, priority: Priority::Low },
            reuse: if may_start { ReuseScope::SameFunction } else { ReuseScope::Never },
            start_until: CancellationToken::new(),
            lake: None,
            client: OptionalCallParts::default(),
            early_result: None,
        };
        self.invocation_of(call).0
    }
}
