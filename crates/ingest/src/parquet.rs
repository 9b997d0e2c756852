//! Parquet files: their columns, and their rows converted to the table's types.
//!
//! A row with a value that the table's type cannot hold is a bad row. Its line is its row number in
//! the file, from 1.

use std::fs::File;
use std::io::{BufReader, Read};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute::{CastOptions, can_cast_types, cast_with_options, filter_record_batch};
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::util::display::array_value_to_string;
use bytes::Bytes;
use futures::StreamExt;
use headwater_tables::{in_microseconds, normalise_schema, type_name};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::arrow::{ParquetRecordBatchStreamBuilder, ProjectionMask};
use parquet::file::reader::{ChunkReader, Length};

use super::bad_row::{RowError, not_a};
use super::cloud_object::{ObjectChunkReader, wait};
use super::csv_header::{ColumnIndex, map_columns};
use super::progress::{ByteCounter, StageProgress};
use super::row_builder::RowSink;
use super::source::{SourceFile, SourceLocation};
use super::type_widening::fits;
use crate::error::{Error, Result};

/// Number of rows that are read at a time.
const BATCH_ROWS: usize = 8 * 1024;

fn broken(source: &SourceFile, reason: &dyn std::fmt::Display) -> Error {
    let file = source.name.clone();
    Error::BrokenFile { file, what: "parquet", reason: reason.to_string() }
}

/// An open file, on disk or in a bucket. From a bucket, one row group is fetched at a time.
enum OpenFile {
    Disk(ParquetRecordBatchReaderBuilder<FileChunkReader>),
    Object(ParquetRecordBatchStreamBuilder<ObjectChunkReader>),
}

/// Reader of parts of a file, which counts their bytes.
struct FileChunkReader {
    file: File,
    read: ByteCounter,
}

impl Length for FileChunkReader {
    fn len(&self) -> u64 {
        self.file.len()
    }
}

impl ChunkReader for FileChunkReader {
    type T = PartReader;

    fn get_read(&self, start: u64) -> parquet::errors::Result<PartReader> {
        Ok(PartReader { part: self.file.get_read(start)?, read: self.read.clone() })
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        self.read.add(length as u64);
        self.file.get_bytes(start, length)
    }
}

/// Sequential reader of a part of a file.
struct PartReader {
    part: BufReader<File>,
    read: ByteCounter,
}

impl Read for PartReader {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.part.read(buffer)?;
        self.read.add(count as u64);
        Ok(count)
    }
}

impl OpenFile {
    fn schema(&self) -> &SchemaRef {
        match self {
            OpenFile::Disk(builder) => builder.schema(),
            OpenFile::Object(builder) => builder.schema(),
        }
    }

    /// Returns the same file with only these columns.
    fn with_columns(self, columns: &[usize]) -> Self {
        let columns = columns.iter().copied();
        match self {
            OpenFile::Disk(builder) => {
                let mask = ProjectionMask::roots(builder.parquet_schema(), columns);
                OpenFile::Disk(builder.with_projection(mask))
            }
            OpenFile::Object(builder) => {
                let mask = ProjectionMask::roots(builder.parquet_schema(), columns);
                OpenFile::Object(builder.with_projection(mask))
            }
        }
    }

    fn rows(self) -> parquet::errors::Result<FileBatches> {
        Ok(match self {
            OpenFile::Disk(builder) => Box::new(builder.with_batch_size(BATCH_ROWS).build()?),
            OpenFile::Object(builder) => {
                let mut stream = builder.with_batch_size(BATCH_ROWS).build()?;
                let next = move || Some(wait(stream.next())?.map_err(ArrowError::from));
                Box::new(std::iter::from_fn(next))
            }
        })
    }
}

/// Iterator over the rows of a file.
type FileBatches = Box<dyn Iterator<Item = Result<RecordBatch, ArrowError>>>;

fn open(source: &SourceFile, meter: &StageProgress) -> Result<OpenFile> {
    let read = meter.read.clone();
    let opened = match &source.place {
        SourceLocation::Disk(disk) => {
            let parts = FileChunkReader { file: source.open_disk(disk)?, read };
            ParquetRecordBatchReaderBuilder::try_new(parts).map(OpenFile::Disk)
        }
        SourceLocation::Object(object) => {
            let parts = ObjectChunkReader { object: object.clone(), read };
            wait(ParquetRecordBatchStreamBuilder::new(parts)).map(OpenFile::Object)
        }
    };
    opened.map_err(|error| broken(source, &error))
}

/// Returns the columns of a file, with types that a table can store.
pub(crate) fn schema_of(source: &SourceFile, meter: &StageProgress) -> Result<Schema> {
    Ok(normalise_schema(open(source, meter)?.schema())?)
}

/// Checks that a column of a file can be converted to the table's column. A declared type allows
/// more conversions than an inferred type.
pub(crate) fn check_column(
    found: &Field,
    expected: &Field,
    declared: bool,
    source: &SourceFile,
) -> Result<()> {
    let (from, to) = (found.data_type(), expected.data_type());
    // A column with nanoseconds also fits a table column with microseconds.
    let coarse = in_microseconds(&Arc::new(found.clone()));
    let fits = fits(from, to) || fits(coarse.data_type(), to);
    if can_cast_types(from, to) && (declared || fits) {
        return Ok(());
    }
    Err(Error::TypeConflict {
        column: expected.name().clone(),
        found: type_name(from),
        expected: type_name(to),
        file: source.name.clone(),
    })
}

/// Reads the rows of a file and converts them to the table's types. `columns` are the columns of
/// the table to read; `None` reads all columns. Other columns of the file are never read.
pub(crate) fn read_rows(
    source: &SourceFile,
    schema: &SchemaRef,
    columns: Option<&[usize]>,
    output: &mut RowSink,
    meter: &StageProgress,
) -> Result<()> {
    let mut opened = open(source, meter)?;
    let fields = opened.schema().fields();
    let mut names: Vec<String> = fields.iter().map(|field| field.name().clone()).collect();
    let mut schema = schema.clone();
    if let Some(columns) = columns {
        let wanted = wanted(&names, &schema, columns);
        names = wanted.iter().map(|at| names[*at].clone()).collect();
        opened = opened.with_columns(&wanted);
        schema = Arc::new(schema.project(columns)?);
    }
    let mut conversion = RowConversion::new(source, &names, &schema)?;
    for batch in opened.rows().map_err(|error| broken(source, &error))? {
        meter.check()?;
        conversion.take(&batch.map_err(|error| broken(source, &error))?, output)?;
    }
    Ok(())
}

/// Returns the indexes of the file's columns that fill these columns of the table.
fn wanted(names: &[String], schema: &SchemaRef, columns: &[usize]) -> Vec<usize> {
    let index = ColumnIndex::new(schema.fields().iter().map(|field| field.name().as_str()));
    let places = map_columns(names, &index).into_iter().enumerate();
    let is_wanted = |place: Option<usize>| place.is_some_and(|place| columns.contains(&place));
    places.filter(|(_, place)| is_wanted(*place)).map(|(at, _)| at).collect()
}

/// Conversion of rows to the table's columns, from a file that declares its types.
pub(super) struct RowConversion<'a> {
    source: &'a SourceFile,
    schema: &'a SchemaRef,
    /// The index of the file's column for each column of the table; `None` if the file lacks the
    /// column.
    columns: Vec<Option<usize>>,
    /// Number of rows read so far.
    rows: u64,
}

impl<'a> RowConversion<'a> {
    /// Creates a conversion for a file with columns `names`. Returns `FileChanged` for a column
    /// that `schema` lacks: `schema` has all columns that the file had when its types were
    /// determined.
    pub fn new(source: &'a SourceFile, names: &[String], schema: &'a SchemaRef) -> Result<Self> {
        let index = ColumnIndex::new(schema.fields().iter().map(|field| field.name().as_str()));
        let mut columns = vec![None; schema.fields().len()];
        for (at, place) in map_columns(names, &index).into_iter().enumerate() {
            let changed = || Error::FileChanged { file: source.name.clone() };
            columns[place.ok_or_else(changed)?] = Some(at);
        }
        Ok(RowConversion { source, schema, columns, rows: 0 })
    }

    /// Sends the rows of a batch, and rejects rows with values that the table's types cannot hold.
    pub fn take(&mut self, batch: &RecordBatch, output: &mut RowSink) -> Result<()> {
        let (rows, faults) = convert(batch, self.schema, &self.columns)?;
        for fault in faults {
            let fault = RowError { line: self.rows + fault.line, ..fault };
            output.reject(&self.source.name, fault)?;
        }
        self.rows += batch.num_rows() as u64;
        output.send(rows)
    }
}

/// Converts a file's rows. Omits rows with a value that the table's types cannot hold.
fn convert(
    batch: &RecordBatch,
    schema: &SchemaRef,
    columns: &[Option<usize>],
) -> Result<(RecordBatch, Vec<RowError>)> {
    let mut bad: Vec<Option<RowError>> = vec![None; batch.num_rows()];
    let (mut fields, mut arrays) = (Vec::new(), Vec::new());
    for (field, column) in schema.fields().iter().zip(columns) {
        // A table column that the file lacks gets its default value, or null.
        let Some(column) = column else { continue };
        let source = batch.column(*column);
        let array = cast(source, field)?;
        if array.null_count() > source.logical_null_count() {
            note_misfits(source, &array, field, &mut bad)?;
        }
        // Make the field nullable even if the column is required, because the writer reports a null
        // in a required column as an error.
        fields.push(field.as_ref().clone().with_nullable(true));
        arrays.push(array);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    let rows = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options)?;
    if bad.iter().all(Option::is_none) {
        return Ok((rows, Vec::new()));
    }
    let keep: BooleanArray = bad.iter().map(|fault| Some(fault.is_none())).collect();
    Ok((filter_record_batch(&rows, &keep)?, bad.into_iter().flatten().collect()))
}

fn cast(source: &ArrayRef, field: &Field) -> Result<ArrayRef, ArrowError> {
    if source.data_type() == field.data_type() {
        return Ok(source.clone());
    }
    cast_with_options(
        source,
        field.data_type(),
        &CastOptions { safe: true, ..CastOptions::default() },
    )
}

/// Adds an error for each row in which the conversion turned a value into null.
fn note_misfits(
    source: &ArrayRef,
    array: &ArrayRef,
    field: &Field,
    bad: &mut [Option<RowError>],
) -> Result<()> {
    // Use logical nulls, because null columns and dictionaries have no complete null mask.
    let nulls = source.logical_nulls();
    let had = |row: usize| nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row));
    for (row, fault) in bad.iter_mut().enumerate() {
        if fault.is_none() && array.is_null(row) && had(row) {
            let value = array_value_to_string(source, row)?;
            let reason = not_a(&value, &type_name(field.data_type()));
            let found = RowError::new(row as u64 + 1, reason, value.as_bytes());
            *fault = Some(found.in_column(field.name(), &value));
        }
    }
    Ok(())
}
