//! Types as SQL spells them, where the planner would take them for others or does not know them.

use datafusion::sql::sqlparser::ast::{ArrayElemTypeDef, DataType, TimezoneInfo};

/// Digits of a second that a timestamp has which does not say.
const MICROSECONDS: u64 = 6;

/// Digits of a second that the finest timestamp has.
const NANOSECONDS: u64 = 9;

/// Spells the type of a column so that the planner takes it for what a table is to have: a `TIMESTAMP`
/// has microseconds, as everywhere but with the planner, unless it says otherwise.
pub(crate) fn settle(data_type: &mut DataType) {
    respell(data_type);
    each_part(data_type, &mut settle);
    if let DataType::Timestamp(precision @ None, _) = data_type {
        *precision = Some(MICROSECONDS);
    }
}

/// Spells `TIMESTAMP_NS` as the planner knows it, at any level.
pub(crate) fn respell(data_type: &mut DataType) {
    each_part(data_type, &mut respell);
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

/// Whether a type is one of nanoseconds, by its own words.
pub(crate) fn says_nanoseconds(data_type: &DataType) -> bool {
    let mut found = matches!(data_type, DataType::Timestamp(Some(NANOSECONDS), _));
    each_part(&mut data_type.clone(), &mut |part| found |= says_nanoseconds(part));
    found
}

fn each_part(data_type: &mut DataType, visit: &mut dyn FnMut(&mut DataType)) {
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
