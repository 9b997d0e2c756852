//! The plain reader: rows of data files, for samples, diffs and functions that need no SQL.
//!
//! Files come one after the other, in order; the next is opened while one is read. Only the wanted
//! columns are fetched.

mod align;
mod source;

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow::error::ArrowError;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use headwater_model::nearest;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::{ParquetRecordBatchStreamBuilder, ProjectionMask, RowNumber};
use parquet::errors::ParquetError;

pub use self::align::align;
use self::align::find;
use self::source::Source;
use crate::defaults::absent;
use crate::row_ids::{CHANGED, Origin, ROW_ID, own_columns};
use crate::types::schema::field_id;
use crate::{BatchStream, DataFile, Error, Positions, Result, Tables, foreign_column};

/// Rows in a batch.
const BATCH_ROWS: usize = 8192;

/// How many files are open at once.
const FILES_AT_ONCE: usize = 2;

/// A file, and the rows of it that are left out beside those that are gone.
type Part = (Arc<DataFile>, Option<Positions>);

/// Where a file lies.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) location: String,
    pub(crate) path: object_store::path::Path,
    pub(crate) bytes: u64,
}

impl Place {
    pub(crate) fn of(file: &DataFile) -> Self {
        Place { location: file.location.clone(), path: file.path.clone(), bytes: file.bytes }
    }
}

/// Reads files as rows of a table's schema.
pub(crate) fn read(
    tables: &Tables,
    schema: &SchemaRef,
    files: &[Arc<DataFile>],
    columns: Option<&[String]>,
    limit: Option<usize>,
) -> Result<BatchStream> {
    let wanted = Arc::new(project(schema, columns)?);
    let files = files.iter().map(|file| (file.clone(), None)).collect();
    let opened = open_all(tables, files, wanted, (limit, BATCH_ROWS));
    Ok(match limit {
        None => opened,
        Some(limit) => take_rows(opened, limit).boxed(),
    })
}

/// Reads all columns of files, so many rows at once.
pub(crate) fn read_slowly(
    tables: &Tables,
    schema: &SchemaRef,
    files: &[Arc<DataFile>],
    batch_rows: usize,
) -> BatchStream {
    let files = files.iter().map(|file| (file.clone(), None)).collect();
    open_all(tables, files, schema.clone(), (None, batch_rows))
}

/// Reads all columns of files, without some of their rows.
pub(crate) fn read_rest(
    tables: &Tables,
    schema: &SchemaRef,
    files: Vec<(Arc<DataFile>, Positions)>,
) -> BatchStream {
    let files = files.into_iter().map(|(file, without)| (file, Some(without))).collect();
    open_all(tables, files, schema.clone(), (None, BATCH_ROWS))
}

fn open_all(
    tables: &Tables,
    files: Vec<Part>,
    wanted: SchemaRef,
    (limit, batch_rows): (Option<usize>, usize),
) -> BatchStream {
    let tables = tables.clone();
    stream::iter(files)
        .map(move |(file, without)| {
            let (tables, wanted) = (tables.clone(), wanted.clone());
            async move {
                let gone = tables.deleted(&file).await?;
                let without = match (gone, without) {
                    (None, without) => without,
                    (Some(gone), None) => Some(gone.as_ref().clone()),
                    (Some(gone), Some(mut without)) => {
                        without.add_all(&gone);
                        Some(without)
                    }
                };
                let store = tables.object_store().clone();
                let origin = Some(Origin::of(&file));
                let reading =
                    Reading { without, limit, batch_rows, origin, ..Reading::all(wanted) };
                open(store, Place::of(&file), reading).await
            }
        })
        .buffered(FILES_AT_ONCE)
        .try_flatten()
        .boxed()
}

fn project(schema: &SchemaRef, columns: Option<&[String]>) -> Result<Schema> {
    let Some(columns) = columns else { return Ok(schema.as_ref().clone()) };
    let fields = columns.iter().map(|column| {
        schema.field_with_name(column).cloned().map_err(|_| Error::ColumnNotFound {
            column: column.clone(),
            near: nearest(column, schema.fields().iter().map(|field| field.name().as_str())),
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

/// What is read of a file.
pub(crate) struct Reading {
    /// Its columns, matched by field id.
    pub(crate) wanted: SchemaRef,
    /// Rows that are left out.
    pub(crate) without: Option<Positions>,
    pub(crate) limit: Option<usize>,
    /// Whether a column that the file lacks makes it no such file; otherwise it has its default, or is null.
    pub(crate) complete: bool,
    /// Rows that are decoded at once.
    pub(crate) batch_rows: usize,
    /// Where rows have their ids from, for columns that ask for those.
    pub(crate) origin: Option<Origin>,
}

impl Reading {
    /// All rows.
    pub(crate) fn all(wanted: SchemaRef) -> Self {
        let batch_rows = BATCH_ROWS;
        Reading { wanted, without: None, limit: None, complete: false, batch_rows, origin: None }
    }
}

/// Opens a Parquet file.
pub(crate) async fn open(
    store: Arc<dyn ObjectStore>,
    file: Place,
    reading: Reading,
) -> Result<BoxStream<'static, Result<RecordBatch, ArrowError>>, ArrowError> {
    let Reading { wanted, without, limit, complete, batch_rows, origin } = reading;
    if let Some((column, data_type)) = wanted.fields().iter().find_map(|one| foreign_column(one)) {
        return Err(Error::Unread { column, data_type }.into());
    }
    let origin = origin.filter(|_| own_columns(&wanted) < wanted.fields().len());
    let failed = {
        let file = file.clone();
        move |error: ParquetError| ArrowError::from(file_error(&file, error))
    };
    let reader = Source { store: store.clone(), path: file.path.clone(), bytes: file.bytes };
    let mut options = ArrowReaderOptions::new();
    if origin.is_some() {
        options = options.with_virtual_columns(vec![place_field()]).map_err(&failed)?;
    }
    let opened = ParquetRecordBatchStreamBuilder::new_with_options(reader, options).await;
    let builder = match opened {
        Ok(builder) => builder,
        Err(error) => return Err(opening_error(&store, &file, error).await.into()),
    };
    let found = builder.schema().clone();
    let roots: Vec<_> =
        wanted.fields().iter().filter_map(|field| find(found.fields(), field)).collect();
    if complete && roots.len() < wanted.fields().len() {
        return Err(Error::corrupt(&file.location, "it lacks a column").into());
    }
    let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
    let mut builder = builder.with_projection(mask).with_batch_size(batch_rows);
    if let Some(without) = without {
        let rows = builder.metadata().file_metadata().num_rows();
        builder = builder.with_row_selection(without.rest(rows as u64));
    }
    if let Some(limit) = limit {
        builder = builder.with_limit(limit);
    }
    let batches = builder.build().map_err(&failed)?.map_err(failed);
    let arranged = move |batch| futures::future::ready(arrange(&batch, &wanted, origin));
    Ok(batches.and_then(arranged).boxed())
}

/// The column of rows' places in their file, which the reader counts.
fn place_field() -> FieldRef {
    Arc::new(Field::new(PLACE, DataType::Int64, false).with_extension_type(RowNumber))
}

/// The name of that column; no table has one with a zero character.
const PLACE: &str = "\0r";

/// The batch of a file with the wanted columns, in order.
fn arrange(
    batch: &RecordBatch,
    wanted: &Arc<Schema>,
    origin: Option<Origin>,
) -> Result<RecordBatch, ArrowError> {
    let found = batch.schema();
    let places = batch.column_by_name(PLACE).zip(origin);
    let columns = wanted.fields().iter().map(|field| {
        let position = find(found.fields(), field);
        if let (Some((places, origin)), Some(id @ (ROW_ID | CHANGED))) = (places, field_id(field)) {
            let column = position.map(|position| batch.column(position));
            return Ok(origin.column(id, column, places));
        }
        match position {
            Some(position) => align(batch.column(position), field),
            None => Ok(absent(field, batch.num_rows())),
        }
    });
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(wanted.clone(), columns, &options)
}

/// A Parquet error about a data file: the object store's, or the file's own.
fn file_error(file: &Place, error: ParquetError) -> Error {
    match error {
        ParquetError::External(source) => match source.downcast::<object_store::Error>() {
            Ok(source) => Error::storage(&file.location, *source),
            Err(source) => Error::corrupt(&file.location, source),
        },
        error => Error::corrupt(&file.location, error),
    }
}

/// The same while a file is opened, where a wrong size explains more than what came of it.
async fn opening_error(store: &Arc<dyn ObjectStore>, file: &Place, error: ParquetError) -> Error {
    match store.head(&file.path).await {
        Ok(found) if found.size != file.bytes => {
            let reason = format!("it has {} bytes instead of {}", found.size, file.bytes);
            Error::corrupt(&file.location, reason)
        }
        _ => file_error(file, error),
    }
}
