//! Makes casts from decimals and floating-point numbers to integers round, as in PostgreSQL and
//! DuckDB. DataFusion truncates.
//!
//! Decimals and number literals are rounded half away from zero; `DOUBLE` and `FLOAT` are rounded
//! half to even. The rule runs before type coercion, so it affects only casts that the user wrote.
//!
//! Upstream: <https://github.com/apache/datafusion/issues/11886>

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray, ListArray};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Decimal128Type, Decimal256Type, FieldRef, Float32Type, Float64Type, i256,
};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result, ScalarValue, internal_err};
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility,
};

/// Rewrite of casts to integers.
#[derive(Debug)]
pub(crate) struct RoundCastsRewrite;

impl FunctionRewrite for RoundCastsRewrite {
    fn name(&self) -> &'static str {
        "round_casts"
    }

    fn rewrite(
        &self,
        expr: Expr,
        schema: &DFSchema,
        _: &ConfigOptions,
    ) -> Result<Transformed<Expr>> {
        round_cast(expr, schema)
    }
}

/// Rounds the operand of a cast that would otherwise truncate it.
pub fn round_cast(mut expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let (inner, to) = match &mut expr {
        Expr::Cast(cast) => (&mut cast.expr, cast.field.data_type()),
        Expr::TryCast(cast) => (&mut cast.expr, cast.field.data_type()),
        _ => return Ok(Transformed::no(expr)),
    };
    let from = inner.get_type(schema)?;
    if !loses_fraction(&from, to) {
        return Ok(Transformed::no(expr));
    }
    let rounded = if is_written(inner) { &AWAY } else { &EVEN };
    **inner = rounded.call(vec![std::mem::take(&mut **inner)]);
    Ok(Transformed::yes(expr))
}

/// Returns true if a cast converts fractional numbers to integers, even if the numbers are elements
/// of lists.
fn loses_fraction(from: &DataType, to: &DataType) -> bool {
    match (element(from), element(to)) {
        (Some(from), Some(to)) => loses_fraction(from.data_type(), to.data_type()),
        (None, None) => (from.is_floating() || from.is_decimal()) && to.is_integer(),
        _ => false,
    }
}

fn element(of: &DataType) -> Option<&FieldRef> {
    match of {
        DataType::List(element) => Some(element),
        _ => None,
    }
}

/// Returns true for a number literal, with or without a sign.
fn is_written(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(..) => true,
        Expr::Negative(inner) => is_written(inner),
        _ => false,
    }
}

static EVEN: LazyLock<ScalarUDF> = LazyLock::new(|| RoundFunction::udf(HalfRounding::ToEven));
static AWAY: LazyLock<ScalarUDF> = LazyLock::new(|| RoundFunction::udf(HalfRounding::AwayFromZero));

/// The rule by which a number halfway between two integers is rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum HalfRounding {
    ToEven,
    AwayFromZero,
}

/// Function that rounds a number and keeps its type.
#[derive(Debug, PartialEq, Eq, Hash)]
struct RoundFunction {
    half: HalfRounding,
    signature: Signature,
}

impl RoundFunction {
    fn udf(half: HalfRounding) -> ScalarUDF {
        let signature = Signature::any(1, Volatility::Immutable);
        ScalarUDF::new_from_impl(RoundFunction { half, signature })
    }
}

impl ScalarUDFImpl for RoundFunction {
    fn name(&self) -> &'static str {
        match self.half {
            HalfRounding::ToEven => "round_half_to_even",
            HalfRounding::AwayFromZero => "round_half_away_from_zero",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(arguments.first().cloned().unwrap_or(DataType::Null))
    }

    fn return_field_from_args(&self, arguments: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let [field] = arguments.arg_fields else {
            return internal_err!("rounding takes one argument");
        };
        Ok(Arc::new(field.as_ref().clone().with_name(self.name())))
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match arguments.args.as_slice() {
            [ColumnarValue::Array(values)] => Ok(ColumnarValue::Array(rounded(values, self.half)?)),
            [ColumnarValue::Scalar(value)] => {
                let value = rounded(&value.to_array()?, self.half)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&value, 0)?))
            }
            _ => internal_err!("rounding takes one argument"),
        }
    }
}

/// Rounds numbers, also within lists.
fn rounded(values: &ArrayRef, half: HalfRounding) -> Result<ArrayRef> {
    let even = half == HalfRounding::ToEven;
    Ok(match values.data_type() {
        DataType::Float64 => Arc::new(
            values
                .as_primitive::<Float64Type>()
                .unary::<_, Float64Type>(|it| if even { it.round_ties_even() } else { it.round() }),
        ),
        DataType::Float32 => Arc::new(
            values
                .as_primitive::<Float32Type>()
                .unary::<_, Float32Type>(|it| if even { it.round_ties_even() } else { it.round() }),
        ),
        DataType::Float16 => {
            let wide = cast(values, &DataType::Float32)?;
            cast(&rounded(&wide, half)?, &DataType::Float16)?
        }
        DataType::Decimal128(precision, scale @ 1..) => {
            let one = 10_i128.pow(scale.unsigned_abs().into());
            let round = |it: i128| (it + one / 2 * it.signum()) / one * one;
            let decimals = values.as_primitive::<Decimal128Type>();
            let decimals = decimals.unary::<_, Decimal128Type>(round);
            Arc::new(decimals.with_data_type(DataType::Decimal128(*precision, *scale)))
        }
        DataType::Decimal256(precision, scale @ 1..) => {
            let one = i256::from_i128(10).wrapping_pow(scale.unsigned_abs().into());
            let half = one.wrapping_div(i256::from_i128(2));
            let round = |it: i256| {
                let moved = it.wrapping_add(half.wrapping_mul(it.signum()));
                moved.wrapping_div(one).wrapping_mul(one)
            };
            let decimals = values.as_primitive::<Decimal256Type>();
            let decimals = decimals.unary::<_, Decimal256Type>(round);
            Arc::new(decimals.with_data_type(DataType::Decimal256(*precision, *scale)))
        }
        DataType::List(element) => {
            let list = values.as_list::<i32>();
            let parts = rounded(list.values(), half)?;
            let (offsets, nulls) = (list.offsets().clone(), list.nulls().cloned());
            Arc::new(ListArray::try_new(Arc::clone(element), offsets, parts, nulls)?)
        }
        _ => Arc::clone(values),
    })
}
