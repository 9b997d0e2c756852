//! Declared columns of a model's output: names, types and whether nulls are allowed.

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
#[expect(missing_docs, reason = "the variants have the names of their Arrow types")]
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
}

impl ColumnType {
    /// All variants with their names in Bauplan.
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

    /// Returns the type with this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(known, _)| *known == name).map(|(_, one)| one)
    }

    /// Returns the name in Bauplan.
    pub fn as_str(self) -> &'static str {
        Self::ALL.into_iter().find(|(_, one)| *one == self).map_or("", |(name, _)| name)
    }
}
