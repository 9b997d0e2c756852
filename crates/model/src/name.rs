//! Names of namespaces and tables, and the rules both obey.
//!
//! A table is `namespace.table`; a bare name lies in [`DEFAULT_NAMESPACE`]. Case is kept and matched as
//! written first; matching without case is the reader's affair, not the name's.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{ErrorCode, Fault};

/// Where a bare table name lies.
pub const DEFAULT_NAMESPACE: &str = "public";

/// The namespace that holds Headwater's own tables; nobody writes there.
pub const SYSTEM_NAMESPACE: &str = "system";

/// The longest name, in bytes.
pub const NAME_BYTES_MAX: usize = 255;

/// `table name`, and `ref`, which has a form of its own.
fn thing(what: &str) -> String {
    if ["ref", "partition"].contains(&what) { what.to_owned() } else { format!("{what} name") }
}

/// A name that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is not a usable {}: {reason}", thing(what))]
pub struct NameError {
    /// The text as given.
    pub name: String,
    /// What it was to name: `table`, `namespace`, `branch`, `tag`, `ref`, `partition`.
    pub what: &'static str,
    /// The rule it breaks.
    pub reason: &'static str,
}

impl Fault for NameError {
    fn code(&self) -> ErrorCode {
        ErrorCode::InvalidName
    }

    fn hint(&self) -> Option<String> {
        let hint = match self.what {
            "branch" | "tag" => {
                "Use letters, digits and `.`, `_`, `-`, `/`, beginning with a letter, a digit or an \
                 underscore, as in `feature/prices`."
            }
            "ref" => {
                "Name a branch or a tag, a commit of one as in `main@3fa9c1d2`, or a commit alone as \
                 in `@3fa9c1d2`."
            }
            "partition" => "Name a column, as in `origin`, or the day of one, as in `day(time)`.",
            _ => "Use letters, digits and underscores, beginning with a letter or an underscore.",
        };
        Some(hint.into())
    }
}

/// Checks one part of a table's name: letters (any script), digits and `_`, no digit first.
pub fn check_identifier(name: &str, what: &'static str) -> Result<(), NameError> {
    let fail = |reason| Err(NameError { name: name.to_owned(), what, reason });
    let Some(first) = name.chars().next() else { return fail("it is empty") };
    if name.len() > NAME_BYTES_MAX {
        return fail("it is longer than 255 bytes");
    }
    if !(first.is_alphabetic() || first == '_') {
        return fail("it does not begin with a letter or an underscore");
    }
    if !name.chars().all(|c| c.is_alphanumeric() || c == '_') {
        return fail("it has a character that is no letter, digit or underscore");
    }
    Ok(())
}

/// A table's name within a ref: `namespace.name`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableName {
    /// The namespace, `public` where none was written.
    pub namespace: String,
    /// The table.
    pub name: String,
}

impl TableName {
    /// A checked name.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Result<Self, NameError> {
        let table = TableName { namespace: namespace.into(), name: name.into() };
        check_identifier(&table.namespace, "namespace")?;
        check_identifier(&table.name, "table")?;
        Ok(table)
    }

    /// The name with its namespace, whichever that is.
    pub fn qualified(&self) -> String {
        format!("{}.{}", self.namespace, self.name)
    }

    /// A name as written, in `namespace` where it carries none of its own.
    pub fn parse_in(namespace: &str, text: &str) -> Result<Self, NameError> {
        match text.split_once('.') {
            Some((namespace, name)) => Self::new(namespace, name),
            None => Self::new(namespace, text),
        }
    }
}

impl FromStr for TableName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::parse_in(DEFAULT_NAMESPACE, text)
    }
}

impl fmt::Display for TableName {
    /// The shortest form that reads back: without the default namespace.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace == DEFAULT_NAMESPACE {
            f.write_str(&self.name)
        } else {
            write!(f, "{}.{}", self.namespace, self.name)
        }
    }
}

impl Serialize for TableName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TableName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{PartitionField, RefSpec};

    fn check<T: FromStr<Err = NameError> + fmt::Debug>(text: &str, message: &str, hint: &str) {
        let error = text.parse::<T>().expect_err("no usable name");
        assert!(error.to_string().contains(message), "{error}");
        assert!(error.hint().is_some_and(|given| given.contains(hint)), "{error:?}");
    }

    #[test]
    fn every_kind_of_name_has_a_hint_of_its_own() {
        check::<TableName>("x y", "usable table name", "letters, digits and underscores");
        check::<RefSpec>("main@beef", "usable ref:", "`main@3fa9c1d2`");
        check::<PartitionField>("week(a)", "usable partition:", "`day(time)`");
        let branch = crate::reference::check_ref_name("a b", "branch").expect_err("a blank");
        assert!(branch.hint().is_some_and(|hint| hint.contains("`feature/prices`")));
    }
}
