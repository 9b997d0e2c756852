//! Rewrites of query syntax of other systems that sqlparser cannot parse, on the tokens of a
//! statement without whitespace:
//!
//! - `FROM t WHERE a` and `TABLE t` become `SELECT * FROM t …`.
//! - `AS [NOT] MATERIALIZED (…)` becomes `AS (…)`: the hint does not change the result.
//! - `USING SAMPLE 10%` becomes `SAMPLE (10 PERCENT)`.
//! - `LIMIT 10%` becomes `FETCH FIRST 10 PERCENT ROWS ONLY`.
//! - `ASOF JOIN … ON` gets a `MATCH_CONDITION`, which only Snowflake writes.
//! - `INSERT INTO t BY NAME` gets a list of columns with the name [`BY_NAME`].
//! - `* LIKE 'a%'` becomes `* ILIKE`, with [`EXACT`] before the pattern.

use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Token, TokenWithSpan};

use crate::pivot_syntax;
use crate::token_rewrites::{self, is_keyword};

/// A column name that marks INSERT … BY NAME if it is the only column of the INSERT.
pub const BY_NAME: &str = "\0by name";

/// First character of the pattern of a `* ILIKE` that was written as `* LIKE`, and therefore is
/// case-sensitive.
pub const EXACT: char = '\0';

/// The match condition that is added to an inner ASOF JOIN with ON or USING, because the join has
/// no match condition in the source text.
pub const ASOF_INNER: &str = "\0inner";
/// The match condition that is added to a left ASOF JOIN with ON or USING.
pub const ASOF_LEFT: &str = "\0left";

/// Rewrites the tokens of one statement, and removes whitespace.
pub fn rewrite(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut words = StatementTokens(token_rewrites::rewrite(tokens));
    let mut place = 0;
    while place < words.0.len() {
        words.rewrite_at(place);
        place += 1;
    }
    words.0
}

/// The tokens of a statement.
pub(crate) struct StatementTokens(pub(crate) Vec<TokenWithSpan>);

impl StatementTokens {
    /// Returns true if the token is this unquoted word.
    pub(crate) fn is(&self, place: usize, text: &str) -> bool {
        self.0.get(place).is_some_and(|token| {
            matches!(&token.token, Token::Word(word)
                if word.quote_style.is_none() && word.value.eq_ignore_ascii_case(text))
        })
    }

    pub(crate) fn is_token(&self, place: usize, token: &Token) -> bool {
        self.0.get(place).is_some_and(|found| found.token == *token)
    }

    fn is_number(&self, place: usize) -> bool {
        matches!(self.0.get(place), Some(TokenWithSpan { token: Token::Number(..), .. }))
    }

    /// Replaces the tokens `from..to`. The new tokens get the position of the last replaced token.
    /// If no token is replaced, they get the position of the preceding token.
    pub(crate) fn replace(&mut self, from: usize, to: usize, tokens: Vec<Token>) {
        let at = to.max(from + 1).min(self.0.len()) - 1;
        let span = self.0[at].span;
        let tokens = tokens.into_iter().map(|token| TokenWithSpan { token, span });
        self.0.splice(from..to, tokens);
    }

    /// Returns true if a query can begin at this token.
    pub(crate) fn begins_query(&self, place: usize) -> bool {
        let Some(before) = place.checked_sub(1) else { return true };
        match &self.0[before].token {
            Token::LParen => true,
            Token::Word(word) if word.quote_style.is_none() => {
                matches!(
                    word.keyword,
                    Keyword::UNION
                        | Keyword::EXCEPT
                        | Keyword::INTERSECT
                        | Keyword::ALL
                        | Keyword::EXPLAIN
                        | Keyword::DESCRIBE
                        | Keyword::DESC
                        | Keyword::ANALYZE
                ) || (word.keyword == Keyword::AS && is_keyword(&self.0[0].token, Keyword::CREATE))
            }
            _ => false,
        }
    }

    /// Returns the index of the first token, at or after `from`, that is outside of parentheses and
    /// for which `ends` is true. Without such a token, returns the end of the surrounding
    /// parentheses or of the statement.
    pub(crate) fn find(&self, from: usize, ends: impl Fn(&Self, usize) -> bool) -> usize {
        let mut depth = 0_usize;
        for place in from..self.0.len() {
            match self.0[place].token {
                Token::LParen | Token::LBracket => depth += 1,
                Token::RParen | Token::RBracket if depth == 0 => return place,
                Token::RParen | Token::RBracket => depth -= 1,
                Token::SemiColon | Token::EOF => return place,
                _ if depth == 0 && ends(self, place) => return place,
                _ => {}
            }
        }
        self.0.len()
    }

    fn rewrite_at(&mut self, place: usize) {
        match &self.0[place].token {
            Token::Word(word) if word.quote_style.is_none() => match word.keyword {
                Keyword::FROM if self.begins_query(place) => self.add_select(place),
                Keyword::TABLE if self.begins_query(place) => self.table(place),
                Keyword::AS => self.materialized(place),
                Keyword::USING if self.is(place + 1, "SAMPLE") => self.using_sample(place),
                Keyword::TABLESAMPLE => self.table_sample(place),
                Keyword::LIMIT => self.limit_percent(place),
                Keyword::ASOF => self.asof(place),
                Keyword::BY if place > 2 && self.is(place + 1, "NAME") => self.by_name(place),
                Keyword::PIVOT | Keyword::UNPIVOT => pivot_syntax::rewrite(self, place),
                _ => {}
            },
            Token::Mul if self.is(place + 1, "LIKE") => self.star_like(place),
            _ => {}
        }
    }

    /// Adds `SELECT *` before a FROM that begins a query, unless a SELECT follows the FROM clause.
    fn add_select(&mut self, place: usize) {
        let is_end = |words: &StatementTokens, at: usize| {
            ["UNION", "EXCEPT", "INTERSECT"].iter().any(|word| words.is(at, word))
        };
        let end = self.find(place + 1, |words, at| words.is(at, "SELECT") || is_end(words, at));
        if !self.is(end, "SELECT") {
            self.replace(place, place, vec![Token::make_keyword("SELECT"), Token::Mul]);
        }
    }

    fn table(&mut self, place: usize) {
        if let Some(TokenWithSpan { token: Token::Word(_), .. }) = self.0.get(place + 1) {
            let is_describe = place == 1;
            let select = ["SELECT", "FROM"].map(Token::make_keyword);
            let [select, from] = select;
            let tokens = if is_describe { Vec::new() } else { vec![select, Token::Mul, from] };
            self.replace(place, place + 1, tokens);
        }
    }

    fn materialized(&mut self, place: usize) {
        let last = place + 1 + usize::from(self.is(place + 1, "NOT"));
        if self.is(last, "MATERIALIZED") && self.is_token(last + 1, &Token::LParen) {
            self.replace(place + 1, last + 1, Vec::new());
        }
    }

    /// Rewrites `USING SAMPLE` to `SAMPLE (10 PERCENT)` or `SAMPLE (5 ROWS)`. The original size has
    /// the form `10%`, `5 ROWS`, `reservoir(5 ROWS)` or `10% (bernoulli)`.
    fn using_sample(&mut self, place: usize) {
        let is_method = |words: &StatementTokens, at: usize| {
            ["RESERVOIR", "BERNOULLI", "SYSTEM"].iter().any(|name| words.is(at, name))
        };
        let sized = place + 2;
        let (number, has_method) =
            if is_method(self, sized) { (sized + 2, true) } else { (sized, false) };
        if !self.is_number(number) {
            return;
        }
        let quantity = self.0[number].token.clone();
        let is_percent = self.is_token(number + 1, &Token::Mod) || self.is(number + 1, "PERCENT");
        let has_unit = is_percent || self.is(number + 1, "ROWS");
        let mut end = number + 1 + usize::from(has_unit);
        if has_method {
            end += usize::from(self.is_token(end, &Token::RParen));
        } else if self.is_token(end, &Token::LParen)
            && is_method(self, end + 1)
            && self.is_token(end + 2, &Token::RParen)
        {
            end += 3;
        }
        let unit = if is_percent { "PERCENT" } else { "ROWS" };
        let (sample, unit) = (Token::make_keyword("SAMPLE"), Token::make_keyword(unit));
        let tokens = vec![sample, Token::LParen, quantity, unit, Token::RParen];
        self.replace(place, end, tokens);
    }

    /// Rewrites `TABLESAMPLE reservoir(10%)` to `TABLESAMPLE (10 PERCENT)`.
    fn table_sample(&mut self, place: usize) {
        if self.is(place + 1, "RESERVOIR") {
            self.replace(place + 1, place + 2, Vec::new());
        }
        let open = place + 1 + usize::from(!self.is_token(place + 1, &Token::LParen));
        if self.is_token(open, &Token::LParen)
            && self.is_number(open + 1)
            && self.is_token(open + 2, &Token::Mod)
        {
            self.replace(open + 2, open + 3, vec![Token::make_keyword("PERCENT")]);
        }
    }

    fn limit_percent(&mut self, place: usize) {
        let number = place + 1;
        let is_percent = self.is_token(number + 1, &Token::Mod) || self.is(number + 1, "PERCENT");
        if self.is_number(number) && is_percent && self.find(number + 2, |_, _| true) == number + 2
        {
            let is_end = self.0.get(number + 2).is_none_or(|next| {
                matches!(next.token, Token::RParen | Token::SemiColon | Token::EOF)
            });
            if is_end {
                let Token::Number(digits, _) = self.0[number].token.clone() else { return };
                // Write the number as a string, which marks DuckDB's LIMIT: the later rewrite of
                // FETCH then rounds the row count down.
                let quantity = Token::SingleQuotedString(digits);
                let mut tokens: Vec<Token> =
                    ["FETCH", "FIRST", "PERCENT", "ROWS", "ONLY"].map(Token::make_keyword).into();
                tokens.insert(2, quantity);
                self.replace(place, number + 2, tokens);
            }
        }
    }

    /// Adds a match condition to an ASOF JOIN that has none. The condition is [`ASOF_INNER`] or
    /// [`ASOF_LEFT`].
    fn asof(&mut self, place: usize) {
        let is_left = self.is(place + 1, "LEFT");
        let mut join = place + 1 + usize::from(is_left || self.is(place + 1, "INNER"));
        join += usize::from(is_left && self.is(join, "OUTER"));
        if !self.is(join, "JOIN") {
            return;
        }
        self.replace(place + 1, join, Vec::new());
        let condition = self.find(place + 2, |words, at| {
            ["ON", "USING", "MATCH_CONDITION"].iter().any(|word| words.is(at, word))
        });
        if self.is(condition, "ON") || self.is(condition, "USING") {
            let kind = if is_left { ASOF_LEFT } else { ASOF_INNER };
            let kind = Token::make_word(kind, Some('"'));
            let name = Token::make_keyword("MATCH_CONDITION");
            self.replace(condition, condition, vec![name, Token::LParen, kind, Token::RParen]);
        }
    }

    fn by_name(&mut self, place: usize) {
        if self.is(0, "INSERT") && self.find(0, |words, at| words.is(at, "BY")) == place {
            let list = vec![Token::LParen, Token::make_word(BY_NAME, Some('"')), Token::RParen];
            self.replace(place, place + 2, list);
        }
    }

    fn star_like(&mut self, place: usize) {
        let before = place.checked_sub(1).map(|before| &self.0[before].token);
        let is_item = match before {
            Some(Token::Comma | Token::Period) => true,
            Some(token) => is_keyword(token, Keyword::SELECT),
            None => false,
        };
        if let (true, Some(Token::SingleQuotedString(pattern))) =
            (is_item, self.0.get(place + 2).map(|next| &next.token))
        {
            let pattern = Token::SingleQuotedString(format!("{EXACT}{pattern}"));
            self.replace(place + 1, place + 3, vec![Token::make_keyword("ILIKE"), pattern]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token_rewrites::tests::tokens;

    fn check(sql: &str, expected: &str) {
        let words = rewrite(tokens(sql));
        let words: Vec<String> = words.iter().map(|token| token.token.to_string()).collect();
        assert_eq!(words.join(" ").replace('\0', ""), expected, "`{sql}`");
    }

    #[test]
    fn a_query_may_begin_with_from_or_table() {
        check("FROM t WHERE a", "SELECT * FROM t WHERE a");
        check("FROM t SELECT a WHERE b", "FROM t SELECT a WHERE b");
        check("SELECT (FROM t LIMIT 1)", "SELECT ( SELECT * FROM t LIMIT 1 )");
        check("FROM (SELECT 1) UNION FROM u", "SELECT * FROM ( SELECT 1 ) UNION SELECT * FROM u");
        check("TABLE t", "SELECT * FROM t");
        check("DESCRIBE TABLE t", "DESCRIBE t");
        check("DROP TABLE t", "DROP TABLE t");
        check("DELETE FROM t", "DELETE FROM t");
        check("SELECT trim(a FROM b)", "SELECT trim ( a FROM b )");
    }

    #[test]
    fn samples_and_limits_are_written_in_one_way() {
        check("FROM t USING SAMPLE 10%", "SELECT * FROM t SAMPLE ( 10 PERCENT )");
        check("SELECT a FROM t USING SAMPLE 5", "SELECT a FROM t SAMPLE ( 5 ROWS )");
        check(
            "SELECT a FROM t USING SAMPLE reservoir(5 ROWS) b",
            "SELECT a FROM t SAMPLE ( 5 ROWS ) b",
        );
        check("SELECT a FROM t USING SAMPLE 1% (system)", "SELECT a FROM t SAMPLE ( 1 PERCENT )");
        check("t TABLESAMPLE reservoir(10%)", "t TABLESAMPLE ( 10 PERCENT )");
        check("SELECT a LIMIT 10%", "SELECT a FETCH FIRST '10' PERCENT ROWS ONLY");
        check("SELECT a LIMIT 10 % 3", "SELECT a LIMIT 10 % 3");
        check("a JOIN b USING (sample)", "a JOIN b USING ( sample )");
    }

    #[test]
    fn clauses_become_those_that_the_parser_knows() {
        check("x AS NOT MATERIALIZED (SELECT 1)", "x AS ( SELECT 1 )");
        check("t ASOF JOIN u ON a", "t ASOF JOIN u MATCH_CONDITION ( \"inner\" ) ON a");
        check(
            "t ASOF LEFT JOIN (SELECT b) u USING (c)",
            "t ASOF JOIN ( SELECT b ) u MATCH_CONDITION ( \"left\" ) USING ( c )",
        );
        check("INSERT INTO t BY NAME SELECT 1", "INSERT INTO t ( \"by name\" ) SELECT 1");
        check("SELECT * LIKE 'a%' FROM t", "SELECT * ILIKE 'a%' FROM t");
        check("SELECT a * LIKE 'a%'", "SELECT a * LIKE 'a%'");
    }
}
