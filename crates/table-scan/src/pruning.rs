//! Prunes the files of a scan by the bounds and partition values in the manifests.

use std::collections::HashSet;
use std::ops::Not;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::datatypes::{SchemaRef, UInt64Type};
use datafusion::catalog::Session;
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::{Column, DFSchema, Result, ScalarValue};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_optimizer::pruning::{PruningPredicate, PruningPredicateBuilder};
use headwater_tables::ScanPlan;

/// Returns the files that may contain rows that match all filters.
pub fn prune(
    plan: &ScanPlan,
    schema: &SchemaRef,
    filters: &[Expr],
    session: &dyn Session,
) -> Result<ScanPlan> {
    let Some(filter) = conjunction(filters.iter().cloned()) else { return Ok(plan.clone()) };
    if plan.files().is_empty() {
        return Ok(plan.clone());
    }
    let keep = may_contain(plan, schema, filter, session)?;
    Ok(if keep.iter().all(|keep| *keep) { plan.clone() } else { plan.retain(&keep) })
}

/// Returns true if a file may contain a row that matches all filters, or if pruning fails.
pub fn can_match(
    plan: &ScanPlan,
    schema: &SchemaRef,
    filters: &[Expr],
    session: &dyn Session,
) -> bool {
    prune(plan, schema, filters, session).map_or(true, |left| !left.files().is_empty())
}

/// Returns one value for each file: true if all rows of the file are known to match the filter.
///
/// The filter is split at `AND`. A condition holds for all rows of a file if, by the bounds, no row
/// can match its negation, and the condition is never null. A condition is never null if its
/// columns contain no null, and its operators return null only for null operands.
pub fn whole_files(
    plan: &ScanPlan,
    schema: &SchemaRef,
    filter: &Expr,
    session: &dyn Session,
) -> Result<Vec<bool>> {
    let mut whole = vec![true; plan.files().len()];
    let columns = DFSchema::try_from(SchemaRef::clone(schema))?;
    let context = SimplifyContext::builder().with_schema(Arc::new(columns)).build();
    let simplifier = ExprSimplifier::new(context);
    for condition in split_conjunction(filter) {
        let mut must_be_set = HashSet::new();
        if !null_for_nulls_only(condition, &mut must_be_set) {
            return Ok(vec![false; plan.files().len()]);
        }
        let fails = simplifier.simplify(condition.clone().not())?;
        let may_fail = match &fails {
            Expr::Literal(ScalarValue::Boolean(Some(fails)), _) => {
                vec![*fails; plan.files().len()]
            }
            _ => may_contain(plan, schema, fails, session)?,
        };
        let nulls: Vec<_> = must_be_set.iter().map(|name| plan.null_counts(name)).collect();
        for (file, whole) in whole.iter_mut().enumerate() {
            let set = |counts: &Option<ArrayRef>| {
                counts.as_ref().is_some_and(|counts| {
                    let counts = counts.as_primitive::<UInt64Type>();
                    counts.is_valid(file) && counts.value(file) == 0
                })
            };
            *whole &= !may_fail[file] && nulls.iter().all(set);
        }
    }
    Ok(whole)
}

/// Returns true if an expression can be null only for rows in which one of its columns is null.
/// Adds these columns to `columns`.
fn null_for_nulls_only(expr: &Expr, columns: &mut HashSet<String>) -> bool {
    match expr {
        Expr::Column(column) => {
            columns.insert(column.name.clone());
            true
        }
        Expr::Literal(value, _) => !value.is_null(),
        Expr::IsNull(inner) | Expr::IsNotNull(inner) => matches!(**inner, Expr::Column(_)),
        Expr::Not(inner) => null_for_nulls_only(inner, columns),
        Expr::Cast(cast) => null_for_nulls_only(&cast.expr, columns),
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            use Operator::{And, Eq, Gt, GtEq, Lt, LtEq, NotEq, Or};
            matches!(op, And | Eq | Gt | GtEq | Lt | LtEq | NotEq | Or)
                && null_for_nulls_only(left, columns)
                && null_for_nulls_only(right, columns)
        }
        Expr::Between(between) => [&between.expr, &between.low, &between.high]
            .into_iter()
            .all(|part| null_for_nulls_only(part, columns)),
        Expr::InList(list) => {
            null_for_nulls_only(&list.expr, columns)
                && list.list.iter().all(|value| null_for_nulls_only(value, columns))
        }
        Expr::Like(like) => {
            null_for_nulls_only(&like.expr, columns) && null_for_nulls_only(&like.pattern, columns)
        }
        _ => false,
    }
}

/// Returns one value for each file: true if the file may contain a row that matches the filter.
fn may_contain(
    plan: &ScanPlan,
    schema: &SchemaRef,
    filter: Expr,
    session: &dyn Session,
) -> Result<Vec<bool>> {
    let columns = DFSchema::try_from(SchemaRef::clone(schema))?;
    // A filter that is not supported prunes nothing. The scan still succeeds, because DataFusion
    // filters the rows again.
    let Ok(filter) = session.create_physical_expr(filter, &columns) else {
        return Ok(vec![true; plan.files().len()]);
    };
    let Ok(predicate) =
        PruningPredicateBuilder::new().with_file_schema(SchemaRef::clone(schema)).try_build(filter)
    else {
        return Ok(vec![true; plan.files().len()]);
    };
    if predicate.always_true() {
        return Ok(vec![true; plan.files().len()]);
    }
    let mut keep = predicate.prune(&FileBounds(plan))?;
    if !predicate.literal_guarantees().is_empty() {
        prune_by_partition(plan, &predicate, &mut keep)?;
    }
    Ok(keep)
}

/// Sets the entry of each file to false whose partition contains none of the values in the filter.
/// The caller prunes by bounds first, because bounds are arrays over all files, whereas partition
/// values are read file by file.
fn prune_by_partition(
    plan: &ScanPlan,
    predicate: &PruningPredicate,
    keep: &mut [bool],
) -> Result<()> {
    let left = plan.retain(keep);
    if left.files().is_empty() {
        return Ok(());
    }
    let held = predicate.prune(&FilePartitions(&left))?;
    keep.iter_mut().filter(|keep| **keep).zip(held).for_each(|(keep, held)| *keep = held);
    Ok(())
}

/// The bounds and counts of each file, from the manifests.
struct FileBounds<'p>(&'p ScanPlan);

impl PruningStatistics for FileBounds<'_> {
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

/// The partition values of each file, from the manifests.
struct FilePartitions<'p>(&'p ScanPlan);

impl PruningStatistics for FilePartitions<'_> {
    fn min_values(&self, _: &Column) -> Option<ArrayRef> {
        None
    }

    fn max_values(&self, _: &Column) -> Option<ArrayRef> {
        None
    }

    fn num_containers(&self) -> usize {
        self.0.files().len()
    }

    fn null_counts(&self, _: &Column) -> Option<ArrayRef> {
        None
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        None
    }

    fn contained(&self, column: &Column, values: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        let values = ScalarValue::iter_to_array(values.iter().cloned()).ok()?;
        self.0.may_contain(&column.name, &values)
    }
}
