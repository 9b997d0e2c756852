//! Conditions on one value.

use serde_json::{Map, Value};

use crate::cidr::Cidr;
use crate::error::{PatternError, excerpt};
use crate::number_range::NumberRange;
use crate::wildcard::Wildcard;

/// Names of the operators.
const OPERATORS: &str = "`prefix`, `suffix`, `anything-but`, `numeric`, `exists`, \
                         `equals-ignore-case`, `wildcard` or `cidr`";

/// Maximum length of a string in a condition, in bytes.
const TEXT_BYTES_MAX: usize = 4_096;

/// Maximum number of values in an `anything-but`.
const EXCLUDED_MAX: usize = 1_000;

/// A condition on a value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Matcher {
    /// The value is this string, number, boolean or null.
    Exact(Value),
    Text(TextMatcher),
    /// The value matches none of these conditions.
    AnythingBut(Vec<Matcher>),
    Numeric(NumberRange),
    /// With true, the field must be present; with false, it must be missing.
    Exists(bool),
    Cidr(Cidr),
}

/// A condition on a string.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TextMatcher {
    Prefix(String),
    Suffix(String),
    /// The operators with `IgnoreCase` compare strings in lower case.
    PrefixIgnoreCase(String),
    SuffixIgnoreCase(String),
    EqualsIgnoreCase(String),
    Wildcard(Wildcard),
}

impl Matcher {
    /// Parses a condition of the field `path`.
    pub(crate) fn parse(path: &str, value: &Value) -> Result<Self, PatternError> {
        match value {
            Value::Object(fields) => operator(path, fields),
            Value::Array(_) => {
                let hint = "Write the values in one array.";
                Err(PatternError::new(path, "has an array inside an array", hint))
            }
            Value::String(_) => {
                text(path, value)?;
                Ok(Matcher::Exact(value.clone()))
            }
            scalar => Ok(Matcher::Exact(scalar.clone())),
        }
    }

    /// Returns true if a scalar value fulfils the condition.
    pub(crate) fn matches(&self, value: &Value) -> bool {
        match self {
            Matcher::Exact(expected) => is_equal(expected, value),
            Matcher::Text(matcher) => value.as_str().is_some_and(|text| matcher.matches(text)),
            Matcher::AnythingBut(excluded) => !excluded.iter().any(|one| one.matches(value)),
            Matcher::Numeric(range) => value.as_f64().is_some_and(|number| range.contains(number)),
            Matcher::Exists(exists) => *exists,
            Matcher::Cidr(cidr) => value.as_str().is_some_and(|text| cidr.contains(text)),
        }
    }

    /// Returns true if every string fulfils the condition, for example the wildcard `*`.
    pub(crate) fn matches_all_texts(&self) -> bool {
        let Matcher::Text(matcher) = self else { return false };
        match matcher {
            TextMatcher::Prefix(text)
            | TextMatcher::Suffix(text)
            | TextMatcher::PrefixIgnoreCase(text)
            | TextMatcher::SuffixIgnoreCase(text) => text.is_empty(),
            TextMatcher::Wildcard(wildcard) => wildcard.matches_all(),
            TextMatcher::EqualsIgnoreCase(_) => false,
        }
    }
}

impl TextMatcher {
    fn matches(&self, text: &str) -> bool {
        match self {
            TextMatcher::Prefix(prefix) => text.starts_with(prefix.as_str()),
            TextMatcher::Suffix(suffix) => text.ends_with(suffix.as_str()),
            TextMatcher::PrefixIgnoreCase(prefix) => {
                text.to_lowercase().starts_with(prefix.as_str())
            }
            TextMatcher::SuffixIgnoreCase(suffix) => text.to_lowercase().ends_with(suffix.as_str()),
            TextMatcher::EqualsIgnoreCase(other) => text.to_lowercase() == *other,
            TextMatcher::Wildcard(wildcard) => wildcard.matches(text),
        }
    }
}

/// Compares scalars. `1` and `1.0` are the same number.
fn is_equal(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => {
            let is_integer = |number: &serde_json::Number| number.is_i64() || number.is_u64();
            if is_integer(one) && is_integer(other) {
                return one == other;
            }
            // Compare the bits, so that numbers are equal only if they are exactly equal.
            one.as_f64().map(f64::to_bits) == other.as_f64().map(f64::to_bits)
        }
        _ => one == other,
    }
}

fn operator(path: &str, fields: &Map<String, Value>) -> Result<Matcher, PatternError> {
    let mut names = fields.iter();
    let (Some((name, value)), None) = (names.next(), names.next()) else {
        let hint = format!("Write one object for each condition, with {OPERATORS}.");
        let reason = format!("has a condition with {} operators, instead of one", fields.len());
        return Err(PatternError::new(path, reason, hint));
    };
    match name.as_str() {
        "numeric" => NumberRange::parse(value).map(Matcher::Numeric).map_err(|(reason, hint)| {
            PatternError::new(path, format!("has a `numeric` that {reason}"), hint)
        }),
        "exists" => value.as_bool().map(Matcher::Exists).ok_or_else(|| {
            let hint = "Write `{ exists = true }` or `{ exists = false }`.";
            PatternError::new(path, "has an `exists` that is not a boolean", hint)
        }),
        "cidr" => {
            let range = value.as_str().and_then(Cidr::parse);
            range.map(Matcher::Cidr).ok_or_else(|| {
                let hint = "Write a range such as `10.0.0.0/24` or `2001:db8::/32`.";
                PatternError::new(path, "has a `cidr` that is not a range of addresses", hint)
            })
        }
        "anything-but" => anything_but(path, value),
        "prefix" | "suffix" | "equals-ignore-case" | "wildcard" => {
            text_operator(path, name, value).map(Matcher::Text)
        }
        other => {
            let reason = format!("has the unknown operator `{}`", excerpt(other));
            Err(PatternError::new(path, reason, format!("Use {OPERATORS}.")))
        }
    }
}

/// Parses an operator that applies to strings.
fn text_operator(path: &str, name: &str, value: &Value) -> Result<TextMatcher, PatternError> {
    let ignores_case = value
        .as_object()
        .filter(|_| matches!(name, "prefix" | "suffix"))
        .filter(|fields| fields.len() == 1)
        .and_then(|fields| fields.get("equals-ignore-case"));
    if let Some(value) = ignores_case {
        let lower = text(path, value)?.to_lowercase();
        return Ok(match name {
            "prefix" => TextMatcher::PrefixIgnoreCase(lower),
            _ => TextMatcher::SuffixIgnoreCase(lower),
        });
    }
    let text = text(path, value)?;
    Ok(match name {
        "prefix" => TextMatcher::Prefix(text.to_owned()),
        "suffix" => TextMatcher::Suffix(text.to_owned()),
        "equals-ignore-case" => TextMatcher::EqualsIgnoreCase(text.to_lowercase()),
        _ => TextMatcher::Wildcard(Wildcard::parse(text).map_err(|reason| {
            let reason = format!("has the wildcard `{}`, which {reason}", excerpt(text));
            PatternError::new(path, reason, "Escape `*` and `\\` with `\\`.")
        })?),
    })
}

/// Parses `anything-but`: a value, values of one type, or an operator on strings.
fn anything_but(path: &str, value: &Value) -> Result<Matcher, PatternError> {
    let hint = "Write strings, numbers, or an operator such as `{ prefix = \"a\" }`.";
    let malformed = |reason: &str| PatternError::new(path, reason, hint);
    let excluded = match value {
        Value::Array(items) => items.iter().map(|item| excluded(path, item)).collect(),
        Value::Object(fields) => {
            let mut names = fields.iter();
            let (Some((name, value)), None) = (names.next(), names.next()) else {
                let count = fields.len();
                let reason =
                    format!("has an `anything-but` with {count} operators, instead of one");
                return Err(malformed(&reason));
            };
            if !matches!(name.as_str(), "prefix" | "suffix" | "equals-ignore-case" | "wildcard") {
                let reason = format!("has an `anything-but` with the operator `{}`", excerpt(name));
                return Err(malformed(&format!("{reason}, which is unknown")));
            }
            let values = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
            let parse = |value| text_operator(path, name, value).map(Matcher::Text);
            values.iter().map(parse).collect()
        }
        scalar => excluded(path, scalar).map(|one| vec![one]),
    };
    let excluded: Vec<Matcher> = excluded?;
    if excluded.is_empty() || excluded.len() > EXCLUDED_MAX {
        let reason = format!("needs 1 to {EXCLUDED_MAX} values in `anything-but`");
        return Err(malformed(&reason));
    }
    let is_text = |one: &Matcher| matches!(one, Matcher::Exact(Value::String(_)));
    let is_number = |one: &Matcher| matches!(one, Matcher::Exact(Value::Number(_)));
    if excluded.iter().any(is_text) && excluded.iter().any(is_number) {
        return Err(malformed("has an `anything-but` with both strings and numbers"));
    }
    Ok(Matcher::AnythingBut(excluded))
}

fn excluded(path: &str, value: &Value) -> Result<Matcher, PatternError> {
    match value {
        Value::String(_) | Value::Number(_) => Matcher::parse(path, value),
        _ => {
            let reason = "has an `anything-but` that is neither a string nor a number";
            let hint = "Write strings, numbers, or an operator such as `{ prefix = \"a\" }`.";
            Err(PatternError::new(path, reason, hint))
        }
    }
}

fn text<'a>(path: &str, value: &'a Value) -> Result<&'a str, PatternError> {
    let text = value.as_str().ok_or_else(|| {
        PatternError::new(path, "has an operator whose value is not a string", "Write a string.")
    })?;
    if text.len() > TEXT_BYTES_MAX {
        let reason = format!("has a string that is longer than {TEXT_BYTES_MAX} bytes");
        return Err(PatternError::new(path, reason, "Shorten the string."));
    }
    Ok(text)
}
