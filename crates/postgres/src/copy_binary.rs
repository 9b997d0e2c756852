//! The binary format of COPY: a header, rows as lengths and bytes of values, and a trailer.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use headwater_model::{ErrorCode, Problem};
use headwater_postgres_catalog::PgType;

use crate::column_encoder::ColumnEncoder;
use crate::copy_format::{CopyRow, ROW_BYTES_MAX};
use crate::parameter_value;

/// The first bytes of the header.
const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";

/// The bits of the header's flags whose meaning a reader must know. None is supported.
const CRITICAL_FLAGS: u32 = 0xffff_0000;

/// The trailer: this number, in place of a row's number of values.
const END: i16 = -1;

/// Writes the header.
pub fn put_header(out: &mut BytesMut) {
    out.extend_from_slice(SIGNATURE);
    out.put_u32(0);
    out.put_u32(0);
}

/// Writes a row.
pub fn put_row(columns: &[ColumnEncoder], row: usize, out: &mut BytesMut) {
    out.put_u16(columns.len() as u16);
    for column in columns {
        column.write(row, true, out);
    }
}

/// Writes the trailer.
pub fn put_trailer(out: &mut BytesMut) {
    out.put_i16(END);
}

/// Decoder of rows, whose bytes arrive in parts.
#[derive(Debug)]
pub struct BinaryDecoder {
    types: Vec<PgType>,
    input: BytesMut,
    has_header: bool,
    is_ended: bool,
    count: u64,
}

impl BinaryDecoder {
    /// Creates a decoder before the header. The rows must have values of these types.
    pub fn new(types: Vec<PgType>) -> Self {
        let input = BytesMut::new();
        BinaryDecoder { types, input, has_header: false, is_ended: false, count: 0 }
    }

    /// Adds bytes. Returns the rows that the bytes complete.
    pub fn add(&mut self, bytes: &[u8]) -> Result<Vec<CopyRow>, Problem> {
        self.input.extend_from_slice(bytes);
        let mut rows = Vec::new();
        if !self.has_header && !self.header()? {
            return Ok(rows);
        }
        while !self.is_ended
            && let Some(length) = self.row_length()?
        {
            let row = self.input.split_to(length).freeze();
            rows.extend(self.row(row)?);
        }
        if self.input.len() > ROW_BYTES_MAX {
            return Err(self.wrong(&format!("has more than {ROW_BYTES_MAX} bytes")));
        }
        Ok(rows)
    }

    /// Fails if the data ends within the header or a row.
    pub fn finish(&self) -> Result<(), Problem> {
        if self.has_header && (self.input.is_empty() || self.is_ended) {
            return Ok(());
        }
        Err(self.wrong("is not complete"))
    }

    /// Reads the header. Returns false if the header has not arrived completely.
    fn header(&mut self) -> Result<bool, Problem> {
        let known = self.input.len().min(SIGNATURE.len());
        if self.input[..known] != SIGNATURE[..known] {
            let message = "the data is not in the binary format of COPY";
            return Err(Problem::new(ErrorCode::InvalidArgument, message)
                .with_hint("Write `WITH (FORMAT csv)` or send the format that the COPY names."));
        }
        let mut rest = &self.input[known..];
        let (Ok(flags), Ok(extension)) = (rest.try_get_u32(), rest.try_get_u32()) else {
            return Ok(false);
        };
        if flags & CRITICAL_FLAGS != 0 || extension as usize > ROW_BYTES_MAX {
            return Err(self.wrong("follows a header that is not supported"));
        }
        let length = SIGNATURE.len() + 8 + extension as usize;
        self.has_header = self.input.len() >= length;
        if self.has_header {
            self.input.advance(length);
        }
        Ok(self.has_header)
    }

    /// Returns the length of the first row in bytes; `None` if the row has not arrived completely.
    fn row_length(&self) -> Result<Option<usize>, Problem> {
        let mut rest = &self.input[..];
        let Ok(count) = rest.try_get_i16() else { return Ok(None) };
        if count == END {
            return Ok(Some(2));
        }
        if usize::try_from(count) != Ok(self.types.len()) {
            let columns = self.types.len();
            return Err(self.wrong(&format!("has {count} values for {columns} columns")));
        }
        for _ in 0..count {
            let Ok(length) = rest.try_get_i32() else { return Ok(None) };
            // The length -1 means null, which has no bytes.
            let length = usize::try_from(length).unwrap_or(0);
            if length > ROW_BYTES_MAX {
                return Err(self.wrong(&format!("has more than {ROW_BYTES_MAX} bytes")));
            }
            if rest.len() < length {
                return Ok(None);
            }
            rest.advance(length);
        }
        Ok(Some(self.input.len() - rest.len()))
    }

    /// Decodes a complete row; `None` for the trailer.
    fn row(&mut self, mut bytes: Bytes) -> Result<Option<CopyRow>, Problem> {
        if bytes.get_i16() == END {
            self.is_ended = true;
            return Ok(None);
        }
        self.count += 1;
        let mut row = CopyRow::with_capacity(self.types.len());
        for (index, pg_type) in self.types.iter().enumerate() {
            let length = usize::try_from(bytes.get_i32()).ok();
            let value = length.map(|length| bytes.split_to(length));
            let name = (index + 1).to_string();
            let text = parameter_value::binary_text(&name, *pg_type, value).map_err(|_| {
                self.wrong(&format!(
                    "has a value in column {name} that is invalid for the type of the column"
                ))
            })?;
            row.push(text);
        }
        Ok(Some(row))
    }

    fn wrong(&self, what: &str) -> Problem {
        let message = format!("row {} of the data {what}", self.count.max(1));
        Problem::new(ErrorCode::InvalidArgument, message)
    }
}

#[cfg(test)]
mod tests {
    use headwater_postgres_catalog::ScalarType;

    use super::*;

    fn decoder() -> BinaryDecoder {
        BinaryDecoder::new(vec![PgType::of(ScalarType::Int4), PgType::TEXT])
    }

    fn data() -> BytesMut {
        let mut data = BytesMut::new();
        put_header(&mut data);
        data.put_i16(2);
        data.put_i32(4);
        data.put_i32(-7);
        data.put_i32(-1);
        data.put_i16(2);
        data.put_i32(-1);
        data.put_i32(2);
        data.extend_from_slice("é".as_bytes());
        put_trailer(&mut data);
        data
    }

    #[test]
    fn rows_are_decoded_from_pieces_of_every_size() {
        for size in [1, 3, 1_000] {
            let mut decoder = decoder();
            let mut rows = Vec::new();
            for piece in data().chunks(size) {
                rows.extend(decoder.add(piece).expect("rows"));
            }
            decoder.finish().expect("the end");
            let expected = [[Some("-7".to_owned()), None], [None, Some("é".to_owned())]];
            assert_eq!(rows, expected);
        }
    }

    #[test]
    fn arrays_and_bytes_are_texts_of_postgresql() {
        let texts = PgType { scalar: ScalarType::Text, is_array: true };
        let mut decoder = BinaryDecoder::new(vec![texts, PgType::of(ScalarType::Bytea)]);
        let mut data = BytesMut::new();
        put_header(&mut data);
        data.put_i16(2);
        data.put_i32(20 + 7 + 4);
        for number in [1, 1, 25, 2, 1, 3] {
            data.put_i32(number);
        }
        data.extend_from_slice(b"a,b");
        data.put_i32(-1);
        data.put_i32(2);
        data.extend_from_slice(b"\0\xff");
        put_trailer(&mut data);
        let rows = decoder.add(&data).expect("rows");
        assert_eq!(rows, [[Some("{\"a,b\",NULL}".to_owned()), Some("\\x00ff".to_owned())]]);
    }

    #[test]
    fn malformed_data_is_an_error() {
        assert!(decoder().add(b"1\ta\n").is_err());
        assert!(decoder().finish().is_err());
        let mut short = decoder();
        let whole = data();
        short.add(&whole[..whole.len() - 6]).expect("a row");
        assert!(short.finish().is_err());
        for row in [
            &b"\0\x01\0\0\0\0"[..],
            b"\0\x02\x7f\xff\xff\xff",
            b"\0\x02\0\0\0\x02ab\xff\xff\xff\xff",
        ] {
            let mut decoder = decoder();
            let mut data = BytesMut::new();
            put_header(&mut data);
            data.extend_from_slice(row);
            assert!(decoder.add(&data).is_err(), "{row:?}");
        }
    }
}
