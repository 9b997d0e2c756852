//! Casts values to the type of the column that they are assigned to. Error messages contain the
//! column's name.
//!
//! An explicit CAST in SQL rounds fractions. The implicit casts of an assignment are stricter: a
//! number with a fraction is not assigned to an integer column. The function that performs the cast
//! contains the column's name, for its error messages.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::can_cast_types;
use arrow::datatypes::{
    DataType, Decimal128Type, Decimal256Type, Field, FieldRef, Float16Type, Float32Type,
    Float64Type, i256,
};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, DataFusionError, Result, internal_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, LogicalPlan, ReturnFieldArgs, ScalarFunctionArgs,
    ScalarUDF, ScalarUDFImpl, Signature, Values, Volatility,
};
use datafusion::sql::sqlparser::ast;
use headwater_tables::type_name;

use crate::error::Error;
use headwater_sql::{expression::call, number_literal::decimal_literal_to_text};
use headwater_sql_functions::{error_text::clean, is_parsed, parse_value, with_seconds};

/// Name of the marker function [`MARK`]. It contains a NUL character, so that users cannot call it.
const GIVEN: &str = "\0given";

/// Marker function around an expression in VALUES. Casts inside of the marker are from the user;
/// the planner adds its casts around the marker. With a second argument, the result type of the
/// marker is null, which the planner accepts for every column. The marker is removed before
/// execution.
pub(crate) static MARK: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| {
    Arc::new(ScalarUDF::from(IdentityFunction(Signature::variadic_any(Volatility::Immutable))))
});

/// Casts a value to a column's type. A value out of range or with a fraction is an error at run
/// time.
pub(crate) fn to_column(
    value: Expr,
    field: &Field,
    table: &str,
    schema: &DFSchema,
) -> Result<Expr> {
    let (from, to) = (value.get_type(schema)?, lenient(field.data_type()));
    if from == to || from == DataType::Null {
        return value.cast_to(&to, schema);
    }
    let function = ColumnCastFunction::new(field.name().clone(), table.to_owned(), to.clone());
    if !can_cast_types(&from, &to) && !is_parsed(&from, &to) {
        let (from, to) = (type_name(&from), type_name(&to));
        return Err(function.refuses(&format!("a value of type {from} cannot be cast to {to}")));
    }
    Ok(ScalarUDF::from(function).call(vec![value]))
}

/// Returns a column's type with all nested fields nullable. The planner rejects casts of nullable
/// to required fields; a null in a required field is detected when the row is written.
fn lenient(to: &DataType) -> DataType {
    let part = |field: &FieldRef| {
        let data_type = lenient(field.data_type());
        Arc::new(field.as_ref().clone().with_data_type(data_type).with_nullable(true))
    };
    match to {
        DataType::Struct(parts) => DataType::Struct(parts.iter().map(part).collect()),
        DataType::List(element) => DataType::List(part(element)),
        DataType::Map(entries, sorted) => match entries.data_type() {
            DataType::Struct(parts) if parts.len() == 2 => {
                let parts = vec![Arc::clone(&parts[0]), part(&parts[1])];
                let entries = entries.as_ref().clone();
                let entries = entries.with_data_type(DataType::Struct(parts.into()));
                DataType::Map(Arc::new(entries), *sorted)
            }
            _ => to.clone(),
        },
        _ => to.clone(),
    }
}

/// Casts the values of a planned VALUES list to the table's columns. The cast accepts nulls in
/// required columns; the write rejects them later.
pub(crate) fn values_to_columns(
    plan: LogicalPlan,
    columns: &[Field],
    table: &str,
) -> Result<LogicalPlan> {
    let plan = plan.transform_up(|plan| match plan {
        LogicalPlan::Values(Values { schema, values }) => {
            let row = |row: Vec<Expr>| {
                let cells = row.into_iter().zip(columns);
                cells.map(|(value, column)| written_to_column(value, column, table)).collect()
            };
            let values = values.into_iter().map(row).collect::<Result<Vec<Vec<Expr>>>>()?;
            let fields = schema.fields().iter();
            let fields = fields.map(|field| field.as_ref().clone().with_nullable(true)).collect();
            let schema = DFSchema::from_unqualified_fields(fields, schema.metadata().clone())?;
            Ok(Transformed::yes(LogicalPlan::Values(Values { schema: Arc::new(schema), values })))
        }
        other => other.recompute_schema().map(Transformed::yes),
    })?;
    Ok(plan.data)
}

/// Casts one value of VALUES. If the planner has added a cast around the value, the stricter cast
/// of an assignment replaces it.
fn written_to_column(value: Expr, column: &Field, table: &str) -> Result<Expr> {
    let value = match value {
        Expr::Cast(cast) => to_column(unmarked(*cast.expr), column, table, &DFSchema::empty())?,
        other => other,
    };
    Ok(unmarked(value))
}

fn unmarked(value: Expr) -> Expr {
    match value {
        Expr::ScalarFunction(mut call) if call.func.name() == GIVEN && !call.args.is_empty() => {
            call.args.remove(0)
        }
        other => other,
    }
}

/// Prepares a value of VALUES for planning. Puts an expression for an integer column into the
/// marker [`MARK`], which separates the user's casts from the planner's. Also marks text for a
/// struct or a map, because the planner would reject it without the marker. Number literals for a
/// decimal column keep all digits.
pub(crate) fn mark_for_cast(mut value: ast::Expr, to: &DataType) -> ast::Expr {
    if to.is_decimal() {
        decimal_literal_to_text(&mut value);
    }
    match &value {
        ast::Expr::Value(it) if it.value.clone().into_string().is_none() => value,
        ast::Expr::Value(_) if can_cast_types(&DataType::Utf8, to) => value,
        ast::Expr::Value(_) => call(GIVEN, vec![value, ast::Expr::value(ast::Value::Null)]),
        _ if to.is_integer() => call(GIVEN, vec![value]),
        _ => value,
    }
}

/// Function that returns its argument.
#[derive(Debug, PartialEq, Eq, Hash)]
struct IdentityFunction(Signature);

impl ScalarUDFImpl for IdentityFunction {
    fn name(&self) -> &'static str {
        GIVEN
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(if let [data_type] = types { data_type.clone() } else { DataType::Null })
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        one(arguments)
    }
}

/// Function that casts its argument to the type of a column.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ColumnCastFunction {
    name: String,
    column: String,
    table: String,
    to: DataType,
    signature: Signature,
}

impl ColumnCastFunction {
    fn new(column: String, table: String, to: DataType) -> Self {
        let signature = Signature::any(1, Volatility::Immutable);
        ColumnCastFunction { name: format!("\0into {column}"), column, table, to, signature }
    }

    fn refuses(&self, reason: &str) -> DataFusionError {
        let ColumnCastFunction { column, table, .. } = self;
        let message = format!("column `{column}` of `{table}`: {reason}");
        DataFusionError::External(Box::new(Error::Value { message, position: None }))
    }

    fn given(&self, value: &ColumnarValue) -> Result<ColumnarValue> {
        if self.to.is_integer() && has_fractions(&value.data_type()) {
            let cut = match value {
                ColumnarValue::Array(array) => with_fraction(array)?,
                ColumnarValue::Scalar(scalar) => with_fraction(&scalar.to_array()?)?,
            };
            if let Some(value) = cut {
                return Err(self.refuses(&format!(
                    "`{value}` has a fraction, and the column holds whole numbers; round it with \
                     `CAST`, or truncate it with `trunc`"
                )));
            }
        }
        let completed = if is_parsed(&value.data_type(), &self.to) {
            parse_value(value, &self.to)
        } else if value.data_type().is_string() && is_timestamp(&self.to) {
            with_seconds(value)?.cast_to(&self.to, None)
        } else {
            value.cast_to(&self.to, None)
        };
        completed.map_err(|error| self.refuses(&message(&error)))
    }
}

impl ScalarUDFImpl for ColumnCastFunction {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.to.clone())
    }

    fn return_field_from_args(&self, arguments: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let [field] = arguments.arg_fields else {
            return internal_err!("an assignment cast needs exactly one value");
        };
        Ok(Arc::new(Field::new(&self.name, self.to.clone(), field.is_nullable())))
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        self.given(&one(arguments)?)
    }
}

fn one(arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
    let Ok([value]) = <[ColumnarValue; 1]>::try_from(arguments.args) else {
        return internal_err!("an assignment cast needs exactly one value");
    };
    Ok(value)
}

/// Returns the message of an error without DataFusion's prefixes.
fn message(error: &DataFusionError) -> String {
    match error.find_root() {
        DataFusionError::ArrowError(arrow, _) => clean(&arrow.to_string()),
        other => clean(&other.to_string()),
    }
}

fn is_timestamp(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(..))
}

fn has_fractions(data_type: &DataType) -> bool {
    data_type.is_floating() || data_type.is_decimal()
}

/// Returns the first number that is not an integer, as text; `None` if all are integers.
fn with_fraction(array: &ArrayRef) -> Result<Option<String>> {
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
    let Some(row) = found else { return Ok(None) };
    Ok(Some(arrow::util::display::array_value_to_string(array, row)?))
}
