//! Values of parameters: decoded from the client's format to values that can be bound to a
//! statement.
//!
//! Numbers, booleans and texts are bound directly. Every other value is bound as text with a cast
//! to its type, so that `$1` has the same type as the value.

use std::collections::BTreeMap;

use bytes::{Buf, Bytes};
use headwater_model::{ErrorCode, Problem};
use headwater_postgres_catalog::{PgType, ScalarType};
use serde_json::Value;

use crate::array_parameter;
use crate::binary_numeric;
use crate::column_encoder::{EPOCH_DAYS, EPOCH_MICROS};
use crate::frontend_message::ValueFormat;
use crate::text_format;

/// A value to bind, and the SQL type to which it is cast.
#[derive(Debug, PartialEq)]
pub struct BoundValue {
    /// The value.
    pub value: Value,
    /// The SQL type for the cast; `None` if the value already has its type.
    pub cast: Option<String>,
}

impl BoundValue {
    fn plain(value: impl Into<Value>) -> Self {
        BoundValue { value: value.into(), cast: None }
    }

    fn cast(text: String, sql_type: &str) -> Self {
        BoundValue { value: Value::String(text), cast: Some(sql_type.to_owned()) }
    }
}

/// Returns the SQL types with which values are bound, by parameter name, for parameters whose types
/// the client declares. Texts and arrays are omitted.
pub fn declared_types(types: &[u32]) -> BTreeMap<String, String> {
    let declared = types.iter().enumerate().filter_map(|(index, oid)| {
        let pg_type = PgType::from_oid(*oid).filter(|pg_type| !pg_type.is_array)?;
        Some(((index + 1).to_string(), sql_type(pg_type.scalar)?.to_owned()))
    });
    declared.collect()
}

/// Returns the SQL types with which values are bound, by parameter name, for parameters that have
/// narrower types: a value for an `integer` is bound as a `BIGINT`. Parameters whose types the
/// client declares are omitted.
pub fn wider_types(parameters: &[(String, PgType)], types: &[u32]) -> BTreeMap<String, String> {
    let wider = parameters.iter().filter_map(|(name, pg_type)| {
        let place = name.parse::<usize>().ok()?.checked_sub(1)?;
        let is_declared = types.get(place).is_some_and(|declared| *declared != 0);
        let is_narrow =
            matches!(pg_type.scalar, ScalarType::Int2 | ScalarType::Int4 | ScalarType::Float4);
        if !is_narrow || pg_type.is_array || is_declared {
            return None;
        }
        Some((name.clone(), sql_type(pg_type.scalar)?.to_owned()))
    });
    wider.collect()
}

/// Returns the SQL type with which values of a type are bound; `None` for types that are bound as
/// texts.
fn sql_type(scalar: ScalarType) -> Option<&'static str> {
    Some(match scalar {
        ScalarType::Bool => "BOOLEAN",
        ScalarType::Int2 | ScalarType::Int4 | ScalarType::Int8 | ScalarType::Oid => "BIGINT",
        ScalarType::Float4 | ScalarType::Float8 => "DOUBLE",
        // A value is bound with the precision of its digits. The digits are not known yet, so use a
        // wide type.
        ScalarType::Numeric => "DECIMAL(38, 10)",
        ScalarType::Bytea => "BYTEA",
        ScalarType::Date => "DATE",
        ScalarType::Time => "TIME",
        ScalarType::Timestamp => "TIMESTAMP",
        ScalarType::Timestamptz => "TIMESTAMP WITH TIME ZONE",
        ScalarType::Interval => "INTERVAL",
        ScalarType::Text | ScalarType::Json | ScalarType::Uuid => return None,
    })
}

/// Decodes a parameter value from the client's format.
pub fn decode(
    name: &str,
    pg_type: PgType,
    format: ValueFormat,
    bytes: Option<Bytes>,
) -> Result<BoundValue, Problem> {
    let Some(bytes) = bytes else { return Ok(BoundValue::plain(Value::Null)) };
    if pg_type.is_array {
        return decode_array(name, pg_type.scalar, format, bytes);
    }
    let decoded = match format {
        ValueFormat::Text => {
            std::str::from_utf8(&bytes).ok().and_then(|text| from_text(pg_type.scalar, text))
        }
        ValueFormat::Binary => from_binary(pg_type.scalar, bytes),
    };
    decoded.ok_or_else(|| {
        let type_name = format!("{:?}", pg_type.scalar).to_lowercase();
        let message = format!("the value of parameter `${name}` is not a valid {type_name}");
        Problem::new(ErrorCode::BadRow, message)
    })
}

/// Returns the text of a value in binary format, as PostgreSQL writes it; `None` for null.
pub fn binary_text(
    name: &str,
    pg_type: PgType,
    bytes: Option<Bytes>,
) -> Result<Option<String>, Problem> {
    let Some(bytes) = bytes else { return Ok(None) };
    if pg_type.is_array {
        return array_text(name, pg_type.scalar, bytes).map(Some);
    }
    let bound = decode(name, pg_type, ValueFormat::Binary, Some(bytes))?;
    Ok(match bound.value {
        Value::Null => None,
        Value::String(text) => Some(text),
        other => Some(other.to_string()),
    })
}

fn array_text(name: &str, scalar: ScalarType, bytes: Bytes) -> Result<String, Problem> {
    let elements = array_parameter::elements(ValueFormat::Binary, bytes)
        .ok_or_else(|| not_one_dimension(name))?;
    let mut out = bytes::BytesMut::from(&b"{"[..]);
    for (index, element) in elements.into_iter().enumerate() {
        if index > 0 {
            out.extend_from_slice(b",");
        }
        match binary_text(name, PgType::of(scalar), element)? {
            Some(item) => text_format::put_item(item.as_bytes(), &mut out),
            None => out.extend_from_slice(b"NULL"),
        }
    }
    out.extend_from_slice(b"}");
    Ok(String::from_utf8_lossy(&out).into_owned())
}

fn not_one_dimension(name: &str) -> Problem {
    let message = format!("the value of parameter `${name}` is not an array of one dimension");
    Problem::new(ErrorCode::BadRow, message)
}

fn decode_array(
    name: &str,
    scalar: ScalarType,
    format: ValueFormat,
    bytes: Bytes,
) -> Result<BoundValue, Problem> {
    let Some(sql_type) = array_parameter::sql_type(scalar) else {
        let message = format!("parameter `${name}` is an array of a type that is not supported");
        return Err(Problem::new(ErrorCode::UnsupportedStatement, message)
            .with_hint("Bind the text of the array, and cast it: `$1::text::numeric(10, 2)[]`."));
    };
    let elements =
        array_parameter::elements(format, bytes).ok_or_else(|| not_one_dimension(name))?;
    let decode = |one| decode(name, PgType::of(scalar), format, one).map(|bound| bound.value);
    let values = elements.into_iter().map(decode).collect::<Result<Vec<Value>, _>>()?;
    Ok(BoundValue { value: Value::Array(values), cast: Some(sql_type.to_owned()) })
}

fn from_text(scalar: ScalarType, text: &str) -> Option<BoundValue> {
    Some(match scalar {
        ScalarType::Bool => BoundValue::plain(match text.trim().to_ascii_lowercase().as_str() {
            "t" | "true" | "y" | "yes" | "on" | "1" => true,
            "f" | "false" | "n" | "no" | "off" | "0" => false,
            _ => return None,
        }),
        ScalarType::Int2 | ScalarType::Int4 | ScalarType::Int8 => {
            BoundValue::plain(text.trim().parse::<i64>().ok()?)
        }
        ScalarType::Oid => BoundValue::plain(text.trim().parse::<u32>().ok()?),
        ScalarType::Float4 | ScalarType::Float8 => float(text.trim().parse().ok()?),
        ScalarType::Numeric => decimal(text.trim())?,
        ScalarType::Text | ScalarType::Json | ScalarType::Uuid => BoundValue::plain(text),
        ScalarType::Bytea => match text.strip_prefix("\\x") {
            Some(digits) => bytea(&hex::decode(digits).ok()?),
            // The cast to `BYTEA` decodes the escapes.
            None => BoundValue::cast(text.to_owned(), "BYTEA"),
        },
        ScalarType::Date => BoundValue::cast(text.to_owned(), "DATE"),
        ScalarType::Time => BoundValue::cast(text.to_owned(), "TIME"),
        ScalarType::Timestamp => BoundValue::cast(text.to_owned(), "TIMESTAMP"),
        ScalarType::Timestamptz => BoundValue::cast(text.to_owned(), "TIMESTAMP WITH TIME ZONE"),
        ScalarType::Interval => BoundValue::cast(text.to_owned(), "INTERVAL"),
    })
}

fn from_binary(scalar: ScalarType, mut bytes: Bytes) -> Option<BoundValue> {
    let bound = match scalar {
        ScalarType::Bool => BoundValue::plain(bytes.try_get_u8().ok()? != 0),
        ScalarType::Int2 => BoundValue::plain(bytes.try_get_i16().ok()?),
        ScalarType::Int4 => BoundValue::plain(bytes.try_get_i32().ok()?),
        ScalarType::Int8 => BoundValue::plain(bytes.try_get_i64().ok()?),
        ScalarType::Oid => BoundValue::plain(bytes.try_get_u32().ok()?),
        ScalarType::Float4 => float(bytes.try_get_f32().ok()?.into()),
        ScalarType::Float8 => float(bytes.try_get_f64().ok()?),
        ScalarType::Numeric => decimal(&binary_numeric::read_binary(std::mem::take(&mut bytes))?)?,
        ScalarType::Text | ScalarType::Json => {
            BoundValue::plain(String::from_utf8(std::mem::take(&mut bytes).to_vec()).ok()?)
        }
        ScalarType::Uuid => {
            let uuid = uuid::Uuid::from_slice(&std::mem::take(&mut bytes)).ok()?;
            BoundValue::plain(uuid.to_string())
        }
        ScalarType::Bytea => bytea(&std::mem::take(&mut bytes)),
        ScalarType::Date => {
            let days = i64::from(bytes.try_get_i32().ok()?) + i64::from(EPOCH_DAYS);
            BoundValue::cast(written(|out| text_format::put_date(days, out)), "DATE")
        }
        ScalarType::Time => {
            let micros = bytes.try_get_i64().ok()?;
            BoundValue::cast(written(|out| text_format::put_time(micros, out)), "TIME")
        }
        ScalarType::Timestamp | ScalarType::Timestamptz => {
            let micros = bytes.try_get_i64().ok()?.checked_add(EPOCH_MICROS)?;
            let is_zoned = scalar == ScalarType::Timestamptz;
            let sql_type = if is_zoned { "TIMESTAMP WITH TIME ZONE" } else { "TIMESTAMP" };
            BoundValue::cast(
                written(|out| text_format::put_timestamp(micros, is_zoned, out)),
                sql_type,
            )
        }
        ScalarType::Interval => {
            let micros = bytes.try_get_i64().ok()?;
            let (days, months) = (bytes.try_get_i32().ok()?, bytes.try_get_i32().ok()?);
            let text = format!("{months} months {days} days {micros} microseconds");
            BoundValue::cast(text, "INTERVAL")
        }
    };
    (!bytes.has_remaining()).then_some(bound)
}

fn written(write: impl FnOnce(&mut bytes::BytesMut) -> std::fmt::Result) -> String {
    let mut out = bytes::BytesMut::new();
    // Writing to memory cannot fail.
    let _ = write(&mut out);
    String::from_utf8_lossy(&out).into_owned()
}

fn float(value: f64) -> BoundValue {
    match serde_json::Number::from_f64(value) {
        Some(number) => BoundValue::plain(Value::Number(number)),
        None => BoundValue::cast(value.to_string(), "DOUBLE"),
    }
}

/// Binds a decimal with the precision and scale of its digits.
fn decimal(text: &str) -> Option<BoundValue> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.len() + fraction.len() == 0 || !is_number(whole) || !is_number(fraction) {
        // A number with an exponent has no fixed number of digits, so it is bound as a float.
        return text.parse::<f64>().ok().filter(|value| value.is_finite()).map(float);
    }
    let precision = (whole.trim_start_matches('0').len() + fraction.len()).clamp(1, 76);
    Some(BoundValue::cast(text.to_owned(), &format!("DECIMAL({precision}, {})", fraction.len())))
}

/// Binds bytes as hexadecimal text, because the text of a statement cannot contain every byte.
fn bytea(bytes: &[u8]) -> BoundValue {
    BoundValue::cast(format!("\\x{}", hex::encode(bytes)), "BYTEA")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(scalar: ScalarType, text: &str, binary: &[u8], value: Value, cast: Option<&str>) {
        let expected = BoundValue { value, cast: cast.map(str::to_owned) };
        assert_eq!(from_text(scalar, text).as_ref(), Some(&expected), "{text}");
        let bytes = Bytes::copy_from_slice(binary);
        assert_eq!(from_binary(scalar, bytes).as_ref(), Some(&expected), "{text}, binary");
    }

    #[test]
    fn both_formats_are_the_same_value() {
        check(ScalarType::Bool, "t", &[1], json!(true), None);
        check(ScalarType::Int2, "-2", &(-2_i16).to_be_bytes(), json!(-2), None);
        check(ScalarType::Oid, "4294967295", &[0xff; 4], json!(4_294_967_295_u32), None);
        check(ScalarType::Int8, "7", &7_i64.to_be_bytes(), json!(7), None);
        check(ScalarType::Float8, "0.5", &0.5_f64.to_be_bytes(), json!(0.5), None);
        check(ScalarType::Text, "O'Hare", b"O'Hare", json!("O'Hare"), None);
        let days = 1_i32.to_be_bytes();
        check(ScalarType::Date, "2000-01-02", &days, json!("2000-01-02"), Some("DATE"));
        let micros = 1_000_000_i64.to_be_bytes();
        let moment = json!("2000-01-01 00:00:01");
        check(ScalarType::Timestamp, "2000-01-01 00:00:01", &micros, moment, Some("TIMESTAMP"));
        check(ScalarType::Bytea, "\\x00FF", b"\0\xff", json!("\\x00ff"), Some("BYTEA"));
        check(ScalarType::Bytea, "\\x615c62", b"a\\b", json!("\\x615c62"), Some("BYTEA"));
        let digits = b"\0\x02\0\0\0\0\0\x02\0\x01\x13\x88";
        check(ScalarType::Numeric, "1.50", digits, json!("1.50"), Some("DECIMAL(3, 2)"));
    }

    #[test]
    fn declared_types_are_those_of_bound_values() {
        let oid = |scalar| PgType::of(scalar).oid();
        let array = PgType { scalar: ScalarType::Int4, is_array: true }.oid();
        let types =
            [oid(ScalarType::Int2), 0, array, oid(ScalarType::Text), oid(ScalarType::Interval)];
        let expected = [("1", "BIGINT"), ("5", "INTERVAL")];
        let expected = expected.map(|(name, sql_type)| (name.to_owned(), sql_type.to_owned()));
        assert_eq!(declared_types(&types), BTreeMap::from(expected));
        let parameters = [ScalarType::Int4, ScalarType::Int4, ScalarType::Int8, ScalarType::Float4];
        let parameters = parameters.iter().enumerate();
        let parameters: Vec<(String, PgType)> =
            parameters.map(|(at, scalar)| ((at + 1).to_string(), PgType::of(*scalar))).collect();
        let expected = [("2", "BIGINT"), ("4", "DOUBLE")];
        let expected = expected.map(|(name, sql_type)| (name.to_owned(), sql_type.to_owned()));
        assert_eq!(wider_types(&parameters, &types[..1]), BTreeMap::from(expected));
    }

    #[test]
    fn values_of_other_types_are_rejected() {
        for (scalar, text) in [
            (ScalarType::Int4, "x"),
            (ScalarType::Bool, "maybe"),
            (ScalarType::Numeric, "-"),
            (ScalarType::Bytea, "\\xf"),
        ] {
            assert_eq!(from_text(scalar, text), None);
        }
        for (scalar, bytes) in [
            (ScalarType::Int4, &b"\0"[..]),
            (ScalarType::Text, b"\xff"),
            (ScalarType::Date, b"12345"),
        ] {
            assert_eq!(from_binary(scalar, Bytes::from_static(bytes)), None);
        }
    }
}
