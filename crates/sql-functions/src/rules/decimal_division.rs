//! Division of decimals, rounded half away from zero as in PostgreSQL; DataFusion truncates.
//!
//! The type of the quotient is DataFusion's: four more decimal places than the dividend. After type
//! coercion, the operator is replaced by a function that computes one more place and rounds it.
//!
//! Upstream: no issue found (November 2026)

use std::sync::{Arc, LazyLock};

use arrow::compute::kernels::numeric::div;
use arrow::datatypes::{
    DECIMAL128_MAX_PRECISION, DECIMAL256_MAX_PRECISION, DataType, Field, FieldRef,
};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result, internal_err};
use datafusion::logical_expr::binary::BinaryTypeCoercer;
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Expr, ExprSchemable, LogicalPlan, Operator, ReturnFieldArgs,
    ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::physical_expr_common::datum::apply;

use super::rewrite_parts;

/// Number of decimal places that are computed in addition to the places of the dividend: four
/// places of the quotient, and one place for rounding.
const PLACES: i8 = 5;

/// Replaces the divisions of a plan.
pub(super) fn rewrite(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    rewrite_parts(plan, round)
}

fn round(expr: Expr, schema: &DFSchema) -> Transformed<Expr> {
    let is_decimal = |expr: &Expr| {
        let of = expr.get_type(schema);
        of.is_ok_and(|of| matches!(of, DataType::Decimal128(..) | DataType::Decimal256(..)))
    };
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Divide, right })
            if is_decimal(&left) && is_decimal(&right) =>
        {
            Transformed::yes(DIVIDE.call(vec![*left, *right]))
        }
        other => Transformed::no(other),
    }
}

static DIVIDE: LazyLock<ScalarUDF> = LazyLock::new(|| {
    ScalarUDF::new_from_impl(DecimalDivision {
        signature: Signature::any(2, Volatility::Immutable),
    })
});

/// Returns the types to which to cast the dividend and the divisor, so that no intermediate result
/// overflows. The dividend gets one more decimal place. Returns `None` if the quotient would have
/// more digits than a decimal can have.
fn wide(dividend: &DataType, divisor: &DataType) -> Option<(DataType, DataType)> {
    let (digits, scale) = digits(dividend)?;
    let (of_divisor, places) = self::digits(divisor)?;
    let needed = i32::from(digits) + i32::from(PLACES) + i32::from(places.max(0));
    let fits = |max: u8| needed <= i32::from(max) && i32::from(scale) + 5 <= i32::from(max);
    let is_small = |of: &DataType| matches!(of, DataType::Decimal128(..));
    if is_small(dividend) && is_small(divisor) && fits(DECIMAL128_MAX_PRECISION) {
        return Some((DataType::Decimal128(digits + 1, scale + 1), divisor.clone()));
    }
    fits(DECIMAL256_MAX_PRECISION).then(|| {
        let dividend = DataType::Decimal256(digits + 1, scale + 1);
        (dividend, DataType::Decimal256(of_divisor, places))
    })
}

/// Returns the precision and scale of a decimal type; `None` for other types.
fn digits(decimal: &DataType) -> Option<(u8, i8)> {
    match decimal {
        DataType::Decimal128(digits, scale) | DataType::Decimal256(digits, scale) => {
            Some((*digits, *scale))
        }
        _ => None,
    }
}

/// Function that divides decimals.
#[derive(Debug, PartialEq, Eq, Hash)]
struct DecimalDivision {
    signature: Signature,
}

impl ScalarUDFImpl for DecimalDivision {
    fn name(&self) -> &'static str {
        "divide"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        let [left, right] = arguments else {
            return internal_err!("`divide` takes two decimals");
        };
        BinaryTypeCoercer::new(left, &Operator::Divide, right).get_result_type()
    }

    /// Returns a field that is nullable if an argument is nullable. The operator that this function
    /// replaces behaves in the same way, so the plan's schema does not change.
    fn return_field_from_args(&self, arguments: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let fields = arguments.arg_fields;
        let nullable = fields.iter().any(|field| field.is_nullable());
        let types: Vec<DataType> = fields.iter().map(|field| field.data_type().clone()).collect();
        Ok(Arc::new(Field::new(self.name(), self.return_type(&types)?, nullable)))
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [left, right] = &arguments.args[..] else {
            return internal_err!("`divide` takes two decimals");
        };
        let quotient = match wide(&left.data_type(), &right.data_type()) {
            Some((dividend, divisor)) => {
                let (left, right) =
                    (left.cast_to(&dividend, None)?, right.cast_to(&divisor, None)?);
                apply(&left, &right, div)?
            }
            None => apply(left, right, div)?,
        };
        quotient.cast_to(arguments.return_type(), None)
    }
}
