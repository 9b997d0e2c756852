//! COPY … TO a file: the rows of a query or a table, written to a file outside the lake.
//!
//! The engine does not execute this statement. Its caller runs the query and writes the rows.

use headwater_model::FileFormat;
use sqlparser::ast::{CopyOption, CopySource, CopyTarget, Ident, SetExpr, Statement};

use crate::error::{Error, Result};
use crate::parse::parse_one;
use crate::prepared_statement::ParsedStatement;

/// The file of a COPY … TO.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyToStatement {
    /// The path or URL as written.
    pub location: String,
    /// Format of the file.
    pub format: FileFormat,
}

/// Returns true if a statement is COPY … TO a file.
pub(crate) fn is_copy_to(statement: &Statement) -> bool {
    matches!(statement, Statement::Copy { to: true, target: CopyTarget::File { .. }, .. })
}

/// Returns the query and the file of a COPY … TO; `None` for any other statement.
pub(crate) fn copy_to(statement: &Statement) -> Result<Option<(ParsedStatement, CopyToStatement)>> {
    let Statement::Copy { source, to: true, target, options, legacy_options, .. } = statement
    else {
        return Ok(None);
    };
    let CopyTarget::File { filename } = target else { return Ok(None) };
    if let Some(option) = legacy_options.first() {
        return Err(invalid(format!("the option `{option}` of COPY is not supported")));
    }
    let format = format_of(filename, options)?;
    let query = match source {
        CopySource::Query(query) if is_change(&query.body) => {
            let message = "COPY … TO of a statement that changes a table is not supported";
            let hint = Some("Write a query between the parentheses.".to_owned());
            return Err(Error::Invalid { message: message.to_owned(), hint, position: None });
        }
        CopySource::Query(query) => ParsedStatement::Other {
            statement: Box::new(Statement::Query(query.clone())),
            view: None,
        },
        CopySource::Table { table_name, columns } => {
            let names: Vec<String> = columns.iter().map(Ident::to_string).collect();
            let list = if names.is_empty() { "*".to_owned() } else { names.join(", ") };
            parse_one(&format!("SELECT {list} FROM {table_name}"))?
        }
    };
    Ok(Some((query, CopyToStatement { location: filename.clone(), format })))
}

/// Returns true if the body of a query is an INSERT, UPDATE, DELETE or MERGE. The parser accepts
/// these statements where a query is expected.
pub fn is_change(body: &SetExpr) -> bool {
    match body {
        SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => true,
        SetExpr::Query(query) => is_change(&query.body),
        _ => false,
    }
}

/// Returns the format given by the options, or else by the file's suffix.
fn format_of(location: &str, options: &[CopyOption]) -> Result<FileFormat> {
    let mut named = None;
    for option in options {
        match option {
            CopyOption::Format(name) => {
                let unknown = || format!("the format `{}` of COPY is not supported", name.value);
                named = Some(format_named(&name.value).ok_or_else(|| invalid(unknown()))?);
            }
            CopyOption::Header(true) | CopyOption::Delimiter(',') => {}
            other => return Err(invalid(format!("the option `{other}` of COPY is not supported"))),
        }
    }
    let suffix = || location.rsplit_once('.').and_then(|(_, suffix)| format_named(suffix));
    named.or_else(suffix).ok_or_else(|| {
        invalid(format!("the file name `{location}` has no suffix of a known format"))
    })
}

/// Returns the format with this name, which is also the suffix of the format's files.
fn format_named(name: &str) -> Option<FileFormat> {
    match name.to_ascii_lowercase().as_str() {
        "parquet" => Some(FileFormat::Parquet),
        "csv" => Some(FileFormat::Csv),
        "json" | "jsonl" | "ndjson" => Some(FileFormat::Ndjson),
        "arrow" | "arrows" => Some(FileFormat::Arrow),
        _ => None,
    }
}

fn invalid(message: String) -> Error {
    let hint = "Add `(FORMAT parquet)`, or `csv`, `json` or `arrow`.".to_owned();
    Error::Invalid { message, hint: Some(hint), position: None }
}
