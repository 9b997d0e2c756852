//! `-- bauplan:` settings above the query of a SQL model.

use std::collections::BTreeMap;

use super::materialization;
use crate::python::{Schema, Schemas};
use crate::sql_model::{partition, unquoted};
use crate::{Error, Location, Result, Step, unknown_name_hints};

const SETTINGS: [&str; 6] = [
    "name",
    "materialization_strategy",
    "partitioned_by",
    "overwrite_filter",
    "cache_strategy",
    "output_schema",
];

/// Returns true if a setting in the text may name a schema in another file of the project.
pub(crate) fn may_read_files(text: &str) -> bool {
    // Search only for parts of the key, which may be written `output_schema` or `output-schema`.
    text.contains("bauplan") && text.contains("schema")
}

/// Applies one setting, `key = value`, to a model. `files` are the files of the project.
pub(crate) fn apply(
    step: &mut Step,
    setting: &str,
    at: &Location,
    files: &BTreeMap<String, String>,
) -> Result<()> {
    let Some((key, value)) = setting.split_once('=') else {
        let message = format!("the setting `{setting}` has no `=`");
        return Err(Error::invalid(at.clone(), message, "Write `-- bauplan: key = value`."));
    };
    step.allow_takeover = true;
    let value = unquoted(value.trim());
    match key.trim().replace('-', "_").as_str() {
        "name" => value.clone_into(&mut step.name),
        "materialization_strategy" => step.materialization = materialization::parse(value, at)?,
        "partitioned_by" => {
            step.partition_by = partition(value, at)?;
            step.partition_at = at.clone();
        }
        "overwrite_filter" => step.overwrite_filter = Some(value.to_owned()),
        "cache_strategy" => {
            step.always_runs = materialization::parse_cache(value).ok_or_else(|| {
                let message = format!("`{value}` is not a cache strategy");
                Error::invalid(at.clone(), message, "Write `NONE` or `DEFAULT`.")
            })?;
        }
        "output_schema" => {
            step.contract = schema(value, at, files)?;
            step.columns = Some(step.contract.iter().map(|one| one.name.clone()).collect());
        }
        other => {
            let message = format!("`{other}` is not a setting of a SQL model");
            let hint = unknown_name_hints::hint(other, SETTINGS, "settings");
            return Err(Error::invalid(at.clone(), message, hint));
        }
    }
    Ok(())
}

/// Finds a schema in the Python files of the project's own folder.
fn schema(name: &str, at: &Location, files: &BTreeMap<String, String>) -> Result<Schema> {
    let is_python = |path: &str| path.rsplit_once('.').is_some_and(|(_, ending)| ending == "py");
    let own = files.iter().filter(|(path, _)| is_python(path) && !path.contains('/'));
    let mut known: Vec<String> = Vec::new();
    for (path, text) in own {
        let schemas = Schemas::of_file(path, text)?;
        if let Some(schema) = schemas.get(name) {
            return Ok(schema.clone());
        }
        known.extend(schemas.names().map(str::to_owned));
    }
    let message = format!("no Python file of the project has the schema `{name}`");
    let hint = unknown_name_hints::hint(name, known.iter().map(String::as_str), "schemas");
    Err(Error::invalid(at.clone(), message, hint))
}
