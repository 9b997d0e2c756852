//! Specifications of the environments that functions declare, and checks that this host can create
//! them.

use std::collections::BTreeMap;

use headwater_functions::{EnvironmentSpec, Functions};
use headwater_model::ToProblem;
use headwater_project::fingerprint::environment;
use headwater_project::{Defaults, PythonFunction};

use crate::{Error, Location, Result};

/// Returns the specification of the environment that a function needs.
pub(crate) fn environment_spec(defaults: &Defaults, function: &PythonFunction) -> EnvironmentSpec {
    let (python, packages) = environment(defaults, function);
    let system = function.system.clone().unwrap_or_else(|| defaults.system.clone());
    EnvironmentSpec { python, packages, system, pins: BTreeMap::new() }
}

/// A step or a callable function that needs an environment.
pub(crate) struct EnvironmentConsumer<'a> {
    pub name: &'a str,
    /// Location of the definition.
    pub at: &'a Location,
    pub function: &'a PythonFunction,
    pub defaults: &'a Defaults,
}

impl EnvironmentConsumer<'_> {
    /// Checks that this host can create the environment. Installs nothing.
    ///
    /// Error: `environment_failed`, at the location of the project's default Python version if the
    /// function uses this version and it is not available.
    pub(crate) fn check(&self, functions: &Functions, spec: &EnvironmentSpec) -> Result<()> {
        functions.check_environment(spec).map_err(|error| {
            let python =
                EnvironmentSpec { python: spec.python.clone(), ..EnvironmentSpec::default() };
            let is_default =
                self.function.python.is_none() && functions.check_environment(&python).is_err();
            let default = self.defaults.python_at.as_ref().filter(|_| is_default);
            let at = self.function.python_at.as_ref().or(default).unwrap_or(self.at);
            let problem = Box::new(error.to_problem());
            Error::Environment { step: self.name.to_owned(), at: at.clone(), problem }
        })
    }
}
