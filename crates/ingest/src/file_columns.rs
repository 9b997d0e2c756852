//! Reads all files to find their columns and types, with bounded memory.

use std::sync::Arc;

use arrow::datatypes::Field;
use headwater_model::FileFormat;
use headwater_tables::without_nanoseconds;

use super::bad_row::RowError;
use super::csv::{CsvFile, CsvOptions};
use super::csv_header::{COLUMNS_MAX, ColumnIndex, map_columns};
use super::csv_records::field;
use super::json_array::json_lines;
use super::json_statistics::{JsonPosition, record_object};
use super::line_reader::{LineReader, NextLine, too_long};
use super::ndjson::line_text;
use super::progress::{ByteCounter, CountingReader, StageProgress};
use super::source::SourceFile;
use super::text_file::open_text;
use super::type_inference::{ColumnStatistics, FieldStatistics};
use super::{arrow_file, parquet};
use crate::error::{Error, Result};

/// Options for inferring the columns of a file.
#[derive(Debug, Clone)]
pub(crate) struct InferOptions {
    pub csv: CsvOptions,
    /// The columns of the table.
    pub table: ColumnIndex,
    /// The columns with declared types.
    pub declared: ColumnIndex,
    /// True if bad rows are skipped; otherwise the first bad row is an error.
    pub reject: bool,
    /// Maximum number of rows to read of a file; `None` for all.
    pub rows_max: Option<u64>,
    /// Counter of the bytes that are read.
    pub read: ByteCounter,
}

impl InferOptions {
    fn bad_row(&self, source: &SourceFile, fault: RowError) -> Result<()> {
        if self.reject { Ok(()) } else { Err(Error::BadRow(Box::new(fault.in_file(&source.name)))) }
    }

    fn is_enough(&self, rows: u64) -> bool {
        self.rows_max.is_some_and(|max| rows >= max)
    }

    fn knows(&self, name: &str) -> bool {
        self.table.get(name).is_some() || self.declared.get(name).is_some()
    }
}

/// The columns of one file, in order.
#[derive(Debug, Default)]
pub(crate) struct FileColumns {
    pub columns: Vec<(String, ColumnStatistics)>,
    /// The fields that a Parquet or Arrow file declares; `None` for formats without declared types.
    pub stored: Option<Vec<Field>>,
}

/// Reads one file. Columns of known type are listed without inspecting their values; a CSV file
/// with only such columns is not read beyond its header.
pub(crate) fn infer_file(
    source: &SourceFile,
    options: &InferOptions,
    meter: &Arc<StageProgress>,
) -> Result<FileColumns> {
    meter.check()?;
    let columns = match source.format {
        FileFormat::Csv => infer_csv(source, options, meter),
        FileFormat::Ndjson => infer_ndjson(source, options, meter),
        FileFormat::Parquet | FileFormat::Arrow => {
            let schema = match source.format {
                FileFormat::Arrow => {
                    arrow_file::schema_of(source, &mut CountingReader::open(source, meter)?)?
                }
                _ => parquet::schema_of(source, meter)?,
            };
            let fields: Vec<Field> = schema.fields().iter().map(|f| f.as_ref().clone()).collect();
            // New timestamp columns have microseconds, even if the file has nanoseconds.
            // Nanoseconds are rarely needed, so the user must declare them.
            let coarse = without_nanoseconds(&schema);
            let evidence = |field: &Field| ColumnStatistics::stored(field.data_type().clone());
            let coarse = coarse.fields().iter();
            let columns = coarse.map(|field| (field.name().clone(), evidence(field)));
            Ok(FileColumns { columns: columns.collect(), stored: Some(fields) })
        }
    };
    meter.end_file();
    // After a cancellation, return `Cancelled` instead of an error that the cancellation caused.
    meter.check().and(columns)
}

fn infer_csv(
    source: &SourceFile,
    options: &InferOptions,
    meter: &Arc<StageProgress>,
) -> Result<FileColumns> {
    let mut tap = CountingReader::open(source, meter)?;
    let Some(mut file) = CsvFile::open(source, &mut tap, &options.csv)? else {
        return Ok(FileColumns::default());
    };
    check_count(file.names.len())?;
    let known = map_columns(&file.names, &options.table);
    let mut columns: Vec<ColumnStatistics> = file
        .names
        .iter()
        .zip(known)
        .map(|(name, place)| {
            let known = place.is_some() || options.declared.get(name).is_some();
            if known { ColumnStatistics::known() } else { ColumnStatistics::default() }
        })
        .collect();
    let names = file.names.clone();
    if !columns.iter().all(ColumnStatistics::is_known) {
        observe_rows(source, &mut file, options, &mut columns)?;
    }
    Ok(FileColumns { columns: names.into_iter().zip(columns).collect(), stored: None })
}

fn observe_rows(
    source: &SourceFile,
    file: &mut CsvFile<'_>,
    options: &InferOptions,
    columns: &mut [ColumnStatistics],
) -> Result<()> {
    let name: Arc<str> = Arc::from(source.name.as_str());
    let mut scratch = String::new();
    let mut rows = 0;
    while !options.is_enough(rows)
        && let Some(next) = file.next()?
    {
        rows += 1;
        let (record, text) = match next {
            Ok(found) => found,
            Err(fault) => {
                options.bad_row(source, fault)?;
                continue;
            }
        };
        for (at, evidence) in columns.iter_mut().enumerate() {
            let Some(span) = record.span(at).filter(|_| !evidence.is_known()) else { continue };
            let value = field(text, span, &mut scratch);
            if options.csv.nulls.iter().any(|null| null == value) {
                continue;
            }
            let plain = options.csv.reading.normalize_value(value);
            evidence.observe_text(plain.as_deref().unwrap_or(value), record.line, &name);
        }
    }
    Ok(())
}

fn infer_ndjson(
    source: &SourceFile,
    options: &InferOptions,
    meter: &Arc<StageProgress>,
) -> Result<FileColumns> {
    let mut tap = CountingReader::open(source, meter)?;
    let text = open_text(source, &mut tap, options.csv.encoding)?;
    let trouble = text.trouble;
    let reader = json_lines(text.reader).map_err(|error| trouble.read(error))?;
    let mut lines = LineReader::new(reader);
    let file: Arc<str> = Arc::from(source.name.as_str());
    let mut fields = FieldStatistics::default();
    while !options.is_enough(lines.number) {
        let fault = match lines.advance().map_err(|error| trouble.read(error))? {
            NextLine::End => break,
            NextLine::TooLong => Some(RowError::new(lines.number, too_long(), b"")),
            NextLine::Line => match line_text(lines.line(), lines.number, &trouble) {
                Err(fault) => Some(fault),
                Ok("") => None,
                Ok(text) => {
                    let place = JsonPosition { line: lines.number, file: &file };
                    let seen = record_object(text, &mut fields, &|name| options.knows(name), place);
                    seen.err().map(|error| {
                        let reason = format!("the line is not a JSON object: {}", syntax(&error));
                        RowError::new(lines.number, reason, lines.line())
                    })
                }
            },
        };
        if let Some(fault) = fault {
            options.bad_row(source, fault)?;
        }
    }
    if fields.overflowed() {
        check_count(COLUMNS_MAX + 1)?;
    }
    Ok(FileColumns { columns: fields.into_vec(), stored: None })
}

/// Returns the parser's message without its line number, which counts from the start of the row and
/// not of the file.
fn syntax(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or_else(|| text.clone(), |(what, _)| what.to_owned())
}

/// Returns an error if a file or table would have too many columns.
pub(crate) fn check_count(count: usize) -> Result<()> {
    if count <= COLUMNS_MAX {
        return Ok(());
    }
    Err(Error::InvalidRequest {
        message: format!("the files have more than {COLUMNS_MAX} columns"),
        hint: "Check that the first row contains column names and not data.",
    })
}
