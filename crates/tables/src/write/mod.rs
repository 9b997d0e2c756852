//! Writes rows to data files: fitted to the table's columns, split by partition, rolled at the
//! target size.
//!
//! What is written belongs to no snapshot. It begins to be fsynced, and the commit waits for that.
//! A write that fails, or is dropped half-way, removes its files.

mod file;
mod fit;
mod metrics;
mod pieces;
mod sort;
mod split;

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use futures::StreamExt;
use iceberg::spec::{DataFile, PartitionSpecRef, SchemaRef, Struct, StructType};
use uuid::Uuid;

use self::file::{FileFormat, FileWriter, RowGroupLimits};
use self::fit::Fit;
use self::sort::Sorting;
use self::split::PartitionKey;
pub(crate) use self::split::Splitter;
use crate::partition::folder;
use crate::staged::Durable;
use crate::storage::{Storage, Undo};
use crate::upkeep::target_file_bytes;
use crate::{BatchStream, Error, Result, Staged, Table, TablesOptions, row_ids};

/// What the names of data files begin with that are written here. The bounds of their numbers and times are
/// values that occur; see [`crate::DataFile::has_exact_bounds`].
pub(crate) const FILE_PREFIX: &str = "headwater-";

/// How many partitions may have a file open; beyond, the one that took no row for longest is
/// closed.
const OPEN_FILES_MAX: usize = 128;

/// Writes a stream of rows for a table: in the table's order, or as they come where they are `ordered`.
pub(crate) async fn write(
    storage: &Arc<Storage>,
    options: &TablesOptions,
    table: &Table,
    rows: BatchStream,
    ordered: bool,
) -> Result<Staged> {
    check_columns(table)?;
    let mut writer = Writer::new(storage, options, table, ordered)?;
    match writer.run(table, rows).await {
        Ok(()) => Ok(writer.finish()),
        Err(error) => {
            // Uploads under way end before their files are looked for.
            for (_, open) in writer.open.drain() {
                open.file.abort().await;
            }
            writer.undo.run().await;
            Err(error)
        }
    }
}

/// Refuses a table with a column that only other engines write.
fn check_columns(table: &Table) -> Result<()> {
    match table.foreign_column() {
        None => Ok(()),
        Some((column, data_type)) => Err(Error::Unwritten { column, data_type }),
    }
}

/// Fits rows to a table's columns.
pub(crate) fn fit(table: &Table, rows: &[RecordBatch]) -> Result<Vec<RecordBatch>> {
    let mut fitted = Vec::with_capacity(rows.len());
    for batch in rows {
        let fit = Fit::new(batch.schema(), table.schema())?;
        for piece in fit.pieces(batch) {
            fitted.push(fit.apply(&piece)?);
        }
    }
    Ok(fitted)
}

/// A partition's file, and when it last took a row.
struct Open {
    file: FileWriter,
    number: usize,
    used: u64,
}

struct Writer<'a> {
    storage: &'a Arc<Storage>,
    options: &'a TablesOptions,
    /// The size at which a file is closed, in bytes.
    target: u64,
    table: Uuid,
    version: iceberg::spec::FormatVersion,
    location: String,
    schema: SchemaRef,
    spec: PartitionSpecRef,
    partition_type: StructType,
    /// What files are; known once the first rows come.
    format: Option<Arc<FileFormat>>,
    limits: RowGroupLimits,
    order_id: Option<i32>,
    /// Begins the names of all files of this write.
    name: Uuid,
    /// Rows that are held until they are put in order, where the table has one.
    sorting: Option<Sorting>,
    open: HashMap<PartitionKey, Open>,
    begun: usize,
    clock: u64,
    closed: Vec<(usize, DataFile)>,
    memory_bytes_peak: u64,
    undo: Undo,
}

impl<'a> Writer<'a> {
    fn new(
        storage: &'a Arc<Storage>,
        options: &'a TablesOptions,
        table: &Table,
        ordered: bool,
    ) -> Result<Self> {
        let metadata = table.metadata();
        let sorting = if ordered { None } else { Sorting::of(table)? };
        let order_id = sorting
            .as_ref()
            .and_then(|_| i32::try_from(metadata.default_sort_order().order_id).ok());
        let target = target_file_bytes(table).unwrap_or(options.target_file_bytes);
        let limits = RowGroupLimits {
            rows: options.row_group_rows.max(1),
            bytes: options.row_group_bytes.min(target as usize),
        };
        Ok(Writer {
            storage,
            options,
            target,
            table: metadata.uuid(),
            version: metadata.format_version(),
            location: metadata.location().to_owned(),
            schema: metadata.current_schema().clone(),
            spec: metadata.default_partition_spec().clone(),
            partition_type: metadata.default_partition_type().clone(),
            format: None,
            limits,
            order_id,
            name: Uuid::now_v7(),
            sorting,
            open: HashMap::new(),
            begun: 0,
            clock: 0,
            closed: Vec::new(),
            memory_bytes_peak: 0,
            undo: Undo::new(storage.clone()),
        })
    }

    async fn run(&mut self, table: &Table, mut rows: BatchStream) -> Result<()> {
        let mut splitter = Splitter::new(self.spec.clone(), self.schema.clone());
        let mut fit: Option<Fit> = None;
        while let Some(batch) = rows.next().await {
            let batch = batch.map_err(Error::Input)?;
            let fit = match &mut fit {
                Some(fit) if fit.takes(&batch.schema()) => fit,
                other => {
                    let schema = self.columns(table, batch.schema_ref())?;
                    other.insert(Fit::new(batch.schema(), schema)?)
                }
            };
            for piece in fit.pieces(&batch) {
                let fitted = fit.apply(&piece)?;
                let bytes = batch.get_array_memory_size();
                let Some(sorting) = &mut self.sorting else {
                    self.write_rows(&mut splitter, fitted, bytes).await?;
                    continue;
                };
                if sorting.hold(fitted) > self.options.write_buffer_bytes {
                    Box::pin(self.write_held(&mut splitter)).await?;
                }
            }
        }
        Box::pin(self.write_held(&mut splitter)).await?;
        self.close_all().await
    }

    /// The columns of the files, which the first rows decide: whether they bring the ids of rows along.
    fn columns(&mut self, table: &Table, rows: &Schema) -> Result<arrow::datatypes::SchemaRef> {
        if let Some(format) = &self.format {
            return Ok(format.schema());
        }
        let brings = row_ids::own_columns(rows) < rows.fields().len();
        let brings = brings && row_ids::has_row_ids(table.metadata());
        let own = table.schema();
        let schema = if brings { row_ids::with_row_ids(&own) } else { own };
        let format = FileFormat::new(schema.clone(), self.limits, self.order_id)?;
        self.format = Some(Arc::new(format));
        Ok(schema)
    }

    /// Writes rows; `bytes` are those that others of theirs take beside them.
    async fn write_rows(
        &mut self,
        splitter: &mut Splitter,
        rows: RecordBatch,
        bytes: usize,
    ) -> Result<()> {
        let bytes = bytes + rows.get_array_memory_size();
        for part in splitter.split(rows)? {
            self.write_part(part.key, part.values, &part.rows).await?;
        }
        self.bound_memory(bytes).await
    }

    /// Writes the rows that are held, in order, to files of their own.
    async fn write_held(&mut self, splitter: &mut Splitter) -> Result<()> {
        let Some(sorting) = &mut self.sorting else { return Ok(()) };
        let (bytes, sorted) = (sorting.bytes(), sorting.take().await?);
        for rows in sorted {
            let rows = rows.map_err(|error| Error::internal("sorted", error))?;
            self.write_rows(splitter, rows, bytes).await?;
        }
        self.close_all().await
    }

    async fn close_all(&mut self) -> Result<()> {
        let left: Vec<PartitionKey> = self.open.keys().cloned().collect();
        for key in left {
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
            let open = self.begin(values)?;
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

    fn begin(&mut self, partition: Struct) -> Result<Open> {
        let mut location = format!("{}/data", self.location);
        if !partition.fields().is_empty() {
            location.push('/');
            location.push_str(&folder(&self.spec, &self.partition_type, &partition));
        }
        let number = self.begun;
        location = format!("{location}/{FILE_PREFIX}{}-{number:05}.parquet", self.name);
        self.begun += 1;
        self.undo.add(location.clone());
        let storage = self.storage.clone();
        let unknown = || Error::internal("written", "no rows came");
        let format = self.format.clone().ok_or_else(unknown)?;
        let file = FileWriter::new(format, storage, location, partition)?;
        Ok(Open { file, number, used: 0 })
    }

    async fn close(&mut self, key: &PartitionKey) -> Result<()> {
        let Some(open) = self.open.remove(key) else { return Ok(()) };
        let file = open.file.close(&self.schema, self.spec.spec_id()).await?;
        self.closed.push((open.number, file));
        Ok(())
    }

    /// Sends off the largest row groups while all together take too much memory. `rows_bytes` are
    /// those of the rows that came last.
    async fn bound_memory(&mut self, rows_bytes: usize) -> Result<()> {
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

    /// Lets the files be.
    fn finish(mut self) -> Staged {
        // In the order in which they were begun, so that rows keep theirs as far as files can.
        self.closed.sort_by_key(|(number, _)| *number);
        self.undo.keep();
        let files: Arc<[DataFile]> = self.closed.into_iter().map(|(_, file)| file).collect();
        let locations = files.iter().map(|file| file.file_path().to_owned()).collect();
        let bytes = files.iter().map(DataFile::file_size_in_bytes).sum();
        Staged {
            files,
            deletes: Arc::new([]),
            memory_bytes_peak: self.memory_bytes_peak,
            durable: Durable::begin(self.storage.clone(), locations, bytes),
            table: self.table,
            version: self.version,
            schema: self.schema,
            spec: self.spec,
        }
    }
}
