//! Reads rows of data files without SQL, for samples, diffs and functions.
//!
//! Files are read in order. The next file is opened while the current file is read. Only the
//! required columns are fetched.

mod align;
mod data_file_reader;

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow::error::ArrowError;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use headwater_model::nearest;
use headwater_table_format::{LAST_UPDATED, ROW_ID};
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::{ParquetRecordBatchStreamBuilder, ProjectionMask, RowNumber};
use parquet::errors::ParquetError;

pub use self::align::align;
use self::align::find;
use self::data_file_reader::FileReader;
use crate::column_defaults::missing_in_file;
use crate::row_ids::{RowIdOrigin, own_columns};
use crate::types::schema::field_id;
use crate::{BatchStream, DataFile, Error, Positions, Result, Tables, foreign_column};

/// Number of rows in a batch.
const BATCH_ROWS: usize = 8192;

/// Maximum number of files open at a time.
const OPEN_FILES_MAX: usize = 2;

/// A file, and the positions of rows to skip in addition to the deleted rows.
type FileToRead = (Arc<DataFile>, Option<Positions>);

/// The location of a file.
#[derive(Debug, Clone)]
pub(crate) struct FileLocation {
    pub(crate) location: String,
    pub(crate) path: object_store::path::Path,
    pub(crate) bytes: u64,
}

impl FileLocation {
    pub(crate) fn of(file: &DataFile) -> Self {
        FileLocation { location: file.location.clone(), path: file.path.clone(), bytes: file.bytes }
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
    let opened = open_all(tables, files, wanted, limit, BATCH_ROWS);
    Ok(match limit {
        None => opened,
        Some(limit) => take_rows(opened, limit).boxed(),
    })
}

/// Reads all columns of a schema from files. The fields of the schema must have field ids.
pub fn read_with_schema(
    tables: &Tables,
    schema: &SchemaRef,
    files: &[Arc<DataFile>],
) -> Result<BatchStream> {
    read(tables, schema, files, None, None)
}

/// Reads all columns of files in batches of `batch_rows` rows.
pub(crate) fn read_slowly(
    tables: &Tables,
    schema: &SchemaRef,
    files: &[Arc<DataFile>],
    batch_rows: usize,
) -> BatchStream {
    let files = files.iter().map(|file| (file.clone(), None)).collect();
    open_all(tables, files, schema.clone(), None, batch_rows)
}

/// Reads all columns of files, except the rows at the given positions.
pub(crate) fn read_live(
    tables: &Tables,
    schema: &SchemaRef,
    files: Vec<(Arc<DataFile>, Positions)>,
) -> BatchStream {
    let files = files.into_iter().map(|(file, without)| (file, Some(without))).collect();
    open_all(tables, files, schema.clone(), None, BATCH_ROWS)
}

fn open_all(
    tables: &Tables,
    files: Vec<FileToRead>,
    wanted: SchemaRef,
    limit: Option<usize>,
    batch_rows: usize,
) -> BatchStream {
    let tables = tables.clone();
    stream::iter(files)
        .map(move |(file, skipped)| {
            let (tables, wanted) = (tables.clone(), wanted.clone());
            async move {
                let deleted = tables.deletes().deleted(&file).await?;
                let without = match (deleted, skipped) {
                    (None, skipped) => skipped,
                    (Some(deleted), None) => Some(deleted.as_ref().clone()),
                    (Some(deleted), Some(mut skipped)) => {
                        skipped.add_all(&deleted);
                        Some(skipped)
                    }
                };
                let store = tables.object_store().clone();
                let origin = Some(RowIdOrigin::of(&file));
                let read_options =
                    ReadOptions { without, limit, batch_rows, origin, ..ReadOptions::all(wanted) };
                open(store, FileLocation::of(&file), read_options).await
            }
        })
        .buffered(OPEN_FILES_MAX)
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

/// Forwards batches until the limit is reached.
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

/// Options for reading one file.
pub(crate) struct ReadOptions {
    /// The columns to read, matched by field id.
    pub(crate) wanted: SchemaRef,
    /// Positions of rows to skip.
    pub(crate) without: Option<Positions>,
    pub(crate) limit: Option<usize>,
    /// True to fail if the file does not contain a column. Otherwise the rows get the column's
    /// default or null.
    pub(crate) complete: bool,
    /// Number of rows in a batch.
    pub(crate) batch_rows: usize,
    /// The values from which row ids are derived, if the lineage columns are read.
    pub(crate) origin: Option<RowIdOrigin>,
}

impl ReadOptions {
    /// Creates options for reading all rows.
    pub(crate) fn all(wanted: SchemaRef) -> Self {
        let batch_rows = BATCH_ROWS;
        ReadOptions {
            wanted,
            without: None,
            limit: None,
            complete: false,
            batch_rows,
            origin: None,
        }
    }
}

/// Opens a Parquet file.
pub(crate) async fn open(
    store: Arc<dyn ObjectStore>,
    file: FileLocation,
    read_options: ReadOptions,
) -> Result<BoxStream<'static, Result<RecordBatch, ArrowError>>, ArrowError> {
    let ReadOptions { wanted, without, limit, complete, batch_rows, origin } = read_options;
    if let Some((column, data_type)) = wanted.fields().iter().find_map(|one| foreign_column(one)) {
        return Err(Error::Unread { column, data_type }.into());
    }
    let origin = origin.filter(|_| own_columns(&wanted) < wanted.fields().len());
    let failed = {
        let file = file.clone();
        move |error: ParquetError| ArrowError::from(file_error(&file, error))
    };
    let reader = FileReader { store: store.clone(), path: file.path.clone(), bytes: file.bytes };
    let mut options = ArrowReaderOptions::new();
    if origin.is_some() {
        options = options.with_virtual_columns(vec![position_field()]).map_err(&failed)?;
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
        return Err(Error::corrupt(&file.location, "a column is missing").into());
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
    let convert = move |batch| futures::future::ready(to_wanted(&batch, &wanted, origin));
    Ok(batches.and_then(convert).boxed())
}

/// Returns the virtual column with the row's position in the file.
fn position_field() -> FieldRef {
    Arc::new(Field::new(POSITION_COLUMN, DataType::Int64, false).with_extension_type(RowNumber))
}

/// The name of the position column. The NUL character ensures that no column of a table has the
/// same name.
const POSITION_COLUMN: &str = "\0r";

/// Converts a batch of a file to the wanted columns, in the wanted order.
fn to_wanted(
    batch: &RecordBatch,
    wanted: &Arc<Schema>,
    origin: Option<RowIdOrigin>,
) -> Result<RecordBatch, ArrowError> {
    let found = batch.schema();
    let positions = batch.column_by_name(POSITION_COLUMN).zip(origin);
    let columns = wanted.fields().iter().map(|field| {
        let position = find(found.fields(), field);
        if let (Some((positions, origin)), Some(id @ (ROW_ID | LAST_UPDATED))) =
            (positions, field_id(field))
        {
            let column = position.map(|position| batch.column(position));
            return Ok(origin.column(id, column, positions));
        }
        match position {
            Some(position) => align(batch.column(position), field),
            None => Ok(missing_in_file(field, batch.num_rows())),
        }
    });
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(wanted.clone(), columns, &options)
}

/// Converts a Parquet error about a data file to an object store error or an invalid file.
fn file_error(file: &FileLocation, error: ParquetError) -> Error {
    match error {
        ParquetError::External(source) => match source.downcast::<object_store::Error>() {
            Ok(source) => Error::storage(&file.location, *source),
            Err(source) => Error::corrupt(&file.location, source),
        },
        error => Error::corrupt(&file.location, error),
    }
}

/// Converts an error while opening a file. If the size of the file differs from the size in the
/// manifest, returns an error about the size instead, because this difference is the likely cause.
async fn opening_error(
    store: &Arc<dyn ObjectStore>,
    file: &FileLocation,
    error: ParquetError,
) -> Error {
    match store.head(&file.path).await {
        Ok(found) if found.size != file.bytes => {
            let reason = format!("the file has {} bytes instead of {}", found.size, file.bytes);
            Error::corrupt(&file.location, reason)
        }
        _ => file_error(file, error),
    }
}
