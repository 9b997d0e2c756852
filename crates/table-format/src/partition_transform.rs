//! Applies partition transforms to arrays, as Iceberg's specification defines them.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, Date32Array, Decimal128Array, Int32Array, StringArray,
    new_null_array,
};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Int32Type, Int64Type, Time64MicrosecondType, TimeUnit,
    TimestampMicrosecondType, TimestampNanosecondType,
};
use chrono::{Datelike, NaiveDate};
use iceberg::spec::Transform;

const MICROSECONDS_PER_HOUR: i64 = 3_600_000_000;
const NANOSECONDS_PER_MICROSECOND: i64 = 1_000;
const HOURS_PER_DAY: i64 = 24;
const MONTHS_PER_YEAR: i32 = 12;
/// The year in which Unix time begins.
const EPOCH: i32 = 1970;

/// Applies a transform to an array; `None` if the transform does not support the type.
pub fn transformed(column: &ArrayRef, transform: Transform) -> Option<ArrayRef> {
    match transform {
        Transform::Identity => Some(column.clone()),
        Transform::Void => Some(new_null_array(column.data_type(), column.len())),
        Transform::Hour => {
            let hours = hours(column)?.into_iter().map(|hour| i32::try_from(hour?).ok());
            Some(Arc::new(hours.collect::<Int32Array>()))
        }
        Transform::Day => Some(Arc::new(days(column)?.into_iter().collect::<Date32Array>())),
        Transform::Month => {
            months(column, |date| (date.year() - EPOCH) * MONTHS_PER_YEAR + date.month0() as i32)
        }
        Transform::Year => months(column, |date| date.year() - EPOCH),
        Transform::Bucket(count) => buckets(column, count),
        Transform::Truncate(width) => truncated(column, width),
        Transform::Unknown => None,
    }
}

/// Returns the number of hours since 1970 for each timestamp.
fn hours(column: &ArrayRef) -> Option<Vec<Option<i64>>> {
    let hour = |micros: Option<i64>| Some(micros?.div_euclid(MICROSECONDS_PER_HOUR));
    Some(micros(column)?.into_iter().map(hour).collect())
}

/// Returns the number of microseconds since 1970 for each timestamp. Nanoseconds are rounded down.
fn micros(column: &ArrayRef) -> Option<Vec<Option<i64>>> {
    match column.data_type() {
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            Some(column.as_primitive::<TimestampMicrosecondType>().iter().collect())
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            let nanos = column.as_primitive::<TimestampNanosecondType>().iter();
            Some(nanos.map(|n| Some(n?.div_euclid(NANOSECONDS_PER_MICROSECOND))).collect())
        }
        _ => None,
    }
}

/// Returns the number of days since 1970 for each date or timestamp.
fn days(column: &ArrayRef) -> Option<Vec<Option<i32>>> {
    if *column.data_type() == DataType::Date32 {
        return Some(column.as_primitive::<Date32Type>().iter().collect());
    }
    let day = |hour: Option<i64>| i32::try_from(hour?.div_euclid(HOURS_PER_DAY)).ok();
    Some(hours(column)?.into_iter().map(day).collect())
}

fn months(column: &ArrayRef, of: impl Fn(NaiveDate) -> i32) -> Option<ArrayRef> {
    let epoch = NaiveDate::from_ymd_opt(EPOCH, 1, 1)?;
    let date = |day: Option<i32>| {
        epoch.checked_add_signed(chrono::TimeDelta::try_days(i64::from(day?))?).map(&of)
    };
    Some(Arc::new(days(column)?.into_iter().map(date).collect::<Int32Array>()))
}

/// Returns the hash bucket of each value.
fn buckets(column: &ArrayRef, count: u32) -> Option<ArrayRef> {
    let count = i32::try_from(count).ok().filter(|count| *count > 0)?;
    let bucket = |bytes: &[u8]| (murmur3(bytes) & i32::MAX as u32) as i32 % count;
    let number = |number: i64| bucket(&number.to_le_bytes());
    let buckets: Int32Array = match column.data_type() {
        DataType::Int32 => {
            let ints = column.as_primitive::<Int32Type>().iter();
            ints.map(|value| Some(number(i64::from(value?)))).collect()
        }
        DataType::Date32 => {
            let dates = column.as_primitive::<Date32Type>().iter();
            dates.map(|value| Some(number(i64::from(value?)))).collect()
        }
        DataType::Int64 => {
            column.as_primitive::<Int64Type>().iter().map(|value| Some(number(value?))).collect()
        }
        DataType::Time64(TimeUnit::Microsecond) => {
            let times = column.as_primitive::<Time64MicrosecondType>().iter();
            times.map(|value| Some(number(value?))).collect()
        }
        DataType::Timestamp(..) => {
            micros(column)?.into_iter().map(|value| Some(number(value?))).collect()
        }
        DataType::Decimal128(..) => {
            let decimals = column.as_primitive::<Decimal128Type>().iter();
            decimals.map(|value| Some(bucket(shortest_bytes(&value?.to_be_bytes())))).collect()
        }
        DataType::Utf8 => {
            column.as_string::<i32>().iter().map(|text| Some(bucket(text?.as_bytes()))).collect()
        }
        DataType::Binary => {
            column.as_binary::<i32>().iter().map(|bytes| Some(bucket(bytes?))).collect()
        }
        DataType::FixedSizeBinary(_) => {
            column.as_fixed_size_binary().iter().map(|bytes| Some(bucket(bytes?))).collect()
        }
        _ => return None,
    };
    Some(Arc::new(buckets))
}

/// Returns the shortest big-endian two's complement encoding of a number.
fn shortest_bytes(bytes: &[u8; 16]) -> &[u8] {
    let sign = if bytes[0] & 0x80 == 0 { 0x00 } else { 0xFF };
    let mut first = 0;
    while first < 15 && bytes[first] == sign && (bytes[first + 1] ^ sign) & 0x80 == 0 {
        first += 1;
    }
    &bytes[first..]
}

/// Truncates strings and binary values to a width, and rounds numbers down to a multiple of the
/// width.
fn truncated(column: &ArrayRef, width: u32) -> Option<ArrayRef> {
    let multiple = i64::from(width).max(1);
    Some(match column.data_type() {
        DataType::Int32 => {
            let multiple = i32::try_from(multiple).ok()?;
            let down = |value: i32| value.wrapping_sub(value.rem_euclid(multiple));
            Arc::new(column.as_primitive::<Int32Type>().unary::<_, Int32Type>(down))
        }
        DataType::Int64 => {
            let down = |value: i64| value.wrapping_sub(value.rem_euclid(multiple));
            Arc::new(column.as_primitive::<Int64Type>().unary::<_, Int64Type>(down))
        }
        DataType::Decimal128(precision, scale) => {
            let multiple = i128::from(multiple);
            let down = |value: i128| value - value.rem_euclid(multiple);
            let cut: Decimal128Array = column.as_primitive::<Decimal128Type>().unary(down);
            Arc::new(cut.with_precision_and_scale(*precision, *scale).ok()?)
        }
        DataType::Utf8 => {
            let cut = |text: Option<&str>| {
                let text = text?;
                let end = text.char_indices().nth(width as usize).map_or(text.len(), |(at, _)| at);
                Some(text[..end].to_owned())
            };
            Arc::new(column.as_string::<i32>().iter().map(cut).collect::<StringArray>())
        }
        DataType::Binary => {
            let cut = |bytes: Option<&[u8]>| {
                let bytes = bytes?;
                Some(bytes[..bytes.len().min(width as usize)].to_owned())
            };
            Arc::new(column.as_binary::<i32>().iter().map(cut).collect::<BinaryArray>())
        }
        _ => return None,
    })
}

/// Computes the 32-bit x86 variant of `MurmurHash3` with seed 0.
fn murmur3(bytes: &[u8]) -> u32 {
    let mix = |word: u32| word.wrapping_mul(0xCC9E_2D51).rotate_left(15).wrapping_mul(0x1B87_3593);
    let (words, rest) = bytes.as_chunks::<4>();
    let mut hash = 0_u32;
    for word in words {
        hash ^= mix(u32::from_le_bytes(*word));
        hash = hash.rotate_left(13).wrapping_mul(5).wrapping_add(0xE654_6B64);
    }
    if !rest.is_empty() {
        let last = rest.iter().rev().fold(0_u32, |word, byte| (word << 8) | u32::from(*byte));
        hash ^= mix(last);
    }
    hash ^= bytes.len() as u32;
    hash = (hash ^ (hash >> 16)).wrapping_mul(0x85EB_CA6B);
    hash = (hash ^ (hash >> 13)).wrapping_mul(0xC2B2_AE35);
    hash ^ (hash >> 16)
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        Decimal128Array, FixedSizeBinaryArray, Int64Array, TimestampMicrosecondArray,
        TimestampNanosecondArray,
    };
    use iceberg::spec::{Datum, Literal, PrimitiveLiteral};
    use iceberg::transform::create_transform_function;

    use super::*;
    use crate::value_conversion::literal_at;

    /// Compares the results with the results of the `iceberg` crate, which transforms single
    /// values.
    fn check(column: ArrayRef, data: Vec<Datum>, transforms: &[Transform]) {
        for transform in transforms {
            let made = transformed(&column, *transform).expect("a transform of this type");
            let function = create_transform_function(transform).expect("a transform");
            for (row, datum) in data.iter().enumerate() {
                let expected = function.transform_literal(datum).expect("a value");
                let expected = expected.map(|datum| datum.literal().clone());
                let found = literal_at(&made, row).and_then(|value| value.as_primitive_literal());
                assert_eq!(found, expected, "{transform} of {datum}");
            }
        }
    }

    const TIMES: [Transform; 4] =
        [Transform::Year, Transform::Month, Transform::Day, Transform::Hour];
    const WIDTHS: [Transform; 4] = [
        Transform::Bucket(16),
        Transform::Bucket(1),
        Transform::Truncate(10),
        Transform::Truncate(3),
    ];

    #[test]
    fn transforms_match_the_iceberg_crate() {
        let longs = vec![0, 1, -1, 34, i64::MAX, i64::MIN + 100, -9, 1_000_000_007];
        let data = longs.iter().map(|value| Datum::long(*value)).collect();
        check(Arc::new(Int64Array::from(longs)), data, &WIDTHS);
        let ints = vec![0, 1, -1, 34, i32::MAX, i32::MIN + 100, -9];
        let data = ints.iter().map(|value| Datum::int(*value)).collect();
        check(Arc::new(Int32Array::from(ints)), data, &WIDTHS);
        let texts = vec!["", "iceberg", "ü", "日本語テキスト", "abcdefghijkl"];
        let data = texts.iter().map(Datum::string).collect();
        check(Arc::new(StringArray::from(texts)), data, &WIDTHS);
        let days = vec![0, -1, 17486, -719_162, 400_000];
        let data = days.iter().map(|day| Datum::date(*day)).collect();
        let transforms = [Transform::Year, Transform::Month, Transform::Day, WIDTHS[0]];
        check(Arc::new(Date32Array::from(days)), data, &transforms);
    }

    #[test]
    fn times_before_1970_are_rounded_down() {
        let micros = vec![0, -1, 1, 1_510_871_468_000_000, -1_510_871_468_000_001];
        let data = micros.iter().map(|value| Datum::timestamp_micros(*value)).collect();
        let column = TimestampMicrosecondArray::from(micros.clone());
        check(Arc::new(column), data, &TIMES);
        let data = micros.iter().map(|value| Datum::timestamp_micros(*value)).collect();
        check(Arc::new(TimestampMicrosecondArray::from(micros)), data, &WIDTHS[..1]);
        let nanos: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![-1]));
        let day = transformed(&nanos, Transform::Day).expect("a day");
        assert_eq!(day.as_primitive::<Date32Type>().value(0), -1);
    }

    #[test]
    fn hashes_match_the_specification() {
        // These test values are from appendix B of Iceberg's specification.
        let hash = |bytes: &[u8]| murmur3(bytes) as i32;
        assert_eq!(hash(&34_i64.to_le_bytes()), 2_017_239_379);
        assert_eq!(hash(b"iceberg"), 1_210_000_089);
        assert_eq!(hash(&[0, 1, 2, 3]), -188_683_207);
        assert_eq!(hash(shortest_bytes(&1420_i128.to_be_bytes())), -500_754_589);
        let uuid = 0xf79c_3e09_677c_4bbd_a479_3f34_9cb7_85e7_u128.to_be_bytes();
        assert_eq!(hash(&uuid), 1_488_055_340);
        assert_eq!(shortest_bytes(&(-1_i128).to_be_bytes()), [0xFF]);
        assert_eq!(shortest_bytes(&128_i128.to_be_bytes()), [0, 128]);
    }

    #[test]
    fn decimals_and_binary_values_are_truncated() {
        let decimals = Decimal128Array::from(vec![1065, -5, 0]).with_precision_and_scale(9, 2);
        let decimals: ArrayRef = Arc::new(decimals.expect("decimals"));
        let cut = transformed(&decimals, Transform::Truncate(50)).expect("decimals are cut");
        assert_eq!(cut.as_primitive::<Decimal128Type>().values()[..], [1050, -50, 0]);
        let bytes: ArrayRef = Arc::new(BinaryArray::from(vec![&b"abcd"[..], b"a"]));
        let cut = transformed(&bytes, Transform::Truncate(2)).expect("bytes are cut");
        assert_eq!(
            literal_at(&cut, 0),
            Some(Literal::Primitive(PrimitiveLiteral::Binary(b"ab".to_vec())))
        );
        let fixed = FixedSizeBinaryArray::try_from_iter([[0_u8, 1, 2, 3]].iter());
        let fixed: ArrayRef = Arc::new(fixed.expect("bytes"));
        let bucket = transformed(&fixed, Transform::Bucket(100)).expect("bytes have buckets");
        assert_eq!(bucket.as_primitive::<Int32Type>().value(0), 1_958_800_441 % 100);
    }
}
