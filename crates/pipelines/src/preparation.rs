//! Preparation of functions ahead of expected calls: the environment, its zygote and an instance.

use std::time::{Duration, Instant};

use headwater_functions::{CallOwner, ClientCall, ExpectedCall, Returns, Reuse};
use headwater_model::Priority;
use tokio_util::sync::CancellationToken;

use crate::function_secrets::FunctionSecrets;
use crate::invocation::FunctionCall;
use crate::{Callable, EnvironmentCache, Error, Project, Result, Runner, fingerprint};

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
        let function = &callable.function;
        let spec = fingerprint::environment_spec(&project.defaults, function);
        let environment = if let Some(environment) = given.find(&self.functions, &spec) {
            environment
        } else {
            let installed = self.functions.environment(&spec, &|_| ()).await;
            let environment = installed.map_err(|error| Error::other(&error))?;
            given.note(spec, &environment);
            environment
        };
        if expected.at <= Instant::now() {
            return Ok(());
        }
        let may_start = function.reuse && function.secrets.is_empty();
        let owner = format!("preparation of `{}`", callable.name).into();
        let call = FunctionCall {
            project,
            function,
            environment,
            arguments: Vec::new(),
            returns: Returns::Any,
            limits: callable.limits(&project.defaults),
            secrets: FunctionSecrets::default(),
            label: &callable.name,
            model: None,
            share: CallOwner { owner, job: None, priority: Priority::Low },
            reuse: if may_start { Reuse::SameFunction } else { Reuse::Never },
            start_until: CancellationToken::new(),
            lake: None,
            client: ClientCall::default(),
            early_result: None,
        };
        let (invocation, _) = self.invocation_of(call);
        self.functions.prepare(&invocation, expected).await;
        Ok(())
    }
}
