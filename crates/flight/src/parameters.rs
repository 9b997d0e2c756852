//! Values of parameters, which clients send as rows: one row per execution of the statement.
//!
//! Numbers, booleans and texts are bound directly. Every other value is bound as text with a cast
//! to its type.

use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimeUnit};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use headwater_model::{ErrorCode, Problem, ResultExt};
use headwater_service::PreparedStatement;
use serde_json::Value;
use tonic::Status;

use crate::grpc_status::{internal, to_status};

/// Returns the names of a statement's parameters in the order in which clients bind them: `$1` and
/// so on by number, others in the order of the text.
pub fn names(statement: &PreparedStatement) -> Vec<String> {
    let mut names: Vec<String> =
        statement.parameters().iter().map(|parameter| parameter.name.clone()).collect();
    names.sort_by_key(|name| name.parse::<u32>().unwrap_or(u32::MAX));
    names
}

/// Binds a statement once for each row of a batch.
pub fn bind(
    statement: &PreparedStatement,
    batch: &RecordBatch,
) -> Result<Vec<PreparedStatement>, Status> {
    let names = names(statement);
    if names.len() != batch.num_columns() {
        let message = format!(
            "the statement has {} parameters, but the client sent {} values",
            names.len(),
            batch.num_columns()
        );
        return Err(to_status(Problem::new(ErrorCode::InvalidArgument, message)));
    }
    let schema = batch.schema();
    let is_named = names.iter().all(|name| schema.index_of(name).is_ok());
    let mut columns = Vec::with_capacity(names.len());
    let mut casts = BTreeMap::new();
    for (index, name) in names.into_iter().enumerate() {
        let index = if is_named { schema.index_of(&name).map_err(internal)? } else { index };
        let column = ParameterColumn::new(&name, batch.column(index))?;
        casts.extend(column.sql_type.clone().map(|sql_type| (name.clone(), sql_type)));
        columns.push((name, column));
    }
    let typed = statement.clone().with_casts(&casts).or_problem().map_err(to_status)?;
    let row = |row| {
        let mut values = BTreeMap::new();
        for (name, column) in &columns {
            values.insert(name.clone(), column.value(row)?);
        }
        typed.clone().bind(&values).or_problem().map_err(to_status)
    };
    (0..batch.num_rows()).map(row).collect()
}

/// The values of one parameter.
struct ParameterColumn {
    array: ArrayRef,
    /// The SQL type to which the text of a value is cast; `None` if the value is bound without a
    /// cast.
    sql_type: Option<String>,
}

impl ParameterColumn {
    fn new(name: &str, array: &ArrayRef) -> Result<Self, Status> {
        let array = match array.data_type() {
            DataType::Dictionary(_, values) => cast(array, values).map_err(internal)?,
            _ => array.clone(),
        };
        let target = match array.data_type() {
            DataType::Int8
            | DataType::Int16
            | DataType::Int32
            | DataType::UInt8
            | DataType::UInt16
            | DataType::UInt32 => Some(DataType::Int64),
            DataType::Float16 | DataType::Float32 => Some(DataType::Float64),
            DataType::LargeUtf8 | DataType::Utf8View => Some(DataType::Utf8),
            DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
                Some(DataType::Binary)
            }
            _ => None,
        };
        let array = match target {
            Some(target) => cast(&array, &target).map_err(internal)?,
            None => array,
        };
        let sql_type = sql_type(array.data_type()).map_err(|data_type| {
            let message = format!("the type `{data_type}` of parameter `${name}` is not supported");
            to_status(Problem::new(ErrorCode::InvalidArgument, message))
        })?;
        Ok(ParameterColumn { array, sql_type })
    }

    fn value(&self, row: usize) -> Result<Value, Status> {
        let array = &self.array;
        if array.is_null(row) {
            return Ok(Value::Null);
        }
        Ok(match array.data_type() {
            DataType::Null => Value::Null,
            DataType::Boolean => array.as_boolean().value(row).into(),
            DataType::Int64 => array.as_primitive::<Int64Type>().value(row).into(),
            DataType::Float64 => {
                let value = array.as_primitive::<Float64Type>().value(row);
                // JSON has no infinity and no NaN, so bind their names, which the cast parses.
                serde_json::Number::from_f64(value)
                    .map_or_else(|| Value::String(value.to_string()), Value::Number)
            }
            DataType::Utf8 => array.as_string::<i32>().value(row).into(),
            DataType::Binary => {
                // Values are bound as SQL text, which cannot contain every byte. So use hex digits.
                format!("\\x{}", hex::encode(array.as_binary::<i32>().value(row))).into()
            }
            DataType::List(_) => {
                let column =
                    ParameterColumn { array: array.as_list::<i32>().value(row), sql_type: None };
                let elements: Result<Vec<Value>, Status> =
                    (0..column.array.len()).map(|index| column.value(index)).collect();
                Value::Array(elements?)
            }
            _ => {
                let options = FormatOptions::default();
                let formatter = ArrayFormatter::try_new(array, &options).map_err(internal)?;
                formatter.value(row).to_string().into()
            }
        })
    }
}

/// Returns the SQL type to which a value is cast; `None` if no cast is needed. The error is a data
/// type that is not supported.
fn sql_type(data_type: &DataType) -> Result<Option<String>, DataType> {
    Ok(Some(match data_type {
        DataType::Null | DataType::Boolean | DataType::Int64 | DataType::Utf8 => return Ok(None),
        DataType::UInt64 => "DECIMAL(20, 0)".to_owned(),
        DataType::Float64 => "DOUBLE".to_owned(),
        DataType::Binary => "BYTEA".to_owned(),
        DataType::Date32 | DataType::Date64 => "DATE".to_owned(),
        DataType::Time32(_) | DataType::Time64(_) => "TIME".to_owned(),
        DataType::Timestamp(TimeUnit::Nanosecond, None) => "TIMESTAMP(9)".to_owned(),
        DataType::Timestamp(TimeUnit::Nanosecond, Some(_)) => {
            "TIMESTAMP(9) WITH TIME ZONE".to_owned()
        }
        DataType::Timestamp(_, None) => "TIMESTAMP".to_owned(),
        DataType::Timestamp(_, Some(_)) => "TIMESTAMP WITH TIME ZONE".to_owned(),
        DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale) => {
            format!("DECIMAL({precision}, {scale})")
        }
        DataType::List(element) => match element.data_type() {
            DataType::Int64 => "BIGINT[]".to_owned(),
            DataType::Int32 => "INT[]".to_owned(),
            DataType::Float64 => "DOUBLE[]".to_owned(),
            DataType::Boolean => "BOOLEAN[]".to_owned(),
            DataType::Utf8 => "VARCHAR[]".to_owned(),
            _ => return Err(data_type.clone()),
        },
        other => return Err(other.clone()),
    }))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{BinaryArray, Date32Array, Decimal128Array, Int32Array, StringArray};

    use super::*;

    #[test]
    fn each_row_is_bound_with_its_types() {
        let statement = PreparedStatement::parse("SELECT $1, $2, $3, $4, $5").expect("a statement");
        let decimals = Decimal128Array::from(vec![Some(350), None]);
        let decimals = decimals.with_precision_and_scale(10, 2).expect("decimals");
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("a", Arc::new(Int32Array::from(vec![Some(1), None]))),
            ("b", Arc::new(StringArray::from(vec!["it's", "x"]))),
            ("c", Arc::new(Date32Array::from(vec![19_782, 0]))),
            ("d", Arc::new(decimals)),
            ("e", Arc::new(BinaryArray::from(vec![&b"a\xff"[..], b""]))),
        ];
        let batch = RecordBatch::try_from_iter_with_nullable(
            columns.into_iter().map(|(name, column)| (name, column, true)),
        );
        let bound = bind(&statement, &batch.expect("a batch")).expect("statements");
        let texts: Vec<String> = bound.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts[0],
            "SELECT 1 AS \"$1\", 'it''s' AS \"$2\", CAST('2024-02-29' AS DATE) AS \"$3\", \
             CAST('3.50' AS DECIMAL(10,2)) AS \"$4\", CAST('\\x61ff' AS BYTEA) AS \"$5\""
        );
        let start = "SELECT NULL AS \"$1\", 'x' AS \"$2\", CAST('1970-01-01' AS DATE) AS \"$3\"";
        assert!(texts[1].starts_with(start), "{texts:?}");
    }

    #[test]
    fn a_wrong_number_of_values_is_rejected() {
        let statement = PreparedStatement::parse("SELECT $1, $2").expect("a statement");
        let column: ArrayRef = Arc::new(Int32Array::from(vec![1]));
        let batch = RecordBatch::try_from_iter([("a", column)]).expect("a batch");
        let error = bind(&statement, &batch).expect_err("an error");
        assert!(error.message().contains("2 parameters"), "{error}");
    }
}
