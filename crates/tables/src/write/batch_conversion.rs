//! Converts input rows to the table's schema: matches columns by name, and casts their values.
//!
//! Only lossless casts are allowed. A value that does not fit causes an error that names the
//! column. Values never become null, wrap around or get rounded, with two exceptions: fractions are
//! rounded to the nearest float, and timestamps are truncated to microseconds.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, ListArray, MapArray, RecordBatch, RecordBatchOptions, StructArray,
    new_empty_array,
};
use arrow::buffer::NullBuffer;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use arrow::error::ArrowError;
use headwater_model::nearest;
use headwater_table_format::bad_value::{bad_value, failed_row};

use super::batch_slices::BatchSlices;
use crate::column_defaults::{has_write_default, missing_in_rows};
use crate::types::{field_type_name, join, type_name};
use crate::{Error, Result};

/// The conversion of batches with one schema to the table's schema.
#[derive(Debug)]
pub(crate) struct BatchConversion {
    input: SchemaRef,
    table: SchemaRef,
    /// For each column of the table, its index in the input.
    positions: Vec<Option<usize>>,
}

impl BatchConversion {
    /// Matches the columns by name. Prefers exact matches to matches that ignore case.
    pub(crate) fn new(input: SchemaRef, table: SchemaRef) -> Result<Self> {
        let positions = positions(input.fields(), table.fields(), "")?;
        Ok(BatchConversion { input, table, positions })
    }

    /// Returns true if the conversion applies to batches of this schema.
    pub(crate) fn accepts(&self, input: &SchemaRef) -> bool {
        Arc::ptr_eq(&self.input, input) || self.input == *input
    }

    /// Slices a batch so that each converted slice fits into memory.
    pub(crate) fn slices<'a>(&self, batch: &'a RecordBatch) -> BatchSlices<'a> {
        BatchSlices::new(batch, self.table.fields(), &self.positions)
    }

    /// Converts a batch to the table's columns, order and types.
    pub(crate) fn apply(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let columns =
            self.table.fields().iter().zip(&self.positions).map(
                |(field, position)| match position {
                    Some(position) => convert_column(batch.column(*position), field, field.name()),
                    None => Ok(missing_in_rows(field, batch.num_rows())),
                },
            );
        let columns = columns.collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(self.table.clone(), columns, &options)
            .map_err(|error| Error::internal("written", error))
    }
}

/// Checks that the columns of rows can be converted to the columns of a table with the same names,
/// and that no required column is missing. Ignores the values, and columns that the table does not
/// have.
pub fn check_types(rows: &Schema, table: &Schema) -> Result<()> {
    let missing = |field: &&FieldRef| {
        let is_required = !field.is_nullable() && !has_write_default(field);
        is_required && position_of(rows.fields(), table.fields(), field.name()).is_none()
    };
    if let Some(field) = table.fields().iter().find(missing) {
        return Err(Error::MissingColumn { column: field.name().clone() });
    }
    for column in rows.fields() {
        if let Ok(field) = table.field_with_name(column.name()) {
            convert_values(&new_empty_array(column.data_type()), field, field.name())?;
        }
    }
    Ok(())
}

/// Checks that the values of rows can be converted to the columns of a table with the same names.
/// Ignores columns that the table does not have.
pub fn check_values(rows: &RecordBatch, table: &Schema) -> Result<()> {
    for piece in BatchSlices::new(rows, &Fields::empty(), &[]) {
        for (column, array) in piece.schema_ref().fields().iter().zip(piece.columns()) {
            if let Ok(field) = table.field_with_name(column.name()) {
                convert_column(array, field, field.name())?;
            }
        }
    }
    Ok(())
}

/// Returns the index of each table field among the input fields. A missing field must be
/// nullable or have a default; a field that the table does not have is an error.
fn positions(found: &Fields, wanted: &Fields, parent: &str) -> Result<Vec<Option<usize>>> {
    let mut used = vec![false; found.len()];
    let mut positions = Vec::with_capacity(wanted.len());
    for field in wanted {
        let position = position_of(found, wanted, field.name());
        match position {
            Some(position) => used[position] = true,
            None if field.is_nullable() || has_write_default(field) => {}
            None => return Err(Error::MissingColumn { column: join(parent, field.name()) }),
        }
        positions.push(position);
    }
    match used.iter().position(|used| !used) {
        None => Ok(positions),
        Some(extra) => Err(Error::ColumnNotFound {
            column: join(parent, found[extra].name()),
            near: nearest(found[extra].name(), wanted.iter().map(|field| field.name().as_str())),
        }),
    }
}

fn position_of(found: &Fields, wanted: &Fields, name: &str) -> Option<usize> {
    let exact = found.iter().position(|field| field.name() == name);
    // Otherwise, a field matches the only field whose name differs just in case.
    let folded = name.to_lowercase();
    let same = |field: &&FieldRef| field.name().to_lowercase() == folded;
    exact.or_else(|| {
        let is_unique =
            wanted.iter().filter(same).count() == 1 && found.iter().filter(same).count() == 1;
        is_unique.then(|| found.iter().position(|field| same(&field))).flatten()
    })
}

/// Converts an array to a column of the table.
fn convert_column(array: &ArrayRef, field: &Field, column: &str) -> Result<ArrayRef> {
    let fitted = convert_values(array, field, column)?;
    if !field.is_nullable() {
        let rows = fitted.logical_null_count();
        if rows > 0 {
            return Err(Error::NullValue { column: column.to_owned(), rows });
        }
    }
    Ok(fitted)
}

fn convert_values(array: &ArrayRef, field: &Field, column: &str) -> Result<ArrayRef> {
    match (array.data_type(), field.data_type()) {
        (DataType::Dictionary(_, values), _) => {
            convert_values(&cast(array, values, field, column)?, field, column)
        }
        (DataType::RunEndEncoded(_, values), _) => {
            convert_values(&cast(array, values.data_type(), field, column)?, field, column)
        }
        (DataType::Struct(_), DataType::Struct(wanted)) => convert_struct(array, wanted, column),
        (DataType::List(_), DataType::List(element)) => convert_list(array, element, column),
        (
            DataType::LargeList(item)
            | DataType::ListView(item)
            | DataType::LargeListView(item)
            | DataType::FixedSizeList(item, _),
            DataType::List(element),
        ) => {
            let list = cast(array, &DataType::List(item.clone()), field, column)?;
            convert_list(&list, element, column)
        }
        (DataType::Map(..), DataType::Map(entries, _)) => convert_map(array, entries, column),
        (found, wanted) if found == wanted => Ok(array.clone()),
        (found, wanted) => match conversion(found, wanted) {
            Conversion::Cast => cast(array, wanted, field, column),
            Conversion::RoundTrip => round_trip(array, field, column),
            Conversion::None => Err(Error::WrongType {
                column: column.to_owned(),
                found: type_name(found),
                expected: field_type_name(field),
            }),
        },
    }
}

fn convert_struct(array: &ArrayRef, wanted: &Fields, column: &str) -> Result<ArrayRef> {
    let array = array.as_struct();
    let positions = positions(array.fields(), wanted, column)?;
    let parts = wanted.iter().zip(positions).map(|(field, position)| {
        let path = join(column, field.name());
        let Some(position) = position else { return Ok(missing_in_rows(field, array.len())) };
        let part = convert_values(array.column(position), field, &path)?;
        check_part(part.as_ref(), array.nulls(), field, path)?;
        Ok(part)
    });
    let parts = parts.collect::<Result<Vec<_>>>()?;
    let converted = StructArray::try_new_with_length(
        wanted.clone(),
        parts,
        array.nulls().cloned(),
        array.len(),
    );
    Ok(Arc::new(converted.map_err(|error| Error::internal("written", error))?))
}

/// Rejects a null in a required field, unless the parent struct is null.
fn check_part(
    part: &dyn Array,
    parent: Option<&NullBuffer>,
    field: &Field,
    column: String,
) -> Result<()> {
    if field.is_nullable() {
        return Ok(());
    }
    let Some(nulls) = part.logical_nulls() else { return Ok(()) };
    let is_null =
        |row: &usize| nulls.is_null(*row) && parent.is_none_or(|parent| parent.is_valid(*row));
    let rows = (0..part.len()).filter(is_null).count();
    if rows > 0 { Err(Error::NullValue { column, rows }) } else { Ok(()) }
}

fn convert_list(array: &ArrayRef, element: &FieldRef, column: &str) -> Result<ArrayRef> {
    let list = array.as_list::<i32>();
    // A sliced array may have values outside its offsets. They belong to no list, so ignore them.
    let (first, last) =
        (list.value_offsets()[0] as usize, list.value_offsets()[list.len()] as usize);
    let values = list.values().slice(first, last - first);
    let offsets = arrow::buffer::OffsetBuffer::from_lengths(list.offsets().lengths());
    let values = convert_column(&values, element, &join(column, "element"))?;
    let converted = ListArray::try_new(element.clone(), offsets, values, list.nulls().cloned());
    Ok(Arc::new(converted.map_err(|error| Error::internal("written", error))?))
}

fn convert_map(array: &ArrayRef, entries: &FieldRef, column: &str) -> Result<ArrayRef> {
    let map = array.as_map();
    let (first, last) = (map.value_offsets()[0] as usize, map.value_offsets()[map.len()] as usize);
    let (key, value) = crate::types::schema::entry_fields(entries)?;
    let keys = convert_column(&map.keys().slice(first, last - first), key, &join(column, "key"))?;
    let values =
        convert_column(&map.values().slice(first, last - first), value, &join(column, "value"))?;
    let offsets = arrow::buffer::OffsetBuffer::from_lengths(map.offsets().lengths());
    let internal = |error: ArrowError| Error::internal("written", error);
    let fields = vec![key.clone(), value.clone()].into();
    let pairs = StructArray::try_new(fields, vec![keys, values], None).map_err(internal)?;
    let converted = MapArray::try_new(entries.clone(), offsets, pairs, map.nulls().cloned(), false);
    Ok(Arc::new(converted.map_err(internal)?))
}

/// The method of converting values of one type to another type without loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Conversion {
    /// Arrow's checked cast, which fails for a value that does not fit.
    Cast,
    /// A cast that may change values. The result is accepted only if the reverse cast returns the
    /// original values.
    RoundTrip,
    /// There is no lossless conversion.
    None,
}

fn conversion(found: &DataType, wanted: &DataType) -> Conversion {
    use DataType::{
        Binary, BinaryView, Date32, Date64, FixedSizeBinary, Float64, LargeBinary, LargeUtf8, Null,
        Time64, Timestamp, Utf8, Utf8View,
    };
    match (found, wanted) {
        (Null, _)
        | (LargeUtf8 | Utf8View, Utf8)
        | (FixedSizeBinary(_) | LargeBinary | BinaryView, Binary)
        | (Binary | LargeBinary | BinaryView, FixedSizeBinary(_))
        | (Date64, Date32)
        | (Date32 | Timestamp(_, None), Timestamp(_, None))
        | (DataType::Time32(_) | Time64(_), Time64(_))
        | (Timestamp(_, Some(_)), Timestamp(_, Some(_))) => Conversion::Cast,
        (found, wanted) if found.is_integer() && wanted.is_floating() => Conversion::RoundTrip,
        (found, wanted) if found.is_integer() && wanted.is_numeric() => Conversion::Cast,
        (found, wanted) if is_decimal(found) && is_decimal(wanted) => Conversion::RoundTrip,
        (found, Float64) if is_decimal(found) || found.is_floating() => Conversion::Cast,
        (found, wanted) if found.is_floating() && wanted.is_numeric() => Conversion::RoundTrip,
        (found, wanted) if is_decimal(found) && wanted.is_integer() => Conversion::RoundTrip,
        _ => Conversion::None,
    }
}

fn is_decimal(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Decimal32(..)
            | DataType::Decimal64(..)
            | DataType::Decimal128(..)
            | DataType::Decimal256(..)
    )
}

fn cast(array: &ArrayRef, to: &DataType, field: &Field, column: &str) -> Result<ArrayRef> {
    let options = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(array, to, &options)
        .map_err(|_| bad_value(array, failed_row(array, to), field, column))
}

fn round_trip(array: &ArrayRef, field: &Field, column: &str) -> Result<ArrayRef> {
    let internal = |error: ArrowError| Error::internal("written", error);
    let converted = cast(array, field.data_type(), field, column)?;
    let back = cast_with_options(&converted, array.data_type(), &CastOptions::default());
    let back = back.map_err(internal)?;
    let changed = arrow::compute::kernels::cmp::distinct(array, &back).map_err(internal)?;
    // The rounding of a double to the nearest float is accepted.
    let is_float_rounding =
        *field.data_type() == DataType::Float32 && array.data_type().is_floating();
    let first = changed.values().set_indices().next();
    match first {
        None => Ok(converted),
        Some(_) if is_float_rounding && stays_finite(array, &converted) => Ok(converted),
        Some(row) => Err(bad_value(array, Some(row), field, column)),
    }
}

/// Returns true if all finite doubles are still finite as floats.
fn stays_finite(doubles: &ArrayRef, floats: &ArrayRef) -> bool {
    let (Some(doubles), Some(floats)) = (
        doubles.as_primitive_opt::<arrow::datatypes::Float64Type>(),
        floats.as_primitive_opt::<arrow::datatypes::Float32Type>(),
    ) else {
        return true;
    };
    doubles.values().iter().zip(floats.values()).all(|(a, b)| a.is_infinite() || !b.is_infinite())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse_type;
    use arrow::array::{
        DictionaryArray, Float64Array, Int32Array, Int64Array, StringArray, StringViewArray,
        TimestampNanosecondArray, UInt64Array,
    };
    use arrow::datatypes::Int32Type;

    fn one(array: ArrayRef, text: &str, nullable: bool) -> Result<ArrayRef> {
        let input = Schema::new(vec![Field::new("c", array.data_type().clone(), true)]);
        let table = Schema::new(vec![Field::new("c", parse_type(text).unwrap(), nullable)]);
        let batch = RecordBatch::try_new(Arc::new(input), vec![array]).unwrap();
        let fit = BatchConversion::new(batch.schema(), Arc::new(table))?;
        Ok(fit.apply(&batch)?.column(0).clone())
    }

    fn check(array: impl Array + 'static, text: &str, expected: impl Array + 'static) {
        let expected: ArrayRef = Arc::new(expected);
        assert_eq!(&one(Arc::new(array), text, true).unwrap(), &expected);
    }

    fn rejection(array: impl Array + 'static, text: &str) -> String {
        one(Arc::new(array), text, true).unwrap_err().to_string()
    }

    #[test]
    fn values_that_fit_are_cast() {
        check(Int64Array::from(vec![1, 2]), "int", Int32Array::from(vec![1, 2]));
        check(StringViewArray::from(vec!["x"]), "string", StringArray::from(vec!["x"]));
        let words: DictionaryArray<Int32Type> = vec!["a", "b", "a"].into_iter().collect();
        check(words, "string", StringArray::from(vec!["a", "b", "a"]));
        check(
            Float64Array::from(vec![Some(2.0), None]),
            "long",
            Int64Array::from(vec![Some(2), None]),
        );
        check(
            TimestampNanosecondArray::from(vec![1_999]),
            "timestamp",
            arrow::array::TimestampMicrosecondArray::from(vec![1]),
        );
        check(arrow::array::NullArray::new(1), "int", Int32Array::from(vec![None]));
    }

    #[test]
    fn values_that_do_not_fit_are_rejected() {
        let bad = |array: ArrayRef, text: &str, found: &str| {
            let error = one(array, text, true).unwrap_err().to_string();
            let end = format!("`, which does not fit the table's type `{text}`");
            assert_eq!(error, format!("column `c` has the value `{found}{end}"));
        };
        let large = Int64Array::from(vec![Some(1), None, Some(1 << 40)]);
        bad(Arc::new(large), "int", "1099511627776` of type `long");
        bad(Arc::new(Float64Array::from(vec![1.0, 2.5])), "long", "2.5` of type `double");
        let largest = Int64Array::from(vec![i64::MAX]);
        bad(Arc::new(largest), "double", "9223372036854775807` of type `long");
        assert!(rejection(Float64Array::from(vec![1e300]), "float").contains("does not fit"));
        assert!(rejection(UInt64Array::from(vec![u64::MAX]), "long").contains("does not fit"));
        assert_eq!(
            rejection(StringArray::from(vec!["1"]), "int"),
            "column `c` has type `string`, but the table has type `int`"
        );
    }

    #[test]
    fn nulls_in_required_columns_are_rejected() {
        let array: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), None, None]));
        let error = one(array, "int", false).unwrap_err();
        assert_eq!(error.to_string(), "column `c` is required, but null in 2 rows");
    }

    #[test]
    fn columns_match_by_name() {
        let schema = |names: &[&str], nullable| {
            let fields: Vec<_> =
                names.iter().map(|name| Field::new(*name, DataType::Int32, nullable)).collect();
            Arc::new(Schema::new(fields))
        };
        let fit = BatchConversion::new(schema(&["B", "a"], true), schema(&["a", "b", "c"], true))
            .unwrap();
        assert_eq!(fit.positions, [Some(1), Some(0), None]);
        let error =
            BatchConversion::new(schema(&["a"], true), schema(&["a", "b"], false)).unwrap_err();
        assert_eq!(error.to_string(), "the rows lack the required column `b`");
        let error =
            BatchConversion::new(schema(&["colour"], true), schema(&["color"], true)).unwrap_err();
        assert_eq!(error.to_string(), "the table has no column `colour`");
        assert!(format!("{error:?}").contains("Some(\"color\")"));
    }
}
