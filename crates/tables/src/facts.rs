//! What the manifests say of a snapshot's files, as arrays with one value for each file: made when a plan
//! first asks, and kept for all plans of the same files.

use std::collections::HashMap;

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use parking_lot::Mutex;

/// What a plan may ask of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Fact {
    Lower,
    Upper,
    Nulls,
}

/// A column as a plan has it: its field id and the type that its bounds are given in.
type Column = (i32, DataType);

/// What was asked so far. Values without a fixed width are not kept, as nobody knows their size before.
#[derive(Debug, Default)]
pub(crate) struct Facts(Mutex<HashMap<(Column, Fact), ArrayRef>>);

/// What is kept for each file of a snapshot at most, in bytes, as the caches count it.
pub(crate) const BYTES_OF_FILE: usize = 8 * COLUMNS_MAX;

/// Of how many arrays at most are kept.
const COLUMNS_MAX: usize = 8;

impl Facts {
    /// What was made before, or is made now.
    pub fn get(
        &self,
        fact: Fact,
        (id, data_type): (i32, &DataType),
        make: impl FnOnce() -> ArrayRef,
    ) -> ArrayRef {
        let key = ((id, data_type.clone()), fact);
        if let Some(found) = self.0.lock().get(&key) {
            return found.clone();
        }
        let made = make();
        let mut kept = self.0.lock();
        if made.data_type().primitive_width().is_some() && kept.len() < COLUMNS_MAX {
            kept.insert(key, made.clone());
        }
        made
    }
}
