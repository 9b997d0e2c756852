//! The position of a row: the number of its data file, and its index in that file. A scan for a
//! statement that changes rows adds both as columns.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use headwater_sql::change::{FILE, ROW};
use parquet::arrow::RowNumber;

/// Returns the Arrow field of the column [`FILE`], which contains the number of a row's data file.
pub(crate) fn file_field() -> FieldRef {
    Arc::new(Field::new(FILE, DataType::Int32, false))
}

/// Returns the Arrow field of the column [`ROW`], which contains a row's index in its data file.
/// The field is marked so that the Parquet reader computes the values.
pub(crate) fn row_field() -> FieldRef {
    Arc::new(Field::new(ROW, DataType::Int64, false).with_extension_type(RowNumber))
}

/// Returns a schema with the columns [`FILE`] and [`ROW`] at its end.
pub(crate) fn with_positions(schema: &Schema) -> SchemaRef {
    let fields = schema.fields().iter().cloned().chain([file_field(), row_field()]);
    Arc::new(Schema::new_with_metadata(fields.collect::<Vec<_>>(), schema.metadata().clone()))
}
