//! The first or last rows of a model's result, for a preview.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::{Field, SchemaRef};
use arrow::error::ArrowError;
use futures::{StreamExt, TryStreamExt};
use headwater_encoding::json_texts;
use headwater_functions::SharedTable;
use headwater_lake::BatchStream;
use headwater_model::{PreviewColumn, PreviewOptions, RowsPreview, StepReport};
use parking_lot::Mutex;
use serde_json::Value;

use super::{Run, StepProgress};
use crate::Result;
use crate::row_expectations::quoted;

/// Maximum size of a preview's rows as JSON.
const BYTES_MAX: usize = 256 << 10;

/// Collector of the first or last rows of a stream.
pub(super) struct PreviewCollector {
    options: PreviewOptions,
    schema: SchemaRef,
    batches: VecDeque<RecordBatch>,
    rows: usize,
}

impl PreviewCollector {
    pub fn new(options: PreviewOptions, schema: SchemaRef) -> Self {
        PreviewCollector { options, schema, batches: VecDeque::new(), rows: 0 }
    }

    /// Adds the next rows of the result.
    pub fn add(&mut self, batch: &RecordBatch) {
        let limit = self.options.rows as usize;
        if !self.options.tail {
            let missing = limit.saturating_sub(self.rows).min(batch.num_rows());
            self.push(batch.slice(0, missing));
            return;
        }
        let last = batch.num_rows().min(limit);
        self.push(batch.slice(batch.num_rows() - last, last));
        while let Some(first) = self.batches.front().map(RecordBatch::num_rows)
            && self.rows - first >= limit
        {
            self.batches.pop_front();
            self.rows -= first;
        }
    }

    fn push(&mut self, batch: RecordBatch) {
        if batch.num_rows() > 0 {
            self.rows += batch.num_rows();
            self.batches.push_back(batch);
        }
    }

    /// Returns true if further rows do not change the preview.
    pub fn is_full(&self) -> bool {
        !self.options.tail && self.rows >= self.options.rows as usize
    }

    /// Returns the collected rows as JSON.
    pub fn finish(&self) -> Result<RowsPreview, ArrowError> {
        let column = |field: &Arc<Field>| PreviewColumn {
            name: field.name().clone(),
            column_type: field.data_type().to_string(),
        };
        let columns = self.schema.fields().iter().map(column).collect();
        let mut skipped = self.rows.saturating_sub(self.options.rows as usize);
        let mut preview = RowsPreview { columns, ..RowsPreview::default() };
        let mut bytes = 0;
        for batch in &self.batches {
            let columns = batch.schema_ref().fields().iter().zip(batch.columns());
            let texts = columns.map(|(field, column)| json_texts(field, column));
            let texts: Vec<_> = texts.collect::<Result<_, _>>()?;
            for row in 0..batch.num_rows() {
                if skipped > 0 {
                    skipped -= 1;
                    continue;
                }
                let cells = texts.iter().filter(|column| !column.is_null(row));
                bytes += cells.map(|column| column.value(row).len()).sum::<usize>();
                if bytes > BYTES_MAX {
                    preview.truncated = true;
                    return Ok(preview);
                }
                let value = |column: &arrow::array::StringArray| {
                    let text = (!column.is_null(row)).then(|| column.value(row));
                    text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or(Value::Null)
                };
                preview.rows.push(texts.iter().map(value).collect());
            }
        }
        Ok(preview)
    }
}

impl Run {
    /// Collects the preview's rows while a stream is read, if the run is a preview.
    pub(super) fn collect_preview(
        &self,
        schema: &SchemaRef,
        rows: BatchStream,
        done: &mut StepProgress,
    ) -> BatchStream {
        let Some(options) = self.plan.preview else { return rows };
        let collector = Arc::new(Mutex::new(PreviewCollector::new(options, Arc::clone(schema))));
        done.preview = Some(Arc::clone(&collector));
        rows.inspect_ok(move |batch| collector.lock().add(batch)).boxed()
    }

    /// Collects the preview's rows from stored rows, if the run is a preview.
    pub(super) async fn collect_stored_preview(
        &self,
        rows: &SharedTable,
        done: &mut StepProgress,
    ) -> Result<()> {
        let stream = self.collect_preview(&rows.schema(), rows.stream(), done);
        let Some(collector) = done.preview.clone() else { return Ok(()) };
        self.read_preview(stream, &collector).await
    }

    async fn read_preview(
        &self,
        mut rows: BatchStream,
        collector: &Mutex<PreviewCollector>,
    ) -> Result<()> {
        while !collector.lock().is_full() {
            let Some(batch) = rows.next().await else { break };
            batch
                .map_err(|error| crate::Error::other(&headwater_functions::Error::Arrow(error)))?;
        }
        Ok(())
    }

    /// Returns the report of an unchanged step. In a preview, the report contains rows of the
    /// step's table.
    pub(super) async fn unchanged(&self, index: usize) -> StepReport {
        let report = self.plan.unchanged(index);
        let step = &self.plan.project.steps[index];
        if self.plan.preview.is_none() || !step.is_materialized() || !self.plan.is_listed(index) {
            return report;
        }
        match Box::pin(self.stored_preview(index)).await {
            Ok(preview) => StepReport { preview, ..report },
            Err(error) => {
                self.log(step, format!("warning: the table cannot be shown: {error}"));
                report
            }
        }
    }

    async fn stored_preview(&self, index: usize) -> Result<Option<RowsPreview>> {
        let step = &self.plan.project.steps[index];
        let Some(options) = self.plan.preview else { return Ok(None) };
        let limit = if options.tail { String::new() } else { format!(" LIMIT {}", options.rows) };
        let (namespace, name) = (quoted(&step.table.namespace), quoted(&step.table.name));
        let query = format!("SELECT * FROM {namespace}.{name}{limit}");
        let session = self.engine_session(step, std::collections::BTreeMap::new())?;
        let failed = |error: headwater_engine::Error| Self::failed(step, None, &error);
        let answer = Box::pin(session.select(&query)).await.map_err(failed)?;
        let collector = Mutex::new(PreviewCollector::new(options, answer.schema));
        let mut rows = answer.stream;
        while let Some(batch) = rows.next().await {
            collector.lock().add(&batch.map_err(failed)?);
        }
        let preview = collector.lock().finish();
        preview
            .map(Some)
            .map_err(|error| Self::failed(step, None, &headwater_functions::Error::Arrow(error)))
    }
}
