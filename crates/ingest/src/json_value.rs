//! Appends one JSON value to one column.
//!
//! A scalar keeps its text form, so that a text column preserves every digit of a number. Nested
//! values are read field by field and element by element. The first value that does not fit ends
//! the row, and the error contains the path to this value.

use std::borrow::Cow;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::bad_row::not_a;
use super::column_builder::{ColumnBuilder, ListColumnBuilder, StructColumnBuilder};

/// The reason why a JSON value does not fit its column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JsonValueError {
    /// The path to the value, with dots; empty for the row itself.
    pub path: String,
    pub value: Option<String>,
    pub reason: String,
}

impl JsonValueError {
    fn mismatch(column: &ColumnBuilder, raw: &str) -> Self {
        let reason = not_a(raw, type_name(column));
        JsonValueError { path: String::new(), value: Some(raw.to_owned()), reason }
    }

    fn syntax(error: &serde_json::Error) -> Self {
        let text = error.to_string();
        // Keep only the column within the line, because the parser's line number is always 1.
        let reason = match text.rsplit_once(" at line ") {
            Some((what, place)) => match place.rsplit_once(' ') {
                Some((_, column)) => format!("{what} at character {column}"),
                None => what.to_owned(),
            },
            None => text,
        };
        JsonValueError { path: String::new(), value: None, reason }
    }

    fn within(mut self, name: &str) -> Self {
        self.path =
            if self.path.is_empty() { name.to_owned() } else { format!("{name}.{}", self.path) };
        self
    }
}

fn type_name(column: &ColumnBuilder) -> &'static str {
    match column {
        ColumnBuilder::Boolean(_) => "boolean",
        ColumnBuilder::Int(_) => "int",
        ColumnBuilder::Long(_) => "long",
        ColumnBuilder::Float(_) => "float",
        ColumnBuilder::Double(_) => "double",
        ColumnBuilder::Date(_) => "date",
        ColumnBuilder::Time(_) => "time",
        ColumnBuilder::Timestamp(_) => "timestamp",
        ColumnBuilder::ZonedTimestamp(_) => "timestamptz",
        ColumnBuilder::Nanoseconds(_) => "timestamp_ns",
        ColumnBuilder::ZonedNanoseconds(_) => "timestamptz_ns",
        ColumnBuilder::Decimal(..) => "decimal of the column's precision",
        ColumnBuilder::Text(_) => "string",
        ColumnBuilder::Binary(_) => "binary",
        ColumnBuilder::Uuid(_) => "uuid",
        ColumnBuilder::Struct(_) => "struct",
        ColumnBuilder::List(_) => "list",
    }
}

/// Appends a JSON value to a column. After an error, the column may contain a part of the value;
/// [`ColumnBuilder::repair`] then completes the column.
pub(crate) fn append_json(column: &mut ColumnBuilder, raw: &str) -> Result<(), JsonValueError> {
    let raw = raw.trim_ascii();
    if raw == "null" {
        column.append_null();
        return Ok(());
    }
    match (&mut *column, raw.as_bytes().first()) {
        (ColumnBuilder::Struct(inner), Some(b'{')) => append_object(inner, raw),
        (ColumnBuilder::List(inner), Some(b'[')) => append_list(inner, raw),
        (ColumnBuilder::Struct(_) | ColumnBuilder::List(_), _) => {
            Err(JsonValueError::mismatch(column, raw))
        }
        (_, Some(b'"')) => {
            let text = unquote(raw)?;
            column.append_text(&text).map_err(|_| JsonValueError::mismatch(column, &text))
        }
        (ColumnBuilder::Text(_) | ColumnBuilder::Binary(_), _) => {
            column.append_text(raw).map_err(|_| JsonValueError::mismatch(column, raw))
        }
        (ColumnBuilder::Boolean(_), Some(b't' | b'f')) | (_, Some(b'-' | b'0'..=b'9')) => {
            append_scalar(column, raw).map_err(|()| JsonValueError::mismatch(column, raw))
        }
        _ => Err(JsonValueError::mismatch(column, raw)),
    }
}

fn append_scalar(column: &mut ColumnBuilder, raw: &str) -> Result<(), ()> {
    if column.append_text(raw).is_ok() {
        return Ok(());
    }
    // `1.0` and `1e3` are whole numbers in JSON.
    let whole = raw.parse::<f64>().ok().filter(|value| value.fract() == 0.0 && value.abs() < 9e15);
    match (column, whole) {
        (column @ (ColumnBuilder::Int(_) | ColumnBuilder::Long(_)), Some(value)) => {
            column.append_text(&(value as i64).to_string()).map_err(|_| ())
        }
        _ => Err(()),
    }
}

/// Returns the text of a JSON string.
fn unquote(raw: &str) -> Result<Cow<'_, str>, JsonValueError> {
    match raw.get(1..raw.len().saturating_sub(1)) {
        Some(inner) if !inner.as_bytes().contains(&b'\\') => Ok(Cow::Borrowed(inner)),
        _ => match serde_json::from_str::<String>(raw) {
            Ok(text) => Ok(Cow::Owned(text)),
            Err(error) => Err(JsonValueError::syntax(&error)),
        },
    }
}

/// A key of an object, borrowed from the text unless it contains escapes.
pub(crate) struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(key))
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(key.to_owned()))
    }
}

/// A reader of an object, which passes each field to `take`. `take` may reject a field.
struct JsonObjectReader<'f, F> {
    take: F,
    fault: &'f mut Option<JsonValueError>,
}

impl<'de, F: FnMut(&str, &'de str) -> Result<(), JsonValueError>> Visitor<'de>
    for JsonObjectReader<'_, F>
{
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key_seed(Key)? {
            let raw: &'de RawValue = map.next_value()?;
            if let Err(fault) = (self.take)(&key, raw.get()) {
                *self.fault = Some(fault);
                return Err(A::Error::custom("a field was rejected"));
            }
        }
        Ok(())
    }
}

/// Reads an object and passes the raw text of each field to `take`.
pub(crate) fn read_object<'de>(
    raw: &'de str,
    take: impl FnMut(&str, &'de str) -> Result<(), JsonValueError>,
) -> Result<(), JsonValueError> {
    let mut fault = None;
    let mut json = serde_json::Deserializer::from_str(raw);
    let object = JsonObjectReader { take, fault: &mut fault };
    let read = (&mut json).deserialize_map(object).and_then(|()| json.end());
    match (fault, read) {
        (Some(fault), _) => Err(fault),
        (None, Err(error)) => Err(JsonValueError::syntax(&error)),
        (None, Ok(())) => Ok(()),
    }
}

/// A reader of a list, which appends each element to a column.
struct ListReader<'c, 'f> {
    column: &'c mut ColumnBuilder,
    fault: &'f mut Option<JsonValueError>,
}

impl<'de> Visitor<'de> for ListReader<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(raw) = list.next_element::<&'de RawValue>()? {
            if let Err(fault) = append_json(self.column, raw.get()) {
                *self.fault = Some(fault);
                return Err(A::Error::custom("an element was rejected"));
            }
        }
        Ok(())
    }
}

fn append_list(list: &mut ListColumnBuilder, raw: &str) -> Result<(), JsonValueError> {
    let mut fault = None;
    let mut json = serde_json::Deserializer::from_str(raw);
    let elements = ListReader { column: &mut list.element, fault: &mut fault };
    let read = (&mut json).deserialize_seq(elements);
    match (fault, read) {
        (Some(fault), _) => return Err(fault.within("element")),
        (None, Err(error)) => return Err(JsonValueError::syntax(&error)),
        (None, Ok(())) => list.close(true),
    }
    Ok(())
}

fn append_object(column: &mut StructColumnBuilder, raw: &str) -> Result<(), JsonValueError> {
    let row = column.valid.len();
    let StructColumnBuilder { fields, columns, valid } = column;
    let mut guess = 0;
    read_object(raw, |key, value| {
        let place = match fields.get(guess) {
            Some(field) if field.name() == key => Some(guess),
            _ => fields.iter().position(|field| field.name() == key),
        };
        guess = place.map_or(guess, |place| place + 1);
        put(place, columns, row, key, value)
    })?;
    valid.push(true);
    for column in columns {
        column.repair(row + 1);
    }
    Ok(())
}

/// Appends the value of a key, in row `row`, to the key's column.
pub(crate) fn put(
    place: Option<usize>,
    columns: &mut [ColumnBuilder],
    row: usize,
    key: &str,
    value: &str,
) -> Result<(), JsonValueError> {
    let fault = |reason: &str| {
        let (path, value) = (key.to_owned(), Some(value.to_owned()));
        JsonValueError { path, value, reason: reason.to_owned() }
    };
    let column = place.and_then(|place| columns.get_mut(place));
    let column = column.ok_or_else(|| fault("the table does not have this field"))?;
    if column.len() > row {
        return Err(fault("the field occurs twice"));
    }
    append_json(column, value).map_err(|fault| fault.within(key))
}
