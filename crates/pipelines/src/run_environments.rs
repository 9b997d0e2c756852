//! Environments of a run: the installed packages that the run records, and the packages that an
//! exact rerun installs again instead of resolving them.

use std::collections::BTreeMap;

use headwater_functions::{Environment, EnvironmentSpec};
use headwater_jobs::JobContext;
use headwater_model::{JobEventKind, RunEnvironment};
use headwater_project::{PythonFunction, fingerprint};

use crate::environment_spec::environment_spec;
use crate::{Defaults, Runner};

/// The packages that a run must use, by the declaration of the environment.
#[derive(Debug, Clone, Default)]
pub(crate) struct PinnedEnvironments(BTreeMap<String, RunEnvironment>);

impl PinnedEnvironments {
    /// Creates the map from the environments in a request. If several of them have the same
    /// declaration, the last one is used.
    pub fn new(environments: &[RunEnvironment]) -> Self {
        let pins = environments.iter().map(|one| (one.environment.clone(), one.clone()));
        PinnedEnvironments(pins.collect())
    }

    /// Returns the specification of a function's environment, with the pinned packages. If the
    /// environment that the function declares has exactly these packages, returns the specification
    /// of that environment, so that nothing is installed.
    pub fn spec(
        &self,
        runner: &Runner,
        defaults: &Defaults,
        function: &PythonFunction,
    ) -> EnvironmentSpec {
        let declared = environment_spec(defaults, function);
        if self.0.is_empty() {
            return declared;
        }
        let text = fingerprint::environment_text(defaults, function);
        let Some(pinned) = self.0.get(&text) else { return declared };
        let current = runner.installed_environment(&declared);
        let is_same = current.is_some_and(|current| {
            current.version == pinned.python && current.packages == pinned.packages
        });
        if is_same {
            return declared;
        }
        let (python, pins) = (Some(pinned.python.clone()), pinned.packages.clone());
        EnvironmentSpec { python, pins, ..declared }
    }
}

/// The environments that a run has recorded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RecordedEnvironments(Vec<RunEnvironment>);

impl RecordedEnvironments {
    /// Adds the environment of a function. Returns the environment if it is new.
    pub fn add(
        &mut self,
        defaults: &Defaults,
        function: &PythonFunction,
        environment: &Environment,
    ) -> Option<&RunEnvironment> {
        let used = RunEnvironment {
            environment: fingerprint::environment_text(defaults, function),
            python: environment.version.clone(),
            packages: environment.packages.clone(),
        };
        if self.0.contains(&used) {
            return None;
        }
        self.0.push(used);
        self.0.last()
    }

    /// Records the environments in the events of a job.
    pub fn emit(&self, context: &JobContext) {
        for environment in &self.0 {
            context.emit(recorded(environment));
        }
    }
}

/// Returns the event that records an environment.
pub(crate) fn recorded(environment: &RunEnvironment) -> JobEventKind {
    JobEventKind::Environment { environment: Box::new(environment.clone()) }
}

/// Returns the packages that an exact rerun of a run must use: the packages that this run recorded.
/// For environments that the run failed to record, returns the packages to which the run itself was
/// pinned (`pins`).
pub fn rerun_environments(
    recorded: Vec<RunEnvironment>,
    pins: &[RunEnvironment],
) -> Vec<RunEnvironment> {
    let is_recorded =
        |pin: &RunEnvironment| recorded.iter().any(|one| one.environment == pin.environment);
    let unused: Vec<_> = pins.iter().filter(|pin| !is_recorded(pin)).cloned().collect();
    unused.into_iter().chain(recorded).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(declared: &str, six: &str) -> RunEnvironment {
        let packages = BTreeMap::from([("six".to_owned(), six.to_owned())]);
        RunEnvironment { environment: declared.to_owned(), python: "3.11".to_owned(), packages }
    }

    #[test]
    fn a_rerun_keeps_the_pins_of_environments_that_the_run_did_not_record() {
        let pins = [environment("a", "1.15.0"), environment("b", "1.15.0")];
        let recorded = environment("b", "1.16.0");
        let all = rerun_environments(vec![recorded.clone()], &pins);
        assert_eq!(all, [pins[0].clone(), recorded]);
        assert_eq!(rerun_environments(Vec::new(), &pins), pins);
    }
}
