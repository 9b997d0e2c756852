//! Parses `bauplan_project.yml` and reports the locations of errors.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use serde_saphyr::{Error as YamlError, Spanned};
use uuid::Uuid;

use super::model_files::{IncludePath, ModelFiles};
use crate::manifest::{self, Manifest};
use crate::source_location::SourceText;
use crate::{Defaults, Parameter, ParameterKind};
use crate::{Error, Location, Result, quantities, unknown_name_hints};

/// Default namespace of Bauplan.
const NAMESPACE: &str = "bauplan";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BauplanSections {
    project: ProjectSection,
    #[serde(default)]
    parameters: Option<BTreeMap<String, Spanned<ParameterSection>>>,
    #[serde(default)]
    include_paths: Option<Vec<Spanned<String>>>,
    #[serde(default)]
    defaults: Option<DefaultsSection>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProjectSection {
    id: Spanned<String>,
    name: Option<String>,
    #[expect(dead_code, reason = "the description is only for readers")]
    description: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ParameterSection {
    #[serde(rename = "type", default)]
    kind: ParameterType,
    default: Option<Value>,
    #[serde(default)]
    required: bool,
    description: Option<String>,
    #[expect(
        dead_code,
        reason = "the key that encrypts a secret value, which Headwater cannot decrypt"
    )]
    key: Option<String>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ParameterType {
    #[default]
    Str,
    Int,
    Float,
    Bool,
    Secret,
    Vault,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct DefaultsSection {
    python: Option<PythonSection>,
    namespace: Option<Spanned<String>>,
    timeout: Option<Spanned<String>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct PythonSection {
    version: Option<Spanned<String>>,
    packages: Option<Vec<Package>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Package {
    name: String,
    version: String,
}

/// Parses the settings.
pub(crate) fn parse(source: &SourceText<'_>) -> Result<Manifest> {
    let file: BauplanSections =
        serde_saphyr::from_str(source.text).map_err(|error| wrong(source, &error))?;
    let id = &file.project.id;
    if Uuid::parse_str(id.value.trim()).is_err() {
        let message = format!("the project's `id` must be a UUID, not `{}`", id.value);
        let hint = "Write the id of the project, such as `2f1e7c3a-5d0b-4a86-9c11-7be2d5f0a943`.";
        return Err(Error::invalid(at(source, id), message, hint));
    }
    let name = file.project.name.filter(|name| !name.trim().is_empty());
    let mut parameters = BTreeMap::new();
    for (name, table) in file.parameters.unwrap_or_default() {
        let parameter = parameter(&name, at(source, &table), table.value)?;
        parameters.insert(name, parameter);
    }
    let include = file.include_paths.unwrap_or_default();
    let included = include.iter().map(|path| IncludePath::parse(&path.value, at(source, path)));
    Ok(Manifest {
        name: name.unwrap_or_else(|| id.value.trim().to_owned()),
        defaults: defaults(source, file.defaults.unwrap_or_default())?,
        parameters,
        model_files: ModelFiles::TopLevel(included.collect::<Result<_>>()?),
        ..Manifest::default()
    })
}

fn defaults(source: &SourceText<'_>, table: DefaultsSection) -> Result<Defaults> {
    let python = table.python.unwrap_or_default();
    let namespace = match table.namespace {
        Some(text) => {
            let at = at(source, &text);
            manifest::namespace(text.value, at)?
        }
        None => NAMESPACE.to_owned(),
    };
    let timeout = |text: Spanned<String>| {
        quantities::duration(&text.value).ok_or_else(|| {
            let message = format!("`{}` is not a duration", text.value);
            let hint = "Write a number of seconds, or a number with a unit, such as `10min`.";
            Error::invalid(at(source, &text), message, hint)
        })
    };
    let packages = python.packages.unwrap_or_default().into_iter();
    Ok(Defaults {
        python_at: python.version.as_ref().map(|version| at(source, version)),
        python: python.version.map(|version| version.value),
        packages: packages.map(|package| (package.name, package.version)).collect(),
        namespace,
        timeout: table.timeout.map(timeout).transpose()?,
        ..Defaults::default()
    })
}

fn parameter(name: &str, at: Location, table: ParameterSection) -> Result<Parameter> {
    let kind = match table.kind {
        ParameterType::Str => ParameterKind::Str,
        ParameterType::Int => ParameterKind::Int,
        ParameterType::Float => ParameterKind::Float,
        ParameterType::Bool => ParameterKind::Bool,
        // Ignore the default value: Bauplan has encrypted it, or stored it in another system.
        ParameterType::Secret | ParameterType::Vault => ParameterKind::Secret,
    };
    let default = match (kind, table.default) {
        (_, None | Some(Value::Null)) | (ParameterKind::Secret, _) => None,
        (ParameterKind::Str, Some(text @ Value::String(_)))
        | (ParameterKind::Bool, Some(text @ Value::Bool(_))) => Some(text),
        (ParameterKind::Int, Some(Value::Number(number))) if number.is_i64() => Some(number.into()),
        (ParameterKind::Float, Some(Value::Number(number))) => number.as_f64().map(Into::into),
        (kind, Some(other)) => {
            let message = format!("parameter `{name}` must be {}, not `{other}`", kind.article());
            let hint = match kind {
                ParameterKind::Str => {
                    format!("Write the value in quotes, or set `type` of `{name}`.")
                }
                _ => "Change the default or the type.".to_owned(),
            };
            return Err(Error::invalid(at, message, hint));
        }
    };
    let required = table.required && default.is_none() && kind != ParameterKind::Secret;
    Ok(Parameter { kind, default, required, description: table.description, at })
}

fn at<T>(source: &SourceText<'_>, spanned: &Spanned<T>) -> Location {
    line(source, spanned.referenced.line())
}

fn line(source: &SourceText<'_>, line: u64) -> Location {
    source.line(u32::try_from(line).unwrap_or(u32::MAX).max(1))
}

/// Converts an error of the YAML parser to an error with a location. For an unknown key or value,
/// the hint names the most similar valid key or value.
fn wrong(source: &SourceText<'_>, error: &YamlError) -> Error {
    let error = error.without_snippet();
    let at = line(source, error.location().map_or(1, |location| location.line()));
    let (message, hint) = match error {
        YamlError::SerdeUnknownField { field, expected, .. } => (
            format!("unknown key `{field}`"),
            unknown_name_hints::hint(field, expected.iter().copied(), "valid keys"),
        ),
        YamlError::SerdeUnknownVariant { variant, expected, .. } => (
            format!(
                "the value of a key is invalid: `{variant}` is not one of `{}`",
                expected.join("`, `")
            ),
            unknown_name_hints::hint(variant, expected.iter().copied(), "values"),
        ),
        YamlError::SerdeMissingField { field, .. } => {
            (format!("the key `{field}` is missing"), format!("Add `{field}:`."))
        }
        YamlError::DuplicateMappingKey { key: Some(key), .. } => {
            (format!("the key `{key}` appears twice"), "Keep one of the keys.".to_owned())
        }
        other => {
            let message = other.render().lines().next().unwrap_or_default().to_owned();
            let hint = "Correct the file; docs/bauplan.md lists the keys.";
            (message, hint.to_owned())
        }
    };
    Error::invalid(at, message, hint)
}
