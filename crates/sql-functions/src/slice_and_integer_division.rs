//! The function that evaluates `list[1:2]` and `text[1:2]`, and the planner of the integer division
//! `a // b`.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringBuilder};
use arrow::datatypes::{DataType, Int64Type};
use datafusion::common::{DFSchema, Result, ScalarValue, internal_err, plan_err};
use datafusion::functions_nested::extract::array_slice_udf;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Expr, ExprSchemable, Operator, ReturnFieldArgs, ScalarFunctionArgs,
    ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::sql::sqlparser::ast::BinaryOperator;
use headwater_sql::expression::SLICE;

/// Returns the function that evaluates `list[1:2]` and `text[1:2]`.
pub(crate) fn function() -> Arc<ScalarUDF> {
    let signature = Signature::user_defined(Volatility::Immutable);
    Arc::new(ScalarUDF::from(SliceFunction { signature }))
}

/// `slice_of(value, first, last)`: a part of a text or list. Positions count from 1; negative
/// positions count from the end.
#[derive(Debug, PartialEq, Eq, Hash)]
struct SliceFunction {
    signature: Signature,
}

impl ScalarUDFImpl for SliceFunction {
    fn name(&self) -> &'static str {
        SLICE
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        let [value, first, last] = arguments else {
            return plan_err!("a slice takes a value and two bounds");
        };
        if [first, last].iter().any(|bound| !bound.is_integer() && !bound.is_null()) {
            return plan_err!("the bounds of a slice must be whole numbers");
        }
        let value = match value {
            value if value.is_string() || value.is_null() => DataType::Utf8,
            DataType::FixedSizeList(field, _) => DataType::List(Arc::clone(field)),
            value @ (DataType::List(_) | DataType::LargeList(_)) => value.clone(),
            other => return plan_err!("a slice requires text or a list, not {other}"),
        };
        Ok(vec![value, DataType::Int64, DataType::Int64])
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(arguments[0].clone())
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if arguments.args[0].data_type() != DataType::Utf8 {
            return list(arguments);
        }
        let rows = arguments.number_rows;
        let is_single = arguments.args.iter().all(|it| matches!(it, ColumnarValue::Scalar(_)));
        let Ok([text, first, last]) = <[ColumnarValue; 3]>::try_from(arguments.args) else {
            return internal_err!("a slice takes a value and two bounds");
        };
        let rows = if is_single { 1 } else { rows };
        let [text, first, last] = [text, first, last].map(|value| value.into_array(rows));
        let (text, first, last) = (text?, first?, last?);
        let (text, first, last) = (
            text.as_string::<i32>(),
            first.as_primitive::<Int64Type>(),
            last.as_primitive::<Int64Type>(),
        );
        let mut parts = StringBuilder::with_capacity(rows, 0);
        for row in 0..rows {
            if text.is_null(row) || first.is_null(row) || last.is_null(row) {
                parts.append_null();
            } else {
                parts.append_value(part(text.value(row), first.value(row), last.value(row)));
            }
        }
        let parts: ArrayRef = Arc::new(parts.finish());
        Ok(if is_single {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&parts, 0)?)
        } else {
            ColumnarValue::Array(parts)
        })
    }
}

/// Evaluates a slice of a list with DataFusion's function.
fn list(arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
    let function = array_slice_udf();
    let fields = ReturnFieldArgs {
        arg_fields: &arguments.arg_fields,
        scalar_arguments: &[None, None, None],
    };
    let return_field = function.return_field_from_args(fields)?;
    function.invoke_with_args(ScalarFunctionArgs { return_field, ..arguments })
}

/// Returns the characters `first..=last` of a text.
fn part(text: &str, first: i64, last: i64) -> String {
    let count = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
    let place =
        |bound: i64| if bound < 0 { count.saturating_add(bound).saturating_add(1) } else { bound };
    let (first, last) = (place(first).max(1), place(last).min(count));
    let skip = usize::try_from(first - 1).unwrap_or(0);
    let take = usize::try_from(last.saturating_sub(first).saturating_add(1)).unwrap_or(0);
    text.chars().skip(skip).take(take).collect()
}

/// The expression planner for `a // b` and `a DIV b`.
#[derive(Debug)]
pub(crate) struct IntegerDivisionPlanner;

impl ExprPlanner for IntegerDivisionPlanner {
    fn plan_binary_op(
        &self,
        expr: RawBinaryExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawBinaryExpr>> {
        let RawBinaryExpr { op: BinaryOperator::DuckIntegerDivide, left, right } = expr else {
            return Ok(PlannerResult::Original(expr));
        };
        for side in [&left, &right] {
            let data_type = side.get_type(schema)?;
            if !data_type.is_integer() && !data_type.is_null() {
                return plan_err!("`//` and DIV require integers, but one side is {data_type}");
            }
        }
        let quotient = BinaryExpr::new(Box::new(left), Operator::Divide, Box::new(right));
        Ok(PlannerResult::Planned(Expr::BinaryExpr(quotient)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_text_includes_both_bounds() {
        let check = |first, last, expected: &str| {
            assert_eq!(part("Dück", first, last), expected, "{first}:{last}");
        };
        check(1, 2, "Dü");
        check(-2, -1, "ck");
        check(2, -2, "üc");
        check(0, 9, "Dück");
        check(4, 3, "");
        check(9, 12, "");
        check(-9, 1, "D");
        check(i64::MIN, i64::MAX, "Dück");
        check(i64::MAX, i64::MIN, "");
    }
}
