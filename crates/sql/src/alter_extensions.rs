//! The changes of ALTER TABLE that sqlparser does not read: of partition fields, of the sort order,
//! of what is said of columns, and of properties that go.

use sqlparser::ast::{AlterTableOperation, Expr, Ident, OrderByExpr, OrderByOptions};
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Token, TokenWithSpan};

use super::alter_table::{
    TableChange, WrittenAlteration, WrittenKey, WrittenPart, WrittenPlace, alteration,
};
use super::parse::syntax;
use super::partition;
use crate::error::{Error, Result};

type Parsed<T> = std::result::Result<T, ParserError>;

/// One change as it is read.
enum Read {
    /// One of these.
    Own(Own),
    /// One that sqlparser reads.
    Known(Box<AlterTableOperation>),
}

enum Own {
    AddPart(String, Option<Ident>),
    DropPart(String),
    ReplacePart(String, String, Option<Ident>),
    SortBy(Vec<OrderByExpr>),
    Comment(Ident, Option<String>),
    Move(Ident, WrittenPlace),
    Unset(Vec<String>),
}

/// Whether a statement has words that only these changes have.
pub(super) fn is_own(tokens: &[TokenWithSpan]) -> bool {
    let words: Vec<String> = tokens.iter().filter_map(plain_word).collect();
    let [alter, table, rest @ ..] = words.as_slice() else { return false };
    if alter != "ALTER" || table != "TABLE" {
        return false;
    }
    let own = ["COMMENT", "ORDERED", "UNORDERED", "FIRST", "AFTER", "UNSET"];
    rest.iter().any(|word| own.contains(&word.as_str()))
        || rest.windows(2).any(|two| two[0] == "PARTITION" && two[1] == "FIELD")
}

fn plain_word(token: &TokenWithSpan) -> Option<String> {
    match &token.token {
        Token::Word(word) if word.quote_style.is_none() => Some(word.value.to_uppercase()),
        Token::Whitespace(_) => None,
        _ => Some(String::new()),
    }
}

/// Reads a whole ALTER TABLE.
pub(super) fn parse(parser: &mut Parser) -> Result<TableChange> {
    let begun = begin(parser).map_err(syntax)?;
    let read = parser.parse_comma_separated(read).map_err(syntax)?;
    let _ = parser.consume_token(&Token::SemiColon);
    if parser.peek_token().token != Token::EOF {
        return Err(syntax(expected(parser, "the end of the statement")));
    }
    let mut alterations = Vec::new();
    for one in read {
        match one {
            Read::Known(operation) => alteration(*operation, &mut alterations)?,
            Read::Own(own) => alterations.push(own.taken()?),
        }
    }
    let (name, if_exists) = begun;
    TableChange::new(name, if_exists, alterations)
}

fn begin(parser: &mut Parser) -> Parsed<(sqlparser::ast::ObjectName, bool)> {
    parser.expect_keywords(&[Keyword::ALTER, Keyword::TABLE])?;
    let if_exists = parser.parse_keywords(&[Keyword::IF, Keyword::EXISTS]);
    Ok((parser.parse_object_name(false)?, if_exists))
}

fn expected(parser: &Parser, what: &str) -> ParserError {
    let found = parser.peek_token();
    match parser.expected::<()>(what, found) {
        Err(error) => error,
        Ok(()) => ParserError::ParserError(format!("Expected: {what}")),
    }
}

fn read(parser: &mut Parser) -> Parsed<Read> {
    let own = if is_field(parser, Keyword::ADD) {
        let field = field(parser)?;
        Own::AddPart(field, name(parser)?)
    } else if is_field(parser, Keyword::DROP) {
        Own::DropPart(field(parser)?)
    } else if is_field(parser, Keyword::REPLACE) {
        let old = field(parser)?;
        parser.expect_keyword(Keyword::WITH)?;
        let new = field(parser)?;
        Own::ReplacePart(old, new, name(parser)?)
    } else if let Some(keys) = order(parser)? {
        Own::SortBy(keys)
    } else if let Some(keys) = unset(parser)? {
        Own::Unset(keys)
    } else if let Some(own) = column(parser)? {
        own
    } else {
        return Ok(Read::Known(Box::new(parser.parse_alter_table_operation()?)));
    };
    Ok(Read::Own(own))
}

/// A word that is no keyword to sqlparser.
fn word(parser: &mut Parser, wanted: &str) -> bool {
    let found = match &parser.peek_token().token {
        Token::Word(word) => word.quote_style.is_none() && word.value.eq_ignore_ascii_case(wanted),
        _ => false,
    };
    if found {
        parser.next_token();
    }
    found
}

/// Takes `ADD PARTITION FIELD` and its like, whole or not at all.
fn is_field(parser: &mut Parser, keyword: Keyword) -> bool {
    let taken = parser.maybe_parse(|parser| {
        parser.expect_keywords(&[keyword, Keyword::PARTITION])?;
        if word(parser, "FIELD") { Ok(()) } else { Err(expected(parser, "FIELD")) }
    });
    matches!(taken, Ok(Some(())))
}

/// `column`, `field`, or `transform(…)`, as text.
fn field(parser: &mut Parser) -> Parsed<String> {
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

/// `AS name`.
fn name(parser: &mut Parser) -> Parsed<Option<Ident>> {
    if parser.parse_keyword(Keyword::AS) { parser.parse_identifier().map(Some) } else { Ok(None) }
}

/// `WRITE ORDERED BY a DESC, b NULLS LAST`, or `WRITE UNORDERED`.
fn order(parser: &mut Parser) -> Parsed<Option<Vec<OrderByExpr>>> {
    let taken = parser.maybe_parse(|parser| {
        if !word(parser, "WRITE") {
            return Err(expected(parser, "WRITE"));
        }
        if word(parser, "UNORDERED") {
            return Ok(false);
        }
        let _ = word(parser, "LOCALLY");
        if word(parser, "ORDERED") { Ok(true) } else { Err(expected(parser, "ORDERED BY")) }
    })?;
    match taken {
        None => Ok(None),
        Some(false) => Ok(Some(Vec::new())),
        Some(true) => {
            parser.expect_keyword(Keyword::BY)?;
            parser.parse_comma_separated(Parser::parse_order_by_expr).map(Some)
        }
    }
}

/// `UNSET TBLPROPERTIES [IF EXISTS] ('key', …)`.
fn unset(parser: &mut Parser) -> Parsed<Option<Vec<String>>> {
    if !word(parser, "UNSET") {
        return Ok(None);
    }
    if !word(parser, "TBLPROPERTIES") {
        return Err(expected(parser, "TBLPROPERTIES"));
    }
    let _ = parser.parse_keywords(&[Keyword::IF, Keyword::EXISTS]);
    parser.expect_token(&Token::LParen)?;
    let keys = parser.parse_comma_separated(Parser::parse_literal_string)?;
    parser.expect_token(&Token::RParen)?;
    Ok(Some(keys))
}

/// `ALTER COLUMN c COMMENT 'text'`, `… FIRST` or `… AFTER other`.
fn column(parser: &mut Parser) -> Parsed<Option<Own>> {
    parser.maybe_parse(|parser| {
        parser.expect_keyword(Keyword::ALTER)?;
        let _ = parser.parse_keyword(Keyword::COLUMN);
        let column = parser.parse_identifier()?;
        if parser.parse_keyword(Keyword::COMMENT) {
            let none = parser.parse_keyword(Keyword::NULL);
            let comment = if none { None } else { Some(parser.parse_literal_string()?) };
            return Ok(Own::Comment(column, comment));
        }
        if parser.parse_keyword(Keyword::FIRST) {
            return Ok(Own::Move(column, WrittenPlace::First));
        }
        parser.expect_keyword(Keyword::AFTER)?;
        Ok(Own::Move(column, WrittenPlace::After(parser.parse_identifier()?)))
    })
}

impl Own {
    fn taken(self) -> Result<WrittenAlteration> {
        let named = |name: Option<Ident>| name.map(|name| name.value);
        Ok(match self {
            Own::AddPart(field, name) => {
                WrittenAlteration::AddPart { field: partition::parse(&field)?, name: named(name) }
            }
            Own::DropPart(field) => WrittenAlteration::DropPart(part(field)?),
            Own::ReplacePart(old, field, name) => WrittenAlteration::ReplacePart {
                old: part(old)?,
                field: partition::parse(&field)?,
                name: named(name),
            },
            Own::SortBy(keys) => {
                let keys = keys.into_iter().map(key).collect::<Result<_>>()?;
                WrittenAlteration::SortBy(keys)
            }
            Own::Comment(column, comment) => WrittenAlteration::Comment { column, comment },
            Own::Move(column, place) => WrittenAlteration::Move { column, place },
            Own::Unset(keys) => {
                WrittenAlteration::Properties(keys.into_iter().map(|key| (key, None)).collect())
            }
        })
    }
}

/// A partition field that is there.
fn part(text: String) -> Result<WrittenPart> {
    if text.contains('(') {
        partition::parse(&text).map(WrittenPart::Field)
    } else {
        Ok(WrittenPart::Name(text))
    }
}

fn key(key: OrderByExpr) -> Result<WrittenKey> {
    let OrderByExpr { expr, options: OrderByOptions { asc, nulls_first }, with_fill } = key;
    let (Expr::Identifier(column), None) = (&expr, with_fill) else {
        return Err(Error::Unsupported {
            what: format!("WRITE ORDERED BY `{expr}`"),
            hint: Some("Order by columns of the table.".to_owned()),
            position: None,
        });
    };
    let descending = asc == Some(false);
    let column = column.value.clone();
    Ok(WrittenKey { column, descending, nulls_first: nulls_first.unwrap_or(!descending) })
}

/// The columns of a text as `a DESC, b NULLS LAST`.
pub(super) fn keys(text: &str) -> Result<Vec<WrittenKey>> {
    let tokens = super::parse::tokens(text)?;
    let mut parser =
        Parser::new(&super::dialect::HeadwaterDialect).with_tokens_with_locations(tokens);
    let keys = parser.parse_comma_separated(Parser::parse_order_by_expr).map_err(syntax)?;
    if parser.peek_token().token != Token::EOF {
        return Err(syntax(expected(&parser, "a column")));
    }
    keys.into_iter().map(key).collect()
}
