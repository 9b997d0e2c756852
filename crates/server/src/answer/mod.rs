//! A statement's answer on its way out: which form the asker wants, and record batches in that
//! form.
//!
//! An [`Encoder`] gives bytes batch by batch, so that no answer is ever whole in memory.

mod csv;
mod json;
mod names;

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Schema, SchemaRef};
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

/// Gives an answer's bytes, batch by batch.
pub enum Encoder {
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
        Ok(match format {
            Format::Arrow => Encoder::Arrow(Box::new(StreamWriter::try_new(Vec::new(), schema)?)),
            Format::Json => Encoder::Json(names::distinct(schema), Box::new(json::array_writer())),
            Format::Ndjson => {
                Encoder::Ndjson(names::distinct(schema), Box::new(json::lines_writer()))
            }
            Format::Csv => Encoder::Csv(Box::new(csv::CsvWriter::new(schema)?)),
        })
    }

    /// The bytes of one batch, with what comes before the first.
    pub fn batch(&mut self, batch: &RecordBatch) -> Result<Bytes, ArrowError> {
        match self {
            Encoder::Arrow(writer) => {
                writer.write(batch)?;
                Ok(std::mem::take(writer.get_mut()).into())
            }
            Encoder::Json(schema, writer) => {
                writer.write(&with_names(batch, schema)?)?;
                Ok(std::mem::take(writer.get_mut()).into())
            }
            Encoder::Ndjson(schema, writer) => {
                writer.write(&with_names(batch, schema)?)?;
                Ok(std::mem::take(writer.get_mut()).into())
            }
            Encoder::Csv(writer) => writer.batch(batch),
        }
    }

    /// The bytes after the last batch; without them the answer is visibly not whole, CSV apart.
    pub fn end(&mut self) -> Result<Bytes, ArrowError> {
        match self {
            Encoder::Arrow(writer) => {
                writer.finish()?;
                Ok(std::mem::take(writer.get_mut()).into())
            }
            Encoder::Json(_, writer) => {
                writer.finish()?;
                Ok(std::mem::take(writer.get_mut()).into())
            }
            Encoder::Ndjson(_, writer) => {
                writer.finish()?;
                Ok(std::mem::take(writer.get_mut()).into())
            }
            Encoder::Csv(writer) => Ok(writer.end()),
        }
    }
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
