//! Compares the rows of differing files with the query engine, within the memory limit of a
//! statement. Spills if needed.

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use arrow::error::ArrowError;
use datafusion::common::{Result as PlanResult, ScalarValue};
use datafusion::datasource::provider_as_source;
use datafusion::functions_aggregate::expr_fn::sum;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, SortExpr, col, lit};
use futures::StreamExt;
use headwater_engine::{Error, Result};
use headwater_model::{CompareRows, ComparisonMethod, RowDiff};
use headwater_table_scan::LakeTable;
use headwater_tables::ScanPlan;
use std::sync::Arc;

use crate::compare::{DiffOptions, RowComparison, StateComparer, changed_columns};
use crate::compared_columns::{ComparedColumns, SIDE};
use crate::diff_page::{PageCollector, PageRange};
use crate::row_encoding::encoded;
use crate::row_pairing::{DifferingRow, RowChange, RowPairing};

/// Columns of the comparison plan: the encoded key, the encoded other columns, and the number of
/// copies of the row on the second side minus the number on the first side.
const KEY: &str = "key";
const REST: &str = "rest";
const MORE: &str = "more";

/// Maximum number of rows up to which a page is computed by a top-k, which holds the rows in
/// memory. For more rows, a full sort is used.
const HELD_ROWS_MAX: usize = 20_000;

/// Page of rows that exist on one side only.
pub(crate) struct OneSidedPage {
    pub rows: Vec<RowDiff>,
    /// True if there are more rows after the page.
    pub more: bool,
    /// Bytes of the rows.
    pub bytes: usize,
}

impl StateComparer {
    /// Compares the rows in the differing files of both sides.
    pub(crate) async fn compare_rows(
        &self,
        compared: &ComparedColumns,
        (before, after): (&ScanPlan, &ScanPlan),
        window: PageRange,
        options: &DiffOptions,
    ) -> Result<RowComparison> {
        if compared.columns.is_empty() {
            let mut outcome = RowComparison::not_compared(compared, CompareRows::Always);
            outcome.rows.reason = Some("the two sides have no column in common".to_owned());
            return Ok(outcome);
        }
        let before = self.side(compared, before, false);
        let after = self.side(compared, after, true);
        let plan = before.and_then(|before| difference(before, after?));
        let keyed = !compared.key.is_empty();
        let mut page = PageCollector::new(compared, window);
        let pairing = self.run_diff(plan, (keyed, false), &mut page, options).await?;
        let (removed, added, changed) = page.counts;
        let mut outcome = RowComparison::new(compared, ComparisonMethod::Compared);
        (outcome.removed, outcome.added) = (Some(removed), Some(added));
        outcome.changed = keyed.then_some(changed);
        outcome.more = page.has_more();
        let failed =
            |error: ArrowError| self.engine.plan_error(options.memory_bytes, &error.into());
        outcome.rows.changed_columns = changed_columns(page.changed_in().map_err(failed)?);
        outcome.rows.duplicate_keys = pairing.duplicate_keys;
        outcome.rows.null_keys = pairing.null_keys;
        outcome.rows.rows = page.rows().map_err(failed)?;
        outcome.bytes = page.bytes;
        Ok(outcome.numbered(window))
    }

    /// Returns a page of rows that exist on one side only. The rows are in key order if `ordered`
    /// is set, otherwise in any order.
    pub(crate) async fn page_of_one(
        &self,
        compared: &ComparedColumns,
        (files, comes): (&ScanPlan, bool),
        window: PageRange,
        (ordered, options): (bool, &DiffOptions),
    ) -> Result<OneSidedPage> {
        let skip = usize::try_from(window.skip).unwrap_or(usize::MAX);
        let fetch = window.limit.saturating_add(usize::from(ordered));
        let last = skip.saturating_add(fetch);
        // A top-k holds its rows in memory; a full sort spills.
        let sorts_all = ordered && last > HELD_ROWS_MAX;
        let plan = self.side(compared, files, comes).and_then(|side| {
            let side = LogicalPlanBuilder::from(side);
            if sorts_all {
                return side.sort(order())?.build();
            }
            let side = if ordered { side.sort_with_limit(order(), Some(last))? } else { side };
            side.limit(skip, Some(fetch))?.build()
        });
        let skipped = if sorts_all { window.skip } else { 0 };
        let mut page = PageCollector::new(compared, PageRange { skip: skipped, ..window });
        // No pairing is needed, because the rows come from one side only.
        self.run_diff(plan, (false, true), &mut page, options).await?;
        let failed =
            |error: ArrowError| self.engine.plan_error(options.memory_bytes, &error.into());
        let rows = page.rows().map_err(failed)?;
        Ok(OneSidedPage { rows, more: page.has_more(), bytes: page.bytes })
    }

    /// Runs a plan and passes its rows to a page. If `stops` is set, stops when the page is full.
    async fn run_diff(
        &self,
        plan: PlanResult<LogicalPlan>,
        (keyed, stops): (bool, bool),
        page: &mut PageCollector<'_>,
        options: &DiffOptions,
    ) -> Result<RowPairing> {
        let memory_bytes = options.memory_bytes;
        let plan = plan.map_err(|error| self.engine.plan_error(memory_bytes, &error))?;
        let mut batches = self.engine.run_plan(plan, memory_bytes).await?;
        let mut pairing = RowPairing::new(keyed);
        let mut failed = None;
        let mut pass_on = |page: &mut PageCollector<'_>, change: RowChange| {
            if let Err(error) = page.take(change) {
                failed.get_or_insert(error);
            }
        };
        while let Some(batch) = batches.next().await {
            let batch = batch?;
            entries(&batch, |entry| pairing.take(entry, &mut |change| pass_on(page, change)))?;
            if stops && page.is_done() {
                break;
            }
        }
        pairing.finish(&mut |change| pass_on(page, change));
        match failed {
            None => Ok(pairing),
            Some(error) => Err(self.engine.plan_error(memory_bytes, &error.into())),
        }
    }

    /// Returns a plan of the encoded rows of one side's files.
    fn side(
        &self,
        compared: &ComparedColumns,
        files: &ScanPlan,
        after: bool,
    ) -> PlanResult<LogicalPlan> {
        let table = LakeTable::new(files.clone(), self.engine.scans().clone());
        let (key, rest) = compared.parts();
        let bytes = |places: &[usize]| {
            let columns = places.iter().map(|place| {
                let column = &compared.columns[*place];
                if after { column.after.clone() } else { column.before.clone() }
            });
            match places {
                [] => lit(ScalarValue::LargeBinary(Some(Vec::new()))),
                _ => encoded(columns.collect()),
            }
        };
        LogicalPlanBuilder::scan(SIDE, provider_as_source(Arc::new(table)), None)?
            .project(vec![
                bytes(&key).alias(KEY),
                bytes(&rest).alias(REST),
                lit(if after { 1_i64 } else { -1 }).alias(MORE),
            ])?
            .build()
    }
}

/// Returns a plan of the rows that are not on both sides, in order.
fn difference(before: LogicalPlan, after: LogicalPlan) -> PlanResult<LogicalPlan> {
    LogicalPlanBuilder::from(before)
        .union(after)?
        .aggregate(vec![col(KEY), col(REST)], vec![sum(col(MORE)).alias(MORE)])?
        .filter(col(MORE).not_eq(lit(0_i64)))?
        .sort(order())?
        .build()
}

fn order() -> Vec<SortExpr> {
    let ascending = |column: Expr| column.sort(true, true);
    vec![ascending(col(KEY)), ascending(col(MORE)), ascending(col(REST))]
}

/// Splits a batch into rows and passes each to `take`.
fn entries(batch: &RecordBatch, mut take: impl FnMut(DifferingRow)) -> Result<()> {
    let (key, rest, more) = (batch.column(0), batch.column(1), batch.column(2));
    let (Some(key), Some(rest), Some(more)) = (
        key.as_binary_opt::<i64>(),
        rest.as_binary_opt::<i64>(),
        more.as_primitive_opt::<Int64Type>(),
    ) else {
        return Err(Error::Internal { message: "the compared rows differ in type".to_owned() });
    };
    for at in 0..batch.num_rows() {
        take(DifferingRow {
            key: key.value(at).to_vec(),
            rest: rest.value(at).to_vec(),
            more: more.value(at),
        });
    }
    Ok(())
}
