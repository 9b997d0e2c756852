//! A project as its files define it: settings, parameters, triggers and steps, parsed and never run.

mod literal;
mod manifest;
mod python;
mod python_code;
mod sql;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use headwater_model::{RateCard, TableName, Trigger};

use crate::source::SourceText;
use crate::{Error, Location, Result, Step};
pub(crate) use sql::located;

/// The file that makes a folder a project.
pub(crate) const MANIFEST: &str = "headwater.toml";

/// A project, parsed.
#[derive(Debug, Clone)]
pub struct Project {
    /// Its name.
    pub name: String,
    /// What steps have that do not say otherwise.
    pub defaults: Defaults,
    /// The parameters it declares.
    pub parameters: BTreeMap<String, Parameter>,
    /// What its work costs.
    pub rates: RateCard,
    /// What starts work by itself.
    pub triggers: Vec<Trigger>,
    /// Models and expectations, by name.
    pub steps: Vec<Step>,
    /// Every file, as it travels into sandboxes.
    pub files: Arc<BTreeMap<String, String>>,
}

/// What steps have that do not say otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Defaults {
    /// The Python version.
    pub python: Option<String>,
    /// Packages of functions that have no `pip=`.
    pub packages: BTreeMap<String, String>,
    /// Where bare table names lie.
    pub namespace: String,
    /// Memory of a function, in bytes.
    pub memory_bytes: Option<u64>,
    /// Time of a function.
    pub timeout: Option<Duration>,
}

/// A parameter that the project declares.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// The type of its value.
    pub kind: ParameterKind,
    /// Its value where none is given.
    pub default: Option<serde_json::Value>,
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

impl Project {
    /// Parses a project's files, given by path relative to its root. The first mistake is the error.
    pub fn parse(files: &BTreeMap<String, String>) -> Result<Project> {
        let text = files.get(MANIFEST).ok_or(Error::NoManifest)?;
        let manifest = manifest::parse(&SourceText::new(MANIFEST, text))?;
        let mut steps: Vec<Step> = Vec::new();
        for (path, text) in files {
            let source = SourceText::new(path, text);
            let namespace = &manifest.defaults.namespace;
            match path.rsplit_once('.').map(|(_, ending)| ending) {
                Some("sql") => steps.push(sql::parse(&source, namespace)?),
                Some("py") => steps.extend(python::parse(&source, namespace, files)?),
                _ => {}
            }
        }
        check_duplicates(&steps)?;
        let files = Arc::new(files.clone());
        let manifest::Manifest { name, defaults, parameters, rates, triggers } = manifest;
        let project = Project { name, defaults, parameters, rates, triggers, steps, files };
        project.check_parameters()?;
        Ok(project)
    }

    /// Every parameter that a step uses must be declared.
    fn check_parameters(&self) -> Result<()> {
        for step in &self.steps {
            for used in &step.parameters {
                if !self.parameters.contains_key(&used.name) {
                    let names = self.parameters.keys().map(String::as_str);
                    let near = crate::suggest::nearest(&used.name, names);
                    let hint = near.map_or_else(
                        || format!("Declare it as `[parameters.{}]` in headwater.toml.", used.name),
                        |near| format!("Did you mean `{near}`?"),
                    );
                    let message = format!(
                        "`{}` uses parameter `{}`, which the project does not declare",
                        step.name, used.name
                    );
                    return Err(Error::invalid(used.at.clone(), message, hint));
                }
            }
        }
        Ok(())
    }

    /// The values of a run: those given, checked against their types, over the defaults.
    pub fn parameter_values(
        &self,
        given: &BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, serde_json::Value>> {
        let names = self.parameters.keys().map(String::as_str);
        for name in given.keys().filter(|name| !self.parameters.contains_key(*name)) {
            let message = format!("the project has no parameter `{name}`");
            let hint = crate::suggest::hint(name, names.clone(), "parameters");
            return Err(Error::Parameter { message, hint });
        }
        let mut values = BTreeMap::new();
        for (name, parameter) in &self.parameters {
            let value = match given.get(name) {
                Some(text) => Some(parameter.kind.read(name, text)?),
                None => parameter.default.clone(),
            };
            values.insert(name.clone(), value.unwrap_or(serde_json::Value::Null));
        }
        self.check_values(&values)?;
        Ok(values)
    }

    /// A parameter without a default must be given where a step uses it.
    fn check_values(&self, values: &BTreeMap<String, serde_json::Value>) -> Result<()> {
        for step in &self.steps {
            for used in &step.parameters {
                if values.get(&used.name).is_none_or(serde_json::Value::is_null) {
                    let name = &used.name;
                    let message = format!(
                        "parameter `{name}` has no value, and `{}` uses it ({})",
                        step.name, used.at
                    );
                    let hint = format!("Give it with `--param {name}=VALUE`.");
                    return Err(Error::Parameter { message, hint });
                }
            }
        }
        Ok(())
    }
}

impl ParameterKind {
    fn read(self, name: &str, text: &str) -> Result<serde_json::Value> {
        let value = match self {
            ParameterKind::Str => Some(text.into()),
            ParameterKind::Int => text.parse::<i64>().ok().map(Into::into),
            ParameterKind::Float => {
                text.parse::<f64>().ok().filter(|value| value.is_finite()).map(Into::into)
            }
            ParameterKind::Bool => text.parse::<bool>().ok().map(Into::into),
        };
        value.ok_or_else(|| Error::Parameter {
            message: format!("parameter `{name}` is {}, not `{text}`", self.article()),
            hint: "Give a value of that type, or change the type in headwater.toml.".to_owned(),
        })
    }

    fn article(self) -> &'static str {
        match self {
            ParameterKind::Str => "a text",
            ParameterKind::Int => "a whole number",
            ParameterKind::Float => "a number",
            ParameterKind::Bool => "`true` or `false`",
        }
    }
}

fn check_duplicates(steps: &[Step]) -> Result<()> {
    let mut seen: BTreeMap<&TableName, &Step> = BTreeMap::new();
    for step in steps {
        if let Some(first) = seen.insert(&step.table, step) {
            return Err(Error::Duplicate {
                name: step.name.clone(),
                first: first.at.clone(),
                second: step.at.clone(),
            });
        }
    }
    Ok(())
}
