//! Column types: names, and conversion between Arrow and Iceberg.
//!
//! Iceberg has fewer types than Arrow. [`normalise_schema`] converts Arrow types to the nearest
//! types that Iceberg supports. `schema` converts these nearest types to Iceberg's types. `name`
//! parses and formats the names of types. The functions do no I/O.

mod name;
mod normalise;
pub mod schema;

pub use name::field_type_name;
pub use name::{parse_type, type_name};
pub use normalise::join;
pub use normalise::{
    FIELD_METADATA_KEYS, has_nanoseconds, in_microseconds, map_within, normalise_schema,
    without_nanoseconds,
};

use arrow::datatypes::{DataType, Field};

/// The Arrow field metadata key of an extension type's name.
pub const EXTENSION_NAME: &str = "ARROW:extension:name";

/// Arrow's canonical extension type for UUIDs.
pub const UUID_EXTENSION: &str = "arrow.uuid";

/// Returns true if a field contains UUIDs, and not other 16-byte values.
pub fn is_uuid(field: &Field) -> bool {
    *field.data_type() == DataType::FixedSizeBinary(16)
        && field.metadata().get(EXTENSION_NAME).is_some_and(|name| name == UUID_EXTENSION)
}
