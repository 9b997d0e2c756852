//! Opens a text file. Its bytes are counted, hashed, decompressed and decoded while they are read.

use std::io::{Cursor, Read};

use encoding_rs::Encoding;

use super::compression::{Compression, claimed, read_up_to};
use super::json_array::JsonArrayError;
use super::progress::CountingReader;
use super::source::SourceFile;
use super::text_encoding::decode;
use crate::error::{Error, Result};

/// An open text file.
pub(crate) struct TextFile<'a> {
    pub reader: Box<dyn Read + Send + 'a>,
    pub trouble: ErrorContext<'a>,
}

/// Context for error messages about a file.
#[derive(Clone, Copy)]
pub(crate) struct ErrorContext<'a> {
    pub source: &'a SourceFile,
    pub compression: Compression,
    pub encoding: &'static str,
}

/// Opens a file as text.
pub(crate) fn open_text<'a>(
    source: &'a SourceFile,
    tap: &'a mut CountingReader,
    encoding: Option<&'static Encoding>,
) -> Result<TextFile<'a>> {
    let mut trouble = ErrorContext { source, compression: Compression::None, encoding: "UTF-8" };
    let mut first = [0; 4];
    let count = read_up_to(tap, &mut first).map_err(|error| trouble.read(error))?;
    trouble.compression = Compression::detect(&first[..count]);
    let claimed = claimed(&source.name);
    if count > 0 && trouble.compression == Compression::None && claimed != Compression::None {
        return Err(Error::NotPacked { file: source.name.clone(), what: claimed.name() });
    }
    let bytes = Cursor::new(first[..count].to_vec()).chain(tap);
    let unpacked = trouble.compression.unpack(bytes).map_err(|error| trouble.read(error))?;
    let text = decode(unpacked, encoding).map_err(|error| trouble.read(error))?;
    trouble.encoding = text.encoding;
    Ok(TextFile { reader: text.reader, trouble })
}

impl ErrorContext<'_> {
    /// Converts a read error, which may come from the decompression of the file.
    pub fn read(&self, error: std::io::Error) -> Error {
        let file = self.source.name.clone();
        if matches!(error.get_ref(), Some(source) if source.is::<JsonArrayError>()) {
            let (what, reason) = ("a JSON array", error.to_string());
            return Error::BrokenFile { file, what, reason };
        }
        if self.compression == Compression::None || error.raw_os_error().is_some() {
            return Error::File { file, source: error };
        }
        Error::BrokenFile { file, what: self.compression.name(), reason: error.to_string() }
    }

    /// Returns the reason to report for a row with bytes that are not valid in the file's encoding.
    pub fn invalid(&self) -> String {
        format!("the line has bytes that are not valid {}", self.encoding)
    }
}
