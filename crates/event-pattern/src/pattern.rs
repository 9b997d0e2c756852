//! A pattern: conditions on the fields of an event.
//!
//! All fields of a pattern must match, each by one of its conditions. A field that is an array
//! matches if one of its items does. Conditions on several fields of objects in one array must be
//! fulfilled by the same object.

use serde_json::{Map, Value};

use crate::error::{PatternError, excerpt};
use crate::matcher::Matcher;

/// The field name for a list of alternative patterns.
const OR: &str = "$or";

/// Limits of a pattern.
const DEPTH_MAX: usize = 16;
const CONDITIONS_MAX: usize = 1_000;

/// A pattern of events.
#[derive(Debug, Clone, PartialEq)]
pub struct Pattern {
    pub(crate) fields: Vec<(String, FieldPattern)>,
    /// The patterns of `$or`, at least one of which must match; empty without `$or`.
    pub(crate) alternatives: Vec<Pattern>,
}

/// The pattern of a field.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum FieldPattern {
    /// Conditions, at least one of which must hold.
    Value(Vec<Matcher>),
    Object(Pattern),
}

impl Pattern {
    /// Parses a pattern.
    pub fn parse(value: &Value) -> Result<Self, PatternError> {
        Parser { conditions: 0 }.object("", value, 1)
    }

    /// Returns true if an event matches.
    pub fn matches(&self, event: &Value) -> bool {
        self.matches_value(Some(event))
    }

    fn matches_value(&self, value: Option<&Value>) -> bool {
        match value {
            Some(Value::Array(items)) if !items.is_empty() => {
                items.iter().any(|item| self.matches_value(Some(item)))
            }
            Some(Value::Object(fields)) => self.matches_fields(Some(fields)),
            _ => self.matches_fields(None),
        }
    }

    fn matches_fields(&self, values: Option<&Map<String, Value>>) -> bool {
        let is_match = |(name, field): &(String, FieldPattern)| {
            let value = values.and_then(|values| values.get(name));
            match field {
                FieldPattern::Object(pattern) => pattern.matches_value(value),
                FieldPattern::Value(matchers) => matches_leaf(matchers, value),
            }
        };
        self.fields.iter().all(is_match)
            && (self.alternatives.is_empty()
                || self.alternatives.iter().any(|one| one.matches_fields(values)))
    }
}

/// Returns true if a value, or at least one item of an array, fulfils at least one condition.
fn matches_leaf(matchers: &[Matcher], value: Option<&Value>) -> bool {
    let mut leaves = Vec::new();
    if let Some(value) = value {
        collect(value, &mut leaves);
    }
    matchers.iter().any(|matcher| match matcher {
        Matcher::Exists(exists) => leaves.is_empty() != *exists,
        matcher => leaves.iter().any(|leaf| matcher.matches(leaf)),
    })
}

/// Collects the values in nested arrays that are neither arrays nor objects.
fn collect<'a>(value: &'a Value, leaves: &mut Vec<&'a Value>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect(item, leaves)),
        Value::Object(_) => {}
        leaf => leaves.push(leaf),
    }
}

struct Parser {
    /// Number of conditions that were parsed so far, which is limited.
    conditions: usize,
}

impl Parser {
    fn object(&mut self, path: &str, value: &Value, depth: usize) -> Result<Pattern, PatternError> {
        let hint = "Write a pattern such as `{ subject = [{ suffix = \".csv\" }] }`.";
        let Value::Object(map) = value else {
            return Err(PatternError::new(path, "is not an object", hint));
        };
        if map.is_empty() {
            return Err(PatternError::new(path, "is a pattern without fields", hint));
        }
        if depth > DEPTH_MAX {
            let reason = format!("is nested more than {DEPTH_MAX} levels deep");
            return Err(PatternError::new("the pattern", reason, "Remove some of the levels."));
        }
        let mut pattern = Pattern { fields: Vec::new(), alternatives: Vec::new() };
        for (name, value) in map {
            if name == OR {
                pattern.alternatives = self.alternatives(path, value, depth)?;
                continue;
            }
            let path = joined(path, &excerpt(name));
            let field = match value {
                Value::Array(items) => FieldPattern::Value(self.conditions(&path, items)?),
                Value::Object(_) => FieldPattern::Object(self.object(&path, value, depth + 1)?),
                _ => {
                    let hint = "Write the values in an array, such as `[\"a\"]`.";
                    return Err(PatternError::new(&path, "is neither array nor object", hint));
                }
            };
            pattern.fields.push((name.clone(), field));
        }
        Ok(pattern)
    }

    fn conditions(&mut self, path: &str, items: &[Value]) -> Result<Vec<Matcher>, PatternError> {
        if items.is_empty() {
            let hint = "Name a value, or use `{ exists = true }`.";
            return Err(PatternError::new(path, "has no values, so nothing matches", hint));
        }
        self.conditions += items.len();
        if self.conditions > CONDITIONS_MAX {
            let reason = format!("exceeds the limit of {CONDITIONS_MAX} conditions of a pattern");
            return Err(PatternError::new(path, reason, "Use `prefix` or `wildcard`."));
        }
        items.iter().map(|item| Matcher::parse(path, item)).collect()
    }

    fn alternatives(
        &mut self,
        path: &str,
        value: &Value,
        depth: usize,
    ) -> Result<Vec<Pattern>, PatternError> {
        let path = joined(path, OR);
        let items = value.as_array().filter(|items| items.len() > 1).ok_or_else(|| {
            let hint = "Write the patterns in an array.";
            PatternError::new(&path, "needs at least two patterns", hint)
        })?;
        items.iter().map(|item| self.object(&path, item, depth + 1)).collect()
    }
}

pub(crate) fn joined(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}
