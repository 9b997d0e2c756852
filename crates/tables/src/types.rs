//! Skeleton.

use crate::{Error, Result};
use arrow::datatypes::{DataType, Schema};

/// The Arrow type that a text such as `long` or `decimal(10, 2)` names.
pub fn parse_type(text: &str) -> Result<DataType> {
    Err(Error::InvalidType { text: text.to_owned() })
}

/// The name of an Arrow type, as Iceberg writes it.
pub fn type_name(data_type: &DataType) -> String {
    data_type.to_string()
}

/// The nearest schema that Iceberg v2 can hold.
pub fn normalise_schema(schema: &Schema) -> Result<Schema> {
    Ok(schema.clone())
}
