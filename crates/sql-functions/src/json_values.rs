//! Functions that build and inspect JSON text: `to_json`, `json_object`, `json_array`, `json_type`,
//! `json_keys`, `json_array_length`, `json_valid`, `json_exists`, `json_contains` and `parse_json`.
//!
//! The result is null if the text is null or invalid JSON, or if the path does not exist. Only
//! `parse_json` fails for invalid JSON.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanBuilder, Int64Builder, ListBuilder, RecordBatch, StringBuilder,
};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::json::WriterBuilder;
use arrow::json::writer::LineDelimited;
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use headwater_sql::expression::JSON_EXISTS;
use serde_json::Value;

use crate::json_extract::{part_of, steps_of};

/// Returns the functions that build and inspect JSON text.
pub(crate) fn functions() -> Vec<Arc<ScalarUDF>> {
    let kinds = [
        ("json_type", JsonOperation::Type),
        ("json_typeof", JsonOperation::PostgresType),
        ("json_keys", JsonOperation::Keys),
        ("json_array_length", JsonOperation::ArrayLength),
        ("json_valid", JsonOperation::Valid),
        (JSON_EXISTS, JsonOperation::Exists),
        ("json_contains", JsonOperation::Contains),
        ("parse_json", JsonOperation::Parse),
        ("to_json", JsonOperation::Construct(JsonConstructor::Value)),
        ("json_object", JsonOperation::Construct(JsonConstructor::Object)),
        ("json_array", JsonOperation::Construct(JsonConstructor::Array)),
    ];
    let function = |(name, kind)| {
        let signature = Signature::user_defined(Volatility::Immutable);
        Arc::new(ScalarUDF::from(JsonFunction { name, kind, signature }))
    };
    kinds.map(function).into()
}

/// The operation of a function: reading a property of JSON text, or building JSON text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum JsonOperation {
    Type,
    PostgresType,
    Keys,
    ArrayLength,
    Valid,
    Exists,
    Contains,
    Parse,
    Construct(JsonConstructor),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum JsonConstructor {
    Value,
    Object,
    Array,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct JsonFunction {
    name: &'static str,
    kind: JsonOperation,
    signature: Signature,
}

impl ScalarUDFImpl for JsonFunction {
    fn name(&self) -> &'static str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        let (name, count) = (self.name, arguments.len());
        let fits = match self.kind {
            JsonOperation::Construct(JsonConstructor::Array) => true,
            JsonOperation::Construct(JsonConstructor::Object) => count.is_multiple_of(2),
            JsonOperation::Construct(JsonConstructor::Value)
            | JsonOperation::Valid
            | JsonOperation::Parse
            | JsonOperation::PostgresType => count == 1,
            JsonOperation::Exists | JsonOperation::Contains => count == 2,
            JsonOperation::Type | JsonOperation::Keys | JsonOperation::ArrayLength => {
                (1..=2).contains(&count)
            }
        };
        if !fits {
            return plan_err!("`{name}` does not take {count} arguments");
        }
        let is_text = |place: usize| match self.kind {
            JsonOperation::Construct(JsonConstructor::Object) => place.is_multiple_of(2),
            JsonOperation::Construct(_) => false,
            _ => true,
        };
        let coerced = arguments.iter().enumerate().map(|(place, given)| match given {
            given if !is_text(place) => Ok(given.clone()),
            given if given.is_string() || given.is_null() => Ok(DataType::Utf8),
            given if place == 1 && given.is_integer() => Ok(DataType::Int64),
            given => plan_err!("argument {} of `{name}` must be text, not {given}", place + 1),
        });
        coerced.collect()
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(match self.kind {
            JsonOperation::Type
            | JsonOperation::PostgresType
            | JsonOperation::Parse
            | JsonOperation::Construct(_) => DataType::Utf8,
            JsonOperation::Keys => DataType::new_list(DataType::Utf8, true),
            JsonOperation::ArrayLength => DataType::Int64,
            JsonOperation::Valid | JsonOperation::Exists | JsonOperation::Contains => {
                DataType::Boolean
            }
        })
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_single = arguments.args.iter().all(|it| matches!(it, ColumnarValue::Scalar(_)));
        let rows = if is_single { 1 } else { arguments.number_rows };
        let values = arguments.args.into_iter().map(|value| value.into_array(rows));
        let values = values.collect::<Result<Vec<_>>>()?;
        let result = match self.kind {
            JsonOperation::Construct(constructor) => built(constructor, &values, rows)?,
            kind => asked(kind, &values, rows)?,
        };
        Ok(if is_single {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?)
        } else {
            ColumnarValue::Array(result)
        })
    }
}

/// Evaluates an operation that reads JSON text, for each row.
fn asked(kind: JsonOperation, arguments: &[ArrayRef], rows: usize) -> Result<ArrayRef> {
    let text = arguments[0].as_string::<i32>();
    let other = arguments.get(1);
    let row_text = |row: usize| text.is_valid(row).then(|| text.value(row));
    let json = |row: usize| serde_json::from_str::<Value>(row_text(row)?).ok();
    // The value at the path argument, or the whole value if the call has no path argument.
    let part = |row: usize| -> Result<Option<Value>> {
        let Some(json) = json(row) else { return Ok(None) };
        let Some(paths) = other else { return Ok(Some(json)) };
        let steps = steps_of(&ScalarValue::try_from_array(paths, row)?)?;
        Ok(steps.and_then(|steps| part_of(&json, &steps).cloned()))
    };
    match kind {
        JsonOperation::Type | JsonOperation::PostgresType | JsonOperation::Parse => {
            let mut found = StringBuilder::with_capacity(rows, 0);
            for row in 0..rows {
                if kind == JsonOperation::Parse {
                    if row_text(row).is_some() && json(row).is_none() {
                        return exec_err!("the text is not valid JSON");
                    }
                    found.append_option(row_text(row));
                } else {
                    let name = |json: Value| type_of(&json, kind == JsonOperation::PostgresType);
                    found.append_option(part(row)?.map(name));
                }
            }
            Ok(Arc::new(found.finish()))
        }
        JsonOperation::Keys => {
            let mut found = ListBuilder::new(StringBuilder::new());
            for row in 0..rows {
                let json = part(row)?;
                if let Some(Value::Object(fields)) = &json {
                    fields.keys().for_each(|key| found.values().append_value(key));
                }
                found.append(json.is_some());
            }
            Ok(Arc::new(found.finish()))
        }
        JsonOperation::ArrayLength => {
            let mut found = Int64Builder::with_capacity(rows);
            for row in 0..rows {
                let length = |json: Value| json.as_array().map_or(0, Vec::len);
                let length = part(row)?.map(length);
                found.append_option(length.and_then(|length| i64::try_from(length).ok()));
            }
            Ok(Arc::new(found.finish()))
        }
        _ => {
            let mut found = BooleanBuilder::with_capacity(rows);
            for row in 0..rows {
                let is_known = text.is_valid(row) && other.is_none_or(|other| other.is_valid(row));
                let answer = match kind {
                    JsonOperation::Valid => json(row).is_some(),
                    JsonOperation::Exists => part(row)?.is_some(),
                    _ => {
                        let other = other.map(|other| other.as_string::<i32>().value(row));
                        let other = other.and_then(|text| serde_json::from_str(text).ok());
                        json(row).zip(other).is_some_and(|(all, one)| contains(&all, &one))
                    }
                };
                found.append_option(is_known.then_some(answer));
            }
            Ok(Arc::new(found.finish()))
        }
    }
}

/// Returns the name of a JSON type, as in DuckDB or as in `PostgreSQL`.
fn type_of(json: &Value, is_postgres: bool) -> &'static str {
    match json {
        Value::Null if is_postgres => "null",
        Value::Bool(_) if is_postgres => "boolean",
        Value::Number(_) if is_postgres => "number",
        Value::String(_) if is_postgres => "string",
        Value::Array(_) if is_postgres => "array",
        Value::Object(_) if is_postgres => "object",
        Value::Null => "NULL",
        Value::Bool(_) => "BOOLEAN",
        Value::Number(number) if number.is_u64() => "UBIGINT",
        Value::Number(number) if number.is_i64() => "BIGINT",
        Value::Number(_) => "DOUBLE",
        Value::String(_) => "VARCHAR",
        Value::Array(_) => "ARRAY",
        Value::Object(_) => "OBJECT",
    }
}

/// Returns true if the JSON value `all`, or a value at any depth in it, contains all parts of
/// `one`. This is `json_contains` of DuckDB; in `PostgreSQL`, `@>` does not search nested values.
fn contains(all: &Value, one: &Value) -> bool {
    if has_parts(all, one) {
        return true;
    }
    match all {
        Value::Array(values) => values.iter().any(|value| contains(value, one)),
        Value::Object(fields) => fields.values().any(|value| contains(value, one)),
        _ => false,
    }
}

/// Returns true if `all` equals `one`, or has all fields and elements of `one` and further fields
/// or elements.
fn has_parts(all: &Value, one: &Value) -> bool {
    match (all, one) {
        (Value::Object(all), Value::Object(one)) => {
            one.iter().all(|(key, one)| all.get(key).is_some_and(|all| has_parts(all, one)))
        }
        (Value::Array(all), Value::Array(one)) => {
            one.iter().all(|one| all.iter().any(|all| has_parts(all, one)))
        }
        (all, one) => all == one,
    }
}

/// Builds JSON text from the arguments.
fn built(constructor: JsonConstructor, arguments: &[ArrayRef], rows: usize) -> Result<ArrayRef> {
    let values = match constructor {
        JsonConstructor::Object => arguments.iter().skip(1).step_by(2).collect::<Vec<_>>(),
        JsonConstructor::Value | JsonConstructor::Array => arguments.iter().collect(),
    };
    let texts = values.into_iter().map(texts_of).collect::<Result<Vec<_>>>()?;
    let mut found = StringBuilder::with_capacity(rows, 0);
    for row in 0..rows {
        let parts = texts.iter().map(|texts| texts[row].as_str());
        match constructor {
            JsonConstructor::Value if arguments[0].is_null(row) => found.append_null(),
            JsonConstructor::Value => found.append_value(parts.collect::<String>()),
            JsonConstructor::Array => {
                found.append_value(format!("[{}]", parts.collect::<Vec<_>>().join(",")));
            }
            JsonConstructor::Object => {
                let mut fields = Vec::with_capacity(texts.len());
                for (key, value) in arguments.iter().step_by(2).zip(parts) {
                    if key.is_null(row) {
                        return exec_err!("a key of `json_object` is null");
                    }
                    let key = Value::String(key.as_string::<i32>().value(row).to_owned());
                    fields.push(format!("{key}:{value}"));
                }
                found.append_value(format!("{{{}}}", fields.join(",")));
            }
        }
    }
    Ok(Arc::new(found.finish()))
}

/// Returns the JSON text of each value.
fn texts_of(values: &ArrayRef) -> Result<Vec<String>> {
    let field = Field::new("v", values.data_type().clone(), true);
    let batch = RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![Arc::clone(values)])?;
    let mut lines = Vec::new();
    let mut writer =
        WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(&mut lines);
    writer.write(&batch)?;
    writer.finish()?;
    drop(writer);
    let lines = String::from_utf8_lossy(&lines);
    // Each line has the form `{"v":value}`; keep only the value.
    Ok(lines.lines().map(|line| line[5..line.len() - 1].to_owned()).collect())
}
