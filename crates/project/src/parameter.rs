//! Parameters: declared in the project file, used as `$name` in SQL and
//! `headwater.Parameter("name")` in Python, and set with `--param name=value`.
//!
//! The value of a secret parameter is the lake's secret of the same name. The secret is passed only
//! to Python functions, and is never part of a plan, a job or a fingerprint.

use std::collections::{BTreeMap, BTreeSet};

use headwater_model::{PROJECT_FILE, ToProblem, did_you_mean, nearest};
use serde_json::Value;

use super::Project;
use crate::{Error, Location, Result, Step};

/// A declared parameter.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// Type of the value.
    pub kind: ParameterKind,
    /// Default value.
    pub default: Option<Value>,
    /// True if a run that uses the parameter must set a value. The parameter is declared as
    /// required, or has no default.
    pub required: bool,
    /// Description.
    pub description: Option<String>,
    /// Location of the declaration.
    pub at: Location,
}

/// Type of a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParameterKind {
    /// String.
    Str,
    /// 64-bit integer.
    Int,
    /// Finite 64-bit float.
    Float,
    /// Boolean.
    Bool,
    /// Name of a secret of the lake.
    Secret,
}

impl ParameterKind {
    fn read(self, name: &str, text: &str, file: &str) -> Result<Value> {
        let value = match self {
            ParameterKind::Secret => return Err(secret_in_value(name)),
            ParameterKind::Str => Some(text.into()),
            ParameterKind::Int => text.trim().parse::<i64>().ok().map(Into::into),
            ParameterKind::Float => {
                text.trim().parse::<f64>().ok().filter(|value| value.is_finite()).map(Into::into)
            }
            ParameterKind::Bool => text.trim().parse::<bool>().ok().map(Into::into),
        };
        value.ok_or_else(|| Error::Parameter {
            message: format!("parameter `{name}` must be {}, not `{text}`", self.article()),
            hint: format!("Set a value of this type, or change the type in {file}."),
        })
    }

    /// Returns the type as a phrase with its article for messages, such as `a whole number`.
    pub(super) const fn article(self) -> &'static str {
        match self {
            ParameterKind::Str => "a text",
            ParameterKind::Int => "a whole number",
            ParameterKind::Float => "a number",
            ParameterKind::Bool => "`true` or `false`",
            ParameterKind::Secret => "a secret",
        }
    }
}

fn secret_in_value(name: &str) -> Error {
    let message = format!("parameter `{name}` is a secret, so a run cannot set its value");
    Error::Parameter {
        message,
        hint: format!("Store the secret with `headwater secret set {name}`."),
    }
}

/// Returns the hint for a parameter that the project file does not declare.
fn how_to_declare(name: &str, file: &str) -> String {
    match file {
        PROJECT_FILE => {
            format!("Declare the parameter as `[parameters.{name}]` in headwater.toml.")
        }
        file => format!("Declare `{name}` below `parameters:` in {file}."),
    }
}

/// Checks that every parameter that a step uses is declared.
pub(super) fn check_uses(project: &Project) -> Result<()> {
    let declared = &project.parameters;
    let steps = project.steps.iter();
    let mut uses = steps.flat_map(|step| step.parameters.iter().map(move |it| (step, it)));
    let unknown = uses.find(|(_, used)| !declared.contains_key(&used.name));
    let Some((step, used)) = unknown else { return Ok(()) };
    let near = nearest(&used.name, declared.keys().map(String::as_str));
    let hint = did_you_mean(near.as_deref(), &how_to_declare(&used.name, project.file));
    let message = format!(
        "`{}` uses parameter `{}`, which the project does not declare",
        step.name, used.name
    );
    Err(Error::invalid(used.at.clone(), message, hint))
}

/// Adds the secrets of parameters to the functions that receive them. Fails if SQL uses a secret
/// parameter.
pub(super) fn use_secrets(project: &mut Project) -> Result<()> {
    let declared = &project.parameters;
    for step in &mut project.steps {
        for used in &step.parameters {
            let Some(parameter) = declared.get(&used.name) else { continue };
            if parameter.kind != ParameterKind::Secret {
                continue;
            }
            let name = &used.name;
            headwater_secrets::check_name(name).map_err(|error| Error::Invalid {
                at: parameter.at.clone(),
                message: error.to_string(),
                hint: error.hint(),
            })?;
            let Some(function) = used.argument.as_ref().and(step.body.as_function_mut()) else {
                let message = format!("SQL of `{}` uses `{name}`, which is a secret", step.name);
                let hint = "Use secrets in Python functions only.";
                return Err(Error::invalid(used.at.clone(), message, hint));
            };
            if !function.secrets.contains(name) {
                function.secrets.push(name.clone());
            }
        }
    }
    Ok(())
}

/// Returns the parameter values of a run: the given values, checked against their types, or the
/// defaults. Fails if no step uses a given parameter, or if a required parameter is missing.
pub(super) fn values(
    project: &Project,
    given: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, Value>> {
    let (declared, steps) = (&project.parameters, &project.steps);
    let used: BTreeSet<&str> =
        steps.iter().flat_map(|step| &step.parameters).map(|used| used.name.as_str()).collect();
    for name in given.keys() {
        check_declared(name, project, &used)?;
    }
    let mut values = BTreeMap::new();
    for (name, parameter) in declared {
        let value = match given.get(name) {
            Some(text) => Some(parameter.kind.read(name, text, project.file)?),
            None if parameter.required && used.contains(&**name) => {
                return Err(missing(name, steps));
            }
            None => parameter.default.clone(),
        };
        values.insert(name.clone(), value.unwrap_or(Value::Null));
    }
    Ok(values)
}

fn check_declared(name: &str, project: &Project, used: &BTreeSet<&str>) -> Result<()> {
    let declared = &project.parameters;
    if !declared.contains_key(name) {
        let message = format!("the project does not declare a parameter `{name}`");
        let near = nearest(name, declared.keys().map(String::as_str));
        let hint = did_you_mean(near.as_deref(), &how_to_declare(name, project.file));
        return Err(Error::Parameter { message, hint });
    }
    if !used.contains(name) {
        let message =
            format!("parameter `{name}` is given, but no model and no expectation uses it");
        let hint = format!("Remove `--param {name}=…`, or use the parameter in a model.");
        return Err(Error::Parameter { message, hint });
    }
    Ok(())
}

fn missing(name: &str, steps: &[Step]) -> Error {
    let uses = steps.iter().flat_map(|step| step.parameters.iter().map(move |used| (step, used)));
    let user = uses.into_iter().find(|(_, used)| used.name == name);
    let user = user.map_or_else(String::new, |(step, used)| {
        format!(", and `{}` uses it ({})", step.name, used.at)
    });
    let message = format!("parameter `{name}` has no value{user}");
    Error::Parameter { message, hint: format!("Set the value with `--param {name}=VALUE`.") }
}
