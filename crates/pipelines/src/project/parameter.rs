//! Parameters: declared in `headwater.toml`, used as `$name` in SQL and
//! `headwater.Parameter("name")` in Python, and set with `--param name=value`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use headwater_model::nearest;

use crate::{Error, Location, Result, Step, suggest};

/// A declared parameter.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// Type of the value.
    pub kind: ParameterKind,
    /// Default value.
    pub default: Option<Value>,
    /// If true, a run that uses the parameter must set it: it has no default, or is declared as
    /// required.
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
}

impl ParameterKind {
    fn read(self, name: &str, text: &str) -> Result<Value> {
        let value = match self {
            ParameterKind::Str => Some(text.into()),
            ParameterKind::Int => text.trim().parse::<i64>().ok().map(Into::into),
            ParameterKind::Float => {
                text.trim().parse::<f64>().ok().filter(|value| value.is_finite()).map(Into::into)
            }
            ParameterKind::Bool => text.trim().parse::<bool>().ok().map(Into::into),
        };
        value.ok_or_else(|| Error::Parameter {
            message: format!("parameter `{name}` is {}, not `{text}`", self.article()),
            hint: "Give a value of that type, or change the type in headwater.toml.".to_owned(),
        })
    }

    /// Returns `a text`, `a whole number`, `a number`, or the two Boolean values.
    pub(super) const fn article(self) -> &'static str {
        match self {
            ParameterKind::Str => "a text",
            ParameterKind::Int => "a whole number",
            ParameterKind::Float => "a number",
            ParameterKind::Bool => "`true` or `false`",
        }
    }
}

/// Checks that every parameter that a step uses is declared.
pub(super) fn check_uses(declared: &BTreeMap<String, Parameter>, steps: &[Step]) -> Result<()> {
    let mut uses = steps.iter().flat_map(|step| step.parameters.iter().map(move |it| (step, it)));
    let unknown = uses.find(|(_, used)| !declared.contains_key(&used.name));
    let Some((step, used)) = unknown else { return Ok(()) };
    let near = nearest(&used.name, declared.keys().map(String::as_str));
    let hint = near.map_or_else(
        || format!("Declare it as `[parameters.{}]` in headwater.toml.", used.name),
        |near| format!("Did you mean `{near}`?"),
    );
    let message = format!(
        "`{}` uses parameter `{}`, which the project does not declare",
        step.name, used.name
    );
    Err(Error::invalid(used.at.clone(), message, hint))
}

/// Returns the values of a run: the given ones, checked against their types, or the defaults. Fails
/// if a given parameter is unused, or a required one is missing.
pub(super) fn values(
    declared: &BTreeMap<String, Parameter>,
    steps: &[Step],
    given: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, Value>> {
    let used: BTreeSet<&str> =
        steps.iter().flat_map(|step| &step.parameters).map(|used| used.name.as_str()).collect();
    for name in given.keys() {
        check_given(name, declared, &used)?;
    }
    let mut values = BTreeMap::new();
    for (name, parameter) in declared {
        let value = match given.get(name) {
            Some(text) => Some(parameter.kind.read(name, text)?),
            None if parameter.required && used.contains(&**name) => {
                return Err(missing(name, steps));
            }
            None => parameter.default.clone(),
        };
        values.insert(name.clone(), value.unwrap_or(Value::Null));
    }
    Ok(values)
}

fn check_given(
    name: &str,
    declared: &BTreeMap<String, Parameter>,
    used: &BTreeSet<&str>,
) -> Result<()> {
    if !declared.contains_key(name) {
        let message = format!("the project has no parameter `{name}`");
        let hint = suggest::hint(name, declared.keys().map(String::as_str), "parameters");
        return Err(Error::Parameter { message, hint });
    }
    if !used.contains(name) {
        let message =
            format!("parameter `{name}` is given, but no model and no expectation uses it");
        let hint = format!("Leave out `--param {name}=…`, or use it in a model.");
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
    Error::Parameter { message, hint: format!("Give it with `--param {name}=VALUE`.") }
}
