//! Equality deletes: rows deleted by the values of some of their columns.
//!
//! All files of a group are merged into one set of keys. Each key has the sequence number of the
//! last file that contains it. A row is deleted if the sequence number of its key is greater than
//! the sequence number of its data file. Nulls are equal to each other.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{FieldRef, Schema};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};

use super::{DeleteFile, READS_MAX};
use crate::manifest::run_blocking;
use crate::read::{FileLocation, ReadOptions, open};
use crate::storage::Storage;
use crate::{DataFile, Error, Positions, Result};

/// Memory of a key in addition to its bytes, in bytes.
const KEY_BYTES: usize = 48;

/// The keys of a group in Arrow's row format, each with the sequence number of its last file.
#[derive(Debug, Default)]
pub(crate) struct DeletedKeys(Arc<HashMap<Box<[u8]>, i64>>);

impl DeletedKeys {
    /// Reads the keys of all files of a group.
    pub(super) async fn read(
        storage: &Arc<Storage>,
        files: &[Arc<DeleteFile>],
        columns: &[FieldRef],
    ) -> Result<Self> {
        let read = stream::iter(files.to_vec())
            .map(|file| async move {
                file.check()?;
                let batches = batches(storage, file.file_location(), columns, true).await?;
                Ok::<_, Error>((file, batches.try_collect::<Vec<_>>().await?))
            })
            .buffered(READS_MAX);
        let mut keys: HashMap<Box<[u8]>, i64> = HashMap::new();
        futures::pin_mut!(read);
        while let Some((file, batches)) = read.try_next().await? {
            let columns = columns.to_vec();
            let (number, location) = (file.sequence_number(), file.location().to_owned());
            keys = run_blocking(file.location(), move || {
                let rows = rows(&columns, batches.iter());
                for rows in rows {
                    for row in &rows.map_err(|error| Error::corrupt(&location, error))? {
                        let last = keys.entry(row.data().into()).or_insert(number);
                        *last = (*last).max(number);
                    }
                }
                Ok(keys)
            })
            .await?;
        }
        Ok(DeletedKeys(Arc::new(keys)))
    }

    /// Returns the rows of a data file whose keys are in this set.
    pub(super) async fn find(
        &self,
        storage: &Arc<Storage>,
        file: &DataFile,
        columns: &[FieldRef],
    ) -> Result<Positions> {
        let mut batches = batches(storage, FileLocation::of(file), columns, false).await?;
        let number = file.sequence_number();
        let (mut deleted, mut first) = (Positions::new(), 0);
        while let Some(batch) = batches.try_next().await? {
            let rows_read = batch.num_rows() as u64;
            let (keys, columns, location) =
                (self.0.clone(), columns.to_vec(), file.location.clone());
            let found = run_blocking(&file.location, move || {
                let mut found = Positions::new();
                for rows in rows(&columns, std::iter::once(&batch)) {
                    let rows = rows.map_err(|error| Error::corrupt(&location, error))?;
                    for (row, key) in rows.iter().enumerate() {
                        if keys.get(key.data()).is_some_and(|last| *last > number) {
                            found.insert(first + row as u64);
                        }
                    }
                }
                Ok(found)
            });
            deleted.add_all(&found.await?);
            first += rows_read;
        }
        Ok(deleted)
    }

    /// Returns the approximate memory size in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.0.keys().map(|key| key.len() + KEY_BYTES).sum()
    }
}

/// Converts batches to Arrow's row format.
fn rows<'a>(
    columns: &[FieldRef],
    batches: impl Iterator<Item = &'a RecordBatch>,
) -> impl Iterator<Item = std::result::Result<arrow::row::Rows, ArrowError>> {
    let fields = columns.iter().map(|column| SortField::new(column.data_type().clone()));
    let mut converter = RowConverter::new(fields.collect());
    batches.map(move |batch| match &mut converter {
        Ok(converter) => converter.convert_columns(batch.columns()),
        Err(error) => Err(ArrowError::ComputeError(error.to_string())),
    })
}

/// Reads some columns of a file. If `complete` is true, a missing column is an error.
async fn batches(
    storage: &Arc<Storage>,
    file_location: FileLocation,
    columns: &[FieldRef],
    complete: bool,
) -> Result<BoxStream<'static, Result<RecordBatch>>> {
    let location = file_location.location.clone();
    let read_options =
        ReadOptions { complete, ..ReadOptions::all(Arc::new(Schema::new(columns.to_vec()))) };
    let opened = open(storage.object_store().clone(), file_location, read_options).await;
    let opened = opened.map_err(|error| Error::from_arrow(&location, error))?;
    Ok(opened.map_err(move |error| Error::from_arrow(&location, error)).boxed())
}
