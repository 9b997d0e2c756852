//! Rows as JSON objects.
//!
//! An object has a field for every column, even if its value is null. `NaN` and infinities are
//! null; timestamps, dates and times are text as in RFC 3339; binary is hexadecimal. A decimal is a
//! number if a double represents it exactly, otherwise text.

use std::io::Write;
use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray, FixedSizeBinaryArray, StringArray, StringBuilder};
use arrow::datatypes::{DataType, FieldRef};
use arrow::error::ArrowError;
use arrow::json::writer::{
    Encoder, EncoderFactory, EncoderOptions, JsonFormat, LineDelimited, NullableEncoder, Writer,
    WriterBuilder, make_encoder,
};
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::json_maps::{self, MapEncoder};
use super::out_of_range_times;

/// A writer of a JSON array.
pub type JsonArrayWriter = Writer<Vec<u8>, JsonArrayFormat>;

/// A writer of JSON lines.
pub type NdjsonWriter = Writer<Vec<u8>, LineDelimited>;

/// Number of decimal digits that a double can always represent.
const DOUBLE_DIGITS: u8 = 15;

/// Creates a writer of a JSON array.
pub fn array_writer() -> JsonArrayWriter {
    builder().build(Vec::new())
}

/// Creates a writer of JSON lines.
pub fn ndjson_writer() -> NdjsonWriter {
    builder().build(Vec::new())
}

fn builder() -> WriterBuilder {
    WriterBuilder::new()
        .with_explicit_nulls(true)
        .with_encoder_factory(Arc::new(ValueEncoderFactory))
}

/// Returns the JSON text of each value of a column.
pub fn json_texts(field: &FieldRef, array: &ArrayRef) -> Result<StringArray, ArrowError> {
    let options = options();
    let mut encoder = make_encoder(field, array, &options)?;
    let mut texts = StringBuilder::new();
    let mut text = Vec::new();
    for row in 0..array.len() {
        if encoder.is_null(row) {
            texts.append_null();
            continue;
        }
        text.clear();
        encoder.encode(row, &mut text);
        texts.append_value(String::from_utf8_lossy(&text));
    }
    Ok(texts.finish())
}

/// Returns encoder options in which encoders of this module replace some of Arrow's encoders.
fn options() -> EncoderOptions {
    EncoderOptions::default()
        .with_explicit_nulls(true)
        .with_encoder_factory(Arc::new(ValueEncoderFactory))
}

/// A JSON array with one row per line.
#[derive(Debug, Default)]
pub struct JsonArrayFormat;

impl JsonFormat for JsonArrayFormat {
    fn start_stream<W: Write>(&self, writer: &mut W) -> Result<(), ArrowError> {
        Ok(writer.write_all(b"[")?)
    }

    fn start_row<W: Write>(&self, writer: &mut W, first: bool) -> Result<(), ArrowError> {
        Ok(writer.write_all(if first { b"" } else { b",\n" })?)
    }

    fn end_stream<W: Write>(&self, writer: &mut W) -> Result<(), ArrowError> {
        Ok(writer.write_all(b"]\n")?)
    }
}

#[derive(Debug)]
struct ValueEncoderFactory;

impl EncoderFactory for ValueEncoderFactory {
    fn make_default_encoder<'a>(
        &self,
        field: &'a FieldRef,
        array: &'a dyn Array,
        options: &'a EncoderOptions,
    ) -> Result<Option<NullableEncoder<'a>>, ArrowError> {
        let encoder: Box<dyn Encoder + 'a> = match array.data_type() {
            DataType::Decimal32(digits, _)
            | DataType::Decimal64(digits, _)
            | DataType::Decimal128(digits, _)
            | DataType::Decimal256(digits, _)
                if *digits > DOUBLE_DIGITS =>
            {
                let format = FormatOptions::new().with_display_error(true);
                Box::new(UnescapedTextEncoder(ArrayFormatter::try_new(array, &format)?))
            }
            DataType::FixedSizeBinary(16) if is_uuid(field) => {
                Box::new(UuidEncoder(array.as_fixed_size_binary()))
            }
            DataType::Map(..) if !json_maps::has_text_keys(array.as_map()) => {
                Box::new(MapEncoder::new(array.as_map(), options)?)
            }
            _ if out_of_range_times::has_out_of_range_times(array) => {
                Box::new(OutOfRangeTimeEncoder {
                    usual: make_encoder(field, array, &PLAIN)?,
                    array,
                })
            }
            _ => return Ok(None),
        };
        Ok(Some(NullableEncoder::new(encoder, array.nulls().cloned())))
    }
}

/// Encoder options without the encoders of this module.
static PLAIN: LazyLock<EncoderOptions> = LazyLock::new(EncoderOptions::default);

/// Encoder of times that Arrow's encoder does not support.
struct OutOfRangeTimeEncoder<'a> {
    usual: NullableEncoder<'a>,
    array: &'a dyn Array,
}

impl Encoder for OutOfRangeTimeEncoder<'_> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        match out_of_range_times::out_of_range_time(self.array, row) {
            Some(text) => {
                // A write to memory cannot fail.
                let _ = write!(out, "\"{text}\"");
            }
            None => self.usual.encode(row, out),
        }
    }
}

fn is_uuid(field: &FieldRef) -> bool {
    field.metadata().get("ARROW:extension:name").is_some_and(|name| name == "arrow.uuid")
}

/// Encoder of values whose text needs no escapes in JSON.
struct UnescapedTextEncoder<'a>(ArrayFormatter<'a>);

impl Encoder for UnescapedTextEncoder<'_> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        // A write to memory cannot fail.
        let _ = write!(out, "\"{}\"", self.0.value(row));
    }
}

struct UuidEncoder<'a>(&'a FixedSizeBinaryArray);

impl Encoder for UuidEncoder<'_> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        let uuid = uuid::Uuid::from_slice(self.0.value(row)).unwrap_or_default();
        let _ = write!(out, "\"{uuid}\"");
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        BinaryArray, Decimal128Array, Float64Array, RecordBatch, TimestampMicrosecondArray,
    };

    use super::super::{Format, RowEncoder};
    use super::*;

    fn batch() -> RecordBatch {
        let decimals = |digits: u8, value| -> ArrayRef {
            let array = Decimal128Array::from(vec![Some(value), None]);
            Arc::new(array.with_precision_and_scale(digits, 2).expect("a decimal"))
        };
        let moments = TimestampMicrosecondArray::from(vec![1_357_016_400_000_000, 1]);
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("f", Arc::new(Float64Array::from(vec![1.5, f64::NAN]))),
            ("s", Arc::new(StringArray::from(vec![Some("a\"b"), None]))),
            ("d", decimals(10, 12345)),
            ("big", decimals(38, 1_234_567_890_123_456_789_012)),
            ("t", Arc::new(moments.clone())),
            ("tz", Arc::new(moments.with_timezone("UTC"))),
            ("b", Arc::new(BinaryArray::from(vec![b"\x00\xff".as_slice(), b""]))),
        ];
        RecordBatch::try_from_iter(columns).expect("a batch")
    }

    fn text(format: Format, batches: &[RecordBatch]) -> String {
        let mut encoder = RowEncoder::new(format, &batch().schema()).expect("an encoder");
        let mut bytes = Vec::new();
        for batch in batches {
            bytes.extend(encoder.batch(batch).expect("bytes"));
        }
        bytes.extend(encoder.end().expect("bytes"));
        String::from_utf8(bytes).expect("text")
    }

    const FIRST: &str = r#"{"f":1.5,"s":"a\"b","d":123.45,"big":"12345678901234567890.12","t":"2013-01-01T05:00:00","tz":"2013-01-01T05:00:00Z","b":"00ff"}"#;
    const SECOND: &str = r#"{"f":null,"s":null,"d":null,"big":null,"t":"1970-01-01T00:00:00.000001","tz":"1970-01-01T00:00:00.000001Z","b":""}"#;

    #[test]
    fn rows_are_objects() {
        let lines = text(Format::Ndjson, &[batch()]);
        assert_eq!(lines, format!("{FIRST}\n{SECOND}\n"));
    }

    #[test]
    fn an_array_can_span_batches_and_be_empty() {
        let array = text(Format::Json, &[batch(), batch().slice(0, 0), batch()]);
        assert_eq!(array, format!("[{FIRST},\n{SECOND},\n{FIRST},\n{SECOND}]\n"));
        assert_eq!(text(Format::Json, &[]), "[]\n");
    }

    #[test]
    fn csv_always_has_a_header_and_an_empty_field_for_null() {
        assert_eq!(text(Format::Csv, &[]), "f,s,d,big,t,tz,b\n");
        let text = text(Format::Csv, &[batch()]);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines[1],
            "1.5,\"a\"\"b\",123.45,12345678901234567890.12,2013-01-01T05:00:00,2013-01-01T05:00:00Z,00ff"
        );
        let expected = "NaN,,,,1970-01-01T00:00:00.000001,1970-01-01T00:00:00.000001Z,\"\"";
        assert_eq!(lines[2], expected);
    }
}
