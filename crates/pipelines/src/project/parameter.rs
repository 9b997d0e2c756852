//! Parameters: declared in `headwater.toml`, used as `$name` in SQL and
//! `headwater.Parameter("name")` in Python, given with `--param name=value`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use headwater_model::nearest;

use crate::{Error, Location, Result, Step, suggest};

/// A parameter that the project declares.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// The type of its value.
    pub kind: ParameterKind,
    /// Its value where none is given.
    pub default: Option<Value>,
    /// Whether a run that uses it must give a value: where it has no default, or the project says
    /// so.
    pub required: bool,
    /// What it is for.
    pub description: Option<String>,
    /// Where it is declared.
    pub at: Location,
}

/// The type of a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParameterKind {
    /// Text.
    Str,
    /// A whole number.
    Int,
    /// A number.
    Float,
    /// `true` or `false`.
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

    /// `a text`, `a whole number`, `a number`, `true` or `false`.
    pub(super) const fn article(self) -> &'static str {
        match self {
            ParameterKind::Str => "a text",
            ParameterKind::Int => "a whole number",
            ParameterKind::Float => "a number",
            ParameterKind::Bool => "`true` or `false`",
        }
    }
}

/// Every parameter that a step uses must be declared.
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

/// The values of a run: those given, checked against their types, over the defaults. What is given
/// must be used, and what is used and required must be given.
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
