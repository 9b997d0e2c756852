//! Removes the database from names that start with it, such as `"main"."shop"."orders"`.
//!
//! The database of a connection is its ref, so the other parts of such a name are sufficient. The
//! database is replaced by spaces, which keeps the positions of errors.

use std::borrow::Cow;

use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer, Word};

/// Words after which a name is the name of a table.
const BEFORE_TABLES: [&str; 10] =
    ["JOIN", "INTO", "UPDATE", "TABLE", "VIEW", "USING", "COPY", "TRUNCATE", "DESCRIBE", "ANALYZE"];

/// Words after which names are names of columns, until the next word of [`BEFORE_TABLES`] or FROM.
const BEFORE_COLUMNS: [&str; 12] = [
    "SELECT",
    "WHERE",
    "ON",
    "GROUP",
    "ORDER",
    "HAVING",
    "LIMIT",
    "SET",
    "VALUES",
    "WINDOW",
    "RETURNING",
    "WHEN",
];

/// In parentheses that contain one of these words, FROM is followed by tables. In other
/// parentheses, FROM belongs to a function such as EXTRACT.
const QUERY: [&str; 3] = ["SELECT", "WITH", "DELETE"];

/// Replaces the database by spaces in the qualified names of tables and of their columns.
pub fn without_database<'s>(sql: &'s str, database: &str) -> Cow<'s, str> {
    let contains = |name: &str| sql.to_lowercase().contains(&name.to_lowercase());
    if !contains(&database.replace('"', "\"\"")) {
        return Cow::Borrowed(sql);
    }
    let tokenizer = &mut Tokenizer::new(&PostgreSqlDialect {}, sql);
    let Ok(tokens) = tokenizer.tokenize_with_location() else { return Cow::Borrowed(sql) };
    let is_space = |token: &TokenWithSpan| matches!(token.token, Token::Whitespace(_));
    let tokens: Vec<TokenWithSpan> = tokens.into_iter().filter(|it| !is_space(it)).collect();
    let prefixes = prefixes(&tokens, database);
    if prefixes.is_empty() { Cow::Borrowed(sql) } else { Cow::Owned(blank(sql, &prefixes)) }
}

/// The state of the scan within one pair of parentheses.
#[derive(Clone, Copy, Default)]
struct ParenthesisLevel {
    /// True if the next name is the name of a table, not of a column.
    has_tables: bool,
    is_query: bool,
}

/// Finds the names that start with the database. Returns for each of them the range of the database
/// and the period after it, in the order of the text.
fn prefixes(tokens: &[TokenWithSpan], database: &str) -> Vec<(Location, Location)> {
    let mut levels = vec![ParenthesisLevel { has_tables: false, is_query: true }];
    let (mut found, mut index) = (Vec::new(), 0);
    while let Some(token) = tokens.get(index) {
        let level = levels.last().copied().unwrap_or_default();
        match &token.token {
            Token::LParen => levels.push(ParenthesisLevel { is_query: false, ..level }),
            Token::RParen if levels.len() > 1 => drop(levels.pop()),
            Token::Word(word) => {
                let length = path_length(&tokens[index..]);
                if length == 1 {
                    if let Some(level) = levels.last_mut() {
                        level.pass(word);
                    }
                } else if is_named(word, database)
                    && (length > 3 || (length == 3 && level.has_tables))
                {
                    found.push((token.span.start, tokens[index + 2].span.start));
                }
                index += 2 * length - 1;
                continue;
            }
            _ => {}
        }
        index += 1;
    }
    found
}

impl ParenthesisLevel {
    /// Updates the state after a word that is not part of a qualified name.
    fn pass(&mut self, word: &Word) {
        let is_in = |words: &[&str]| words.iter().any(|one| one.eq_ignore_ascii_case(&word.value));
        if word.quote_style.is_some() {
            return;
        }
        self.is_query |= is_in(&QUERY);
        if is_in(&BEFORE_TABLES) {
            self.has_tables = true;
        } else if is_in(&BEFORE_COLUMNS) {
            self.has_tables = false;
        } else if is_in(&["FROM"]) {
            self.has_tables = self.is_query;
        }
    }
}

/// Returns the number of parts of the name at the start of the tokens. The parts are words, or `*`
/// at the end, with periods between them.
fn path_length(tokens: &[TokenWithSpan]) -> usize {
    let is_part = |token: &TokenWithSpan| matches!(token.token, Token::Word(_) | Token::Mul);
    let rest = tokens[1..].chunks_exact(2);
    1 + rest.take_while(|two| two[0].token == Token::Period && is_part(&two[1])).count()
}

/// Compares a word with a name: exactly if the word is in quotes, otherwise ignoring case.
fn is_named(word: &Word, name: &str) -> bool {
    match word.quote_style {
        Some(_) => word.value == name,
        None => word.value.eq_ignore_ascii_case(name),
    }
}

/// Replaces ranges of a text by spaces.
fn blank(sql: &str, ranges: &[(Location, Location)]) -> String {
    let mut at = Location { line: 1, column: 1 };
    let mut ranges = ranges.iter().peekable();
    let mut replace = |character: char| {
        while ranges.next_if(|(_, end)| *end <= at).is_some() {}
        let is_within = ranges.peek().is_some_and(|(start, _)| *start <= at);
        if character == '\n' {
            at = Location { line: at.line + 1, column: 1 };
            return character;
        }
        at.column += 1;
        if is_within { ' ' } else { character }
    };
    sql.chars().map(&mut replace).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sql: &str, expected: &str) {
        assert_eq!(without_database(sql, "main"), expected);
    }

    #[test]
    fn the_database_of_a_table_becomes_spaces() {
        check(
            "create  table \"main\".\"shop\".\"a\" as (select * from main.shop.b,\n Main.shop.c)",
            "create  table        \"shop\".\"a\" as (select * from      shop.b,\n      shop.c)",
        );
        check("DELETE FROM main.s.t USING main.s.u", "DELETE FROM      s.t USING      s.u");
        check(
            "SELECT main.s.t.a, main.s.t.* FROM a JOIN main.s.t ON true",
            "SELECT      s.t.a,      s.t.* FROM a JOIN      s.t ON true",
        );
        check(
            "ALTER TABLE IF EXISTS main.s.t ADD c INT",
            "ALTER TABLE IF EXISTS      s.t ADD c INT",
        );
        check("COPY main.s.t (a) FROM STDIN", "COPY      s.t (a) FROM STDIN");
    }

    #[test]
    fn other_names_remain() {
        for sql in [
            "SELECT * FROM main.t",
            "SELECT main.s.f FROM t AS main",
            "SELECT * FROM other.s.t, \"Main\".s.t",
            "SELECT 'FROM main.s.t' -- main.s.t",
            "SELECT extract(year FROM main.s.f) FROM t AS main",
            "SELECT * FROM t AS main WHERE main.s.f = 1",
            "SELECT * FROM a.main.s.t",
        ] {
            check(sql, sql);
        }
    }
}
