//! Specifications of the environments that functions declare.

use std::collections::BTreeMap;

use headwater_functions::EnvironmentSpec;
use headwater_project::fingerprint::environment;
use headwater_project::{Defaults, PythonFunction};

/// Returns the environment description of a function.
pub(crate) fn environment_spec(defaults: &Defaults, function: &PythonFunction) -> EnvironmentSpec {
    let (python, packages) = environment(defaults, function);
    let system = function.system.clone().unwrap_or_else(|| defaults.system.clone());
    EnvironmentSpec { python, packages, system, pins: BTreeMap::new() }
}
