//! Converts single values, such as bounds and partition values, between Iceberg and Arrow.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryBuilder, BooleanBuilder, Decimal128Builder,
    FixedSizeBinaryBuilder, PrimitiveBuilder, StringBuilder, new_null_array,
};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int32Type,
    Int64Type, Time64MicrosecondType, TimeUnit, TimestampMicrosecondType, TimestampNanosecondType,
};
use iceberg::spec::{Literal, PrimitiveLiteral};

/// Builds an Arrow array of optional values. A value of an unexpected type becomes null.
pub fn to_array<'a>(
    data_type: &DataType,
    values: impl ExactSizeIterator<Item = Option<&'a PrimitiveLiteral>>,
) -> ArrayRef {
    match data_type {
        DataType::Boolean => booleans(values),
        DataType::Int32 => numbers::<Int32Type>(data_type, values, as_int),
        DataType::Date32 => numbers::<Date32Type>(data_type, values, as_int),
        DataType::Int64 => numbers::<Int64Type>(data_type, values, as_long),
        DataType::Time64(TimeUnit::Microsecond) => {
            numbers::<Time64MicrosecondType>(data_type, values, as_long)
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            numbers::<TimestampMicrosecondType>(data_type, values, |value| {
                as_timestamp(value, MICROS_PER_DAY)
            })
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            let nanos = MICROS_PER_DAY.saturating_mul(1000);
            numbers::<TimestampNanosecondType>(data_type, values, |value| {
                as_timestamp(value, nanos)
            })
        }
        DataType::Float32 => numbers::<Float32Type>(data_type, values, |value| match value {
            PrimitiveLiteral::Float(value) => Some(value.0),
            PrimitiveLiteral::Double(value) => Some(value.0 as f32),
            _ => None,
        }),
        DataType::Float64 => numbers::<Float64Type>(data_type, values, |value| match value {
            PrimitiveLiteral::Double(value) => Some(value.0),
            PrimitiveLiteral::Float(value) => Some(f64::from(value.0)),
            _ => None,
        }),
        DataType::Decimal128(..) => decimals(data_type, values),
        DataType::Utf8 => strings(values),
        DataType::Binary => binaries(values),
        DataType::FixedSizeBinary(width) => fixed(*width, values),
        other => new_null_array(other, values.len()),
    }
}

fn numbers<'a, T: ArrowPrimitiveType>(
    data_type: &DataType,
    values: impl ExactSizeIterator<Item = Option<&'a PrimitiveLiteral>>,
    native: impl Fn(&PrimitiveLiteral) -> Option<T::Native>,
) -> ArrayRef {
    let mut builder =
        PrimitiveBuilder::<T>::with_capacity(values.len()).with_data_type(data_type.clone());
    values.for_each(|value| builder.append_option(value.and_then(&native)));
    Arc::new(builder.finish())
}

/// Returns an int. The stored value may be a long.
fn as_int(value: &PrimitiveLiteral) -> Option<i32> {
    match value {
        PrimitiveLiteral::Int(value) => Some(*value),
        PrimitiveLiteral::Long(value) => i32::try_from(*value).ok(),
        _ => None,
    }
}

/// Returns a long. The stored value is an int if it was written before the column was promoted to
/// long.
fn as_long(value: &PrimitiveLiteral) -> Option<i64> {
    match value {
        PrimitiveLiteral::Long(value) => Some(*value),
        PrimitiveLiteral::Int(value) => Some(i64::from(*value)),
        _ => None,
    }
}

/// Microseconds per day.
const MICROS_PER_DAY: i64 = 86_400_000_000;

/// Returns a timestamp. The stored value is a date if it was written before the column was promoted
/// to timestamp.
fn as_timestamp(value: &PrimitiveLiteral, of_day: i64) -> Option<i64> {
    match value {
        PrimitiveLiteral::Long(value) => Some(*value),
        PrimitiveLiteral::Int(days) => i64::from(*days).checked_mul(of_day),
        _ => None,
    }
}

fn booleans<'a>(values: impl Iterator<Item = Option<&'a PrimitiveLiteral>>) -> ArrayRef {
    let mut builder = BooleanBuilder::new();
    for value in values {
        builder.append_option(match value {
            Some(PrimitiveLiteral::Boolean(value)) => Some(*value),
            _ => None,
        });
    }
    Arc::new(builder.finish())
}

fn decimals<'a>(
    data_type: &DataType,
    values: impl Iterator<Item = Option<&'a PrimitiveLiteral>>,
) -> ArrayRef {
    let mut builder = Decimal128Builder::new().with_data_type(data_type.clone());
    for value in values {
        builder.append_option(match value {
            Some(PrimitiveLiteral::Int128(value)) => Some(*value),
            _ => None,
        });
    }
    Arc::new(builder.finish())
}

fn strings<'a>(values: impl Iterator<Item = Option<&'a PrimitiveLiteral>>) -> ArrayRef {
    let mut builder = StringBuilder::new();
    for value in values {
        builder.append_option(match value {
            Some(PrimitiveLiteral::String(value)) => Some(value),
            _ => None,
        });
    }
    Arc::new(builder.finish())
}

fn binaries<'a>(values: impl Iterator<Item = Option<&'a PrimitiveLiteral>>) -> ArrayRef {
    let mut builder = BinaryBuilder::new();
    for value in values {
        builder.append_option(match value {
            Some(PrimitiveLiteral::Binary(value)) => Some(value),
            _ => None,
        });
    }
    Arc::new(builder.finish())
}

fn fixed<'a>(width: i32, values: impl Iterator<Item = Option<&'a PrimitiveLiteral>>) -> ArrayRef {
    let mut builder = FixedSizeBinaryBuilder::new(width);
    for value in values {
        let appended = match value {
            Some(PrimitiveLiteral::Binary(value)) => builder.append_value(value).is_ok(),
            Some(PrimitiveLiteral::UInt128(value)) => {
                builder.append_value(value.to_be_bytes()).is_ok()
            }
            _ => false,
        };
        if !appended {
            builder.append_null();
        }
    }
    Arc::new(builder.finish())
}

/// Returns one value of an array as an Iceberg literal; `None` for a null and for unsupported
/// types.
pub fn literal_at(array: &dyn Array, row: usize) -> Option<Literal> {
    if array.is_null(row) {
        return None;
    }
    let literal = match array.data_type() {
        DataType::Boolean => PrimitiveLiteral::Boolean(array.as_boolean().value(row)),
        DataType::Int32 => PrimitiveLiteral::Int(array.as_primitive::<Int32Type>().value(row)),
        DataType::Date32 => PrimitiveLiteral::Int(array.as_primitive::<Date32Type>().value(row)),
        DataType::Int64 => PrimitiveLiteral::Long(array.as_primitive::<Int64Type>().value(row)),
        DataType::Time64(TimeUnit::Microsecond) => {
            PrimitiveLiteral::Long(array.as_primitive::<Time64MicrosecondType>().value(row))
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            PrimitiveLiteral::Long(array.as_primitive::<TimestampMicrosecondType>().value(row))
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            PrimitiveLiteral::Long(array.as_primitive::<TimestampNanosecondType>().value(row))
        }
        DataType::Float32 => {
            PrimitiveLiteral::Float(array.as_primitive::<Float32Type>().value(row).into())
        }
        DataType::Float64 => {
            PrimitiveLiteral::Double(array.as_primitive::<Float64Type>().value(row).into())
        }
        DataType::Decimal128(..) => {
            PrimitiveLiteral::Int128(array.as_primitive::<Decimal128Type>().value(row))
        }
        DataType::Utf8 => PrimitiveLiteral::String(array.as_string::<i32>().value(row).to_owned()),
        DataType::Binary => PrimitiveLiteral::Binary(array.as_binary::<i32>().value(row).to_vec()),
        DataType::FixedSizeBinary(_) => {
            PrimitiveLiteral::Binary(array.as_fixed_size_binary().value(row).to_vec())
        }
        _ => return None,
    };
    Some(Literal::Primitive(literal))
}
