//! A check of the memory limits of functions. With a limit below the minimum, no call could
//! succeed. Such a limit is almost always a number without its unit.
//!
//! Deployments check all limits. A run checks only the models that it executes, so that the other
//! models of a version that is already active stay usable.

use headwater_model::FUNCTION_MEMORY_BYTES_MIN;

use crate::{Defaults, Error, Location, Project, Result, Step};

/// Checks the memory limits of the project's functions and of its models in Python.
pub(super) fn check(project: &Project) -> impl Iterator<Item = Error> {
    let defaults = &project.defaults;
    let callables = project.callables.values();
    let callables = callables
        .map(move |one| check_limit(&one.name, &one.at, one.limits(defaults).memory_bytes));
    let steps = project.steps.iter().map(move |step| check_memory(defaults, step));
    callables.chain(steps).filter_map(Result::err)
}

/// Checks the memory limit of a step in Python. A step in SQL has no minimum.
///
/// Errors: `invalid_project`.
pub fn check_memory(defaults: &Defaults, step: &Step) -> Result<()> {
    let Some(function) = step.function() else { return Ok(()) };
    let limits = function.limits(defaults, step.memory_bytes, step.timeout);
    check_limit(&step.name, &step.at, limits.memory_bytes)
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
