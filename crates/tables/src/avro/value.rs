//! Values of an Avro file: decoded by its schema, with every length checked first.

use super::schema::{Field, Kind, Schema};
use super::{AvroError, Result, invalid};

/// The most bytes of a number of variable length.
const NUMBER_BYTES_MAX: u32 = 10;

/// The most values that one record may have, nested ones among them.
const VALUES_MAX: usize = 1 << 22;

/// A value; texts and bytes are those of the block.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value<'a> {
    Null,
    Boolean(bool),
    /// An `int` or a `long`.
    Long(i64),
    Float(f32),
    Double(f64),
    /// `bytes` or `fixed`.
    Bytes(&'a [u8]),
    Text(&'a str),
    Array(Vec<Value<'a>>),
    Record(Record<'a>),
    /// One of a type that no manifest has: an enum or a map.
    Other,
}

/// The values of a record, one for each field.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Record<'a> {
    fields: &'a [Field],
    values: Vec<Value<'a>>,
}

impl<'a> Record<'a> {
    /// The value of a field with that id, or, where the writer gave no ids, of that name.
    pub(crate) fn get(&self, id: i32, name: &str) -> Option<&Value<'a>> {
        let found = self.fields.iter().position(|field| match field.id {
            Some(known) => known == id,
            None => field.name == name,
        });
        self.values.get(found?).filter(|value| **value != Value::Null)
    }

    /// The values, in the order in which they are written.
    pub(crate) fn values(&self) -> &[Value<'a>] {
        &self.values
    }

    /// A whole number; none where it is null.
    pub(crate) fn long(&self, id: i32, name: &str) -> Result<Option<i64>> {
        match self.get(id, name) {
            None => Ok(None),
            Some(Value::Long(number)) => Ok(Some(*number)),
            Some(_) => invalid(format!("`{name}` is no number")),
        }
    }

    /// A whole number of a narrower type; none where it is null.
    pub(crate) fn number<T: TryFrom<i64>>(&self, id: i32, name: &str) -> Result<Option<T>> {
        let Some(number) = self.long(id, name)? else { return Ok(None) };
        let invalid = || AvroError::Invalid(format!("`{name}` cannot be {number}"));
        T::try_from(number).map(Some).map_err(|_| invalid())
    }

    /// A number that must be there.
    pub(crate) fn required<T: TryFrom<i64>>(&self, id: i32, name: &str) -> Result<T> {
        let found = self.number(id, name)?;
        found.ok_or_else(|| AvroError::Invalid(format!("`{name}` is missing")))
    }

    /// A text; none where it is null.
    pub(crate) fn text(&self, id: i32, name: &str) -> Result<Option<&'a str>> {
        match self.get(id, name) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(*text)),
            Some(_) => invalid(format!("`{name}` is no text")),
        }
    }

    /// Bytes; none where they are null.
    pub(crate) fn bytes(&self, id: i32, name: &str) -> Result<Option<&'a [u8]>> {
        match self.get(id, name) {
            None => Ok(None),
            Some(Value::Bytes(bytes)) => Ok(Some(*bytes)),
            Some(_) => invalid(format!("`{name}` is no bytes")),
        }
    }

    /// The items of a list; none where it is null.
    pub(crate) fn list(&self, id: i32, name: &str) -> Result<Option<&[Value<'a>]>> {
        match self.get(id, name) {
            None => Ok(None),
            Some(Value::Array(items)) => Ok(Some(items)),
            Some(_) => invalid(format!("`{name}` is no list")),
        }
    }
}

/// Bytes that are read from the front.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    /// How many more values the record may have.
    values: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Reader { bytes, values: VALUES_MAX }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn rest(&self) -> &'a [u8] {
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

    /// A whole number, in zigzag order and of variable length.
    pub(super) fn long(&mut self) -> Result<i64> {
        let mut bits = 0_u64;
        for place in 0..NUMBER_BYTES_MAX {
            let [byte] = self.array()?;
            bits |= u64::from(byte & 0x7F).checked_shl(place * 7).unwrap_or_default();
            if byte & 0x80 == 0 {
                return Ok((bits >> 1) as i64 ^ -((bits & 1) as i64));
            }
        }
        invalid("a number is longer than 64 bits")
    }

    /// A length, or a count, that is not negative.
    pub(super) fn length(&mut self) -> Result<usize> {
        let length = self.long()?;
        usize::try_from(length).or_else(|_| invalid(format!("a length cannot be {length}")))
    }

    /// Bytes with their length before them.
    pub(super) fn bytes(&mut self) -> Result<&'a [u8]> {
        let length = self.length()?;
        self.take(length)
    }

    /// How many items the next block of an array, or a map, has.
    pub(super) fn block_count(&mut self) -> Result<usize> {
        let count = self.long()?;
        if count >= 0 {
            return usize::try_from(count).map_err(|_| AvroError::Ended);
        }
        self.long()?;
        usize::try_from(count.unsigned_abs()).map_err(|_| AvroError::Ended)
    }
}

/// Decodes a record that lies in no other.
pub(super) fn decode_row<'a>(fields: &'a [Field], reader: &mut Reader<'a>) -> Result<Record<'a>> {
    reader.values = VALUES_MAX;
    decode_record(fields, reader)
}

fn decode_record<'a>(fields: &'a [Field], reader: &mut Reader<'a>) -> Result<Record<'a>> {
    let values = fields.iter().map(|field| decode(&field.schema, reader));
    Ok(Record { fields, values: values.collect::<Result<_>>()? })
}

fn decode<'a>(schema: &'a Schema, reader: &mut Reader<'a>) -> Result<Value<'a>> {
    let Some(left) = reader.values.checked_sub(1) else {
        return invalid(format!("a record has more than {VALUES_MAX} values"));
    };
    reader.values = left;
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
            Err(error) => return invalid(format!("a text is no UTF-8: {error}")),
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

fn decode_items<'a>(items: &'a Schema, reader: &mut Reader<'a>) -> Result<Vec<Value<'a>>> {
    let mut decoded = Vec::new();
    loop {
        let count = reader.block_count()?;
        if count == 0 {
            return Ok(decoded);
        }
        // Items that take no bytes could be of any number.
        let bytes = items.bytes_min().max(1);
        if count.checked_mul(bytes).is_none_or(|all| all > reader.rest().len()) {
            return Err(AvroError::Ended);
        }
        decoded.reserve(count.min(reader.values));
        for _ in 0..count {
            decoded.push(decode(items, reader)?);
        }
    }
}

fn skip_map<'a>(values: &'a Schema, reader: &mut Reader<'a>) -> Result<()> {
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
