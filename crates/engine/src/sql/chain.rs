//! How long a chain of operators may be.
//!
//! `a + b + c` is a tree as deep as the chain is long, and all that plans it recurses over it; the
//! parser's own limit counts what is nested by brackets. So chains are measured by their words, before
//! anything is parsed.

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use crate::error::{Error, Position, Result};

/// `AND` and `OR` in one condition.
const CONDITIONS_MAX: usize = 2_000;

/// Other operators in one expression.
const OPERATORS_MAX: usize = 300;

/// Tables that are joined, and queries that are put together, at one level.
const JOINED_MAX: usize = 300;

/// What stands between two brackets, so far.
#[derive(Default)]
struct Level {
    conditions: usize,
    operators: usize,
    joined: usize,
    is_from: bool,
}

impl Level {
    fn begin_clause(&mut self, is_from: bool) {
        (self.conditions, self.operators, self.is_from) = (0, 0, is_from);
    }

    fn take(&mut self, token: &Token) {
        match token {
            Token::Comma => {
                self.joined += usize::from(self.is_from);
                self.begin_clause(self.is_from);
            }
            Token::Word(word) if word.quote_style.is_none() => self.take_word(word.keyword),
            other if joins_nothing(other) => {}
            _ => self.operators += 1,
        }
    }

    fn take_word(&mut self, keyword: Keyword) {
        match keyword {
            Keyword::AND | Keyword::OR | Keyword::XOR => {
                self.conditions += 1;
                self.operators = 0;
            }
            Keyword::IS
            | Keyword::IN
            | Keyword::LIKE
            | Keyword::ILIKE
            | Keyword::SIMILAR
            | Keyword::BETWEEN
            | Keyword::AT
            | Keyword::COLLATE
            | Keyword::DIV
            | Keyword::NOT => self.operators += 1,
            Keyword::UNION | Keyword::EXCEPT | Keyword::INTERSECT => {
                self.joined += 1;
                self.begin_clause(false);
            }
            Keyword::JOIN => {
                self.joined += 1;
                self.begin_clause(true);
            }
            Keyword::FROM => self.begin_clause(true),
            Keyword::SELECT
            | Keyword::WHERE
            | Keyword::GROUP
            | Keyword::HAVING
            | Keyword::ORDER
            | Keyword::WHEN
            | Keyword::THEN
            | Keyword::ELSE => self.begin_clause(false),
            // What a join is made on stands among the tables.
            Keyword::ON => self.begin_clause(self.is_from),
            _ => {}
        }
    }

    /// What there is too much of, and how much there may be.
    fn excess(&self) -> Option<(&'static str, usize)> {
        [
            ("ANDs and ORs in one condition", self.conditions, CONDITIONS_MAX),
            ("operators in one expression", self.operators, OPERATORS_MAX),
            ("tables or queries put together", self.joined, JOINED_MAX),
        ]
        .into_iter()
        .find_map(|(what, count, most)| (count > most).then_some((what, most)))
    }
}

fn joins_nothing(token: &Token) -> bool {
    matches!(
        token,
        Token::Word(_)
            | Token::Period
            | Token::SemiColon
            | Token::EOF
            | Token::LParen
            | Token::RParen
            | Token::RBracket
            | Token::RBrace
            | Token::Whitespace(_)
            | Token::Number(..)
            | Token::Placeholder(_)
            | Token::SingleQuotedString(_)
            | Token::DoubleQuotedString(_)
            | Token::DollarQuotedString(_)
            | Token::NationalStringLiteral(_)
            | Token::EscapedStringLiteral(_)
            | Token::HexStringLiteral(_)
    )
}

/// Refuses a statement that would be a tree too deep to plan.
pub(super) fn check(tokens: &[TokenWithSpan]) -> Result<()> {
    let mut levels = vec![Level::default()];
    for TokenWithSpan { token, span } in tokens {
        if let Some(level) = levels.last_mut() {
            level.take(token);
            if let Some((what, most)) = level.excess() {
                return Err(Error::Invalid {
                    message: format!("the statement has more than {most} {what}"),
                    hint: Some(
                        "Write `IN (…)`, a function of many values such as concat, or put the values into \
                         a table and join it."
                            .to_owned(),
                    ),
                    position: Some(Position { line: span.start.line, column: span.start.column }),
                });
            }
        }
        if opens(token) {
            levels.push(Level::default());
        } else if closes(token) && levels.len() > 1 {
            levels.pop();
        }
    }
    Ok(())
}

/// A CASE has what it is made of to itself, as brackets have.
fn opens(token: &Token) -> bool {
    matches!(token, Token::LParen | Token::LBracket | Token::LBrace) || says(token, Keyword::CASE)
}

fn closes(token: &Token) -> bool {
    matches!(token, Token::RParen | Token::RBracket | Token::RBrace) || says(token, Keyword::END)
}

fn says(token: &Token, keyword: Keyword) -> bool {
    matches!(token, Token::Word(word) if word.quote_style.is_none() && word.keyword == keyword)
}
