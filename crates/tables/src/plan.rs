//! Skeleton.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::SchemaRef;

/// One data file of a table.
#[derive(Debug)]
pub struct DataFile {
    /// Its URL.
    pub location: String,
    /// Where it lies in the object store.
    pub path: object_store::path::Path,
    /// Its size.
    pub bytes: u64,
    /// Its rows.
    pub rows: u64,
    /// Its partition, as `day=2013-01-01/origin=EWR`; empty where the table has no partitions.
    pub partition: String,
}

/// The data files of one snapshot.
#[derive(Debug, Clone)]
pub struct ScanPlan {
    schema: SchemaRef,
    files: Arc<[Arc<DataFile>]>,
}

impl ScanPlan {
    /// The columns of the snapshot.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The files, oldest first.
    pub fn files(&self) -> &Arc<[Arc<DataFile>]> {
        &self.files
    }

    /// Rows in all files.
    pub fn rows(&self) -> u64 {
        self.files.iter().map(|file| file.rows).sum()
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// A lower bound of a column in each file, typed as the column; null where unknown.
    pub fn min(&self, _column: &str) -> Option<ArrayRef> {
        None
    }

    /// An upper bound of a column in each file, typed as the column; null where unknown.
    pub fn max(&self, _column: &str) -> Option<ArrayRef> {
        None
    }

    /// Nulls of a column in each file, as `UInt64`; null where unknown.
    pub fn null_counts(&self, _column: &str) -> Option<ArrayRef> {
        None
    }

    /// Rows of each file, as `UInt64`.
    pub fn row_counts(&self) -> ArrayRef {
        Arc::new(arrow::array::UInt64Array::from_iter_values(self.files.iter().map(|f| f.rows)))
    }

    /// Whether [`ScanPlan::min`] and [`ScanPlan::max`] of a column are values that occur, not only bounds.
    pub fn is_exact(&self, _column: &str) -> bool {
        false
    }

    /// The files for which `keep` is true.
    #[must_use]
    pub fn retain(&self, keep: &[bool]) -> ScanPlan {
        let kept = self.files.iter().zip(keep).filter(|(_, keep)| **keep).map(|(f, _)| f.clone());
        ScanPlan { schema: self.schema.clone(), files: kept.collect() }
    }
}
