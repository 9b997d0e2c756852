//! The estimated cost of a query, from the statistics of its plan.
//!
//! The units and constants are those of PostgreSQL. The scan of a table with row filters has no
//! statistics, so its number of rows counts as unknown.

use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};

/// Size of a page in bytes. Reading one page costs 1.
const PAGE_BYTES: f64 = 8_192.0;

/// Cost of a row that is read from a table.
const ROW_COST: f64 = 0.01;

/// Cost of a row that an operator processes.
const OPERATOR_COST: f64 = 0.0025;

/// Number of rows if the plan has no statistics.
const ROWS_UNKNOWN: u64 = 1_000;

/// Bytes of a value if the plan has no statistics.
const VALUE_BYTES: u64 = 8;

/// The estimated cost and result of a query.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PlanEstimate {
    /// Cost in the unit of PostgreSQL: the cost of reading 8 KiB.
    pub cost: f64,
    /// Number of rows.
    pub rows: u64,
    /// Average bytes of a row.
    pub row_bytes: u64,
}

impl PlanEstimate {
    /// Returns the estimate of a plan.
    pub fn of(plan: &dyn ExecutionPlan) -> Self {
        let context = StatisticsContext::new();
        let OutputSize { rows, bytes } = OutputSize::of(&context, plan);
        PlanEstimate { cost: cost(&context, plan), rows, row_bytes: bytes / rows.max(1) }
    }
}

/// The size of an operator's output.
struct OutputSize {
    rows: u64,
    bytes: u64,
}

impl OutputSize {
    fn of(context: &StatisticsContext, plan: &dyn ExecutionPlan) -> Self {
        let statistics = context.compute(plan, &StatisticsArgs::new()).ok();
        let rows = statistics.as_ref().and_then(|of| of.num_rows.get_value());
        let rows = rows.map_or(ROWS_UNKNOWN, |rows| *rows as u64);
        let bytes = statistics.as_ref().and_then(|of| of.total_byte_size.get_value());
        let unknown = rows.saturating_mul(VALUE_BYTES * plan.schema().fields().len() as u64);
        OutputSize { rows, bytes: bytes.map_or(unknown, |bytes| *bytes as u64) }
    }
}

fn cost(context: &StatisticsContext, plan: &dyn ExecutionPlan) -> f64 {
    let inputs = plan.children();
    if inputs.is_empty() {
        let OutputSize { rows, bytes } = OutputSize::of(context, plan);
        return bytes as f64 / PAGE_BYTES + rows as f64 * ROW_COST;
    }
    let of_input = |input: &dyn ExecutionPlan| {
        cost(context, input) + OutputSize::of(context, input).rows as f64 * OPERATOR_COST
    };
    inputs.into_iter().map(|input| of_input(input.as_ref())).sum()
}
