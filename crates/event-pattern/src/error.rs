//! The error of a pattern.

/// The reason why a pattern is rejected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{reason}", if path.is_empty() { String::new() } else { format!("`{path}` ") })]
pub struct PatternError {
    /// The path of the field that has the fault, such as `data.object.size`; empty for the whole
    /// pattern.
    pub path: String,
    /// The reason. A message contains it after the path.
    pub reason: String,
    /// A suggested correction.
    pub hint: String,
}

impl PatternError {
    pub(crate) fn new(path: &str, reason: impl Into<String>, hint: impl Into<String>) -> Self {
        PatternError { path: path.to_owned(), reason: reason.into(), hint: hint.into() }
    }
}

/// Returns the beginning of a user-supplied text, for messages.
pub(crate) fn excerpt(text: &str) -> String {
    text.chars().take(60).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
