//! Decompresses the blocks of Avro files, up to a limit.

use std::borrow::Cow;
use std::io::Read;

use super::{AvroError, Result, invalid};

/// Number of bytes of the checksum after a Snappy block.
const CHECKSUM_BYTES: usize = 4;

/// The codec by which blocks are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Codec {
    Null,
    Deflate,
    Snappy,
    Zstandard,
}

impl Codec {
    /// Returns the codec with the name in a header. An empty name means no compression.
    pub(super) fn named(name: &[u8]) -> Result<Self> {
        match name {
            b"" | b"null" => Ok(Codec::Null),
            b"deflate" => Ok(Codec::Deflate),
            b"snappy" => Ok(Codec::Snappy),
            b"zstandard" => Ok(Codec::Zstandard),
            other => Err(AvroError::Codec(String::from_utf8_lossy(other).into_owned())),
        }
    }

    /// Decompresses a block. Fails if the result has more than `bytes_max` bytes.
    pub(super) fn decompress(self, block: &[u8], bytes_max: usize) -> Result<Cow<'_, [u8]>> {
        let content = match self {
            Codec::Null => return Ok(Cow::Borrowed(block)),
            Codec::Deflate => read(flate2::read::DeflateDecoder::new(block), bytes_max)?,
            Codec::Snappy => snappy(block, bytes_max)?,
            Codec::Zstandard => {
                let decoder = zstd::Decoder::with_buffer(block).map_err(|e| broken(&e))?;
                read(decoder, bytes_max)?
            }
        };
        Ok(Cow::Owned(content))
    }
}

fn broken(error: &dyn std::fmt::Display) -> AvroError {
    AvroError::Invalid(format!("a block cannot be decompressed: {error}"))
}

fn read(from: impl Read, bytes_max: usize) -> Result<Vec<u8>> {
    let mut content = Vec::new();
    let limit = bytes_max as u64 + 1;
    from.take(limit).read_to_end(&mut content).map_err(|error| broken(&error))?;
    if content.len() > bytes_max { Err(AvroError::TooLong) } else { Ok(content) }
}

fn snappy(block: &[u8], bytes_max: usize) -> Result<Vec<u8>> {
    let Some((compressed, checksum)) = block.split_last_chunk::<CHECKSUM_BYTES>() else {
        return Err(AvroError::Ended);
    };
    let length = snap::raw::decompress_len(compressed).map_err(|error| broken(&error))?;
    // Snappy expands three compressed bytes to at most 64, so a larger declared length is invalid.
    if length > bytes_max || length / 64 > compressed.len() {
        return Err(AvroError::TooLong);
    }
    let content =
        snap::raw::Decoder::new().decompress_vec(compressed).map_err(|error| broken(&error))?;
    if crc32fast::hash(&content) != u32::from_be_bytes(*checksum) {
        return invalid("a block's checksum is wrong");
    }
    Ok(content)
}
