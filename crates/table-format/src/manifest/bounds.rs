//! Decodes the bounds of columns.
//!
//! Bounds may be truncated, have an earlier type of the column, or be invalid. An invalid bound is
//! ignored. Without the bound, a scan reads the file; a wrong bound could make it skip a file with
//! matching rows.

use iceberg::metadata_columns::get_metadata_field;
use iceberg::spec::{Datum, PrimitiveLiteral, PrimitiveType, Schema};

use crate::avro::{Result, Value};
use crate::foreign_types::foreign;

/// Microseconds and nanoseconds per day.
const DAY_MICROS: i64 = 86_400_000_000;
const DAY_NANOS: i64 = DAY_MICROS * 1000;

/// Maximum number of bytes of the unscaled value of a decimal.
const DECIMAL_BYTES_MAX: usize = 16;

/// Lower or upper bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BoundKind {
    Lower,
    Upper,
}

/// Decodes the bounds of a file, given as pairs of a field id and bytes. Columns that the schema
/// does not have are ignored.
pub(super) fn decode_bounds(
    entries: &[Value<'_>],
    schema: &Schema,
    side: BoundKind,
) -> Result<Vec<(i32, Datum)>> {
    let mut bounds = Vec::with_capacity(entries.len());
    for (id, value) in super::entries::pairs(entries)? {
        let Value::Bytes(bytes) = value else { continue };
        let own = schema.field_by_id(id).or_else(|| get_metadata_field(id).ok());
        let data_type = own.and_then(|field| field.field_type.as_primitive_type());
        let Some(data_type) = data_type.filter(|one| foreign(one).is_none()) else { continue };
        bounds.extend(decode_bound(bytes, data_type, side).map(|bound| (id, bound)));
    }
    Ok(bounds)
}

/// Decodes a bound; `None` if the bytes are not a valid bound of the type.
pub(super) fn decode_bound(
    bytes: &[u8],
    data_type: &PrimitiveType,
    side: BoundKind,
) -> Option<Datum> {
    use PrimitiveType::{Boolean, Date, Decimal, String, Time, Timestamp, Uuid};
    use PrimitiveType::{Double, Float, Int, Long, TimestampNs, Timestamptz, TimestamptzNs};
    let promoted;
    let bytes = match (data_type, bytes.len()) {
        // `Long` and `Double` bounds have four bytes if they were written before the column's type
        // was promoted from `Int` or `Float`.
        (Boolean, 1)
        | (Int | Float | Date, 4)
        | (Long | Double, 4 | 8)
        | (Time | Timestamp | Timestamptz | TimestampNs | TimestamptzNs, 8)
        | (Uuid, 16)
        | (Decimal { .. }, 1..=DECIMAL_BYTES_MAX)
        | (PrimitiveType::Fixed(_) | PrimitiveType::Binary, _) => bytes,
        (Timestamp | Timestamptz | TimestampNs | TimestamptzNs, 4) => {
            let days = i64::from(i32::from_le_bytes(bytes.try_into().ok()?));
            let micros = matches!(data_type, Timestamp | Timestamptz);
            let of_day = if micros { DAY_MICROS } else { DAY_NANOS };
            promoted = days.checked_mul(of_day)?.to_le_bytes();
            &promoted
        }
        (String, _) => text(bytes, side)?.as_bytes(),
        _ => return None,
    };
    let bound = Datum::try_from_bytes(bytes, data_type.clone()).ok()?;
    match bound.literal() {
        PrimitiveLiteral::Float(number) if number.is_nan() => None,
        PrimitiveLiteral::Double(number) if number.is_nan() => None,
        _ => Some(bound),
    }
}

/// Decodes a string that may be truncated within a character. Without the incomplete character, a
/// lower bound is still valid, but an upper bound is not.
fn text(bytes: &[u8], side: BoundKind) -> Option<&str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Some(text),
        Err(error) if side == BoundKind::Lower => {
            bytes.get(..error.valid_up_to()).and_then(|whole| std::str::from_utf8(whole).ok())
        }
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], data_type: PrimitiveType, lower: Option<Datum>, upper: Option<Datum>) {
        assert_eq!(decode_bound(bytes, &data_type, BoundKind::Lower), lower, "lower {bytes:?}");
        assert_eq!(decode_bound(bytes, &data_type, BoundKind::Upper), upper, "upper {bytes:?}");
    }

    fn both(bytes: &[u8], data_type: PrimitiveType, bound: Option<Datum>) {
        check(bytes, data_type, bound.clone(), bound);
    }

    #[test]
    fn a_string_truncated_within_a_character_is_only_a_lower_bound() {
        let whole = "日本語のテキスト";
        both(whole.as_bytes(), PrimitiveType::String, Some(Datum::string(whole)));
        let cut = &whole.as_bytes()[..16];
        check(cut, PrimitiveType::String, Some(Datum::string("日本語のテ")), None);
        check(b"a\xFFb", PrimitiveType::String, Some(Datum::string("a")), None);
    }

    #[test]
    fn bounds_are_promoted() {
        both(&7_i32.to_le_bytes(), PrimitiveType::Long, Some(Datum::long(7)));
        both(&0.5_f32.to_le_bytes(), PrimitiveType::Double, Some(Datum::double(0.5)));
        let day = Datum::timestamp_micros(2 * 86_400_000_000);
        both(&2_i32.to_le_bytes(), PrimitiveType::Timestamp, Some(day));
        let day = Datum::timestamp_nanos(-86_400_000_000_000);
        both(&(-1_i32).to_le_bytes(), PrimitiveType::TimestampNs, Some(day));
        both(&i32::MAX.to_le_bytes(), PrimitiveType::TimestampNs, None);
    }

    #[test]
    fn bounds_of_a_wrong_length_are_ignored() {
        both(&[1, 2, 3], PrimitiveType::Int, None);
        both(&[0; 8], PrimitiveType::Date, None);
        both(&[0; 5], PrimitiveType::Timestamp, None);
        both(&[0; 15], PrimitiveType::Uuid, None);
        both(&[], PrimitiveType::Boolean, None);
        both(&[], PrimitiveType::Decimal { precision: 9, scale: 2 }, None);
        both(&[1; 17], PrimitiveType::Decimal { precision: 38, scale: 2 }, None);
        both(&f64::NAN.to_le_bytes(), PrimitiveType::Double, None);
    }
}
