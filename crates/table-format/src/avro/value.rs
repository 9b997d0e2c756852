//! Decodes Avro values. Every length is checked before it is used.

use super::schema::{AvroField, AvroSchema, Kind};
use super::{AvroError, Result, invalid};

/// Maximum number of bytes of a variable-length number.
const NUMBER_BYTES_MAX: u32 = 10;

/// Maximum number of values in a record, including nested values.
const VALUES_MAX: usize = 1 << 22;

/// A decoded value. Strings and bytes borrow from the block.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    Null,
    Boolean(bool),
    /// The value of an `int` or a `long`.
    Long(i64),
    Float(f32),
    Double(f64),
    /// The value of a `bytes` or a `fixed`.
    Bytes(&'a [u8]),
    Text(&'a str),
    Array(Vec<Value<'a>>),
    Record(Record<'a>),
    /// A value of a type that does not occur in manifests: an enum or a map.
    Other,
}

/// The values of a record, one for each field.
#[derive(Debug, Clone, PartialEq)]
pub struct Record<'a> {
    fields: &'a [AvroField],
    values: Vec<Value<'a>>,
}

impl<'a> Record<'a> {
    /// Returns the value of a field by its id or, if the writer did not set ids, by its name.
    pub fn get(&self, id: i32, name: &str) -> Option<&Value<'a>> {
        let found = self.fields.iter().position(|field| match field.id {
            Some(known) => known == id,
            None => field.name == name,
        });
        self.values.get(found?).filter(|value| **value != Value::Null)
    }

    /// Returns the values in the order in which they are encoded.
    pub fn values(&self) -> &[Value<'a>] {
        &self.values
    }

    /// Returns the integer in a field; `None` if it is null.
    pub fn long(&self, id: i32, name: &str) -> Result<Option<i64>> {
        match self.get(id, name) {
            None => Ok(None),
            Some(Value::Long(number)) => Ok(Some(*number)),
            Some(_) => invalid(format!("`{name}` is not a number")),
        }
    }

    /// Returns the integer in a field as a narrower type; `None` if it is null.
    pub fn number<T: TryFrom<i64>>(&self, id: i32, name: &str) -> Result<Option<T>> {
        let Some(number) = self.long(id, name)? else { return Ok(None) };
        let invalid = || AvroError::Invalid(format!("`{name}` cannot be {number}"));
        T::try_from(number).map(Some).map_err(|_| invalid())
    }

    /// Returns the integer in a required field.
    pub fn required<T: TryFrom<i64>>(&self, id: i32, name: &str) -> Result<T> {
        let found = self.number(id, name)?;
        found.ok_or_else(|| AvroError::Invalid(format!("`{name}` is missing")))
    }

    /// Returns the string in a field; `None` if it is null.
    pub fn text(&self, id: i32, name: &str) -> Result<Option<&'a str>> {
        match self.get(id, name) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(*text)),
            Some(_) => invalid(format!("`{name}` is not a string")),
        }
    }

    /// Returns the bytes in a field; `None` if they are null.
    pub fn bytes(&self, id: i32, name: &str) -> Result<Option<&'a [u8]>> {
        match self.get(id, name) {
            None => Ok(None),
            Some(Value::Bytes(bytes)) => Ok(Some(*bytes)),
            Some(_) => invalid(format!("`{name}` is not bytes")),
        }
    }

    /// Returns the items of the list in a field; `None` if it is null.
    pub fn list(&self, id: i32, name: &str) -> Result<Option<&[Value<'a>]>> {
        match self.get(id, name) {
            None => Ok(None),
            Some(Value::Array(items)) => Ok(Some(items)),
            Some(_) => invalid(format!("`{name}` is not a list")),
        }
    }
}

/// A reader that consumes bytes from the front.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    /// Number of values that the current record may still contain.
    values: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Reader { bytes, values: VALUES_MAX }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn remaining(&self) -> &'a [u8] {
        self.bytes
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(count).ok_or(AvroError::Ended)?;
        self.bytes = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (taken, rest) = self.bytes.split_first_chunk::<N>().ok_or(AvroError::Ended)?;
        self.bytes = rest;
        Ok(*taken)
    }

    /// Reads a variable-length zigzag integer.
    pub(super) fn long(&mut self) -> Result<i64> {
        let mut bits = 0_u64;
        for index in 0..NUMBER_BYTES_MAX {
            let [byte] = self.array()?;
            bits |= u64::from(byte & 0x7F).checked_shl(index * 7).unwrap_or_default();
            if byte & 0x80 == 0 {
                return Ok((bits >> 1) as i64 ^ -((bits & 1) as i64));
            }
        }
        invalid("a number is longer than 64 bits")
    }

    /// Reads a non-negative length or count.
    pub(super) fn length(&mut self) -> Result<usize> {
        let length = self.long()?;
        usize::try_from(length).or_else(|_| invalid(format!("a length cannot be {length}")))
    }

    /// Reads length-prefixed bytes.
    pub(super) fn bytes(&mut self) -> Result<&'a [u8]> {
        let length = self.length()?;
        self.take(length)
    }

    /// Reads the number of items in the next block of an array or map.
    pub(super) fn block_count(&mut self) -> Result<usize> {
        let count = self.long()?;
        if count >= 0 {
            return usize::try_from(count).map_err(|_| AvroError::Ended);
        }
        self.long()?;
        usize::try_from(count.unsigned_abs()).map_err(|_| AvroError::Ended)
    }
}

/// Decodes a top-level record: one that is not nested in another record.
pub(super) fn decode_row<'a>(
    fields: &'a [AvroField],
    reader: &mut Reader<'a>,
) -> Result<Record<'a>> {
    reader.values = VALUES_MAX;
    decode_record(fields, reader)
}

fn decode_record<'a>(fields: &'a [AvroField], reader: &mut Reader<'a>) -> Result<Record<'a>> {
    let values = fields.iter().map(|field| decode(&field.schema, reader));
    Ok(Record { fields, values: values.collect::<Result<_>>()? })
}

fn decode<'a>(schema: &'a AvroSchema, reader: &mut Reader<'a>) -> Result<Value<'a>> {
    let Some(remaining) = reader.values.checked_sub(1) else {
        return invalid(format!("a record has more than {VALUES_MAX} values"));
    };
    reader.values = remaining;
    Ok(match &schema.kind {
        Kind::Null => Value::Null,
        Kind::Boolean => Value::Boolean(reader.array::<1>()? != [0]),
        Kind::Int | Kind::Long => Value::Long(reader.long()?),
        Kind::Float => Value::Float(f32::from_le_bytes(reader.array()?)),
        Kind::Double => Value::Double(f64::from_le_bytes(reader.array()?)),
        Kind::Bytes => Value::Bytes(reader.bytes()?),
        Kind::Fixed(bytes) => Value::Bytes(reader.take(*bytes)?),
        Kind::Text => match std::str::from_utf8(reader.bytes()?) {
            Ok(text) => Value::Text(text),
            Err(error) => return invalid(format!("a string is not UTF-8: {error}")),
        },
        Kind::Enum => {
            reader.long()?;
            Value::Other
        }
        Kind::Array(items) => Value::Array(decode_items(items, reader)?),
        Kind::Map(values) => {
            skip_map(values, reader)?;
            Value::Other
        }
        Kind::Union(variants) => {
            let variant = reader.length()?;
            match variants.get(variant) {
                Some(variant) => decode(variant, reader)?,
                None => return invalid(format!("a union has no variant {variant}")),
            }
        }
        Kind::Record(fields) => Value::Record(decode_record(fields, reader)?),
    })
}

fn decode_items<'a>(items: &'a AvroSchema, reader: &mut Reader<'a>) -> Result<Vec<Value<'a>>> {
    let mut decoded = Vec::new();
    loop {
        let count = reader.block_count()?;
        if count == 0 {
            return Ok(decoded);
        }
        // An item without bytes, such as null, counts as one byte. Otherwise, a small file could
        // declare an unlimited number of items without bytes.
        let bytes = items.bytes_min().max(1);
        if count.checked_mul(bytes).is_none_or(|all| all > reader.remaining().len()) {
            return Err(AvroError::Ended);
        }
        decoded.reserve(count.min(reader.values));
        for _ in 0..count {
            decoded.push(decode(items, reader)?);
        }
    }
}

fn skip_map<'a>(values: &'a AvroSchema, reader: &mut Reader<'a>) -> Result<()> {
    loop {
        let count = reader.block_count()?;
        if count == 0 {
            return Ok(());
        }
        for _ in 0..count {
            reader.bytes()?;
            decode(values, reader)?;
        }
    }
}
