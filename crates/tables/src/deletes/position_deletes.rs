//! Position delete files: Parquet files with two columns, a data file's location and a position.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use futures::{StreamExt, TryStreamExt, stream};

use super::{DeleteFile, READS_MAX};
use crate::read::{ReadOptions, open};
use crate::storage::Storage;
use crate::{DataFile, Error, FIELD_ID, Positions, Result};

/// The reserved field id of the data file's location.
pub(crate) const LOCATION_ID: i32 = 2_147_483_546;

/// The reserved field id of the position.
pub(crate) const POSITION_ID: i32 = 2_147_483_545;

/// Returns the schema of a position delete file.
pub(crate) fn schema() -> SchemaRef {
    let field = |name: &str, data_type, id: i32| {
        let id = HashMap::from([(FIELD_ID.to_owned(), id.to_string())]);
        Field::new(name, data_type, false).with_metadata(id)
    };
    Arc::new(Schema::new(vec![
        field("file_path", DataType::Utf8, LOCATION_ID),
        field("pos", DataType::Int64, POSITION_ID),
    ]))
}

/// Deleted positions by data file. Each set of positions is stored with the sequence number of its
/// delete file.
#[derive(Debug, Default)]
pub(crate) struct PositionsByFile(HashMap<String, Vec<(i64, Positions)>>);

impl PositionsByFile {
    pub(super) async fn read(storage: &Arc<Storage>, files: &[Arc<DeleteFile>]) -> Result<Self> {
        let read = stream::iter(files.to_vec())
            .map(|file| async move {
                Ok::<_, Error>((file.sequence_number(), read_file(storage, &file).await?))
            })
            .buffered(READS_MAX);
        let mut named = PositionsByFile::default();
        let all: Vec<(i64, HashMap<String, Positions>)> = read.try_collect().await?;
        for (number, found) in all {
            for (location, positions) in found {
                named.0.entry(location).or_default().push((number, positions));
            }
        }
        Ok(named)
    }

    /// Returns the positions of a data file that are deleted by delete files with this sequence
    /// number or a later one.
    pub(super) fn of(&self, file: &DataFile, number: i64) -> Positions {
        let mut found = Positions::new();
        for (deleted_at, positions) in self.0.get(&file.location).into_iter().flatten() {
            if *deleted_at >= number {
                found.add_all(positions);
            }
        }
        found
    }

    /// Returns the approximate memory size in bytes.
    pub(crate) fn bytes(&self) -> usize {
        let entry_bytes = |(location, named): (&String, &Vec<(i64, Positions)>)| {
            location.len()
                + named.iter().map(|(_, positions)| 64 + positions.bytes()).sum::<usize>()
        };
        self.0.iter().map(entry_bytes).sum()
    }
}

/// Reads the positions in a delete file, by data file.
async fn read_file(
    storage: &Arc<Storage>,
    file: &DeleteFile,
) -> Result<HashMap<String, Positions>> {
    file.check()?;
    let location = file.location();
    let read_options = ReadOptions { complete: true, ..ReadOptions::all(schema()) };
    let batches = open(storage.object_store().clone(), file.file_location(), read_options).await;
    let mut batches = batches.map_err(|error| Error::from_arrow(location, error))?;
    let mut named: HashMap<String, Positions> = HashMap::new();
    while let Some(batch) = batches.next().await {
        let batch = batch.map_err(|error| Error::from_arrow(location, error))?;
        add(&batch, &mut named).ok_or_else(|| {
            Error::corrupt(location, "a row has an invalid data file or position")
        })?;
    }
    Ok(named)
}

fn add(batch: &RecordBatch, named: &mut HashMap<String, Positions>) -> Option<()> {
    let locations = cast(batch.column(0), &DataType::Utf8).ok()?;
    let locations = locations.as_string::<i32>();
    let positions = batch.column(1).as_primitive::<Int64Type>();
    if locations.null_count() + positions.null_count() > 0 {
        return None;
    }
    let mut first = 0;
    while first < batch.num_rows() {
        let location = locations.value(first);
        let same = (first..batch.num_rows()).take_while(|row| locations.value(*row) == location);
        let end = first + same.count();
        let found = (first..end).map(|row| u64::try_from(positions.value(row)).ok());
        let found: Positions = found.collect::<Option<Vec<u64>>>()?.into_iter().collect();
        named.entry(location.to_owned()).or_default().add_all(&found);
        first = end;
    }
    Some(())
}
