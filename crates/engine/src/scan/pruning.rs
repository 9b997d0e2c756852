//! Which files can hold rows that a filter lets through, by the bounds in the manifests.

use std::collections::HashSet;

use arrow::array::{ArrayRef, BooleanArray};
use arrow::datatypes::SchemaRef;
use datafusion::catalog::Session;
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::{Column, DFSchema, Result, ScalarValue};
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::utils::conjunction;
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use headwater_tables::ScanPlan;

/// The files that may hold rows for all of the filters.
pub(crate) fn prune(
    plan: &ScanPlan,
    schema: &SchemaRef,
    filters: &[Expr],
    session: &dyn Session,
) -> Result<ScanPlan> {
    let Some(filter) = conjunction(filters.iter().cloned()) else { return Ok(plan.clone()) };
    if plan.files().is_empty() {
        return Ok(plan.clone());
    }
    let columns = DFSchema::try_from(SchemaRef::clone(schema))?;
    // A filter that bounds say nothing about is no reason to fail: the rows are filtered anyway.
    let Ok(filter) = session.create_physical_expr(filter, &columns) else {
        return Ok(plan.clone());
    };
    let Ok(predicate) =
        PruningPredicateBuilder::new().with_file_schema(SchemaRef::clone(schema)).try_build(filter)
    else {
        return Ok(plan.clone());
    };
    if predicate.always_true() {
        return Ok(plan.clone());
    }
    let keep = predicate.prune(&Bounds(plan))?;
    Ok(plan.retain(&keep))
}

struct Bounds<'p>(&'p ScanPlan);

impl PruningStatistics for Bounds<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.0.min(&column.name)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.0.max(&column.name)
    }

    fn num_containers(&self) -> usize {
        self.0.files().len()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        self.0.null_counts(&column.name)
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        Some(self.0.row_counts())
    }

    fn contained(&self, _: &Column, _: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}
