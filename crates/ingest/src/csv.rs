//! Reads a CSV file: detects the delimiter, reads the column names, and checks the number of fields
//! of each record.

use std::io::Read;

use encoding_rs::Encoding;

use super::bad_row::{RowError, not_a};
use super::csv_header;
use super::csv_records::{CsvRecordReader, NextRecord, Record, field};
use super::delimiter_detection;
use super::json_value::append_json;
use super::progress::{CountingReader, StageProgress};
use super::read_buffer::ReadBuffer;
use super::row_builder::{RowBuilder, RowSink};
use super::source::SourceFile;
use super::text_file::{ErrorContext, open_text};
use super::value_formats::ValueFormats;
use crate::error::{Error, Result};

/// Options for reading CSV files.
#[derive(Debug, Clone)]
pub(crate) struct CsvOptions {
    /// The delimiter; `None` detects it in each file.
    pub delimiter: Option<u8>,
    /// True if the first row contains the column names.
    pub header: bool,
    pub encoding: Option<&'static Encoding>,
    /// Texts that are read as null.
    pub nulls: Vec<String>,
    /// Formats of dates and numbers.
    pub reading: ValueFormats,
}

/// An open CSV file.
pub(crate) struct CsvFile<'a> {
    records: CsvRecordReader<Box<dyn Read + Send + 'a>>,
    pub names: Vec<String>,
    /// True if [`CsvFile::next`] must return the current record: without a header, `open` has
    /// already read the first row, which is a data row.
    replay: bool,
    header: bool,
    trouble: ErrorContext<'a>,
}

impl<'a> CsvFile<'a> {
    /// Opens a file and reads its header; `None` if the file is empty.
    pub fn open(
        source: &'a SourceFile,
        tap: &'a mut CountingReader,
        options: &CsvOptions,
    ) -> Result<Option<Self>> {
        let text = open_text(source, tap, options.encoding)?;
        let trouble = text.trouble;
        let mut window = ReadBuffer::new(text.reader);
        window.fill().map_err(|error| trouble.read(error))?;
        let bytes = window.bytes();
        let sample = &bytes[..bytes.len().min(delimiter_detection::SAMPLE_BYTES)];
        let whole = window.ended() && sample.len() == bytes.len();
        let found = options.delimiter.unwrap_or_else(|| delimiter_detection::detect(sample, whole));
        let mut records = CsvRecordReader::new(window, found);
        let names = match records.advance().map_err(|error| trouble.read(error))? {
            NextRecord::End => return Ok(None),
            // The first row determines the names or the number of columns, so a fault in it is an
            // error of the whole file.
            NextRecord::Fault(fault) => {
                return Err(Error::BadRow(Box::new(fault.in_file(&source.name))));
            }
            NextRecord::Record => read_names(records.record(), options.header, &trouble)?,
        };
        if names.len() == 1 {
            records.keep_blank_lines();
        }
        let replay = !options.header;
        Ok(Some(CsvFile { records, names, replay, header: options.header, trouble }))
    }

    /// Returns the next record and its text, or a bad row; `None` at the end.
    pub fn next(&mut self) -> Result<Option<Result<(Record<'_>, &str), RowError>>> {
        let next = if std::mem::take(&mut self.replay) {
            NextRecord::Record
        } else {
            self.records.advance().map_err(|error| self.trouble.read(error))?
        };
        match next {
            NextRecord::End => Ok(None),
            NextRecord::Fault(fault) => Ok(Some(Err(fault))),
            NextRecord::Record => Ok(Some(self.checked())),
        }
    }

    /// Returns the last record read if it has one field per column and is valid text.
    fn checked(&self) -> Result<(Record<'_>, &str), RowError> {
        let record = self.records.record();
        let (found, expected) = (record.len(), self.names.len());
        if found != expected {
            let first = if self.header { "the header" } else { "the first row" };
            let fields = if found == 1 { "field" } else { "fields" };
            let reason = format!("the row has {found} {fields}, and {first} has {expected}");
            return Err(RowError::new(record.line, reason, record.bytes()));
        }
        match record.text() {
            Ok(text) => Ok((record, text)),
            Err(error) => {
                Err(invalid_text(record, &self.names, error.valid_up_to(), &self.trouble))
            }
        }
    }
}

fn read_names(record: Record<'_>, header: bool, trouble: &ErrorContext<'_>) -> Result<Vec<String>> {
    if !header {
        return Ok(csv_header::numbered(record.len()));
    }
    let text = record.text().map_err(|error| {
        let fault = invalid_text(record, &[], error.valid_up_to(), trouble);
        Error::BadRow(Box::new(fault.in_file(&trouble.source.name)))
    })?;
    let mut scratch = String::new();
    let names: Vec<String> = (0..record.len())
        .filter_map(|index| record.span(index))
        .map(|span| field(text, span, &mut scratch).to_owned())
        .collect();
    Ok(csv_header::names(names.iter().map(String::as_str)))
}

/// Creates the fault for a record whose text is invalid from byte `at`.
fn invalid_text(
    record: Record<'_>,
    names: &[String],
    at: usize,
    trouble: &ErrorContext<'_>,
) -> RowError {
    let index = (0..record.len()).find(|&i| record.span(i).is_some_and(|span| at < span.end));
    let line = index.map_or(record.line, |index| record.line_of(index));
    let mut fault = RowError::new(line, trouble.invalid(), record.bytes());
    fault.encoding = true;
    match index.and_then(|index| Some((names.get(index)?, record.span(index)?))) {
        Some((name, span)) => {
            let value = String::from_utf8_lossy(&record.bytes()[span.start..span.end]);
            fault.in_column(name, &value)
        }
        None => fault,
    }
}

/// Reads the rows of a file into the table's columns.
pub(crate) fn read_rows(
    source: &SourceFile,
    tap: &mut CountingReader,
    options: &CsvOptions,
    rows: &mut RowBuilder,
    output: &mut RowSink,
    meter: &StageProgress,
) -> Result<()> {
    let Some(mut file) = CsvFile::open(source, tap, options)? else { return Ok(()) };
    let schema = rows.schema().clone();
    let index =
        csv_header::ColumnIndex::new(schema.fields().iter().map(|field| field.name().as_str()));
    let places = csv_header::map_columns(&file.names, &index);
    if places.contains(&None) {
        // The first pass determined the names of all columns of this file, so a new name means that
        // the file has changed since then.
        return Err(Error::FileChanged { file: source.name.clone() });
    }
    let targets: Vec<TargetColumn> = places
        .into_iter()
        .flatten()
        .map(|place| TargetColumn { place, nullable: schema.field(place).is_nullable() })
        .collect();
    let mut scratch = String::new();
    while let Some(next) = file.next()? {
        let fault = match next {
            Err(fault) => Some(fault),
            Ok((record, text)) => {
                let bad = targets.iter().enumerate().find_map(|(at, target)| {
                    append(record, text, at, target, options, rows, &mut scratch)
                });
                if bad.is_none() {
                    rows.end_row(text.len());
                } else {
                    rows.end_bad_row();
                }
                bad
            }
        };
        if let Some(fault) = fault {
            output.reject(&source.name, fault)?;
        }
        if rows.is_full() {
            meter.check()?;
            output.send(rows.take()?)?;
        }
    }
    Ok(())
}

/// The table column to which a column of the file is written.
struct TargetColumn {
    place: usize,
    nullable: bool,
}

/// Appends one field to its column. Returns a fault if the value does not fit the type.
#[inline]
fn append(
    record: Record<'_>,
    text: &str,
    at: usize,
    target: &TargetColumn,
    options: &CsvOptions,
    rows: &mut RowBuilder,
    scratch: &mut String,
) -> Option<RowError> {
    let span = record.span(at)?;
    let value = field(text, span, scratch);
    let column = &mut rows.columns[target.place];
    let empty = value.is_empty() && (!span.quoted || !column.is_text());
    if empty || options.nulls.iter().any(|null| null == value) || is_blank(value, column.is_text())
    {
        if target.nullable {
            column.append_null();
            return None;
        }
    } else if column.is_nested() {
        if append_json(column, value).is_ok() {
            return None;
        }
    } else {
        let plain = if column.is_text() { None } else { options.reading.normalize_value(value) };
        if column.append_text(plain.as_deref().unwrap_or(value)).is_ok() {
            return None;
        }
    }
    Some(mismatch_error(record, at, target, value, rows))
}

/// Returns true if a value consists only of blanks and the column's type ignores blanks.
#[inline]
fn is_blank(value: &str, text: bool) -> bool {
    !text && value.as_bytes().first() == Some(&b' ') && value.trim_ascii().is_empty()
}

#[cold]
fn mismatch_error(
    record: Record<'_>,
    at: usize,
    target: &TargetColumn,
    value: &str,
    rows: &RowBuilder,
) -> RowError {
    let field = rows.schema().field(target.place);
    let type_name = headwater_tables::type_name(field.data_type());
    let reason = if target.nullable || !value.trim_ascii().is_empty() {
        not_a(value, &type_name)
    } else {
        "the column is required and the value is null".to_owned()
    };
    RowError::new(record.line_of(at), reason, record.bytes()).in_column(field.name(), value)
}
