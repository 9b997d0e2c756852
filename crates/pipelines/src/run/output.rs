//! What a step leaves for its children: rows, in memory as long as there is room and else on disk,
//! or a table on the run's branch.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use futures::stream::BoxStream;
use headwater_engine::{Batches, Session, StoredRows};
use headwater_functions::SharedTable;

use crate::graph::Graph;
use crate::step::{Materialization, Step};
use crate::{Error, Result};

/// What a step leaves for its children.
#[derive(Clone)]
pub(super) enum Output {
    /// Its rows, in shared memory or on disk.
    Rows(SharedTable),
    /// The table that was written, read from the run's branch.
    Table,
}

/// Rows on disk, as the engine reads them.
#[derive(Debug)]
struct OnDisk(SharedTable);

impl StoredRows for OnDisk {
    fn schema(&self) -> SchemaRef {
        self.0.schema()
    }

    fn read(&self) -> BoxStream<'static, Result<RecordBatch, ArrowError>> {
        self.0.stream()
    }
}

/// Makes rows readable in a session.
pub(super) fn register(session: &Session, name: &str, rows: &SharedTable) -> Result<()> {
    let registered = match rows.mapped() {
        Some(batches) => session.register(name, &Batches { schema: rows.schema(), batches }),
        None => session.register_stored(name, Arc::new(OnDisk(rows.clone()))),
    };
    registered.map_err(|error| Error::other(&error))
}

/// What the steps of a run have left, each as long as a child may still ask for it.
#[derive(Default)]
pub(super) struct Outputs {
    kept: BTreeMap<usize, Output>,
    ended: BTreeSet<usize>,
}

impl Outputs {
    /// What a step left; none where nothing did, or nobody is left to read it.
    pub fn get(&self, step: usize) -> Option<Output> {
        self.kept.get(&step).cloned()
    }

    /// Keeps what a step leaves, if anyone reads it.
    pub fn keep(&mut self, step: usize, output: Output, graph: &Graph) {
        if !graph.children[step].is_empty() {
            self.kept.insert(step, output);
        }
    }

    /// Notes that a step has ended, and forgets what only it still had to read.
    pub fn ended(&mut self, step: usize, graph: &Graph) {
        self.ended.insert(step);
        for parent in &graph.parents[step] {
            if graph.children[*parent].is_subset(&self.ended) {
                self.kept.remove(parent);
            }
        }
    }
}

/// What children read of rows that a function gave and that were written to its table: the rows
/// themselves where the table holds just these and memory has room for them, or else the table, so
/// that a child sees the same whether its parent ran or was unchanged.
pub(super) fn written(step: &Step, rows: SharedTable) -> Output {
    let schema = rows.schema();
    let same = headwater_tables::normalise_schema(&schema).is_ok_and(|table| {
        // A table may have microseconds where these have nanoseconds.
        let table = headwater_tables::without_nanoseconds(&table);
        let fields = table.fields().iter().zip(schema.fields());
        fields.into_iter().all(|(table, given)| table.data_type() == given.data_type())
    });
    let stays = same && step.materialization == Materialization::Replace;
    if stays && rows.mapped().is_some() { Output::Rows(rows) } else { Output::Table }
}
