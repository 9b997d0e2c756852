//! Writing a model's rows to its table, as one commit on the run's branch.

use std::sync::Arc;

use arrow::datatypes::{Field, Fields, Schema, SchemaRef};
use headwater_lake::BatchStream;
use headwater_model::{PROPERTY_JOB, Usage};

use super::Run;
use crate::Result;
use crate::plan::{FINGERPRINT, FINGERPRINT_CODE, PROJECT};
use crate::step::{Materialization, Step};

impl Run {
    /// Writes the rows; what that took.
    pub(super) async fn write(
        &self,
        index: usize,
        step: &Step,
        schema: SchemaRef,
        rows: BatchStream,
    ) -> Result<Usage> {
        let failed = |error: headwater_lake::Error| Self::failed(step, None, &error);
        let schema = nullable(&schema);
        let lake = self.runner.engine.lake();
        let author = self.context.author();
        let mut transaction = lake.transaction(&self.branch, author).await.map_err(failed)?;
        let plan = &self.plan.steps[index];
        transaction.snapshot_property(FINGERPRINT, plan.fingerprint.clone());
        transaction.snapshot_property(FINGERPRINT_CODE, plan.code.clone());
        transaction.snapshot_property(PROJECT, self.plan.project.name.clone());
        transaction.property(PROPERTY_JOB, self.context.id().to_string());
        let (namespace, name) = (&step.table.namespace, &step.table.name);
        let existing = transaction.view().find(namespace, name).await.map_err(failed)?;
        let partition = step.partition_by.clone();
        match (step.materialization, existing) {
            (_, None) => {
                let properties = [(PROJECT.to_owned(), self.plan.project.name.clone())].into();
                let table = &step.table;
                let made = transaction.create(table, schema, partition, properties).await;
                made.map_err(failed)?;
                transaction.append(table, rows).await.map_err(failed)?;
            }
            (Materialization::Append, Some((name, table))) => {
                let new = new_columns(&schema, &table.schema());
                if !new.is_empty() {
                    transaction.add_columns(&name, new).await.map_err(failed)?;
                }
                transaction.append(&name, rows).await.map_err(failed)?;
            }
            (Materialization::Replace | Materialization::None, Some((name, _))) => {
                transaction.replace(&name, schema, partition, rows).await.map_err(failed)?;
            }
        }
        let written = transaction.written();
        let message = format!("Model {}", step.name);
        let commit = transaction.commit(&message).await.map_err(failed)?;
        self.note_commit(commit.map(|commit| commit.id));
        Ok(written)
    }
}

/// The columns that a table does not have yet; older rows are null there.
fn new_columns(schema: &SchemaRef, table: &SchemaRef) -> Vec<Field> {
    let known = |name: &str| table.fields().iter().any(|field| field.name() == name);
    let new = schema.fields().iter().filter(|field| !known(field.name()));
    new.map(|field| field.as_ref().clone()).collect()
}

/// A model's columns take nulls, even where these rows have none: the next may.
fn nullable(schema: &SchemaRef) -> SchemaRef {
    let fields = schema.fields().iter();
    let fields: Fields = fields.map(|field| Field::clone(field).with_nullable(true)).collect();
    Arc::new(Schema::new(fields))
}
