//! The files of Apache Iceberg tables, and their storage: metadata files, manifests, Avro, types
//! and schemas, partition specs, and the warehouse's object store.
//!
//! Each module encodes, decodes or converts one part of the format. This crate keeps no state and
//! caches nothing; the crate `tables` uses it to read, plan and commit. The crate also supports
//! features that the `iceberg` crate does not support or rejects: foreign types, transforms, UUID
//! partitions.

mod avro;
pub mod bad_value;
mod change_scope;
pub mod column_defaults;
pub mod column_metrics;
pub mod deletion_vector;
mod error;
mod error_details;
mod field_metadata;
pub mod foreign_types;
pub mod listed_snapshots;
pub mod manifest;
pub mod manifest_entry;
pub mod metadata;
pub mod metadata_log;
pub mod partition;
pub mod partition_transform;
mod puffin;
mod row_positions;
pub mod storage;
pub mod time_transforms;
pub mod type_promotion;
pub mod types;
pub mod value_conversion;

pub use change_scope::{ChangeScope, REACH};
pub use error::{Error, Result};
pub use field_metadata::{COMMENT, FIELD_ID, LAST_UPDATED, NAMES, ROW_ID};
pub use puffin::PuffinWriter;
pub use row_positions::Positions;
