//! Deserialization of schemas in requests. Unsupported parts are rejected, not dropped.

use headwater_table_format::foreign_types;
use headwater_table_format::metadata::unread_default;
use iceberg::TableUpdate;
use iceberg::spec::Schema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// Deserializes a schema; fails if a part of it is not supported.
pub(crate) fn schema_without_loss<'de, D: Deserializer<'de>>(
    from: D,
) -> std::result::Result<Schema, D::Error> {
    let mut written = Value::deserialize(from)?;
    foreign_types::hide(&mut written).map_err(D::Error::custom)?;
    let read = Schema::deserialize(&written).map_err(D::Error::custom)?;
    check_read(&written, &read)?;
    Ok(read)
}

/// Deserializes updates; fails if a part of their schemas is not supported.
pub(crate) fn updates_without_loss<'de, D: Deserializer<'de>>(
    from: D,
) -> std::result::Result<Vec<TableUpdate>, D::Error> {
    let written = Vec::<Value>::deserialize(from)?;
    let read = |mut written: Value| {
        if let Some(schema) = written.get_mut("schema") {
            foreign_types::hide(schema).map_err(D::Error::custom)?;
        }
        let read = TableUpdate::deserialize(&written).map_err(D::Error::custom)?;
        if let TableUpdate::AddSchema { schema } = &read {
            check_read(&written["schema"], schema)?;
        }
        Ok(read)
    };
    written.into_iter().map(read).collect()
}

fn check_read<E: serde::de::Error>(written: &Value, read: &Schema) -> std::result::Result<(), E> {
    match unread_default(written, read) {
        None => Ok(()),
        Some(column) => {
            Err(E::custom(format!("the default of column `{column}` is not supported")))
        }
    }
}
