//! What a step leaves for its children: rows in memory, or a table on the run's branch.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use headwater_engine::Batches;
use headwater_functions::SharedTable;

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

/// What children read of rows that a function gave and that were written to its table: the rows themselves
/// where the table holds just these, or else the table, so that a child sees the same whether its parent ran
/// or was unchanged.
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
