//! Time travel in the words of other systems: `FOR VERSION AS OF`, `FOR TIMESTAMP AS OF`, `FOR
//! SYSTEM_TIME AS OF`, `AT BRANCH`, `AT (TIMESTAMP => …)`. DataFusion parses some of these and
//! reads the table as it is now. Here each becomes a part of the table's name, which is one thing
//! to honour.

use std::ops::ControlFlow;

use headwater_model::{Back, RefSpec, Timestamp, parse_moment};
use sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName,
    ObjectNamePart, Query, TableFactor, TableVersion, Value, ValueWithSpan, VisitMut, VisitorMut,
};
use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Token, TokenWithSpan};

use crate::error::{Error, NO_VALUE, Position, Result};
use crate::table_name::{RefKind, WrittenTable, position, span_start};
use crate::table_references::Mention;

/// Keywords after AT.
const PLACES: [&str; 7] = ["BRANCH", "TAG", "COMMIT", "REF", "SNAPSHOT", "VERSION", "TIMESTAMP"];

/// Version of a table.
enum Place {
    /// State of a ref.
    Ref(RefSpec, Option<RefKind>),
    /// State at a time, on the statement's ref.
    Time(Timestamp),
    /// Iceberg snapshot.
    Snapshot(i64),
}

/// The value of a constant expression, as far as versions tell values apart.
#[derive(Debug, Clone, PartialEq)]
pub enum Constant {
    /// NULL of any type.
    Null,
    /// Text.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// A date or timestamp; one without a zone is in UTC.
    Moment(Timestamp),
    /// Any other value.
    Other,
}

/// Computes a constant expression; none if it is not constant.
pub type Evaluate<'a> = dyn Fn(Expr) -> Option<Constant> + 'a;

/// Puts the version behind each table of a query into the table's name, and returns these tables.
pub(crate) fn versions_into_names(
    query: &mut Query,
    constants: &Evaluate<'_>,
) -> Result<Vec<Mention>> {
    let mut versions = Versions { constants, mentions: Vec::new() };
    match query.visit(&mut versions) {
        ControlFlow::Break(error) => Err(*error),
        ControlFlow::Continue(()) => Ok(versions.mentions),
    }
}

struct Versions<'a> {
    constants: &'a Evaluate<'a>,
    mentions: Vec<Mention>,
}

impl Versions<'_> {
    fn take(&mut self, name: &mut ObjectName, version: TableVersion) -> Result<()> {
        let position = position(name);
        self.put_into_name(name, version).map_err(|error| error.placed(position))?;
        let table = WrittenTable::of(name).map_err(|error| error.placed(position))?;
        self.mentions.push(Mention { table, position });
        Ok(())
    }
}

impl VisitorMut for Versions<'_> {
    type Break = Box<Error>;

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Box<Error>> {
        if let TableFactor::Table { name, version, args: None, .. } = factor
            && let Some(version) = version.take()
            && let Err(error) = self.take(name, version)
        {
            return ControlFlow::Break(Box::new(error));
        }
        ControlFlow::Continue(())
    }
}

impl Versions<'_> {
    /// Puts a version into a table's name.
    fn put_into_name(&self, name: &mut ObjectName, version: TableVersion) -> Result<()> {
        let at = position(name);
        let place = match version {
            TableVersion::ForSystemTimeAsOf(expr) | TableVersion::TimestampAsOf(expr) => {
                Place::Time(self.moment(expr, at)?)
            }
            TableVersion::VersionAsOf(expr) => self.version_of(expr, at)?,
            TableVersion::Function(Expr::Function(function)) => self.place_of(function, at)?,
            TableVersion::Function(_) => {
                return Err(Error::unsupported("AT (…) or BEFORE (…) after a table"));
            }
            TableVersion::Changes { .. } => {
                return Err(Error::unsupported("CHANGES (…) after a table"));
            }
        };
        let Some(ObjectNamePart::Identifier(ident)) = name.0.last_mut() else {
            return Err(Error::unsupported("a function in the place of a name"));
        };
        if ident.value.contains(['@', '~', '*', '#']) {
            return Err(Error::Invalid {
                message: format!("`{}` says twice which state it means", ident.value),
                hint: Some("Leave one of them out.".to_owned()),
                position: at,
            });
        }
        let suffix = match place {
            Place::Ref(spec, kind) => {
                format!("@{spec}{}", kind.map(RefKind::mark).map(String::from).unwrap_or_default())
            }
            Place::Time(time) => Back::Time(time).to_string(),
            Place::Snapshot(id) => format!("#{id}"),
        };
        let value = format!("{}{suffix}", ident.value);
        *ident = Ident::with_quote_and_span('"', ident.span, value);
        Ok(())
    }

    /// `VERSION AS OF`: a snapshot by its id, or a ref by its name.
    fn version_of(&self, expr: Expr, at: Option<Position>) -> Result<Place> {
        if let Expr::Identifier(ident) = &expr {
            return Ok(Place::Ref(ident.value.parse()?, None));
        }
        match self.value(expr, at)? {
            Constant::Text(text) => Ok(Place::Ref(text.parse()?, None)),
            Constant::Integer(id) => Ok(Place::Snapshot(id)),
            _ => Err(wrong("a version is a snapshot's id or the name of a ref", at)),
        }
    }

    /// `AT (BRANCH => 'dev')` and its like; `BEFORE` is not honoured.
    fn place_of(&self, function: Function, at: Option<Position>) -> Result<Place> {
        let refused = || Error::unsupported("AT (…) or BEFORE (…) after a table");
        if !function.name.to_string().eq_ignore_ascii_case("AT") {
            return Err(refused());
        }
        let FunctionArguments::List(list) = function.args else { return Err(refused()) };
        let [FunctionArg::Named { name, arg: FunctionArgExpr::Expr(expr), operator: _ }] =
            list.args.as_slice()
        else {
            return Err(refused());
        };
        let expr = expr.clone();
        match name.value.to_uppercase().as_str() {
            "VERSION" => self.version_of(expr, at),
            "TIMESTAMP" => Ok(Place::Time(self.moment(expr, at)?)),
            "SNAPSHOT" => match self.version_of(expr, at)? {
                Place::Ref(RefSpec::Name(text), _) => match text.parse() {
                    Ok(id) => Ok(Place::Snapshot(id)),
                    Err(_) => Err(wrong("a snapshot is a number", at)),
                },
                place => Ok(place),
            },
            "REF" => Ok(Place::Ref(self.text(expr, at)?.parse()?, None)),
            "BRANCH" => Ok(Place::Ref(self.text(expr, at)?.parse()?, Some(RefKind::Branch))),
            "TAG" => Ok(Place::Ref(self.text(expr, at)?.parse()?, Some(RefKind::Tag))),
            "COMMIT" => {
                let hash = self.text(expr, at)?;
                Ok(Place::Ref(format!("@{}", hash.trim_start_matches('@')).parse()?, None))
            }
            _ => Err(refused()),
        }
    }

    fn text(&self, expr: Expr, at: Option<Position>) -> Result<String> {
        if let Expr::Identifier(ident) = expr {
            return Ok(ident.value);
        }
        match self.value(expr, at)? {
            Constant::Text(text) => Ok(text),
            _ => Err(wrong("the name of a ref is a text", at)),
        }
    }

    /// Evaluates a constant to a timestamp; one without a zone is in UTC.
    fn moment(&self, expr: Expr, at: Option<Position>) -> Result<Timestamp> {
        let wrong = || {
            let message =
                "the time of a table's version is a timestamp, such as '2026-11-01 12:00:00'";
            wrong(message, at)
        };
        match self.value(expr, at)? {
            Constant::Text(text) => parse_moment(&text).ok_or_else(wrong),
            // A number is milliseconds since 1970, as in Spark and Trino.
            Constant::Integer(millis) => Timestamp::from_timestamp_millis(millis).ok_or_else(wrong),
            Constant::Moment(moment) => Ok(moment),
            Constant::Null | Constant::Other => Err(wrong()),
        }
    }

    fn value(&self, expr: Expr, at: Option<Position>) -> Result<Constant> {
        if let Expr::Value(ValueWithSpan { value: Value::Placeholder(name), span }) = &expr {
            return Err(Error::Parameter {
                name: name.trim_start_matches('$').to_owned(),
                reason: NO_VALUE,
                position: span_start(*span),
            });
        }
        (self.constants)(expr).ok_or_else(|| wrong("the version of a table must be a constant", at))
    }
}

fn wrong(message: &str, position: Option<Position>) -> Error {
    Error::Invalid { message: message.to_owned(), hint: None, position }
}

/// Rewrites the forms that sqlparser does not read into those that it does: `FOR VERSION AS OF
/// 'v1'` and `AT BRANCH dev` become `AT (…)`, and `FOR TIMESTAMP AS OF` loses its FOR.
pub fn rewrite(tokens: &mut Vec<TokenWithSpan>) {
    let mut index = 0;
    while index < tokens.len() {
        rewrite_at(tokens, index);
        index += 1;
    }
}

fn rewrite_at(tokens: &mut Vec<TokenWithSpan>, index: usize) {
    let words = next_words(tokens, index, 6);
    let is = |place: usize, text: &str| {
        words.get(place).is_some_and(|&word| is_word(&tokens[word].token, text))
    };
    let first = usize::from(is(0, "FOR"));
    let as_of = is(first + 1, "AS") && is(first + 2, "OF");
    if as_of && (is(first, "VERSION") || is(first, "SYSTEM_VERSION")) {
        let Some(&value) = words.get(first + 3) else { return };
        let end = end_of_value(tokens, value);
        replace(tokens, words[0]..end, "VERSION", value);
    } else if as_of && first == 1 && is(1, "TIMESTAMP") {
        tokens.remove(words[0]);
    } else if is(0, "AT")
        && let Some(place) = PLACES.iter().find(|place| is(1, place))
        && let Some(&value) = words.get(2)
        // An alias may be called `at`, and `AT TIMESTAMP` may be two columns' names in a row.
        && matches!(
            tokens[value].token,
            Token::Word(_) | Token::Number(..) | Token::SingleQuotedString(_)
        )
        && follows_table(tokens, words[0])
    {
        let end = end_of_value(tokens, value);
        replace(tokens, words[0]..end, place, value);
    }
}

/// Returns true if the preceding token is a name, so the following tokens may be a table version.
fn follows_table(tokens: &[TokenWithSpan], index: usize) -> bool {
    let before = tokens[..index].iter().rev();
    let word = before.map(|t| &t.token).find(|token| !matches!(token, Token::Whitespace(_)));
    matches!(word, Some(Token::Word(word)) if word.quote_style.is_some()
        || word.keyword == Keyword::NoKeyword
        || !matches!(word.keyword, Keyword::FROM | Keyword::SELECT | Keyword::AS | Keyword::BY))
}

/// Returns the indexes of the next words, without whitespace.
fn next_words(tokens: &[TokenWithSpan], from: usize, count: usize) -> Vec<usize> {
    let words = (from..tokens.len()).filter(|&i| !matches!(tokens[i].token, Token::Whitespace(_)));
    let words: Vec<usize> = words.take(count).collect();
    if words.first() == Some(&from) { words } else { Vec::new() }
}

fn is_word(token: &Token, text: &str) -> bool {
    matches!(token, Token::Word(word)
        if word.quote_style.is_none() && word.value.eq_ignore_ascii_case(text))
}

/// Where a value ends that may be written without quotes: `feature/x`, `3fa9c1d2`, `dev~1`, `-7`.
fn end_of_value(tokens: &[TokenWithSpan], value: usize) -> usize {
    if matches!(tokens[value].token, Token::SingleQuotedString(_)) {
        return value + 1;
    }
    let belongs = |token: &Token| {
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
    let end = (value..tokens.len()).find(|&i| !belongs(&tokens[i].token)).unwrap_or(tokens.len());
    end.max(value + 1)
}

/// Puts `AT (WHAT => 'value')` in the place of some words.
fn replace(
    tokens: &mut Vec<TokenWithSpan>,
    range: std::ops::Range<usize>,
    what: &str,
    value: usize,
) {
    let given = &tokens[value..range.end];
    let number = |one: &[TokenWithSpan]| matches!(one, [t] if matches!(t.token, Token::Number(..)));
    let negative =
        matches!(given, [minus, rest @ ..] if minus.token == Token::Minus && number(rest));
    let kept = given.len() == 1 && matches!(given[0].token, Token::SingleQuotedString(_));
    let numeric = matches!(what, "VERSION" | "SNAPSHOT" | "TIMESTAMP");
    let value: Vec<Token> = if kept || numeric && (number(given) || negative) {
        given.iter().map(|token| token.token.clone()).collect()
    } else {
        let text = given.iter().map(|token| match &token.token {
            Token::Word(word) => word.value.clone(),
            other => other.to_string(),
        });
        vec![Token::SingleQuotedString(text.collect())]
    };
    let span = tokens[range.start].span;
    let mut made =
        vec![Token::make_keyword("AT"), Token::LParen, Token::make_word(what, None), Token::RArrow];
    made.extend(value);
    made.push(Token::RParen);
    let made = made.into_iter().map(|token| TokenWithSpan { token, span });
    tokens.splice(range, made);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::tokens;

    fn check(sql: &str, expected: &str) {
        let mut words = tokens(sql).unwrap();
        rewrite(&mut words);
        let text: String = words.iter().map(|token| token.token.to_string()).collect();
        assert_eq!(text, expected);
    }

    #[test]
    fn versions_are_written_in_one_way() {
        check("FROM t FOR VERSION AS OF 12 WHERE a", "FROM t AT(VERSION=>12) WHERE a");
        check("FROM t VERSION AS OF -12", "FROM t AT(VERSION=>-12)");
        check("FROM t FOR VERSION AS OF 'v1' AS x", "FROM t AT(VERSION=>'v1') AS x");
        check("FROM t FOR SYSTEM_VERSION AS OF v1.0", "FROM t AT(VERSION=>'v1.0')");
        check("FROM t AT BRANCH feature/x-1, u", "FROM t AT(BRANCH=>'feature/x-1'), u");
        check("FROM t AT COMMIT 3fa9c1d2)", "FROM t AT(COMMIT=>'3fa9c1d2'))");
        check("FROM t AT REF dev~1", "FROM t AT(REF=>'dev~1')");
        check("FROM t AT SNAPSHOT 7", "FROM t AT(SNAPSHOT=>7)");
        check("FROM t FOR TIMESTAMP AS OF '2026'", "FROM t  TIMESTAMP AS OF '2026'");
        check("FROM t at JOIN u", "FROM t at JOIN u");
        check("SELECT at FROM t", "SELECT at FROM t");
    }
}
