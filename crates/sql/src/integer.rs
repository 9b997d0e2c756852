//! Whole numbers in hexadecimal, octal and binary notation, and letters that stand right after a
//! number.
//!
//! sqlparser takes `0x10` for the bytes `X'10'`, and `0b11` for `0 AS b11`. Here they are numbers,
//! as in PostgreSQL, and a word that begins right after a number is an error.

use sqlparser::tokenizer::{Token, TokenWithSpan};

use super::table_name::span_start;
use crate::error::{Error, Result};

/// Reads the numbers of a statement.
pub fn read(tokens: Vec<TokenWithSpan>, sql: &str) -> Result<Vec<TokenWithSpan>> {
    let mut read: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    let mut text = Text::new(sql);
    for token in tokens {
        let joins = read.last().is_some_and(|last| last.span.end == token.span.start);
        match (&token.token, read.last_mut()) {
            (Token::HexStringLiteral(digits), _) if text.at(&token) == Some('0') => {
                let number = number(&format!("0x{digits}"), &token)?;
                read.push(TokenWithSpan { token: number, span: token.span });
            }
            (Token::Word(word), Some(last)) if joins && word.quote_style.is_none() => {
                match &last.token {
                    Token::Number(digits, _) => {
                        last.token = number(&format!("{digits}{}", word.value), last)?;
                    }
                    _ => read.push(token),
                }
            }
            _ => read.push(token),
        }
    }
    Ok(read)
}

/// The number that a word of digits and letters writes.
fn number(written: &str, at: &TokenWithSpan) -> Result<Token> {
    let digits = written.replace('_', "").to_ascii_lowercase();
    let base = [("0x", 16), ("0o", 8), ("0b", 2)];
    let value = base.iter().find_map(|(prefix, base)| {
        let digits = digits.strip_prefix(prefix)?;
        i64::from_str_radix(digits, *base).ok().filter(|_| !digits.starts_with(['+', '-']))
    });
    match value {
        Some(value) => Ok(Token::Number(value.to_string(), false)),
        None => Err(Error::Syntax {
            message: format!("`{written}` is neither a number nor a name"),
            hint: Some("Write a space after the number, or a number below 2^63.".to_owned()),
            position: span_start(at.span),
        }),
    }
}

/// A statement's text, whose characters are looked up from its begin to its end.
struct Text<'a> {
    letters: std::str::Chars<'a>,
    line: u64,
    column: u64,
}

impl<'a> Text<'a> {
    fn new(sql: &'a str) -> Self {
        Text { letters: sql.chars(), line: 1, column: 1 }
    }

    /// The character that a token begins with.
    fn at(&mut self, token: &TokenWithSpan) -> Option<char> {
        let start = token.span.start;
        loop {
            let letter = self.letters.next()?;
            let here = (self.line, self.column);
            match letter {
                '\n' => (self.line, self.column) = (self.line + 1, 1),
                _ => self.column += 1,
            }
            if here == (start.line, start.column) {
                return Some(letter);
            }
        }
    }
}
