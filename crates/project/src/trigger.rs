//! Checks of the functions that triggers call.

use headwater_model::Fault;

use super::Project;
use super::manifest::LocatedTrigger;
use crate::{Error, suggest};

/// Returns an error, with the function's name, for each trigger whose function is missing or does
/// not take exactly one argument. A function is not reported as missing if a file that cannot be
/// parsed may define it.
pub(super) fn check(
    triggers: &[LocatedTrigger],
    project: &Project,
    errors: &[Error],
) -> Vec<(String, Error)> {
    let may_define = |error: &Error, name: &str| {
        let file = error.file().filter(|file| *file != project.file);
        file.and_then(|file| project.files.get(file)).is_some_and(|file| file.text().contains(name))
    };
    let check = |located: &LocatedTrigger| {
        let name = located.trigger.function.as_deref()?;
        let error = match project.callables.get(name).map(super::Callable::event_argument) {
            Some(argument) => argument.err().map(|error| {
                let message = format!("trigger `{}`: {error}", located.trigger.name);
                Error::Invalid { at: located.at.clone(), message, hint: error.hint() }
            }),
            None if errors.iter().any(|error| may_define(error, name)) => None,
            None => Some(missing(located, name, project)),
        };
        error.map(|error| (name.to_owned(), error))
    };
    triggers.iter().filter_map(check).collect()
}

fn missing(located: &LocatedTrigger, name: &str, project: &Project) -> Error {
    let trigger = &located.trigger.name;
    let message =
        format!("trigger `{trigger}` calls function `{name}`, which the project does not define");
    let is_model = project.steps.iter().any(|step| step.table.name == name);
    let hint = if is_model {
        format!("`{name}` is a model or an expectation; name a function instead.")
    } else if project.callables.is_empty() {
        format!("Define `{name}` with `@headwater.function()`.")
    } else {
        suggest::hint(name, project.callables.keys().map(String::as_str), "functions")
    };
    Error::invalid(located.at.clone(), message, hint)
}
