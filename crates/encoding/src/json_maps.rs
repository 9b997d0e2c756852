//! Maps with keys of any type as JSON objects.
//!
//! Arrow's own encoder supports only text keys. A key of any other type is written as the text of
//! its JSON value: `{"1": "one"}` for an integer, `{"[1,2]": "both"}` for a list.

use arrow::array::MapArray;
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use arrow::json::writer::{Encoder, EncoderOptions, NullableEncoder, make_encoder};

/// Encoder of a map array.
pub struct MapEncoder<'a> {
    offsets: &'a OffsetBuffer<i32>,
    keys: NullableEncoder<'a>,
    values: NullableEncoder<'a>,
    /// Buffer for the JSON value of one key, from which the key's text is made.
    key: Vec<u8>,
}

/// Returns true if Arrow's own encoder supports the keys of a map.
pub fn has_text_keys(map: &MapArray) -> bool {
    matches!(map.key_type(), DataType::Utf8 | DataType::LargeUtf8)
}

impl<'a> MapEncoder<'a> {
    /// Creates the encoder of an array.
    pub fn new(map: &'a MapArray, options: &'a EncoderOptions) -> Result<Self, ArrowError> {
        let fields = map.entries().fields();
        Ok(MapEncoder {
            offsets: map.offsets(),
            keys: make_encoder(&fields[0], map.keys(), options)?,
            values: make_encoder(&fields[1], map.values(), options)?,
            key: Vec::new(),
        })
    }

    fn encode_key(&mut self, entry: usize, out: &mut Vec<u8>) {
        self.key.clear();
        self.keys.encode(entry, &mut self.key);
        if self.key.starts_with(b"\"") {
            out.extend_from_slice(&self.key);
        } else {
            let text = String::from_utf8_lossy(&self.key);
            out.extend_from_slice(serde_json::Value::from(text).to_string().as_bytes());
        }
    }
}

impl Encoder for MapEncoder<'_> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        out.push(b'{');
        let (begin, end) = (self.offsets[row] as usize, self.offsets[row + 1] as usize);
        for entry in begin..end {
            if entry > begin {
                out.push(b',');
            }
            self.encode_key(entry, out);
            out.push(b':');
            if self.values.is_null(entry) {
                out.extend_from_slice(b"null");
            } else {
                self.values.encode(entry, out);
            }
        }
        out.push(b'}');
    }
}
