//! A check of the memory limits of functions. A limit below the minimum is almost always a number
//! without its unit: no call could succeed.
//!
//! Only deployments check limits, so that a version that is already active stays usable.

use headwater_model::FUNCTION_MEMORY_BYTES_MIN;

use crate::{Error, Location, Project, Result, StepCode};

/// Checks the memory limits of the project's functions and of its models in Python.
pub(super) fn check(project: &Project) -> impl Iterator<Item = Error> {
    let defaults = &project.defaults;
    let callables = project.callables.values();
    let callables = callables
        .map(move |one| check_limit(&one.name, &one.at, one.limits(defaults).memory_bytes));
    let steps = project.steps.iter().filter_map(move |step| {
        let StepCode::Python(function) = &step.body else { return None };
        let limits = function.limits(defaults, step.memory_bytes, step.timeout);
        Some(check_limit(&step.name, &step.at, limits.memory_bytes))
    });
    callables.chain(steps).filter_map(Result::err)
}

fn check_limit(name: &str, at: &Location, bytes: u64) -> Result<()> {
    if bytes >= FUNCTION_MEMORY_BYTES_MIN {
        return Ok(());
    }
    let message =
        format!("the memory limit of `{name}`, {bytes} bytes, is below the minimum of 16 MiB");
    let hint = if bytes < 16 << 10 {
        format!("A number without a unit is in bytes. Write the unit, as in `{bytes}MiB`.")
    } else {
        "Raise `memory` to `16MiB` or more.".to_owned()
    };
    Err(Error::invalid(at.clone(), message, hint))
}
