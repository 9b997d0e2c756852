//! Normalizes SQL types that the planner does not support or interprets differently.

use sqlparser::ast::{
    ArrayElemTypeDef, DataType, ExactNumberInfo, Expr, TimezoneInfo, TypedString,
};

use super::number_literal::decimal_literal_to_text;

/// Default number of fractional digits of a timestamp.
const MICROSECONDS: u64 = 6;

/// Maximum number of fractional digits of a timestamp.
const NANOSECONDS: u64 = 9;

/// Normalizes the types and decimal literals of an expression.
pub fn normalize_types(expr: &mut Expr) {
    match expr {
        Expr::TypedString(literal) => normalize_literal(literal),
        Expr::Cast { data_type, expr, .. } => {
            normalize(data_type);
            if let DataType::Decimal(_) | DataType::Dec(_) | DataType::Numeric(_) = data_type {
                decimal_literal_to_text(expr);
            }
        }
        _ => {}
    }
}

/// Normalizes a type for the planner: a `TIMESTAMP` without a precision has microseconds, while the
/// planner would use nanoseconds.
pub fn normalize(data_type: &mut DataType) {
    respell(data_type);
    visit_nested(data_type, &mut normalize);
    if let DataType::Timestamp(precision @ None, _) = data_type {
        *precision = Some(MICROSECONDS);
    }
}

/// Normalizes the type of a literal, like [`normalize`]: `TIMESTAMP '…'` with more than 6
/// fractional digits has nanoseconds.
fn normalize_literal(literal: &mut TypedString) {
    let is_finer = || {
        let text = literal.value.clone().into_string();
        text.is_some_and(|text| is_finer_than_microseconds(&text))
    };
    match &mut literal.data_type {
        DataType::Timestamp(precision @ None, _) if is_finer() => *precision = Some(NANOSECONDS),
        data_type => normalize(data_type),
    }
}

/// Returns true if a timestamp literal has more than 6 fractional digits.
fn is_finer_than_microseconds(text: &str) -> bool {
    let Some((_, fraction)) = text.split_once('.') else { return false };
    let digits = fraction.split(|it: char| !it.is_ascii_digit()).next().unwrap_or_default();
    digits.trim_end_matches('0').len() > 6
}

/// Replaces type names that the planner does not know, such as `TIMESTAMP_NS`, also within nested
/// types.
fn respell(data_type: &mut DataType) {
    visit_nested(data_type, &mut respell);
    // A single-precision number has a mantissa of 24 bits, so a larger precision means a double.
    if matches!(data_type, DataType::Float(ExactNumberInfo::Precision(bits)) if *bits > 24) {
        *data_type = DataType::Double(ExactNumberInfo::None);
    }
    let DataType::Custom(name, arguments) = data_type else { return };
    let zone = match name.to_string().to_lowercase().as_str() {
        "timestamp_ns" => TimezoneInfo::None,
        "timestamptz_ns" => TimezoneInfo::Tz,
        _ => return,
    };
    if arguments.is_empty() {
        *data_type = DataType::Timestamp(Some(NANOSECONDS), zone);
    }
}

/// Returns true if the type has an explicit nanosecond precision.
pub fn has_nanosecond_precision(data_type: &DataType) -> bool {
    let mut found = matches!(data_type, DataType::Timestamp(Some(NANOSECONDS), _));
    visit_nested(&mut data_type.clone(), &mut |part| found |= has_nanosecond_precision(part));
    found
}

/// A type that tables cannot store, such as `TINYINT`. Iceberg has no type with the same range or
/// maximum length, so other engines that write to the table would not enforce the limit.
pub struct UnsupportedType {
    /// The type as written.
    pub written: String,
    /// The type to use instead.
    pub instead: &'static str,
}

/// Removes the lengths of text types, also within nested types, because columns have no maximum
/// length. `CHAR` becomes the same type as `VARCHAR`.
pub fn without_lengths(data_type: &mut DataType) {
    visit_nested(data_type, &mut without_lengths);
    if let DataType::Varchar(_)
    | DataType::Char(_)
    | DataType::Character(_)
    | DataType::CharVarying(_)
    | DataType::CharacterVarying(_)
    | DataType::Nvarchar(_)
    | DataType::String(_) = data_type
    {
        *data_type = DataType::Varchar(None);
    }
}

/// Returns the first type that tables cannot store, also within a nested type.
pub fn find_unsupported_type(data_type: &mut DataType) -> Option<UnsupportedType> {
    let instead = match data_type {
        DataType::TinyInt(_)
        | DataType::SmallInt(_)
        | DataType::Int2(_)
        | DataType::MediumInt(_)
        | DataType::TinyIntUnsigned(_)
        | DataType::SmallIntUnsigned(_)
        | DataType::MediumIntUnsigned(_)
        | DataType::Int2Unsigned(_)
        | DataType::UTinyInt
        | DataType::USmallInt => Some("INT"),
        DataType::IntUnsigned(_)
        | DataType::IntegerUnsigned(_)
        | DataType::Int4Unsigned(_)
        | DataType::BigIntUnsigned(_)
        | DataType::Int8Unsigned(_)
        | DataType::Unsigned
        | DataType::UnsignedInteger => Some("BIGINT"),
        DataType::Varchar(Some(_))
        | DataType::Char(_)
        | DataType::Character(_)
        | DataType::CharVarying(_)
        | DataType::CharacterVarying(_)
        | DataType::Nvarchar(_)
        | DataType::String(Some(_)) => Some("VARCHAR"),
        _ => None,
    };
    if let Some(instead) = instead {
        return Some(UnsupportedType { written: data_type.to_string(), instead });
    }
    let mut found = None;
    visit_nested(data_type, &mut |part| {
        found = found.take().or_else(|| find_unsupported_type(part));
    });
    found
}

fn visit_nested(data_type: &mut DataType, visit: &mut dyn FnMut(&mut DataType)) {
    match data_type {
        DataType::Array(
            ArrayElemTypeDef::AngleBracket(element)
            | ArrayElemTypeDef::SquareBracket(element, _)
            | ArrayElemTypeDef::Parenthesis(element),
        ) => visit(element),
        DataType::Struct(fields, _) => {
            for field in fields {
                visit(&mut field.field_type);
            }
        }
        DataType::Map(key, value) => {
            visit(key);
            visit(value);
        }
        _ => {}
    }
}
