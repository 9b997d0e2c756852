//! Description of a model in the record of a build, for `system.models` and `system.lineage`.

use std::collections::{BTreeMap, BTreeSet};

use headwater_engine::QueryColumns;
use headwater_model::TableName;
use headwater_project::Step;
use serde::{Deserialize, Serialize};

use crate::plan::Plan;

/// Description of a model at its last run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ModelRecord {
    /// The model's name, with its namespace.
    pub namespace: String,
    pub name: String,
    /// `sql` or `python`.
    pub kind: String,
    /// Materialization.
    pub materialization: String,
    /// The file that defines it.
    pub file: String,
    /// The line in that file.
    pub line: u32,
    /// Tags.
    pub tags: Vec<String>,
    /// Tables and models that it reads.
    pub inputs: Vec<InputName>,
    /// Sources of its columns, by column; `None` if they are not known.
    pub columns: Option<BTreeMap<String, Vec<SourceColumn>>>,
}

/// A table or model that a model reads.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct InputName {
    pub namespace: String,
    pub name: String,
    /// The ref, if the model names one.
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
}

/// A column of an input.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct SourceColumn {
    /// Position of the input in the record.
    pub input: usize,
    pub column: String,
}

impl ModelRecord {
    /// Describes a step, without the sources of its columns.
    pub fn of(step: &Step) -> ModelRecord {
        let TableName { namespace, name } = step.table.clone();
        let inputs: BTreeSet<InputName> = step.inputs.iter().map(InputName::of).collect();
        ModelRecord {
            namespace,
            name,
            kind: step.kind.as_str().to_owned(),
            materialization: step.materialization.as_str().to_owned(),
            file: step.at.file.to_string(),
            line: step.at.line,
            tags: step.tags.clone(),
            inputs: inputs.into_iter().collect(),
            columns: None,
        }
    }
}

impl InputName {
    fn of(input: &headwater_project::Input) -> InputName {
        let TableName { namespace, name } = input.table.clone();
        let reference = input.reference.as_ref().map(ToString::to_string);
        InputName { namespace, name, reference }
    }
}

impl Plan {
    /// Completes the description of a step that runs, after those of its parents.
    pub(crate) fn describe(&mut self, index: usize, query: Option<&QueryColumns>) {
        if let Some(query) = query {
            self.record_columns(index, query);
        }
        for parent in self.graph.parents[index].clone() {
            if self.project.steps[parent].is_materialized() {
                continue;
            }
            let record = &self.steps[parent].record;
            let mut models = record.models.clone();
            let name = self.project.steps[parent].name.clone();
            models.extend(record.model.clone().map(|model| (name, model)));
            self.steps[index].record.models.extend(models);
        }
    }

    /// Adds the sources of a SQL model's columns to its record, if all of them are inputs.
    fn record_columns(&mut self, index: usize, query: &QueryColumns) {
        let step = &self.project.steps[index];
        let Some(record) = &mut self.steps[index].record.model else { return };
        let Some(sources) = &query.sources else { return };
        let namespace = &self.project.defaults.namespace;
        let position = |table: &str| {
            let input = step.inputs.iter().find(|input| {
                let names = [input.table.name.clone(), input.table.to_string()];
                let full = format!("{}.{}", input.table.namespace, input.table.name);
                let own = input.table.namespace == *namespace && names[0] == table;
                own || names[1] == table || full == table
            })?;
            record.inputs.iter().position(|known| *known == InputName::of(input))
        };
        let mut columns = BTreeMap::new();
        for (field, sources) in query.schema.fields().iter().zip(sources) {
            let source = |(table, column): &(String, String)| {
                Some(SourceColumn { input: position(table)?, column: column.clone() })
            };
            let Some(sources) = sources.iter().map(source).collect() else { return };
            columns.insert(field.name().clone(), sources);
        }
        record.columns = Some(columns);
    }
}
