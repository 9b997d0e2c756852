//! Decompression of record batches, with a limit. Does no I/O.

use std::io::{self, Read};

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use lz4_flex::frame::FrameDecoder;

/// Maximum size of the records of one batch. Kafka limits a compressed batch to 1 MiB by default.
pub(crate) const BATCH_BYTES_MAX: usize = 256 << 20;

/// Header of the framing that Java clients use for Snappy, with two version numbers.
const SNAPPY_HEADER: &[u8] = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";

/// The compression of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Codec {
    Uncompressed,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Codec {
    /// Returns the codec in the attributes of a batch; `None` if the codec is unknown.
    pub(crate) fn of_attributes(attributes: i16) -> Option<Self> {
        match attributes & 0b111 {
            0 => Some(Codec::Uncompressed),
            1 => Some(Codec::Gzip),
            2 => Some(Codec::Snappy),
            3 => Some(Codec::Lz4),
            4 => Some(Codec::Zstd),
            _ => None,
        }
    }

    /// Decompresses the records of a batch, of at most `limit` bytes.
    pub(crate) fn decompress(self, compressed: Bytes, limit: usize) -> io::Result<Bytes> {
        match self {
            // Copy the bytes, because a slice would keep the whole response in memory.
            Codec::Uncompressed => Ok(Bytes::copy_from_slice(&compressed)),
            Codec::Gzip => read_limited(MultiGzDecoder::new(&*compressed), limit),
            Codec::Snappy => snappy(&compressed, limit),
            Codec::Lz4 => read_limited(FrameDecoder::new(&*compressed), limit),
            Codec::Zstd => read_limited(zstd::Decoder::with_buffer(&*compressed)?, limit),
        }
    }
}

fn read_limited(reader: impl Read, limit: usize) -> io::Result<Bytes> {
    let mut decompressed = Vec::new();
    let limit_read = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    reader.take(limit_read).read_to_end(&mut decompressed)?;
    if decompressed.len() > limit { Err(too_large(limit)) } else { Ok(decompressed.into()) }
}

/// Decompresses one block of Snappy, or the framed sequence of blocks that a Java client writes.
fn snappy(compressed: &[u8], limit: usize) -> io::Result<Bytes> {
    let mut decompressed = Vec::new();
    let mut add = |block: &[u8]| {
        let length = snap::raw::decompress_len(block)?;
        if length.saturating_add(decompressed.len()) > limit {
            return Err(too_large(limit));
        }
        decompressed.extend(snap::raw::Decoder::new().decompress_vec(block)?);
        Ok(())
    };
    let Some(mut rest) = compressed.strip_prefix(SNAPPY_HEADER) else {
        add(compressed)?;
        return Ok(decompressed.into());
    };
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*length) as usize;
        let block = after.get(..length).ok_or(io::ErrorKind::UnexpectedEof)?;
        add(block)?;
        rest = &after[length..];
    }
    Ok(decompressed.into())
}

fn too_large(limit: usize) -> io::Error {
    io::Error::other(format!("the batch has more than {} MiB after decompression", limit >> 20))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::write::GzEncoder;

    use super::*;

    fn compress(codec: Codec, data: &[u8]) -> Vec<u8> {
        match codec {
            Codec::Uncompressed => data.to_vec(),
            Codec::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::default());
                encoder.write_all(data).expect("gzip");
                encoder.finish().expect("gzip")
            }
            Codec::Snappy => snap::raw::Encoder::new().compress_vec(data).expect("snappy"),
            Codec::Lz4 => {
                let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
                encoder.write_all(data).expect("lz4");
                encoder.finish().expect("lz4")
            }
            Codec::Zstd => zstd::encode_all(data, 3).expect("zstd"),
        }
    }

    #[test]
    fn each_codec_is_decompressed_up_to_a_limit() {
        let data = b"a record with a value ".repeat(1_000);
        for number in 0..5 {
            let codec = Codec::of_attributes(number).expect("a codec");
            let compressed = Bytes::from(compress(codec, &data));
            let decompress = |limit| codec.decompress(compressed.clone(), limit);
            assert_eq!(decompress(data.len()).expect("data"), data, "{codec:?}");
            let is_limited = decompress(data.len() - 1).is_err();
            assert_eq!(is_limited, codec != Codec::Uncompressed, "{codec:?}");
        }
        assert_eq!(Codec::of_attributes(5), None);
    }

    #[test]
    fn blocks_of_java_clients_are_decompressed() {
        let mut compressed = SNAPPY_HEADER.to_vec();
        for block in [&b"first "[..], b"second"] {
            let block = compress(Codec::Snappy, block);
            compressed.extend(u32::try_from(block.len()).expect("a length").to_be_bytes());
            compressed.extend(block);
        }
        let read = |compressed: &[u8], limit| {
            Codec::Snappy.decompress(Bytes::copy_from_slice(compressed), limit)
        };
        assert_eq!(read(&compressed, 12).expect("data"), "first second");
        assert!(read(&compressed, 11).is_err());
        assert!(read(&compressed[..compressed.len() - 1], 12).is_err());
        // The block declares that it has 4 GiB.
        assert!(read(b"\xff\xff\xff\xff\x0f", 1 << 20).is_err());
    }
}
