//! Writes rows to data files. Rows are converted to the table's schema and split by partition. A
//! new file starts when the target size is reached.
//!
//! The files belong to no snapshot until they are committed. The files are synced in the
//! background, and the commit waits for the end of the sync. A failed or cancelled write deletes
//! its files.

mod batch_conversion;
mod batch_slices;
mod file_writer;
mod partition_split;
mod sort_buffer;

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use futures::StreamExt;
use iceberg::spec::{DataFile, PartitionSpecRef, SchemaRef, Struct, StructType};
use uuid::Uuid;

use self::batch_conversion::BatchConversion;
pub use self::batch_conversion::{check_types, check_values};
use self::file_writer::{FileWriter, RowGroupLimits, WriteConfig};
use self::partition_split::PartitionKey;
pub(crate) use self::partition_split::PartitionSplitter;
use self::sort_buffer::SortBuffer;
use crate::maintenance::target_file_bytes;
use crate::partition::folder;
use crate::staged_files::FileSync;
use crate::storage::{CleanupGuard, Storage};
use crate::{BatchStream, Error, Result, StagedFiles, Table, TablesOptions, row_ids};

/// Prefix of the names of data files written by Headwater. In these files, the bounds of numeric
/// and temporal columns are exact; see [`crate::DataFile::has_exact_bounds`].
pub(crate) const FILE_PREFIX: &str = "headwater-";

/// Maximum number of open files. There is one file for each partition with rows; beyond the limit,
/// the least recently used file is closed.
const OPEN_FILES_MAX: usize = 128;

/// Writes a stream of rows for a table: in input order if `ordered` is true, otherwise sorted by
/// the table's sort order.
pub(crate) async fn write(
    storage: &Arc<Storage>,
    options: &TablesOptions,
    table: &Table,
    rows: BatchStream,
    ordered: bool,
) -> Result<StagedFiles> {
    check_columns(table)?;
    let mut writer = TableWriter::new(storage, options, table, ordered)?;
    match writer.run(table, rows).await {
        Ok(()) => Ok(writer.finish()),
        Err(error) => {
            // Abort uploads first: an upload that completes later would create its file again.
            for (_, open) in writer.open.drain() {
                open.file.abort().await;
            }
            writer.undo.run().await;
            Err(error)
        }
    }
}

/// Rejects a table that has a column of a type that only other engines can write.
fn check_columns(table: &Table) -> Result<()> {
    match table.foreign_column() {
        None => Ok(()),
        Some((column, data_type)) => Err(Error::Unwritten { column, data_type }),
    }
}

/// Converts rows to the schema of a table.
pub(crate) fn convert_rows(table: &Table, rows: &[RecordBatch]) -> Result<Vec<RecordBatch>> {
    let mut fitted = Vec::with_capacity(rows.len());
    for batch in rows {
        let fit = BatchConversion::new(batch.schema(), table.schema())?;
        for piece in fit.slices(batch) {
            fitted.push(fit.apply(&piece)?);
        }
    }
    Ok(fitted)
}

/// The open file of a partition.
struct OpenFile {
    file: FileWriter,
    number: usize,
    used: u64,
}

struct TableWriter<'a> {
    storage: &'a Arc<Storage>,
    options: &'a TablesOptions,
    /// Target size of a file, in bytes.
    target: u64,
    table: Uuid,
    version: iceberg::spec::FormatVersion,
    location: String,
    schema: SchemaRef,
    spec: PartitionSpecRef,
    partition_type: StructType,
    /// Properties of the files; `None` until the first rows arrive.
    config: Option<Arc<WriteConfig>>,
    limits: RowGroupLimits,
    order_id: Option<i32>,
    /// Unique prefix of the names of all files that this write creates.
    name: Uuid,
    /// The buffer for sorting rows; `None` if the table has no sort order.
    sort_buffer: Option<SortBuffer>,
    open: HashMap<PartitionKey, OpenFile>,
    files_started: usize,
    clock: u64,
    closed: Vec<(usize, DataFile)>,
    memory_bytes_peak: u64,
    undo: CleanupGuard,
}

impl<'a> TableWriter<'a> {
    fn new(
        storage: &'a Arc<Storage>,
        options: &'a TablesOptions,
        table: &Table,
        ordered: bool,
    ) -> Result<Self> {
        let metadata = table.metadata();
        let sort_buffer = if ordered { None } else { SortBuffer::of(table)? };
        let order_id = sort_buffer
            .as_ref()
            .and_then(|_| i32::try_from(metadata.default_sort_order().order_id).ok());
        let target = target_file_bytes(table).unwrap_or(options.target_file_bytes);
        let limits = RowGroupLimits {
            rows: options.row_group_rows.max(1),
            bytes: options.row_group_bytes.min(target as usize),
        };
        Ok(TableWriter {
            storage,
            options,
            target,
            table: metadata.uuid(),
            version: metadata.format_version(),
            location: metadata.location().to_owned(),
            schema: metadata.current_schema().clone(),
            spec: metadata.default_partition_spec().clone(),
            partition_type: metadata.default_partition_type().clone(),
            config: None,
            limits,
            order_id,
            name: Uuid::now_v7(),
            sort_buffer,
            open: HashMap::new(),
            files_started: 0,
            clock: 0,
            closed: Vec::new(),
            memory_bytes_peak: 0,
            undo: CleanupGuard::new(storage.clone()),
        })
    }

    async fn run(&mut self, table: &Table, mut rows: BatchStream) -> Result<()> {
        let mut splitter = PartitionSplitter::new(self.spec.clone(), self.schema.clone());
        let mut fit: Option<BatchConversion> = None;
        while let Some(batch) = rows.next().await {
            let batch = batch.map_err(Error::Input)?;
            let fit = match &mut fit {
                Some(fit) if fit.accepts(&batch.schema()) => fit,
                other => {
                    let schema = self.columns(table, batch.schema_ref())?;
                    other.insert(BatchConversion::new(batch.schema(), schema)?)
                }
            };
            for piece in fit.slices(&batch) {
                let fitted = fit.apply(&piece)?;
                let bytes = batch.get_array_memory_size();
                let Some(sort_buffer) = &mut self.sort_buffer else {
                    self.write_rows(&mut splitter, fitted, bytes).await?;
                    continue;
                };
                if sort_buffer.push(fitted) > self.options.write_buffer_bytes {
                    Box::pin(self.write_sorted(&mut splitter)).await?;
                }
            }
        }
        Box::pin(self.write_sorted(&mut splitter)).await?;
        self.close_all().await
    }

    /// Returns the schema of the files. It has lineage columns if the first written rows have them.
    fn columns(&mut self, table: &Table, rows: &Schema) -> Result<arrow::datatypes::SchemaRef> {
        if let Some(config) = &self.config {
            return Ok(config.schema());
        }
        let has_ids = row_ids::own_columns(rows) < rows.fields().len();
        let has_ids = has_ids && row_ids::has_row_ids(table.metadata());
        let own = table.schema();
        let schema = if has_ids { row_ids::with_row_ids(&own) } else { own };
        let config = WriteConfig::new(schema.clone(), self.limits, self.order_id)?;
        self.config = Some(Arc::new(config));
        Ok(schema)
    }

    /// Writes rows. `bytes` is the memory size of the batch that the rows are a part of.
    async fn write_rows(
        &mut self,
        splitter: &mut PartitionSplitter,
        rows: RecordBatch,
        bytes: usize,
    ) -> Result<()> {
        let bytes = bytes + rows.get_array_memory_size();
        for part in splitter.split(rows)? {
            self.write_part(part.key, part.values, &part.rows).await?;
        }
        self.limit_memory(bytes).await
    }

    /// Sorts the buffered rows and writes them to new files.
    async fn write_sorted(&mut self, splitter: &mut PartitionSplitter) -> Result<()> {
        let Some(sort_buffer) = &mut self.sort_buffer else { return Ok(()) };
        let (bytes, sorted) = (sort_buffer.bytes(), sort_buffer.take().await?);
        for rows in sorted {
            let rows = rows.map_err(|error| Error::internal("sorted", error))?;
            self.write_rows(splitter, rows, bytes).await?;
        }
        self.close_all().await
    }

    async fn close_all(&mut self) -> Result<()> {
        let open_keys: Vec<PartitionKey> = self.open.keys().cloned().collect();
        for key in open_keys {
            self.close(&key).await?;
        }
        Ok(())
    }

    async fn write_part(
        &mut self,
        key: PartitionKey,
        values: Struct,
        rows: &RecordBatch,
    ) -> Result<()> {
        self.clock += 1;
        if !self.open.contains_key(&key) {
            if self.open.len() >= OPEN_FILES_MAX {
                let oldest = self.open.iter().min_by_key(|(_, open)| open.used);
                if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                    self.close(&oldest).await?;
                }
            }
            let open = self.open_file(values)?;
            self.open.insert(key.clone(), open);
        }
        let Some(open) = self.open.get_mut(&key) else { return Ok(()) };
        open.used = self.clock;
        open.file.write(rows).await?;
        if open.file.size() >= self.target {
            self.close(&key).await?;
        }
        Ok(())
    }

    fn open_file(&mut self, partition: Struct) -> Result<OpenFile> {
        let mut location = format!("{}/data", self.location);
        if !partition.fields().is_empty() {
            location.push('/');
            location.push_str(&folder(&self.spec, &self.partition_type, &partition));
        }
        let number = self.files_started;
        location = format!("{location}/{FILE_PREFIX}{}-{number:05}.parquet", self.name);
        self.files_started += 1;
        self.undo.add(location.clone());
        let storage = self.storage.clone();
        let unknown = || Error::internal("written", "no rows were written");
        let config = self.config.clone().ok_or_else(unknown)?;
        let file = FileWriter::new(config, storage, location, partition)?;
        Ok(OpenFile { file, number, used: 0 })
    }

    async fn close(&mut self, key: &PartitionKey) -> Result<()> {
        let Some(open) = self.open.remove(key) else { return Ok(()) };
        let file = open.file.close(&self.schema, self.spec.spec_id()).await?;
        self.closed.push((open.number, file));
        Ok(())
    }

    /// Flushes the largest row groups until the memory limit is respected. `rows_bytes` is the
    /// memory of the rows that are being written.
    async fn limit_memory(&mut self, rows_bytes: usize) -> Result<()> {
        let open: usize = self.open.values().map(|open| open.file.memory()).sum();
        self.memory_bytes_peak = self.memory_bytes_peak.max((open + rows_bytes) as u64);
        loop {
            let sizes = self.open.iter().map(|(key, open)| (open.file.memory(), key));
            let (total, largest) = sizes.fold((0, (0, None)), |(total, largest), (memory, key)| {
                let largest = if memory > largest.0 { (memory, Some(key)) } else { largest };
                (total + memory, largest)
            });
            let (true, (_, Some(key))) = (total > self.options.write_buffer_bytes, largest) else {
                return Ok(());
            };
            let key = key.clone();
            if let Some(open) = self.open.get_mut(&key) {
                open.file.flush().await?;
            }
        }
    }

    /// Returns the files. After this, dropping the writer no longer deletes the files.
    fn finish(mut self) -> StagedFiles {
        // Sort the files by the order in which they were opened. This keeps the order of the rows
        // as far as possible.
        self.closed.sort_by_key(|(number, _)| *number);
        self.undo.keep();
        let files: Arc<[DataFile]> = self.closed.into_iter().map(|(_, file)| file).collect();
        let locations = files.iter().map(|file| file.file_path().to_owned()).collect();
        let bytes = files.iter().map(DataFile::file_size_in_bytes).sum();
        StagedFiles {
            files,
            deletes: Arc::new([]),
            memory_bytes_peak: self.memory_bytes_peak,
            durable: FileSync::begin(self.storage.clone(), locations, bytes),
            table: self.table,
            version: self.version,
            schema: self.schema,
            spec: self.spec,
        }
    }
}
