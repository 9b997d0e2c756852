//! Where each row of a table lies: two columns that a scan adds where rows are to be changed, the
//! data file's number and the row's position in it.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use headwater_sql::change::{FILE, ROW};
use parquet::arrow::RowNumber;

/// The field of [`FILE`].
pub(super) fn file_field() -> FieldRef {
    Arc::new(Field::new(FILE, DataType::Int32, false))
}

/// The field of [`ROW`], marked so that the Parquet reader counts rows for it.
pub(super) fn row_field() -> FieldRef {
    Arc::new(Field::new(ROW, DataType::Int64, false).with_extension_type(RowNumber))
}

/// A schema with both columns at its end.
pub(super) fn with_places(schema: &Schema) -> SchemaRef {
    let fields = schema.fields().iter().cloned().chain([file_field(), row_field()]);
    Arc::new(Schema::new_with_metadata(fields.collect::<Vec<_>>(), schema.metadata().clone()))
}
