//! The plain reader: rows of data files, for samples, diffs and functions that need no SQL.
//!
//! Files come one after the other, in order; the next is opened while one is read. Only the wanted
//! columns are fetched.

mod align;
mod source;

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions, new_null_array};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::{ParquetRecordBatchStreamBuilder, ProjectionMask};
use parquet::errors::ParquetError;

use self::align::{align, find};
use self::source::Source;
use crate::error::near;
use crate::{BatchStream, DataFile, Error, Positions, Result};

/// Rows in a batch.
const BATCH_ROWS: usize = 8192;

/// How many files are open at once.
const FILES_AT_ONCE: usize = 2;

/// A file, and the rows of it that are left out.
type Part = (Arc<DataFile>, Option<Positions>);

/// Reads files as rows of a table's schema.
pub(crate) fn read(
    store: &Arc<dyn ObjectStore>,
    schema: &SchemaRef,
    files: &[Arc<DataFile>],
    columns: Option<&[String]>,
    limit: Option<usize>,
) -> Result<BatchStream> {
    let wanted = Arc::new(project(schema, columns)?);
    let files = files.iter().map(|file| (file.clone(), None)).collect();
    let opened = open_all(store, files, wanted, limit);
    Ok(match limit {
        None => opened,
        Some(limit) => take_rows(opened, limit).boxed(),
    })
}

/// Reads all columns of files, without some of their rows.
pub(crate) fn read_rest(
    store: &Arc<dyn ObjectStore>,
    schema: &SchemaRef,
    files: Vec<(Arc<DataFile>, Positions)>,
) -> BatchStream {
    let files = files.into_iter().map(|(file, without)| (file, Some(without))).collect();
    open_all(store, files, schema.clone(), None)
}

fn open_all(
    store: &Arc<dyn ObjectStore>,
    files: Vec<Part>,
    wanted: SchemaRef,
    limit: Option<usize>,
) -> BatchStream {
    let store = store.clone();
    stream::iter(files)
        .map(move |part| open(store.clone(), part, wanted.clone(), limit))
        .buffered(FILES_AT_ONCE)
        .try_flatten()
        .boxed()
}

fn project(schema: &SchemaRef, columns: Option<&[String]>) -> Result<Schema> {
    let Some(columns) = columns else { return Ok(schema.as_ref().clone()) };
    let fields = columns.iter().map(|column| {
        schema.field_with_name(column).cloned().map_err(|_| Error::ColumnNotFound {
            column: column.clone(),
            near: near(column, schema.fields().iter().map(|field| field.name().as_str())),
        })
    });
    Ok(Schema::new(fields.collect::<Result<Vec<_>>>()?))
}

/// Passes batches on until there are enough rows.
fn take_rows(
    batches: BatchStream,
    limit: usize,
) -> impl futures::Stream<Item = Result<RecordBatch, ArrowError>> + Send {
    stream::try_unfold((batches, limit), |(mut batches, left)| async move {
        if left == 0 {
            return Ok(None);
        }
        let Some(batch) = batches.try_next().await? else { return Ok(None) };
        let rows = batch.num_rows().min(left);
        Ok(Some((batch.slice(0, rows), (batches, left - rows))))
    })
}

async fn open(
    store: Arc<dyn ObjectStore>,
    (file, without): Part,
    wanted: Arc<Schema>,
    limit: Option<usize>,
) -> Result<BoxStream<'static, Result<RecordBatch, ArrowError>>, ArrowError> {
    let failed = {
        let file = file.clone();
        move |error: ParquetError| ArrowError::from(file_error(&file, error))
    };
    let reader = Source { store: store.clone(), path: file.path.clone(), bytes: file.bytes };
    let builder = match ParquetRecordBatchStreamBuilder::new(reader).await {
        Ok(builder) => builder,
        Err(error) => return Err(opening_error(&store, &file, error).await.into()),
    };
    let found = builder.schema().clone();
    let roots: Vec<_> =
        wanted.fields().iter().filter_map(|field| find(found.fields(), field)).collect();
    let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
    let mut builder = builder.with_projection(mask).with_batch_size(BATCH_ROWS);
    if let Some(without) = without {
        let rows = builder.metadata().file_metadata().num_rows();
        builder = builder.with_row_selection(without.rest(rows as u64));
    }
    if let Some(limit) = limit {
        builder = builder.with_limit(limit);
    }
    let batches = builder.build().map_err(&failed)?.map_err(failed);
    Ok(batches.and_then(move |batch| futures::future::ready(arrange(&batch, &wanted))).boxed())
}

/// The batch of a file with the wanted columns, in order.
fn arrange(batch: &RecordBatch, wanted: &Arc<Schema>) -> Result<RecordBatch, ArrowError> {
    let found = batch.schema();
    let columns = wanted.fields().iter().map(|field| match find(found.fields(), field) {
        Some(position) => align(batch.column(position), field),
        None => Ok(new_null_array(field.data_type(), batch.num_rows())),
    });
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(wanted.clone(), columns, &options)
}

/// A Parquet error about a data file: the object store's, or the file's own.
fn file_error(file: &DataFile, error: ParquetError) -> Error {
    match error {
        ParquetError::External(source) => match source.downcast::<object_store::Error>() {
            Ok(source) => Error::storage(&file.location, *source),
            Err(source) => Error::corrupt(&file.location, source),
        },
        error => Error::corrupt(&file.location, error),
    }
}

/// The same while a file is opened, where a wrong size explains more than what came of it.
async fn opening_error(
    store: &Arc<dyn ObjectStore>,
    file: &DataFile,
    error: ParquetError,
) -> Error {
    match store.head(&file.path).await {
        Ok(found) if found.size != file.bytes => {
            let reason = format!("it has {} bytes instead of {}", found.size, file.bytes);
            Error::corrupt(&file.location, reason)
        }
        _ => file_error(file, error),
    }
}
