//! String view types. Scans produce them, because they are faster to filter, join and group.
//! Results do not use them, because not every Arrow reader supports them.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use arrow::error::ArrowError;
use headwater_tables::map_within;

/// Returns the schema with view types for top-level strings and binary columns.
pub(crate) fn view_schema(schema: &Schema) -> SchemaRef {
    let viewed = |field: &FieldRef| match field.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 => retyped(field, DataType::Utf8View),
        DataType::Binary | DataType::LargeBinary => retyped(field, DataType::BinaryView),
        _ => Arc::clone(field),
    };
    let fields: Fields = schema.fields().iter().map(viewed).collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

/// Returns the schema without view types at any level.
pub(crate) fn plain_schema(schema: &Schema) -> SchemaRef {
    let fields: Fields = schema.fields().iter().map(plain_field).collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

/// Returns the schema without view types and field metadata, as a target for casts. Different
/// metadata of nested fields would make two equal types differ.
pub(crate) fn bare_schema(schema: &Schema) -> SchemaRef {
    let fields: Fields = plain_schema(schema).fields().iter().map(bare_field).collect();
    Arc::new(Schema::new(fields))
}

fn bare_field(field: &FieldRef) -> FieldRef {
    let data_type = map_within(field.data_type(), &bare_field);
    Arc::new(Field::new(field.name(), data_type, field.is_nullable()))
}

/// Casts a batch to [`plain_schema`]; columns without view types are passed through.
pub(crate) fn plain_batch(
    batch: &RecordBatch,
    schema: &SchemaRef,
) -> Result<RecordBatch, ArrowError> {
    let columns = batch.columns().iter().zip(schema.fields());
    let plain = columns.map(|(column, field)| {
        if column.data_type() == field.data_type() {
            Ok(Arc::clone(column))
        } else {
            cast(column, field.data_type())
        }
    });
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(
        Arc::clone(schema),
        plain.collect::<Result<_, _>>()?,
        &options,
    )
}

fn plain_field(field: &FieldRef) -> FieldRef {
    let plain = plain_type(field.data_type());
    if plain == *field.data_type() { Arc::clone(field) } else { retyped(field, plain) }
}

fn plain_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        other => map_within(other, &plain_field),
    }
}

fn retyped(field: &Field, data_type: DataType) -> FieldRef {
    Arc::new(field.clone().with_data_type(data_type))
}
