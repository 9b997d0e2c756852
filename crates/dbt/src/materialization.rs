//! Materializations: how a model's table is written.

use serde_json::Value;

use crate::project_file::{Settings, texts};
use crate::template::RenderedTemplate;

/// Materialization of a view.
const VIEW: &str = "view";

/// Materialization of a table to which each run adds rows.
const APPEND: &str = "append";

/// The settings that determine how a converted model is written, and notes about differences from
/// dbt.
#[derive(Debug, Default)]
pub(crate) struct Materialization {
    /// Values of the settings, by name.
    pub settings: Vec<(&'static str, String)>,
    pub notes: Vec<String>,
}

impl Materialization {
    /// Returns the materialization of a model. `appended` are the tables to which rows are only
    /// appended, and `ephemeral` are the models that are not stored.
    pub fn of(
        config: &Settings,
        rendered: &RenderedTemplate,
        appended: &dyn Fn(&str) -> bool,
        ephemeral: &dyn Fn(&str) -> bool,
    ) -> Self {
        let kind = config.get("materialized").and_then(Value::as_str).unwrap_or("view");
        match kind {
            "table" => Self::plain("replace"),
            "ephemeral" => Self::plain("none"),
            "incremental" => Self::incremental(config, rendered, appended),
            "view" => match rendered.refs.iter().find(|name| ephemeral(name)) {
                None => Self::plain(VIEW),
                Some(name) => {
                    let note =
                        format!("a view that reads the ephemeral model `{name}` becomes a table");
                    Self::plain("replace").with(&note)
                }
            },
            other => {
                let note = format!("the materialization `{other}` becomes `replace`");
                Self::plain("replace").with(&note)
            }
        }
    }

    /// Returns true if the model is a view, which cannot have row expectations.
    pub fn is_view(&self) -> bool {
        self.is(VIEW)
    }

    /// Returns true if the model only adds rows to its table.
    pub fn is_append(&self) -> bool {
        self.is(APPEND)
    }

    /// Returns true if the materialization, which is the first setting, has this name.
    fn is(&self, kind: &str) -> bool {
        self.settings.first().is_some_and(|(_, value)| value == kind)
    }

    fn plain(kind: &str) -> Self {
        let settings = vec![("materialization", kind.to_owned())];
        Materialization { settings, notes: Vec::new() }
    }

    fn with(mut self, note: &str) -> Self {
        self.notes.push(note.to_owned());
        self
    }

    fn incremental(
        config: &Settings,
        rendered: &RenderedTemplate,
        appended: &dyn Fn(&str) -> bool,
    ) -> Self {
        let keys = texts(config.get("unique_key"));
        if !keys.is_empty() {
            let mut merge = Self::plain("merge");
            merge.settings.push(("keys", keys.join(", ")));
            if rendered.is_incremental {
                let note = "the `is_incremental()` block is removed, so each run reads whole \
                            inputs; `incremental = INPUT` reads only new rows";
                merge.notes.push(note.to_owned());
            }
            return merge;
        }
        let partition = match config.get("partition_by") {
            Some(Value::Object(by)) => by.get("field").and_then(Value::as_str).map(str::to_owned),
            other => Some(texts(other).join(", ")).filter(|by| !by.is_empty()),
        };
        let strategy = config.get("incremental_strategy").and_then(Value::as_str);
        if let (Some("insert_overwrite"), Some(partition)) = (strategy, partition) {
            let mut overwrite = Self::plain("overwrite_partitions");
            overwrite.settings.push(("partition_by", partition));
            return overwrite;
        }
        let inputs: Vec<&String> = rendered.refs.iter().chain(&rendered.sources).collect();
        match inputs[..] {
            [input] if appended(input) => {
                let mut append = Self::plain(APPEND);
                append.settings.push(("incremental", input.clone()));
                append
            }
            _ => {
                let note = "the model has no `unique_key` and does not read exactly one \
                            append-only table, so it becomes `replace`";
                Self::plain("replace").with(note)
            }
        }
    }
}
