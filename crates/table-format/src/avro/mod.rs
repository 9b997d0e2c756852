//! A reader for Avro files: manifests and manifest lists of any engine.
//!
//! [`AvroFile::for_each`] decodes a file. Fields are matched by Iceberg field id. Every length is
//! checked against the remaining bytes before memory is allocated, and the number of decompressed
//! bytes is limited.
//!
//! The `iceberg` crate reads manifests with the `apache-avro` crate. That crate allocates memory by
//! unchecked lengths, decompresses without a limit, and reads a `fixed(16)` with logical type
//! `uuid` as length-prefixed text. So this module reads manifests instead.

mod decompression;
mod schema;
mod value;

use std::borrow::Cow;
use std::collections::HashMap;

use self::decompression::Codec;
use self::schema::AvroSchema;
pub use self::schema::{AvroField, Kind, LogicalType};
use self::value::{Reader, decode_row};
pub use self::value::{Record, Value};

/// The first bytes of an Avro file.
const MAGIC: &[u8] = b"Obj\x01";

/// Bytes of the sync marker after each block.
const MARKER_BYTES: usize = 16;

/// Maximum number of decompressed bytes of all blocks of a file.
const DECODED_BYTES_MAX: usize = 512 << 20;

/// The reason why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum AvroError {
    /// The file ends within a value.
    #[error("the file ends within a value")]
    Ended,
    /// The bytes are not a value of the schema.
    #[error("{0}")]
    Invalid(String),
    /// The compression is not supported.
    #[error("codec `{0}` is not supported")]
    Codec(String),
    /// The decompressed blocks have more bytes than allowed.
    #[error("the blocks decompress to more than {DECODED_BYTES_MAX} bytes")]
    TooLong,
}

/// A result with the error type of this module.
pub type Result<T, E = AvroError> = std::result::Result<T, E>;

fn invalid<T>(reason: impl Into<String>) -> Result<T> {
    Err(AvroError::Invalid(reason.into()))
}

/// An Avro file of records whose blocks are decoded on request.
#[derive(Debug)]
pub struct AvroFile<'a> {
    metadata: HashMap<String, &'a [u8]>,
    schema: AvroSchema,
    codec: Codec,
    marker: &'a [u8],
    blocks: &'a [u8],
}

impl<'a> AvroFile<'a> {
    /// Reads the header of a file.
    pub fn open(content: &'a [u8]) -> Result<Self> {
        let Some(rest) = content.strip_prefix(MAGIC) else {
            return invalid("the file is not an Avro file");
        };
        let mut reader = Reader::new(rest);
        let metadata = header(&mut reader)?;
        let marker = reader.take(MARKER_BYTES)?;
        let Some(schema) = metadata.get("avro.schema") else {
            return invalid("the header has no schema");
        };
        let schema = schema::parse(schema)?;
        let codec = Codec::named(metadata.get("avro.codec").copied().unwrap_or_default())?;
        Ok(AvroFile { metadata, schema, codec, marker, blocks: reader.remaining() })
    }

    /// Returns a value of the header, such as `partition-spec`.
    pub fn metadata(&self, key: &str) -> Option<&'a [u8]> {
        self.metadata.get(key).copied()
    }

    /// Returns the fields of the file's records.
    pub fn fields(&self) -> Result<&[AvroField]> {
        match &self.schema.kind {
            Kind::Record(fields) => Ok(fields),
            _ => invalid("the file does not contain records"),
        }
    }

    /// Calls `each` with every record, in order.
    pub fn for_each<E: From<AvroError>>(
        &self,
        mut each: impl FnMut(&Record<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let fields = self.fields()?;
        if self.schema.bytes_min() == 0 {
            return Err(AvroError::Invalid("the records have no bytes".to_owned()).into());
        }
        let mut reader = Reader::new(self.blocks);
        let mut remaining = DECODED_BYTES_MAX;
        while !reader.is_empty() {
            let count = reader.length()?;
            let block = reader.bytes()?;
            let block = self.codec.decompress(block, remaining)?;
            remaining -= block.len();
            if reader.take(MARKER_BYTES)? != self.marker {
                return Err(
                    AvroError::Invalid("a block does not end with the sync marker".into()).into()
                );
            }
            let mut values = Reader::new(&block);
            for _ in 0..count {
                if values.is_empty() {
                    return Err(AvroError::Ended.into());
                }
                each(&decode_row(fields, &mut values)?)?;
            }
        }
        Ok(())
    }
}

/// Reads the metadata map in the header.
fn header<'a>(reader: &mut Reader<'a>) -> Result<HashMap<String, &'a [u8]>> {
    let mut metadata = HashMap::new();
    loop {
        let count = reader.block_count()?;
        if count == 0 {
            return Ok(metadata);
        }
        for _ in 0..count {
            let key = String::from_utf8_lossy(reader.bytes()?).into_owned();
            metadata.insert(key, reader.bytes()?);
        }
    }
}

/// Returns a copy of the file. `change` is called with each value in the header; if it returns a
/// value, this value replaces the old one.
pub fn with_header(
    content: &[u8],
    change: impl Fn(&str, &[u8]) -> Option<Vec<u8>>,
) -> Result<Vec<u8>> {
    let Some(rest) = content.strip_prefix(MAGIC) else {
        return invalid("the file is not an Avro file");
    };
    let mut reader = Reader::new(rest);
    let metadata = header(&mut reader)?;
    let mut changed = MAGIC.to_vec();
    write_long(&mut changed, metadata.len());
    for (key, value) in metadata {
        let value = change(&key, value).map_or(Cow::Borrowed(value), Cow::Owned);
        write_bytes(&mut changed, key.as_bytes());
        write_bytes(&mut changed, &value);
    }
    changed.push(0);
    changed.extend(reader.remaining());
    Ok(changed)
}

fn write_bytes(to: &mut Vec<u8>, bytes: &[u8]) {
    write_long(to, bytes.len());
    to.extend(bytes);
}

/// Appends a non-negative number in Avro's encoding.
fn write_long(to: &mut Vec<u8>, number: usize) {
    let mut bits = (number as u64) << 1;
    while bits >= 0x80 {
        to.push((bits as u8 & 0x7F) | 0x80);
        bits >>= 7;
    }
    to.push(bits as u8);
}

#[cfg(test)]
mod tests;
