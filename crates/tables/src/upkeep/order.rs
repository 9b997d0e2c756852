//! The rows of some files in an order, in bounded memory.
//!
//! A sample of the rows tells where to cut them into ranges that memory bears. The files are then read
//! once for each range, whose rows are put in order and handed on. So nothing is spilled, and a small
//! partition, which is the usual case, is read twice: once for its keys.

use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::{filter_record_batch, interleave_record_batch};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::mpsc;

use super::keys::Keys;
use crate::{BatchStream, DataFile, Error, Result, Table, Tables};

/// Rows of a sample, about.
const SAMPLE_ROWS: usize = 20_000;

/// Rows in a batch that is handed on.
const BATCH_ROWS: usize = 8192;

/// How rows are arranged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// By columns, one after the other.
    Sort(Vec<SortColumn>),
    /// By several columns alike, at most eight: rows that lie near each other have values that do.
    ZOrder(Vec<String>),
}

/// A column to sort by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SortColumn {
    /// Its name.
    pub name: String,
    /// Whether large values come first.
    pub descending: bool,
    /// Whether nulls come before all values.
    pub nulls_first: bool,
}

impl Order {
    /// The names of the columns.
    pub fn columns(&self) -> Vec<&str> {
        match self {
            Order::Sort(columns) => columns.iter().map(|column| column.name.as_str()).collect(),
            Order::ZOrder(columns) => columns.iter().map(String::as_str).collect(),
        }
    }
}

impl Tables {
    /// Refuses an order that rows of a table cannot be put in.
    pub fn check_order(&self, table: &Table, order: &Order) -> Result<()> {
        let schema = table.schema();
        let names: Vec<String> = order.columns().into_iter().map(str::to_owned).collect();
        drop(crate::read::read(self, &schema, &[], Some(&names), None)?);
        let keys = Keys::new(order, &schema);
        keys.map(drop).map_err(|error| Error::InvalidColumn {
            column: names.join(", "),
            reason: error.to_string(),
        })
    }

    /// The rows of some files in an order, with about so many bytes of them held at once.
    pub fn read_in_order(
        &self,
        table: &Table,
        files: Vec<Arc<DataFile>>,
        order: &Order,
        memory_bytes: usize,
    ) -> Result<BatchStream> {
        self.check_order(table, order)?;
        let (sender, receiver) = mpsc::channel(2);
        let schema = self.schema_to_rewrite(table);
        let ordering =
            Ordering { tables: self.clone(), schema, files, order: order.clone(), memory_bytes };
        tokio::spawn(async move {
            if let Err(error) = ordering.run(&sender).await {
                // Nobody waits where the reader is gone.
                let _ = sender.send(Err(error)).await;
            }
        });
        let rows = stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.map(|batch| (batch, receiver))
        });
        Ok(rows.boxed())
    }
}

struct Ordering {
    tables: Tables,
    schema: SchemaRef,
    files: Vec<Arc<DataFile>>,
    order: Order,
    memory_bytes: usize,
}

type Sender = mpsc::Sender<Result<RecordBatch, ArrowError>>;

/// A range of keys: from one on, up to another.
type Range = (Option<Vec<u8>>, Option<Vec<u8>>);

impl Ordering {
    async fn run(&self, sender: &Sender) -> Result<(), ArrowError> {
        let mut keys = Keys::new(&self.order, &self.schema)?;
        let (sample, row_bytes) = self.sample().await?;
        let fields = self.order.columns();
        let columns = fields.iter().map(|name| self.schema.field_with_name(name).cloned());
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let sample = widen(&self.schema, &columns, sample)?;
        keys.learn(&sample)?;
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

    /// Every so manieth row, of the columns that the order goes by alone; and the bytes of a whole row.
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

    /// Hands on the rows whose keys lie in a range, in order; false where nobody takes them any more. Where
    /// they are more than memory bears, as when many keys are equal, they are so in portions.
    async fn send_range(
        &self,
        keys: &Arc<Keys>,
        range: Range,
        sender: &Sender,
    ) -> Result<bool, ArrowError> {
        let mut batches = crate::read::read(&self.tables, &self.schema, &self.files, None, None)?;
        let (mut held, mut bytes) = (Vec::new(), 0);
        while let Some(batch) = batches.try_next().await? {
            let inside = within(keys, &range, batch)?;
            if inside.num_rows() == 0 {
                continue;
            }
            bytes += inside.get_array_memory_size();
            held.push(inside);
            if bytes > 2 * self.memory_bytes {
                if !send_in_order(keys, std::mem::take(&mut held), sender).await? {
                    return Ok(false);
                }
                bytes = 0;
            }
        }
        send_in_order(keys, held, sender).await
    }
}

/// The rows of a batch whose keys lie in a range.
fn within(
    keys: &Keys,
    (from, until): &Range,
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

/// Hands on some rows in order; false where nobody takes them any more.
async fn send_in_order(
    keys: &Arc<Keys>,
    batches: Vec<RecordBatch>,
    sender: &Sender,
) -> Result<bool, ArrowError> {
    let keys = keys.clone();
    let ordering = tokio::task::spawn_blocking(move || {
        places(&keys, &batches).map(|places| (places, batches))
    });
    let (places, batches) =
        ordering.await.map_err(|error| ArrowError::ExternalError(Box::new(error)))??;
    let all: Vec<&RecordBatch> = batches.iter().collect();
    for some in places.chunks(BATCH_ROWS) {
        let batch = interleave_record_batch(&all, some)?;
        if sender.send(Ok(batch)).await.is_err() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A sample of some columns as batches of all, so that keys are found in it by their place.
fn widen(
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

/// Ranges of keys of about as many rows each.
fn ranges(keys: &Keys, sample: &[RecordBatch], count: usize) -> Result<Vec<Range>, ArrowError> {
    let mut found: Vec<Vec<u8>> = Vec::new();
    if count > 1 {
        for batch in sample {
            found.extend(keys.of(batch)?.iter().map(|key| key.data().to_vec()));
        }
        found.sort_unstable();
    }
    let mut cuts: Vec<Vec<u8>> =
        (1..count).filter_map(|cut| found.get(cut * found.len() / count).cloned()).collect();
    cuts.dedup();
    let from = std::iter::once(None).chain(cuts.iter().cloned().map(Some));
    let until = cuts.iter().cloned().map(Some).chain(std::iter::once(None));
    Ok(from.zip(until).collect())
}

/// Where the rows of some batches lie, in order.
pub(crate) fn places(
    keys: &Keys,
    batches: &[RecordBatch],
) -> Result<Vec<(usize, usize)>, ArrowError> {
    let of = batches.iter().map(|batch| keys.of(batch)).collect::<Result<Vec<_>, _>>()?;
    let all = batches.iter().enumerate();
    let mut places: Vec<(usize, usize)> =
        all.flat_map(|(at, batch)| (0..batch.num_rows()).map(move |row| (at, row))).collect();
    // Stable, so that rows with equal keys keep their order.
    places.sort_by(|one, other| of[one.0].row(one.1).cmp(&of[other.0].row(other.1)));
    Ok(places)
}
