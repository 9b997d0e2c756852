//! Rewrites DuckDB's PIVOT and UNPIVOT to the clauses after a table that sqlparser parses:
//!
//! - `PIVOT t ON a USING sum(b) GROUP BY c` becomes `SELECT * FROM t PIVOT (sum(b) FOR a IN (ANY)
//!   DEFAULT ON NULL (…))`. In the rewritten form, the columns of GROUP BY are the arguments of
//!   [`GROUPED`].
//! - `UNPIVOT t ON a, b INTO NAME n VALUE v` becomes `SELECT * FROM t UNPIVOT (v FOR n IN (a, b))`.

use sqlparser::tokenizer::{Token, TokenWithSpan};

use crate::foreign_syntax::StatementTokens;

/// Marker function whose arguments are the columns of a pivot's GROUP BY.
pub const GROUPED: &str = "\0grouped";

/// Rewrites the PIVOT or UNPIVOT at a token.
pub(crate) fn rewrite(words: &mut StatementTokens, place: usize) {
    let is_pivot = words.is(place, "PIVOT");
    if words.begins_query(place) {
        let rewritten = if is_pivot { pivot(words, place) } else { unpivot(words, place) };
        if let Some((end, tokens)) = rewritten {
            words.replace(place, end, tokens);
        }
    } else if is_pivot && words.is_token(place + 1, &Token::LParen) {
        grouped_clause(words, place + 2);
    }
}

fn keywords(text: &str) -> Vec<Token> {
    text.split(' ').map(Token::make_keyword).collect()
}

fn tokens(words: &StatementTokens, from: usize, to: usize) -> Vec<Token> {
    words.0[from..to].iter().map(|token| token.token.clone()).collect()
}

/// Returns `DEFAULT ON NULL (grouped(a, b))`.
fn grouped(columns: Vec<Token>) -> Vec<Token> {
    let mut written = keywords("DEFAULT ON NULL");
    written.extend([Token::LParen, Token::make_word(GROUPED, Some('"')), Token::LParen]);
    written.extend(columns);
    written.extend([Token::RParen, Token::RParen]);
    written
}

fn ends(words: &StatementTokens, at: usize) -> bool {
    ["ORDER", "LIMIT", "OFFSET", "UNION", "EXCEPT", "INTERSECT", "SELECT"]
        .iter()
        .any(|word| words.is(at, word))
}

/// Returns the index after a PIVOT and the tokens that replace it; `None` if the PIVOT is
/// incomplete.
fn pivot(words: &StatementTokens, place: usize) -> Option<(usize, Vec<Token>)> {
    let on = words.find(place + 1, |words, at| words.is(at, "ON") || ends(words, at));
    let next = |words: &StatementTokens, at: usize| {
        ["USING", "GROUP"].iter().any(|word| words.is(at, word)) || ends(words, at)
    };
    let using = words.find(on + 1, next);
    let group = words.find(using + 1, next);
    let end = if words.is(group, "GROUP") { words.find(group + 2, ends) } else { group };
    if !words.is(on, "ON") || !words.is(using, "USING") {
        return None;
    }
    let mut written = keywords("SELECT");
    written.push(Token::Mul);
    written.extend(keywords("FROM"));
    written.extend(tokens(words, place + 1, on));
    written.extend(keywords("PIVOT"));
    written.push(Token::LParen);
    written.extend(tokens(words, using + 1, group));
    written.extend(keywords("FOR"));
    let listed = words.find(on + 1, |words, at| words.is(at, "IN") || at >= using);
    written.extend(tokens(words, on + 1, listed));
    written.extend(keywords("IN"));
    if listed < using {
        written.extend(tokens(words, listed + 1, using));
    } else {
        written.extend([Token::LParen, Token::make_keyword("ANY"), Token::RParen]);
    }
    if words.is(group, "GROUP") {
        written.extend(grouped(tokens(words, group + 2, end)));
    }
    written.push(Token::RParen);
    Some((end, written))
}

/// Rewrites the GROUP BY in the parentheses of a PIVOT to the DEFAULT clause that [`grouped`]
/// returns.
fn grouped_clause(words: &mut StatementTokens, start: usize) {
    let group = words.find(start, |words, at| words.is(at, "GROUP"));
    if words.is(group, "GROUP") && words.is(group + 1, "BY") {
        let end = words.find(group + 2, |_, _| false);
        let written = grouped(tokens(words, group + 2, end));
        words.replace(group, end, written);
    }
}

/// Returns the index after an UNPIVOT and the tokens that replace it; `None` if the UNPIVOT is
/// incomplete.
fn unpivot(words: &StatementTokens, place: usize) -> Option<(usize, Vec<Token>)> {
    let has_nulls = words.is(place + 1, "INCLUDE") && words.is(place + 2, "NULLS");
    let table = if has_nulls { place + 3 } else { place + 1 };
    let on = words.find(table, |words, at| words.is(at, "ON") || ends(words, at));
    let into = words.find(on + 1, |words, at| words.is(at, "INTO") || ends(words, at));
    if !words.is(on, "ON") {
        return None;
    }
    let (mut name, mut value, mut end) = ("name".to_owned(), "value".to_owned(), into);
    if words.is(into, "INTO") {
        let word = |at: usize| match words.0.get(at) {
            Some(TokenWithSpan { token: Token::Word(word), .. }) => Some(word.value.clone()),
            _ => None,
        };
        if !words.is(into + 1, "NAME") || !words.is(into + 3, "VALUE") {
            return None;
        }
        (name, value, end) = (word(into + 2)?, word(into + 4)?, into + 5);
    }
    let named = |text: &str| Token::make_word(text, Some('"'));
    let mut written = keywords("SELECT");
    written.push(Token::Mul);
    written.extend(keywords("FROM"));
    written.extend(tokens(words, table, on));
    written.extend(keywords(if has_nulls { "UNPIVOT INCLUDE NULLS" } else { "UNPIVOT" }));
    written.extend([Token::LParen, named(&value), Token::make_keyword("FOR"), named(&name)]);
    written.extend([Token::make_keyword("IN"), Token::LParen]);
    written.extend(tokens(words, on + 1, into));
    written.extend([Token::RParen, Token::RParen]);
    Some((end, written))
}
