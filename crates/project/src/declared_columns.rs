//! Declared columns of a model's output: names, types and nullability.
//!
//! Projects for Bauplan declare columns in Python classes. Other projects declare them in the
//! setting `columns`, as `NAME TYPE` with an optional `not null`.

use std::fmt;

use headwater_model::PartitionField;

use crate::{Error, Location, Result, unknown_name_hints};

/// A declared column of a model's output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredColumn {
    /// Column name.
    pub name: String,
    /// Column type; `None` allows any type.
    pub column_type: Option<ColumnType>,
    /// True if nulls are allowed.
    pub nullable: bool,
    /// Documentation, stored as the column's comment.
    pub doc: Option<String>,
}

/// Type of a declared column. Arrow types that hold the same values have the same declared type,
/// for example strings with 32-bit and 64-bit offsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "most variants have the names of their Arrow types")]
pub enum ColumnType {
    Bool,
    Int32,
    Int64,
    Float64,
    String,
    Binary,
    Date32,
    Date64,
    TimestampMicro,
    TimestampNano,
    TimestampMicroUtc,
    TimestampNanoUtc,
    /// Type that is declared by its name in SQL.
    Sql(SqlType),
}

impl ColumnType {
    /// The column types of Bauplan, each with its name in Bauplan.
    pub const ALL: [(&'static str, ColumnType); 12] = [
        ("Bool", ColumnType::Bool),
        ("Int32", ColumnType::Int32),
        ("Int64", ColumnType::Int64),
        ("Float64", ColumnType::Float64),
        ("String", ColumnType::String),
        ("Binary", ColumnType::Binary),
        ("Date32", ColumnType::Date32),
        ("Date64", ColumnType::Date64),
        ("TimestampMicro", ColumnType::TimestampMicro),
        ("TimestampNano", ColumnType::TimestampNano),
        ("TimestampMicroUTC", ColumnType::TimestampMicroUtc),
        ("TimestampNanoUTC", ColumnType::TimestampNanoUtc),
    ];

    /// Returns the Bauplan type with this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(known, _)| *known == name).map(|(_, one)| one)
    }

    /// Returns the name of the type in Bauplan; empty for SQL types.
    pub fn as_str(self) -> &'static str {
        Self::ALL.into_iter().find(|(_, one)| *one == self).map_or("", |(name, _)| name)
    }
}

/// Type of a column as tables store it. For example, integers of 16 bits are stored as `int`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the variants have the names of their types in SQL")]
pub enum SqlType {
    Boolean,
    Int,
    Bigint,
    Real,
    Double,
    Decimal { precision: u8, scale: u8 },
    Text,
    Binary,
    Date,
    Time,
    Timestamp,
    Timestamptz,
}

impl SqlType {
    /// Names of types in SQL and in Iceberg; the first name of each type is its display name.
    const NAMES: [(&'static str, SqlType); 23] = [
        ("boolean", SqlType::Boolean),
        ("bool", SqlType::Boolean),
        ("int", SqlType::Int),
        ("integer", SqlType::Int),
        ("bigint", SqlType::Bigint),
        ("long", SqlType::Bigint),
        ("real", SqlType::Real),
        ("float", SqlType::Real),
        ("double", SqlType::Double),
        ("double precision", SqlType::Double),
        ("text", SqlType::Text),
        ("string", SqlType::Text),
        ("varchar", SqlType::Text),
        ("binary", SqlType::Binary),
        ("bytes", SqlType::Binary),
        ("bytea", SqlType::Binary),
        ("date", SqlType::Date),
        ("time", SqlType::Time),
        ("timestamp", SqlType::Timestamp),
        ("timestamp_ns", SqlType::Timestamp),
        ("timestamptz", SqlType::Timestamptz),
        ("timestamp with time zone", SqlType::Timestamptz),
        ("timestamptz_ns", SqlType::Timestamptz),
    ];

    /// Parses a lower-case name in SQL or in Iceberg, such as `bigint` or `decimal(10, 2)`.
    pub fn parse(text: &str) -> Option<Self> {
        let known = Self::NAMES.into_iter().find(|(name, _)| *name == text);
        known.map(|(_, one)| one).or_else(|| Self::decimal(text))
    }

    fn decimal(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("decimal").or_else(|| text.strip_prefix("numeric"))?;
        let inner = rest.trim().strip_prefix('(')?.strip_suffix(')')?;
        let (precision, scale) = inner.split_once(',').unwrap_or((inner, "0"));
        let precision: u8 = precision.trim().parse().ok()?;
        let scale: u8 = scale.trim().parse().ok()?;
        let fits = (1..=38).contains(&precision) && scale <= precision;
        fits.then_some(SqlType::Decimal { precision, scale })
    }
}

impl fmt::Display for SqlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let SqlType::Decimal { precision, scale } = self {
            return write!(f, "decimal({precision}, {scale})");
        }
        let known = Self::NAMES.into_iter().find(|(_, one)| one == self);
        f.write_str(known.map_or("", |(name, _)| name))
    }
}

/// The value of the setting `columns`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct DeclaredColumns {
    /// Names of all columns.
    pub names: Vec<String>,
    /// The columns with their types; empty if the declaration contains only names.
    pub contract: Vec<DeclaredColumn>,
}

impl DeclaredColumns {
    /// Parses `NAME [TYPE] [not null]`, separated by commas.
    pub fn parse(text: &str, at: &Location) -> Result<Self> {
        let columns = PartitionField::split(text).into_iter().map(|column| {
            let column = column.trim();
            let quoted = column.strip_prefix('"').and_then(|rest| rest.split_once('"'));
            let (name, declaration) = quoted
                .unwrap_or_else(|| column.split_once(char::is_whitespace).unwrap_or((column, "")));
            declared(name, declaration, at)
        });
        Self::new(columns.collect::<Result<_>>()?, at)
    }

    /// Parses pairs of a column's name and its declaration, `[TYPE] [not null]`.
    pub fn parse_pairs(pairs: &[(String, String)], at: &Location) -> Result<Self> {
        let columns = pairs.iter().map(|(name, declaration)| declared(name, declaration, at));
        Self::new(columns.collect::<Result<_>>()?, at)
    }

    fn new(columns: Vec<DeclaredColumn>, at: &Location) -> Result<Self> {
        let names: Vec<String> = columns.iter().map(|column| column.name.clone()).collect();
        let is_repeated = |(number, name): &(usize, &String)| names[..*number].contains(*name);
        if let Some((_, name)) = names.iter().enumerate().find(is_repeated) {
            let message = format!("`columns` declares the column `{name}` twice");
            return Err(Error::invalid(at.clone(), message, "Declare each column once."));
        }
        let is_plain = |column: &DeclaredColumn| column.column_type.is_none() && column.nullable;
        let contract = if columns.iter().all(is_plain) { Vec::new() } else { columns };
        Ok(DeclaredColumns { names, contract })
    }
}

/// Parses the declaration of one column: `[TYPE] [not null]`.
fn declared(name: &str, declaration: &str, at: &Location) -> Result<DeclaredColumn> {
    let lower = declaration.to_lowercase();
    let words: Vec<&str> = lower.split_whitespace().collect();
    let (words, nullable) = match words.as_slice() {
        [words @ .., "not", "null"] => (words, false),
        words => (words, true),
    };
    let text = words.join(" ");
    let column_type = match text.as_str() {
        "" | "any" => None,
        text => Some(ColumnType::Sql(SqlType::parse(text).ok_or_else(|| {
            let message = format!("the type `{text}` of column `{name}` is not supported");
            let known = SqlType::NAMES.into_iter();
            let known = known.filter(|(name, one)| one.to_string() == *name);
            let known = known.map(|(name, _)| name).chain(["decimal(10, 2)", "any"]);
            Error::invalid(at.clone(), message, unknown_name_hints::hint(text, known, "types"))
        })?)),
    };
    Ok(DeclaredColumn { name: name.to_owned(), column_type, nullable, doc: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses the columns, and returns them as text in the syntax of the setting, or the error.
    fn shown(text: &str) -> String {
        let at = Location { file: "m.sql".into(), line: 1 };
        let columns = match DeclaredColumns::parse(text, &at) {
            Ok(columns) => columns,
            Err(error) => return error.to_string(),
        };
        if columns.contract.is_empty() {
            return columns.names.join(", ");
        }
        let column = |column: &DeclaredColumn| {
            let declared = match column.column_type {
                Some(ColumnType::Sql(declared)) => declared.to_string(),
                _ => "any".to_owned(),
            };
            format!("{} {declared}{}", column.name, if column.nullable { "" } else { " not null" })
        };
        columns.contract.iter().map(column).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn columns_have_optional_types_and_not_null() {
        assert_eq!(shown("id, zone"), "id, zone");
        assert_eq!(shown("id any, zone"), "id, zone");
        assert_eq!(shown("id BIGINT NOT  NULL, zone"), "id bigint not null, zone any");
        assert_eq!(shown("a decimal(10, 2), b numeric(5)"), "a decimal(10, 2), b decimal(5, 0)");
        assert_eq!(shown("\"a b\" text, id not null"), "a b text, id any not null");
        assert_eq!(shown("\"a b\", \"c d\""), "a b, c d");
        assert_eq!(shown("t timestamp with time zone"), "t timestamptz");
        assert_eq!(shown("d double precision, s long"), "d double, s bigint");
    }

    #[test]
    fn wrong_types_and_repeated_columns_are_errors() {
        assert_eq!(shown("id bigit"), "the type `bigit` of column `id` is not supported (m.sql:1)");
        assert_eq!(
            shown("id decimal(50, 2)"),
            "the type `decimal(50, 2)` of column `id` is not supported (m.sql:1)"
        );
        assert_eq!(shown("id, id text"), "`columns` declares the column `id` twice (m.sql:1)");
    }

    #[test]
    fn every_type_is_parsed_from_its_display_name() {
        for (name, one) in SqlType::NAMES {
            assert_eq!(SqlType::parse(name), Some(one));
            assert_eq!(SqlType::parse(&one.to_string()), Some(one));
        }
    }
}
