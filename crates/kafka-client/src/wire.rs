//! Primitive values of the Kafka protocol. Every length is checked against the bytes that are left,
//! so memory is allocated only for bytes that were received. Does no I/O.

use bytes::{Buf, BufMut, Bytes};

/// A message that does not follow the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the server sent an invalid message: {0}")]
pub struct MalformedMessage(pub &'static str);

const TOO_SHORT: MalformedMessage = MalformedMessage("it ends too early");

/// Reads values from received bytes.
#[derive(Debug, Clone)]
pub struct Reader(pub Bytes);

impl Reader {
    pub fn i8(&mut self) -> Result<i8, MalformedMessage> {
        self.0.try_get_i8().map_err(|_| TOO_SHORT)
    }

    pub fn i16(&mut self) -> Result<i16, MalformedMessage> {
        self.0.try_get_i16().map_err(|_| TOO_SHORT)
    }

    pub fn i32(&mut self) -> Result<i32, MalformedMessage> {
        self.0.try_get_i32().map_err(|_| TOO_SHORT)
    }

    pub fn i64(&mut self) -> Result<i64, MalformedMessage> {
        self.0.try_get_i64().map_err(|_| TOO_SHORT)
    }

    /// Reads a number in zigzag encoding, of at most ten bytes.
    pub fn varint(&mut self) -> Result<i64, MalformedMessage> {
        let mut value: u64 = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.0.try_get_u8().map_err(|_| TOO_SHORT)?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                let magnitude = (value >> 1).cast_signed();
                return Ok(if value & 1 == 0 { magnitude } else { !magnitude });
            }
        }
        Err(MalformedMessage("a number is too long"))
    }

    /// Removes the next bytes.
    pub fn take(&mut self, length: usize) -> Result<Bytes, MalformedMessage> {
        if length > self.0.len() { Err(TOO_SHORT) } else { Ok(self.0.split_to(length)) }
    }

    /// Removes as many bytes as a length field declares; `None` if the length is -1.
    pub fn take_nullable(&mut self, length: i64) -> Result<Option<Bytes>, MalformedMessage> {
        match usize::try_from(length) {
            Ok(length) => self.take(length).map(Some),
            Err(_) if length == -1 => Ok(None),
            Err(_) => Err(MalformedMessage("a length is negative")),
        }
    }

    pub fn bytes(&mut self) -> Result<Option<Bytes>, MalformedMessage> {
        let length = self.i32()?;
        self.take_nullable(length.into())
    }

    pub fn nullable_text(&mut self) -> Result<Option<String>, MalformedMessage> {
        let length = self.i16()?;
        let bytes = self.take_nullable(length.into())?;
        bytes.map(text).transpose()
    }

    pub fn text(&mut self) -> Result<String, MalformedMessage> {
        self.nullable_text()?.ok_or(MalformedMessage("a string is missing"))
    }

    /// Reads a list, which is empty if its length is -1.
    pub fn list<T>(
        &mut self,
        item: impl Fn(&mut Reader) -> Result<T, MalformedMessage>,
    ) -> Result<Vec<T>, MalformedMessage> {
        let length = self.i32()?;
        let mut items = Vec::new();
        for _ in 0..length {
            items.push(item(self)?);
        }
        Ok(items)
    }
}

/// Converts bytes to a string.
pub(crate) fn text(bytes: Bytes) -> Result<String, MalformedMessage> {
    String::from_utf8(bytes.into()).map_err(|_| MalformedMessage("a string is not UTF-8"))
}

/// Writes values of requests.
#[derive(Debug, Default)]
pub struct Writer(pub Vec<u8>);

impl Writer {
    pub fn i8(&mut self, value: i8) -> &mut Self {
        self.0.put_i8(value);
        self
    }

    pub fn i16(&mut self, value: i16) -> &mut Self {
        self.0.put_i16(value);
        self
    }

    pub fn i32(&mut self, value: i32) -> &mut Self {
        self.0.put_i32(value);
        self
    }

    pub fn i64(&mut self, value: i64) -> &mut Self {
        self.0.put_i64(value);
        self
    }

    /// Writes the number of items of a list. The requests of this crate contain only short lists,
    /// so the number always fits into 32 bits.
    pub fn count(&mut self, count: usize) -> &mut Self {
        self.i32(i32::try_from(count).unwrap_or(i32::MAX))
    }

    /// Writes a short string, such as the name of a topic or of a mechanism.
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.i16(i16::try_from(text.len()).unwrap_or(i16::MAX));
        self.0.put_slice(text.as_bytes());
        self
    }

    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.count(bytes.len());
        self.0.put_slice(bytes);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_in_zigzag_encoding() {
        for (bytes, expected) in [
            (vec![0], 0),
            (vec![1], -1),
            (vec![2], 1),
            (vec![0x80, 1], 64),
            (vec![0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], i64::MIN),
        ] {
            assert_eq!(Reader(Bytes::from(bytes)).varint(), Ok(expected));
        }
        assert!(Reader(Bytes::from(vec![0x80; 10])).varint().is_err());
        assert!(Reader(Bytes::from(vec![0x80])).varint().is_err());
    }

    #[test]
    fn a_declared_length_allocates_nothing() {
        let huge = || Reader(Bytes::from(i32::MAX.to_be_bytes().to_vec()));
        assert_eq!(huge().bytes(), Err(TOO_SHORT));
        assert_eq!(huge().list(Reader::i64), Err(TOO_SHORT));
        let negative = Reader(Bytes::from((-2_i32).to_be_bytes().to_vec())).bytes();
        assert_eq!(negative, Err(MalformedMessage("a length is negative")));
        assert_eq!(Reader(Bytes::from((-1_i32).to_be_bytes().to_vec())).bytes(), Ok(None));
    }
}
