//! Errors of projects, with code, hint and context. An error at a location in a file includes the
//! file and line.

use std::collections::BTreeMap;

use headwater_model::{ErrorCode, Problem, ToProblem};
use serde_json::{Value, json};

use crate::Location;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Error of a project's files or parameters.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The project has no project file.
    #[error("the project has no `headwater.toml`")]
    NoManifest,

    /// A project file breaks a rule.
    #[error("{message} ({at})")]
    Invalid {
        /// Location of the error.
        at: Location,
        /// The rule and the value that breaks it.
        message: String,
        /// Suggested fix.
        hint: Option<String>,
    },

    /// Several errors in the files of a project.
    #[error("the project has {} errors", errors.len())]
    Several {
        /// The errors. Errors in the project file come first.
        errors: Vec<Error>,
    },

    /// Two steps with the same name.
    #[error("duplicate definition of `{name}` in {first} and {second}")]
    Duplicate {
        /// Step name.
        name: String,
        /// First definition.
        first: Location,
        /// Second definition.
        second: Location,
    },

    /// Models that depend on each other in a cycle.
    #[error("models depend on each other in a cycle: {}", cycle_text(path))]
    Cycle {
        /// The models of the cycle, each with the location at which it reads the next model.
        path: Vec<(String, Location)>,
    },

    /// A SQL model cannot be parsed or planned.
    #[error("model `{step}` cannot be planned ({at})")]
    Sql {
        /// Model name.
        step: String,
        /// File and line of the error in the SQL, or the start of the model.
        at: Location,
        /// The parser's or planner's error.
        #[source]
        problem: Box<Problem>,
    },

    /// A parameter value is missing, unknown, unused or of the wrong type.
    #[error("{message}")]
    Parameter {
        /// Description of the error.
        message: String,
        /// Suggested fix.
        hint: String,
    },

    /// Any other problem.
    #[error(transparent)]
    Other(Box<Problem>),
}

impl Error {
    /// Creates the error for a project file that breaks a rule at a location.
    pub fn invalid(at: Location, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Error::Invalid { at, message: message.into(), hint: Some(hint.into()) }
    }

    /// Creates an error for an invalid function call.
    pub(crate) fn call(message: String, hint: impl Into<String>) -> Self {
        Problem::new(ErrorCode::InvalidArgument, message).with_hint(hint).into()
    }

    /// Adds the name of the parameter whose value occurs in the error of a query. An empty value is
    /// not named, because `''` in a message can also be an empty value of a row, or an escaped
    /// quote.
    #[must_use]
    pub fn with_parameters(mut self, values: &BTreeMap<String, Value>) -> Self {
        let Error::Sql { problem, .. } = &mut self else { return self };
        let texts = values.iter().filter_map(|(name, value)| Some((name, value.as_str()?)));
        let mut shown = texts
            .filter(|(_, text)| !text.is_empty() && problem.message.contains(&format!("'{text}'")));
        if let Some((name, text)) = shown.next() {
            problem.message =
                format!("the parameter `{name}` has the value `{text}`: {}", problem.message);
            problem.hint = Some(format!("Correct the value of `{name}`."));
        }
        self
    }

    /// Returns the error without its location, for a project whose files were generated.
    #[must_use]
    pub fn without_location(self) -> Self {
        let Error::Invalid { message, hint, .. } = self else { return self };
        let hint = hint.map(headwater_model::sentence);
        Problem { hint, ..Problem::new(ErrorCode::InvalidArgument, message) }.into()
    }

    /// Returns the file in which the error is, if it has a location.
    pub(crate) fn file(&self) -> Option<&str> {
        match self {
            Error::Invalid { at, .. } | Error::Sql { at, .. } => Some(&at.file),
            Error::Duplicate { second, .. } => Some(&second.file),
            _ => None,
        }
    }
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        Error::Other(Box::new(problem))
    }
}

impl ToProblem for Error {
    fn code(&self) -> ErrorCode {
        match self {
            Error::NoManifest
            | Error::Several { .. }
            | Error::Invalid { .. }
            | Error::Duplicate { .. }
            | Error::Cycle { .. } => ErrorCode::InvalidProject,
            Error::Sql { problem, .. } | Error::Other(problem) => problem.code,
            Error::Parameter { .. } => ErrorCode::InvalidArgument,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Error::NoManifest => Some("Run `headwater init` to create one.".into()),
            Error::Several { .. } => Some("Correct the files that are listed.".into()),
            Error::Invalid { hint, .. } => hint.clone(),
            Error::Duplicate { .. } => Some("Rename one of the definitions.".into()),
            Error::Cycle { .. } => {
                Some("Rename a model, or remove one of the references between the models.".into())
            }
            Error::Sql { problem, .. } => Some(problem.hint.clone().unwrap_or_else(|| {
                "Correct the query; `headwater table get TABLE` lists a table's columns.".to_owned()
            })),
            Error::Parameter { hint, .. } => Some(hint.clone()),
            Error::Other(problem) => problem.hint.clone(),
        }
    }

    fn context(&self) -> BTreeMap<String, serde_json::Value> {
        let mut context = BTreeMap::new();
        let mut put = |key: &str, value| context.insert(key.to_owned(), value);
        match self {
            Error::Invalid { at, .. } => {
                put("file", json!(&*at.file));
                put("line", json!(at.line));
            }
            Error::Several { errors } => {
                let errors = errors.iter().map(ToProblem::to_problem);
                put("errors", json!(errors.collect::<Vec<Problem>>()));
            }
            Error::Sql { step, at, problem } => {
                context.clone_from(&problem.context);
                let mut put = |key: &str, value| context.insert(key.to_owned(), value);
                put("step", json!(step));
                put("file", json!(&*at.file));
                put("line", json!(at.line));
            }
            Error::Other(problem) => context.extend(problem.context.clone()),
            Error::NoManifest
            | Error::Duplicate { .. }
            | Error::Cycle { .. }
            | Error::Parameter { .. } => {}
        }
        context
    }

    /// Converts the error to a problem. Several errors become the causes of one problem.
    fn to_problem(&self) -> Problem {
        let causes = match self {
            Error::Several { errors } => errors.iter().map(listed).collect(),
            Error::Sql { problem, .. } => with_causes(problem),
            Error::Other(problem) => problem.causes.clone(),
            _ => Vec::new(),
        };
        let (code, message) = (self.code(), self.to_string());
        let hint = self.hint().map(headwater_model::sentence);
        Problem { code, message, causes, hint, context: self.context() }
    }
}

/// Formats one of several errors as a line with message, causes and hint.
fn listed(error: &Error) -> String {
    let problem = error.to_problem();
    let mut line = with_causes(&problem).join(": ");
    if let Some(hint) = problem.hint {
        line = format!("{line}; {hint}");
    }
    line
}

fn cycle_text(path: &[(String, Location)]) -> String {
    let mut text: Vec<String> = path.iter().map(|(name, at)| format!("`{name}` ({at})")).collect();
    if let Some((name, _)) = path.first() {
        text.push(format!("`{name}`"));
    }
    text.join(" reads ")
}

fn with_causes(problem: &Problem) -> Vec<String> {
    std::iter::once(problem.message.clone()).chain(problem.causes.iter().cloned()).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn message(text: &str, values: &[(&str, &str)]) -> String {
        let problem = Problem::new(ErrorCode::InvalidSql, text);
        let at = Location { file: Arc::from("m.sql"), line: 1 };
        let error = Error::Sql { step: "m".to_owned(), at, problem: Box::new(problem) };
        let value = |(name, value): &(&str, &str)| ((*name).to_owned(), Value::from(*value));
        let error = error.with_parameters(&values.iter().map(value).collect());
        let Error::Sql { problem, .. } = error else { panic!("another error") };
        problem.message
    }

    #[test]
    fn the_error_names_the_parameter_whose_value_it_contains() {
        let values = [("kind", ""), ("day", "soon")];
        assert_eq!(
            message("cannot cast 'soon' to a date", &values),
            "the parameter `day` has the value `soon`: cannot cast 'soon' to a date"
        );
        for other in ["cannot cast '' to a number", "cannot cast 'it''s' to a number"] {
            assert_eq!(message(other, &values), other);
        }
    }
}
