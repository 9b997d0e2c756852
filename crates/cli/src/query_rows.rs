//! Query results as a table: decodes the Arrow stream and formats its values.

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, Int64Type, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamDecoder;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use bytes::Bytes;

use crate::cell::clean;
use crate::error::{self, Result};
use crate::output::Grid;
use crate::terminal::OutputStyle;

/// An incremental decoder of an Arrow IPC stream.
#[derive(Default)]
pub struct RowReader {
    decoder: StreamDecoder,
    /// The batches decoded so far.
    pub batches: Vec<RecordBatch>,
    /// The number of rows decoded so far.
    pub rows: u64,
}

impl RowReader {
    /// Decodes the next bytes.
    pub fn push(&mut self, bytes: Bytes) -> Result<()> {
        let mut buffer = arrow::buffer::Buffer::from(bytes);
        while !buffer.is_empty() {
            if let Some(batch) = self.decoder.decode(&mut buffer).map_err(error::unexpected)? {
                self.rows += batch.num_rows() as u64;
                self.batches.push(batch);
            }
        }
        Ok(())
    }

    /// Checks that the stream is complete.
    pub fn finish(&mut self) -> std::result::Result<(), ArrowError> {
        self.decoder.finish()
    }

    /// Returns the schema once it is decoded.
    pub fn schema(&self) -> Option<SchemaRef> {
        self.decoder.schema()
    }
}

/// Returns the plans of an `EXPLAIN` result, with their line breaks; `None` if the result is not of
/// `EXPLAIN`.
pub fn plans(schema: &SchemaRef, batches: &[RecordBatch]) -> Option<Vec<String>> {
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    if names != ["plan_type", "plan"] {
        return None;
    }
    let mut plans = Vec::new();
    for batch in batches {
        let columns = batch.columns().iter();
        let columns: Vec<_> = columns.map(|column| column.as_string_opt::<i32>()).collect();
        let [Some(kinds), Some(texts)] = columns[..] else { return None };
        for row in 0..batch.num_rows() {
            plans.push(format!("{}\n{}", kinds.value(row), texts.value(row)));
        }
    }
    Some(plans)
}

/// Returns true if the statement wrote no rows and created no commit.
pub fn changed_nothing(schema: &SchemaRef, batches: &[RecordBatch]) -> bool {
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    let [batch] = batches else { return false };
    if names != ["rows", "commit"] || batch.num_rows() != 1 || batch.column(1).is_valid(0) {
        return false;
    }
    let rows = batch.column(0).as_primitive_opt::<Int64Type>();
    rows.is_some_and(|rows| rows.value(0) == 0)
}

/// Creates a text table that shows at most `limit` rows.
pub fn grid(
    style: OutputStyle,
    schema: &SchemaRef,
    batches: &[RecordBatch],
    limit: u64,
) -> Result<Grid> {
    let headings: Vec<String> = schema
        .fields()
        .iter()
        .map(|field| {
            let right = if is_number(field.data_type()) { ">" } else { "" };
            format!("{right}{}", field.name())
        })
        .collect();
    let headings: Vec<&str> = headings.iter().map(String::as_str).collect();
    let mut grid = Grid::new(style, &headings);
    // In expanded form, each value has its own line, so do not truncate it.
    let whole = style.is_expanded();
    let mut left = limit;
    for batch in batches {
        let rows =
            batch.slice(0, batch.num_rows().min(usize::try_from(left).unwrap_or(usize::MAX)));
        add_rows(&mut grid, &rows, whole).map_err(error::unexpected)?;
        left -= rows.num_rows() as u64;
    }
    Ok(grid)
}

fn add_rows(
    grid: &mut Grid,
    batch: &RecordBatch,
    whole: bool,
) -> std::result::Result<(), ArrowError> {
    let shown = |text: &str| if whole { text.to_owned() } else { cell(text) };
    let options = FormatOptions::new().with_null("∅").with_display_error(true);
    let columns = batch
        .columns()
        .iter()
        .map(|column| ArrayFormatter::try_new(column, &options))
        .collect::<std::result::Result<Vec<_>, _>>()?;
    for row in 0..batch.num_rows() {
        grid.row(columns.iter().map(|column| shown(&column.value(row).to_string())));
    }
    Ok(())
}

/// The maximum length of a displayed value, in characters. JSON output is not truncated.
const CELL_CHARACTERS_MAX: usize = 120;

/// Truncates long text and replaces control characters.
pub fn cell(text: &str) -> String {
    if text.chars().count() <= CELL_CHARACTERS_MAX {
        return clean(text);
    }
    let short: String = text.chars().take(CELL_CHARACTERS_MAX - 1).chain(['…']).collect();
    clean(&short)
}

fn is_number(data_type: &DataType) -> bool {
    data_type.is_numeric()
}
