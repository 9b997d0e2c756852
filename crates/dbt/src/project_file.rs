//! `dbt_project.yml`: folders, variables, and the settings of models by folder.

use serde_json::{Map, Value};

/// Settings of a model or test, by name.
pub(crate) type Settings = Map<String, Value>;

/// Content of `dbt_project.yml`.
pub(crate) struct ProjectFile {
    pub name: String,
    pub model_paths: Vec<String>,
    pub seed_paths: Vec<String>,
    pub test_paths: Vec<String>,
    pub snapshot_paths: Vec<String>,
    pub macro_paths: Vec<String>,
    /// Variables, by name.
    pub vars: Settings,
    models: Value,
    seeds: Value,
}

impl ProjectFile {
    /// Converts the parsed content of the file.
    pub fn of(file: &Value) -> Self {
        let name = file["name"].as_str().unwrap_or("project").to_owned();
        let paths = |key: &str, default: &str| match &file[key] {
            Value::Array(paths) => {
                paths.iter().filter_map(|path| path.as_str().map(str::to_owned)).collect()
            }
            _ => vec![default.to_owned()],
        };
        let mut vars = Map::new();
        if let Value::Object(declared) = &file["vars"] {
            for (key, value) in declared {
                match value {
                    Value::Object(own) if *key == name => vars.extend(own.clone()),
                    value => drop(vars.insert(key.clone(), value.clone())),
                }
            }
        }
        ProjectFile {
            model_paths: paths("model-paths", "models"),
            seed_paths: paths("seed-paths", "seeds"),
            test_paths: paths("test-paths", "tests"),
            snapshot_paths: paths("snapshot-paths", "snapshots"),
            macro_paths: paths("macro-paths", "macros"),
            vars,
            models: file["models"].clone(),
            seeds: file["seeds"].clone(),
            name,
        }
    }

    /// Returns the settings of a model from all levels, the most specific last. `folders` is the
    /// model's path below the models' folder: the folders and the name.
    pub fn of_model(&self, folders: &[&str]) -> Settings {
        self.settings(&self.models, folders)
    }

    /// Returns the settings of a seed.
    pub fn of_seed(&self, folders: &[&str]) -> Settings {
        self.settings(&self.seeds, folders)
    }

    fn settings(&self, tree: &Value, folders: &[&str]) -> Settings {
        let mut settings = Map::new();
        let mut level = tree;
        take(level, &mut settings);
        for key in std::iter::once(self.name.as_str()).chain(folders.iter().copied()) {
            level = &level[key];
            take(level, &mut settings);
        }
        settings
    }
}

/// Adds the settings of one folder level of `dbt_project.yml`: keys with `+`, and keys whose value
/// is not a mapping. A key without `+` whose value is a mapping is a subfolder.
fn take(level: &Value, settings: &mut Settings) {
    let Value::Object(level) = level else { return };
    for (key, value) in level {
        match key.strip_prefix('+') {
            Some(key) => drop(settings.insert(key.to_owned(), value.clone())),
            None if !value.is_object() => drop(settings.insert(key.clone(), value.clone())),
            None => {}
        }
    }
}

/// Returns the texts in a setting whose value is one text or a list of texts.
pub(crate) fn texts(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::String(text)) => vec![text.clone()],
        Some(Value::Array(values)) => {
            values.iter().filter_map(|value| value.as_str().map(str::to_owned)).collect()
        }
        _ => Vec::new(),
    }
}
