//! The handle of maintenance operations.

use headwater_tables::WarehouseFiles;

use crate::lake::Lake;

/// The maintenance operations on a lake's tables. [`Lake::maintenance`] returns this type.
#[derive(Debug, Clone, Copy)]
pub struct Maintenance<'a> {
    pub(super) lake: &'a Lake,
}

impl<'a> Maintenance<'a> {
    pub(crate) fn new(lake: &'a Lake) -> Self {
        Maintenance { lake }
    }

    /// Returns the operations on the files of the warehouse.
    pub(super) fn files(self) -> WarehouseFiles<'a> {
        self.lake.tables().files()
    }
}
