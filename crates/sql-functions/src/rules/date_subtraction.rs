//! Rewrites the operator `-` on two dates as a function call, because DataFusion fails to compute
//! the value range of this operator.
//!
//! Upstream: <https://github.com/apache/datafusion/issues/19528>; no issue found (November 2026)
//! for the value range

use std::sync::LazyLock;

use arrow::compute::kernels::numeric::sub;
use arrow::datatypes::DataType;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result, internal_err};
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Expr, ExprSchemable, LogicalPlan, Operator, ScalarFunctionArgs,
    ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::physical_expr_common::datum::apply;

use super::rewrite_parts;

/// Returns the plan in which the function replaces the operator `-` on two dates.
pub(super) fn rewrite(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    rewrite_parts(plan, count)
}

fn count(expr: Expr, schema: &DFSchema) -> Transformed<Expr> {
    let is_date = |expr: &Expr| expr.get_type(schema).is_ok_and(|of| of == DataType::Date32);
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Minus, right })
            if is_date(&left) && is_date(&right) =>
        {
            Transformed::yes(DAYS.call(vec![*left, *right]))
        }
        other => Transformed::no(other),
    }
}

/// The function that returns the number of days between two dates.
static DAYS: LazyLock<ScalarUDF> = LazyLock::new(|| {
    ScalarUDF::new_from_impl(DateSubtraction {
        signature: Signature::any(2, Volatility::Immutable),
    })
});

#[derive(Debug, PartialEq, Eq, Hash)]
struct DateSubtraction {
    signature: Signature,
}

impl ScalarUDFImpl for DateSubtraction {
    fn name(&self) -> &'static str {
        "days"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int64)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let days = |value: &ColumnarValue| {
            value.cast_to(&DataType::Int32, None)?.cast_to(&DataType::Int64, None)
        };
        let [later, earlier] = &arguments.args[..] else {
            return internal_err!("`days` takes two dates");
        };
        apply(&days(later)?, &days(earlier)?, |later, earlier| sub(later, earlier))
    }
}
