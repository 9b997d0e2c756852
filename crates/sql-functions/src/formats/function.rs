//! `to_char` and `date_format` over arrays of times and formats.

use std::sync::Arc;

use arrow::array::timezone::Tz;
use arrow::array::{Array, ArrayRef, AsArray, StringArray, StringBuilder};
use arrow::datatypes::{
    DataType, Field, FieldRef, Float64Type, Time64NanosecondType, TimeUnit,
    TimestampMicrosecondType, TimestampNanosecondType,
};
use chrono::{DateTime, NaiveTime, Offset, TimeZone, Utc};
use datafusion::common::{DataFusionError, Result, ScalarValue, internal_err};
use datafusion::functions::datetime::to_char::ToCharFunc;
use datafusion::logical_expr::type_coercion::functions::fields_with_udf;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use headwater_sql_library::NumberFormat;

use super::{DateTimeFormat, DateTimeValue, FormatStyle};
use crate::error::Error;
use headwater_sql::Error as SqlError;

/// `to_char(time, format)` or `date_format(time, format)`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct FormatTime {
    style: FormatStyle,
    of: ToCharFunc,
    signature: Signature,
}

impl FormatTime {
    pub(super) fn new(style: FormatStyle) -> Self {
        let signature = Signature::user_defined(Volatility::Immutable);
        FormatTime { style, of: ToCharFunc::new(), signature }
    }

    fn invalid(&self, format: &str, reason: &str) -> DataFusionError {
        let name = self.name();
        let hint = match self.style {
            FormatStyle::Postgres => {
                "Write a pattern such as `YYYY-MM-DD HH24:MI:SS`, other letters in double quotes, \
                 or `%Y-%m-%d`."
            }
            FormatStyle::Spark => {
                "Write a pattern such as `yyyy-MM-dd HH:mm:ss`, other letters in single quotes, \
                 or `%Y-%m-%d`."
            }
        };
        DataFusionError::External(Box::new(Error::Sql(SqlError::Invalid {
            message: format!("the format `{format}` of `{name}` is not valid: {reason}"),
            hint: Some(hint.to_owned()),
            position: None,
        })))
    }

    fn compile(&self, format: &str) -> Result<DateTimeFormat> {
        DateTimeFormat::parse(format, self.style).map_err(|reason| self.invalid(format, &reason))
    }

    /// Formats each time with the format in the same row. Consecutive rows with equal formats share
    /// the compiled format.
    fn formatted(&self, times: &TemporalArray, formats: &StringArray) -> Result<StringArray> {
        let mut texts = StringBuilder::new();
        let mut compiled: Option<(&str, DateTimeFormat)> = None;
        let mut text = String::new();
        let rows = times.len().max(if formats.len() == 1 { 0 } else { formats.len() });
        for row in 0..rows {
            let of_format = if formats.len() == 1 { 0 } else { row };
            let of_time = if times.len() == 1 { 0 } else { row };
            if formats.is_null(of_format) || times.is_null(of_time) {
                texts.append_null();
                continue;
            }
            let format = formats.value(of_format);
            if compiled.as_ref().is_none_or(|(last, _)| *last != format) {
                compiled = Some((format, self.compile(format)?));
            }
            let Some((_, compiled)) = &compiled else { continue };
            text.clear();
            let written = times
                .date_time(of_time)
                .ok_or_else(|| "the time is out of range".to_owned())
                .and_then(|moment| compiled.write(&moment, &mut text));
            written.map_err(|reason| self.invalid(format, &reason))?;
            texts.append_value(&text);
        }
        Ok(texts.finish())
    }
}

/// Formats each number with the pattern in the same row. Consecutive rows with equal patterns share
/// the compiled pattern.
fn formatted_numbers(numbers: &ArrayRef, formats: &StringArray) -> Result<ArrayRef> {
    let floats = numbers.as_primitive_opt::<Float64Type>();
    let digits = arrow::compute::cast(numbers, &DataType::Utf8)?;
    let digits = digits.as_string::<i32>();
    let mut texts = StringBuilder::new();
    let mut compiled: Option<(&str, NumberFormat)> = None;
    for row in 0..digits.len().max(formats.len()) {
        let of_format = if formats.len() == 1 { 0 } else { row };
        let of_number = if digits.len() == 1 { 0 } else { row };
        if formats.is_null(of_format) || digits.is_null(of_number) {
            texts.append_null();
            continue;
        }
        let format = formats.value(of_format);
        if compiled.as_ref().is_none_or(|(last, _)| *last != format) {
            let parsed = NumberFormat::parse(format);
            compiled = Some((format, parsed.map_err(|reason| invalid_number(format, &reason))?));
        }
        let Some((_, compiled)) = &compiled else { continue };
        texts.append_value(match floats {
            Some(floats) => {
                let places = compiled.decimal_places();
                compiled.format(&format!("{:.places$}", floats.value(of_number)))
            }
            None => compiled.format(digits.value(of_number)),
        });
    }
    Ok(Arc::new(texts.finish()))
}

fn invalid_number(format: &str, reason: &str) -> DataFusionError {
    DataFusionError::External(Box::new(Error::Sql(SqlError::Invalid {
        message: format!("the format `{format}` of `to_char` is not valid: {reason}"),
        hint: Some("Write a pattern for numbers such as `9,999.99` or `FM0.00`.".to_owned()),
        position: None,
    })))
}

impl ScalarUDFImpl for FormatTime {
    fn name(&self) -> &'static str {
        match self.style {
            FormatStyle::Postgres => "to_char",
            FormatStyle::Spark => "date_format",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        match arguments {
            [number, format]
                if self.style == FormatStyle::Postgres
                    && number.is_numeric()
                    && (format.is_string() || format.is_null()) =>
            {
                let is_float = number.is_floating();
                let number = if is_float { DataType::Float64 } else { number.clone() };
                Ok(vec![number, DataType::Utf8])
            }
            _ => {
                let field = |one: &DataType| Arc::new(Field::new("", one.clone(), true));
                let fields: Vec<FieldRef> = arguments.iter().map(field).collect();
                let of = ScalarUDF::from(ToCharFunc::new());
                let coerced = fields_with_udf(&fields, &of)?;
                Ok(coerced.iter().map(|field| field.data_type().clone()).collect())
            }
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [time, format] = arguments.args.as_slice() else {
            return internal_err!("`{}` takes two values", self.name());
        };
        if let DataType::Duration(_) = time.data_type() {
            return self.of.invoke_with_args(arguments);
        }
        let single = matches!((time, format), (ColumnarValue::Scalar(_), ColumnarValue::Scalar(_)));
        let array = |value: &ColumnarValue| match value {
            ColumnarValue::Array(array) => Ok(Arc::clone(array)),
            ColumnarValue::Scalar(value) => value.to_array(),
        };
        let format = array(&format.cast_to(&DataType::Utf8, None)?)?;
        if time.data_type().is_numeric() {
            let texts = formatted_numbers(&array(time)?, format.as_string())?;
            return Ok(if single {
                ColumnarValue::Scalar(ScalarValue::try_from_array(&texts, 0)?)
            } else {
                ColumnarValue::Array(texts)
            });
        }
        let times = TemporalArray::of(&array(time)?)?;
        let texts: ArrayRef = Arc::new(self.formatted(&times, format.as_string())?);
        Ok(if single {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&texts, 0)?)
        } else {
            ColumnarValue::Array(texts)
        })
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.of.documentation()
    }
}

/// An array of dates, timestamps or times of day.
struct TemporalArray {
    values: ArrayRef,
    zone: Option<Tz>,
}

impl TemporalArray {
    fn of(values: &ArrayRef) -> Result<TemporalArray> {
        let (to, zone) = match values.data_type() {
            DataType::Time32(_) | DataType::Time64(_) => {
                (DataType::Time64(TimeUnit::Nanosecond), None)
            }
            DataType::Timestamp(unit, zone) => {
                let unit = match unit {
                    TimeUnit::Nanosecond => TimeUnit::Nanosecond,
                    _ => TimeUnit::Microsecond,
                };
                (DataType::Timestamp(unit, zone.clone()), zone.clone())
            }
            _ => (DataType::Timestamp(TimeUnit::Microsecond, None), None),
        };
        let zone = zone.map(|zone| zone.parse::<Tz>()).transpose()?;
        Ok(TemporalArray { values: arrow::compute::cast(values, &to)?, zone })
    }

    fn len(&self) -> usize {
        self.values.len()
    }

    fn is_null(&self, row: usize) -> bool {
        self.values.is_null(row)
    }

    /// Returns the date and time in a row; `None` if the value is null or outside the calendar's
    /// range.
    fn date_time(&self, row: usize) -> Option<DateTimeValue> {
        let utc: DateTime<Utc> = match self.values.data_type() {
            DataType::Time64(_) => {
                let nanoseconds = self.values.as_primitive::<Time64NanosecondType>().value(row);
                let (seconds, rest) = (nanoseconds / 1_000_000_000, nanoseconds % 1_000_000_000);
                let (seconds, rest) = (u32::try_from(seconds).ok()?, u32::try_from(rest).ok()?);
                let time = NaiveTime::from_num_seconds_from_midnight_opt(seconds, rest)?;
                return Some(DateTimeValue { date: None, time, offset: None });
            }
            DataType::Timestamp(TimeUnit::Nanosecond, _) => DateTime::from_timestamp_nanos(
                self.values.as_primitive::<TimestampNanosecondType>().value(row),
            ),
            _ => DateTime::from_timestamp_micros(
                self.values.as_primitive::<TimestampMicrosecondType>().value(row),
            )?,
        };
        let (local, offset) = match self.zone {
            Some(zone) => {
                let offset = zone.offset_from_utc_datetime(&utc.naive_utc()).fix();
                (utc.naive_utc().checked_add_offset(offset)?, Some(offset))
            }
            None => (utc.naive_utc(), None),
        };
        Some(DateTimeValue { date: Some(local.date()), time: local.time(), offset })
    }
}
