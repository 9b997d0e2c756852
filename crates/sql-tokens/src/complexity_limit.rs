//! Limits on the length of operator chains.
//!
//! The depth of the tree of `a + b + c` is the length of the chain, and planning recurses over the
//! tree. The parser's own limit counts only nested brackets, so operators are counted in the tokens
//! before parsing.

use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Location, Token, TokenWithSpan};

use crate::token_rewrites::is_keyword;

/// Maximum number of `AND` and `OR` in one condition.
const CONDITIONS_MAX: usize = 2_000;

/// Maximum number of other operators in one expression.
const OPERATORS_MAX: usize = 300;

/// Maximum number of joins and set operations at one level of parentheses.
const JOINED_MAX: usize = 300;

/// Maximum number of operators between two commas. The counts of conditions and of other operators
/// start again at keywords such as WHERE. A name can be mistaken for such a keyword, so the count
/// for this limit does not start again.
const TOTAL_MAX: usize = 10_000;

/// The position of the next token in the statement. The position determines the meaning of a word
/// or a star.
#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum ParseState {
    /// At the start of a list: a star means all columns.
    #[default]
    Start,
    /// Before a value or name: any word is a name.
    Name,
    /// After `AS`: a word is a name, except for the SELECT of CREATE TABLE AS.
    Alias,
    /// After a value: a word is a keyword, and a star is the multiplication operator.
    Behind,
}

/// The counts of operators and joins so far at one bracket level.
#[derive(Default)]
struct BracketCounts {
    conditions: usize,
    operators: usize,
    total: usize,
    joined: usize,
    place: ParseState,
    is_from: bool,
    is_case: bool,
}

impl BracketCounts {
    /// Returns the counts with which the inside of a CASE begins: the current counts, because the
    /// word CASE may also be a column name within a chain of operators.
    fn of_case(&self) -> Self {
        Self { place: ParseState::Start, is_from: false, is_case: true, ..*self }
    }

    /// Takes over the counts of a CASE that has ended, if they are larger.
    fn close(&mut self, case: &Self) {
        self.conditions = self.conditions.max(case.conditions);
        self.operators = self.operators.max(case.operators);
        self.total = self.total.max(case.total);
        self.joined = self.joined.max(case.joined);
        self.place = ParseState::Behind;
    }

    fn begin_clause(&mut self, is_from: bool) {
        (self.conditions, self.operators, self.is_from) = (0, 0, is_from);
    }

    fn count_operator(&mut self) {
        self.operators += 1;
        self.total += 1;
        self.place = ParseState::Name;
    }

    fn take(&mut self, token: &Token) {
        match token {
            Token::Whitespace(_) => {}
            Token::SemiColon => *self = Self::default(),
            Token::Comma => {
                self.joined += usize::from(self.is_from);
                self.total = 0;
                self.begin_clause(self.is_from);
                self.place = ParseState::Start;
            }
            Token::Word(word) if word.quote_style.is_none() => self.take_word(word.keyword),
            Token::Period => self.place = ParseState::Name,
            Token::Mul if self.place != ParseState::Behind => self.place = ParseState::Behind,
            other if joins_nothing(other) => self.place = ParseState::Behind,
            _ => self.count_operator(),
        }
    }

    fn take_word(&mut self, keyword: Keyword) {
        match keyword {
            Keyword::IS
            | Keyword::IN
            | Keyword::LIKE
            | Keyword::ILIKE
            | Keyword::SIMILAR
            | Keyword::BETWEEN
            | Keyword::AT
            | Keyword::COLLATE
            | Keyword::DIV
            | Keyword::NOT => self.count_operator(),
            Keyword::AS => self.place = ParseState::Alias,
            Keyword::OVER | Keyword::ESCAPE | Keyword::INTERVAL | Keyword::PRIOR => {
                self.place = ParseState::Name;
            }
            Keyword::SELECT if self.place == ParseState::Alias && !self.is_from => {
                self.take_keyword(keyword);
            }
            _ if matches!(self.place, ParseState::Name | ParseState::Alias) => {
                self.take_name(keyword);
            }
            _ => self.take_keyword(keyword),
        }
    }

    /// Reads a word at a position where a name is expected. Counts JOIN, UNION and similar words
    /// even at this position.
    fn take_name(&mut self, keyword: Keyword) {
        self.is_from |= keyword == Keyword::FROM;
        let puts_together = matches!(
            keyword,
            Keyword::JOIN | Keyword::UNION | Keyword::EXCEPT | Keyword::INTERSECT
        );
        self.joined += usize::from(puts_together);
        self.place = ParseState::Behind;
    }

    fn take_keyword(&mut self, keyword: Keyword) {
        self.place = ParseState::Behind;
        match keyword {
            Keyword::AND | Keyword::OR | Keyword::XOR => {
                self.conditions += 1;
                self.total += 1;
                self.operators = 0;
                self.place = ParseState::Name;
            }
            Keyword::UNION | Keyword::EXCEPT | Keyword::INTERSECT => {
                self.joined += 1;
                self.begin_clause(false);
            }
            Keyword::JOIN => {
                self.joined += 1;
                self.begin_clause(true);
            }
            Keyword::FROM => self.begin_clause(true),
            Keyword::SELECT | Keyword::DISTINCT | Keyword::ALL | Keyword::RETURNING => {
                self.begin_clause(false);
                self.place = ParseState::Start;
            }
            Keyword::WHERE
            | Keyword::BY
            | Keyword::HAVING
            | Keyword::WHEN
            | Keyword::THEN
            | Keyword::ELSE => self.begin_clause(false),
            // ON begins the condition of a join if it occurs in FROM; the FROM clause may continue
            // after it.
            Keyword::ON => self.begin_clause(self.is_from),
            _ => {}
        }
    }

    /// Returns the first exceeded limit and its description.
    fn excess(&self) -> Option<(&'static str, usize)> {
        [
            ("ANDs and ORs in one condition", self.conditions, CONDITIONS_MAX),
            ("operators in one expression", self.operators, OPERATORS_MAX),
            ("operators between two commas", self.total, TOTAL_MAX),
            ("joined tables or set operations", self.joined, JOINED_MAX),
        ]
        .into_iter()
        .find_map(|(what, count, most)| (count > most).then_some((what, most)))
    }
}

fn joins_nothing(token: &Token) -> bool {
    matches!(
        token,
        Token::Word(_)
            | Token::EOF
            | Token::LParen
            | Token::RParen
            | Token::RBracket
            | Token::RBrace
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

/// The error for a statement whose syntax tree would be too deep to plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ComplexityError {
    /// Description of the counted parts, such as joins.
    pub what: &'static str,
    /// The limit that is exceeded.
    pub most: usize,
    /// The position of the token at which the limit is exceeded.
    pub at: Location,
}

/// Rejects a statement whose syntax tree would be too deep to plan.
pub fn check_complexity(tokens: &[TokenWithSpan]) -> Result<(), ComplexityError> {
    let mut levels = vec![BracketCounts::default()];
    for TokenWithSpan { token, span } in tokens {
        if let Some(level) = levels.last_mut() {
            level.take(token);
            if let Some((what, most)) = level.excess() {
                return Err(ComplexityError { what, most, at: span.start });
            }
        }
        match (levels.last(), token) {
            (Some(level), token) if is_keyword(token, Keyword::CASE) => {
                levels.push(level.of_case());
            }
            (Some(level), token) if level.is_case && is_keyword(token, Keyword::END) => {
                end_case(&mut levels);
            }
            (_, Token::LParen | Token::LBracket | Token::LBrace) => {
                levels.push(BracketCounts::default());
            }
            (_, Token::RParen | Token::RBracket | Token::RBrace) => close_bracket(&mut levels),
            _ => {}
        }
    }
    Ok(())
}

/// Ends a CASE, which is counted separately, like a bracket level.
fn end_case(levels: &mut Vec<BracketCounts>) {
    let case = levels.pop_if(|level| level.is_case);
    if let (Some(case), Some(outer)) = (case, levels.last_mut()) {
        outer.close(&case);
    }
}

fn close_bracket(levels: &mut Vec<BracketCounts>) {
    while levels.last().is_some_and(|level| level.is_case) {
        end_case(levels);
    }
    if levels.len() > 1 {
        levels.pop();
    }
    if let Some(outer) = levels.last_mut() {
        outer.place = ParseState::Behind;
    }
}
