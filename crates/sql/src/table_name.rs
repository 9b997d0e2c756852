//! Table names in statements: `flights`, `ns.flights`, `"flights@dev"`, `outer.inner.flights` in a
//! nested namespace, `"ns.flights@main@3fa9c1d2"`, `"flights@dev~1"`. Three forms are relative to
//! the catalog state that the statement reads: `"flights~1"`, `"flights*2026-11-01"`, and
//! `"flights#7312"` for an Iceberg snapshot.

use headwater_model::name::{self, LEVEL_SEPARATOR};
use headwater_model::{AncestorDistance, RefSpec};
use sqlparser::ast::{Ident, ObjectName, ObjectNamePart};
use sqlparser::tokenizer::Span;

use crate::error::{Error, Position, Result};

/// A table name as written.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ParsedTableName {
    /// Namespace, if one was written.
    pub namespace: Option<String>,
    /// Table name.
    pub name: String,
    /// Ref, if one was written.
    pub reference: Option<RefSpec>,
    /// Distance back from the catalog state that the statement reads, such as `~1`, if one was
    /// written.
    pub back: Option<AncestorDistance>,
    /// Snapshot id of the table, if one was written.
    pub snapshot: Option<i64>,
}

/// Kind of a ref.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RefKind {
    /// A branch, as AT BRANCH requires.
    Branch,
    /// A tag, as AT TAG requires.
    Tag,
}

impl ParsedTableName {
    /// Parses a table name of the syntax tree.
    pub fn of(written: &ObjectName) -> Result<Self> {
        let idents = idents(written)?;
        let wrong = |message: String| Error::Invalid {
            message,
            hint: Some("Write `table`, `namespace.table` or `\"table@ref\"`.".to_owned()),
            position: position(written),
        };
        let Some((last, before)) = idents.split_last() else {
            return Err(wrong(format!("`{written}` is not the name of a table")));
        };
        if let Some(call) = file_call(last).filter(|_| before.is_empty()) {
            return Err(Error::Invalid {
                message: format!("`{written}` is a file, not the name of a table"),
                hint: Some(format!("Write `{call}`.")),
                position: position(written),
            });
        }
        let last = last.value.as_str();
        let (last, snapshot) = match last.rsplit_once('#') {
            Some((last, id)) => {
                let id = id.parse().map_err(|_| wrong(format!("`{id}` is not a snapshot id")))?;
                (last, Some(id))
            }
            None => (last, None),
        };
        let (path, reference, back) = match last.split_once('@') {
            Some((path, reference)) => (path, Some(reference.parse::<RefSpec>()?), None),
            None => match AncestorDistance::split(last)? {
                Some((path, back)) => (path, None, Some(back)),
                None => (last, None, None),
            },
        };
        // A quoted part may contain several levels: `"a.b".t`, `"a.b.t@dev"`.
        let mut levels: Vec<&str> =
            before.iter().flat_map(|ident| name::levels(&ident.value)).collect();
        let (within, table) = path.rsplit_once(LEVEL_SEPARATOR).unzip();
        levels.extend(within.into_iter().flat_map(name::levels));
        let table = table.unwrap_or(path);
        if table.is_empty() || levels.iter().any(|level| level.is_empty()) {
            return Err(wrong(format!("`{written}` is not the name of a table")));
        }
        let namespace = (!levels.is_empty()).then(|| levels.join("."));
        let name = table.to_owned();
        Ok(ParsedTableName { namespace, name, reference, back, snapshot })
    }

    /// Returns the label of the table: name and ref without the namespace, such as `flights@dev`.
    pub fn label(&self) -> String {
        self.labelled(&self.name)
    }

    /// Returns the label like [`Self::label`], but with `name`, the stored spelling of the table's
    /// name.
    pub fn labelled(&self, name: &str) -> String {
        let reference = self.reference.as_ref().map(|reference| format!("@{reference}"));
        let back = self.back.as_ref().map(ToString::to_string);
        let snapshot = self.snapshot.map(|snapshot| format!("#{snapshot}"));
        let parts = [Some(name.to_owned()), reference, back, snapshot];
        parts.into_iter().flatten().collect()
    }

    /// Creates a name without a namespace, for a table in the catalog state that the statement
    /// reads.
    pub fn unqualified(name: &str) -> Self {
        ParsedTableName {
            namespace: None,
            name: name.to_owned(),
            reference: None,
            back: None,
            snapshot: None,
        }
    }

    /// Returns true if the name refers to the catalog state that the statement reads: it has no
    /// ref, ancestor distance or snapshot.
    pub fn is_here(&self) -> bool {
        self.reference.is_none() && self.back.is_none() && self.snapshot.is_none()
    }
}

impl std::fmt::Display for ParsedTableName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(namespace) = &self.namespace {
            write!(f, "{namespace}.")?;
        }
        f.write_str(&self.label())
    }
}

/// Returns the function call to write instead of a file name in single quotes, for a hint.
fn file_call(name: &Ident) -> Option<String> {
    let path = name.value.as_str();
    let plain = path.strip_suffix(".gz").unwrap_or(path);
    let (_, ending) = plain.rsplit_once('.').filter(|_| name.quote_style == Some('\''))?;
    let function = match ending.to_ascii_lowercase().as_str() {
        "csv" | "tsv" => "read_csv",
        "parquet" => "read_parquet",
        "json" | "ndjson" | "jsonl" => "read_json",
        _ => return None,
    };
    Some(format!("{function}('{path}')"))
}

/// Returns the identifiers of a qualified name.
pub fn idents(name: &ObjectName) -> Result<Vec<&Ident>> {
    let function = || Error::unsupported("a function in place of a name");
    name.0.iter().map(|part| part.as_ident().ok_or_else(function)).collect()
}

/// Returns the namespace that a qualified name denotes, with all its levels.
pub fn namespace_of(name: &ObjectName) -> Result<String> {
    let levels: Vec<&str> = idents(name)?.into_iter().map(|ident| ident.value.as_str()).collect();
    Ok(levels.join("."))
}

/// Returns the position of a qualified name.
pub fn position(name: &ObjectName) -> Option<Position> {
    name.0.first().and_then(ObjectNamePart::as_ident).and_then(|ident| span_start(ident.span))
}

/// Returns the start of a span, if it is known.
pub fn span_start(span: Span) -> Option<Position> {
    let start = span.start;
    (start.line > 0).then_some(Position { line: start.line, column: start.column })
}

#[cfg(test)]
mod tests {
    use headwater_model::ToProblem;

    use super::*;

    fn check(parts: &[&str], expected: &str) {
        let name = ObjectName::from(parts.iter().map(|part| Ident::new(*part)).collect::<Vec<_>>());
        let shown = match ParsedTableName::of(&name) {
            Ok(table) => {
                let place = (&table.back, table.snapshot);
                let place =
                    if place == (&None, None) { String::new() } else { format!(" {place:?}") };
                format!("{:?} {} {:?}{place}", table.namespace, table.name, table.reference)
            }
            Err(error) => error.to_string(),
        };
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_file_name_in_single_quotes_is_an_error_with_the_call_that_reads_the_file() {
        let hint = |path: &str| {
            let name = ObjectName::from(vec![Ident::with_quote('\'', path)]);
            ParsedTableName::of(&name).err().and_then(|error| error.hint())
        };
        assert_eq!(hint("c.csv").as_deref(), Some("Write `read_csv('c.csv')`."));
        assert_eq!(hint("a/b.json.gz").as_deref(), Some("Write `read_json('a/b.json.gz')`."));
        assert_eq!(hint("a.b"), None);
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
        check(&["flights~2"], "None flights None (Some(Commits(2)), None)");
        check(&["ns.flights#-7"], r#"Some("ns") flights None (None, Some(-7))"#);
        check(
            &["flights*2026-11-01"],
            "None flights None (Some(Time(2026-11-01T00:00:00Z)), None)",
        );
        check(
            &["flights@dev~1#7"],
            r#"None flights Some(Before { of: Name("dev"), back: Commits(1) }) (None, Some(7))"#,
        );
        check(&["flights#x"], "`x` is not a snapshot id");
        check(
            &["flights~x"],
            "`flights~x` is not a usable ref: `~` must be followed by a number of commits",
        );
        check(&["a", "b", "c"], r#"Some("a.b") c None"#);
        check(&["a.b", "c"], r#"Some("a.b") c None"#);
        check(&["a", "b.c@v1.0"], r#"Some("a.b") c Some(Name("v1.0"))"#);
        check(&["a", ".c"], "`a..c` is not the name of a table");
        check(&["a", "b", ""], "`a.b.` is not the name of a table");
    }
}
