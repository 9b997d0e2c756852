//! Renders the templates of models: `ref`, `source`, `config`, `var`, `this` and macros.
//!
//! `is_incremental()` is false, so the result is the query of a first run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use minijinja::value::{Kwargs, Rest, Serde, Value};
use minijinja::{Environment, ErrorKind, UndefinedBehavior};
use parking_lot::Mutex;

use crate::project_file::Settings;

/// Maximum number of template instructions, so that a loop ends.
const FUEL: u64 = 1_000_000;

/// Tables of sources, by the two arguments of `source(…)`.
pub(crate) type Sources = BTreeMap<(String, String), String>;

/// The names of the tables to which `ref` and `source` refer.
#[derive(Debug, Default, Clone)]
pub(crate) struct TableNames {
    pub sources: Sources,
    /// The alias of each model and seed that has one, by its name in dbt.
    pub aliases: BTreeMap<String, String>,
}

impl TableNames {
    /// Returns the name of the table of a model or seed, by its name in dbt.
    pub fn table<'n>(&'n self, name: &'n str) -> &'n str {
        self.aliases.get(name).map_or(name, String::as_str)
    }

    /// Returns the table of a source.
    pub fn source(&self, source: &str, table: &str) -> String {
        let known = self.sources.get(&(source.to_owned(), table.to_owned()));
        known.cloned().unwrap_or_else(|| format!("{source}.{table}"))
    }
}

/// A rendered template.
#[derive(Debug, Default, Clone)]
pub(crate) struct RenderedTemplate {
    pub sql: String,
    /// Settings in calls of `config(…)`.
    pub config: Settings,
    /// Tables in calls of `ref(…)`: models and seeds.
    pub refs: BTreeSet<String>,
    /// Tables in calls of `source(…)`.
    pub sources: BTreeSet<String>,
    /// True if the query reads its own table.
    pub reads_itself: bool,
    pub is_incremental: bool,
}

/// Context that all templates of a project share.
pub(crate) struct TemplateRenderer {
    pub vars: Settings,
    pub tables: Arc<TableNames>,
    /// Text of all macro definitions.
    pub macros: String,
}

/// The line and reason of a template that cannot be rendered.
pub(crate) struct TemplateError {
    pub line: Option<usize>,
    pub message: String,
}

impl TemplateRenderer {
    /// Sets the table of a model or seed for later calls of [`TemplateRenderer::render`].
    pub fn add_alias(&mut self, name: &str, table: &str) {
        let tables = Arc::make_mut(&mut self.tables);
        tables.aliases.insert(name.to_owned(), table.to_owned());
    }

    /// Renders the template of the model `name`.
    pub fn render(&self, name: &str, text: &str) -> Result<RenderedTemplate, TemplateError> {
        let found = Arc::new(Mutex::new(RenderedTemplate::default()));
        let environment = self.environment(name, &found);
        let text = format!("{}{text}", self.macros);
        let above = self.macros.matches('\n').count();
        let sql = environment.render_str(&text, Value::UNDEFINED);
        let sql = sql.map_err(|error| TemplateError {
            line: error.line().and_then(|line| line.checked_sub(above)).filter(|line| *line > 0),
            message: match (error.kind(), error.detail()) {
                (_, Some(detail)) => detail.to_owned(),
                (kind, None) => kind.to_string(),
            },
        })?;
        let mut rendered = std::mem::take(&mut *found.lock());
        sql.trim().trim_end_matches(';').trim_end().clone_into(&mut rendered.sql);
        Ok(rendered)
    }

    fn environment(
        &self,
        name: &str,
        found: &Arc<Mutex<RenderedTemplate>>,
    ) -> Environment<'static> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment.set_fuel(Some(FUEL));
        let (at, tables) = (Arc::clone(found), Arc::clone(&self.tables));
        environment.add_function("ref", move |names: Rest<String>| {
            let Some(name) = names.last() else {
                return Err(invalid("`ref()` needs the name of a model"));
            };
            let table = tables.table(name).to_owned();
            at.lock().refs.insert(table.clone());
            Ok(table)
        });
        let (at, tables) = (Arc::clone(found), Arc::clone(&self.tables));
        environment.add_function("source", move |source: String, table: String| {
            let table = tables.source(&source, &table);
            at.lock().sources.insert(table.clone());
            table
        });
        let at = Arc::clone(found);
        environment.add_function("config", move |given: Kwargs| {
            for key in given.args() {
                let value: Value = given.get(key)?;
                let value =
                    serde_json::to_value(&value).map_err(|error| invalid(&error.to_string()))?;
                at.lock().config.insert(key.to_owned(), value);
            }
            Ok("")
        });
        let vars = self.vars.clone();
        environment.add_function("var", move |name: String, default: Option<Value>| {
            match vars.get(&name).map(|value| Value::from(Serde(value))).or(default) {
                Some(value) => Ok(value),
                None => Err(invalid(&format!("the variable `{name}` has no value"))),
            }
        });
        let at = Arc::clone(found);
        environment.add_function("is_incremental", move || {
            at.lock().is_incremental = true;
            false
        });
        let this = ThisTable(self.tables.table(name).to_owned(), Arc::clone(found));
        environment.add_global("this", Value::from_object(this));
        environment.add_global("execute", false);
        environment.add_global("target", Value::from_pairs([("name", "prod")]));
        environment
    }
}

fn invalid(message: &str) -> minijinja::Error {
    minijinja::Error::new(ErrorKind::InvalidOperation, message.to_owned())
}

/// The value `this`: the model's own table.
#[derive(Debug)]
struct ThisTable(String, Arc<Mutex<RenderedTemplate>>);

impl minijinja::value::Object for ThisTable {
    fn repr(self: &Arc<Self>) -> minijinja::value::ObjectRepr {
        minijinja::value::ObjectRepr::Plain
    }

    fn render(self: &Arc<Self>, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.1.lock().reads_itself = true;
        f.write_str(&self.0)
    }
}
