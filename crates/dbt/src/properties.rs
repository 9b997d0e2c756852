//! Property files (`schema.yml`): descriptions, settings, tests and sources.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::project_file::Settings;
use crate::template::Sources;

/// Properties of a model or seed.
#[derive(Debug, Default, Clone)]
pub(crate) struct Properties {
    pub description: String,
    pub settings: Settings,
    /// Tests with the file that declares them.
    pub tests: Vec<DeclaredTest>,
}

/// A test of a model or of one of its columns.
#[derive(Debug, Clone)]
pub(crate) struct DeclaredTest {
    pub file: String,
    pub name: String,
    pub column: Option<String>,
    /// Arguments of the test, and its settings `config`, `severity` and `where`.
    pub arguments: Settings,
}

/// Content of all property files.
#[derive(Debug, Default)]
pub(crate) struct AllProperties {
    pub models: BTreeMap<String, Properties>,
    pub sources: Sources,
}

impl AllProperties {
    /// Adds a property file.
    pub fn add(&mut self, file: &str, content: &Value) {
        for key in ["models", "seeds"] {
            for model in content[key].as_array().into_iter().flatten() {
                let Some(name) = model["name"].as_str() else { continue };
                let properties = self.models.entry(name.to_owned()).or_default();
                read(properties, file, model);
            }
        }
        for source in content["sources"].as_array().into_iter().flatten() {
            let Some(name) = source["name"].as_str() else { continue };
            let namespace = source["schema"].as_str().unwrap_or(name);
            for table in source["tables"].as_array().into_iter().flatten() {
                let Some(own) = table["name"].as_str() else { continue };
                let identifier = table["identifier"].as_str().unwrap_or(own);
                let path = format!("{namespace}.{identifier}");
                let key = (name.to_owned(), own.to_owned());
                self.sources.insert(key, path.clone());
                read(self.models.entry(path).or_default(), file, table);
            }
        }
    }
}

fn read(properties: &mut Properties, file: &str, model: &Value) {
    if let Some(description) = model["description"].as_str() {
        description.trim().clone_into(&mut properties.description);
    }
    if let Value::Object(config) = &model["config"] {
        properties.settings.extend(config.clone());
    }
    properties.tests.extend(tests(file, model, None));
    for column in model["columns"].as_array().into_iter().flatten() {
        properties.tests.extend(tests(file, column, column["name"].as_str()));
    }
}

fn tests(file: &str, owner: &Value, column: Option<&str>) -> Vec<DeclaredTest> {
    let lists = ["tests", "data_tests"].map(|key| owner[key].as_array());
    let declared = lists.into_iter().flatten().flatten();
    let test = |name: &str, arguments| DeclaredTest {
        file: file.to_owned(),
        name: name.to_owned(),
        column: column.map(str::to_owned),
        arguments,
    };
    let read = |declared: &Value| match declared {
        Value::String(name) => Some(test(name, Map::new())),
        Value::Object(named) => named.iter().next().map(|(name, given)| {
            let mut arguments = given.as_object().cloned().unwrap_or_default();
            if let Some(Value::Object(inner)) = arguments.remove("arguments") {
                arguments.extend(inner);
            }
            if let Some(Value::Object(config)) = arguments.remove("config") {
                arguments.extend(config);
            }
            test(name, arguments)
        }),
        _ => None,
    };
    declared.filter_map(read).collect()
}
