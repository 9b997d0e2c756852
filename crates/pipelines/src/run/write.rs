//! Writing a model's rows to its table, as one commit on the run's branch.

use arrow::datatypes::{Field, SchemaRef};
use headwater_lake::BatchStream;
use headwater_model::{PROPERTY_JOB, Usage};

use super::Run;
use crate::Result;
use crate::plan::{FINGERPRINT, FINGERPRINT_CODE};
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
        let lake = self.runner.engine.lake();
        let author = self.context.author();
        let mut transaction = lake.transaction(&self.branch, author).await.map_err(failed)?;
        let plan = &self.plan.steps[index];
        transaction.snapshot_property(FINGERPRINT, plan.fingerprint.clone());
        transaction.snapshot_property(FINGERPRINT_CODE, plan.code.clone());
        transaction.property(PROPERTY_JOB, self.context.id().to_string());
        let (namespace, name) = (&step.table.namespace, &step.table.name);
        let existing = transaction.view().find(namespace, name).await.map_err(failed)?;
        if let (Materialization::Append, Some((name, table))) = (step.materialization, existing) {
            let new = new_columns(&schema, &table.schema());
            if !new.is_empty() {
                transaction.add_columns(&name, new).await.map_err(failed)?;
            }
            transaction.append(&name, rows).await.map_err(failed)?;
        } else {
            let partition = step.partition_by.clone();
            transaction.replace(&step.table, schema, partition, rows).await.map_err(failed)?;
        }
        let written = transaction.written();
        let message = format!("Model {}", step.name);
        transaction.commit(&message).await.map_err(failed)?;
        Ok(written)
    }
}

/// The columns that a table does not have yet; older rows are null there.
fn new_columns(schema: &SchemaRef, table: &SchemaRef) -> Vec<Field> {
    let known = |name: &str| table.fields().iter().any(|field| field.name() == name);
    let new = schema.fields().iter().filter(|field| !known(field.name()));
    new.map(|field| field.as_ref().clone().with_nullable(true)).collect()
}
