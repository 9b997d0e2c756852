//! A table as a statement names it: `flights`, `ns.flights`, `"flights@dev"`,
//! `"ns.flights@main@3fa9c1d2"`.

use datafusion::sql::sqlparser::ast::{Ident, ObjectName, ObjectNamePart};
use datafusion::sql::sqlparser::tokenizer::Span;
use headwater_model::RefSpec;

use crate::error::{Error, Position, Result};

/// A table's name as written.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct WrittenTable {
    /// The namespace, if one was written.
    pub namespace: Option<String>,
    /// The table.
    pub name: String,
    /// The ref, if one was written.
    pub reference: Option<RefSpec>,
}

impl WrittenTable {
    /// Reads a table's name out of the tree.
    pub(crate) fn of(name: &ObjectName) -> Result<Self> {
        let idents = idents(name)?;
        let wrong = |message: String| Error::Invalid {
            message,
            hint: Some("Write `table`, `namespace.table` or `\"table@ref\"`.".to_owned()),
            position: position(name),
        };
        let (last, before) = match idents.as_slice() {
            [table] => (table.value.as_str(), None),
            [namespace, table] => (table.value.as_str(), Some(namespace.value.clone())),
            _ => return Err(wrong(format!("`{name}` has more than a namespace and a table"))),
        };
        let (path, reference) = match last.split_once('@') {
            Some((path, reference)) => (path, Some(reference.parse::<RefSpec>()?)),
            None => (last, None),
        };
        let (namespace, table) = match (before, path.split_once('.')) {
            (Some(namespace), None) => (Some(namespace), path),
            (None, Some((namespace, table))) => (Some(namespace.to_owned()), table),
            (None, None) => (None, path),
            (Some(_), Some(_)) => {
                return Err(wrong(format!("`{name}` has more than a namespace and a table")));
            }
        };
        if table.is_empty() || namespace.as_ref().is_some_and(String::is_empty) {
            return Err(wrong(format!("`{name}` names no table")));
        }
        Ok(WrittenTable { namespace, name: table.to_owned(), reference })
    }

    /// The name and ref without the namespace, as it labels columns: `flights` or `flights@dev`.
    pub(crate) fn label(&self) -> String {
        match &self.reference {
            Some(reference) => format!("{}@{reference}", self.name),
            None => self.name.clone(),
        }
    }
}

impl std::fmt::Display for WrittenTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(namespace) = &self.namespace {
            write!(f, "{namespace}.")?;
        }
        f.write_str(&self.label())
    }
}

/// The identifiers of a dotted name.
pub(crate) fn idents(name: &ObjectName) -> Result<Vec<&Ident>> {
    let function = || Error::unsupported("a function in the place of a name");
    name.0.iter().map(|part| part.as_ident().ok_or_else(function)).collect()
}

/// Where a dotted name begins.
pub(crate) fn position(name: &ObjectName) -> Option<Position> {
    name.0.first().and_then(ObjectNamePart::as_ident).and_then(|ident| span_start(ident.span))
}

/// The beginning of a span, if it is known.
pub(crate) fn span_start(span: Span) -> Option<Position> {
    let start = span.start;
    (start.line > 0).then_some(Position { line: start.line, column: start.column })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(parts: &[&str], expected: &str) {
        let name = ObjectName::from(parts.iter().map(|part| Ident::new(*part)).collect::<Vec<_>>());
        let shown = match WrittenTable::of(&name) {
            Ok(table) => format!("{:?} {} {:?}", table.namespace, table.name, table.reference),
            Err(error) => error.to_string(),
        };
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_table_may_carry_its_namespace_and_its_ref() {
        check(&["flights"], "None flights None");
        check(&["ns", "flights"], r#"Some("ns") flights None"#);
        check(&["flights@dev"], r#"None flights Some(Name("dev"))"#);
        check(&["ns.flights@v1.0"], r#"Some("ns") flights Some(Name("v1.0"))"#);
        check(
            &["flights@main@3fa9c1d2"],
            r#"None flights Some(At { name: "main", hash: "3fa9c1d2" })"#,
        );
        check(&["flights@@3fa9c1d2"], r#"None flights Some(Commit("3fa9c1d2"))"#);
        check(&["a", "b", "c"], "`a.b.c` has more than a namespace and a table");
    }
}
