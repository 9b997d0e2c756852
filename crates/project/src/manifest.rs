//! The settings of a project, and their parser for `headwater.toml`, with locations of errors.

use std::collections::BTreeMap;
use std::time::Duration;

use headwater_model::{
    DEFAULT_NAMESPACE, PROJECT_FILE, PROJECT_FILES, Priority, RateCard, ToProblem, Trigger, name,
};
use serde::Deserialize;
use toml::Spanned;

use super::bauplan::ModelFiles;
use super::command_function::{self, CommandFunction, CommandSection};
use super::{Defaults, Parameter, ParameterKind, ProjectSettings, bauplan};
use crate::rates::{self, RatesSection};
use crate::source_location::SourceText;
use crate::{Error, Location, Result, quantities, unknown_name_hints};

/// The settings of a project.
#[derive(Default)]
pub(super) struct Manifest {
    pub name: String,
    pub defaults: Defaults,
    pub parameters: BTreeMap<String, Parameter>,
    pub rates: RateCard,
    pub triggers: Vec<LocatedTrigger>,
    /// Functions implemented by programs.
    pub commands: Vec<CommandFunction>,
    /// Files that may define models.
    pub model_files: ModelFiles,
}

/// A trigger with its location.
#[derive(Debug, Clone)]
pub(super) struct LocatedTrigger {
    pub at: Location,
    pub trigger: Trigger,
}

impl LocatedTrigger {
    /// Checks a trigger that is declared at a location.
    pub fn checked(trigger: Trigger, at: Location) -> Result<Self> {
        headwater_triggers::check_trigger(&trigger).map_err(|error| {
            let hint = error.hint();
            Error::Invalid { at: at.clone(), message: error.to_string(), hint }
        })?;
        let trigger = Trigger { defined_at: at.to_string(), ..trigger };
        Ok(LocatedTrigger { at, trigger })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ManifestSections {
    project: ProjectSection,
    #[serde(default)]
    defaults: DefaultsSection,
    #[serde(default)]
    parameters: BTreeMap<String, Spanned<ParameterSection>>,
    #[serde(default)]
    rates: RatesSection,
    #[serde(default)]
    functions: BTreeMap<String, Spanned<CommandSection>>,
    #[serde(default, rename = "trigger")]
    triggers: Vec<Spanned<Trigger>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProjectSection {
    name: String,
    #[serde(default)]
    #[expect(dead_code, reason = "the description is only for readers")]
    description: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct DefaultsSection {
    python: Option<Spanned<String>>,
    packages: BTreeMap<String, String>,
    system: Vec<String>,
    namespace: Option<Spanned<String>>,
    memory: Option<Spanned<String>>,
    timeout: Option<Spanned<String>>,
    priority: Option<Priority>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ParameterSection {
    #[serde(rename = "type", default)]
    kind: ParameterType,
    default: Option<toml::Value>,
    required: Option<bool>,
    description: Option<String>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ParameterType {
    #[default]
    Str,
    Int,
    Float,
    Bool,
}

/// Returns the name of the project file.
///
/// Error: `invalid_project` if there is no such file, or more than one.
pub(super) fn file_name(files: &BTreeMap<String, String>) -> Result<&'static str> {
    let mut found = PROJECT_FILES.into_iter().filter(|name| files.contains_key(*name));
    let first = found.next().ok_or(Error::NoManifest)?;
    let Some(second) = found.next() else { return Ok(first) };
    let message = format!("the project has two project files, `{first}` and `{second}`");
    Err(Error::invalid(
        Location { file: second.into(), line: 1 },
        message,
        "Keep one of the files.",
    ))
}

/// Parses the settings in a project file.
pub(super) fn parse(file: &'static str, files: &BTreeMap<String, String>) -> Result<Manifest> {
    let source = SourceText::new(file, files.get(file).ok_or(Error::NoManifest)?);
    match file {
        PROJECT_FILE => parse_toml(&source, files),
        _ => bauplan::parse_manifest(&source),
    }
}

/// The sections of the project file that contain the name and the rates. Errors in other sections
/// are ignored.
#[derive(Deserialize)]
struct SettingsSections {
    project: ProjectSection,
    #[serde(default)]
    rates: RatesSection,
}

/// Parses only the name and the rates of a project.
pub(super) fn parse_settings(
    file: &'static str,
    files: &BTreeMap<String, String>,
) -> Result<ProjectSettings> {
    if file != PROJECT_FILE {
        let manifest = parse(file, files)?;
        return Ok(ProjectSettings { name: manifest.name, rates: manifest.rates });
    }
    let source = SourceText::new(file, files.get(file).ok_or(Error::NoManifest)?);
    let parsed: SettingsSections =
        toml::from_str(source.text).map_err(|error| wrong(&source, &error))?;
    Ok(ProjectSettings { name: parsed.project.name, rates: rates::read(&source, parsed.rates)? })
}

/// Checks a namespace from a project file.
pub(super) fn namespace(text: String, at: Location) -> Result<String> {
    name::check_namespace(&text).map_err(|error| {
        let hint = error.hint();
        Error::Invalid { at, message: error.to_string(), hint }
    })?;
    Ok(text)
}

fn parse_toml(source: &SourceText<'_>, files: &BTreeMap<String, String>) -> Result<Manifest> {
    let file: ManifestSections =
        toml::from_str(source.text).map_err(|error| wrong(source, &error))?;
    let mut parameters = BTreeMap::new();
    for (name, table) in file.parameters {
        parameters.insert(name.clone(), parameter(source, &name, table)?);
    }
    let mut triggers: Vec<LocatedTrigger> = Vec::new();
    for trigger in file.triggers {
        let at = source.at(trigger.span().start);
        let located = LocatedTrigger::checked(trigger.into_inner(), at)?;
        check_trigger_parameters(&located, &parameters)?;
        let name = &located.trigger.name;
        if triggers.iter().any(|other| other.trigger.name == *name) {
            let message = format!("two triggers are named `{name}`");
            return Err(Error::invalid(located.at, message, "Rename one of the two."));
        }
        triggers.push(located);
    }
    let defaults = defaults(source, file.defaults)?;
    let command = |(name, table): (String, _)| command_function::read(source, &name, table, files);
    let commands = file.functions.into_iter().map(command).collect::<Result<_>>()?;
    Ok(Manifest {
        name: file.project.name,
        defaults,
        parameters,
        rates: rates::read(source, file.rates)?,
        triggers,
        commands,
        model_files: ModelFiles::All,
    })
}

/// Checks that triggers set only parameters of the project.
fn check_trigger_parameters(
    LocatedTrigger { at, trigger }: &LocatedTrigger,
    parameters: &BTreeMap<String, Parameter>,
) -> Result<()> {
    let unknown = trigger.parameters.keys().find(|name| !parameters.contains_key(*name));
    let Some(name) = unknown else { return Ok(()) };
    let message = format!(
        "trigger `{}` sets parameter `{name}`, which the project does not declare",
        trigger.name
    );
    let names = parameters.keys().map(String::as_str);
    Err(Error::invalid(at.clone(), message, unknown_name_hints::hint(name, names, "parameters")))
}

fn defaults(source: &SourceText<'_>, table: DefaultsSection) -> Result<Defaults> {
    let namespace = match table.namespace {
        None => DEFAULT_NAMESPACE.to_owned(),
        Some(text) => {
            let at = source.at(text.span().start);
            namespace(text.into_inner(), at)?
        }
    };
    let python_at = table.python.as_ref().map(|version| source.at(version.span().start));
    Ok(Defaults {
        python: table.python.map(Spanned::into_inner),
        python_at,
        packages: table.packages,
        system: table.system,
        namespace,
        memory_bytes: table.memory.map(|text| size(source, &text)).transpose()?,
        timeout: table.timeout.map(|text| duration(source, &text)).transpose()?,
        priority: table.priority,
    })
}

/// Parses a size in bytes.
pub(super) fn size(source: &SourceText<'_>, text: &Spanned<String>) -> Result<u64> {
    quantities::bytes(text.as_ref()).ok_or_else(|| {
        let message = format!("`{}` is not a size", text.as_ref());
        let at = source.at(text.span().start);
        Error::invalid(at, message, "Write a number with a unit, such as `512MiB`.")
    })
}

/// Parses a duration.
pub(super) fn duration(source: &SourceText<'_>, text: &Spanned<String>) -> Result<Duration> {
    quantities::duration(text.as_ref()).ok_or_else(|| {
        let message = format!("`{}` is not a duration", text.as_ref());
        let at = source.at(text.span().start);
        Error::invalid(at, message, "Write a number with a unit, such as `30s` or `10min`.")
    })
}

fn parameter(
    source: &SourceText<'_>,
    name: &str,
    table: Spanned<ParameterSection>,
) -> Result<Parameter> {
    let at = source.at(table.span().start);
    let table = table.into_inner();
    let kind = match table.kind {
        ParameterType::Str => ParameterKind::Str,
        ParameterType::Int => ParameterKind::Int,
        ParameterType::Float => ParameterKind::Float,
        ParameterType::Bool => ParameterKind::Bool,
    };
    let default = match (kind, table.default) {
        (_, None) => None,
        (ParameterKind::Str, Some(toml::Value::String(text))) => Some(text.into()),
        (ParameterKind::Int, Some(toml::Value::Integer(number))) => Some(number.into()),
        (ParameterKind::Float, Some(toml::Value::Float(number))) => Some(number.into()),
        (ParameterKind::Float, Some(toml::Value::Integer(number))) => Some((number as f64).into()),
        (ParameterKind::Bool, Some(toml::Value::Boolean(yes))) => Some(yes.into()),
        (kind, Some(other)) => {
            let message = format!("parameter `{name}` must be {}, not `{other}`", kind.article());
            let hint = "Change the default or the type.";
            return Err(Error::invalid(at, message, hint));
        }
    };
    let required = table.required.unwrap_or(default.is_none());
    Ok(Parameter { kind, default, required, description: table.description, at })
}

/// Converts the parser's error to an error with a location and the most similar key.
fn wrong(source: &SourceText<'_>, error: &toml::de::Error) -> Error {
    let at = source.at(error.span().map_or(0, |span| span.start));
    // Show the text from the file, because the parser reads `3.10` as `3.1`.
    let written = error.span().and_then(|span| source.text.get(span));
    let (message, hint) = describe(error.message(), written);
    let hint =
        hint.unwrap_or_else(|| "Correct the file; docs/projects.md shows its keys.".to_owned());
    Error::Invalid { at, message, hint: Some(hint) }
}

/// Describes an error of `serde`, with a hint if there is a specific hint. `written` is the text of
/// the value in the file, if the text is known.
pub(super) fn describe(message: &str, written: Option<&str>) -> (String, Option<String>) {
    let message = message.trim().replace('\n', " ");
    let mut quoted = message.split('`').skip(1).step_by(2);
    let first = quoted.next().unwrap_or_default();
    let rest: Vec<&str> = quoted.collect();
    let written = written.unwrap_or(first).trim();
    let is_text_expected =
        message.starts_with("invalid type: ") && message.ends_with("expected a string");
    let (message, hint) = if message.starts_with("unknown field") {
        (format!("unknown key `{first}`"), unknown_name_hints::hint(first, rest, "valid keys"))
    } else if message.starts_with("unknown variant") {
        let message = format!(
            "the value of a key is invalid: `{first}` is not one of `{}`",
            rest.join("`, `")
        );
        (message, unknown_name_hints::hint(first, rest, "values"))
    } else if message == "missing field `project`" {
        let hint = "Add `[project]`, and `name = \"NAME\"` below it.";
        ("the table `[project]` is missing".to_owned(), hint.to_owned())
    } else if message.starts_with("missing field") {
        (format!("the key `{first}` is missing"), format!("Add `{first} = \"…\"`."))
    } else if is_text_expected && !written.is_empty() {
        let message = format!("the value `{written}` is not text");
        (message, format!("Write `\"{written}\"`."))
    } else {
        return (message.replace("invalid type: ", "the value has the wrong type: "), None);
    };
    (message, Some(hint))
}
