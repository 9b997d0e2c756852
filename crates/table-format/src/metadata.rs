//! Metadata files: their names, encoding and decoding.

use bytes::Bytes;
use iceberg::spec::{Schema, TableMetadata};
use serde_json::Value;
use uuid::Uuid;

use crate::{Error, Result, foreign_types};

/// Returns the location of a table's next metadata file. The name contains the next version number
/// and a unique part, because two branches may write the same version number.
pub fn next_location(table_location: &str, previous: Option<&str>) -> String {
    let version = previous.and_then(version_of).map_or(0, |version| version + 1);
    format!("{table_location}/metadata/{version:05}-{}.metadata.json", Uuid::new_v4())
}

/// Returns the version number in a metadata file's name.
fn version_of(location: &str) -> Option<u32> {
    location.rsplit('/').next()?.split('-').next()?.parse().ok()
}

/// Encodes a metadata file.
pub fn encode(metadata: &TableMetadata) -> Result<Bytes> {
    let failed = |error| Error::internal("written", error);
    if !foreign_types::has_any(metadata) {
        return Ok(serde_json::to_vec(metadata).map_err(failed)?.into());
    }
    Ok(serde_json::to_vec(&to_value(metadata).map_err(failed)?).map_err(failed)?.into())
}

/// Returns the metadata as JSON, in which placeholders are replaced by their foreign types.
pub fn to_value(metadata: &TableMetadata) -> serde_json::Result<Value> {
    let mut value = serde_json::to_value(metadata)?;
    foreign_types::restore(&mut value);
    Ok(value)
}

/// Decodes a metadata file.
pub fn decode(location: &str, content: &[u8]) -> Result<TableMetadata> {
    let metadata: TableMetadata = if foreign_types::may_contain_foreign_type(content) {
        let mut value: Value =
            serde_json::from_slice(content).map_err(|error| Error::corrupt(location, error))?;
        foreign_types::hide(&mut value).map_err(|reason| Error::corrupt(location, reason))?;
        serde_json::from_value(value).map_err(|error| Error::corrupt(location, error))?
    } else {
        serde_json::from_slice(content).map_err(|error| Error::corrupt(location, error))?
    };
    if has_defaults(content) {
        let value: Value =
            serde_json::from_slice(content).map_err(|error| Error::corrupt(location, error))?;
        for written in value["schemas"].as_array().into_iter().flatten() {
            let id = written["schema-id"].as_i64().and_then(|id| i32::try_from(id).ok());
            let read = id.and_then(|id| metadata.schema_by_id(id));
            if let Some(column) = read.and_then(|read| unread_default(written, read)) {
                let feature = format!("the default of column `{column}`");
                return Err(Error::Unsupported { location: location.to_owned(), feature });
            }
        }
    }
    Ok(metadata)
}

/// Suffix of the keys `initial-default` and `write-default`.
const DEFAULT_KEY_SUFFIX: &[u8] = b"-default\"";

/// Returns true if the JSON may contain a default of a column.
fn has_defaults(content: &[u8]) -> bool {
    content.windows(DEFAULT_KEY_SUFFIX.len()).any(|some| some == DEFAULT_KEY_SUFFIX)
}

/// Returns the name of a column whose default is in the JSON but was not parsed. The caller must
/// return an error. Otherwise, the default would be read as null, and be lost in the next metadata
/// file.
pub fn unread_default(written: &Value, read: &Schema) -> Option<String> {
    let not_parsed =
        |key: &str, found: bool| written.get(key).is_some_and(|one| !one.is_null()) && !found;
    let field = written["id"].as_i64().and_then(|id| i32::try_from(id).ok());
    if let Some(field) = field.and_then(|id| read.field_by_id(id))
        && (not_parsed("initial-default", field.initial_default.is_some())
            || not_parsed("write-default", field.write_default.is_some()))
    {
        return Some(field.name.clone());
    }
    match written {
        Value::Array(parts) => parts.iter().find_map(|part| unread_default(part, read)),
        Value::Object(parts) => {
            let within = ["fields", "type", "element", "key", "value"];
            within
                .iter()
                .filter_map(|key| parts.get(*key))
                .find_map(|part| unread_default(part, read))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_metadata_file_has_the_next_version() {
        let first = next_location("file:///w/t", None);
        assert!(first.starts_with("file:///w/t/metadata/00000-"), "{first}");
        let second = next_location("file:///w/t", Some(&first));
        assert!(second.starts_with("file:///w/t/metadata/00001-"), "{second}");
        assert!(next_location("file:///w/t", Some("x/v7.json")).contains("/00000-"));
    }
}
