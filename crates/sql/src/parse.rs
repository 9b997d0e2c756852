//! Parses SQL text to checked statements.

use sqlparser::ast::Statement;
use sqlparser::parser::{Parser, ParserError, ParserOptions};
use sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer, TokenizerError};

use crate::debug_text_detection::{debug_position, lower_first, shows_debug};
use crate::dialect::HeadwaterDialect;
use crate::error::{Error, Position, Result};
use crate::prepared_statement::{ParsedStatement, PreparedStatement};
use crate::statement::SupportedStatement;
use crate::{access_statement, alter_table, create_view, function_statement, radix_literal};
use headwater_sql_tokens::{ComplexityError, check_complexity};

/// Maximum nesting depth of a statement.
pub const DEPTH_MAX: usize = 100;

/// Parses one statement and rejects unsupported clauses. Parameters need no values.
pub fn parse(sql: &str) -> Result<SupportedStatement> {
    PreparedStatement::parse(sql)?.command()
}

/// Splits a script at semicolons into the tokens of its statements. Positions refer to the whole
/// script.
pub(super) fn split(sql: &str) -> Result<Vec<Vec<TokenWithSpan>>> {
    let tokens = tokens(sql)?;
    let statements = tokens.split(|token| token.token == Token::SemiColon);
    let is_empty = |statement: &[TokenWithSpan]| {
        statement.iter().all(|token| matches!(token.token, Token::Whitespace(_) | Token::EOF))
    };
    Ok(statements.filter(|statement| !is_empty(statement)).map(<[_]>::to_vec).collect())
}

/// Parses one statement without checking it.
pub(super) fn parse_one(sql: &str) -> Result<ParsedStatement> {
    parse_tokens(tokens(sql)?, sql)
}

/// Parses the tokens of one statement without checking it.
pub(super) fn parse_tokens(tokens: Vec<TokenWithSpan>, sql: &str) -> Result<ParsedStatement> {
    check_complexity(&tokens).map_err(too_complex)?;
    let mut parser = parser(tokens);
    if alter_table::is_next(&parser) {
        return alter_table::parse(&mut parser).map(ParsedStatement::Alter);
    }
    if function_statement::is_next(&parser) {
        return function_statement::parse(&mut parser, sql).map(ParsedStatement::Function);
    }
    if access_statement::is_next(&parser) {
        return access_statement::parse(&mut parser, sql).map(ParsedStatement::Access);
    }
    let statements = match parser.parse_statements() {
        Ok(statements) => statements,
        Err(error) => {
            return Err(foreign_clause(&parser.into_tokens()).unwrap_or_else(|| syntax(error)));
        }
    };
    let mut statements = statements.into_iter();
    let Some(statement) = statements.next() else {
        let message = "there is no statement".to_owned();
        return Err(Error::Syntax { message, hint: None, position: None });
    };
    if statements.next().is_some() {
        return Err(Error::Unsupported {
            what: "more than one statement at once".to_owned(),
            hint: Some("Write one statement here.".to_owned()),
            position: None,
        });
    }
    let view = match &statement {
        Statement::CreateView(_) => create_view::text_of_query(sql, &parser.into_tokens()),
        _ => None,
    };
    Ok(ParsedStatement::Other { statement: Box::new(statement), view })
}

/// Creates the error of a statement that is too deep to plan.
pub fn too_complex(error: ComplexityError) -> Error {
    let ComplexityError { what, most, at } = error;
    let hint = "Use `IN (…)` or a function with many arguments such as `concat`, or join a table \
                that contains the values.";
    Error::Invalid {
        message: format!("the statement has more than {most} {what}"),
        hint: Some(hint.to_owned()),
        position: Some(Position { line: at.line, column: at.column }),
    }
}

/// Creates a parser with all settings of the dialect.
pub fn parser(tokens: Vec<TokenWithSpan>) -> Parser<'static> {
    Parser::new(&HeadwaterDialect)
        .with_options(ParserOptions::new().with_trailing_commas(true).with_unescape(true))
        .with_recursion_limit(DEPTH_MAX)
        .with_tokens_with_locations(headwater_sql_tokens::rewrite(tokens))
}

/// Splits a statement into tokens with positions.
pub fn tokens(sql: &str) -> Result<Vec<TokenWithSpan>> {
    let tokens = Tokenizer::new(&HeadwaterDialect, sql).tokenize_with_location();
    tokens.map_err(|error| {
        let TokenizerError { message, location } = error;
        let position = Position { line: location.line, column: location.column };
        Error::Syntax { message: lower_first(&message), hint: None, position: Some(position) }
    })
}

/// The name that error messages use for `INSERT OR REPLACE` and similar statements.
const INSERT_OR: &str = "INSERT OR …";

/// Returns an error if the statement has a clause of another system that this dialect cannot parse.
/// The error contains the clause's name.
fn foreign_clause(tokens: &[TokenWithSpan]) -> Option<Error> {
    let word = |token: &TokenWithSpan| match &token.token {
        Token::Word(word) if word.quote_style.is_none() => word.value.to_uppercase(),
        other => other.to_string(),
    };
    let words: Vec<String> = tokens.iter().map(word).collect();
    let stands = |pattern: &[&str]| words.windows(pattern.len()).any(|window| window == pattern);
    for (pattern, name) in [
        (&["USING", "SAMPLE"][..], "USING SAMPLE"),
        (&["EXCLUDE", "CURRENT", "ROW"], "EXCLUDE CURRENT ROW"),
        (&["INSERT", "OR"], INSERT_OR),
        (&["REPLACE", "INTO"], "REPLACE INTO"),
        (&["FOR", "NO"], "FOR NO KEY UPDATE"),
        (&["FOR", "KEY"], "FOR KEY SHARE"),
    ] {
        if stands(pattern) {
            let is_upsert = matches!(name, INSERT_OR | "REPLACE INTO");
            let hint = is_upsert.then(|| {
                "Write `INSERT INTO t (…) … ON CONFLICT (key) DO UPDATE SET …`.".to_owned()
            });
            return Some(Error::Unsupported { what: name.to_owned(), hint, position: None });
        }
    }
    None
}

/// Converts a parser error to a message such as "expected an expression, found `FROM`".
pub fn syntax(error: ParserError) -> Error {
    match error {
        ParserError::RecursionLimitExceeded => {
            let message = format!("the statement is nested more than {DEPTH_MAX} levels deep");
            Error::Syntax { message, hint: None, position: None }
        }
        ParserError::ParserError(text) | ParserError::TokenizerError(text) => {
            let (text, position) = split_position(&text);
            if shows_debug(&text) {
                let position = position.or_else(|| debug_position(&text));
                return Error::Syntax { message: unexpected_word(&text), hint: None, position };
            }
            let message = match text.split_once(", found: ") {
                Some((expected, found)) => {
                    let expected = expected.trim_start_matches("Expected: ");
                    let found = found.trim();
                    let found = match found {
                        "EOF" => "the end".to_owned(),
                        other => format!("`{other}`"),
                    };
                    format!("expected {}, found {found}", lower_first(expected))
                }
                None => lower_first(&text),
            };
            let hint = message
                .ends_with(radix_literal::NO_NUMBER)
                .then(|| "Write a space after the number, or a number below 2^63.".to_owned());
            Error::Syntax { message, hint, position }
        }
    }
}

/// Returns a message about an unexpected word. It replaces a parser message that contains debug
/// text of the syntax tree.
fn unexpected_word(text: &str) -> String {
    let word = text.split_once("value: \"").and_then(|(_, rest)| rest.split_once('"'));
    match word {
        Some((word, _)) => format!("unexpected `{word}`"),
        None => "syntax error: unexpected word or symbol".to_owned(),
    }
}

/// Separates the suffix ` at Line: 1, Column: 8` from a message.
fn split_position(text: &str) -> (String, Option<Position>) {
    let Some((before, after)) = text.rsplit_once(" at Line: ") else {
        return (text.to_owned(), None);
    };
    let position = after.split_once(", Column: ").and_then(|(line, column)| {
        Some(Position { line: line.trim().parse().ok()?, column: column.trim().parse().ok()? })
    });
    match position {
        Some(position) => (before.to_owned(), Some(position).filter(|p| p.line > 0)),
        None => (text.to_owned(), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sql: &str, expected: &str) {
        let shown = match parse(sql) {
            Ok(command) => command.name().to_owned(),
            Err(error) => error.to_string(),
        };
        assert_eq!(shown, expected, "`{sql}`");
    }

    #[test]
    fn one_statement_is_taken() {
        check("SELECT 1", "SELECT");
        check("select 1;", "SELECT");
        check("SELECT a, b, FROM t WHERE a == 1 AND b::int > 2", "SELECT");
        check("FROM t", "SELECT");
        check("-- nothing", "there is no statement");
        check("SELECT 1; SELECT 2", "more than one statement at once is not supported");
        check("create namespace if not exists n", "CREATE SCHEMA");
        check("DROP NAMESPACE n", "DROP SCHEMA");
        check(
            "CREATE TABLE t (m MAP<VARCHAR, ARRAY<MAP<INT, INT>>>, s STRUCT<m MAP<INT, INT>>)",
            "CREATE TABLE",
        );
        check("CREATE TABLE t AS SELECT map < a, b > c FROM t", "CREATE TABLE");
        check("CREATE TABLE t (a int) PARTITIONED BY (day(a))", "CREATE TABLE");
    }

    #[test]
    fn a_syntax_error_has_the_expected_token_and_the_position() {
        check("SELEC 1", "expected an SQL statement, found `SELEC` (line 1, column 1)");
        check("SELECT 1 +", "expected an expression, found the end");
        check("SELECT 'a", "unterminated string literal (line 1, column 8)");
    }
}
