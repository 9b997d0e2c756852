//! Statements on row filters and column masks: CREATE, DROP and SHOW.

use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;

use crate::access_statement::{grantee, is_word, listed, name, names, takes, takes_all};
use crate::alter_table::expected;
use crate::create_view::offset;
use crate::error::Result;

/// A statement on row filters or column masks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RestrictionStatement {
    /// CREATE ROW FILTER and CREATE COLUMN MASK.
    Create {
        /// The name of the row filter or column mask.
        name: String,
        /// The table, with its namespace if one was written.
        table: Vec<String>,
        /// The column that a mask applies to; `None` for a row filter.
        column: Option<String>,
        /// The filter condition or the mask expression, as text.
        using: String,
        /// The users and roles that the restriction applies to. An empty list means all users
        /// except administrators.
        to: Vec<String>,
        /// True with OR REPLACE.
        or_replace: bool,
    },
    /// DROP ROW FILTER and DROP COLUMN MASK.
    Drop {
        /// True for column masks, false for row filters.
        is_mask: bool,
        /// Names of the row filters or column masks.
        names: Vec<String>,
        /// True with IF EXISTS.
        if_exists: bool,
    },
    /// SHOW ROW FILTERS and SHOW COLUMN MASKS.
    Show {
        /// True for column masks, false for row filters.
        is_mask: bool,
    },
}

impl RestrictionStatement {
    /// Returns the name of the statement.
    pub fn name(&self) -> &'static str {
        match self {
            RestrictionStatement::Create { column: None, .. } => "CREATE ROW FILTER",
            RestrictionStatement::Create { .. } => "CREATE COLUMN MASK",
            RestrictionStatement::Drop { is_mask: false, .. } => "DROP ROW FILTER",
            RestrictionStatement::Drop { .. } => "DROP COLUMN MASK",
            RestrictionStatement::Show { is_mask: false } => "SHOW ROW FILTERS",
            RestrictionStatement::Show { .. } => "SHOW COLUMN MASKS",
        }
    }
}

/// Returns true if the parser is at a statement on row filters or column masks.
pub(crate) fn is_next(parser: &Parser) -> bool {
    let word = |at: usize, text: &str| is_word(&parser.peek_nth_token_ref(at).token, text);
    let pair = |at: usize, plural: &str| {
        (word(at, "ROW") && word(at + 1, &format!("FILTER{plural}")))
            || (word(at, "COLUMN") && word(at + 1, &format!("MASK{plural}")))
    };
    let replaces = word(0, "CREATE") && word(1, "OR") && word(2, "REPLACE") && pair(3, "");
    replaces
        || ((word(0, "CREATE") || word(0, "DROP")) && pair(1, ""))
        || (word(0, "SHOW") && pair(1, "S"))
}

/// Parses a statement on row filters or column masks. Does not check that the text ends after the
/// statement. `sql` is the whole text.
pub(crate) fn parse(parser: &mut Parser, sql: &str) -> Result<RestrictionStatement> {
    if takes(parser, "SHOW") {
        let is_mask = takes(parser, "COLUMN");
        skip(parser, if is_mask { 1 } else { 2 });
        return Ok(RestrictionStatement::Show { is_mask });
    }
    let drops = takes(parser, "DROP");
    let or_replace = takes_all(parser, &["CREATE", "OR", "REPLACE"]);
    if !drops && !or_replace {
        skip(parser, 1);
    }
    let is_mask = takes(parser, "COLUMN");
    skip(parser, if is_mask { 1 } else { 2 });
    if drops {
        let if_exists = takes_all(parser, &["IF", "EXISTS"]);
        return Ok(RestrictionStatement::Drop {
            is_mask,
            names: names(parser, "a name")?,
            if_exists,
        });
    }
    create(parser, sql, RestrictionKind { is_mask, or_replace })
}

/// The parsed words of a CREATE statement before the name: ROW FILTER or COLUMN MASK, and OR
/// REPLACE.
struct RestrictionKind {
    is_mask: bool,
    or_replace: bool,
}

fn create(parser: &mut Parser, sql: &str, kind: RestrictionKind) -> Result<RestrictionStatement> {
    let RestrictionKind { is_mask, or_replace } = kind;
    let new = name(parser, "a name")?;
    expect_word(parser, "ON")?;
    let _ = takes(parser, "TABLE");
    let mut table = vec![name(parser, "a table")?];
    while parser.consume_token(&Token::Period) {
        table.push(name(parser, "a name")?);
    }
    let column = if is_mask {
        expect_token(parser, &Token::LParen)?;
        let column = name(parser, "a column")?;
        expect_token(parser, &Token::RParen)?;
        Some(column)
    } else {
        None
    };
    expect_word(parser, "USING")?;
    let using = expression(parser, sql)?;
    let to = if takes(parser, "TO") { listed(parser, grantee)? } else { Vec::new() };
    Ok(RestrictionStatement::Create { name: new, table, column, using, to, or_replace })
}

/// Consumes an expression in parentheses and returns its text.
fn expression(parser: &mut Parser, sql: &str) -> Result<String> {
    let start = parser.peek_token_ref().span.end;
    expect_token(parser, &Token::LParen)?;
    let mut depth = 1_usize;
    loop {
        let token = parser.next_token();
        match token.token {
            Token::LParen => depth += 1,
            Token::RParen => depth -= 1,
            Token::EOF => return Err(expected(parser, "`)`").into()),
            _ => {}
        }
        if depth == 0 {
            let range = offset(sql, start).zip(offset(sql, token.span.start));
            let text = range.and_then(|(start, end)| sql.get(start..end)).unwrap_or_default();
            return Ok(text.trim().to_owned());
        }
    }
}

fn skip(parser: &mut Parser, words: usize) {
    for _ in 0..words {
        parser.advance_token();
    }
}

fn expect_word(parser: &mut Parser, word: &str) -> Result<()> {
    if takes(parser, word) { Ok(()) } else { Err(expected(parser, word).into()) }
}

fn expect_token(parser: &mut Parser, token: &Token) -> Result<()> {
    let is_next = parser.consume_token(token);
    if is_next { Ok(()) } else { Err(expected(parser, &format!("`{token}`")).into()) }
}

#[cfg(test)]
mod tests {
    use crate::PreparedStatement;

    fn check(sql: &str, expected: &str) {
        let shown = match PreparedStatement::parse(sql) {
            Ok(prepared) => format!("{:?}", prepared.access_statement().expect(sql)),
            Err(error) => error.to_string(),
        };
        assert!(shown.contains(expected), "{sql}: {shown}");
    }

    #[test]
    fn filters_and_masks_are_created_with_their_text_dropped_and_listed() {
        check(
            "create or replace row filter eu on sales.orders using ( region = 'EU)' ) to a, role b;",
            r#"Create { name: "eu", table: ["sales", "orders"], column: None, using: "region = 'EU)'", to: ["a", "b"], or_replace: true }"#,
        );
        check(
            "CREATE COLUMN MASK m ON TABLE t (salary) USING (CASE WHEN is_member('hr') THEN salary END)",
            r#"Create { name: "m", table: ["t"], column: Some("salary"), using: "CASE WHEN is_member('hr') THEN salary END", to: [], or_replace: false }"#,
        );
        check(
            "DROP COLUMN MASK IF EXISTS m, n",
            r#"Drop { is_mask: true, names: ["m", "n"], if_exists: true }"#,
        );
        check("SHOW ROW FILTERS", "Show { is_mask: false }");
        for (sql, expected) in [
            ("CREATE ROW FILTER f ON t USING region = 'EU'", "expected `(`"),
            ("CREATE ROW FILTER f ON t USING (region = 'EU'", "expected `)`"),
            ("CREATE ROW FILTER f ON t USING (a) x", "expected the end of the statement"),
            ("CREATE COLUMN MASK f ON t USING (NULL)", "expected `(`"),
            ("CREATE ROW FILTER f USING (a)", "expected ON"),
        ] {
            check(sql, expected);
        }
    }
}
