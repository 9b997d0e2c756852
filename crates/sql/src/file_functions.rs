//! Table functions that read files: `read_csv('s3://bucket/key.csv')`.
//!
//! [`take`] replaces each call by the name of a relation. Before the statement is planned, the
//! caller registers the rows of the files under this name. This module opens no file.

use std::ops::ControlFlow;

use headwater_model::FileFormat;
use sqlparser::ast::{
    Array, BinaryOperator, Expr, FunctionArg, FunctionArgExpr, Ident, ObjectName, ObjectNamePart,
    Statement, TableAlias, TableFactor, TableFunctionArgs, Value, ValueWithSpan, VisitMut,
    VisitorMut,
};

use crate::error::{Error, Result};
use crate::table_name::position;

/// Names of the functions, with the format that they read.
const FUNCTIONS: [(&str, FileFormat); 8] = [
    ("read_csv", FileFormat::Csv),
    ("read_csv_auto", FileFormat::Csv),
    ("read_parquet", FileFormat::Parquet),
    ("parquet_scan", FileFormat::Parquet),
    ("read_json", FileFormat::Ndjson),
    ("read_json_auto", FileFormat::Ndjson),
    ("read_ndjson", FileFormat::Ndjson),
    ("read_ndjson_auto", FileFormat::Ndjson),
];

/// A call of a table function that reads files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileCall {
    /// Name of the relation that replaces the call.
    pub relation: String,
    /// Paths and URLs of the files.
    pub sources: Vec<String>,
    /// Format of the files.
    pub format: FileFormat,
    /// CSV only: true if the first line has the names of the columns; true by default.
    pub header: Option<bool>,
    /// CSV only: the delimiter; detected by default.
    pub delimiter: Option<char>,
}

/// Replaces each call of a function that reads files, such as `read_csv`, by a relation. Returns
/// the calls. The calls in a CREATE VIEW remain, because the view is stored as text.
pub(crate) fn take(statement: &mut Statement) -> Result<Vec<FileCall>> {
    let mut taken = FileCallCollector::default();
    if !matches!(statement, Statement::CreateView(_))
        && let ControlFlow::Break(error) = statement.visit(&mut taken)
    {
        return Err(*error);
    }
    Ok(taken.calls)
}

#[derive(Default)]
struct FileCallCollector {
    calls: Vec<FileCall>,
}

impl VisitorMut for FileCallCollector {
    type Break = Box<Error>;

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Box<Error>> {
        let TableFactor::Table { name, alias, args, .. } = factor else {
            return ControlFlow::Continue(());
        };
        let (Some(written), Some((function, format))) = (args.as_ref(), function(name)) else {
            return ControlFlow::Continue(());
        };
        match self.call(name, written, format) {
            Ok(call) => {
                let relation = Ident { quote_style: Some('"'), ..Ident::new(&call.relation) };
                let span = name.0.first().and_then(ObjectNamePart::as_ident).map(|it| it.span);
                let span = span.unwrap_or(relation.span);
                *name = ObjectName::from(vec![Ident { span, ..relation }]);
                *args = None;
                alias.get_or_insert_with(|| TableAlias {
                    explicit: true,
                    name: Ident::new(function),
                    columns: Vec::new(),
                    at: None,
                });
                self.calls.push(call);
                ControlFlow::Continue(())
            }
            Err(error) => ControlFlow::Break(Box::new(error)),
        }
    }
}

impl FileCallCollector {
    fn call(
        &self,
        name: &ObjectName,
        written: &TableFunctionArgs,
        format: FileFormat,
    ) -> Result<FileCall> {
        let refused = |message: String| Error::Invalid {
            message,
            hint: Some(
                "Write the path or URL of a file, or a list of them, as in \
                 `read_csv('data.csv', header = true, delim = ';')`."
                    .to_owned(),
            ),
            position: position(name),
        };
        let relation = format!("rows of file {}", self.calls.len() + 1);
        let mut call =
            FileCall { relation, sources: Vec::new(), format, header: None, delimiter: None };
        for (index, argument) in written.args.iter().enumerate() {
            match option(argument) {
                None if index == 0 => {
                    let sources = sources(argument);
                    call.sources = sources.ok_or_else(|| {
                        refused(format!("the path in `{name}` must be a text literal"))
                    })?;
                }
                Some(("header", Value::Boolean(header))) if format == FileFormat::Csv => {
                    call.header = Some(*header);
                }
                Some(("delim" | "delimiter" | "sep", Value::SingleQuotedString(text)))
                    if format == FileFormat::Csv && text.chars().count() == 1 =>
                {
                    call.delimiter = text.chars().next();
                }
                _ => {
                    return Err(refused(format!(
                        "the argument `{argument}` of `{name}` is not supported"
                    )));
                }
            }
        }
        if call.sources.is_empty() {
            return Err(refused(format!("the path in `{name}` must be a text literal")));
        }
        Ok(call)
    }
}

/// Returns the table function with this name, and the format that it reads.
fn function(name: &ObjectName) -> Option<(&'static str, FileFormat)> {
    let [ObjectNamePart::Identifier(name)] = name.0.as_slice() else { return None };
    FUNCTIONS.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(&name.value))
}

/// Returns the paths in the first argument, which is a text or a list of texts; `None` for any
/// other argument.
fn sources(argument: &FunctionArg) -> Option<Vec<String>> {
    let FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) = argument else { return None };
    let text = |expr: &Expr| match value(expr)? {
        Value::SingleQuotedString(text) => Some(text.clone()),
        _ => None,
    };
    match expr {
        Expr::Array(Array { elem, .. }) => elem.iter().map(text).collect(),
        one => Some(vec![text(one)?]),
    }
}

/// Returns the name and the value of an option: `header = true`, `header => true`.
fn option(argument: &FunctionArg) -> Option<(&str, &Value)> {
    match argument {
        FunctionArg::Named { name, arg: FunctionArgExpr::Expr(expr), .. } => {
            Some((&name.value, value(expr)?))
        }
        FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::BinaryOp {
            left,
            op: BinaryOperator::Eq,
            right,
        })) => match &**left {
            Expr::Identifier(name) => Some((&name.value, value(right)?)),
            _ => None,
        },
        _ => None,
    }
}

fn value(expr: &Expr) -> Option<&Value> {
    match expr {
        Expr::Value(ValueWithSpan { value, .. }) => Some(value),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prepared_statement::PreparedStatement;

    fn taken(sql: &str) -> (String, Vec<FileCall>) {
        let mut statement = PreparedStatement::parse(sql).expect(sql);
        let calls = statement.take_file_calls().expect(sql);
        (statement.to_string(), calls)
    }

    #[test]
    fn a_call_becomes_a_relation() {
        let (sql, calls) =
            taken("SELECT t.a FROM read_csv('a.csv', header = false, delim => ';') AS t");
        assert_eq!(sql, "SELECT t.a FROM \"rows of file 1\" AS t");
        let [FileCall { sources, format, header, delimiter, .. }] = calls.as_slice() else {
            panic!("{calls:?}")
        };
        assert_eq!((sources.as_slice(), *format), (&["a.csv".to_owned()][..], FileFormat::Csv));
        assert_eq!((*header, *delimiter), (Some(false), Some(';')));
        let sql = "INSERT INTO t SELECT * FROM READ_PARQUET(['a', 's3://b/c'])";
        let (sql, calls) = taken(sql);
        assert_eq!(sql, "INSERT INTO t SELECT * FROM \"rows of file 1\" AS read_parquet");
        assert_eq!(calls[0].sources, ["a", "s3://b/c"]);
        assert_eq!(taken("SELECT * FROM generate_series(1, 2)").1, []);
        assert_eq!(taken("CREATE VIEW v AS SELECT * FROM read_csv('a')").1, []);
    }

    #[test]
    fn other_arguments_are_rejected() {
        for sql in [
            "SELECT * FROM read_csv()",
            "SELECT * FROM read_csv(1)",
            "SELECT * FROM read_csv('a', 'b')",
            "SELECT * FROM read_csv('a', delim = 'ab')",
            "SELECT * FROM read_parquet('a', header = true)",
        ] {
            let mut statement = PreparedStatement::parse(sql).expect(sql);
            assert!(statement.take_file_calls().is_err(), "{sql}");
        }
    }
}
