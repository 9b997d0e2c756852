//! `SIMILAR TO`, which DataFusion evaluates as an unanchored regular expression.
//!
//! [`expression_rewrite`](headwater_sql::expression_rewrite) rewrites `a SIMILAR TO b` as a call of
//! [`SIMILAR_TO`]. The function translates SQL's pattern to an anchored regular expression: `%` and
//! `_` as in `LIKE`, and `| * + ? {m,n} ( ) [ ]` as in a regular expression. All other characters
//! are literal.
//!
//! Upstream: <https://github.com/apache/datafusion/issues/22263>

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, BooleanBuilder, StringArray};
use arrow::compute::regexp_is_match_scalar;
use arrow::datatypes::DataType;
use datafusion::common::{DataFusionError, Result, ScalarValue, internal_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use headwater_sql::expression::SIMILAR_TO;

use crate::error::Error;
use headwater_sql::Error as SqlError;

/// Returns the function that evaluates `SIMILAR TO`.
pub(crate) fn function() -> Arc<ScalarUDF> {
    let signature = Signature::any(3, Volatility::Immutable);
    Arc::new(ScalarUDF::from(SimilarTo { signature }))
}

/// `similar_to(text, pattern, escape)`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct SimilarTo {
    signature: Signature,
}

impl ScalarUDFImpl for SimilarTo {
    fn name(&self) -> &'static str {
        SIMILAR_TO
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        match arguments.iter().find(|of| !of.is_string() && !of.is_null()) {
            Some(other) => plan_err!("SIMILAR TO compares text, but one side is {other}"),
            None => Ok(DataType::Boolean),
        }
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = arguments.number_rows;
        let Ok([text, pattern, escape]) = <[ColumnarValue; 3]>::try_from(arguments.args) else {
            return internal_err!("SIMILAR TO takes three values");
        };
        let ColumnarValue::Scalar(escape) = escape.cast_to(&DataType::Utf8, None)? else {
            return internal_err!("the escape character is not constant");
        };
        let escape = escape_of(&escape)?;
        let single =
            matches!((&text, &pattern), (ColumnarValue::Scalar(_), ColumnarValue::Scalar(_)));
        let text =
            text.cast_to(&DataType::Utf8, None)?.into_array(if single { 1 } else { rows })?;
        let matches = match pattern.cast_to(&DataType::Utf8, None)? {
            ColumnarValue::Scalar(ScalarValue::Utf8(Some(pattern))) => {
                matches(text.as_string(), &pattern, escape)?
            }
            ColumnarValue::Scalar(_) => BooleanArray::new_null(text.len()),
            ColumnarValue::Array(patterns) => {
                by_row(text.as_string(), patterns.as_string(), escape)?
            }
        };
        let matches: ArrayRef = Arc::new(matches);
        Ok(if single {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&matches, 0)?)
        } else {
            ColumnarValue::Array(matches)
        })
    }
}

/// Matches the text of each row with its pattern. Consecutive rows with the same pattern share the
/// compiled pattern. Only one compiled pattern is kept, because it may use much memory.
fn by_row(
    text: &StringArray,
    patterns: &StringArray,
    escape: Option<char>,
) -> Result<BooleanArray> {
    let mut found = BooleanBuilder::with_capacity(text.len());
    let mut start = 0;
    while start < text.len() {
        let pattern = patterns.is_valid(start).then(|| patterns.value(start));
        let same = |row: &usize| patterns.is_valid(*row).then(|| patterns.value(*row)) == pattern;
        let end = (start..text.len()).find(|row| !same(row)).unwrap_or(text.len());
        match pattern {
            Some(pattern) => {
                let run = text.slice(start, end - start);
                found.append_array(&matches(&run, pattern, escape)?);
            }
            None => found.append_nulls(end - start),
        }
        start = end;
    }
    Ok(found.finish())
}

fn matches(text: &StringArray, pattern: &str, escape: Option<char>) -> Result<BooleanArray> {
    let regex = translate(pattern, escape).map_err(|reason| invalid(pattern, reason))?;
    regexp_is_match_scalar(text, &regex, None)
        .map_err(|_| invalid(pattern, "a bracket or a repetition is not complete"))
}

fn invalid(pattern: &str, reason: &str) -> DataFusionError {
    let error = Error::Sql(SqlError::Invalid {
        message: format!("the pattern `{pattern}` of SIMILAR TO is not valid: {reason}"),
        hint: Some("Escape a literal special character with a backslash.".to_owned()),
        position: None,
    });
    DataFusionError::External(Box::new(error))
}

fn escape_of(escape: &ScalarValue) -> Result<Option<char>> {
    let ScalarValue::Utf8(Some(text)) = escape else { return Ok(Some('\\')) };
    let mut letters = text.chars();
    let (first, None) = (letters.next(), letters.next()) else {
        return plan_err!("ESCAPE accepts one character, but `{text}` has more");
    };
    Ok(first)
}

/// Translates a pattern to an anchored regular expression.
fn translate(pattern: &str, escape: Option<char>) -> Result<String, &'static str> {
    let mut regex = String::from(r"(?s)\A(?:");
    let mut letters = pattern.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            _ if Some(letter) == escape => {
                push_literal(
                    &mut regex,
                    letters.next().ok_or("the pattern ends with the escape character")?,
                );
            }
            '%' => regex.push_str(".*"),
            '_' => regex.push('.'),
            '(' => regex.push_str("(?:"),
            '{' => {
                regex.push('{');
                while let Some(bound) = letters.next_if(|it| it.is_ascii_digit() || *it == ',') {
                    regex.push(bound);
                }
            }
            '|' | '*' | '+' | '?' | '}' | ')' => regex.push(letter),
            '[' => push_class(&mut regex, &mut letters, escape)?,
            ']' => return Err("`]` closes no bracket"),
            other => push_literal(&mut regex, other),
        }
    }
    regex.push_str(r")\z");
    Ok(regex)
}

/// Appends a bracket expression, such as `[a-z]`, to the regular expression.
fn push_class(
    regex: &mut String,
    letters: &mut std::iter::Peekable<std::str::Chars<'_>>,
    escape: Option<char>,
) -> Result<(), &'static str> {
    const OPEN: &str = "a bracket is not closed";
    regex.push('[');
    if letters.next_if_eq(&'^').is_some() {
        regex.push('^');
    }
    let mut is_first = true;
    loop {
        match letters.next().ok_or(OPEN)? {
            ']' if !is_first => break,
            letter if Some(letter) == escape => push_literal(regex, letters.next().ok_or(OPEN)?),
            '[' if letters.next_if_eq(&':').is_some() => {
                regex.push_str("[:");
                loop {
                    let letter = letters.next().ok_or(OPEN)?;
                    regex.push(letter);
                    if letter == ']' {
                        break;
                    }
                }
            }
            '-' if !regex.ends_with('-') => regex.push('-'),
            letter => push_literal(regex, letter),
        }
        is_first = false;
    }
    regex.push(']');
    Ok(())
}

fn push_literal(regex: &mut String, letter: char) {
    if letter.is_ascii_punctuation() {
        regex.push('\\');
    }
    regex.push(letter);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_the_whole_text() {
        let check = |text: &str, pattern: &str, expected: bool| {
            let text_array = StringArray::from(vec![text]);
            let found = matches(&text_array, pattern, Some('\\')).map(|found| found.value(0));
            assert_eq!(found.ok(), Some(expected), "`{text}` SIMILAR TO `{pattern}`");
        };
        check("abc", "abc", true);
        check("abc", "a", false);
        check("abc", "%(b|d)%", true);
        check("abc", "(b|c)%", false);
        check("abc", "a|b|abc", true);
        check("aaa", "a{2}", false);
        check("aaa", "a{2,}", true);
        check("a.c", "a.c", true);
        check("abc", "a.c", false);
        check("a^$", "a^$", true);
        check("a\nb", "a_b", true);
        check("a%", r"a\%", true);
        check("ab", r"a\%", false);
        check("x-1", "[[:alpha:]]-[^a-z]", true);
        check("&", "[a&&b]", true);
        check("]", "[]]", true);
        check("", "%", true);
        check("", "", true);
    }

    #[test]
    fn a_pattern_that_is_not_complete_is_an_error() {
        for pattern in ["[a", "(a", "a)", "a]", "a\\", "a{2", "*"] {
            let text = StringArray::from(vec!["a"]);
            assert!(matches(&text, pattern, Some('\\')).is_err(), "`{pattern}`");
        }
    }
}
