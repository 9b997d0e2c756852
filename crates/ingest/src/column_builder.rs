//! Builder of one column of a record batch, from texts or JSON values.
//!
//! A value that the column's type cannot hold is an error and leaves the column unchanged. The
//! caller can complete the row with nulls and drop it later. If a row fails after only some fields
//! of a nested value were appended, [`ColumnBuilder::repair`] completes the column.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder,
    FixedSizeBinaryBuilder, Float32Builder, Float64Builder, Int32Builder, Int64Builder, ListArray,
    StringBuilder, StructArray, Time64MicrosecondBuilder, TimestampMicrosecondBuilder,
    TimestampNanosecondBuilder,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Decimal128Type, FieldRef, Fields, TimeUnit};

use super::temporal_text::{parse_date, parse_date_time, parse_time};
use super::value_class::{parse_boolean, trim};

/// A value that the column's type cannot hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ValueMismatch;

/// A column under construction.
#[derive(Debug)]
pub(crate) enum ColumnBuilder {
    Boolean(BooleanBuilder),
    Int(Int32Builder),
    Long(Int64Builder),
    Float(Float32Builder),
    Double(Float64Builder),
    Date(Date32Builder),
    Time(Time64MicrosecondBuilder),
    Timestamp(TimestampMicrosecondBuilder),
    ZonedTimestamp(TimestampMicrosecondBuilder),
    Nanoseconds(TimestampNanosecondBuilder),
    ZonedNanoseconds(TimestampNanosecondBuilder),
    Decimal(Decimal128Builder, u8, i8),
    Text(StringBuilder),
    Binary(BinaryBuilder),
    Uuid(FixedSizeBinaryBuilder),
    Struct(StructColumnBuilder),
    List(ListColumnBuilder),
}

/// Builder of a struct column.
#[derive(Debug)]
pub(crate) struct StructColumnBuilder {
    pub fields: Fields,
    pub columns: Vec<ColumnBuilder>,
    pub valid: Vec<bool>,
}

/// Builder of a list column.
#[derive(Debug)]
pub(crate) struct ListColumnBuilder {
    pub field: FieldRef,
    pub element: Box<ColumnBuilder>,
    pub offsets: Vec<i32>,
    pub valid: Vec<bool>,
}

impl ColumnBuilder {
    /// Creates an empty column; `None` for a type that cannot be parsed from text or JSON.
    pub fn new(data_type: &DataType) -> Option<ColumnBuilder> {
        Some(match data_type {
            DataType::Boolean => ColumnBuilder::Boolean(BooleanBuilder::new()),
            DataType::Int32 => ColumnBuilder::Int(Int32Builder::new()),
            DataType::Int64 => ColumnBuilder::Long(Int64Builder::new()),
            DataType::Float32 => ColumnBuilder::Float(Float32Builder::new()),
            DataType::Float64 => ColumnBuilder::Double(Float64Builder::new()),
            DataType::Date32 => ColumnBuilder::Date(Date32Builder::new()),
            DataType::Time64(TimeUnit::Microsecond) => {
                ColumnBuilder::Time(Time64MicrosecondBuilder::new())
            }
            DataType::Timestamp(TimeUnit::Microsecond, None) => {
                ColumnBuilder::Timestamp(TimestampMicrosecondBuilder::new())
            }
            DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => {
                let builder = TimestampMicrosecondBuilder::new().with_data_type(data_type.clone());
                ColumnBuilder::ZonedTimestamp(builder)
            }
            DataType::Timestamp(TimeUnit::Nanosecond, zone) => {
                let builder = TimestampNanosecondBuilder::new().with_data_type(data_type.clone());
                match zone {
                    None => ColumnBuilder::Nanoseconds(builder),
                    Some(_) => ColumnBuilder::ZonedNanoseconds(builder),
                }
            }
            DataType::Decimal128(precision, scale) => {
                let builder = Decimal128Builder::new().with_data_type(data_type.clone());
                ColumnBuilder::Decimal(builder, *precision, *scale)
            }
            DataType::Utf8 => ColumnBuilder::Text(StringBuilder::new()),
            DataType::Binary => ColumnBuilder::Binary(BinaryBuilder::new()),
            DataType::FixedSizeBinary(16) => ColumnBuilder::Uuid(FixedSizeBinaryBuilder::new(16)),
            DataType::Struct(fields) => {
                let columns = fields.iter().map(|field| ColumnBuilder::new(field.data_type()));
                let columns = columns.collect::<Option<_>>()?;
                ColumnBuilder::Struct(StructColumnBuilder {
                    fields: fields.clone(),
                    columns,
                    valid: Vec::new(),
                })
            }
            DataType::List(field) => ColumnBuilder::List(ListColumnBuilder {
                field: field.clone(),
                element: Box::new(ColumnBuilder::new(field.data_type())?),
                offsets: vec![0],
                valid: Vec::new(),
            }),
            _ => return None,
        })
    }

    /// Returns true if the column stores text or bytes. An empty text is then a value, not a null.
    pub fn is_text(&self) -> bool {
        matches!(self, ColumnBuilder::Text(_) | ColumnBuilder::Binary(_))
    }

    /// Returns true if values are objects or lists.
    pub fn is_nested(&self) -> bool {
        matches!(self, ColumnBuilder::Struct(_) | ColumnBuilder::List(_))
    }

    pub fn append_null(&mut self) {
        match self {
            ColumnBuilder::Boolean(builder) => builder.append_null(),
            ColumnBuilder::Int(builder) => builder.append_null(),
            ColumnBuilder::Long(builder) => builder.append_null(),
            ColumnBuilder::Float(builder) => builder.append_null(),
            ColumnBuilder::Double(builder) => builder.append_null(),
            ColumnBuilder::Date(builder) => builder.append_null(),
            ColumnBuilder::Time(builder) => builder.append_null(),
            ColumnBuilder::Timestamp(builder) | ColumnBuilder::ZonedTimestamp(builder) => {
                builder.append_null();
            }
            ColumnBuilder::Nanoseconds(builder) | ColumnBuilder::ZonedNanoseconds(builder) => {
                builder.append_null();
            }
            ColumnBuilder::Decimal(builder, ..) => builder.append_null(),
            ColumnBuilder::Text(builder) => builder.append_null(),
            ColumnBuilder::Binary(builder) => builder.append_null(),
            ColumnBuilder::Uuid(builder) => builder.append_null(),
            ColumnBuilder::Struct(column) => {
                column.columns.iter_mut().for_each(ColumnBuilder::append_null);
                column.valid.push(false);
            }
            ColumnBuilder::List(column) => column.close(false),
        }
    }

    /// Parses and appends a value. Leading and trailing blanks are ignored, except in text.
    #[inline]
    pub fn append_text(&mut self, text: &str) -> Result<(), ValueMismatch> {
        match self {
            ColumnBuilder::Text(builder) => builder.append_value(text),
            ColumnBuilder::Long(builder) => builder.append_value(parse_long(trim(text))?),
            ColumnBuilder::Double(builder) => {
                builder.append_value(trim(text).parse().map_err(|_| ValueMismatch)?);
            }
            ColumnBuilder::Boolean(builder) => {
                builder.append_value(parse_boolean(trim(text)).ok_or(ValueMismatch)?);
            }
            ColumnBuilder::Int(builder) => {
                let value = parse_long(trim(text))?;
                builder.append_value(i32::try_from(value).map_err(|_| ValueMismatch)?);
            }
            ColumnBuilder::Float(builder) => builder.append_value(parse_float(trim(text))?),
            ColumnBuilder::Date(builder) => {
                builder.append_value(parse_date(trim(text)).ok_or(ValueMismatch)?);
            }
            ColumnBuilder::Time(builder) => {
                builder.append_value(parse_time(trim(text)).ok_or(ValueMismatch)?);
            }
            ColumnBuilder::Timestamp(builder) => match parse_date_time(trim(text)) {
                Some(moment) if !moment.zoned => builder.append_value(moment.microseconds),
                _ => return Err(ValueMismatch),
            },
            ColumnBuilder::Nanoseconds(builder) => match parse_date_time(trim(text)) {
                Some(moment) if !moment.zoned => {
                    builder.append_value(moment.in_nanoseconds().ok_or(ValueMismatch)?);
                }
                _ => return Err(ValueMismatch),
            },
            // A timestamp without a zone is interpreted as UTC, because the column has a type with
            // a zone.
            ColumnBuilder::ZonedNanoseconds(builder) => {
                let moment = parse_date_time(trim(text)).ok_or(ValueMismatch)?;
                builder.append_value(moment.in_nanoseconds().ok_or(ValueMismatch)?);
            }
            ColumnBuilder::ZonedTimestamp(builder) => {
                builder
                    .append_value(parse_date_time(trim(text)).ok_or(ValueMismatch)?.microseconds);
            }
            ColumnBuilder::Decimal(builder, precision, scale) => {
                builder.append_value(parse_decimal(trim(text), *precision, *scale)?);
            }
            ColumnBuilder::Binary(builder) => builder.append_value(text),
            ColumnBuilder::Uuid(builder) => {
                let value = uuid::Uuid::parse_str(trim(text)).map_err(|_| ValueMismatch)?;
                builder.append_value(value.as_bytes()).map_err(|_| ValueMismatch)?;
            }
            ColumnBuilder::Struct(_) | ColumnBuilder::List(_) => return Err(ValueMismatch),
        }
        Ok(())
    }

    /// Returns the number of values.
    pub fn len(&self) -> usize {
        use arrow::array::ArrayBuilder;
        match self {
            ColumnBuilder::Boolean(builder) => builder.len(),
            ColumnBuilder::Int(builder) => builder.len(),
            ColumnBuilder::Long(builder) => builder.len(),
            ColumnBuilder::Float(builder) => builder.len(),
            ColumnBuilder::Double(builder) => builder.len(),
            ColumnBuilder::Date(builder) => builder.len(),
            ColumnBuilder::Time(builder) => builder.len(),
            ColumnBuilder::Timestamp(builder) | ColumnBuilder::ZonedTimestamp(builder) => {
                builder.len()
            }
            ColumnBuilder::Nanoseconds(builder) | ColumnBuilder::ZonedNanoseconds(builder) => {
                builder.len()
            }
            ColumnBuilder::Decimal(builder, ..) => builder.len(),
            ColumnBuilder::Text(builder) => builder.len(),
            ColumnBuilder::Binary(builder) => builder.len(),
            ColumnBuilder::Uuid(builder) => builder.len(),
            ColumnBuilder::Struct(column) => column.valid.len(),
            ColumnBuilder::List(column) => column.valid.len(),
        }
    }

    /// Returns the number of values, including a last struct of which only some fields were
    /// appended.
    fn extent(&self) -> usize {
        match self {
            ColumnBuilder::Struct(column) => {
                let inner = column.columns.iter().map(ColumnBuilder::extent);
                inner.max().unwrap_or(0).max(column.valid.len())
            }
            other => other.len(),
        }
    }

    /// Appends nulls until the column has `length` values. Also completes a nested value that was
    /// only partly appended.
    pub fn repair(&mut self, length: usize) {
        match self {
            ColumnBuilder::Struct(column) => {
                column.valid.resize(length, false);
                column.columns.iter_mut().for_each(|column| column.repair(length));
            }
            ColumnBuilder::List(column) => {
                let elements = column.element.extent();
                column.element.repair(elements);
                while column.valid.len() < length {
                    column.close(false);
                }
            }
            other => {
                while other.len() < length {
                    other.append_null();
                }
            }
        }
    }

    /// Returns the values so far as an array and empties the column.
    pub fn finish(&mut self) -> Result<ArrayRef, arrow::error::ArrowError> {
        Ok(match self {
            ColumnBuilder::Boolean(builder) => Arc::new(builder.finish()),
            ColumnBuilder::Int(builder) => Arc::new(builder.finish()),
            ColumnBuilder::Long(builder) => Arc::new(builder.finish()),
            ColumnBuilder::Float(builder) => Arc::new(builder.finish()),
            ColumnBuilder::Double(builder) => Arc::new(builder.finish()),
            ColumnBuilder::Date(builder) => Arc::new(builder.finish()),
            ColumnBuilder::Time(builder) => Arc::new(builder.finish()),
            ColumnBuilder::Timestamp(builder) | ColumnBuilder::ZonedTimestamp(builder) => {
                Arc::new(builder.finish())
            }
            ColumnBuilder::Nanoseconds(builder) | ColumnBuilder::ZonedNanoseconds(builder) => {
                Arc::new(builder.finish())
            }
            ColumnBuilder::Decimal(builder, ..) => Arc::new(builder.finish()),
            ColumnBuilder::Text(builder) => Arc::new(builder.finish()),
            ColumnBuilder::Binary(builder) => Arc::new(builder.finish()),
            ColumnBuilder::Uuid(builder) => Arc::new(builder.finish()),
            ColumnBuilder::Struct(column) => column.finish()?,
            ColumnBuilder::List(column) => column.finish()?,
        })
    }
}

impl StructColumnBuilder {
    fn finish(&mut self) -> Result<ArrayRef, arrow::error::ArrowError> {
        let columns =
            self.columns.iter_mut().map(ColumnBuilder::finish).collect::<Result<Vec<_>, _>>()?;
        let nulls = NullBuffer::from(std::mem::take(&mut self.valid));
        Ok(Arc::new(StructArray::try_new(self.fields.clone(), columns, Some(nulls))?))
    }
}

impl ListColumnBuilder {
    /// Ends the current list, which consists of the elements that were appended since the end of
    /// the previous list.
    pub fn close(&mut self, valid: bool) {
        // The conversion cannot fail: a batch has far fewer than 2^31 elements, because rows and
        // batches are limited in size.
        self.offsets.push(i32::try_from(self.element.len()).unwrap_or(i32::MAX));
        self.valid.push(valid);
    }

    fn finish(&mut self) -> Result<ArrayRef, arrow::error::ArrowError> {
        let elements = self.element.finish()?;
        let offsets = OffsetBuffer::new(std::mem::replace(&mut self.offsets, vec![0]).into());
        let nulls = NullBuffer::from(std::mem::take(&mut self.valid));
        Ok(Arc::new(ListArray::try_new(self.field.clone(), offsets, elements, Some(nulls))?))
    }
}

/// Parses a whole number. Leading zeros are allowed, because the type is known to be a number.
fn parse_long(text: &str) -> Result<i64, ValueMismatch> {
    text.parse().map_err(|_| ValueMismatch)
}

/// Parses a 32-bit float. A number out of range is a mismatch.
fn parse_float(text: &str) -> Result<f32, ValueMismatch> {
    let value: f32 = text.parse().map_err(|_| ValueMismatch)?;
    let too_large = value.is_infinite() && text.bytes().any(|byte| byte.is_ascii_digit());
    if too_large { Err(ValueMismatch) } else { Ok(value) }
}

/// Parses a decimal. A number that would lose digits at the type's scale is a mismatch.
fn parse_decimal(text: &str, precision: u8, scale: i8) -> Result<i128, ValueMismatch> {
    let text = text.strip_prefix('+').unwrap_or(text);
    let fraction = text.split_once('.').map_or("", |(_, fraction)| fraction);
    let kept = usize::try_from(scale).unwrap_or(0);
    let has_digit = text.bytes().any(|byte| byte.is_ascii_digit());
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'-'));
    let lost = fraction.bytes().skip(kept).any(|byte| byte != b'0');
    if !has_digit || !plain || lost {
        return Err(ValueMismatch);
    }
    arrow::compute::kernels::cast_utils::parse_decimal::<Decimal128Type>(text, precision, scale)
        .map_err(|_| ValueMismatch)
}

#[cfg(test)]
mod tests {
    use arrow::array::Array;
    use arrow::util::display::array_value_to_string;

    use super::*;

    /// Parses the values as `data_type`; `!` in `expected` marks a value that does not fit.
    fn check(data_type: &DataType, values: &[&str], expected: &[&str]) {
        let mut column = ColumnBuilder::new(data_type).unwrap();
        let misfits: Vec<bool> = values
            .iter()
            .map(|value| {
                let misfit = column.append_text(value).is_err();
                if misfit {
                    column.append_null();
                }
                misfit
            })
            .collect();
        let array = column.finish().unwrap();
        let shown: Vec<String> = (0..array.len())
            .map(|row| {
                let shown = array_value_to_string(&array, row).unwrap();
                if misfits[row] { "!".to_owned() } else { shown }
            })
            .collect();
        assert_eq!(shown, expected, "{data_type}");
    }

    #[test]
    fn texts_become_values_or_do_not_fit() {
        use DataType::{Boolean, Date32, Decimal128, Float32, Float64, Int32, Int64, Utf8};
        check(&Boolean, &["true", " FALSE ", "1"], &["true", "false", "!"]);
        check(&Int32, &["2147483647", "2147483648", "1.0"], &["2147483647", "!", "!"]);
        check(&Int64, &[" 7 ", "007", "-1", "1e3", ""], &["7", "7", "-1", "!", "!"]);
        check(&Float32, &["1.5", "1e39", "inf"], &["1.5", "!", "inf"]);
        check(&Float64, &["1", "1e3", "NaN", "x"], &["1.0", "1000.0", "NaN", "!"]);
        check(&Date32, &["2013-01-31", "2013-01-31 10:00"], &["2013-01-31", "!"]);
        check(
            &Decimal128(5, 2),
            &["1.5", "123.450", "1.005", "1234.5", "-.5", "1e2", "--1"],
            &["1.50", "123.45", "!", "!", "-0.50", "!", "!"],
        );
        check(&Utf8, &[" a ", ""], &[" a ", ""]);
        let local = DataType::Timestamp(TimeUnit::Microsecond, None);
        let zoned = DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into()));
        let texts = ["2013-01-01", "2013-01-01T10:00:00+02:00"];
        check(&local, &texts, &["2013-01-01T00:00:00", "!"]);
        check(&zoned, &texts, &["2013-01-01T00:00:00Z", "2013-01-01T08:00:00Z"]);
        let uuid = "67e55044-10b1-426f-9247-bb680e5fe0c8";
        check(
            &DataType::FixedSizeBinary(16),
            &[uuid, "x"],
            &["67e5504410b1426f9247bb680e5fe0c8", "!"],
        );
    }

    #[test]
    fn a_nested_row_that_fails_half_way_is_repaired() {
        let element =
            DataType::Struct(vec![arrow::datatypes::Field::new("a", DataType::Int64, true)].into());
        let field = Arc::new(arrow::datatypes::Field::new("element", element, true));
        let mut column = ColumnBuilder::new(&DataType::List(field)).unwrap();
        if let ColumnBuilder::List(list) = &mut column
            && let ColumnBuilder::Struct(inner) = list.element.as_mut()
        {
            inner.columns[0].append_text("1").unwrap();
        }
        column.repair(1);
        column.append_null();
        let array = column.finish().unwrap();
        assert_eq!((array.len(), array.null_count()), (2, 2));
    }
}
