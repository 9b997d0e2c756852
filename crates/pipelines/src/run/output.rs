//! What a step leaves for its children: rows in memory, or a table on the run's branch.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use headwater_engine::Batches;
use headwater_functions::SharedTable;

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

/// Rows in memory with their columns.
pub(super) fn rows(schema: SchemaRef, batches: Vec<RecordBatch>) -> Output {
    Output::Rows(Arc::new(Batches { schema, batches }))
}
