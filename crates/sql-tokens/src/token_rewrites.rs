//! Rewrites of syntax that sqlparser cannot parse and has no hook for. A rewrite can be removed
//! when sqlparser parses the original form itself:
//!
//! - `UPDATE SET *` and `INSERT *` in MERGE become `SET * = DEFAULT` and `INSERT ROW`. Upstream:
//!   <https://github.com/apache/datafusion-sqlparser-rs/pull/2325>, in a release after 0.62.
//! - `FOR VERSION AS OF v1` and `AT BRANCH dev` become `AT (VERSION => 'v1')` and `AT (BRANCH =>
//!   'dev')`. The FOR of `FOR TIMESTAMP AS OF` is removed. Upstream:
//!   <https://github.com/apache/datafusion-sqlparser-rs/pull/2486> and
//!   <https://github.com/apache/datafusion-sqlparser-rs/issues/2006>.
//! - `MAP<K, V>` becomes `MAP(K, V)`: a dialect supports only one of the two forms. Upstream:
//!   <https://github.com/apache/datafusion-sqlparser-rs/issues/2345>.

use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Token, TokenWithSpan};

/// The unquoted column name that represents all columns in `UPDATE SET *`.
pub const EVERY_COLUMN: &str = "*";

/// Words that may follow AT and state what the next value is.
const VERSIONS: [&str; 7] = ["BRANCH", "TAG", "COMMIT", "REF", "SNAPSHOT", "VERSION", "TIMESTAMP"];

/// Rewrites the tokens of one statement.
pub(crate) fn rewrite(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let is_space = |token: &TokenWithSpan| matches!(token.token, Token::Whitespace(_));
    let is_ddl = tokens.iter().find(|token| !is_space(token)).is_some_and(|first| {
        is_keyword(&first.token, Keyword::CREATE) || is_keyword(&first.token, Keyword::ALTER)
    });
    let mut rewriter =
        Rewriter { words: Vec::with_capacity(tokens.len()), maps: is_ddl.then(Vec::new) };
    let mut rest = tokens.as_slice();
    while let [token, after @ ..] = rest {
        rest = rewriter.version(rest).unwrap_or_else(|| {
            rewriter.take(token);
            after
        });
    }
    rewriter.words
}

/// Returns true if the token is this keyword, not a quoted name.
pub fn is_keyword(token: &Token, keyword: Keyword) -> bool {
    matches!(token, Token::Word(word) if word.keyword == keyword && word.quote_style.is_none())
}

struct Rewriter {
    /// The rewritten tokens, without whitespace.
    words: Vec<TokenWithSpan>,
    /// The angle brackets that are open in a type, in a CREATE or ALTER statement: true for a
    /// bracket of `MAP<`. `None` in a query, where `map < a` is a comparison with a column.
    maps: Option<Vec<bool>>,
}

impl Rewriter {
    /// Returns true if the last rewritten tokens are these keywords.
    fn follows(&self, keywords: &[Keyword]) -> bool {
        let Some(start) = self.words.len().checked_sub(keywords.len()) else { return false };
        let last = self.words[start..].iter();
        last.zip(keywords).all(|(word, keyword)| is_keyword(&word.token, *keyword))
    }

    fn push(&mut self, token: Token, at: &TokenWithSpan) {
        self.words.push(TokenWithSpan { token, span: at.span });
    }

    /// Appends one token, or the tokens that replace it, to the rewritten tokens.
    fn take(&mut self, at: &TokenWithSpan) {
        match &at.token {
            Token::Whitespace(_) => {}
            Token::Mul if self.follows(&[Keyword::UPDATE, Keyword::SET]) => {
                self.push(Token::make_word(EVERY_COLUMN, None), at);
                self.push(Token::Eq, at);
                self.push(Token::make_keyword("DEFAULT"), at);
            }
            Token::Mul if self.follows(&[Keyword::THEN, Keyword::INSERT]) => {
                self.push(Token::make_keyword("ROW"), at);
            }
            Token::Lt | Token::Gt | Token::ShiftRight if self.maps.is_some() => self.bracket(at),
            Token::Word(word) if word.quote_style.is_none() => {
                if let Keyword::SELECT | Keyword::FROM | Keyword::VALUES = word.keyword {
                    self.maps = None;
                }
                self.words.push(at.clone());
            }
            _ => self.words.push(at.clone()),
        }
    }

    /// Replaces the angle brackets of a map by parentheses. A `>>` closes two brackets.
    fn bracket(&mut self, at: &TokenWithSpan) {
        let is_map = self.follows(&[Keyword::MAP]);
        let Some(open) = &mut self.maps else { return };
        let written = match at.token {
            Token::Lt => {
                open.push(is_map);
                vec![if is_map { Token::LParen } else { Token::Lt }]
            }
            ref close => {
                let count = if *close == Token::Gt { 1 } else { 2 };
                let closed = (0..count).map(|_| match open.pop() {
                    Some(true) => Token::RParen,
                    Some(false) | None => Token::Gt,
                });
                closed.collect()
            }
        };
        for token in written {
            self.push(token, at);
        }
    }

    /// Rewrites the time-travel clause after a table name. Returns the tokens after the clause;
    /// `None` if there is no such clause.
    fn version<'t>(&mut self, tokens: &'t [TokenWithSpan]) -> Option<&'t [TokenWithSpan]> {
        const BEGIN: [&str; 4] = ["FOR", "VERSION", "SYSTEM_VERSION", "AT"];
        if !BEGIN.iter().any(|word| is_word(&tokens[0].token, word)) {
            return None;
        }
        let words = tokens.iter().enumerate();
        let words = words.filter(|(_, token)| !matches!(token.token, Token::Whitespace(_)));
        let words: Vec<usize> = words.map(|(index, _)| index).take(5).collect();
        let is = |place: usize, text: &str| {
            words.get(place).is_some_and(|&word| is_word(&tokens[word].token, text))
        };
        let first = usize::from(is(0, "FOR"));
        let as_of = is(first + 1, "AS") && is(first + 2, "OF");
        let (what, value) = if as_of && (is(first, "VERSION") || is(first, "SYSTEM_VERSION")) {
            ("VERSION", *words.get(first + 3)?)
        } else if as_of && first == 1 && is(1, "TIMESTAMP") {
            return Some(&tokens[words[1]..]);
        } else if is(0, "AT") && self.follows_table() {
            let what = VERSIONS.into_iter().find(|what| is(1, what))?;
            let value = *words.get(2)?;
            // `at` may also be an alias, and `AT TIMESTAMP` may be a column with an alias. In these
            // cases the next token is not a value, and this is not a time-travel clause.
            let is_value = matches!(
                tokens[value].token,
                Token::Word(_) | Token::Number(..) | Token::SingleQuotedString(_)
            );
            if !is_value {
                return None;
            }
            (what, value)
        } else {
            return None;
        };
        let end = end_of_value(tokens, value);
        let written = version_value(what, &tokens[value..end]);
        let name = Token::make_word(what, None);
        let before = [Token::make_keyword("AT"), Token::LParen, name, Token::RArrow];
        for token in before.into_iter().chain(written) {
            self.push(token, &tokens[0]);
        }
        // The text of a view's query may end with this parenthesis. So give it the position of the
        // clause's last token.
        self.push(Token::RParen, &tokens[end - 1]);
        Some(&tokens[end..])
    }

    /// Returns true if the preceding token can be the name of a table, which a version may follow.
    fn follows_table(&self) -> bool {
        let last = self.words.last().map(|word| &word.token);
        matches!(last, Some(Token::Word(word)) if word.quote_style.is_some()
            || !matches!(word.keyword, Keyword::FROM | Keyword::SELECT | Keyword::AS | Keyword::BY))
    }
}

fn is_word(token: &Token, text: &str) -> bool {
    matches!(token, Token::Word(word)
        if word.quote_style.is_none() && word.value.eq_ignore_ascii_case(text))
}

/// Returns the end of a value that may be written without quotes: `feature/x`, `dev~1`, `-7`.
fn end_of_value(tokens: &[TokenWithSpan], value: usize) -> usize {
    let is_part = |token: &Token| {
        matches!(
            token,
            Token::Word(_)
                | Token::Number(..)
                | Token::Minus
                | Token::Div
                | Token::Period
                | Token::Tilde
                | Token::AtSign
        )
    };
    let parts = tokens[value..].iter().take_while(|token| is_part(&token.token)).count();
    value + parts.max(1)
}

/// Returns the value of a time-travel clause as tokens: numbers and strings unchanged, anything
/// else as a string.
fn version_value(what: &str, tokens: &[TokenWithSpan]) -> Vec<Token> {
    let is_number = matches!(what, "VERSION" | "SNAPSHOT" | "TIMESTAMP")
        && match tokens {
            [number] | [TokenWithSpan { token: Token::Minus, .. }, number] => {
                matches!(number.token, Token::Number(..))
            }
            _ => false,
        };
    if is_number || matches!(tokens, [text] if matches!(text.token, Token::SingleQuotedString(_))) {
        return tokens.iter().map(|token| token.token.clone()).collect();
    }
    let text = tokens.iter().map(|token| match &token.token {
        Token::Word(word) => word.value.clone(),
        other => other.to_string(),
    });
    vec![Token::SingleQuotedString(text.collect())]
}

#[cfg(test)]
pub(crate) mod tests {
    use sqlparser::dialect::GenericDialect;
    use sqlparser::tokenizer::Tokenizer;

    use super::*;

    pub(crate) fn tokens(sql: &str) -> Vec<TokenWithSpan> {
        Tokenizer::new(&GenericDialect, sql).tokenize_with_location().unwrap()
    }

    fn check(sql: &str, expected: &str) {
        let words = rewrite(tokens(sql));
        let words: Vec<String> = words.iter().map(|token| token.token.to_string()).collect();
        assert_eq!(words.join(" "), expected);
    }

    #[test]
    fn versions_are_written_in_one_way() {
        let is = |sql: &str, version: &str| check(sql, &format!("FROM t {version}"));
        is("FROM t FOR VERSION AS OF 12 WHERE a", "AT ( VERSION => 12 ) WHERE a");
        is("FROM t VERSION AS OF -12", "AT ( VERSION => - 12 )");
        is("FROM t FOR VERSION AS OF 'v1' AS x", "AT ( VERSION => 'v1' ) AS x");
        is("FROM t FOR SYSTEM_VERSION AS OF v1.0", "AT ( VERSION => 'v1.0' )");
        is("FROM t AT BRANCH feature/x-1, u", "AT ( BRANCH => 'feature/x-1' ) , u");
        is("FROM t AT COMMIT 3fa9c1d2)", "AT ( COMMIT => '3fa9c1d2' ) )");
        is("FROM t AT REF dev~1", "AT ( REF => 'dev~1' )");
        is("FROM t AT SNAPSHOT 7", "AT ( SNAPSHOT => 7 )");
        is("FROM t FOR TIMESTAMP AS OF '2026'", "TIMESTAMP AS OF '2026'");
        is("FROM t at JOIN u", "at JOIN u");
        check("SELECT at FROM t", "SELECT at FROM t");
    }

    #[test]
    fn the_brackets_of_maps_are_parentheses() {
        check(
            "ALTER m MAP<INT, ARRAY<MAP<A, B>>> >",
            "ALTER m MAP ( INT , ARRAY < MAP ( A , B ) > ) >",
        );
        check("CREATE s STRUCT<m MAP<A, B>>", "CREATE s STRUCT < m MAP ( A , B ) >");
        check("CREATE t AS SELECT map < a, b > c", "CREATE t AS SELECT map < a , b > c");
        check("SELECT map < a", "SELECT map < a");
    }

    #[test]
    fn a_star_in_merge_is_all_columns() {
        check("THEN UPDATE SET * WHEN", "THEN UPDATE SET * = DEFAULT WHEN");
        check("THEN INSERT *", "THEN INSERT ROW");
        check("SELECT *", "SELECT *");
    }
}
