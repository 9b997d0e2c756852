//! Aggregates that are not what SQL says in DataFusion, in place of its own.

mod extreme;
mod sum;

use std::sync::Arc;

use datafusion::logical_expr::AggregateUDF;

/// The functions.
pub(crate) fn functions() -> [Arc<AggregateUDF>; 3] {
    let [min, max] = extreme::functions();
    [min, max, sum::checked_sum()]
}
