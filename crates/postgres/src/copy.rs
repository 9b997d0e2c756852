//! `COPY … TO STDOUT` and `COPY … FROM STDIN`.
//!
//! Rows from the client are inserted in batches, within one transaction, so that a failed COPY
//! inserts nothing. The table and its columns are checked before the client sends rows.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use headwater_model::{ErrorCode, Problem, ResultExt};
use headwater_postgres_catalog::PgType;
use headwater_service::{COPIED_ROWS, CopiedRows, PreparedStatement};
use serde_json::Value;
use sqlparser::ast::{CopySource, CopyTarget, Ident, SetExpr, Statement};

use crate::backend_message::{ReplyWriter, TransactionStatus};
use crate::buffered_connection::MESSAGE_BYTES_MAX;
use crate::copy_binary::BinaryDecoder;
use crate::copy_format::{CopyFormat, CopyRow, TextDecoder};
use crate::copy_options::{format_of, parse};
use crate::frontend_message::FrontendMessage;
use crate::session::{MessageError, MessageResult, Session, StatementAction, cancelled};

/// Number of bytes of values that one INSERT inserts, approximately.
const BATCH_BYTES: usize = 8 << 20;

/// A COPY statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyStatement {
    /// For `TO STDOUT`, the query whose rows are sent. For `FROM STDIN`, the first part of the
    /// INSERT statement for the received rows.
    sql: String,
    /// For `FROM STDIN`, a query of the columns that the client sends, which determines their
    /// types.
    target: Option<String>,
    /// The names in the statement: the table and the columns.
    names: Vec<Ident>,
    format: CopyFormat,
}

/// The decoder of the rows that a client sends.
enum Decoder {
    Lines(TextDecoder),
    Binary(BinaryDecoder),
}

impl Decoder {
    fn add(&mut self, bytes: &[u8]) -> Result<Vec<CopyRow>, Problem> {
        match self {
            Decoder::Lines(decoder) => decoder.add(bytes),
            Decoder::Binary(decoder) => decoder.add(bytes),
        }
    }

    fn finish(&mut self) -> Result<Vec<CopyRow>, Problem> {
        match self {
            Decoder::Lines(decoder) => decoder.finish(),
            Decoder::Binary(decoder) => decoder.finish().map(|()| Vec::new()),
        }
    }
}

impl CopyStatement {
    /// Parses a COPY to STDOUT or from STDIN; `None` for other statements. COPY to a file on the
    /// server is executed by the service.
    pub fn parse(sql: &str) -> Option<Result<Self, Problem>> {
        let first = sql.split_whitespace().next()?;
        if !first.eq_ignore_ascii_case("copy") {
            return None;
        }
        let parsed = parse(sql);
        Some(match parsed.as_deref() {
            Ok([Statement::Copy { to: true, target: CopyTarget::File { .. }, .. }]) => return None,
            Ok([statement @ Statement::Copy { .. }]) => Self::new(statement),
            Ok(_) => Err(unsupported("this form of COPY statement")),
            Err(error) => Err(Problem::new(ErrorCode::InvalidSql, error.to_string())),
        })
    }

    fn new(statement: &Statement) -> Result<Self, Problem> {
        let Statement::Copy { source, to, target, options, legacy_options, .. } = statement else {
            return Err(unsupported("this form of COPY statement"));
        };
        if !matches!(target, CopyTarget::Stdin | CopyTarget::Stdout) {
            return Err(unsupported("COPY FROM a file on the server").with_hint(
                "Send the rows with `COPY … FROM STDIN` or `\\copy` of psql, or import the file \
                 with `headwater table import`.",
            ));
        }
        let format = format_of(options, legacy_options)?;
        match source {
            CopySource::Query(query) if is_change(&query.body) => {
                Err(unsupported("COPY of a statement that changes a table"))
            }
            CopySource::Query(query) => Ok(CopyStatement {
                sql: query.to_string(),
                target: None,
                names: Vec::new(),
                format,
            }),
            CopySource::Table { table_name, columns } => {
                let list: Vec<String> = columns.iter().map(ToString::to_string).collect();
                let list = list.join(", ");
                let all = if list.is_empty() { "*" } else { &list };
                let query = format!("SELECT {all} FROM {table_name}");
                let names = table_name.0.iter().filter_map(|part| part.as_ident());
                let names = names.chain(columns).cloned().collect();
                if *to {
                    return Ok(CopyStatement { sql: query, target: None, names, format });
                }
                let list = if list.is_empty() { list } else { format!(" ({list})") };
                let sql = format!("INSERT INTO {table_name}{list}");
                Ok(CopyStatement { sql, target: Some(query), names, format })
            }
        }
    }

    /// Corrects the position of an error in `sql`, a statement derived from this COPY: replaces it
    /// by the position of the same name in the COPY statement.
    fn relocated(&self, failure: MessageError, sql: &str) -> MessageError {
        let MessageError::Problem(mut problem) = failure else { return failure };
        let number = |key: &str| problem.context.get(key).and_then(Value::as_u64);
        let (Some(line), Some(column)) = (number("line"), number("column")) else {
            return problem.into();
        };
        let found = sql.lines().nth(line.saturating_sub(1) as usize);
        let found = found.map(|text| text.chars().skip(column.saturating_sub(1) as usize));
        let found: String = found.into_iter().flatten().collect();
        let is_found = |name: &&Ident| found.starts_with(&name.to_string());
        let longest = self.names.iter().filter(is_found).max_by_key(|name| name.value.len());
        let written = format!(" (line {line}, column {column})");
        let place = longest.map(|name| name.span.start).filter(|start| start.line > 0);
        let mut suffix = String::new();
        if let Some(start) = place {
            suffix = format!(" (line {}, column {})", start.line, start.column);
            problem.context.insert("line".to_owned(), start.line.into());
            problem.context.insert("column".to_owned(), start.column.into());
        } else {
            problem.context.remove("line");
            problem.context.remove("column");
        }
        problem.message = problem.message.replace(&written, &suffix);
        problem.into()
    }
}

/// Returns true if the query of a COPY is an INSERT, UPDATE, DELETE or MERGE, which the parser also
/// accepts there.
fn is_change(body: &SetExpr) -> bool {
    match body {
        SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => true,
        SetExpr::Query(query) => is_change(&query.body),
        _ => false,
    }
}

pub(crate) fn unsupported(what: &str) -> Problem {
    Problem::new(ErrorCode::UnsupportedStatement, format!("{what} is not supported"))
}

impl Session {
    /// Executes a COPY.
    pub async fn copy(&mut self, copy: &CopyStatement) -> MessageResult {
        let count = if copy.target.is_none() {
            self.copy_out(copy).await.map_err(|failure| copy.relocated(failure, &copy.sql))?
        } else {
            self.check_writable("COPY FROM")?;
            let is_alone = self.status == TransactionStatus::Idle;
            if is_alone {
                let transactions = self.service.statements().transactions();
                let begun = transactions.begin(&self.principal, &self.reference).await?;
                self.transaction = Some(begun);
            }
            let copied = self.copy_in(copy).await;
            match copied {
                Ok(_) if is_alone => self.commit().await.map(drop)?,
                Err(_) if is_alone => drop(self.roll_back().await),
                _ => {}
            }
            copied?
        };
        self.wire.output.complete(&format!("COPY {count}"));
        Ok(())
    }

    async fn copy_out(&mut self, copy: &CopyStatement) -> MessageResult<u64> {
        let StatementAction::Sql(prepared) = StatementAction::parse(&copy.sql, &self.identity())?
        else {
            return Err(unsupported("COPY of a statement that is not a query").into());
        };
        let mut cursor = self.start(prepared, &[]).await?;
        let Some(columns) = cursor.columns() else {
            return Err(unsupported("COPY of a statement that returns no rows").into());
        };
        self.wire.output.copy_response(b'H', columns.len(), copy.format.is_binary);
        if copy.format.has_header && !copy.format.is_binary {
            let mut line = Vec::new();
            copy.format.put(columns.iter().map(|it| Some(it.name.as_bytes())), &mut line);
            self.wire.output.message(b'd', |out| out.extend_from_slice(&line));
        }
        cursor.copy(&copy.format, &mut self.wire).await?;
        self.wire.output.simple(b'c');
        Ok(cursor.count())
    }

    async fn copy_in(&mut self, copy: &CopyStatement) -> MessageResult<u64> {
        let types = self.target_types(copy).await?;
        let is_binary = copy.format.is_binary;
        self.wire.output.copy_response(b'G', types.as_ref().map_or(0, Vec::len), is_binary);
        self.wire.send().await?;
        let columns = types.clone().unwrap_or_default();
        let mut decoder = match types {
            Some(types) if is_binary => Decoder::Binary(BinaryDecoder::new(types)),
            types => {
                let width = types.map(|types| types.len()).filter(|width| *width > 0);
                Decoder::Lines(TextDecoder::new(copy.format.clone()).with_width(width))
            }
        };
        let (mut rows, mut bytes, mut count) = (Vec::new(), 0, 0);
        let mut token = self.connection.begin();
        loop {
            let received = tokio::select! {
                biased;
                () = token.cancelled() => return Err(cancelled().into()),
                received = self.wire.message(MESSAGE_BYTES_MAX) => received?,
            };
            let Some((kind, content)) = received else {
                return Err(std::io::Error::from(std::io::ErrorKind::ConnectionAborted).into());
            };
            let is_last = match kind {
                b'd' => false,
                b'c' => true,
                b'f' => {
                    let reason = String::from_utf8_lossy(&content);
                    let message =
                        format!("the client cancelled COPY: {}", reason.trim_end_matches('\0'));
                    return Err(Problem::new(ErrorCode::Cancelled, message).into());
                }
                // Flush and Sync have no effect during COPY.
                b'H' | b'S' => continue,
                other => {
                    FrontendMessage::decode(other, content)?;
                    let message = "the client sent a message during COPY that is not part of COPY";
                    return Err(Problem::new(ErrorCode::InvalidArgument, message).into());
                }
            };
            rows.extend(if is_last { decoder.finish()? } else { decoder.add(&content)? });
            bytes += content.len();
            if !rows.is_empty() && (is_last || bytes >= BATCH_BYTES) {
                let inserted = self.insert(copy, &rows).await;
                count += inserted.map_err(|failure| with_row(failure, &columns, &rows, count))?;
                token = self.connection.begin();
                rows.clear();
                bytes = 0;
            }
            if is_last {
                return Ok(count);
            }
        }
    }

    /// Returns the types of the columns that the client sends. Returns `None` for a client that may
    /// insert but not select; in the binary format, this is an error.
    async fn target_types(&mut self, copy: &CopyStatement) -> MessageResult<Option<Vec<PgType>>> {
        let Some(query) = &copy.target else { return Ok(None) };
        let prepared = PreparedStatement::parse(query).or_problem()?;
        match self.describe(&prepared).await {
            Ok(described) => {
                let columns = described.columns.unwrap_or_default();
                Ok(Some(columns.into_iter().map(|column| column.pg_type).collect()))
            }
            Err(MessageError::Problem(problem))
                if problem.code == ErrorCode::Forbidden && !copy.format.is_binary =>
            {
                Ok(None)
            }
            Err(failure) => Err(copy.relocated(failure, query)),
        }
    }

    /// Inserts rows. Returns their number.
    async fn insert(&mut self, copy: &CopyStatement, rows: &[CopyRow]) -> MessageResult<u64> {
        let batch = batch(rows)?;
        let sql = format!("{} SELECT * FROM \"{COPIED_ROWS}\"", copy.sql);
        let prepared = PreparedStatement::parse(&sql).or_problem()?;
        self.copied = Some(CopiedRows { schema: batch.schema(), batches: vec![batch] });
        let started = self.start(prepared, &[]).await;
        self.copied = None;
        let mut cursor = started.map_err(|failure| copy.relocated(failure, &sql))?;
        cursor.send(u64::MAX, &mut self.wire).await?;
        Ok(cursor.count())
    }
}

/// Adds the number of the row to the error, if a column rejected a value. `before` is the number of
/// rows before `rows`.
fn with_row(
    failure: MessageError,
    columns: &[PgType],
    rows: &[CopyRow],
    before: u64,
) -> MessageError {
    let MessageError::Problem(mut problem) = failure else { return failure };
    let (start, end) = (problem.message.find('\''), problem.message.rfind('\''));
    let quoted = start.zip(end).and_then(|(start, end)| problem.message.get(start + 1..end));
    // The message has the value in single quotes, or as its third text in backticks: "column `c` of
    // `t`: `value` is not a valid array".
    let value = quoted.or_else(|| problem.message.split('`').nth(5));
    let index = value.filter(|_| problem.code == ErrorCode::BadRow).and_then(|value| {
        // A column of texts accepts every value, so the error concerns another column.
        let is_wrong = |(column, given): (&PgType, &Option<String>)| {
            *column != PgType::TEXT && given.as_deref() == Some(value)
        };
        rows.iter().position(|row| columns.iter().zip(row).any(is_wrong))
    });
    if let Some(index) = index {
        let row = before + index as u64 + 1;
        problem.message = format!("row {row} of the data: {}", problem.message);
    }
    problem.into()
}

/// Returns rows as a batch of text columns.
fn batch(rows: &[CopyRow]) -> Result<RecordBatch, Problem> {
    let width = rows.first().map_or(0, Vec::len);
    if let Some(other) = rows.iter().find(|row| row.len() != width) {
        let message = format!("some rows have {width} values, and others {}", other.len());
        return Err(Problem::new(ErrorCode::InvalidArgument, message)
            .with_hint("Give each line the same number of values, and check the delimiter."));
    }
    let column = |index: usize| -> ArrayRef {
        Arc::new(rows.iter().map(|row| row[index].as_deref()).collect::<StringArray>())
    };
    let field = |index: usize| Field::new(format!("column_{}", index + 1), DataType::Utf8, true);
    let schema = Schema::new((0..width).map(field).collect::<Vec<_>>());
    RecordBatch::try_new(Arc::new(schema), (0..width).map(column).collect())
        .map_err(|error| Problem::new(ErrorCode::Internal, error.to_string()))
}

#[cfg(test)]
mod tests {
    use headwater_postgres_catalog::ScalarType;

    use super::*;

    fn check(sql: &str, expected_sql: &str, format: CopyFormat) {
        let copy = CopyStatement::parse(sql).expect("COPY").expect(sql);
        assert_eq!((copy.sql.as_str(), copy.format), (expected_sql, format), "{sql}");
    }

    #[test]
    fn errors_of_values_name_the_row() {
        let columns = [PgType::TEXT, PgType { scalar: ScalarType::Text, is_array: true }];
        let row = |value: &str| vec![Some("a".to_owned()), Some(value.to_owned())];
        let rows = [row("{a}"), row("a")];
        let check = |message: &str, expected: &str| {
            let problem = Problem::new(ErrorCode::BadRow, message);
            let failure = with_row(problem.into(), &columns, &rows, 10);
            let MessageError::Problem(problem) = failure else { return };
            assert_eq!(problem.message, format!("{expected}{message}"));
        };
        check("column `c` of `t`: `a` is not a valid array", "row 12 of the data: ");
        check("column `c` of `t`: cannot cast string 'a' to a type", "row 12 of the data: ");
        check("column `c` of `t`: can't cast value 3", "");
    }

    #[test]
    fn errors_have_the_position_of_the_name_in_the_statement() {
        let copy = CopyStatement::parse("COPY t (a, nn)\n FROM STDIN")
            .expect("COPY")
            .expect("a statement");
        let mut problem = Problem::new(ErrorCode::ColumnNotFound, "no `nn` (line 1, column 11)");
        problem.context.insert("line".to_owned(), 1.into());
        problem.context.insert("column".to_owned(), 11.into());
        let query = copy.target.clone().expect("a query");
        let MessageError::Problem(problem) = copy.relocated(problem.into(), &query) else { return };
        assert_eq!(problem.message, "no `nn` (line 1, column 12)");
        assert_eq!(problem.context["column"], 12);
    }

    #[test]
    fn every_form_of_copy_is_parsed() {
        check("COPY t FROM STDIN", "INSERT INTO t", CopyFormat::text());
        check("copy s.t (a, b) to stdout", "SELECT a, b FROM s.t", CopyFormat::text());
        check("COPY (SELECT 1 AS a) TO STDOUT", "SELECT 1 AS a", CopyFormat::text());
        let csv = CopyFormat { has_header: true, delimiter: b';', ..CopyFormat::csv() };
        let options = "(FORMAT csv, HEADER, DELIMITER ';')";
        check(&format!("COPY t FROM STDIN WITH {options}"), "INSERT INTO t", csv);
        let header = CopyFormat { has_header: true, ..CopyFormat::csv() };
        check("COPY  t FROM STDIN CSV HEADER", "INSERT INTO t", header.clone());
        check("COPY t FROM STDIN (FORMAT csv, HEADER on)", "INSERT INTO t", header.clone());
        check("COPY t FROM STDIN (HEADER 1, FORMAT csv)", "INSERT INTO t", header);
        check("COPY t FROM STDIN (FORMAT csv, HEADER off)", "INSERT INTO t", CopyFormat::csv());
        // The statement of `pgbench -i`.
        check("copy t from stdin with (freeze on)", "INSERT INTO t", CopyFormat::text());
        let joined = "SELECT 1 FROM t JOIN header ON true";
        check(&format!("COPY ({joined}) TO STDOUT"), joined, CopyFormat::text());
        assert_eq!(CopyStatement::parse("SELECT 1"), None);
        assert_eq!(CopyStatement::parse("COPY t TO '/tmp/t.csv'"), None);
        let binary = CopyFormat { is_binary: true, ..CopyFormat::text() };
        check("COPY t TO STDOUT (FORMAT binary)", "SELECT * FROM t", binary.clone());
        check("COPY (SELECT 1 AS a) TO STDOUT WITH BINARY", "SELECT 1 AS a", binary);
        for sql in ["COPY t FROM '/etc/passwd'", "COPY t TO STDOUT (FORMAT parquet)", "COPY"] {
            assert!(matches!(CopyStatement::parse(sql), Some(Err(_))), "{sql}");
        }
    }
}
