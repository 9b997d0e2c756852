//! Columns whose values come from a sequence, such as `id SERIAL`. Iceberg has no sequences, and a
//! default value is a constant. So these columns are rejected, with the reason and an alternative.

use sqlparser::ast::{ColumnDef, ColumnOption, DataType, Expr, Ident, ObjectName, ObjectNamePart};
use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::Token;

use crate::error::{Error, Result};
use crate::table_name::span_start;

/// Types of integers that get their values from a sequence, and the types of the integers.
const SERIAL_TYPES: [(&str, &str); 6] = [
    ("smallserial", "INT"),
    ("serial2", "INT"),
    ("serial", "INT"),
    ("serial4", "INT"),
    ("bigserial", "BIGINT"),
    ("serial8", "BIGINT"),
];

/// Rejects a column whose values come from a sequence.
pub(crate) fn reject(column: &ColumnDef) -> Result<()> {
    let name = &column.name.value;
    let option = column.options.iter().find_map(|option| sequence_option(&option.option));
    let (what, change) = match (integer_of(&column.data_type), option) {
        (Some(integer), _) => {
            (format!("the type `{}` of column `{name}`", column.data_type), format!("`{integer}`"))
        }
        (None, Some(words)) => (
            format!("`{words}` on column `{name}`"),
            format!("`{}` without `{words}`", column.data_type),
        ),
        (None, None) => return Ok(()),
    };
    Err(Error::Unsupported {
        what,
        hint: Some(format!(
            "Write {change} and insert the numbers, or write `VARCHAR` and insert `uuid()`: \
             Iceberg has no sequences."
        )),
        position: span_start(column.name.span),
    })
}

/// Returns the type of the integers of a type such as `SERIAL`; `None` for other types.
fn integer_of(data_type: &DataType) -> Option<&'static str> {
    let DataType::Custom(name, _) = data_type else { return None };
    let name = last_part(name)?.value.to_lowercase();
    SERIAL_TYPES.iter().find(|(serial, _)| *serial == name).map(|(_, integer)| *integer)
}

/// Returns the words of an option that takes values from a sequence; `None` for other options.
fn sequence_option(option: &ColumnOption) -> Option<&'static str> {
    match option {
        ColumnOption::Generated { generation_expr: None, .. } => Some("GENERATED … AS IDENTITY"),
        ColumnOption::Identity(_) => Some("IDENTITY"),
        ColumnOption::DialectSpecific(tokens) => match tokens.as_slice() {
            [Token::Word(word)] if word.keyword == Keyword::AUTO_INCREMENT => {
                Some("AUTO_INCREMENT")
            }
            [Token::Word(word)] if word.keyword == Keyword::AUTOINCREMENT => Some("AUTOINCREMENT"),
            _ => None,
        },
        ColumnOption::Default(Expr::Function(function)) => {
            let name = last_part(&function.name)?;
            name.value.eq_ignore_ascii_case("nextval").then_some("DEFAULT nextval(…)")
        }
        _ => None,
    }
}

fn last_part(name: &ObjectName) -> Option<&Ident> {
    name.0.last().and_then(ObjectNamePart::as_ident)
}
