//! Parses and serializes single values in the JSON format of Iceberg's REST specification: operands
//! of filters, and statistics of files.
//!
//! Because clients differ, more formats are parsed than are serialized. Java clients send days and
//! microseconds as numbers, and Python clients send timestamps without an offset.

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Timelike};
use iceberg::spec::{PrimitiveLiteral, PrimitiveType};
use serde_json::{Number, Value};
use uuid::Uuid;

const NANOS_PER_MICRO: i64 = 1_000;
const MICROS_PER_SECOND: i64 = 1_000_000;
const NANOS_PER_SECOND: u32 = 1_000_000_000;

/// Number of decimal digits that a double always represents exactly, and the smallest whole number
/// that has more digits.
const DIGITS_KEPT: usize = 15;
const WHOLE_KEPT: f64 = 1e15;

/// The error for a value that does not have the expected type.
#[derive(Debug)]
struct InvalidValue;

/// A parsed value; `None` if the type cannot represent the number, which is out of range or has too
/// many digits.
type ParsedLiteral<T = PrimitiveLiteral> = Result<Option<T>, InvalidValue>;

/// Parses a value of a type. Returns `None` if the type cannot represent the number. The error is
/// the reason why the value is invalid.
pub(super) fn read(
    value: &Value,
    data_type: &PrimitiveType,
) -> Result<Option<PrimitiveLiteral>, String> {
    let is_decimal = matches!(data_type, PrimitiveType::Decimal { .. });
    let found = match value {
        Value::Number(number) if is_decimal && !is_exact(number) => {
            return Err(format!("`{number}` may have lost digits; write the decimal as a string"));
        }
        Value::Bool(value) if *data_type == PrimitiveType::Boolean => {
            Ok(Some(PrimitiveLiteral::Boolean(*value)))
        }
        Value::Number(number) => read_number(number, data_type),
        Value::String(text) => read_text(text, data_type),
        _ => Err(InvalidValue),
    };
    found.map_err(|InvalidValue| {
        format!("`{}` is not a value of type `{data_type}`", abbreviated(value))
    })
}

fn read_number(number: &Number, data_type: &PrimitiveType) -> ParsedLiteral {
    match data_type {
        PrimitiveType::Int | PrimitiveType::Date => {
            Ok(i32::try_from(integer(number)?).ok().map(PrimitiveLiteral::Int))
        }
        PrimitiveType::Long
        | PrimitiveType::Time
        | PrimitiveType::Timestamp
        | PrimitiveType::Timestamptz
        | PrimitiveType::TimestampNs
        | PrimitiveType::TimestamptzNs => {
            Ok(i64::try_from(integer(number)?).ok().map(PrimitiveLiteral::Long))
        }
        PrimitiveType::Float => Ok(float(number)),
        PrimitiveType::Double => {
            Ok(number.as_f64().map(|value| PrimitiveLiteral::Double(value.into())))
        }
        PrimitiveType::Decimal { scale, .. } => {
            Ok(decimal(&number.to_string(), *scale)?.map(PrimitiveLiteral::Int128))
        }
        _ => Err(InvalidValue),
    }
}

fn read_text(text: &str, data_type: &PrimitiveType) -> ParsedLiteral {
    let found = match data_type {
        PrimitiveType::Decimal { scale, .. } => {
            return Ok(decimal(text, *scale)?.map(PrimitiveLiteral::Int128));
        }
        PrimitiveType::Date => {
            let date: NaiveDate = text.parse().map_err(|_| InvalidValue)?;
            let days = date.signed_duration_since(epoch()).num_days();
            i32::try_from(days).ok().map(PrimitiveLiteral::Int)
        }
        PrimitiveType::Time => time(text)?,
        PrimitiveType::Timestamp => micros(parse_timestamp(text)?),
        PrimitiveType::TimestampNs => nanos(parse_timestamp(text)?),
        PrimitiveType::Timestamptz => micros(parse_timestamptz(text)?),
        PrimitiveType::TimestamptzNs => nanos(parse_timestamptz(text)?),
        PrimitiveType::String => Some(PrimitiveLiteral::String(text.to_owned())),
        PrimitiveType::Uuid => {
            let uuid = Uuid::parse_str(text).map_err(|_| InvalidValue)?;
            Some(PrimitiveLiteral::UInt128(uuid.as_u128()))
        }
        PrimitiveType::Fixed(length) => {
            let bytes = bytes(text).filter(|bytes| bytes.len() as u64 == *length);
            Some(PrimitiveLiteral::Binary(bytes.ok_or(InvalidValue)?))
        }
        PrimitiveType::Binary => Some(PrimitiveLiteral::Binary(bytes(text).ok_or(InvalidValue)?)),
        _ => return Err(InvalidValue),
    };
    Ok(found)
}

/// Shortens a value for a message.
fn abbreviated(value: &Value) -> String {
    const CHARACTERS_MAX: usize = 60;
    let text = value.to_string();
    match text.char_indices().nth(CHARACTERS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Converts a number to an integer.
fn integer(number: &Number) -> Result<i128, InvalidValue> {
    let integer = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
    integer.ok_or(InvalidValue)
}

/// Parses a float. Returns `None` if the number cannot be represented exactly. The number is not
/// rounded, because it is unknown which float the client means.
fn float(number: &Number) -> Option<PrimitiveLiteral> {
    let value = number.as_f64()?;
    let narrow = value as f32;
    (f64::from(narrow).to_bits() == value.to_bits()).then(|| PrimitiveLiteral::Float(narrow.into()))
}

/// Returns true if the parsed number certainly equals the number in the JSON text. If the text has
/// more digits than a double can represent, the numbers may differ.
fn is_exact(number: &Number) -> bool {
    let Some(value) = number.as_f64().filter(|_| number.is_f64()) else { return true };
    let written = format!("{value:e}");
    let digits = written.split('e').next().unwrap_or_default();
    let digits = digits.bytes().filter(u8::is_ascii_digit).count();
    digits <= DIGITS_KEPT && value.abs() < WHOLE_KEPT
}

/// Parses the unscaled value of a decimal.
fn decimal(text: &str, scale: u32) -> ParsedLiteral<i128> {
    let (number, exponent) = match text.split_once(['e', 'E']) {
        Some((number, exponent)) => (number, exponent.parse::<i32>().map_err(|_| InvalidValue)?),
        None => (text, 0),
    };
    let (sign, digits) = match number.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, number.strip_prefix('+').unwrap_or(number)),
    };
    let (before, after) = digits.split_once('.').unwrap_or((digits, ""));
    let are_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if (before.is_empty() && after.is_empty()) || !are_digits(before) || !are_digits(after) {
        return Err(InvalidValue);
    }
    let all = format!("{before}{after}");
    let significant = all.trim_start_matches('0');
    if significant.is_empty() {
        return Ok(Some(0));
    }
    let Ok(value) = significant.parse::<i128>() else { return Ok(None) };
    let fraction = i64::try_from(after.len()).map_err(|_| InvalidValue)?;
    let missing = i64::from(scale) - fraction + i64::from(exponent);
    let power = |power: i64| 10_i128.checked_pow(u32::try_from(power).ok()?);
    let scaled = match missing {
        0.. => power(missing).and_then(|power| value.checked_mul(power)),
        _ => power(-missing).filter(|power| value % power == 0).map(|power| value / power),
    };
    Ok(scaled.map(|value| sign * value))
}

fn time(text: &str) -> ParsedLiteral {
    let time = NaiveTime::parse_from_str(text, "%H:%M:%S%.f");
    let time =
        time.or_else(|_| NaiveTime::parse_from_str(text, "%H:%M")).map_err(|_| InvalidValue)?;
    let nanos = i64::from(time.nanosecond() % NANOS_PER_SECOND);
    let micros = i64::from(time.num_seconds_from_midnight()) * MICROS_PER_SECOND;
    let is_exact = nanos % NANOS_PER_MICRO == 0;
    Ok(is_exact.then(|| PrimitiveLiteral::Long(micros + nanos / NANOS_PER_MICRO)))
}

/// Parses a timestamp without an offset.
fn parse_timestamp(text: &str) -> Result<NaiveDateTime, InvalidValue> {
    let moment = NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f");
    let moment = moment.or_else(|_| NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M"));
    moment.map_err(|_| InvalidValue)
}

/// Parses a timestamp with an offset. A timestamp without an offset is in UTC.
fn parse_timestamptz(text: &str) -> Result<NaiveDateTime, InvalidValue> {
    let moment = DateTime::parse_from_rfc3339(text).map(|moment| moment.naive_utc());
    moment.or_else(|_| parse_timestamp(text))
}

fn micros(moment: NaiveDateTime) -> Option<PrimitiveLiteral> {
    let is_fine = i64::from(moment.nanosecond()) % NANOS_PER_MICRO != 0;
    (!is_fine).then(|| PrimitiveLiteral::Long(moment.and_utc().timestamp_micros()))
}

fn nanos(moment: NaiveDateTime) -> Option<PrimitiveLiteral> {
    moment.and_utc().timestamp_nanos_opt().map(PrimitiveLiteral::Long)
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}

fn epoch() -> NaiveDate {
    NaiveDate::default()
}

/// Serializes a value of a type. A date or time outside the calendar's range is serialized as a
/// number.
pub(super) fn write(value: &PrimitiveLiteral, data_type: &PrimitiveType) -> Value {
    match (value, data_type) {
        (PrimitiveLiteral::Boolean(value), _) => (*value).into(),
        (PrimitiveLiteral::Int(days), PrimitiveType::Date) => {
            let date = chrono::TimeDelta::try_days(i64::from(*days));
            let date = date.and_then(|days| epoch().checked_add_signed(days));
            date.map_or_else(|| (*days).into(), |date| date.to_string().into())
        }
        (PrimitiveLiteral::Int(value), _) => (*value).into(),
        (PrimitiveLiteral::Long(value), data_type) => timestamp_value(*value, data_type),
        (PrimitiveLiteral::Float(value), _) => number(f64::from(value.0)),
        (PrimitiveLiteral::Double(value), _) => number(value.0),
        (PrimitiveLiteral::String(text), _) => text.as_str().into(),
        (PrimitiveLiteral::Binary(bytes), PrimitiveType::Uuid) => Uuid::from_slice(bytes)
            .map_or_else(|_| hex(bytes).into(), |uuid| uuid.to_string().into()),
        (PrimitiveLiteral::Binary(bytes), _) => hex(bytes).into(),
        (PrimitiveLiteral::UInt128(value), _) => Uuid::from_u128(*value).to_string().into(),
        (PrimitiveLiteral::Int128(value), PrimitiveType::Decimal { scale, .. }) => {
            digits(*value, *scale).into()
        }
        (PrimitiveLiteral::Int128(value), _) => value.to_string().into(),
        (PrimitiveLiteral::AboveMax | PrimitiveLiteral::BelowMin, _) => Value::Null,
    }
}

fn timestamp_value(value: i64, data_type: &PrimitiveType) -> Value {
    let of_micros = || DateTime::from_timestamp_micros(value);
    let written = match data_type {
        PrimitiveType::Time => {
            let time =
                u32::try_from(value.div_euclid(MICROS_PER_SECOND)).ok().and_then(|seconds| {
                    let nanos = value.rem_euclid(MICROS_PER_SECOND) * NANOS_PER_MICRO;
                    NaiveTime::from_num_seconds_from_midnight_opt(
                        seconds,
                        u32::try_from(nanos).ok()?,
                    )
                });
            time.map(|time| time.format("%H:%M:%S%.6f").to_string())
        }
        PrimitiveType::Timestamp => {
            of_micros().map(|moment| moment.format("%Y-%m-%dT%H:%M:%S%.6f").to_string())
        }
        PrimitiveType::Timestamptz => {
            of_micros().map(|moment| moment.format("%Y-%m-%dT%H:%M:%S%.6f+00:00").to_string())
        }
        PrimitiveType::TimestampNs => {
            let moment = DateTime::from_timestamp_nanos(value);
            Some(moment.format("%Y-%m-%dT%H:%M:%S%.9f").to_string())
        }
        PrimitiveType::TimestamptzNs => {
            let moment = DateTime::from_timestamp_nanos(value);
            Some(moment.format("%Y-%m-%dT%H:%M:%S%.9f+00:00").to_string())
        }
        _ => None,
    };
    written.map_or_else(|| value.into(), Value::from)
}

/// Serializes a number. JSON has no numbers for NaN and infinity, so these are serialized as
/// strings, as Java clients do.
fn number(value: f64) -> Value {
    let word = match value {
        value if value.is_nan() => "NaN",
        f64::INFINITY => "Infinity",
        f64::NEG_INFINITY => "-Infinity",
        value => return value.into(),
    };
    word.into()
}

pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |number: u8| char::from(DIGITS[usize::from(number)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn digits(value: i128, scale: u32) -> String {
    let sign = if value < 0 { "-" } else { "" };
    let scale = scale as usize;
    let digits = format!("{:0>width$}", value.unsigned_abs(), width = scale + 1);
    let (before, after) = digits.split_at(digits.len() - scale);
    if after.is_empty() { format!("{sign}{before}") } else { format!("{sign}{before}.{after}") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn types() -> [PrimitiveType; 6] {
        [
            PrimitiveType::Date,
            PrimitiveType::Time,
            PrimitiveType::Timestamp,
            PrimitiveType::Timestamptz,
            PrimitiveType::TimestampNs,
            PrimitiveType::Uuid,
        ]
    }

    #[test]
    fn serialized_values_are_parsed_back() {
        let decimal = PrimitiveType::Decimal { precision: 38, scale: 4 };
        let texts = [
            (PrimitiveType::Date, json!("2007-12-03")),
            (PrimitiveType::Date, json!("1900-01-01")),
            (PrimitiveType::Time, json!("22:31:08.123456")),
            (PrimitiveType::Timestamp, json!("1907-12-03T10:15:30.123456")),
            (PrimitiveType::Timestamptz, json!("2007-12-03T10:15:30.123456+00:00")),
            (PrimitiveType::TimestampNs, json!("2007-12-03T10:15:30.123456789")),
            (PrimitiveType::TimestamptzNs, json!("2007-12-03T10:15:30.123456789+00:00")),
            (PrimitiveType::Uuid, json!("eb26bdb1-a1d8-4aa6-990e-da940875492c")),
            (PrimitiveType::Fixed(3), json!("78797A")),
            (PrimitiveType::Binary, json!("")),
            (decimal.clone(), json!("123.4500")),
            (decimal.clone(), json!("-0.0001")),
            (decimal, json!("1234567890123456789012345678901234.5678")),
            (PrimitiveType::Decimal { precision: 9, scale: 0 }, json!("2")),
            (PrimitiveType::Boolean, json!(true)),
            (PrimitiveType::Int, json!(-42)),
            (PrimitiveType::Long, json!(i64::MIN)),
            (PrimitiveType::Double, json!(123.456)),
            (PrimitiveType::Float, json!(0.5)),
            (PrimitiveType::String, json!("ü")),
        ];
        for (data_type, value) in texts {
            let found = read(&value, &data_type).expect("a value").expect("a value of the type");
            assert_eq!(write(&found, &data_type), value, "{data_type}");
        }
    }

    #[test]
    fn formats_of_other_clients_are_accepted() {
        let same = |data_type: PrimitiveType, one: Value, other: Value| {
            assert_eq!(read(&one, &data_type), read(&other, &data_type), "{one}");
            assert!(read(&one, &data_type).expect("a value").is_some());
        };
        same(PrimitiveType::Date, json!(1), json!("1970-01-02"));
        same(PrimitiveType::Time, json!(1_000_000), json!("00:00:01"));
        same(PrimitiveType::Timestamp, json!(60_000_000), json!("1970-01-01T00:01"));
        same(
            PrimitiveType::Timestamptz,
            json!("2024-01-01T01:00:00+01:00"),
            json!("2024-01-01T00:00:00"),
        );
        same(PrimitiveType::Binary, json!("0aff"), json!("0AFF"));
        let decimal = PrimitiveType::Decimal { precision: 9, scale: 2 };
        same(decimal.clone(), json!("2E+2"), json!("200.00"));
        same(decimal.clone(), json!(3), json!("+3.0"));
        same(decimal.clone(), json!(-1234.5), json!("-1234.50"));
        same(decimal, json!("1.2000"), json!("1.2"));
    }

    #[test]
    fn values_out_of_range_differ_from_invalid_values() {
        let check_out_of_range = |data_type: PrimitiveType, value: Value| {
            assert_eq!(read(&value, &data_type), Ok(None), "{value}");
        };
        check_out_of_range(PrimitiveType::Int, json!(3_000_000_000_i64));
        check_out_of_range(PrimitiveType::Long, json!(u64::MAX));
        check_out_of_range(PrimitiveType::Float, json!(0.1));
        check_out_of_range(PrimitiveType::Timestamp, json!("2024-01-01T00:00:00.0000001"));
        let decimal = PrimitiveType::Decimal { precision: 9, scale: 2 };
        check_out_of_range(decimal.clone(), json!("1.234"));
        check_out_of_range(decimal.clone(), json!("1E+2000000000"));
        check_out_of_range(decimal.clone(), json!("9".repeat(60)));
        let wrong = |data_type: PrimitiveType, value: Value| {
            read(&value, &data_type).expect_err("the value has another type");
        };
        for text in ["", "-", ".", "1.2.3", "1e", "1e99999999999", "0x1", "ü"] {
            wrong(decimal.clone(), json!(text));
        }
        for data_type in types() {
            wrong(data_type.clone(), json!("never"));
            wrong(data_type.clone(), json!(true));
            wrong(data_type.clone(), json!(null));
            wrong(data_type, json!({}));
        }
        for text in ["12345678901234567.89", "123456789012345678901", "0.12345678901234567"] {
            let number: Value = serde_json::from_str(text).expect("a number");
            let error = read(&number, &decimal).expect_err("digits are lost");
            assert!(error.contains("write the decimal as a string"), "{error}");
        }
        wrong(PrimitiveType::Int, json!(1.5));
        wrong(PrimitiveType::Int, json!("1"));
        wrong(PrimitiveType::String, json!(1));
        wrong(PrimitiveType::Timestamp, json!("2024-01-01T00:00:00Z"));
        wrong(PrimitiveType::Fixed(2), json!("00"));
        wrong(PrimitiveType::Binary, json!("0"));
        wrong(PrimitiveType::Binary, json!("+f"));
    }

    #[test]
    fn values_out_of_range_are_serialized_as_numbers() {
        assert_eq!(write(&PrimitiveLiteral::Int(i32::MAX), &PrimitiveType::Date), i32::MAX);
        let largest = PrimitiveLiteral::Long(i64::MAX);
        for data_type in [PrimitiveType::Time, PrimitiveType::Timestamp] {
            assert_eq!(write(&largest, &data_type), i64::MAX);
        }
        let nan = PrimitiveLiteral::Double(f64::NAN.into());
        assert_eq!(write(&nan, &PrimitiveType::Double), "NaN");
    }
}
