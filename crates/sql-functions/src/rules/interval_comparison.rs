//! Comparisons of intervals by length: a month has 30 days, a day has 24 hours.
//!
//! DataFusion compares first the months, then the days and then the nanoseconds of two intervals,
//! so 30 hours are less than one day.
//!
//! Upstream: <https://github.com/apache/datafusion/issues/8468>

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, AsArray, Decimal128Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr::Between;
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Expr, ExprSchemable, LogicalPlan, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility,
};

use super::rewrite_parts;

/// Returns the plan with intervals compared by their lengths.
pub(super) fn rewrite(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    rewrite_parts(plan, rewrite_expr)
}

fn rewrite_expr(expr: Expr, schema: &DFSchema) -> Transformed<Expr> {
    let is_interval = |expr: &Expr| matches!(expr.get_type(schema), Ok(DataType::Interval(_)));
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right })
            if op.supports_propagation() && is_interval(&left) && is_interval(&right) =>
        {
            let [left, right] = [left, right].map(|side| Box::new(length(*side)));
            Transformed::yes(Expr::BinaryExpr(BinaryExpr { left, op, right }))
        }
        Expr::Between(Between { expr, negated, low, high }) if is_interval(&expr) => {
            let [expr, low, high] = [expr, low, high].map(|part| Box::new(length(*part)));
            Transformed::yes(Expr::Between(Between { expr, negated, low, high }))
        }
        other => Transformed::no(other),
    }
}

fn length(of: Expr) -> Expr {
    static LENGTH: LazyLock<ScalarUDF> = LazyLock::new(|| {
        ScalarUDF::new_from_impl(IntervalNanosecondsFunction {
            signature: Signature::any(1, Volatility::Immutable),
        })
    });
    LENGTH.call(vec![of])
}

/// A function that returns an interval's length in nanoseconds.
#[derive(Debug, PartialEq, Eq, Hash)]
struct IntervalNanosecondsFunction {
    signature: Signature,
}

impl ScalarUDFImpl for IntervalNanosecondsFunction {
    fn name(&self) -> &'static str {
        "interval_length"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Decimal128(38, 0))
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&arguments.args)?;
        let intervals = cast(&arrays[0], &DataType::Interval(IntervalUnit::MonthDayNano))?;
        let intervals = intervals.as_primitive::<IntervalMonthDayNanoType>();
        let lengths: Decimal128Array = intervals.unary(nanoseconds);
        let lengths: ArrayRef = Arc::new(lengths.with_precision_and_scale(38, 0)?);
        Ok(ColumnarValue::Array(lengths))
    }
}

fn nanoseconds(of: IntervalMonthDayNano) -> i128 {
    const DAY: i128 = 24 * 60 * 60 * 1_000_000_000;
    (i128::from(of.months) * 30 + i128::from(of.days)) * DAY + i128::from(of.nanoseconds)
}
