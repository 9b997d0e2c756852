//! Outputs of steps, for the steps that read them: rows in memory or on disk, or a table on the run
//! branch.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use futures::stream::BoxStream;
use headwater_engine::{RecordBatches, RowSource, Session};
use headwater_functions::SharedTable;
use headwater_project::{Materialization, Step, StepGraph};

use crate::{Error, Result};

/// Output of a step.
#[derive(Clone)]
pub(super) enum StepOutput {
    /// Rows in shared memory or on disk.
    Rows(SharedTable),
    /// Table on the run branch.
    Table,
}

/// Rows on disk, as a source for the engine.
#[derive(Debug)]
struct DiskTable(SharedTable);

impl RowSource for DiskTable {
    fn schema(&self) -> SchemaRef {
        self.0.schema()
    }

    fn read(&self) -> BoxStream<'static, Result<RecordBatch, ArrowError>> {
        self.0.stream()
    }
}

/// Registers rows in a session.
pub(super) fn register(session: &Session, name: &str, rows: &SharedTable) -> Result<()> {
    let Some(batches) = rows.mapped() else {
        session.register_stored(name, Arc::new(DiskTable(rows.clone())));
        return Ok(());
    };
    let registered = session.register(name, &RecordBatches { schema: rows.schema(), batches });
    registered.map_err(|error| Error::other(&error))
}

/// Outputs of finished steps, each kept until the last step that reads it has ended.
#[derive(Default)]
pub(super) struct StepOutputs {
    kept: BTreeMap<usize, StepOutput>,
    ended: BTreeSet<usize>,
}

impl StepOutputs {
    /// Returns the output of a step, if it is kept.
    pub fn get(&self, step: usize) -> Option<StepOutput> {
        self.kept.get(&step).cloned()
    }

    /// Keeps the output of a step if other steps read it.
    pub fn keep(&mut self, step: usize, output: StepOutput, graph: &StepGraph) {
        if !graph.children[step].is_empty() {
            self.kept.insert(step, output);
        }
    }

    /// Marks a step as ended, and drops outputs that no remaining step reads.
    pub fn ended(&mut self, step: usize, graph: &StepGraph) {
        self.ended.insert(step);
        for parent in &graph.parents[step] {
            if graph.children[*parent].is_subset(&self.ended) {
                self.kept.remove(parent);
            }
        }
    }
}

/// Returns the output of a step whose rows were written to a table. The output is the rows if they
/// are in memory and equal the stored rows, otherwise the table. A step that reads the output
/// therefore gets the same rows whether the model ran or was unchanged.
pub(super) fn written(step: &Step, rows: SharedTable) -> StepOutput {
    let schema = rows.schema();
    let same = headwater_tables::normalise_schema(&schema).is_ok_and(|table| {
        // The rows in memory may have nanoseconds, which the table truncates to microseconds. In
        // this case the types differ, and the output is the table.
        let table = headwater_tables::without_nanoseconds(&table);
        let fields = table.fields().iter().zip(schema.fields());
        fields.into_iter().all(|(table, given)| table.data_type() == given.data_type())
    });
    let stays = same && step.materialization == Materialization::Replace;
    if stays && rows.mapped().is_some() { StepOutput::Rows(rows) } else { StepOutput::Table }
}
