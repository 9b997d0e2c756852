//! Names of namespaces and tables, and their rules. A namespace has one or more levels, separated
//! by `.`: `sales`, `sales.eu`. A table is `namespace.table`; an unqualified name is in
//! [`DEFAULT_NAMESPACE`]. Levels and table names never contain [`LEVEL_SEPARATOR`], so a name has
//! the same text form in catalog keys, the HTTP API and SQL. Case is preserved; lookups match
//! exactly first, then case-insensitively.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{ErrorCode, ToProblem};

/// Namespace of unqualified table names.
pub const DEFAULT_NAMESPACE: &str = "public";

/// Namespace of the system tables, which is read-only.
pub const SYSTEM_NAMESPACE: &str = "system";

/// Suffix of the names under which the catalog stores SQL functions. Names of tables and views
/// cannot have this suffix.
const FUNCTION_SUFFIX: &str = "()";

/// Maximum length of a name, or of one level of a namespace, in bytes.
pub const NAME_BYTES_MAX: usize = 255;

/// Separator of the levels of a namespace, and of namespace and table.
pub const LEVEL_SEPARATOR: char = '.';

/// Maximum number of levels of a namespace.
pub const NAMESPACE_LEVELS_MAX: usize = 16;

/// Maximum length of a namespace, in bytes.
pub const NAMESPACE_BYTES_MAX: usize = 1024;

/// Formats the kind of a name for messages: `table` becomes `table name`; `ref` and `partition` are
/// unchanged.
fn kind_text(what: &str) -> String {
    if ["ref", "partition"].contains(&what) { what.to_owned() } else { format!("{what} name") }
}

/// An invalid name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is not a usable {}: {reason}", kind_text(what))]
pub struct NameError {
    /// The text that is not a valid name.
    pub name: String,
    /// The kind of name: `table`, `namespace`, `branch`, `tag`, `ref`, `partition`.
    pub what: &'static str,
    /// The violated rule.
    pub reason: &'static str,
}

impl ToProblem for NameError {
    fn code(&self) -> ErrorCode {
        ErrorCode::InvalidName
    }

    fn hint(&self) -> Option<String> {
        let hint = match self.what {
            "branch" | "tag" => {
                "Use letters, digits and `.`, `_`, `-`, `/`, beginning with a letter, a digit or \
                 an underscore, as in `feature/prices`."
            }
            "ref" => {
                "Write a branch or tag such as `main`, a commit of a branch such as \
                 `main@3fa9c1d2`, or a commit such as `@3fa9c1d2`."
            }
            "partition" => "Name a column, as in `origin`, or a transform, as in `day(time)`.",
            _ => "Choose a valid name, as in `orders`, `my-orders` or `sales.orders`.",
        };
        Some(hint.into())
    }
}

/// Characters that names must not contain: they are separators in paths, quotes, or parts of refs
/// such as `t@dev`, `t~2`, `t#7`, `t*2026-11-01`.
const RESERVED: &[char] = &['/', '\\', '"', '`', '@', '#', '~', '*'];

/// Checks a table name, or one level of a namespace: 1 to 255 bytes, without control characters,
/// `.`, [`RESERVED`] characters, or leading or trailing whitespace.
pub fn check_name(name: &str, what: &'static str) -> Result<(), NameError> {
    match broken_rule(name) {
        Some(reason) => Err(NameError { name: name.to_owned(), what, reason }),
        None => Ok(()),
    }
}

fn broken_rule(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        return Some("the name is empty");
    }
    if name.len() > NAME_BYTES_MAX {
        return Some("the name is longer than 255 bytes");
    }
    if name.trim() != name {
        return Some("the name begins or ends with whitespace");
    }
    if name.contains(LEVEL_SEPARATOR) {
        return Some("the name contains `.`, which separates the levels of a namespace");
    }
    if name.contains(RESERVED) {
        return Some("the name contains one of the characters / \\ \" ` @ # ~ *");
    }
    name.chars().any(is_invisible).then_some("the name contains a control character")
}

/// Returns true for control characters, line separators, and marks that change the text direction.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(c, '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Checks a namespace: each level, the number of levels, and the total length.
pub fn check_namespace(namespace: &str) -> Result<(), NameError> {
    let fail = |reason| NameError { name: namespace.to_owned(), what: "namespace", reason };
    if namespace.len() > NAMESPACE_BYTES_MAX {
        return Err(fail("the namespace is longer than 1,024 bytes"));
    }
    if levels(namespace).count() > NAMESPACE_LEVELS_MAX {
        return Err(fail("the namespace has more than 16 levels"));
    }
    match levels(namespace).find_map(broken_rule) {
        Some("the name is empty") if !namespace.is_empty() => {
            Err(fail("the namespace has an empty level"))
        }
        Some(reason) => Err(fail(reason)),
        None => Ok(()),
    }
}

/// Returns the levels of a namespace, the outermost first.
pub fn levels(namespace: &str) -> impl Iterator<Item = &str> + Clone {
    namespace.split(LEVEL_SEPARATOR)
}

/// Joins levels into the name of a namespace. Errors: a level is an invalid name.
pub fn namespace_of(levels: &[impl AsRef<str>]) -> Result<String, NameError> {
    for level in levels {
        check_name(level.as_ref(), "namespace")?;
    }
    let levels: Vec<&str> = levels.iter().map(AsRef::as_ref).collect();
    let namespace = levels.join(".");
    check_namespace(&namespace)?;
    Ok(namespace)
}

/// Returns the parent of a namespace; `None` for a namespace with one level.
pub fn parent(namespace: &str) -> Option<&str> {
    namespace.rsplit_once(LEVEL_SEPARATOR).map(|(parent, _)| parent)
}

/// Returns true if `namespace` is inside `outer`, at any depth; false if they are equal.
pub fn is_within(namespace: &str, outer: &str) -> bool {
    namespace.strip_prefix(outer).is_some_and(|rest| rest.starts_with(LEVEL_SEPARATOR))
}

/// Returns true for [`SYSTEM_NAMESPACE`] and for namespaces inside it.
pub fn is_system(namespace: &str) -> bool {
    levels(namespace).next().is_some_and(|first| first.eq_ignore_ascii_case(SYSTEM_NAMESPACE))
}

/// Returns a dotted name for SQL: each part in double quotes unless it is a plain identifier.
pub fn quoted(name: &str) -> String {
    let part = |part: &str| {
        let first = part.starts_with(|c: char| c.is_alphabetic() || c == '_');
        let plain = first && part.chars().all(|c| c.is_alphanumeric() || c == '_');
        if plain { part.to_owned() } else { format!("\"{}\"", part.replace('"', "\"\"")) }
    };
    levels(name).map(part).collect::<Vec<_>>().join(".")
}

/// The name of a table at a ref: `namespace.name`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableName {
    /// The namespace with all its levels; `public` by default.
    pub namespace: String,
    /// The table.
    pub name: String,
}

impl TableName {
    /// Creates a name after checking it.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Result<Self, NameError> {
        let table = TableName { namespace: namespace.into(), name: name.into() };
        check_namespace(&table.namespace)?;
        check_name(&table.name, "table")?;
        Ok(table)
    }

    /// Creates the catalog name of an SQL function, such as `sales.tax()`.
    pub fn of_function(namespace: impl Into<String>, function: &str) -> Result<Self, NameError> {
        Self::new(namespace, format!("{function}{FUNCTION_SUFFIX}"))
    }

    /// Returns the name of the SQL function without its namespace; `None` for the name of a table
    /// or view.
    pub fn function(&self) -> Option<&str> {
        self.name.strip_suffix(FUNCTION_SUFFIX)
    }

    /// Returns the full name, including the default namespace.
    pub fn qualified(&self) -> String {
        format!("{}.{}", self.namespace, self.name)
    }

    /// Parses a name. The part after the last `.` is the table, the part before it the namespace;
    /// without a `.`, `namespace` is used.
    pub fn parse_in(namespace: &str, text: &str) -> Result<Self, NameError> {
        match text.rsplit_once(LEVEL_SEPARATOR) {
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
    /// Writes the shortest form that can be parsed: without the default namespace.
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
    fn every_kind_of_name_has_its_own_hint() {
        check::<TableName>("x@y", "usable table name", "`my-orders`");
        check::<RefSpec>("main@beef", "usable ref:", "`main@3fa9c1d2`");
        check::<PartitionField>("week(a)", "usable partition:", "`day(time)`");
        let branch = crate::reference::check_ref_name("a b", "branch").expect_err("a blank");
        assert!(branch.hint().is_some_and(|hint| hint.contains("`feature/prices`")));
    }

    #[test]
    fn names_may_have_blanks_hyphens_and_any_script() {
        for name in ["my-orders", "a b", "2024", "日本語", "Ünï", "it's", "50%", "a:b", "-", "👩‍🚀"]
        {
            let table = TableName::new("my-shop.2024.日本", name).expect(name);
            assert_eq!(table.to_string().parse(), Ok(table.clone()), "{name}");
            assert_eq!(table.qualified(), format!("my-shop.2024.日本.{name}"));
        }
    }

    #[test]
    fn names_that_could_be_mistaken_are_refused() {
        let long = "x".repeat(256);
        let bad = [
            "",
            " ",
            " a",
            "a ",
            ".",
            "..",
            "a.b",
            "a/b",
            "a\\b",
            "t@dev",
            "t~2",
            "t#7",
            "t*2026",
            "a\"b",
            "a`b",
            "a\0b",
            "a\nb",
            "a\u{1f}b",
            "a\u{202e}b",
            "\u{feff}a",
            &long,
        ];
        for name in bad {
            check_name(name, "table").expect_err(name);
            assert!(TableName::new("public", name).is_err() && namespace_of(&[name]).is_err());
        }
        for namespace in ["", ".", "a.", ".a", "a..b", &vec!["a"; 17].join(".")] {
            check_namespace(namespace).expect_err(namespace);
        }
        assert!(namespace_of(&[""; 0]).is_err());
        check_namespace(&vec!["a"; 16].join(".")).expect("sixteen levels");
    }

    #[test]
    fn a_name_is_the_text_after_the_last_dot() {
        let table: TableName = "a.b.t".parse().expect("a name");
        assert_eq!((&*table.namespace, &*table.name), ("a.b", "t"));
        assert_eq!(levels("a.b").collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!((parent("a.b.c"), parent("a")), (Some("a.b"), None));
        assert!(is_within("a.b.c", "a.b") && !is_within("a.bc", "a.b"));
        assert!(!is_within("a", "a"));
        assert!(is_system("system") && is_system("System.x") && !is_system("systems"));
        assert_eq!(quoted("my-ns.a b.t_1.2x"), "\"my-ns\".\"a b\".t_1.\"2x\"");
    }
}
