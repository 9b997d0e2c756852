//! The position of a row: the number of its data file, and its index in that file. A scan adds both
//! columns for statements that change rows.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use headwater_sql::change::{FILE, ROW};
use parquet::arrow::RowNumber;

/// Returns the field of [`FILE`].
pub(crate) fn file_field() -> FieldRef {
    Arc::new(Field::new(FILE, DataType::Int32, false))
}

/// Returns the field of [`ROW`], marked so that the Parquet reader fills it with row numbers.
pub(crate) fn row_field() -> FieldRef {
    Arc::new(Field::new(ROW, DataType::Int64, false).with_extension_type(RowNumber))
}

/// Returns a schema with both position columns at its end.
pub(crate) fn with_positions(schema: &Schema) -> SchemaRef {
    let fields = schema.fields().iter().cloned().chain([file_field(), row_field()]);
    Arc::new(Schema::new_with_metadata(fields.collect::<Vec<_>>(), schema.metadata().clone()))
}
