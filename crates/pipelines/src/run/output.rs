//! What a step leaves for its children: rows in memory, or a table on the run's branch.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use headwater_engine::Batches;
use headwater_functions::SharedTable;

use crate::graph::Graph;
use crate::step::{Materialization, Step};

/// What a step leaves for its children.
#[derive(Clone)]
pub(super) enum Output {
    /// Rows that a query gave.
    Rows(Arc<Batches>),
    /// Rows that a function gave, in shared memory.
    Shared(SharedTable),
    /// The table that was written, read from the run's branch.
    Table,
}

impl Output {
    /// The rows, where they are in memory.
    pub fn batches(&self) -> Option<Batches> {
        match self {
            Output::Rows(batches) => Some(Batches::clone(batches)),
            Output::Shared(table) => {
                Some(Batches { schema: table.schema(), batches: table.batches() })
            }
            Output::Table => None,
        }
    }
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
/// themselves where the table holds just these, or else the table, so that a child sees the same
/// whether its parent ran or was unchanged.
pub(super) fn written(step: &Step, rows: SharedTable) -> Output {
    let schema = rows.schema();
    let same = headwater_tables::normalise_schema(&schema).is_ok_and(|table| {
        let fields = table.fields().iter().zip(schema.fields());
        fields.into_iter().all(|(table, given)| table.data_type() == given.data_type())
    });
    if same && step.materialization == Materialization::Replace {
        Output::Shared(rows)
    } else {
        Output::Table
    }
}

/// Rows in memory with their columns.
pub(super) fn rows(schema: SchemaRef, batches: Vec<RecordBatch>) -> Output {
    Output::Rows(Arc::new(Batches { schema, batches }))
}
