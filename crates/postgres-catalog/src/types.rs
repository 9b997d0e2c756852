//! Types of PostgreSQL, and the types of columns and parameters that correspond to them.

use arrow::datatypes::{DataType, Field};

/// A scalar type, that is, not an array type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScalarType {
    /// `boolean`
    Bool,
    /// `bytea`
    Bytea,
    /// `smallint`
    Int2,
    /// `integer`
    Int4,
    /// `bigint`
    Int8,
    /// `real`
    Float4,
    /// `double precision`
    Float8,
    /// `numeric`
    Numeric,
    /// `text`
    Text,
    /// `json`, for structs, maps, and lists of structs or maps
    Json,
    /// `date`
    Date,
    /// `time`
    Time,
    /// `timestamp`
    Timestamp,
    /// `timestamp with time zone`
    Timestamptz,
    /// `interval`
    Interval,
    /// `uuid`
    Uuid,
    /// `oid`, only for parameters: columns with OIDs are `bigint`
    Oid,
}

/// The properties of a type in `pg_type`.
struct TypeProperties {
    scalar: ScalarType,
    oid: u32,
    array_oid: u32,
    /// Size of a value in bytes; -1 if it varies.
    size: i16,
    /// Name in SQL.
    name: &'static str,
    /// Name in `pg_type`.
    internal_name: &'static str,
    /// Category in `pg_type`.
    category: char,
}

const fn numbers(scalar: ScalarType, oid: u32, array_oid: u32, size: i16) -> TypeProperties {
    let (name, internal_name, category) = names(scalar);
    TypeProperties { scalar, oid, array_oid, size, name, internal_name, category }
}

const fn names(scalar: ScalarType) -> (&'static str, &'static str, char) {
    match scalar {
        ScalarType::Bool => ("boolean", "bool", 'B'),
        ScalarType::Bytea => ("bytea", "bytea", 'U'),
        ScalarType::Int2 => ("smallint", "int2", 'N'),
        ScalarType::Int4 => ("integer", "int4", 'N'),
        ScalarType::Int8 => ("bigint", "int8", 'N'),
        ScalarType::Float4 => ("real", "float4", 'N'),
        ScalarType::Float8 => ("double precision", "float8", 'N'),
        ScalarType::Numeric => ("numeric", "numeric", 'N'),
        ScalarType::Text => ("text", "text", 'S'),
        ScalarType::Json => ("json", "json", 'U'),
        ScalarType::Date => ("date", "date", 'D'),
        ScalarType::Time => ("time without time zone", "time", 'D'),
        ScalarType::Timestamp => ("timestamp without time zone", "timestamp", 'D'),
        ScalarType::Timestamptz => ("timestamp with time zone", "timestamptz", 'D'),
        ScalarType::Interval => ("interval", "interval", 'T'),
        ScalarType::Uuid => ("uuid", "uuid", 'U'),
        ScalarType::Oid => ("oid", "oid", 'N'),
    }
}

/// The properties of all scalar types, in the order of [`ScalarType`].
const TABLE: [TypeProperties; 17] = [
    numbers(ScalarType::Bool, 16, 1000, 1),
    numbers(ScalarType::Bytea, 17, 1001, -1),
    numbers(ScalarType::Int2, 21, 1005, 2),
    numbers(ScalarType::Int4, 23, 1007, 4),
    numbers(ScalarType::Int8, 20, 1016, 8),
    numbers(ScalarType::Float4, 700, 1021, 4),
    numbers(ScalarType::Float8, 701, 1022, 8),
    numbers(ScalarType::Numeric, 1700, 1231, -1),
    numbers(ScalarType::Text, 25, 1009, -1),
    numbers(ScalarType::Json, 114, 199, -1),
    numbers(ScalarType::Date, 1082, 1182, 4),
    numbers(ScalarType::Time, 1083, 1183, 8),
    numbers(ScalarType::Timestamp, 1114, 1115, 8),
    numbers(ScalarType::Timestamptz, 1184, 1185, 8),
    numbers(ScalarType::Interval, 1186, 1187, 16),
    numbers(ScalarType::Uuid, 2950, 2951, 16),
    numbers(ScalarType::Oid, 26, 1028, 4),
];

/// OIDs of other types that parameters can have, each with the scalar type that parses the values.
const ALIASES: [(u32, ScalarType); 6] = [
    (18, ScalarType::Text),
    (19, ScalarType::Text),
    (1042, ScalarType::Text),
    (1043, ScalarType::Text),
    (3802, ScalarType::Json),
    (705, ScalarType::Text),
];

/// Names of types in SQL that are neither the name that PostgreSQL shows nor the name in `pg_type`.
const OTHER_NAMES: [(&str, ScalarType); 6] = [
    ("int", ScalarType::Int4),
    ("decimal", ScalarType::Numeric),
    ("float", ScalarType::Float8),
    ("varchar", ScalarType::Text),
    ("character varying", ScalarType::Text),
    ("character", ScalarType::Text),
];

/// A scalar or array type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PgType {
    /// The type of the value or of the elements.
    pub scalar: ScalarType,
    /// True for an array type.
    pub is_array: bool,
}

impl PgType {
    /// `text`
    pub const TEXT: PgType = PgType::of(ScalarType::Text);

    /// Returns the scalar type, not an array.
    pub const fn of(scalar: ScalarType) -> Self {
        PgType { scalar, is_array: false }
    }

    const fn numbers(self) -> &'static TypeProperties {
        &TABLE[self.scalar as usize]
    }

    /// Returns PostgreSQL's OID of the type.
    pub const fn oid(self) -> u32 {
        if self.is_array { self.numbers().array_oid } else { self.numbers().oid }
    }

    /// Returns all scalar types, and the array type of each.
    pub fn all() -> impl Iterator<Item = PgType> {
        let both = |known: &TypeProperties| {
            [false, true].map(|is_array| PgType { scalar: known.scalar, is_array })
        };
        TABLE.iter().flat_map(both)
    }

    /// Returns the name in SQL: `bigint`, `bigint[]`.
    pub fn name(self) -> String {
        let suffix = if self.is_array { "[]" } else { "" };
        format!("{}{suffix}", self.numbers().name)
    }

    /// Returns the name in `pg_type`: `int8`, `_int8`.
    pub fn internal_name(self) -> String {
        let prefix = if self.is_array { "_" } else { "" };
        format!("{prefix}{}", self.numbers().internal_name)
    }

    /// Returns the category in `pg_type`: `N` for numbers.
    pub const fn category(self) -> char {
        if self.is_array { 'A' } else { self.numbers().category }
    }

    /// Returns the type modifier of a column: the precision and scale of a decimal; -1 for other
    /// types.
    pub fn modifier(self, data_type: &DataType) -> i32 {
        match data_type {
            DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale) => {
                // PostgreSQL adds 4 to the type modifier, the size of a header.
                (i32::from(*precision) << 16) + i32::from(*scale) + 4
            }
            _ => -1,
        }
    }

    /// Returns the OID of the array type with this element type; `None` if this type is an array.
    pub const fn array_oid(self) -> Option<u32> {
        if self.is_array { None } else { Some(self.numbers().array_oid) }
    }

    /// Returns the size of a value in bytes; -1 if it varies.
    pub const fn size(self) -> i16 {
        if self.is_array { -1 } else { self.numbers().size }
    }

    /// Returns the type with a name in SQL or in `pg_type`, such as `integer`, `int4` or
    /// `"pg_catalog"."_int4"`. The name can have a modifier, as in `numeric(10,2)`.
    pub fn from_name(name: &str) -> Option<Self> {
        let name = name.replace('"', "").trim().to_ascii_lowercase();
        let name = name.strip_prefix("pg_catalog.").unwrap_or(&name);
        let (element, is_array) = match name.strip_suffix("[]") {
            Some(element) => (element, true),
            None => (name, false),
        };
        let modifier = element.find('(').and_then(|start| {
            let end = element[start..].find(')')?;
            Some(start..start + end + 1)
        });
        let mut element = element.to_owned();
        if let Some(modifier) = modifier {
            element.replace_range(modifier, "");
        }
        let element = element.trim();
        let other = OTHER_NAMES.iter().find(|(other, _)| *other == element);
        let scalar = other.map(|(_, scalar)| PgType::of(*scalar));
        let known = scalar.or_else(|| {
            PgType::all().find(|one| one.name() == element || one.internal_name() == element)
        })?;
        Some(PgType { is_array: known.is_array || is_array, ..known })
    }

    /// Returns the type of a parameter by its OID; `None` if the OID is unknown.
    pub fn from_oid(oid: u32) -> Option<Self> {
        let alias = ALIASES.iter().find(|(known, _)| *known == oid).map(|(_, scalar)| *scalar);
        alias.map(PgType::of).or_else(|| {
            TABLE.iter().find_map(|known| match known.scalar {
                scalar if oid == known.oid => Some(PgType::of(scalar)),
                scalar if oid == known.array_oid => Some(PgType { scalar, is_array: true }),
                _ => None,
            })
        })
    }

    /// Returns the type of a column.
    pub fn of_field(field: &Field) -> Self {
        if is_uuid(field) {
            return PgType::of(ScalarType::Uuid);
        }
        match field.data_type() {
            DataType::List(item) | DataType::LargeList(item) => match PgType::of_field(item) {
                PgType { is_array: true, .. } | PgType { scalar: ScalarType::Json, .. } => {
                    PgType::of(ScalarType::Json)
                }
                PgType { scalar, .. } => PgType { scalar, is_array: true },
            },
            other => PgType::of(scalar_of(other)),
        }
    }

    /// Returns the type of a parameter, from the type that the planner inferred.
    pub fn of_data_type(data_type: &DataType) -> Self {
        PgType::of_field(&Field::new("", data_type.clone(), true))
    }
}

fn is_uuid(field: &Field) -> bool {
    field.data_type() == &DataType::FixedSizeBinary(16)
        && field.metadata().get("ARROW:extension:name").is_some_and(|name| name == "arrow.uuid")
}

fn scalar_of(data_type: &DataType) -> ScalarType {
    match data_type {
        DataType::Boolean => ScalarType::Bool,
        DataType::Int8 | DataType::UInt8 | DataType::Int16 => ScalarType::Int2,
        DataType::UInt16 | DataType::Int32 => ScalarType::Int4,
        DataType::UInt32 | DataType::Int64 => ScalarType::Int8,
        DataType::Float16 | DataType::Float32 => ScalarType::Float4,
        DataType::Float64 => ScalarType::Float8,
        DataType::UInt64
        | DataType::Decimal32(..)
        | DataType::Decimal64(..)
        | DataType::Decimal128(..)
        | DataType::Decimal256(..) => ScalarType::Numeric,
        DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::FixedSizeBinary(_) => ScalarType::Bytea,
        DataType::Date32 | DataType::Date64 => ScalarType::Date,
        DataType::Time32(_) | DataType::Time64(_) => ScalarType::Time,
        DataType::Timestamp(_, None) => ScalarType::Timestamp,
        DataType::Timestamp(_, Some(_)) => ScalarType::Timestamptz,
        DataType::Interval(_) | DataType::Duration(_) => ScalarType::Interval,
        DataType::Dictionary(_, value) => scalar_of(value),
        DataType::Null | DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            ScalarType::Text
        }
        _ => ScalarType::Json,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_the_order_of_the_enum() {
        for (index, known) in TABLE.iter().enumerate() {
            assert_eq!(known.scalar as usize, index);
            assert_eq!(PgType::from_oid(known.oid), Some(PgType::of(known.scalar)));
            let array = PgType::from_oid(known.array_oid);
            assert_eq!(array.map(|found| found.is_array), Some(true));
        }
        assert_eq!(PgType::from_oid(1043), Some(PgType::TEXT));
        assert_eq!(PgType::from_oid(0), None);
    }

    #[test]
    fn types_have_several_names() {
        for (name, oid) in [
            ("integer", 23),
            ("INT4", 23),
            ("\"pg_catalog\".\"_int4\"", 1007),
            ("numeric(10, 2)", 1700),
            ("character varying(20)[]", 1009),
            ("timestamp(3) without time zone", 1114),
        ] {
            assert_eq!(PgType::from_name(name).map(PgType::oid), Some(oid), "{name}");
        }
        assert_eq!(PgType::from_name("hstore"), None);
    }

    #[test]
    fn lists_of_lists_are_json() {
        let list = |item| DataType::new_list(item, true);
        assert_eq!(PgType::of_data_type(&list(DataType::Int32)).oid(), 1007);
        assert_eq!(PgType::of_data_type(&list(list(DataType::Int32))).oid(), 114);
        assert_eq!(PgType::of_data_type(&DataType::UInt64).oid(), 1700);
    }
}
