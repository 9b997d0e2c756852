//! Checks of the functions that triggers call, and of the names of triggers.

use std::collections::BTreeMap;

use headwater_model::ToProblem;

use super::Project;
use super::manifest::LocatedTrigger;
use crate::{Error, Location, unknown_name_hints};

/// Returns an error for each trigger whose name is not unique, whose function is missing, or whose
/// function does not take exactly one argument. Each error contains the function's name. A missing
/// function is not an error if a file that cannot be parsed may define it.
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
    triggers.iter().filter_map(check).chain(duplicates(triggers)).collect()
}

fn duplicates(triggers: &[LocatedTrigger]) -> Vec<(String, Error)> {
    let mut named: BTreeMap<&str, &Location> = BTreeMap::new();
    let mut errors = Vec::new();
    for LocatedTrigger { at, trigger } in triggers {
        let Some(first) = named.insert(&trigger.name, at) else { continue };
        let message = format!("trigger `{}` is also declared in {first}", trigger.name);
        let hint = "Rename one of the two triggers. For a trigger in `on`, set the name with the \
                    key `\"name\"`.";
        let function = trigger.function.clone().unwrap_or_default();
        errors.push((function, Error::invalid(at.clone(), message, hint)));
    }
    errors
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
        unknown_name_hints::hint(name, project.callables.keys().map(String::as_str), "functions")
    };
    Error::invalid(located.at.clone(), message, hint)
}
