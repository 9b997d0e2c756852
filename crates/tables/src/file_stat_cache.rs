//! Column statistics of a snapshot's files, as arrays with one value per file. The arrays are
//! computed on first use, and shared by all plans of the same files.

use std::collections::HashMap;

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use parking_lot::Mutex;

/// A kind of column statistic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum FileStatKind {
    Lower,
    Upper,
    Nulls,
}

/// A column's field id and the type of its bounds.
type Column = (i32, DataType);

/// The arrays computed so far. Arrays of variable-width types are not cached, because their size is
/// not known in advance.
#[derive(Debug, Default)]
pub(crate) struct FileStatCache(Mutex<HashMap<(Column, FileStatKind), ArrayRef>>);

/// Maximum cached bytes per data file. The cache uses this maximum to estimate the size of a
/// snapshot.
pub(crate) const BYTES_PER_FILE_MAX: usize = 8 * ARRAYS_MAX;

/// Maximum number of arrays cached.
const ARRAYS_MAX: usize = 8;

impl FileStatCache {
    /// Returns the cached array of a statistic; if it is not cached, computes and caches it.
    pub fn get(
        &self,
        stat: FileStatKind,
        id: i32,
        data_type: &DataType,
        compute: impl FnOnce() -> ArrayRef,
    ) -> ArrayRef {
        let key = ((id, data_type.clone()), stat);
        if let Some(cached) = self.0.lock().get(&key) {
            return cached.clone();
        }
        let computed = compute();
        let mut cached = self.0.lock();
        if computed.data_type().primitive_width().is_some() && cached.len() < ARRAYS_MAX {
            cached.insert(key, computed.clone());
        }
        computed
    }
}
