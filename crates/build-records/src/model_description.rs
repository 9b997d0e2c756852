//! Description of a model in the record of its build, for `system.models` and `system.lineage`.

use std::collections::{BTreeMap, BTreeSet};

use headwater_model::TableName;
use headwater_project::{Step, StepInput};
use serde::{Deserialize, Serialize};

/// Description of a model at its last run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ModelDescription {
    /// The namespace of the model.
    pub namespace: String,
    /// The model's name, without its namespace.
    pub name: String,
    /// `sql` or `python`.
    pub kind: String,
    /// Materialization.
    pub materialization: String,
    /// The file that defines the model.
    pub file: String,
    /// The line of the definition in the file.
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
pub struct InputName {
    /// The namespace of the table or model.
    pub namespace: String,
    /// The name of the table or model, without its namespace.
    pub name: String,
    /// The ref of the table; `None` if the reading model names no ref.
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
}

/// A column of an input, from which columns of the model are computed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SourceColumn {
    /// Index of the input in [`ModelDescription::inputs`].
    pub input: usize,
    /// The name of the column.
    pub column: String,
}

impl ModelDescription {
    /// Describes a step, without the sources of its columns.
    pub fn of(step: &Step) -> ModelDescription {
        let TableName { namespace, name } = step.table.clone();
        let inputs: BTreeSet<InputName> = step.inputs.iter().map(InputName::of).collect();
        ModelDescription {
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

    /// Returns each column of the model with each of its sources. The flag is true if the column is
    /// certainly computed from the source, false if this is only possible.
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
    /// Returns the name and ref of an input.
    pub fn of(input: &StepInput) -> InputName {
        let TableName { namespace, name } = input.table.clone();
        let reference = input.reference.as_ref().map(ToString::to_string);
        InputName { namespace, name, reference }
    }

    /// Returns the name of the input's table.
    pub(crate) fn table(&self) -> TableName {
        TableName { namespace: self.namespace.clone(), name: self.name.clone() }
    }
}
