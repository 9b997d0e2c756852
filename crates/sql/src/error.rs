//! Errors in the text of a statement.
//!
//! Messages name the offending word in backticks and, where it is known, its line and column.

use std::collections::BTreeMap;
use std::fmt;

use headwater_model::{ErrorCode, ToProblem};
use serde_json::{Value, json};
use sqlparser::parser::ParserError;

use crate::parse::syntax;

/// A result with the error type of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The reason in [`Error::Parameter`] if a parameter has no value.
pub(crate) const NO_VALUE: &str = "has no value";

/// A position in a statement's text. Both numbers count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Number of the line.
    pub line: u64,
    /// Number of the column, in characters.
    pub column: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// Formats an optional position, to append it to a message.
#[derive(Debug)]
pub struct PositionSuffix<'a>(pub &'a Option<Position>);

impl fmt::Display for PositionSuffix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(position) => write!(f, " ({position})"),
            None => Ok(()),
        }
    }
}

/// An error in the text of a statement.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A name that breaks the naming rules.
    #[error(transparent)]
    Name(#[from] headwater_model::NameError),
    /// Text that cannot be parsed as SQL.
    #[error("{message}{}", PositionSuffix(position))]
    Syntax {
        /// Syntax that the parser expected, and the token that it found.
        message: String,
        /// A suggestion for correcting the statement, if there is one.
        hint: Option<String>,
        /// Position in the text, if known.
        position: Option<Position>,
    },
    /// An unsupported statement or clause.
    #[error("{what} is not supported{}", PositionSuffix(position))]
    Unsupported {
        /// The statement or clause, as written.
        what: String,
        /// The supported alternative, if there is one.
        hint: Option<String>,
        /// Position in the text, if known.
        position: Option<Position>,
    },
    /// A column that does not exist in the searched tables.
    #[error("column `{column}` is not in {}{}", sources(relations), PositionSuffix(position))]
    ColumnNotFound {
        /// The column as written.
        column: String,
        /// The tables that were searched.
        relations: Vec<String>,
        /// A column with a similar name, if there is one.
        near: Option<String>,
        /// Position in the text, if known.
        position: Option<Position>,
    },
    /// A name in double quotes that is not a column; it may have been meant as a string.
    #[error("column `{name}` is not in {}{}", sources(relations), PositionSuffix(position))]
    TextInDoubleQuotes {
        /// The name as written.
        name: String,
        /// The tables that were searched.
        relations: Vec<String>,
        /// Position in the text, if known.
        position: Option<Position>,
    },
    /// A name that matches several objects.
    #[error(
        "`{name}` is ambiguous: it matches {}{}",
        alternatives(candidates),
        PositionSuffix(position)
    )]
    Ambiguous {
        /// The name as written.
        name: String,
        /// The objects that the name matches.
        candidates: Vec<String>,
        /// Position in the text, if known.
        position: Option<Position>,
    },
    /// SQL that can be parsed but not planned.
    #[error("{message}{}", PositionSuffix(position))]
    Invalid {
        /// Description of the error.
        message: String,
        /// A suggestion for correcting the statement, if there is one.
        hint: Option<String>,
        /// Position in the text, if known.
        position: Option<Position>,
    },
    /// A parameter without a value, or with a value that cannot be written as a literal.
    #[error("parameter `${name}` {reason}{}", PositionSuffix(position))]
    Parameter {
        /// Name of the parameter, without the dollar sign.
        name: String,
        /// Reason why the parameter cannot be bound.
        reason: &'static str,
        /// Position in the text, if known.
        position: Option<Position>,
    },
    /// An internal error of this crate, which is a bug.
    #[error("the statement failed inside the engine: {message}")]
    Internal {
        /// Description of the error.
        message: String,
    },
}

fn sources(relations: &[String]) -> String {
    match relations {
        [] => "scope here".to_owned(),
        [one] => format!("`{one}`"),
        many => alternatives(many),
    }
}

fn alternatives(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}

impl Error {
    /// Creates an error for an unsupported statement or clause.
    pub fn unsupported(what: impl Into<String>) -> Self {
        Error::Unsupported { what: what.into(), hint: None, position: None }
    }

    /// Creates an error for SQL that cannot be planned; `message` is the reason.
    pub fn invalid(message: impl Into<String>) -> Self {
        Error::Invalid { message: message.into(), hint: None, position: None }
    }

    /// Returns the position of the error in the text, if known.
    pub fn position(&self) -> Option<Position> {
        match self {
            Error::Syntax { position, .. }
            | Error::Unsupported { position, .. }
            | Error::ColumnNotFound { position, .. }
            | Error::Ambiguous { position, .. }
            | Error::Invalid { position, .. }
            | Error::TextInDoubleQuotes { position, .. }
            | Error::Parameter { position, .. } => *position,
            Error::Name(_) | Error::Internal { .. } => None,
        }
    }

    /// Returns the error with this position, unless it already has one.
    #[must_use]
    pub fn placed(mut self, at: Option<Position>) -> Self {
        if let Error::ColumnNotFound { position, .. }
        | Error::Invalid { position, .. }
        | Error::Unsupported { position, .. } = &mut self
            && position.is_none()
        {
            *position = at;
        }
        self
    }
}

impl From<ParserError> for Error {
    fn from(error: ParserError) -> Self {
        syntax(error)
    }
}

impl ToProblem for Error {
    fn code(&self) -> ErrorCode {
        match self {
            Error::Name(error) => error.code(),
            Error::Syntax { .. } | Error::Ambiguous { .. } | Error::Invalid { .. } => {
                ErrorCode::InvalidSql
            }
            Error::Unsupported { .. } => ErrorCode::UnsupportedStatement,
            Error::ColumnNotFound { .. } | Error::TextInDoubleQuotes { .. } => {
                ErrorCode::ColumnNotFound
            }
            Error::Parameter { .. } => ErrorCode::InvalidArgument,
            Error::Internal { .. } => ErrorCode::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Error::Name(error) => error.hint(),
            Error::Unsupported { hint, .. }
            | Error::Invalid { hint, .. }
            | Error::Syntax { hint, .. } => hint.clone(),
            Error::ColumnNotFound { near, .. } => {
                near.as_ref().map(|near| format!("Did you mean `{near}`?"))
            }
            Error::TextInDoubleQuotes { name, .. } => {
                let text = name.replace('\'', "''");
                Some(format!("Write text in single quotes: `'{text}'`."))
            }
            Error::Ambiguous { .. } => {
                Some("Write the name exactly as it is spelled in the table.".to_owned())
            }
            Error::Parameter { name, reason: NO_VALUE, .. } => Some(format!(
                "Set the parameter with `headwater query --param {name}=VALUE`, or in \
                 `parameters` of the request."
            )),
            Error::Parameter { .. } => Some("Use text, a number, true, false or null.".to_owned()),
            Error::Internal { .. } => None,
        }
    }

    fn context(&self) -> BTreeMap<String, Value> {
        let position = self.position().into_iter();
        let entries = position.flat_map(|position| {
            [
                ("line".to_owned(), json!(position.line)),
                ("column".to_owned(), json!(position.column)),
            ]
        });
        entries.collect()
    }
}
