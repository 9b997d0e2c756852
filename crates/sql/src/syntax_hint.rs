//! Hints for statements that cannot be parsed: misspelled keywords, and Jinja templates.

use headwater_model::nearest;
use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Token, TokenWithSpan};

use super::parse::tokens;
use super::table_name::span_start;
use crate::error::{Error, Position};

/// The keywords that can start a clause or statement.
const KEYWORDS: [&str; 28] = [
    "SELECT", "FROM", "WHERE", "GROUP", "HAVING", "ORDER", "LIMIT", "OFFSET", "JOIN", "INNER",
    "UNION", "INSERT", "INTO", "VALUES", "UPDATE", "DELETE", "MERGE", "CREATE", "TABLE", "ALTER",
    "COLUMN", "WITH", "WHEN", "THEN", "BETWEEN", "DISTINCT", "QUALIFY", "EXPLAIN",
];

/// Adds a hint to a syntax error if the statement's text suggests the cause.
pub(super) fn explain(error: Error, sql: &str) -> Error {
    let (message, position) = match error {
        Error::Syntax { message, hint: None, position } => (message, position),
        other => return other,
    };
    if let Some(error) = jinja(sql) {
        return error;
    }
    let slip = tokens(sql).ok().and_then(|tokens| find_misspelling(&tokens, position));
    match slip {
        Some(Misspelling { meant, at }) => {
            Error::Syntax { message, hint: Some(format!("Did you mean `{meant}`?")), position: at }
        }
        None => Error::Syntax { message, hint: None, position },
    }
}

/// A misspelled keyword and its correction.
struct Misspelling {
    meant: String,
    at: Option<Position>,
}

/// Searches for a misspelled keyword at the position of the error and directly before, because the
/// parser may have read the misspelled word as an alias.
fn find_misspelling(tokens: &[TokenWithSpan], position: Option<Position>) -> Option<Misspelling> {
    let words = tokens.iter().filter(|token| !matches!(token.token, Token::Whitespace(_)));
    let words: Vec<&TokenWithSpan> = words.collect();
    let stopped = match position {
        Some(_) => words.iter().position(|word| span_start(word.span) == position)?,
        None => words.len(),
    };
    let near = [Some(stopped), stopped.checked_sub(1)];
    near.into_iter().flatten().find_map(|index| {
        let token = words.get(index)?;
        let Token::Word(word) = &token.token else { return None };
        if word.keyword != Keyword::NoKeyword || word.quote_style.is_some() {
            return None;
        }
        let meant = nearest(&word.value, KEYWORDS)?;
        Some(Misspelling { meant, at: span_start(token.span) })
    })
}

/// Returns the error for a Jinja template that was not rendered; `None` if the text is not a
/// template.
fn jinja(sql: &str) -> Option<Error> {
    let begin = [sql.find("{{"), sql.find("{%")].into_iter().flatten().min()?;
    let rest = &sql[begin..];
    let end = [rest.find("}}"), rest.find("%}")].into_iter().flatten().min()?;
    let before = &sql[..begin];
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let position = Position {
        line: before.matches('\n').count() as u64 + 1,
        column: before[line_start..].chars().count() as u64 + 1,
    };
    let written = &rest[..end + 2];
    let named = written.split(['\'', '"']).nth(1).filter(|_| {
        let call = written.trim_start_matches('{').trim_start();
        call.starts_with("ref") || call.starts_with("source")
    });
    Some(Error::Syntax {
        message: format!("`{written}` is Jinja, which is not supported"),
        hint: Some(match named {
            Some(table) => format!("Write the name of the table: `{table}`."),
            None => "Write plain SQL. For values, use parameters such as `$name`.".to_owned(),
        }),
        position: Some(position),
    })
}
