//! Encodes columns of record batches as PostgreSQL values, in text and binary format.

use std::fmt::Write;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BinaryViewArray, BooleanArray, Float32Array,
    Float64Array, Int16Array, Int32Array, Int64Array, LargeListArray, PrimitiveArray,
    StringViewArray,
};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{
    DataType, Date32Type, FieldRef, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
    IntervalMonthDayNanoType, IntervalUnit, Time64MicrosecondType, TimeUnit,
    TimestampMicrosecondType,
};
use arrow::error::ArrowError;
use arrow::util::display::FormatOptions;
use bytes::{BufMut, BytesMut};
use headwater_encoding::json_texts;
use headwater_postgres_catalog::{PgType, ScalarType};

use crate::binary_numeric;
use crate::text_format::{self, IntervalStyle};

/// The number of days from 1970-01-01 to 2000-01-01, the epoch of PostgreSQL's dates.
pub const EPOCH_DAYS: i32 = 10_957;

/// Microseconds from 1970-01-01 to 2000-01-01.
pub const EPOCH_MICROS: i64 = EPOCH_DAYS as i64 * 86_400_000_000;

/// The values of a column, as an Arrow array with exactly one PostgreSQL encoding.
pub struct ColumnEncoder {
    array: ArrayRef,
    values: ColumnValues,
}

enum ColumnValues {
    Bool(BooleanArray),
    Int2(Int16Array),
    Int4(Int32Array),
    Int8(Int64Array),
    Float4(Float32Array),
    Float8(Float64Array),
    Numeric(StringViewArray),
    Text(StringViewArray),
    Bytea(BinaryViewArray),
    Uuid(BinaryViewArray),
    Date(PrimitiveArray<Date32Type>),
    Time(PrimitiveArray<Time64MicrosecondType>),
    Timestamp(PrimitiveArray<TimestampMicrosecondType>, bool),
    Interval(PrimitiveArray<IntervalMonthDayNanoType>, IntervalStyle),
    List(LargeListArray, Box<ColumnEncoder>, PgType),
}

impl ColumnEncoder {
    /// Converts a column to its PostgreSQL type. `style` is the form of intervals in text.
    ///
    /// Errors: a value that the type cannot represent, such as a time outside of its range.
    pub fn new(
        field: &FieldRef,
        array: &ArrayRef,
        style: IntervalStyle,
    ) -> Result<Self, ArrowError> {
        let pg_type = PgType::of_field(field);
        let values = if pg_type.is_array {
            list(field, array, style)?
        } else {
            scalar(pg_type.scalar, field, array, style)?
        };
        Ok(ColumnEncoder { array: array.clone(), values })
    }

    /// Writes the length and the bytes of a value; the length of null is -1.
    pub fn write(&self, row: usize, is_binary: bool, out: &mut BytesMut) {
        if self.is_null(row) {
            out.put_i32(-1);
            return;
        }
        let start = out.len();
        out.put_u32(0);
        if is_binary {
            self.write_binary(row, out);
        } else {
            self.write_text(row, out);
        }
        let length = (out.len() - start - 4) as u32;
        out[start..start + 4].copy_from_slice(&length.to_be_bytes());
    }

    fn is_null(&self, row: usize) -> bool {
        self.array.is_null(row) || self.array.data_type() == &DataType::Null
    }

    fn write_binary(&self, row: usize, out: &mut BytesMut) {
        match &self.values {
            ColumnValues::Bool(array) => out.put_u8(u8::from(array.value(row))),
            ColumnValues::Int2(array) => out.put_i16(array.value(row)),
            ColumnValues::Int4(array) => out.put_i32(array.value(row)),
            ColumnValues::Int8(array) => out.put_i64(array.value(row)),
            ColumnValues::Float4(array) => out.put_f32(array.value(row)),
            ColumnValues::Float8(array) => out.put_f64(array.value(row)),
            ColumnValues::Numeric(array) => binary_numeric::put_binary(array.value(row), out),
            ColumnValues::Text(array) => out.extend_from_slice(array.value(row).as_bytes()),
            ColumnValues::Bytea(array) | ColumnValues::Uuid(array) => {
                out.extend_from_slice(array.value(row));
            }
            ColumnValues::Date(array) => out.put_i32(array.value(row).saturating_sub(EPOCH_DAYS)),
            ColumnValues::Time(array) => out.put_i64(array.value(row)),
            ColumnValues::Timestamp(array, _) => {
                out.put_i64(array.value(row).saturating_sub(EPOCH_MICROS));
            }
            ColumnValues::Interval(array, _) => {
                let interval = array.value(row);
                out.put_i64(interval.nanoseconds / 1_000);
                out.put_i32(interval.days);
                out.put_i32(interval.months);
            }
            ColumnValues::List(array, items, pg_type) => {
                let range = range(array, row);
                let has_null = range.clone().any(|item| items.is_null(item));
                out.put_i32(i32::from(!range.is_empty()));
                out.put_i32(i32::from(has_null));
                out.put_u32(PgType::of(pg_type.scalar).oid());
                if !range.is_empty() {
                    out.put_i32(range.len() as i32);
                    out.put_i32(1);
                    range.for_each(|item| items.write(item, true, out));
                }
            }
        }
    }

    fn write_text(&self, row: usize, out: &mut BytesMut) {
        // A write to memory cannot fail.
        let _ = match &self.values {
            ColumnValues::Bool(array) => out.write_char(if array.value(row) { 't' } else { 'f' }),
            ColumnValues::Int2(array) => write!(out, "{}", array.value(row)),
            ColumnValues::Int4(array) => write!(out, "{}", array.value(row)),
            ColumnValues::Int8(array) => write!(out, "{}", array.value(row)),
            ColumnValues::Float4(array) => text_format::put_float(array.value(row), out),
            ColumnValues::Float8(array) => text_format::put_float(array.value(row), out),
            ColumnValues::Numeric(array) | ColumnValues::Text(array) => {
                out.write_str(array.value(row))
            }
            ColumnValues::Bytea(array) => write!(out, "\\x{}", hex::encode(array.value(row))),
            ColumnValues::Uuid(array) => {
                let uuid = uuid::Uuid::from_slice(array.value(row)).unwrap_or_default();
                write!(out, "{uuid}")
            }
            ColumnValues::Date(array) => text_format::put_date(i64::from(array.value(row)), out),
            ColumnValues::Time(array) => text_format::put_time(array.value(row), out),
            ColumnValues::Timestamp(array, zone) => {
                text_format::put_timestamp(array.value(row), *zone, out)
            }
            ColumnValues::Interval(array, style) => {
                text_format::put_interval(array.value(row), *style, out)
            }
            ColumnValues::List(array, items, _) => items.write_array(range(array, row), out),
        };
    }

    /// Writes values as the text of an array: `{1,NULL,"a b"}`.
    fn write_array(&self, range: std::ops::Range<usize>, out: &mut BytesMut) -> std::fmt::Result {
        let mut item_text = BytesMut::new();
        let first = range.start;
        out.write_char('{')?;
        for item in range {
            if item > first {
                out.write_char(',')?;
            }
            if self.is_null(item) {
                out.write_str("NULL")?;
                continue;
            }
            item_text.clear();
            self.write_text(item, &mut item_text);
            text_format::put_item(&item_text, out);
        }
        out.write_char('}')
    }
}

fn range(array: &LargeListArray, row: usize) -> std::ops::Range<usize> {
    let offsets = array.value_offsets();
    offsets[row] as usize..offsets[row + 1] as usize
}

fn list(
    field: &FieldRef,
    array: &ArrayRef,
    style: IntervalStyle,
) -> Result<ColumnValues, ArrowError> {
    let (DataType::List(item) | DataType::LargeList(item)) = field.data_type() else {
        return Err(ArrowError::CastError(format!("{} is not a list", field.data_type())));
    };
    let lists = cast(array, &DataType::LargeList(item.clone()))?;
    let lists = lists.as_list::<i64>().clone();
    let items = ColumnEncoder::new(item, lists.values(), style)?;
    Ok(ColumnValues::List(lists, Box::new(items), PgType::of_field(field)))
}

fn scalar(
    scalar: ScalarType,
    field: &FieldRef,
    array: &ArrayRef,
    style: IntervalStyle,
) -> Result<ColumnValues, ArrowError> {
    let micros = TimeUnit::Microsecond;
    let to = |data_type: DataType| cast(array, &data_type);
    Ok(match scalar {
        ScalarType::Bool => ColumnValues::Bool(to(DataType::Boolean)?.as_boolean().clone()),
        ScalarType::Int2 => {
            ColumnValues::Int2(to(DataType::Int16)?.as_primitive::<Int16Type>().clone())
        }
        ScalarType::Int4 => {
            ColumnValues::Int4(to(DataType::Int32)?.as_primitive::<Int32Type>().clone())
        }
        // No column has the type `oid`.
        ScalarType::Int8 | ScalarType::Oid => {
            ColumnValues::Int8(to(DataType::Int64)?.as_primitive::<Int64Type>().clone())
        }
        ScalarType::Float4 => {
            ColumnValues::Float4(to(DataType::Float32)?.as_primitive::<Float32Type>().clone())
        }
        ScalarType::Float8 => {
            ColumnValues::Float8(to(DataType::Float64)?.as_primitive::<Float64Type>().clone())
        }
        ScalarType::Numeric => {
            ColumnValues::Numeric(to(DataType::Utf8View)?.as_string_view().clone())
        }
        ScalarType::Text => ColumnValues::Text(to(DataType::Utf8View)?.as_string_view().clone()),
        ScalarType::Json => {
            let texts = json_texts(field, array)?;
            ColumnValues::Text(texts.iter().collect())
        }
        ScalarType::Bytea => {
            ColumnValues::Bytea(to(DataType::BinaryView)?.as_binary_view().clone())
        }
        ScalarType::Uuid => ColumnValues::Uuid(to(DataType::BinaryView)?.as_binary_view().clone()),
        ScalarType::Date => ColumnValues::Date(to(DataType::Date32)?.as_primitive().clone()),
        ScalarType::Time => {
            ColumnValues::Time(to(DataType::Time64(micros))?.as_primitive().clone())
        }
        ScalarType::Timestamp | ScalarType::Timestamptz => {
            let zone = zone(array.data_type());
            let is_zoned = zone.is_some();
            let array = to(DataType::Timestamp(micros, zone))?;
            ColumnValues::Timestamp(primitive(&array), is_zoned)
        }
        ScalarType::Interval => {
            let array = to(DataType::Interval(IntervalUnit::MonthDayNano))?;
            ColumnValues::Interval(primitive(&array), style)
        }
    })
}

fn primitive<T: ArrowPrimitiveType>(array: &ArrayRef) -> PrimitiveArray<T> {
    array.as_primitive::<T>().clone()
}

fn zone(data_type: &DataType) -> Option<std::sync::Arc<str>> {
    match data_type {
        DataType::Timestamp(_, zone) => zone.clone(),
        DataType::Dictionary(_, value) => zone(value),
        _ => None,
    }
}

/// Casts an array. Returns an error for a value that does not fit, in place of null.
fn cast(array: &ArrayRef, data_type: &DataType) -> Result<ArrayRef, ArrowError> {
    let options = CastOptions { safe: false, format_options: FormatOptions::default() };
    cast_with_options(array, data_type, &options)
}
