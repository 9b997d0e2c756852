//! Rows that are written and belong to no table yet.

use std::sync::Arc;

/// Data files that a commit can put into a table, or that [`crate::Tables::discard`] removes.
///
/// Cheap to clone, so that an attempt that lost a race can be made again with the same files.
#[derive(Debug, Clone)]
pub struct Staged {
    pub(crate) files: Arc<[iceberg::spec::DataFile]>,
    pub(crate) table: uuid::Uuid,
    pub(crate) schema: iceberg::spec::SchemaRef,
    pub(crate) spec: iceberg::spec::PartitionSpecRef,
}

impl Staged {
    /// Rows in the files.
    pub fn rows(&self) -> u64 {
        self.files.iter().map(iceberg::spec::DataFile::record_count).sum()
    }

    /// Bytes of the files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(iceberg::spec::DataFile::file_size_in_bytes).sum()
    }

    /// How many files there are.
    pub fn files(&self) -> usize {
        self.files.len()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Where the files lie.
    pub fn locations(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(iceberg::spec::DataFile::file_path)
    }
}
