//! Writes position delete files, one for each data file.

use std::ops::RangeInclusive;
use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch, StringArray};
use bytes::Bytes;
use iceberg::spec::{DataContentType, DataFileBuilder, DataFileFormat, Datum, FormatVersion};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use uuid::Uuid;

use super::position_deletes::{LOCATION_ID, POSITION_ID, schema};
use crate::manifest::run_blocking;
use crate::staged_files::{FileSync, StagedDelete};
use crate::storage::CleanupGuard;
use crate::{DataFile, Error, Positions, Result, StagedFiles, Table, Tables};

/// Number of rows in an encoded batch.
const BATCH_ROWS: usize = 1 << 16;

/// Writes one delete file for each data file.
pub(crate) async fn write_deletes(
    tables: &Tables,
    table: &Table,
    rows: Vec<(Arc<DataFile>, Positions)>,
) -> Result<StagedFiles> {
    let metadata = table.metadata();
    if metadata.format_version() >= FormatVersion::V3 {
        return super::deletion_vector_writer::write_vectors(tables, table, rows).await;
    }
    let name = Uuid::now_v7();
    let mut undo = CleanupGuard::new(tables.storage().clone());
    let (mut deletes, mut contents) = (Vec::new(), Vec::new());
    for (number, (of, mut positions)) in rows.into_iter().enumerate() {
        let location = format!("{}/data/{name}-{number:05}-deletes.parquet", metadata.location());
        let replaced = tables.deletes().own_deletes(&of, &mut positions).await?;
        let (data_file, count) = (of.location.clone(), positions.len());
        let (first, last) = positions.bounds().unwrap_or_default();
        let content = run_blocking(&location, move || encode(&data_file, &positions)).await?;
        let file = entry(&location, &of, content.len(), count, first..=last)?;
        undo.add(location.clone());
        contents.push((location, content));
        deletes.push(StagedDelete { file, of, replaced });
    }
    if let Err(error) = tables.storage().write_all(&contents, std::iter::empty()).await {
        undo.run().await;
        return Err(error);
    }
    undo.keep();
    Ok(staged(tables, table, deletes))
}

/// Returns durable delete files in the form that a commit accepts.
pub(super) fn staged(tables: &Tables, table: &Table, deletes: Vec<StagedDelete>) -> StagedFiles {
    let metadata = table.metadata();
    StagedFiles {
        files: Arc::new([]),
        deletes: deletes.into(),
        table: metadata.uuid(),
        version: metadata.format_version(),
        schema: metadata.current_schema().clone(),
        spec: metadata.default_partition_spec().clone(),
        durable: FileSync::begin(tables.storage().clone(), Vec::new(), 0),
        memory_bytes_peak: 0,
    }
}

/// Encodes a position delete file.
fn encode(data_file: &str, positions: &Positions) -> Result<Bytes> {
    let failed = |error: String| Error::internal("written", error);
    let level = ZstdLevel::try_new(1).map_err(|error| failed(error.to_string()))?;
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_created_by(concat!("headwater ", env!("CARGO_PKG_VERSION")).to_owned())
        .build();
    let mut writer = ArrowWriter::try_new(Vec::new(), schema(), Some(properties))
        .map_err(|error| failed(error.to_string()))?;
    let mut rows = positions.iter().map(|position| position as i64).peekable();
    while rows.peek().is_some() {
        let rows = Int64Array::from_iter_values(rows.by_ref().take(BATCH_ROWS));
        let files = StringArray::from_iter_values(std::iter::repeat_n(data_file, rows.len()));
        let batch = RecordBatch::try_new(schema(), vec![Arc::new(files), Arc::new(rows)]);
        let batch = batch.map_err(|error| failed(error.to_string()))?;
        writer.write(&batch).map_err(|error| failed(error.to_string()))?;
    }
    Ok(writer.into_inner().map_err(|error| failed(error.to_string()))?.into())
}

/// Returns the delete file's manifest entry.
fn entry(
    location: &str,
    of: &DataFile,
    bytes: usize,
    rows: u64,
    positions: RangeInclusive<u64>,
) -> Result<iceberg::spec::DataFile> {
    let path = Datum::string(&of.location);
    let (first, last) =
        (Datum::long(*positions.start() as i64), Datum::long(*positions.end() as i64));
    let built = DataFileBuilder::default()
        .content(DataContentType::PositionDeletes)
        .file_path(location.to_owned())
        .file_format(DataFileFormat::Parquet)
        .partition(of.entry.data_file.partition().clone())
        .partition_spec_id(of.spec_id)
        .record_count(rows)
        .file_size_in_bytes(bytes as u64)
        .lower_bounds([(LOCATION_ID, path.clone()), (POSITION_ID, first)].into())
        .upper_bounds([(LOCATION_ID, path), (POSITION_ID, last)].into())
        .referenced_data_file(Some(of.location.clone()))
        .build();
    built.map_err(|error| Error::internal("written", error))
}
