//! Converts a dbt project: its models, seeds and tests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use crate::materialization::Materialization;
use crate::project_file::{ProjectFile, Settings, texts};
use crate::properties::{AllProperties, DeclaredTest, Properties};
use crate::template::{RenderedTemplate, TableNames, TemplateRenderer};
use crate::test_conversion::{self, ConvertedTest, ExpectationFunction, identifier};

/// Name of dbt's project file.
const PROJECT_FILE: &str = "dbt_project.yml";

/// A converted project.
#[derive(Debug, Default)]
pub struct ConvertedProject {
    /// The project's name.
    pub name: String,
    /// Content of the files, by path.
    pub files: BTreeMap<String, String>,
    /// Files with data to import.
    pub seeds: Vec<Seed>,
    /// Parts that are not converted or work differently.
    pub notes: Vec<ConversionNote>,
    /// Number of converted models.
    pub models: usize,
    /// Number of converted tests.
    pub tests: usize,
}

/// A CSV file with the rows of a table.
#[derive(Debug, PartialEq, Eq)]
pub struct Seed {
    /// Name of the table.
    pub table: String,
    /// Path in the dbt project.
    pub path: String,
    /// Declared types of columns, as Iceberg types.
    pub types: Vec<(String, String)>,
}

/// A part of the project that is not converted or works differently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConversionNote {
    /// Path in the dbt project, with the line if known.
    pub at: String,
    /// The part of the project, and the reason why it is not converted or works differently.
    pub message: String,
}

impl Seed {
    /// Returns the command that imports the file.
    pub fn import(&self) -> String {
        let Seed { table, path, types } = self;
        let types = types.iter().map(|(column, kind)| format!(" --type '{column}={kind}'"));
        format!("headwater table import {table} {path}{}", types.collect::<String>())
    }
}

impl ConvertedProject {
    /// Returns the summary of the conversion as JSON.
    pub fn to_json(&self) -> Value {
        let note =
            |note: &ConversionNote| serde_json::json!({ "at": note.at, "message": note.message });
        serde_json::json!({
            "models": self.models,
            "tests": self.tests,
            "notes": self.notes.iter().map(note).collect::<Vec<_>>(),
            "import": self.seeds.iter().map(Seed::import).collect::<Vec<_>>(),
        })
    }
}

/// A project that cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub struct ConvertError {
    /// The file and its error.
    pub message: String,
}

impl std::fmt::Display for ConvertError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ConvertError {}

/// Converts the text files of a dbt project, by path.
pub fn convert(files: &BTreeMap<String, String>) -> Result<ConvertedProject, ConvertError> {
    let Some(text) = files.get(PROJECT_FILE) else {
        return Err(ConvertError { message: format!("the folder has no `{PROJECT_FILE}`") });
    };
    let project = ProjectFile::of(&yaml(PROJECT_FILE, text)?);
    let mut properties = AllProperties::default();
    for (path, text) in files {
        let below = [&project.model_paths[..], &project.seed_paths].concat();
        if is_yaml(path) && is_below(path, &below).is_some() {
            properties.add(path, &yaml(path, text)?);
        }
    }
    let mut work = ProjectConversion::new(files, project, properties);
    work.seeds();
    work.models();
    work.tests();
    work.note_unsupported();
    Ok(work.finish())
}

fn yaml(path: &str, text: &str) -> Result<Value, ConvertError> {
    let parsed: Result<Option<Value>, _> = serde_saphyr::from_str(text);
    let parsed = parsed.map_err(|error| ConvertError { message: format!("{path}: {error}") })?;
    Ok(parsed.unwrap_or_default())
}

fn is_yaml(path: &str) -> bool {
    ["yml", "yaml"].iter().any(|extension| has_extension(path, extension))
}

fn has_extension(path: &str, extension: &str) -> bool {
    path.rsplit_once('.').is_some_and(|(_, own)| own == extension)
}

/// Returns a path relative to the first of the folders that contains it; `None` if none does.
fn is_below<'p>(path: &'p str, folders: &[String]) -> Option<&'p str> {
    folders.iter().find_map(|folder| path.strip_prefix(folder.as_str())?.strip_prefix('/'))
}

/// A model with its rendered template.
struct ParsedModel<'f> {
    path: &'f str,
    /// The name of the file, which is the name of the model in dbt.
    name: String,
    /// The model's settings, merged from all levels of the dbt project.
    config: Settings,
    template: RenderedTemplate,
}

/// The state of a conversion: the dbt project, and the converted parts so far.
struct ProjectConversion<'f> {
    files: &'f BTreeMap<String, String>,
    project: ProjectFile,
    properties: AllProperties,
    templates: TemplateRenderer,
    /// Tables to which rows are only appended: sources, seeds and `append` models.
    appended: BTreeSet<String>,
    /// Tables of models that are not stored.
    ephemeral: BTreeSet<String>,
    /// Names of the converted models in dbt.
    sql_models: BTreeSet<String>,
    functions: Vec<ExpectationFunction>,
    result: ConvertedProject,
}

impl<'f> ProjectConversion<'f> {
    fn new(
        files: &'f BTreeMap<String, String>,
        project: ProjectFile,
        properties: AllProperties,
    ) -> Self {
        let is_macro = |path: &&String| {
            has_extension(path, "sql") && is_below(path, &project.macro_paths).is_some()
        };
        let macros = files.iter().filter(|(path, _)| is_macro(path));
        let macros = macros.map(|(_, text)| text.as_str()).collect();
        let appended = properties.sources.values().cloned().collect();
        let sources = properties.sources.clone();
        let tables = Arc::new(TableNames { sources, aliases: BTreeMap::new() });
        let templates = TemplateRenderer { vars: project.vars.clone(), tables, macros };
        let result = ConvertedProject { name: project.name.clone(), ..ConvertedProject::default() };
        ProjectConversion {
            files,
            project,
            properties,
            templates,
            appended,
            ephemeral: BTreeSet::new(),
            sql_models: BTreeSet::new(),
            functions: Vec::new(),
            result,
        }
    }

    fn note(&mut self, at: impl Into<String>, message: impl Into<String>) {
        self.result.notes.push(ConversionNote { at: at.into(), message: message.into() });
    }

    fn seeds(&mut self) {
        for (path, text) in self.files {
            let Some(rest) = is_below(path, &self.project.seed_paths) else { continue };
            let Some(rest) = rest.strip_suffix(".csv") else { continue };
            let folders: Vec<&str> = rest.split('/').collect();
            let name = folders.last().copied().unwrap_or_default();
            let mut settings = self.project.of_seed(&folders);
            if let Some(properties) = self.properties.models.get(name) {
                settings.extend(properties.settings.clone());
            }
            if let Some(alias) = alias_of(&settings) {
                self.templates.add_alias(name, alias);
            }
            let table = self.table(name);
            let types = settings.get("column_types").and_then(Value::as_object);
            let types = types.into_iter().flatten().filter_map(|(column, declared)| {
                Some((column.clone(), iceberg_type(declared.as_str()?)?))
            });
            let seed = Seed { table: table.clone(), path: path.clone(), types: types.collect() };
            self.result.seeds.push(seed);
            self.result.files.insert(path.clone(), text.clone());
            self.appended.insert(table);
        }
    }

    /// Returns the table of a model or seed.
    fn table(&self, name: &str) -> String {
        self.templates.tables.table(name).to_owned()
    }

    /// Converts the models. The templates are rendered again if a model has an alias, because
    /// `config()` of one template can set the table that `ref()` in another template returns.
    fn models(&mut self) {
        let (mut models, mut notes) = self.render_models();
        let aliases: Vec<(String, String)> = models.iter().filter_map(ParsedModel::alias).collect();
        for (name, alias) in &aliases {
            self.templates.add_alias(name, alias);
        }
        if !aliases.is_empty() {
            (models, notes) = self.render_models();
        }
        self.result.notes.extend(notes);
        let (models, disabled): (Vec<_>, Vec<_>) =
            models.into_iter().partition(ParsedModel::is_enabled);
        for model in disabled {
            self.note(model.path, "the model is disabled");
        }
        let ephemeral = models.iter().filter(|model| is_ephemeral(&model.config));
        self.ephemeral = ephemeral.map(|model| self.table(&model.name)).collect();
        self.find_appended(&models);
        for model in &models {
            self.model(model);
        }
    }

    /// Renders the templates of the models. Also returns a note for each template that cannot be
    /// rendered.
    fn render_models(&self) -> (Vec<ParsedModel<'f>>, Vec<ConversionNote>) {
        let (mut models, mut notes) = (Vec::new(), Vec::new());
        for (path, text) in self.files {
            let Some(rest) = is_below(path, &self.project.model_paths) else { continue };
            if has_extension(rest, "py") {
                let message = "Python models of dbt are not converted".to_owned();
                notes.push(ConversionNote { at: path.clone(), message });
                continue;
            }
            let Some(rest) = rest.strip_suffix(".sql") else { continue };
            let folders: Vec<&str> = rest.split('/').collect();
            let name = folders.last().copied().unwrap_or_default().to_owned();
            match self.templates.render(&name, text) {
                Ok(template) => {
                    let mut config = self.project.of_model(&folders);
                    if let Some(properties) = self.properties.models.get(&name) {
                        config.extend(properties.settings.clone());
                    }
                    config.extend(template.config.clone());
                    models.push(ParsedModel { path, name, config, template });
                }
                Err(error) => {
                    let line = error.line.map(|line| format!(":{line}")).unwrap_or_default();
                    let message = format!("not converted: {}", error.message);
                    notes.push(ConversionNote { at: format!("{path}{line}"), message });
                }
            }
        }
        (models, notes)
    }

    /// Adds the tables of `append` models to `appended`. A model that reads such a table can become
    /// an `append` model, too, so the search is repeated until a pass finds no further model.
    fn find_appended(&mut self, models: &[ParsedModel<'_>]) {
        loop {
            let appended = models.iter().filter(|model| self.materialization(model).is_append());
            let appended: Vec<String> = appended.map(|model| self.table(&model.name)).collect();
            let known = self.appended.len();
            self.appended.extend(appended);
            if self.appended.len() == known {
                return;
            }
        }
    }

    fn materialization(&self, model: &ParsedModel<'_>) -> Materialization {
        let is_appended = |table: &str| self.appended.contains(table);
        let is_ephemeral = |table: &str| self.ephemeral.contains(table);
        Materialization::of(&model.config, &model.template, &is_appended, &is_ephemeral)
    }

    fn model(&mut self, model: &ParsedModel<'_>) {
        let written = self.materialization(model);
        let is_view = written.is_view();
        let ParsedModel { path, name, config, template } = model;
        let properties = self.properties.models.get(name).cloned().unwrap_or_default();
        let mut lines = description(&properties);
        if let Some(alias) = alias_of(config) {
            lines.push(format!("-- headwater: name = {alias}"));
        }
        let settings = written.settings.iter();
        lines.extend(settings.map(|(key, value)| format!("-- headwater: {key} = {value}")));
        let tags = texts(config.get("tags"));
        if !tags.is_empty() {
            lines.push(format!("-- headwater: tags = {}", tags.join(", ")));
        }
        for note in written.notes {
            self.note(*path, note);
        }
        for unsupported in ["pre_hook", "post_hook", "pre-hook", "post-hook", "schema"] {
            if config.contains_key(unsupported) {
                self.note(*path, format!("`{unsupported}` is not converted"));
            }
        }
        if template.reads_itself {
            self.note(*path, "the model reads its own table outside of `is_incremental()`");
        }
        for test in &properties.tests {
            lines.extend(self.check(name, test, !is_view));
        }
        lines.push(template.sql.clone());
        self.result.files.insert((*path).to_owned(), format!("{}\n", lines.join("\n")));
        self.result.models += 1;
        self.sql_models.insert(name.clone());
    }

    /// Converts a dbt test of a SQL model. Returns the line with a setting of the model, or adds a
    /// Python function and returns `None`. `has_rows` is true if the model can have row
    /// expectations.
    fn check(&mut self, name: &str, test: &DeclaredTest, has_rows: bool) -> Option<String> {
        let tables = &self.templates.tables;
        match test_conversion::convert(tables.table(name), test, has_rows, tables) {
            Ok(ConvertedTest::Row(setting, condition)) => {
                self.result.tests += 1;
                return Some(format!("-- headwater: {setting} = {condition}"));
            }
            Ok(ConvertedTest::Function(function)) => self.functions.push(function),
            Err(reason) => self.note(&test.file, format!("`{name}`: {reason}")),
        }
        None
    }

    /// Converts the tests of seeds and sources, and the singular tests: queries that must return no
    /// rows.
    fn tests(&mut self) {
        let others = self.properties.models.clone();
        for (name, properties) in others {
            let table = self.table(&name);
            if self.sql_models.contains(&name) || !self.appended.contains(&table) {
                continue;
            }
            let tables = Arc::clone(&self.templates.tables);
            for test in &properties.tests {
                match test_conversion::convert(&table, test, false, &tables) {
                    Ok(ConvertedTest::Function(function)) => self.functions.push(function),
                    Ok(ConvertedTest::Row(..)) => {}
                    Err(reason) => self.note(&test.file, format!("`{name}`: {reason}")),
                }
            }
        }
        let files = self.files;
        for (path, text) in files {
            let Some(rest) = is_below(path, &self.project.test_paths) else { continue };
            let Some(rest) = rest.strip_suffix(".sql") else { continue };
            if rest.starts_with("generic/") {
                self.note(path, "generic tests of the project are not converted");
                continue;
            }
            let name = identifier(rest.rsplit('/').next().unwrap_or(rest));
            match self.templates.render(&name, text) {
                Ok(test) => self.singular(&name, &test),
                Err(error) => self.note(path, format!("not converted: {}", error.message)),
            }
        }
    }

    fn singular(&mut self, name: &str, test: &RenderedTemplate) {
        let severity = test.config.get("severity").and_then(Value::as_str);
        let is_warning = severity.is_some_and(|severity| severity.eq_ignore_ascii_case("warn"));
        let text = format!("-- Rows that should not exist.\n{}\n", test.sql);
        self.result.files.insert(format!("expectations/{name}.sql"), text);
        self.functions.push(ExpectationFunction {
            name: format!("{name}_is_empty"),
            is_warning,
            inputs: vec![format!("rows=headwater.Model({name:?})")],
            result: "rows.num_rows == 0".to_owned(),
        });
    }

    /// Adds a note for each part of the project that has no equivalent in Headwater.
    fn note_unsupported(&mut self) {
        let files = self.files;
        for path in files.keys() {
            if is_below(path, &self.project.snapshot_paths).is_some() {
                self.note(path, "snapshots are not converted; `table@tag` reads older rows");
            }
        }
        for file in ["packages.yml", "dependencies.yml"] {
            if files.contains_key(file) {
                self.note(file, "packages are not converted");
            }
        }
    }

    fn finish(mut self) -> ConvertedProject {
        let mut code = "import headwater\nfrom headwater import expectations\n".to_owned();
        let mut names = BTreeSet::new();
        for function in &self.functions {
            let mut name = function.name.clone();
            while !names.insert(name.clone()) {
                name.push('_');
            }
            code.push_str(&function.code(&name));
        }
        if !self.functions.is_empty() {
            self.result.files.insert("expectations/expectations.py".to_owned(), code);
        }
        self.result.tests += self.functions.len();
        let name = Value::from(self.result.name.clone());
        let manifest = format!("[project]\nname = {name}\n");
        self.result.files.insert("headwater.toml".to_owned(), manifest);
        self.result
    }
}

impl ParsedModel<'_> {
    /// Returns the name and alias of an enabled model.
    fn alias(&self) -> Option<(String, String)> {
        let alias = alias_of(&self.config).filter(|_| self.is_enabled())?;
        Some((self.name.clone(), alias.to_owned()))
    }

    fn is_enabled(&self) -> bool {
        self.config.get("enabled") != Some(&Value::Bool(false))
    }
}

/// Returns the name of the table of a model or seed, if it differs from the name in dbt.
fn alias_of(config: &Settings) -> Option<&str> {
    config.get("alias").and_then(Value::as_str)
}

fn is_ephemeral(config: &Settings) -> bool {
    config.get("materialized").and_then(Value::as_str) == Some("ephemeral")
}

/// Returns the description of a model as SQL comments.
fn description(properties: &Properties) -> Vec<String> {
    properties.description.lines().map(|line| format!("-- {line}").trim_end().to_owned()).collect()
}

/// Returns the Iceberg type of a declared column type; `None` if the type is inferred from the
/// data.
fn iceberg_type(declared: &str) -> Option<String> {
    let declared = declared.to_ascii_lowercase();
    let (base, arguments) = match declared.split_once('(') {
        Some((base, arguments)) => (base.trim(), Some(arguments.trim_end_matches(')').trim())),
        None => (declared.trim(), None),
    };
    let simple = match (base, arguments) {
        ("numeric" | "decimal" | "number", Some(arguments)) => {
            return Some(format!("decimal({})", arguments.replace(' ', "")));
        }
        ("bigint" | "int8" | "int64", _) => "long",
        ("integer" | "int" | "int4" | "smallint", _) => "int",
        ("varchar" | "text" | "string" | "char", _) => "string",
        ("double" | "double precision" | "float8" | "float64", _) => "double",
        ("boolean" | "bool", _) => "boolean",
        ("date", _) => "date",
        ("timestamp", _) => "timestamp",
        _ => return None,
    };
    Some(simple.to_owned())
}
