//! Types: their names, and how Arrow's become Iceberg's and back.
//!
//! Iceberg holds fewer types than Arrow. [`normalise_schema`] finds the nearest that it can
//! hold, `schema` converts what is left, and `name` reads and writes the texts people see.
//! Everything here is pure.

mod name;
mod normalise;
pub(crate) mod schema;

pub use name::field_type_name;
pub use name::{parse_type, type_name};
pub(crate) use normalise::join;
pub use normalise::{
    OWN, has_nanoseconds, in_microseconds, map_within, normalise_schema, without_nanoseconds,
};

use arrow::datatypes::{DataType, Field};

/// The key under which Arrow carries the name of an extension type.
pub(crate) const EXTENSION_NAME: &str = "ARROW:extension:name";

/// Arrow's canonical extension type for UUIDs.
pub(crate) const UUID_EXTENSION: &str = "arrow.uuid";

/// Whether a field holds UUIDs, and not just any sixteen bytes.
pub(crate) fn is_uuid(field: &Field) -> bool {
    *field.data_type() == DataType::FixedSizeBinary(16)
        && field.metadata().get(EXTENSION_NAME).is_some_and(|name| name == UUID_EXTENSION)
}
