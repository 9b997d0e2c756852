//! Integers in hexadecimal, octal and binary notation, and letters directly after a number.
//!
//! sqlparser parses `0x10` as the bytes `X'10'`, and `0b11` as `0 AS b11`. This module parses both
//! as numbers, as PostgreSQL does, and rejects a word that directly follows a number.

use sqlparser::ast::{Expr, Value};
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Token, TokenWithSpan};

/// End of the error message for a word that follows a number directly, as in `1abc`.
pub(crate) const NO_NUMBER: &str = "is not a valid number, and a name cannot begin with a digit";

/// Parses a number that sqlparser would misread.
pub(crate) fn parse(parser: &mut Parser) -> Option<Result<Expr, ParserError>> {
    let TokenWithSpan { token, span } = parser.peek_token_ref();
    let mut written = match token {
        Token::Number(digits, _) => digits.clone(),
        // `X'10'` and `0x10` have the same token, but the text of the first is one character longer
        // because of its quotes.
        Token::HexStringLiteral(digits)
            if span.end.column - span.start.column == digits.len() as u64 + 2 =>
        {
            format!("0x{digits}")
        }
        _ => return None,
    };
    let (span, next) = (*span, parser.peek_nth_token_ref(1));
    let joined = match &next.token {
        Token::Word(word) if word.quote_style.is_none() && next.span.start == span.end => {
            written.push_str(&word.value);
            true
        }
        _ => false,
    };
    if !joined && matches!(parser.peek_token_ref().token, Token::Number(..)) {
        return None;
    }
    let Some(value) = integer(&written) else {
        return Some(Err(ParserError::ParserError(format!(
            "`{written}` {NO_NUMBER}{}",
            span.start
        ))));
    };
    parser.advance_token();
    if joined {
        parser.advance_token();
    }
    Some(Ok(Expr::Value(Value::Number(value.to_string(), false).with_span(span))))
}

/// Returns the value of an integer that has a prefix for its base.
fn integer(written: &str) -> Option<i64> {
    let digits = written.replace('_', "").to_ascii_lowercase();
    let base = [("0x", 16), ("0o", 8), ("0b", 2)];
    base.iter().find_map(|(prefix, base)| {
        let digits = digits.strip_prefix(prefix)?;
        i64::from_str_radix(digits, *base).ok().filter(|_| !digits.starts_with(['+', '-']))
    })
}
