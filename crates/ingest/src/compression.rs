//! Compressed text files: gzip and zstd, detected by their first bytes and not by their names.
//!
//! A file may contain several members in sequence, as written by log rotation and parallel
//! compressors. Data is decompressed as a stream, so a small file with a very large content takes
//! time but little memory.

use std::io::{BufReader, Read, Result};

use flate2::bufread::MultiGzDecoder;
use headwater_model::FileFormat;

use super::arrow_file::is_arrow;

/// Compression of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    /// Detects the compression from the first bytes.
    pub fn detect(first: &[u8]) -> Self {
        match first {
            [0x1f, 0x8b, ..] => Compression::Gzip,
            // A regular frame, or a skippable frame, which some compressors write first.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
            _ => Compression::None,
        }
    }

    /// Returns the name for messages.
    pub const fn name(self) -> &'static str {
        match self {
            Compression::None => "text",
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
        }
    }

    /// Wraps a reader to return the decompressed bytes.
    pub fn unpack<'a, R: Read + Send + 'a>(self, reader: R) -> Result<Box<dyn Read + Send + 'a>> {
        Ok(match self {
            Compression::None => Box::new(reader),
            Compression::Gzip => {
                Box::new(MultiGzDecoder::new(BufReader::with_capacity(64 * 1024, reader)))
            }
            Compression::Zstd => Box::new(zstd::stream::read::Decoder::new(reader)?),
        })
    }
}

/// File name suffixes and their compression.
const ENDINGS: [(&str, Compression); 4] = [
    (".gz", Compression::Gzip),
    (".gzip", Compression::Gzip),
    (".zst", Compression::Zstd),
    (".zstd", Compression::Zstd),
];

/// Returns the compression suffix of a file name.
fn ending_of(name: &str) -> Option<(&'static str, Compression)> {
    ENDINGS.into_iter().find(|(ending, _)| {
        let at = name.len().saturating_sub(ending.len());
        name.get(at..).is_some_and(|tail| tail.eq_ignore_ascii_case(ending))
    })
}

/// Returns a name without its compression suffix.
pub(crate) fn strip_suffix(name: &str) -> &str {
    ending_of(name).map_or(name, |(ending, _)| &name[..name.len() - ending.len()])
}

/// Returns the compression that a file name indicates.
pub(crate) fn claimed(name: &str) -> Compression {
    ending_of(name).map_or(Compression::None, |(_, compression)| compression)
}

/// Fills a buffer until it is full or the reader ends.
pub(crate) fn read_up_to(reader: &mut impl Read, buffer: &mut [u8]) -> Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Detects the format from a file's content: Parquet and Arrow by their magic numbers, JSON by a
/// brace or a bracket.
pub(crate) fn sniff_format<R: Read + Send>(
    open: impl Fn() -> Result<R>,
) -> Result<Option<FileFormat>> {
    let mut first = [0; 8];
    let count = read_up_to(&mut open()?, &mut first)?;
    if first[..count].starts_with(b"PAR1") {
        return Ok(Some(FileFormat::Parquet));
    }
    if is_arrow(&first[..count]) {
        return Ok(Some(FileFormat::Arrow));
    }
    let mut text = Compression::detect(&first[..count]).unpack(open()?)?;
    let mut start = [0; 256];
    // Ignore an error here: reading the corrupt file later returns it.
    let count = read_up_to(&mut text, &mut start).unwrap_or(0);
    let first = start[..count].iter().find(|byte| !byte.is_ascii_whitespace());
    Ok(matches!(first, Some(b'{' | b'[')).then_some(FileFormat::Ndjson))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn unpacked(bytes: &[u8]) -> Vec<u8> {
        let mut text = Vec::new();
        let mut reader = Compression::detect(bytes).unpack(bytes).unwrap();
        reader.read_to_end(&mut text).unwrap();
        text
    }

    #[test]
    fn every_member_of_an_archive_is_read() {
        let zstd = |text: &[u8]| zstd::encode_all(text, 1).unwrap();
        assert_eq!(unpacked(&[gzip(b"one\n"), gzip(b"two\n")].concat()), b"one\ntwo\n");
        assert_eq!(unpacked(&[zstd(b"one\n"), zstd(b"two\n")].concat()), b"one\ntwo\n");
        assert_eq!(unpacked(b"plain"), b"plain");
    }

    #[test]
    fn a_truncated_archive_is_an_error() {
        let whole = gzip(&b"some text that is long enough to be torn".repeat(100));
        let torn = &whole[..whole.len() - 12];
        let mut reader = Compression::detect(torn).unpack(torn).unwrap();
        assert!(reader.read_to_end(&mut Vec::new()).is_err());
    }

    #[test]
    fn compression_suffixes_are_recognized() {
        assert_eq!(strip_suffix("a.csv.GZ"), "a.csv");
        assert_eq!(strip_suffix("a.csv.zst"), "a.csv");
        assert_eq!(strip_suffix("é"), "é");
    }
}
