//! The content that is sent to a destination: the record of an ended call, or the result of a
//! function. Each destination uses its own encoding: text, a file, or rows.

use bytes::Bytes;
use futures::StreamExt;
use headwater_encoding::{Format, RowEncoder};
use headwater_function_lake::json_rows as rows;
use headwater_functions::{FunctionResult, LAKE_CONTENT_BYTES_MAX, SharedTable, too_large};
use headwater_model::{Problem, Timestamp};
use serde_json::Value;

use crate::destination_address::DestinationAddress;
use crate::invocation_record::InvocationRecord;
use crate::send_failure::unsuitable;

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

/// The content to send.
#[derive(Debug, Clone, Copy)]
pub enum Payload<'a> {
    /// The record of an ended call, in the format of AWS Lambda.
    Record(&'a Value),
    /// The result of a function.
    Result(ResultPayload<'a>),
}

/// The result of a function to send, and the call that returned it.
#[derive(Debug, Clone, Copy)]
pub struct ResultPayload<'a> {
    /// The returned value.
    pub value: &'a FunctionResult,
    /// The id of the event that caused the call, or of the job of a synchronous call.
    pub event: &'a str,
    /// The name of the function.
    pub function: &'a str,
    /// Time of the event, or the start of a synchronous call. Each attempt has the same time.
    pub time: Timestamp,
}

/// A payload with its id. Each attempt to send the payload has the same id.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IdentifiedPayload<'a> {
    pub id: &'a str,
    pub payload: Payload<'a>,
}

/// The body of an HTTP request or of a message in a queue.
pub(crate) struct MessageBody {
    pub media_type: &'static str,
    pub bytes: Bytes,
}

impl<'a> IdentifiedPayload<'a> {
    /// Returns the name of the called function.
    pub fn function(&self) -> &'a str {
        match self.payload {
            Payload::Record(json) => InvocationRecord { json }.function(),
            Payload::Result(call) => call.function,
        }
    }

    /// Returns the id of the event that caused the call.
    pub fn event(&self) -> &'a str {
        match self.payload {
            Payload::Record(json) => InvocationRecord { json }.call(),
            Payload::Result(call) => call.event,
        }
    }

    /// Returns the day of the call in UTC, as in `2026-03-01`.
    pub fn date(&self) -> String {
        match self.payload {
            Payload::Record(json) => InvocationRecord { json }.time().chars().take(10).collect(),
            Payload::Result(call) => call.time.format("%Y-%m-%d").to_string(),
        }
    }

    /// Returns the body of a request or message: JSON, or the text that a function returned. A
    /// table is an array of objects.
    pub async fn body(&self) -> Result<MessageBody, Problem> {
        let result = match self.payload {
            Payload::Record(json) => return Ok(body(JSON, json.to_string())),
            Payload::Result(call) => call.value,
        };
        match result {
            FunctionResult::Bool(value) => Ok(body(JSON, value.to_string())),
            FunctionResult::Table(table) => {
                Ok(MessageBody { media_type: JSON, bytes: encode(Format::Json, table).await? })
            }
            FunctionResult::Json(json) => Ok(match text(json) {
                Some(text) => body(TEXT, text),
                None => MessageBody { media_type: JSON, bytes: json.clone() },
            }),
        }
    }

    /// Returns the content of a file. The file extension selects the format of rows; text is stored
    /// unchanged.
    pub async fn file(&self, name: &str) -> Result<Bytes, Problem> {
        let Payload::Result(call) = self.payload else { return Ok(self.body().await?.bytes) };
        let format = format(name);
        match (call.value, format) {
            (FunctionResult::Table(table), Some(format)) => encode(format, table).await,
            (FunctionResult::Table(_), None) => Err(unknown_format(name)),
            (FunctionResult::Json(json), Some(format))
                if format != Format::Json && text(json).is_none() =>
            {
                match rows::table(json.clone(), None).await? {
                    Some(table) => encode(format, &table).await,
                    None => Ok(Bytes::new()),
                }
            }
            _ => Ok(self.body().await?.bytes),
        }
    }
}

fn body(media_type: &'static str, text: String) -> MessageBody {
    MessageBody { media_type, bytes: Bytes::from(text) }
}

/// Returns the text of a JSON string; `None` for other values.
fn text(json: &Bytes) -> Option<String> {
    let is_text = json.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'"');
    if is_text { serde_json::from_slice(json).ok() } else { None }
}

/// Returns the format of rows that the file extension of a name selects.
fn format(name: &str) -> Option<Format> {
    let (_, ending) = name.rsplit_once('.')?;
    match ending.to_ascii_lowercase().as_str() {
        "csv" => Some(Format::Csv),
        "json" => Some(Format::Json),
        "ndjson" | "jsonl" => Some(Format::Ndjson),
        "parquet" => Some(Format::Parquet),
        "arrow" => Some(Format::Arrow),
        _ => None,
    }
}

/// Checks that a table can be written to an address: the extension of an object's key must select a
/// format.
///
/// Errors: `invalid_argument`.
pub fn check_table_format(address: &str) -> Result<(), Problem> {
    match DestinationAddress::parse(address)? {
        DestinationAddress::Object(target) if format(&target.key).is_none() => {
            Err(unknown_format(&target.key))
        }
        _ => Ok(()),
    }
}

fn unknown_format(name: &str) -> Problem {
    unsuitable(
        format!("the result is a table, but the format of `{name}` is unknown"),
        "Let the key end with `.csv`, `.json`, `.ndjson`, `.parquet` or `.arrow`.",
    )
}

/// Encodes a table.
async fn encode(format: Format, table: &SharedTable) -> Result<Bytes, Problem> {
    let failed = |error: arrow::error::ArrowError| {
        unsuitable(format!("the rows cannot be encoded: {error}"), "Cast the column to text.")
    };
    let mut encoder = RowEncoder::new(format, &table.schema()).map_err(failed)?;
    let (mut batches, mut bytes) = (table.stream(), Vec::new());
    while let Some(batch) = batches.next().await {
        let mut rest = Some(batch.map_err(failed)?);
        while let Some(batch) = rest {
            let (piece, left) = encoder.encode_prefix(batch).map_err(failed)?;
            bytes.extend_from_slice(&piece);
            if bytes.len() as u64 > LAKE_CONTENT_BYTES_MAX {
                return Err(too_large("the result of the function"));
            }
            rest = left;
        }
    }
    bytes.extend_from_slice(&encoder.end().map_err(failed)?);
    Ok(bytes.into())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    async fn check(result: &str, name: &str, expected: Result<&str, &str>) {
        let value = FunctionResult::Json(Bytes::copy_from_slice(result.as_bytes()));
        let call =
            ResultPayload { value: &value, event: "e", function: "f", time: Timestamp::UNIX_EPOCH };
        let content = IdentifiedPayload { id: "e/output", payload: Payload::Result(call) };
        match (content.file(name).await, expected) {
            (Ok(file), Ok(expected)) => assert_eq!(file, expected.as_bytes(), "{result}"),
            (Err(problem), Err(expected)) => {
                assert!(problem.message.contains(expected), "{problem}");
            }
            (file, _) => panic!("{result}: {file:?}"),
        }
    }

    #[tokio::test]
    async fn a_file_has_the_format_of_its_name() {
        let rows = r#"[{"id": 1, "name": "tea"}, {"id": 2}]"#;
        check(rows, "a.csv", Ok("id,name\n1,tea\n2,\n")).await;
        check(rows, "a.json", Ok(rows)).await;
        check(rows, "a", Ok(rows)).await;
        check(r#""<p>tea</p>""#, "a.html", Ok("<p>tea</p>")).await;
        check(r#""id\n1\n""#, "a.csv", Ok("id\n1\n")).await;
        check("[]", "a.csv", Ok("")).await;
        check("[1]", "a.csv", Err("item 1 of the list is not a dict")).await;
    }

    #[tokio::test]
    async fn a_body_is_json_or_text() {
        for (result, media_type, expected) in
            [(r#"{"a": 1}"#, JSON, r#"{"a": 1}"#), (r#" "a\nb""#, TEXT, "a\nb")]
        {
            let value = FunctionResult::Json(Bytes::from_static(result.as_bytes()));
            let time = Timestamp::UNIX_EPOCH;
            let call = ResultPayload { value: &value, event: "e", function: "f", time };
            let content = IdentifiedPayload { id: "e/output", payload: Payload::Result(call) };
            let body = content.body().await.expect("a body");
            assert_eq!((body.media_type, &*body.bytes), (media_type, expected.as_bytes()));
            assert_eq!((content.event(), &*content.date()), ("e", "1970-01-01"));
        }
        let record =
            json!({"timestamp": "2026-03-01T10:00:00Z", "requestContext": {"requestId": "r"}});
        let content = IdentifiedPayload { id: "e", payload: Payload::Record(&record) };
        assert_eq!((content.event(), &*content.date()), ("r", "2026-03-01"));
    }
}
