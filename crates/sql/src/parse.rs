//! Parses SQL text to checked statements.

use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError, ParserOptions};
use sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer, TokenizerError};

use crate::debug_text::{debug_position, lower_first, shows_debug};
use crate::dialect::HeadwaterDialect;
use crate::error::{Error, Position, Result};
use crate::partition::{self, is_keyword};
use crate::prepared::{Parsed, Prepared};
use crate::statement::Command;
use crate::{
    alter_extensions, alter_table, complexity_limit, create_view, data_type, integer, time_travel,
};

/// Maximum nesting depth of a statement.
pub const DEPTH_MAX: usize = 100;

/// Parses one statement and refuses unsupported clauses. Parameters may have no values.
pub fn parse(sql: &str) -> Result<Command> {
    Prepared::parse(sql)?.command()
}

/// Splits a script into the tokens of its statements, which semicolons separate. Positions refer to
/// the whole script.
pub(super) fn split(sql: &str) -> Result<Vec<Vec<TokenWithSpan>>> {
    let tokens = tokens(sql)?;
    let statements = tokens.split(|token| token.token == Token::SemiColon);
    let is_empty = |statement: &[TokenWithSpan]| {
        statement.iter().all(|token| matches!(token.token, Token::Whitespace(_) | Token::EOF))
    };
    Ok(statements.filter(|statement| !is_empty(statement)).map(<[_]>::to_vec).collect())
}

/// Parses one statement without checking it.
pub(super) fn parse_one(sql: &str) -> Result<Parsed> {
    parse_tokens(tokens(sql)?, sql)
}

/// Parses the tokens of one statement without checking it.
pub(super) fn parse_tokens(tokens: Vec<TokenWithSpan>, sql: &str) -> Result<Parsed> {
    complexity_limit::check(&tokens)?;
    let foreign = foreign_clause(&tokens);
    let view = create_view::text_of_query(sql, &tokens);
    let (mut tokens, partition) = partition::take(tokens)?;
    data_type::spell_maps(&mut tokens);
    spell_out_stars(&mut tokens);
    time_travel::rewrite(&mut tokens);
    alter_table::join_paths(&mut tokens);
    let tokens = integer::read(tokens, sql)?;
    let options = ParserOptions::new().with_trailing_commas(true).with_unescape(true);
    let own = alter_extensions::is_own(&tokens);
    let mut parser = Parser::new(&HeadwaterDialect)
        .with_options(options)
        .with_recursion_limit(DEPTH_MAX)
        .with_tokens_with_locations(tokens);
    if own {
        return alter_extensions::parse(&mut parser).map(Parsed::Alter);
    }
    let statements = parser.parse_statements();
    let statements = statements.map_err(|error| foreign.unwrap_or_else(|| syntax(error)))?;
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
    Ok(Parsed::Other { statement: Box::new(statement), partition, view })
}

/// Column name that represents all columns in `UPDATE SET *` of MERGE.
pub const EVERY_COLUMN: &str = "\0e";

/// Writes the `*` of `THEN UPDATE SET *` and `THEN INSERT *`, which sqlparser does not read, as an
/// assignment to [`EVERY_COLUMN`] and as `ROW`.
fn spell_out_stars(tokens: &mut Vec<TokenWithSpan>) {
    let words: Vec<usize> =
        (0..tokens.len()).filter(|&i| !matches!(tokens[i].token, Token::Whitespace(_))).collect();
    let is = |index: Option<&usize>, keyword: Keyword| {
        index.is_some_and(|&index| is_keyword(&tokens[index].token, keyword))
    };
    if !words.iter().any(|index| is(Some(index), Keyword::MERGE)) {
        return;
    }
    let mut stars = Vec::new();
    for (place, &index) in words.iter().enumerate() {
        let before = |back: usize| place.checked_sub(back).and_then(|place| words.get(place));
        let ends = match words.get(place + 1).map(|next| &tokens[*next].token) {
            None | Some(Token::SemiColon | Token::EOF) => true,
            Some(next) => is_keyword(next, Keyword::WHEN) || is_keyword(next, Keyword::RETURNING),
        };
        if tokens[index].token != Token::Mul || !ends {
            continue;
        }
        let inserts = is(before(1), Keyword::INSERT) && is(before(2), Keyword::THEN);
        let updates = is(before(1), Keyword::SET)
            && is(before(2), Keyword::UPDATE)
            && is(before(3), Keyword::THEN);
        if inserts || updates {
            stars.push((index, inserts));
        }
    }
    for (index, inserts) in stars.into_iter().rev() {
        let span = tokens[index].span;
        let words = if inserts {
            vec![Token::make_word("ROW", None)]
        } else {
            let number = Token::Number("0".to_owned(), false);
            vec![Token::make_word(EVERY_COLUMN, Some('"')), Token::Eq, number]
        };
        let words = words.into_iter().map(|token| TokenWithSpan { token, span });
        tokens.splice(index..=index, words);
    }
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

/// Returns an error that names a clause which sqlparser cannot read in this dialect.
fn foreign_clause(tokens: &[TokenWithSpan]) -> Option<Error> {
    let words: Vec<String> = tokens
        .iter()
        .filter(|token| !matches!(token.token, Token::Whitespace(_)))
        .map(|token| match &token.token {
            Token::Word(word) if word.quote_style.is_none() => word.value.to_uppercase(),
            other => other.to_string(),
        })
        .collect();
    let stands = |pattern: &[&str]| words.windows(pattern.len()).any(|window| window == pattern);
    for (pattern, name) in [
        (&["AS", "MATERIALIZED"][..], "AS MATERIALIZED"),
        (&["USING", "SAMPLE"], "USING SAMPLE"),
        (&["INSERT", "OR"], "INSERT OR …"),
        (&["REPLACE", "INTO"], "REPLACE INTO"),
        (&["FOR", "NO"], "FOR NO KEY UPDATE"),
        (&["FOR", "KEY"], "FOR KEY SHARE"),
    ] {
        if stands(pattern) {
            return Some(Error::unsupported(name));
        }
    }
    None
}

/// Converts a parser error: "expected an expression, found `FROM`".
pub fn syntax(error: ParserError) -> Error {
    match error {
        ParserError::RecursionLimitExceeded => {
            let message = format!("the statement nests more than {DEPTH_MAX} levels deep");
            Error::Syntax { message, hint: None, position: None }
        }
        ParserError::ParserError(text) | ParserError::TokenizerError(text) => {
            let (text, position) = split_position(&text);
            if shows_debug(&text) {
                let position = position.or_else(|| debug_position(&text));
                return Error::Syntax { message: stray(&text), hint: None, position };
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
            Error::Syntax { message, hint: None, position }
        }
    }
}

/// The message for a word after which the parser writes its own tree.
fn stray(text: &str) -> String {
    let word = text.split_once("value: \"").and_then(|(_, rest)| rest.split_once('"'));
    match word {
        Some((word, _)) => format!("`{word}` cannot stand here"),
        None => "a word or a sign cannot stand here".to_owned(),
    }
}

/// Splits ` at Line: 1, Column: 8` off the end of a message.
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
    fn a_syntax_error_says_what_was_expected_and_where() {
        check("SELEC 1", "expected an SQL statement, found `SELEC` (line 1, column 1)");
        check("SELECT 1 +", "expected an expression, found the end");
        check("SELECT 'a", "unterminated string literal (line 1, column 8)");
    }
}
