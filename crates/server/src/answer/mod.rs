//! A statement's answer on its way out: which form the asker wants, and record batches in that
//! form.
//!
//! An [`Encoder`] gives bytes batch by batch, so that no answer is ever whole in memory.

mod calendar;
mod csv;
mod json;
mod map;
mod names;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use axum::http::HeaderMap;
use axum::http::header::ACCEPT;
use bytes::Bytes;
use headwater_model::{ErrorCode, Problem};

/// The forms that an answer can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Arrow's IPC stream.
    Arrow,
    /// An array of objects, one per row.
    Json,
    /// One object per line.
    Ndjson,
    /// Comma-separated values under a line of names.
    Csv,
}

impl Format {
    const ALL: [Format; 4] = [Format::Json, Format::Arrow, Format::Ndjson, Format::Csv];

    /// The media type.
    pub const fn media_type(self) -> &'static str {
        match self {
            Format::Arrow => "application/vnd.apache.arrow.stream",
            Format::Json => "application/json",
            Format::Ndjson => "application/x-ndjson",
            Format::Csv => "text/csv",
        }
    }

    /// The form that `Accept` asks for first; JSON where it does not say.
    pub fn accepted(headers: &HeaderMap) -> Result<Self, Problem> {
        let given: Vec<_> =
            headers.get_all(ACCEPT).iter().filter_map(|v| v.to_str().ok()).collect();
        if given.is_empty() {
            return Ok(Format::Json);
        }
        let wanted = given.iter().flat_map(|value| value.split(','));
        let essence = |item: &str| item.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
        wanted.map(essence).find_map(|item| Format::matching(&item)).ok_or_else(|| {
            let known = Format::ALL.map(|format| format!("`{}`", format.media_type())).join(", ");
            let message = format!("no answer can be given as `{}`", given.join(", "));
            Problem::new(ErrorCode::InvalidArgument, message)
                .with_hint(format!("Accept one of {known}."))
        })
    }

    fn matching(item: &str) -> Option<Self> {
        match item {
            "*/*" | "application/*" => Some(Format::Json),
            "text/*" => Some(Format::Csv),
            "application/ndjson" | "application/jsonl" => Some(Format::Ndjson),
            _ => Format::ALL.into_iter().find(|format| format.media_type() == item),
        }
    }
}

/// Rows of a first piece of text, and the most of any.
const PIECE_ROWS: usize = 64;
const PIECE_ROWS_MAX: usize = 8192;

/// How long a piece of text is to be, in bytes, and one of Arrow.
const PIECE_BYTES: usize = 256 << 10;
const ARROW_PIECE_BYTES: usize = 4 << 20;

/// Gives an answer's bytes, batch by batch.
pub struct Encoder {
    writer: Writer,
    /// Rows of the next piece.
    rows: usize,
}

enum Writer {
    /// As Arrow's IPC stream.
    Arrow(Box<StreamWriter<Vec<u8>>>),
    /// As a JSON array.
    Json(SchemaRef, Box<json::ArrayWriter>),
    /// As lines of JSON.
    Ndjson(SchemaRef, Box<json::LinesWriter>),
    /// As CSV.
    Csv(Box<csv::CsvWriter>),
}

impl Encoder {
    /// An encoder of batches of this schema.
    pub fn new(format: Format, schema: &SchemaRef) -> Result<Self, ArrowError> {
        let writer = match format {
            Format::Arrow => Writer::Arrow(Box::new(StreamWriter::try_new(Vec::new(), schema)?)),
            Format::Json => Writer::Json(names::distinct(schema), Box::new(json::array_writer())),
            Format::Ndjson => {
                Writer::Ndjson(names::distinct(schema), Box::new(json::lines_writer()))
            }
            Format::Csv => Writer::Csv(Box::new(csv::CsvWriter::new(schema)?)),
        };
        Ok(Encoder { writer, rows: PIECE_ROWS })
    }

    /// The bytes of the first rows of a batch, and the rest of it. A batch of few bytes can have any number
    /// of rows, and rows of few bytes be long texts.
    pub fn piece(
        &mut self,
        batch: RecordBatch,
    ) -> Result<(Bytes, Option<RecordBatch>), ArrowError> {
        let rows = batch.num_rows();
        let first = if let Writer::Arrow(_) = self.writer {
            rows_within(&batch, ARROW_PIECE_BYTES)
        } else {
            self.rows.min(rows_within(&batch, PIECE_BYTES))
        };
        if rows <= first {
            return Ok((self.batch(&batch)?, None));
        }
        let bytes = self.batch(&batch.slice(0, first))?;
        let rest = batch.slice(first, rows - first);
        if first < self.rows {
            return Ok((bytes, Some(rest)));
        }
        self.rows = match bytes.len() {
            long if long > PIECE_BYTES => (self.rows / 2).max(1),
            short if short < PIECE_BYTES / 2 => (self.rows * 2).min(PIECE_ROWS_MAX),
            _ => self.rows,
        };
        Ok((bytes, Some(rest)))
    }

    /// The bytes of one batch, with what comes before the first.
    pub fn batch(&mut self, batch: &RecordBatch) -> Result<Bytes, ArrowError> {
        match &mut self.writer {
            Writer::Arrow(writer) => {
                writer.write(&apart(batch)?)?;
                Ok(std::mem::take(writer.get_mut()).into())
            }
            Writer::Json(schema, writer) => {
                writer.write(&with_names(batch, schema)?)?;
                Ok(std::mem::take(writer.get_mut()).into())
            }
            Writer::Ndjson(schema, writer) => {
                writer.write(&with_names(batch, schema)?)?;
                Ok(std::mem::take(writer.get_mut()).into())
            }
            Writer::Csv(writer) => writer.batch(batch),
        }
    }

    /// The bytes after the last batch; without them the answer is visibly not whole, CSV apart.
    pub fn end(&mut self) -> Result<Bytes, ArrowError> {
        match &mut self.writer {
            Writer::Arrow(writer) => {
                writer.finish()?;
                Ok(std::mem::take(writer.get_mut()).into())
            }
            Writer::Json(_, writer) => {
                writer.finish()?;
                Ok(std::mem::take(writer.get_mut()).into())
            }
            Writer::Ndjson(_, writer) => {
                writer.finish()?;
                Ok(std::mem::take(writer.get_mut()).into())
            }
            Writer::Csv(writer) => Ok(writer.end()),
        }
    }
}

/// How many of its first rows have about so many bytes, and one at least.
fn rows_within(batch: &RecordBatch, bytes: usize) -> usize {
    let looked_at = batch.num_rows().min(PIECE_ROWS_MAX);
    let head = batch.slice(0, looked_at);
    let taken = head.columns().iter().map(bytes_of).sum::<usize>();
    if taken <= bytes && looked_at < batch.num_rows() {
        return (looked_at * (bytes / taken.max(1))).clamp(1, batch.num_rows());
    }
    (bytes / taken.div_ceil(looked_at.max(1)).max(1)).max(1)
}

/// The bytes of an array's own rows, of which its buffers may hold more.
fn bytes_of(array: &ArrayRef) -> usize {
    let views = match array.data_type() {
        DataType::Utf8View => array.as_string_view().views(),
        DataType::BinaryView => array.as_binary_view().views(),
        _ => {
            let data = array.to_data();
            return data.get_slice_memory_size().unwrap_or_else(|_| array.get_array_memory_size());
        }
    };
    // A view begins with the length of its text.
    views.iter().map(|view| size_of::<u128>() + *view as u32 as usize).sum()
}

/// A batch whose columns hold no texts of other rows, which would go along with each piece.
fn apart(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let columns = batch.columns().iter().map(|column| match column.data_type() {
        DataType::Utf8View => Arc::new(column.as_string_view().gc()) as ArrayRef,
        DataType::BinaryView => Arc::new(column.as_binary_view().gc()),
        _ => column.clone(),
    });
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(batch.schema(), columns.collect(), &options)
}

/// A schema with other names for its columns.
fn renamed(schema: &Schema, names: Vec<String>) -> SchemaRef {
    let fields = schema.fields().iter().zip(names);
    let fields: Vec<_> = fields
        .map(|(field, name)| {
            if *field.name() == name {
                field.clone()
            } else {
                Arc::new(field.as_ref().clone().with_name(name))
            }
        })
        .collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

/// The batch under names of which no two are alike, as JSON objects need them.
fn with_names(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(schema.clone(), batch.columns().to_vec(), &options)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(accept: &str, expected: Option<Format>) {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, accept.parse().expect("a header"));
        assert_eq!(Format::accepted(&headers).ok(), expected, "{accept}");
    }

    #[test]
    fn a_batch_of_any_length_becomes_pieces() {
        use arrow::array::{ArrayRef, DictionaryArray, NullArray};
        use arrow::datatypes::Int8Type;

        let text = "x".repeat(100_000);
        let texts: DictionaryArray<Int8Type> = std::iter::repeat_n(text.as_str(), 2_000).collect();
        let nothing = Arc::new(NullArray::new(2_000)) as ArrayRef;
        let columns = [("t", Arc::new(texts) as ArrayRef), ("n", nothing)];
        let batch = RecordBatch::try_from_iter(columns).expect("a batch");
        let mut encoder = Encoder::new(Format::Csv, &batch.schema()).expect("an encoder");
        let (mut left, mut lines, mut longest) = (Some(batch), 0, 0);
        while let Some(batch) = left {
            let (bytes, rest) = encoder.piece(batch).expect("bytes");
            lines += bytes.split(|byte| *byte == b'\n').count() - 1;
            longest = longest.max(bytes.len());
            left = rest;
        }
        assert_eq!(lines, 2_001);
        assert!(longest < 70 * 100_000, "{longest}");
        let many =
            RecordBatch::try_from_iter([("n", Arc::new(NullArray::new(1 << 40)) as ArrayRef)]);
        let many = many.expect("a batch");
        let mut encoder = Encoder::new(Format::Json, &many.schema()).expect("an encoder");
        let (bytes, rest) = encoder.piece(many).expect("bytes");
        assert!(bytes.len() < 1 << 20);
        assert_eq!(rest.map(|rest| rest.num_rows()), Some((1 << 40) - PIECE_ROWS));
    }

    #[test]
    fn pieces_of_arrow_are_short_however_wide_the_rows_and_whosever_their_texts() {
        use arrow::array::{ArrayRef, StringArray, StringViewArray};

        let text = "x".repeat(4_096);
        let wide: StringArray = std::iter::repeat_n(Some(text.as_str()), 20_000).collect();
        let wide = Arc::new(wide) as ArrayRef;
        let numbered = (0..20_000).map(|n| format!("{n:08}{text}"));
        let views = Arc::new(StringViewArray::from_iter_values(numbered)) as ArrayRef;
        for column in [wide, views] {
            let batch = RecordBatch::try_from_iter([("t", column)]).expect("a batch");
            let mut encoder = Encoder::new(Format::Arrow, &batch.schema()).expect("an encoder");
            let (mut left, mut all, mut longest) = (Some(batch.clone()), Vec::new(), 0);
            while let Some(batch) = left {
                let (bytes, rest) = encoder.piece(batch).expect("bytes");
                longest = longest.max(bytes.len());
                all.extend(bytes);
                left = rest;
            }
            all.extend(encoder.end().expect("bytes"));
            assert!(longest < 2 * ARROW_PIECE_BYTES, "{longest}");
            let read = arrow::ipc::reader::StreamReader::try_new(&all[..], None).expect("a stream");
            let read: Vec<_> = read.map(|batch| batch.expect("a batch")).collect();
            let read = arrow::compute::concat_batches(&batch.schema(), &read).expect("a batch");
            assert_eq!(read, batch);
        }
    }

    #[test]
    fn accept_names_the_form() {
        check("*/*", Some(Format::Json));
        check("text/csv", Some(Format::Csv));
        check("Application/X-NDJSON; charset=utf-8", Some(Format::Ndjson));
        check("application/vnd.apache.arrow.stream, */*", Some(Format::Arrow));
        check("text/html, application/json;q=0.9", Some(Format::Json));
        check("image/png", None);
        assert_eq!(Format::accepted(&HeaderMap::new()), Ok(Format::Json));
    }
}
