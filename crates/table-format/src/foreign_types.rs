//! Foreign types: `variant`, `geometry`, `geography` and `unknown`, which the `iceberg` crate
//! cannot parse.
//!
//! Other engines create, write and read columns of these types. Headwater keeps them in the schema,
//! but neither reads nor writes their values. In memory, a foreign type is represented by a
//! placeholder: the type `fixed[N]` with a length that no real column has. Each foreign type has a
//! different length. [`hide`] replaces foreign types by placeholders before JSON is parsed as a
//! schema. [`restore`] replaces placeholders by foreign types after a schema is serialized. No file
//! and no response contains a placeholder.
//!
//! Upstream: <https://github.com/apache/iceberg-rust/issues/2581>; this module can be removed when
//! the crate parses all four types.

use std::collections::HashMap;

use arrow::datatypes::{DataType, Field};
use iceberg::spec::{NestedField, PrimitiveType, Schema, TableMetadata, Type};
use parking_lot::RwLock;
use serde_json::Value;

/// Key in the metadata of a field; the value is the field's foreign type.
pub const FOREIGN_TYPE: &str = "headwater.foreign-type";

/// Smallest length of a placeholder, in bytes.
const FIRST_LENGTH: u64 = 1 << 62;

/// Maximum length of a type's text, such as `geometry(srid:4326)`, in bytes.
const TEXT_BYTES_MAX: usize = 256;

/// Maximum number of foreign types in a process. Two `geometry` or `geography` types with different
/// parameters count as two.
const TYPES_MAX: usize = 10_000;

/// Foreign types of this process. The index is the placeholder's length minus [`FIRST_LENGTH`].
static TYPES: RwLock<Vec<String>> = RwLock::new(Vec::new());

/// Returns true if the text is the name of a foreign type.
fn is_foreign(text: &str) -> bool {
    let takes_parameters = |name: &str| {
        let rest = text.strip_prefix(name);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('(') && rest.ends_with(')'))
    };
    let plain = matches!(text, "variant" | "unknown");
    (plain || takes_parameters("geometry") || takes_parameters("geography"))
        && text.len() <= TEXT_BYTES_MAX
}

/// Returns the length of the placeholder of a foreign type; `None` if the table of types is full.
fn placeholder_length(text: &str) -> Option<u64> {
    let position = |types: &[String]| types.iter().position(|known| known == text);
    let known = position(&TYPES.read());
    let index = known.or_else(|| {
        let mut types = TYPES.write();
        // Another thread may have added the type before this thread acquired the write lock.
        position(&types).or_else(|| {
            (types.len() < TYPES_MAX).then(|| {
                types.push(text.to_owned());
                types.len() - 1
            })
        })
    })?;
    Some(FIRST_LENGTH + index as u64)
}

/// Returns the foreign type that a placeholder of this length represents.
fn type_of_length(length: u64) -> Option<String> {
    let index = usize::try_from(length.checked_sub(FIRST_LENGTH)?).ok()?;
    TYPES.read().get(index).cloned()
}

/// Returns the foreign type of a placeholder; `None` for any other type.
pub fn foreign(data_type: &PrimitiveType) -> Option<String> {
    match data_type {
        PrimitiveType::Fixed(length) => type_of_length(*length),
        _ => None,
    }
}

/// Returns the placeholder of the foreign type in a field's metadata.
pub fn primitive_of(field: &Field) -> Option<PrimitiveType> {
    placeholder_length(field.metadata().get(FOREIGN_TYPE)?).map(PrimitiveType::Fixed)
}

/// Returns true if JSON text may contain a foreign type or a placeholder. The result can be true
/// although the JSON contains neither.
pub fn may_contain_foreign_type(content: &[u8]) -> bool {
    const NAMES: [&[u8]; 4] = [b"\"variant\"", b"\"geometry", b"\"geography", b"\"unknown\""];
    NAMES.iter().any(|name| content.windows(name.len()).any(|some| some == *name))
        || content
            .windows(PLACEHOLDER_PREFIX.len())
            .any(|some| some == PLACEHOLDER_PREFIX.as_bytes())
}

/// Prefix of every placeholder. A schema from a client or file that contains one is rejected.
const PLACEHOLDER_PREFIX: &str = "fixed[4611686018427";

/// Replaces foreign types by placeholders in the JSON of a schema, or of any value that contains
/// schemas. Fails, and returns the type as the error, if the JSON already contains a placeholder or
/// the table of types is full.
pub fn hide(value: &mut Value) -> Result<(), String> {
    change_types(value, &|text| {
        if text.starts_with(PLACEHOLDER_PREFIX) {
            return Err(format!("`{text}` is too long"));
        }
        if !is_foreign(text) {
            return Ok(None);
        }
        let length = placeholder_length(text).ok_or_else(|| {
            format!("the table has too many types of other systems, such as `{text}`")
        })?;
        Ok(Some(format!("fixed[{length}]")))
    })
}

/// Replaces placeholders by their foreign types in JSON.
pub fn restore(value: &mut Value) {
    let known = |text: &str| {
        let length = text.strip_prefix("fixed[")?.strip_suffix(']')?.parse().ok()?;
        type_of_length(length)
    };
    // This cannot fail, because the closure returns no error.
    let _ = change_types(value, &|text| Ok(known(text)));
}

/// Calls `change` with every string in the JSON that can be a type, and replaces the string if
/// `change` returns another.
fn change_types(
    value: &mut Value,
    change: &dyn Fn(&str) -> Result<Option<String>, String>,
) -> Result<(), String> {
    match value {
        Value::Array(items) => items.iter_mut().try_for_each(|item| change_types(item, change)),
        Value::Object(parts) => {
            for (key, part) in parts.iter_mut() {
                let text = match (key.as_str(), part.as_str()) {
                    ("type" | "element" | "key" | "value", Some(text)) => text,
                    // Skip these fields: their texts and values may look like types.
                    ("doc" | "initial-default" | "write-default" | "properties", _) => continue,
                    _ => {
                        change_types(part, change)?;
                        continue;
                    }
                };
                if let Some(changed) = change(text)? {
                    *part = changed.into();
                }
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Returns true if a schema has a column of a foreign type, including nested columns.
pub fn has_some(schema: &Schema) -> bool {
    let mut fields = schema.field_id_to_fields().values();
    fields.any(|field| matches!(&*field.field_type, Type::Primitive(one) if foreign(one).is_some()))
}

/// Returns true if a schema of a table, including earlier schemas, has a column of a foreign type.
pub fn has_any(metadata: &TableMetadata) -> bool {
    metadata.schemas_iter().any(|schema| has_some(schema))
}

/// Returns the Arrow field metadata of a column of a foreign type; empty for other columns.
pub fn metadata_of(field: &NestedField) -> HashMap<String, String> {
    let text = field.field_type.as_primitive_type().and_then(foreign);
    text.map(|text| (FOREIGN_TYPE.to_owned(), text)).into_iter().collect()
}

/// Returns the name and the foreign type of the column itself or of a nested column; `None` if
/// there is no foreign type.
pub fn foreign_column(field: &Field) -> Option<(String, String)> {
    if let Some(text) = field.metadata().get(FOREIGN_TYPE) {
        return Some((field.name().clone(), text.clone()));
    }
    let within = match field.data_type() {
        DataType::Struct(fields) => fields.iter().find_map(|part| foreign_column(part)),
        DataType::List(part) | DataType::Map(part, _) => foreign_column(part),
        _ => None,
    };
    within.map(|(_, text)| (field.name().clone(), text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_types_are_restored_wherever_they_are_nested() {
        let written = serde_json::json!({"type": "struct", "fields": [
            {"id": 1, "name": "v", "type": "variant", "doc": "variant"},
            {"id": 2, "name": "l", "type": {"type": "list", "element": "geometry(srid:4326)"}},
        ]});
        let mut value = written.clone();
        hide(&mut value).expect("placeholders");
        assert!(value["fields"][0]["type"].as_str().expect("text").starts_with("fixed["));
        assert_eq!(value["fields"][0]["doc"], "variant");
        restore(&mut value);
        assert_eq!(value, written);
    }

    #[test]
    fn a_placeholder_from_outside_is_rejected() {
        let mut value = serde_json::json!({"type": "fixed[4611686018427387904]"});
        assert!(may_contain_foreign_type(value.to_string().as_bytes()));
        assert!(hide(&mut value).is_err());
    }
}
