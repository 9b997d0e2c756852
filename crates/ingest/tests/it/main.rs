//! Imports from files on disk, checked by the rows of their tables.

#[cfg(test)]
mod csv;
#[cfg(test)]
mod file_rows;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod formats;
#[cfg(test)]
mod state;
#[cfg(test)]
#[path = "../../../lake/tests/it/storage.rs"]
mod storage;
#[cfg(test)]
#[path = "../../../lake/tests/it/support.rs"]
#[expect(dead_code, reason = "used only by tests of the lake")]
mod support;
