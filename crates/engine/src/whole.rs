//! Numbers with a fraction do not go into columns of whole numbers: nothing is cut off in silence.
//!
//! A cast that a user writes cuts fractions off, as casts do. The casts that a statement needs for its rows
//! to have the columns' types are made here, behind a function that refuses what they would lose.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    DataType, Decimal128Type, Decimal256Type, Field, FieldRef, Float16Type, Float32Type,
    Float64Type, i256,
};
use arrow::error::ArrowError;
use datafusion::common::{DFSchema, Result, internal_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility,
};
use datafusion::sql::sqlparser::ast;

/// The function's name, which nobody can type.
const NAME: &str = "\0whole";

/// The function, as the planner knows it.
pub(crate) static WHOLE: LazyLock<Arc<ScalarUDF>> =
    LazyLock::new(|| Arc::new(ScalarUDF::from(Whole(Signature::any(1, Volatility::Immutable)))));

/// A value in a column's type; an error, when it is made, where a fraction would be lost.
pub(crate) fn to_column(value: Expr, to: &DataType, schema: &DFSchema) -> Result<Expr> {
    let whole = to.is_integer() && has_fractions(&value.get_type(schema)?);
    if whole { WHOLE.call(vec![value]) } else { value }.cast_to(to, schema)
}

/// The same for a value of a statement that is not planned yet.
pub(crate) fn written_for(value: ast::Expr, to: &DataType) -> ast::Expr {
    if !to.is_integer() || matches!(value, ast::Expr::Value(_)) && !is_fraction(&value) {
        return value;
    }
    let argument = ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(value));
    ast::Expr::Function(ast::Function {
        name: ast::ObjectName::from(vec![ast::Ident::with_quote('"', NAME)]),
        uses_odbc_syntax: false,
        parameters: ast::FunctionArguments::None,
        args: ast::FunctionArguments::List(ast::FunctionArgumentList {
            duplicate_treatment: None,
            args: vec![argument],
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

/// Whether a literal is a number that may have a fraction.
fn is_fraction(value: &ast::Expr) -> bool {
    let ast::Expr::Value(value) = value else { return false };
    let ast::Value::Number(text, _) = &value.value else { return false };
    !text.bytes().all(|byte| byte.is_ascii_digit())
}

fn has_fractions(data_type: &DataType) -> bool {
    data_type.is_floating() || data_type.is_decimal()
}

/// Gives its argument back where it is whole.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Whole(Signature);

impl ScalarUDFImpl for Whole {
    fn name(&self) -> &'static str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(arguments.first().cloned().unwrap_or(DataType::Null))
    }

    fn return_field_from_args(&self, arguments: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let [field] = arguments.arg_fields else {
            return internal_err!("a whole number is one value");
        };
        Ok(Arc::new(Field::new(NAME, field.data_type().clone(), field.is_nullable())))
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Ok([value]) = <[ColumnarValue; 1]>::try_from(arguments.args) else {
            return internal_err!("a whole number is one value");
        };
        match &value {
            ColumnarValue::Array(array) => check(array)?,
            ColumnarValue::Scalar(scalar) => check(&scalar.to_array()?)?,
        }
        Ok(value)
    }
}

/// Refuses the first value that has a fraction.
fn check(array: &ArrayRef) -> Result<(), ArrowError> {
    let found = match array.data_type() {
        DataType::Float16 => array
            .as_primitive::<Float16Type>()
            .iter()
            .position(|it| it.is_some_and(|it| it.to_f32().fract() != 0.0)),
        DataType::Float32 => array
            .as_primitive::<Float32Type>()
            .iter()
            .position(|it| it.is_some_and(|it| it.fract() != 0.0)),
        DataType::Float64 => array
            .as_primitive::<Float64Type>()
            .iter()
            .position(|it| it.is_some_and(|it| it.fract() != 0.0)),
        DataType::Decimal128(_, scale @ 1..) => {
            let one = 10_i128.pow(scale.unsigned_abs().into());
            array
                .as_primitive::<Decimal128Type>()
                .iter()
                .position(|it| it.is_some_and(|it| it % one != 0))
        }
        DataType::Decimal256(_, scale @ 1..) => {
            let one = i256::from_i128(10).wrapping_pow(scale.unsigned_abs().into());
            let cut = |it: i256| it.wrapping_rem(one) != i256::ZERO;
            array.as_primitive::<Decimal256Type>().iter().position(|it| it.is_some_and(cut))
        }
        _ => None,
    };
    let Some(row) = found else { return Ok(()) };
    let value = arrow::util::display::array_value_to_string(array, row)?;
    Err(ArrowError::ComputeError(format!(
        "`{value}` has a fraction, and its column holds whole numbers: round it with `round`, or cut it off with `CAST`"
    )))
}
