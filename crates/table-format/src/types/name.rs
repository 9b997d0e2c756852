//! Type names: `long`, `decimal(10, 2)`, `list<struct<a: int, b: string>>`.
//!
//! The names are Iceberg's. SQL's names of the same types are parsed as well.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, TimeUnit};

use super::is_uuid;
use crate::{Error, Result};

/// Returns the Iceberg name of an Arrow type. If there is no equal Iceberg type, returns the name
/// of the nearest one.
pub fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Boolean => "boolean".to_owned(),
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::UInt8 | DataType::UInt16 => {
            "int".to_owned()
        }
        DataType::Int64 | DataType::UInt32 => "long".to_owned(),
        DataType::UInt64 => "decimal(20, 0)".to_owned(),
        DataType::Float16 | DataType::Float32 => "float".to_owned(),
        DataType::Float64 => "double".to_owned(),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "string".to_owned(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "binary".to_owned(),
        DataType::FixedSizeBinary(width) => format!("fixed[{width}]"),
        DataType::Date32 | DataType::Date64 => "date".to_owned(),
        DataType::Time32(_) | DataType::Time64(_) => "time".to_owned(),
        DataType::Timestamp(TimeUnit::Nanosecond, None) => "timestamp_ns".to_owned(),
        DataType::Timestamp(TimeUnit::Nanosecond, Some(_)) => "timestamptz_ns".to_owned(),
        DataType::Timestamp(_, None) => "timestamp".to_owned(),
        DataType::Timestamp(_, Some(_)) => "timestamptz".to_owned(),
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => format!("decimal({precision}, {scale})"),
        DataType::Dictionary(_, values) => type_name(values),
        DataType::List(element)
        | DataType::LargeList(element)
        | DataType::ListView(element)
        | DataType::LargeListView(element)
        | DataType::FixedSizeList(element, _) => format!("list<{}>", field_type_name(element)),
        DataType::Struct(fields) => struct_name(fields),
        DataType::Map(entries, _) => map_name(entries),
        other => other.to_string().to_lowercase(),
    }
}

/// Returns the name of a field's type. Unlike [`type_name`], it distinguishes UUIDs from 16-byte
/// values.
pub fn field_type_name(field: &Field) -> String {
    if let Some(foreign) = field.metadata().get(crate::foreign_types::FOREIGN_TYPE) {
        return foreign.clone();
    }
    if is_uuid(field) { "uuid".to_owned() } else { type_name(field.data_type()) }
}

fn struct_name(fields: &Fields) -> String {
    let fields: Vec<_> = fields
        .iter()
        .map(|field| format!("{}: {}", field.name(), field_type_name(field)))
        .collect();
    format!("struct<{}>", fields.join(", "))
}

fn map_name(entries: &Field) -> String {
    match entries.data_type() {
        DataType::Struct(fields) if fields.len() == 2 => {
            format!("map<{}, {}>", field_type_name(&fields[0]), field_type_name(&fields[1]))
        }
        _ => "map".to_owned(),
    }
}

/// Parses a type name such as `long`, `decimal(10, 2)` or `list<string>`.
///
/// Letter case is ignored. Fails with `invalid_argument`.
pub fn parse_type(text: &str) -> Result<DataType> {
    let mut parser = Parser { rest: text.trim() };
    match parser.data_type() {
        Some(data_type) if parser.rest.is_empty() => Ok(data_type),
        _ => Err(Error::InvalidType { text: text.to_owned() }),
    }
}

/// A parser that consumes a type from the front of a text.
struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn data_type(&mut self) -> Option<DataType> {
        let name = self.word(|c| c.is_alphanumeric() || c == '_').to_lowercase();
        match name.as_str() {
            "boolean" | "bool" => Some(DataType::Boolean),
            "int" | "integer" => Some(DataType::Int32),
            "long" | "bigint" => Some(DataType::Int64),
            "float" | "real" => Some(DataType::Float32),
            "double" => Some(DataType::Float64),
            "string" | "text" | "varchar" => Some(DataType::Utf8),
            "binary" | "bytes" => Some(DataType::Binary),
            "date" => Some(DataType::Date32),
            "time" => Some(DataType::Time64(TimeUnit::Microsecond)),
            "timestamp" => Some(DataType::Timestamp(TimeUnit::Microsecond, None)),
            "timestamptz" => Some(timestamptz()),
            "timestamp_ns" => Some(DataType::Timestamp(TimeUnit::Nanosecond, None)),
            "timestamptz_ns" => Some(timestamptz_ns()),
            "uuid" => Some(DataType::FixedSizeBinary(16)),
            "fixed" => self.fixed(),
            "decimal" | "numeric" => self.decimal(),
            "list" => self.list(),
            "map" => self.map(),
            "struct" => self.structure(),
            _ => None,
        }
    }

    /// Consumes a word and the surrounding whitespace. The word consists of characters for which
    /// `belongs` returns true.
    fn word(&mut self, belongs: impl Fn(char) -> bool) -> &'a str {
        let text = self.rest.trim_start();
        let end = text.find(|c| !belongs(c)).unwrap_or(text.len());
        self.rest = text[end..].trim_start();
        &text[..end]
    }

    fn take(&mut self, token: char) -> Option<()> {
        self.rest = self.rest.strip_prefix(token)?.trim_start();
        Some(())
    }

    fn number<N: std::str::FromStr>(&mut self) -> Option<N> {
        self.word(|c| c.is_ascii_digit()).parse().ok()
    }

    fn fixed(&mut self) -> Option<DataType> {
        let close = if self.take('[').is_some() { ']' } else { self.take('(').map(|()| ')')? };
        let width: i32 = self.number()?;
        self.take(close)?;
        (width > 0).then_some(DataType::FixedSizeBinary(width))
    }

    fn decimal(&mut self) -> Option<DataType> {
        self.take('(')?;
        let precision: u8 = self.number()?;
        let scale: i8 = if self.take(',').is_some() { self.number()? } else { 0 };
        self.take(')')?;
        let fits = (1..=38).contains(&precision) && scale.unsigned_abs() <= precision;
        fits.then_some(DataType::Decimal128(precision, scale))
    }

    fn list(&mut self) -> Option<DataType> {
        self.take('<')?;
        let element = self.data_type()?;
        self.take('>')?;
        Some(DataType::List(Arc::new(Field::new("element", element, true))))
    }

    fn map(&mut self) -> Option<DataType> {
        self.take('<')?;
        let key = self.data_type()?;
        self.take(',')?;
        let value = self.data_type()?;
        self.take('>')?;
        Some(map_of(Field::new("key", key, false), Field::new("value", value, true)))
    }

    fn structure(&mut self) -> Option<DataType> {
        self.take('<')?;
        let mut fields = Vec::new();
        loop {
            let name = self.word(|c| c != ':' && c != '>' && !c.is_whitespace());
            self.take(':')?;
            if name.is_empty() {
                return None;
            }
            fields.push(Field::new(name, self.data_type()?, true));
            if self.take(',').is_none() {
                break;
            }
        }
        self.take('>')?;
        Some(DataType::Struct(fields.into()))
    }
}

/// Returns Iceberg's `timestamptz_ns`, which requires format version 3.
pub fn timestamptz_ns() -> DataType {
    DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()))
}

/// Returns Iceberg's `timestamptz`, which is always in UTC.
pub fn timestamptz() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// Returns a map type with Parquet's field names.
pub fn map_of(key: Field, value: Field) -> DataType {
    let entries = DataType::Struct(vec![key, value].into());
    DataType::Map(Arc::new(Field::new("key_value", entries, false)), false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_names_are_parsed_back() {
        for name in [
            "boolean",
            "int",
            "long",
            "float",
            "double",
            "decimal(10, 2)",
            "date",
            "time",
            "timestamp",
            "timestamptz",
            "timestamp_ns",
            "timestamptz_ns",
            "string",
            "binary",
            "fixed[7]",
            "list<string>",
            "map<string, list<long>>",
            "struct<a: int, b: struct<c: decimal(5, 0)>>",
        ] {
            assert_eq!(type_name(&parse_type(name).unwrap()), name);
        }
    }

    #[test]
    fn sql_names_and_extra_whitespace_are_accepted() {
        for (text, name) in [
            (" BigInt ", "long"),
            ("VARCHAR", "string"),
            ("numeric( 4 )", "decimal(4, 0)"),
            ("uuid", "fixed[16]"),
            ("List< Int >", "list<int>"),
        ] {
            assert_eq!(type_name(&parse_type(text).unwrap()), name);
        }
    }

    #[test]
    fn invalid_type_names_are_rejected() {
        for text in
            ["", "lon", "decimal", "decimal(40, 2)", "decimal(3, 9)", "list<", "int x", "struct<>"]
        {
            let error = parse_type(text).unwrap_err();
            assert_eq!(error.to_string(), format!("`{text}` is not a column type"));
        }
    }
}
