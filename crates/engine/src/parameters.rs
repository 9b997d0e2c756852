//! `$name` parameters of a statement, put in as literals of their types before it is parsed.

use std::collections::BTreeMap;

use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};
use serde_json::Value;

use crate::error::{Error, NO_VALUE, Position, Result};
use crate::sql::parse::tokens;
use crate::sql::table_name::span_start;

/// The statement with every `$name` replaced by its value: text as a string literal, whole numbers
/// as integers, other numbers as doubles, true and false, null. Lines stay where they are, unless a
/// text holds line breaks. A parameter without a value is an error with its place.
pub fn substitute(sql: &str, parameters: &BTreeMap<String, Value>) -> Result<String> {
    let mut text = String::with_capacity(sql.len());
    let lines: Vec<&str> = sql.split_inclusive('\n').collect();
    let mut done = 0;
    for (name, token) in parameters_in(sql)? {
        let position = span_start(token.span);
        let value = parameters.get(&name).ok_or_else(|| Error::Parameter {
            name: name.clone(),
            reason: NO_VALUE,
            position,
        })?;
        let literal = literal(value).ok_or_else(|| Error::Parameter {
            name,
            reason: "is no single value",
            position,
        })?;
        let begin = offset(&lines, span_start(token.span));
        text.push_str(&sql[done..begin]);
        text.push_str(&literal);
        done = begin + token.token.to_string().len();
    }
    text.push_str(&sql[done..]);
    Ok(text)
}

/// The parameters that a statement names, each once, in the order of the text.
pub fn placeholders(sql: &str) -> Result<Vec<(String, Position)>> {
    let mut found: Vec<(String, Position)> = Vec::new();
    for (name, token) in parameters_in(sql)? {
        if let Some(position) = span_start(token.span)
            && !found.iter().any(|(known, _)| *known == name)
        {
            found.push((name, position));
        }
    }
    Ok(found)
}

fn parameters_in(sql: &str) -> Result<Vec<(String, TokenWithSpan)>> {
    let name = |token: TokenWithSpan| match &token.token {
        Token::Placeholder(text) => {
            let name = text.strip_prefix('$').filter(|name| !name.is_empty())?.to_owned();
            Some((name, token))
        }
        _ => None,
    };
    Ok(tokens(sql)?.into_iter().filter_map(name).collect())
}

/// The byte at which a line and column lie.
fn offset(lines: &[&str], position: Option<Position>) -> usize {
    let Some(Position { line, column }) = position else { return 0 };
    let line = (line as usize).saturating_sub(1);
    let before: usize = lines.iter().take(line).map(|line| line.len()).sum();
    let within = lines.get(line).map_or(0, |line| {
        line.char_indices()
            .nth((column as usize).saturating_sub(1))
            .map_or(line.len(), |(at, _)| at)
    });
    before + within
}

fn literal(value: &Value) -> Option<String> {
    match value {
        Value::Null => Some("NULL".to_owned()),
        Value::Bool(true) => Some("TRUE".to_owned()),
        Value::Bool(false) => Some("FALSE".to_owned()),
        Value::String(text) => Some(format!("'{}'", text.replace('\'', "''"))),
        // In parentheses, since `1 -$n` must not become a comment.
        Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(whole), _, _) => Some(format!("({whole})")),
            (None, Some(whole), _) => Some(format!("({whole})")),
            (None, None, Some(real)) => Some(format!("CAST('{real:?}' AS DOUBLE)")),
            (None, None, None) => None,
        },
        Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(sql: &str, expected: &str) {
        let values = [
            ("city", json!("O'Hare")),
            ("n", json!(-5)),
            ("rate", json!(0.5)),
            ("on", json!(true)),
            ("list", json!([1])),
        ];
        let values = values.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let shown = substitute(sql, &values).unwrap_or_else(|error| error.to_string());
        assert_eq!(shown, expected);
    }

    #[test]
    fn parameters_become_literals_of_their_types() {
        check("SELECT 1 -$n", "SELECT 1 -(-5)");
        check("WHERE ä = $city AND b > $rate", "WHERE ä = 'O''Hare' AND b > CAST('0.5' AS DOUBLE)");
        check("SELECT $on,\n  $n", "SELECT TRUE,\n  (-5)");
        check("SELECT '$n' -- $n\n, $n", "SELECT '$n' -- $n\n, (-5)");
    }

    #[test]
    fn a_parameter_without_a_single_value_is_an_error_with_its_place() {
        check("SELECT\n $nothing", "parameter `$nothing` has no value (line 2, column 2)");
        check("SELECT $list", "parameter `$list` is no single value (line 1, column 8)");
    }

    #[test]
    fn placeholders_are_listed_once() {
        let names: Vec<String> = placeholders("SELECT $a, $b, '$c', $a")
            .unwrap()
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        assert_eq!(names, ["a", "b"]);
    }
}
