//! Description of a model in the record of a build, for `system.models` and `system.lineage`.

use std::collections::{BTreeMap, BTreeSet};

use headwater_engine::QueryColumns;
use headwater_model::TableName;
use headwater_project::{Step, StepCode};
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
    /// The file that defines the model.
    pub file: String,
    /// The line in that file.
    pub line: u32,
    /// Tags.
    pub tags: Vec<String>,
    /// The docstring of a function, or the comments above a query.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Tables and models that the model reads.
    pub inputs: Vec<InputName>,
    /// Source columns of each column of the model; `None` if the sources are not known.
    pub columns: Option<BTreeMap<String, Vec<SourceColumn>>>,
    /// Columns of a Python model without declared sources. Each column may be computed from all
    /// columns in `reads`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub inexact: Vec<String>,
    /// The input columns that a Python model reads.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reads: Vec<SourceColumn>,
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
            description: step.description.clone(),
            inputs: inputs.into_iter().collect(),
            columns: None,
            inexact: Vec::new(),
            reads: Vec::new(),
        }
    }

    /// Returns each column of the model with each of its sources, and true if the source is exact.
    pub fn column_sources(&self) -> impl Iterator<Item = (&String, &SourceColumn, bool)> {
        let exact = self.columns.iter().flatten();
        let exact = exact
            .flat_map(|(column, sources)| sources.iter().map(move |source| (column, source, true)));
        let inexact = self
            .inexact
            .iter()
            .flat_map(move |column| self.reads.iter().map(move |source| (column, source, false)));
        exact.chain(inexact)
    }
}

impl InputName {
    fn of(input: &headwater_project::StepInput) -> InputName {
        let TableName { namespace, name } = input.table.clone();
        let reference = input.reference.as_ref().map(ToString::to_string);
        InputName { namespace, name, reference }
    }
}

impl Plan {
    /// Adds to the record of a step that runs: the sources of its columns, and the descriptions of
    /// its intermediate parents. The records of the parents must be complete.
    pub(crate) fn describe(&mut self, index: usize, query: Option<&QueryColumns>) {
        match query {
            Some(query) => self.record_columns(index, query),
            None => self.record_declared_columns(index),
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

    /// Adds the sources of an SQL model's columns to its record, if all sources are inputs of the
    /// model.
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

    /// Adds the declared columns of a Python model to its record, with their declared sources. The
    /// other columns may depend on all input columns that the model reads.
    fn record_declared_columns(&mut self, index: usize) {
        let step = &self.project.steps[index];
        let (Some(columns), StepCode::Python(_)) = (&step.columns, &step.body) else { return };
        let Some(inputs) = self.steps[index].record.model.as_ref().map(|one| &one.inputs) else {
            return;
        };
        let source = |input: usize, column: &str| {
            let name = InputName::of(step.inputs.get(input)?);
            let input = inputs.iter().position(|known| *known == name)?;
            Some(SourceColumn { input, column: column.to_owned() })
        };
        let (mut exact, mut inexact) = (BTreeMap::new(), Vec::new());
        let mut reads: Vec<SourceColumn> = Vec::new();
        for column in columns {
            let Some(declared) = step.lineage.get(column) else {
                inexact.push(column.clone());
                continue;
            };
            let sources = declared.iter().filter_map(|one| source(one.input, &one.column));
            exact.insert(column.clone(), sources.collect::<Vec<_>>());
        }
        if !inexact.is_empty() {
            for input in 0..step.inputs.len() {
                for column in self.columns_read(index, input) {
                    if let Some(one) = source(input, &column)
                        && !reads.contains(&one)
                    {
                        reads.push(one);
                    }
                }
            }
        }
        if let Some(record) = &mut self.steps[index].record.model {
            record.columns = Some(exact);
            record.inexact = inexact;
            record.reads = reads;
        }
    }
}
