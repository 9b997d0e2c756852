//! Records of a build: the inputs and code that a model's table was built from, stored in its
//! snapshot. A later plan compares the record with the current state and reports the differences.
//!
//! Records contain hashes of files and parameter values, never the values.

use std::collections::BTreeMap;

use headwater_model::FileContent;
use headwater_project::fingerprint::{self, short_hash};
use headwater_project::{Project, PythonFunction, Step, StepCode};
use headwater_tables::Table;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model_description::ModelDescription;

/// Snapshot property that contains the record as JSON.
pub const BUILD: &str = "headwater.fingerprint.build";

/// Returns a property of a table's current snapshot. The properties include the fingerprints and
/// the record of the model that wrote the snapshot.
pub fn snapshot_property<'a>(table: &'a Table, property: &str) -> Option<&'a String> {
    table.metadata().current_snapshot()?.summary().additional_properties.get(property)
}

/// The inputs and code that a build of a model depended on, as hashes, and descriptions of the
/// model and its intermediate models.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BuildRecord {
    /// Hashes of the source files, by path.
    pub files: BTreeMap<String, String>,
    /// Hashes of the parameter values, by name.
    pub parameters: BTreeMap<String, String>,
    /// Python version and packages.
    pub environment: Option<String>,
    /// Stored tables that the model reads, directly or through intermediate models, by name.
    pub inputs: BTreeMap<String, InputRecord>,
    /// Code hashes of the intermediate models that the model reads, by name.
    pub intermediate: BTreeMap<String, String>,
    /// Description of the model.
    pub model: Option<ModelDescription>,
    /// Descriptions of the intermediate models that the model reads, by name.
    pub models: BTreeMap<String, ModelDescription>,
}

/// State of an input when the model was built.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct InputRecord {
    /// A hash that identifies the state of the input.
    pub state: String,
    /// The current snapshot of the input, if the input is a lake table.
    pub snapshot: Option<i64>,
}

impl BuildRecord {
    /// Returns the record of a step, without the states of its inputs.
    pub fn of(project: &Project, values: &BTreeMap<String, Value>, step: &Step) -> BuildRecord {
        let model = Some(ModelDescription::of(step));
        let mut record = BuildRecord { model, ..BuildRecord::default() };
        for parameter in &step.parameters {
            let value = values.get(&parameter.name).map(ToString::to_string);
            let hash = short_hash(&value.unwrap_or_default());
            record.parameters.insert(parameter.name.clone(), hash);
        }
        match &step.body {
            StepCode::Sql(sql) => {
                record.files.insert(step.at.file.to_string(), short_hash(sql));
            }
            StepCode::Python(function) => {
                record.environment =
                    Some(fingerprint::environment_text(&project.defaults, function));
                record.add_files(project, function);
            }
        }
        record
    }

    /// Adds the hashes of a function's file, without the other steps in the file, and of the
    /// modules that the function imports.
    fn add_files(&mut self, project: &Project, function: &PythonFunction) {
        let mut own = function.code.len();
        for path in &function.modules {
            let text = project.files.get(&**path).map_or("", FileContent::text);
            // The function's code ends with the texts of the imported modules, each after a line
            // with the module's path. Subtract both.
            own = own.saturating_sub(text.len() + path.len() + "\n# \n".len());
            self.files.insert(path.to_string(), short_hash(text));
        }
        let own = function.code.get(..own).unwrap_or(&function.code);
        self.files.insert(function.file.to_string(), short_hash(own));
    }

    /// Returns the differences from an earlier record, one phrase each.
    pub fn changes_since(&self, before: &BuildRecord) -> Vec<String> {
        let mut changes = changed(&before.files, &self.files, |path| format!("file `{path}`"));
        let model = |name: &str| format!("intermediate model `{name}`");
        changes.extend(changed(&before.intermediate, &self.intermediate, model));
        let parameter = |name: &str| format!("parameter `{name}`");
        changes.extend(changed(&before.parameters, &self.parameters, parameter));
        if let (Some(old), Some(new)) = (&before.environment, &self.environment)
            && old != new
        {
            changes.push(format!("environment changed: {old} -> {new}"));
        }
        for (name, new) in &self.inputs {
            match before.inputs.get(name) {
                None => changes.push(format!("table `{name}` is a new input")),
                Some(old) if old == new || old.state == new.state => {}
                Some(old) => changes.push(match (old.snapshot, new.snapshot) {
                    (Some(old), Some(new)) if old != new => {
                        format!("table `{name}` changed: snapshot {old} -> {new}")
                    }
                    _ => format!("table `{name}` changed"),
                }),
            }
        }
        let removed = before.inputs.keys().filter(|name| !self.inputs.contains_key(*name));
        changes.extend(removed.map(|name| format!("table `{name}` is no longer an input")));
        changes
    }

    /// Returns the record as JSON text, the form in which it is stored as a property.
    pub fn to_property(&self) -> String {
        serde_json::json!(self).to_string()
    }
}

fn changed(
    before: &BTreeMap<String, String>,
    now: &BTreeMap<String, String>,
    what: impl Fn(&str) -> String,
) -> Vec<String> {
    let mut changes = Vec::new();
    for (name, new) in now {
        match before.get(name) {
            None => changes.push(format!("{} is new", what(name))),
            Some(old) if old != new => changes.push(format!("{} changed", what(name))),
            Some(_) => {}
        }
    }
    let removed = before.keys().filter(|name| !now.contains_key(*name));
    changes.extend(removed.map(|name| format!("{} is no longer used", what(name))));
    changes
}
