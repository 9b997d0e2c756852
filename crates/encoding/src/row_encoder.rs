//! Encoder of rows, batch by batch.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use bytes::Bytes;

use super::format::Format;
use super::{csv, json, json_field_names, parquet};

/// Number of rows in the first piece of encoded text, before the encoded size of rows is known.
const PIECE_ROWS: usize = 64;

/// Maximum number of rows in a piece of encoded text.
const PIECE_ROWS_MAX: usize = 8192;

/// Target size of a piece of encoded text, in bytes.
const PIECE_BYTES: usize = 256 << 10;

/// Target size of a piece in Arrow format, in bytes.
const ARROW_PIECE_BYTES: usize = 4 << 20;

/// Encodes rows batch by batch.
pub struct RowEncoder {
    writer: FormatWriter,
    /// Number of rows in the next piece.
    rows: usize,
}

enum FormatWriter {
    /// An Arrow IPC stream.
    Arrow(Box<StreamWriter<Vec<u8>>>),
    /// A JSON array.
    Json(SchemaRef, Box<json::JsonArrayWriter>),
    /// JSON lines.
    Ndjson(SchemaRef, Box<json::NdjsonWriter>),
    /// CSV.
    Csv(Box<csv::CsvWriter>),
    /// A Parquet file.
    Parquet(Box<parquet::ParquetWriter>),
}

impl RowEncoder {
    /// Creates an encoder of batches with a schema.
    pub fn new(format: Format, schema: &SchemaRef) -> Result<Self, ArrowError> {
        let writer = match format {
            Format::Arrow => {
                FormatWriter::Arrow(Box::new(StreamWriter::try_new(Vec::new(), schema)?))
            }
            Format::Json => FormatWriter::Json(
                json_field_names::distinct(schema),
                Box::new(json::array_writer()),
            ),
            Format::Ndjson => FormatWriter::Ndjson(
                json_field_names::distinct(schema),
                Box::new(json::ndjson_writer()),
            ),
            Format::Csv => FormatWriter::Csv(Box::new(csv::CsvWriter::new(schema))),
            Format::Parquet => {
                FormatWriter::Parquet(Box::new(parquet::ParquetWriter::new(schema)?))
            }
        };
        Ok(RowEncoder { writer, rows: PIECE_ROWS })
    }

    /// Encodes the first rows of a batch. Returns their bytes, and the remaining rows. The number
    /// of rows depends on the encoded size of earlier pieces, because the size in memory does not
    /// determine the encoded size.
    pub fn encode_prefix(
        &mut self,
        batch: RecordBatch,
    ) -> Result<(Bytes, Option<RecordBatch>), ArrowError> {
        let rows = batch.num_rows();
        let first = if let FormatWriter::Arrow(_) | FormatWriter::Parquet(_) = self.writer {
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

    /// Encodes a batch. Before the first batch, also encodes the beginning of the response.
    pub fn batch(&mut self, batch: &RecordBatch) -> Result<Bytes, ArrowError> {
        match &mut self.writer {
            FormatWriter::Arrow(writer) => {
                writer.write(&compact_views(batch)?)?;
                Ok(std::mem::take(writer.get_mut()).into())
            }
            FormatWriter::Json(schema, writer) => {
                writer.write(&with_names(batch, schema)?)?;
                Ok(std::mem::take(writer.get_mut()).into())
            }
            FormatWriter::Ndjson(schema, writer) => {
                writer.write(&with_names(batch, schema)?)?;
                Ok(std::mem::take(writer.get_mut()).into())
            }
            FormatWriter::Csv(writer) => writer.batch(batch),
            FormatWriter::Parquet(writer) => writer.batch(batch),
        }
    }

    /// Encodes the end of the response. Without it, clients recognize that the response is
    /// incomplete, except in CSV and JSON lines.
    pub fn end(&mut self) -> Result<Bytes, ArrowError> {
        match &mut self.writer {
            FormatWriter::Arrow(writer) => {
                writer.finish()?;
                Ok(std::mem::take(writer.get_mut()).into())
            }
            FormatWriter::Json(_, writer) => {
                writer.finish()?;
                Ok(std::mem::take(writer.get_mut()).into())
            }
            FormatWriter::Ndjson(_, writer) => {
                writer.finish()?;
                Ok(std::mem::take(writer.get_mut()).into())
            }
            FormatWriter::Csv(writer) => Ok(writer.end()),
            FormatWriter::Parquet(writer) => writer.end(),
        }
    }
}

/// Returns the number of leading rows whose size is about `bytes`; at least one.
fn rows_within(batch: &RecordBatch, bytes: usize) -> usize {
    let looked_at = batch.num_rows().min(PIECE_ROWS_MAX);
    let head = batch.slice(0, looked_at);
    let taken = head.columns().iter().map(bytes_of).sum::<usize>();
    if taken <= bytes && looked_at < batch.num_rows() {
        return (looked_at * (bytes / taken.max(1))).clamp(1, batch.num_rows());
    }
    (bytes / taken.div_ceil(looked_at.max(1)).max(1)).max(1)
}

/// Returns the bytes that an array's rows use. The array's buffers may also contain other rows.
fn bytes_of(array: &ArrayRef) -> usize {
    let views = match array.data_type() {
        DataType::Utf8View => array.as_string_view().views(),
        DataType::BinaryView => array.as_binary_view().views(),
        _ => {
            let data = array.to_data();
            return data.get_slice_memory_size().unwrap_or_else(|_| array.get_array_memory_size());
        }
    };
    // The first four bytes of a view are the length of its text.
    views.iter().map(|view| size_of::<u128>() + *view as u32 as usize).sum()
}

/// Copies a batch so that its `Utf8View` and `BinaryView` columns share no buffers with other rows.
/// The Arrow IPC format would contain the complete shared buffers.
pub fn compact_views(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let columns = batch.columns().iter().map(|column| match column.data_type() {
        DataType::Utf8View => Arc::new(column.as_string_view().gc()) as ArrayRef,
        DataType::BinaryView => Arc::new(column.as_binary_view().gc()),
        _ => column.clone(),
    });
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(batch.schema(), columns.collect(), &options)
}

/// Renames the columns of a batch so that the names are unique, as JSON objects require.
fn with_names(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(schema.clone(), batch.columns().to_vec(), &options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_of_any_length_is_encoded_in_pieces() {
        use arrow::array::{ArrayRef, DictionaryArray, NullArray};
        use arrow::datatypes::Int8Type;

        let text = "x".repeat(100_000);
        let texts: DictionaryArray<Int8Type> = std::iter::repeat_n(text.as_str(), 2_000).collect();
        let nothing = Arc::new(NullArray::new(2_000)) as ArrayRef;
        let columns = [("t", Arc::new(texts) as ArrayRef), ("n", nothing)];
        let batch = RecordBatch::try_from_iter(columns).expect("a batch");
        let mut encoder = RowEncoder::new(Format::Csv, &batch.schema()).expect("an encoder");
        let (mut left, mut lines, mut longest) = (Some(batch), 0, 0);
        while let Some(batch) = left {
            let (bytes, rest) = encoder.encode_prefix(batch).expect("bytes");
            lines += bytes.split(|byte| *byte == b'\n').count() - 1;
            longest = longest.max(bytes.len());
            left = rest;
        }
        assert_eq!(lines, 2_001);
        assert!(longest < 70 * 100_000, "{longest}");
        let many =
            RecordBatch::try_from_iter([("n", Arc::new(NullArray::new(1 << 40)) as ArrayRef)]);
        let many = many.expect("a batch");
        let mut encoder = RowEncoder::new(Format::Json, &many.schema()).expect("an encoder");
        let (bytes, rest) = encoder.encode_prefix(many).expect("bytes");
        assert!(bytes.len() < 1 << 20);
        assert_eq!(rest.map(|rest| rest.num_rows()), Some((1 << 40) - PIECE_ROWS));
    }

    #[test]
    fn pieces_of_arrow_are_short_for_wide_rows_and_shared_buffers() {
        use arrow::array::{ArrayRef, StringArray, StringViewArray};

        let text = "x".repeat(4_096);
        let wide: StringArray = std::iter::repeat_n(Some(text.as_str()), 20_000).collect();
        let wide = Arc::new(wide) as ArrayRef;
        let numbered = (0..20_000).map(|n| format!("{n:08}{text}"));
        let views = Arc::new(StringViewArray::from_iter_values(numbered)) as ArrayRef;
        for column in [wide, views] {
            let batch = RecordBatch::try_from_iter([("t", column)]).expect("a batch");
            let mut encoder = RowEncoder::new(Format::Arrow, &batch.schema()).expect("an encoder");
            let (mut left, mut all, mut longest) = (Some(batch.clone()), Vec::new(), 0);
            while let Some(batch) = left {
                let (bytes, rest) = encoder.encode_prefix(batch).expect("bytes");
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
}
