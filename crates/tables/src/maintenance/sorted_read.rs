//! Reads the rows of files in a sort order, with a limited amount of memory.
//!
//! A sample of the rows determines ranges of sort keys, such that the rows of each range fit into
//! memory. For each range, the files are read once, and the rows of the range are sorted and
//! returned. So no rows are written to disk. A small partition, which is the usual case, is read
//! twice: once for the sample and once for the rows.

use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::{filter_record_batch, interleave_record_batch};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::mpsc;

use super::sort_keys::SortKeyEncoder;
use crate::{BatchStream, DataFile, Error, MaintenancePlanner, Result, Table, Tables};

/// Approximate number of rows in a sample.
const SAMPLE_ROWS: usize = 20_000;

/// Number of rows in an output batch.
const BATCH_ROWS: usize = 8192;

/// The order in which rows are returned or written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowOrder {
    /// Sorted by these columns, the most significant first.
    Sort(Vec<SortColumn>),
    /// A z-order of up to eight columns: neighbouring rows have similar values in all of these
    /// columns.
    ZOrder(Vec<String>),
}

/// A sort column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SortColumn {
    /// Name of the column.
    pub name: String,
    /// True for descending order.
    pub descending: bool,
    /// True if nulls come first.
    pub nulls_first: bool,
}

impl RowOrder {
    /// Returns the names of the columns.
    pub fn columns(&self) -> Vec<&str> {
        match self {
            RowOrder::Sort(columns) => columns.iter().map(|column| column.name.as_str()).collect(),
            RowOrder::ZOrder(columns) => columns.iter().map(String::as_str).collect(),
        }
    }
}

impl MaintenancePlanner<'_> {
    /// Checks that a table has the columns of an order, and that their types can be sorted.
    pub fn check_order(self, table: &Table, order: &RowOrder) -> Result<()> {
        let schema = table.schema();
        let names: Vec<String> = order.columns().into_iter().map(str::to_owned).collect();
        drop(crate::read::read(self.tables, &schema, &[], Some(&names), None)?);
        let keys = SortKeyEncoder::new(order, &schema);
        keys.map(drop).map_err(|error| Error::InvalidColumn {
            column: names.join(", "),
            reason: error.to_string(),
        })
    }

    /// Returns the rows of files in an order, using about `memory_bytes` of memory.
    pub fn read_in_order(
        self,
        table: &Table,
        files: Vec<Arc<DataFile>>,
        order: &RowOrder,
        memory_bytes: usize,
    ) -> Result<BatchStream> {
        self.check_order(table, order)?;
        let (sender, receiver) = mpsc::channel(2);
        let schema = self.tables.rewrites().schema(table);
        let ordered_read = OrderedRead {
            tables: self.tables.clone(),
            schema,
            files,
            order: order.clone(),
            memory_bytes,
        };
        tokio::spawn(async move {
            if let Err(error) = ordered_read.run(&sender).await {
                // Sending fails only if the receiver was dropped and needs no more rows.
                let _ = sender.send(Err(error)).await;
            }
        });
        let rows = stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.map(|batch| (batch, receiver))
        });
        Ok(rows.boxed())
    }
}

struct OrderedRead {
    tables: Tables,
    schema: SchemaRef,
    files: Vec<Arc<DataFile>>,
    order: RowOrder,
    memory_bytes: usize,
}

type Sender = mpsc::Sender<Result<RecordBatch, ArrowError>>;

/// A range of keys: an inclusive start and an exclusive end, each optional.
type KeyRange = (Option<Vec<u8>>, Option<Vec<u8>>);

impl OrderedRead {
    async fn run(&self, sender: &Sender) -> Result<(), ArrowError> {
        let mut keys = SortKeyEncoder::new(&self.order, &self.schema)?;
        let (sample, row_bytes) = self.sample().await?;
        let fields = self.order.columns();
        let columns = fields.iter().map(|name| self.schema.field_with_name(name).cloned());
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let sample = extend_to_schema(&self.schema, &columns, sample)?;
        keys.add_sample(&sample)?;
        let rows: u64 = self.files.iter().map(|file| file.rows).sum();
        let bytes = usize::try_from(rows).unwrap_or(usize::MAX).saturating_mul(row_bytes);
        let keys = Arc::new(keys);
        for range in ranges(&keys, &sample, bytes / self.memory_bytes.max(1) + 1)? {
            if !self.send_range(&keys, range, sender).await? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Reads every n-th row, with only the sort columns. Also returns the average size of a
    /// complete row in bytes.
    async fn sample(&self) -> Result<(Vec<RecordBatch>, usize), ArrowError> {
        let read = |names: Option<&[String]>, limit: Option<usize>| {
            crate::read::read(&self.tables, &self.schema, &self.files, names, limit)
        };
        let first: Vec<RecordBatch> = read(None, Some(BATCH_ROWS))?.try_collect().await?;
        let (bytes, count) = first.iter().fold((0, 0), |(bytes, rows), batch| {
            (bytes + batch.get_array_memory_size(), rows + batch.num_rows())
        });
        let rows: usize = self.files.iter().map(|file| file.rows as usize).sum();
        let step = rows / SAMPLE_ROWS + 1;
        let mut names: Vec<String> = Vec::new();
        for name in self.order.columns() {
            if !names.iter().any(|known| known == name) {
                names.push(name.to_owned());
            }
        }
        let mut batches = read(Some(&names), None)?;
        let (mut sample, mut seen) = (Vec::new(), 0);
        while let Some(batch) = batches.try_next().await? {
            let mask: BooleanArray =
                (seen..seen + batch.num_rows()).map(|row| Some(row % step == 0)).collect();
            seen += batch.num_rows();
            sample.push(filter_record_batch(&batch, &mask)?);
        }
        Ok((sample, bytes / count.max(1) + 1))
    }

    /// Sends the rows of a key range, in order. Returns false if the receiver was dropped. If the
    /// rows do not fit into memory, for example because many keys are equal, they are sorted in
    /// chunks.
    async fn send_range(
        &self,
        keys: &Arc<SortKeyEncoder>,
        range: KeyRange,
        sender: &Sender,
    ) -> Result<bool, ArrowError> {
        let mut batches = crate::read::read(&self.tables, &self.schema, &self.files, None, None)?;
        let (mut buffered, mut bytes) = (Vec::new(), 0);
        while let Some(batch) = batches.try_next().await? {
            let inside = within(keys, &range, batch)?;
            if inside.num_rows() == 0 {
                continue;
            }
            bytes += inside.get_array_memory_size();
            buffered.push(inside);
            if bytes > 2 * self.memory_bytes {
                if !send_in_order(keys, std::mem::take(&mut buffered), sender).await? {
                    return Ok(false);
                }
                bytes = 0;
            }
        }
        send_in_order(keys, buffered, sender).await
    }
}

/// Returns the rows of a batch within a key range.
fn within(
    keys: &SortKeyEncoder,
    (from, until): &KeyRange,
    batch: RecordBatch,
) -> Result<RecordBatch, ArrowError> {
    if from.is_none() && until.is_none() {
        return Ok(batch);
    }
    let of = keys.of(&batch)?;
    let inside = of.iter().map(|key| {
        let after = from.as_ref().is_none_or(|from| key.data() >= from.as_slice());
        Some(after && until.as_ref().is_none_or(|until| key.data() < until.as_slice()))
    });
    let mask: BooleanArray = inside.collect();
    filter_record_batch(&batch, &mask)
}

/// Sends rows in order. Returns false if the receiver was dropped.
async fn send_in_order(
    keys: &Arc<SortKeyEncoder>,
    batches: Vec<RecordBatch>,
    sender: &Sender,
) -> Result<bool, ArrowError> {
    let keys = keys.clone();
    let ordered_read = tokio::task::spawn_blocking(move || {
        sorted_positions(&keys, &batches).map(|sorted_positions| (sorted_positions, batches))
    });
    let (sorted_positions, batches) =
        ordered_read.await.map_err(|error| ArrowError::ExternalError(Box::new(error)))??;
    let all: Vec<&RecordBatch> = batches.iter().collect();
    for some in sorted_positions.chunks(BATCH_ROWS) {
        let batch = interleave_record_batch(&all, some)?;
        if sender.send(Ok(batch)).await.is_err() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Adds the missing columns of the schema to a sample, because the sort refers to columns by their
/// index in the schema.
fn extend_to_schema(
    schema: &SchemaRef,
    columns: &[arrow::datatypes::Field],
    sample: Vec<RecordBatch>,
) -> Result<Vec<RecordBatch>, ArrowError> {
    let nullable = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
    let wide = Arc::new(Schema::new(nullable.collect::<Vec<_>>()));
    let is_known = |name: &str| columns.iter().any(|column| column.name() == name);
    let batches = sample.into_iter().map(|batch| {
        let arrays = wide.fields().iter().map(|field| match batch.column_by_name(field.name()) {
            Some(array) if is_known(field.name()) => array.clone(),
            _ => arrow::array::new_null_array(field.data_type(), batch.num_rows()),
        });
        RecordBatch::try_new(wide.clone(), arrays.collect())
    });
    batches.collect()
}

/// Returns key ranges with about equal numbers of rows.
fn ranges(
    keys: &SortKeyEncoder,
    sample: &[RecordBatch],
    count: usize,
) -> Result<Vec<KeyRange>, ArrowError> {
    let mut sample_keys: Vec<Vec<u8>> = Vec::new();
    if count > 1 {
        for batch in sample {
            sample_keys.extend(keys.of(batch)?.iter().map(|key| key.data().to_vec()));
        }
        sample_keys.sort_unstable();
    }
    let mut boundaries: Vec<Vec<u8>> = (1..count)
        .filter_map(|index| sample_keys.get(index * sample_keys.len() / count).cloned())
        .collect();
    boundaries.dedup();
    let from = std::iter::once(None).chain(boundaries.iter().cloned().map(Some));
    let until = boundaries.iter().cloned().map(Some).chain(std::iter::once(None));
    Ok(from.zip(until).collect())
}

/// Returns all rows in the sort order, as pairs of the batch's index and the row's index in the
/// batch.
pub(crate) fn sorted_positions(
    keys: &SortKeyEncoder,
    batches: &[RecordBatch],
) -> Result<Vec<(usize, usize)>, ArrowError> {
    let of = batches.iter().map(|batch| keys.of(batch)).collect::<Result<Vec<_>, _>>()?;
    let all = batches.iter().enumerate();
    let mut sorted_positions: Vec<(usize, usize)> =
        all.flat_map(|(at, batch)| (0..batch.num_rows()).map(move |row| (at, row))).collect();
    // The sort is stable, so that rows with equal keys keep their order.
    sorted_positions.sort_by(|one, other| of[one.0].row(one.1).cmp(&of[other.0].row(other.1)));
    Ok(sorted_positions)
}
