//! Deletion vectors: the deleted positions of one data file, as a blob in a Puffin file.
//!
//! A blob consists of its length, a magic number, a 64-bit Roaring bitmap in the portable format,
//! and a checksum of magic number and bitmap. The manifest contains the offset and the length of
//! the blob in the file.

use bytes::{BufMut, Bytes, BytesMut};

use crate::Positions;

/// The first bytes of a blob, after its length.
const MAGIC: [u8; 4] = [0xD1, 0xD3, 0x39, 0x64];

/// Number of bytes of a blob without its bitmap: length, magic number and checksum.
const FRAME_BYTES: usize = 12;

/// Encodes positions as a blob.
pub fn encode(positions: &Positions) -> Bytes {
    let bitmap = positions.to_portable();
    let mut blob = BytesMut::with_capacity(bitmap.len() + FRAME_BYTES);
    blob.put_u32((bitmap.len() + MAGIC.len()) as u32);
    blob.put_slice(&MAGIC);
    blob.put_slice(&bitmap);
    let checksum = crc32fast::hash(&blob[4..]);
    blob.put_u32(checksum);
    blob.freeze()
}

/// Decodes the positions of a blob.
pub fn decode(blob: &[u8]) -> std::result::Result<Positions, &'static str> {
    let short = "the deletion vector has fewer than 4 bytes";
    let (length, rest) = blob.split_first_chunk::<4>().ok_or(short)?;
    let length = u32::from_be_bytes(*length) as usize;
    if blob.len() < FRAME_BYTES || rest.len() != length + 4 {
        return Err("the length of the deletion vector differs from its header");
    }
    let (framed, checksum) = rest.split_at(length);
    if checksum != crc32fast::hash(framed).to_be_bytes() {
        return Err("the checksum of the deletion vector is wrong");
    }
    let bitmap =
        framed.strip_prefix(&MAGIC).ok_or("the magic number of the deletion vector is wrong")?;
    Positions::from_portable(bitmap).ok_or("the bitmap of the deletion vector is malformed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encoded_vector_is_decoded_back() {
        for positions in [vec![], vec![0], vec![1, 3, 5, 7, 9], vec![5, 1 << 33, (1 << 40) + 7]] {
            let positions: Positions = positions.into_iter().collect();
            assert_eq!(decode(&encode(&positions)).unwrap(), positions);
        }
        let many: Positions = (0..100_000).map(|n| n * 3).collect();
        assert_eq!(decode(&encode(&many)).unwrap(), many);
    }

    #[test]
    fn a_corrupt_vector_is_rejected() {
        let blob = encode(&[1, 2, 3].into_iter().collect());
        for byte in 0..blob.len() {
            let mut broken = blob.to_vec();
            broken[byte] ^= 0x10;
            assert!(decode(&broken).is_err(), "byte {byte}");
        }
        for length in 0..blob.len() {
            assert!(decode(&blob[..length]).is_err(), "{length} bytes");
        }
    }
}
