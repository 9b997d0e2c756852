//! Writes Puffin files: blobs, and a footer that describes them. Headwater writes only Puffin files
//! that contain deletion vectors.

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};
use serde_json::{Value, json};

use crate::Positions;
use crate::deletion_vector;

/// The first bytes of a Puffin file, and the first and last bytes of its footer.
const MAGIC: [u8; 4] = *b"PFA1";

/// The reserved field id of a row's position.
const POSITION_ID: i32 = 2_147_483_645;

/// A Puffin file of deletion vectors that is being written.
pub struct PuffinWriter {
    content: BytesMut,
    blobs: Vec<Value>,
}

impl Default for PuffinWriter {
    fn default() -> Self {
        PuffinWriter { content: BytesMut::from(&MAGIC[..]), blobs: Vec::new() }
    }
}

impl PuffinWriter {
    /// Adds the deletion vector of a data file. Returns the range of the blob's bytes in the file.
    pub fn add(&mut self, data_file: &str, positions: &Positions) -> Range<usize> {
        let (offset, blob) = (self.content.len(), deletion_vector::encode(positions));
        self.content.put_slice(&blob);
        self.blobs.push(json!({
            "type": "deletion-vector-v1",
            "fields": [POSITION_ID],
            "snapshot-id": -1,
            "sequence-number": -1,
            "offset": offset,
            "length": blob.len(),
            "properties": {
                "referenced-data-file": data_file,
                "cardinality": positions.len().to_string(),
            },
        }));
        offset..self.content.len()
    }

    /// Appends the footer. Returns the content of the whole file.
    pub fn finish(self) -> Bytes {
        let PuffinWriter { mut content, blobs } = self;
        let created_by = concat!("headwater ", env!("CARGO_PKG_VERSION"));
        let footer = json!({"blobs": blobs, "properties": {"created-by": created_by}}).to_string();
        content.put_slice(&MAGIC);
        content.put_slice(footer.as_bytes());
        content.put_u32_le(footer.len() as u32);
        content.put_u32_le(0);
        content.put_slice(&MAGIC);
        content.freeze()
    }
}
