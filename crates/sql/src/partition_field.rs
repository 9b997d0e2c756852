//! Partition fields: `day(ts)`, `bucket(16, place.city)`, `origin`.

use headwater_model::PartitionField;
use sqlparser::ast::{ColumnDef, ColumnOption, DataType, Expr, HiveDistributionStyle};
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::Token;

use crate::alter_table::expected;
use crate::error::{Error, Result};

/// Parses the text of a partition field.
pub fn parse(text: &str) -> Result<PartitionField> {
    Ok(text.parse()?)
}

/// Parses `column`, `outer.field` or `transform(…)` and returns it as text.
pub(crate) fn field(parser: &mut Parser) -> Result<String, ParserError> {
    let mut text = parser.parse_identifier()?.value;
    while parser.consume_token(&Token::Period) {
        text.push('.');
        text.push_str(&parser.parse_identifier()?.value);
    }
    if !parser.consume_token(&Token::LParen) {
        return Ok(text);
    }
    text.push('(');
    loop {
        match parser.next_token().token {
            Token::RParen => break,
            Token::Word(word) => text.push_str(&word.value),
            Token::Number(number, _) => text.push_str(&number),
            Token::Comma => text.push(','),
            Token::Period => text.push('.'),
            _ => {
                parser.prev_token();
                return Err(expected(parser, "a column or a number"));
            }
        }
    }
    text.push(')');
    Ok(text)
}

/// Parses the rest of a partition field in `PARTITIONED BY (…)` after its first word. sqlparser
/// reads the fields as columns with optional types, so this parser stores the whole field as an
/// option of the column that sqlparser reads.
pub(crate) fn option(parser: &mut Parser) -> Result<Option<ColumnOption>, ParserError> {
    if !matches!(parser.peek_token_ref().token, Token::LParen | Token::Period) {
        return Ok(None);
    }
    parser.prev_token();
    let field = Token::make_word(&field(parser)?, Some('"'));
    Ok(Some(ColumnOption::DialectSpecific(vec![field])))
}

/// Returns the fields of `PARTITIONED BY (…)`.
pub(crate) fn partitioned_by(clause: HiveDistributionStyle) -> Result<Vec<PartitionField>> {
    let columns = match clause {
        HiveDistributionStyle::NONE => return Ok(Vec::new()),
        HiveDistributionStyle::PARTITIONED { columns } => columns,
        HiveDistributionStyle::SKEWED { .. } => return Err(Error::unsupported("SKEWED BY")),
    };
    let field = |column: ColumnDef| {
        let options: Vec<ColumnOption> = column.options.into_iter().map(|one| one.option).collect();
        match (&column.data_type, options.as_slice()) {
            (DataType::Unspecified, []) => parse(&column.name.value),
            (DataType::Unspecified, [ColumnOption::DialectSpecific(field)]) => match &**field {
                [Token::Word(field)] => parse(&field.value),
                _ => Err(Error::unsupported("an option in PARTITIONED BY")),
            },
            _ => Err(Error::unsupported("PARTITIONED BY with types")),
        }
    };
    columns.into_iter().map(field).collect()
}

/// Returns the fields of `PARTITION BY (…)`.
pub(crate) fn partition_by(clause: Expr) -> Result<Vec<PartitionField>> {
    let fields = match clause {
        Expr::Tuple(fields) => fields,
        Expr::Nested(field) => vec![*field],
        field => vec![field],
    };
    fields.iter().map(|field| parse(&field.to_string().replace(['"', '`'], ""))).collect()
}
