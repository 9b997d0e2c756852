//! Adds the sources of a model's columns, and descriptions of the intermediate models that it
//! reads, to the record of a build.

use std::collections::BTreeMap;

use headwater_build_records::{InputName, SourceColumn};
use headwater_engine::QueryColumns;
use headwater_project::StepCode;

use crate::plan::Plan;

impl Plan {
    /// Adds to the record of a step that runs: the sources of its columns, and the descriptions of
    /// the intermediate models that it reads. The records of these models must be complete.
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

    /// Adds the columns that a Python model declares to the model's record, with the declared
    /// sources. A column without declared sources may depend on all input columns that the model
    /// reads.
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
