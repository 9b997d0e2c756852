//! Checks new metadata of tables.

use std::collections::HashMap;

use headwater_table_format::column_defaults::is_writable;
use headwater_tables::{Error, Result, check_table as check_changeable};
use iceberg::spec::{FormatVersion, TableMetadata};

/// Converts an error of the metadata builder.
pub(crate) fn rejected(error: &iceberg::Error) -> Error {
    Error::Refused { reason: decapitalised(error.message()) }
}

/// Rejects metadata that would make every later change of the table fail.
pub(crate) fn check_table(metadata: &TableMetadata) -> Result<()> {
    check_defaults(metadata)?;
    check_changeable(metadata).map_err(|error| Error::Refused { reason: error.to_string() })
}

/// Rejects default values that table metadata cannot represent.
fn check_defaults(metadata: &TableMetadata) -> Result<()> {
    for schema in metadata.schemas_iter() {
        for field in schema.field_id_to_fields().values() {
            let mut all = [&field.initial_default, &field.write_default].into_iter().flatten();
            if !all.all(|default| is_writable(default, &field.field_type)) {
                let reason = format!(
                    "the default of column `{}` cannot be represented as `{}` in table metadata",
                    field.name, field.field_type
                );
                return Err(Error::Refused { reason });
            }
        }
    }
    Ok(())
}

pub(crate) fn decapitalised(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().map(|first| first.to_lowercase().to_string());
    first.unwrap_or_default() + characters.as_str()
}

/// The property with which clients request a format version. It is not stored as a property.
const FORMAT_VERSION: &str = "format-version";

/// Removes the format version from properties and returns it.
pub(crate) fn take_format_version(
    properties: &mut HashMap<String, String>,
) -> Result<Option<FormatVersion>> {
    let Some(version) = properties.remove(FORMAT_VERSION) else { return Ok(None) };
    match version.as_str() {
        "1" => Ok(Some(FormatVersion::V1)),
        "2" => Ok(Some(FormatVersion::V2)),
        "3" => Ok(Some(FormatVersion::V3)),
        _ => Err(Error::Refused { reason: format!("format version `{version}` is not supported") }),
    }
}
