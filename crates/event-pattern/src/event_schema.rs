//! The known structure of events, used to find patterns that cannot match.

use serde_json::Value;

use crate::error::{PatternError, excerpt};
use crate::matcher::Matcher;
use crate::pattern::{FieldPattern, Pattern, joined};

/// The structure of a value. A value may also be an array of such values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValueSchema {
    /// Any string.
    Text,
    /// One of these strings.
    OneOf(Vec<String>),
    /// A number that is not negative.
    Count,
    /// An object with only these fields.
    Object(Vec<FieldSchema>),
    /// Any value. If it is an object, it may have any fields.
    Any,
}

/// A field of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldSchema {
    /// The field's name.
    pub name: &'static str,
    /// The structure of the field's value.
    pub shape: ValueSchema,
    /// True if the field may be missing.
    pub is_optional: bool,
}

impl FieldSchema {
    /// Creates a field that is never missing.
    pub fn new(name: &'static str, shape: ValueSchema) -> Self {
        FieldSchema { name, shape, is_optional: false }
    }

    /// Creates a field that may be missing.
    pub fn optional(name: &'static str, shape: ValueSchema) -> Self {
        FieldSchema { name, shape, is_optional: true }
    }
}

impl Pattern {
    /// Checks that each condition of the pattern can be met by an event with this structure.
    pub fn check(&self, shape: &ValueSchema) -> Result<(), PatternError> {
        self.check_fields("", shape)
    }

    fn check_fields(&self, path: &str, shape: &ValueSchema) -> Result<(), PatternError> {
        let ValueSchema::Object(known) = shape else {
            let hint = format!("Write the values of `{path}` in an array.");
            return Err(PatternError::new(path, "has no fields", hint));
        };
        for (name, field) in &self.fields {
            let path = joined(path, &excerpt(name));
            let Some(found) = known.iter().find(|one| one.name == name) else {
                let names: Vec<&str> = known.iter().map(|one| one.name).collect();
                let hint = format!("The fields are `{}`.", names.join("`, `"));
                return Err(PatternError::new(&path, "is not a field of these events", hint));
            };
            match (field, &found.shape) {
                (FieldPattern::Object(_), ValueSchema::Any) => {}
                (FieldPattern::Object(pattern), shape) => pattern.check_fields(&path, shape)?,
                (FieldPattern::Value(_), ValueSchema::Object(fields)) => {
                    let name = fields.first().map_or("", |one| one.name);
                    let hint = format!("Name a field of the object, such as `{path}.{name}`.");
                    return Err(PatternError::new(&path, "is an object, not a value", hint));
                }
                (FieldPattern::Value(matchers), _) => {
                    if let Some(wrong) = matchers.iter().find(|one| !one.is_possible(found)) {
                        return Err(impossible(&path, wrong, found));
                    }
                }
            }
        }
        self.alternatives.iter().try_for_each(|one| one.check_fields(path, shape))
    }
}

impl Matcher {
    /// Returns true if the field can have a value that fulfils the condition.
    fn is_possible(&self, field: &FieldSchema) -> bool {
        if let Matcher::Exists(exists) = self {
            return *exists || field.is_optional;
        }
        match &field.shape {
            ValueSchema::OneOf(texts) => {
                texts.iter().any(|text| self.matches(&text.as_str().into()))
            }
            ValueSchema::Text => match self {
                Matcher::Exact(value) => value.is_string(),
                Matcher::AnythingBut(excluded) => !excluded.iter().any(Matcher::matches_all_texts),
                Matcher::Text(_) | Matcher::Cidr(_) | Matcher::Exists(_) => true,
                Matcher::Numeric(_) => false,
            },
            ValueSchema::Count => match self {
                Matcher::Exact(value) => value.as_f64().is_some_and(|number| number >= 0.0),
                Matcher::Numeric(range) => range.reaches_zero(),
                Matcher::AnythingBut(_) | Matcher::Exists(_) => true,
                Matcher::Text(_) | Matcher::Cidr(_) => false,
            },
            ValueSchema::Object(_) => false,
            ValueSchema::Any => true,
        }
    }
}

fn impossible(path: &str, matcher: &Matcher, field: &FieldSchema) -> PatternError {
    let condition = match matcher {
        Matcher::Exact(value) => format!("is never `{}`", excerpt(&value_text(value))),
        Matcher::Exists(_) => "always exists".to_owned(),
        _ => "has a condition that no event meets".to_owned(),
    };
    let hint = match &field.shape {
        ValueSchema::OneOf(texts) => {
            format!("The values of this field are `{}`.", texts.join("`, `"))
        }
        ValueSchema::Count => {
            "This field is a non-negative number; write a number or `numeric`.".into()
        }
        _ => "This field is a string: write a string, or an operator such as `prefix`.".into(),
    };
    PatternError::new(path, condition, hint)
}

fn value_text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
