//! Reads deletion vectors. A vector contains the positions of the deleted rows of one data file, as
//! a blob in a Puffin file. The manifest contains the offset and the length of the blob.

use std::ops::Range;
use std::sync::Arc;

use headwater_table_format::deletion_vector::decode;
use object_store::ObjectStoreExt;

use super::DeleteFile;
use crate::storage::Storage;
use crate::{Error, Positions, Result};

/// Reads the positions of a deletion vector.
pub(super) async fn read(storage: &Arc<Storage>, file: &DeleteFile) -> Result<Positions> {
    let entry = &file.entry.data_file;
    let corrupt = |reason: &str| Error::corrupt(file.location(), reason);
    let (Some(offset), Some(length)) = (entry.content_offset(), entry.content_size_in_bytes())
    else {
        return Err(corrupt("the manifest entry lacks the vector's offset or length"));
    };
    let end = offset.checked_add(length).and_then(|end| u64::try_from(end).ok());
    if end.is_none_or(|end| end > entry.file_size_in_bytes()) {
        return Err(corrupt("the vector exceeds the file's size"));
    }
    let range = u64::try_from(offset).ok().zip(u64::try_from(length).ok());
    let (offset, length) =
        range.ok_or_else(|| corrupt("the vector's offset or length is negative"))?;
    let range = Range { start: offset, end: offset + length };
    let blob = storage.object_store().get_range(&file.path, range).await;
    let blob = blob.map_err(|error| Error::storage(file.location(), error))?;
    let positions = decode(&blob).map_err(corrupt)?;
    if positions.len() != entry.record_count() {
        return Err(corrupt("the number of rows of the vector differs from the manifest entry"));
    }
    Ok(positions)
}
