//! The result rows of a running statement, sent only as fast as the client reads them.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, Schema};
use arrow::error::ArrowError;
use bytes::{Buf, BufMut, BytesMut};
use headwater_model::{ErrorCode, Problem};
use headwater_postgres_catalog::PgType;
use headwater_service::StatementRows;
use tokio_util::sync::CancellationToken;

use crate::backend_message::{ReplyWriter, ResultColumn};
use crate::buffered_connection::BufferedConnection;
use crate::column_encoder::ColumnEncoder;
use crate::copy_binary;
use crate::copy_format::CopyFormat;
use crate::explain;
use crate::frontend_message::ValueFormat;
use crate::session::{MessageResult, until_stopped};
use crate::settings::Settings;
use crate::text_format::IntervalStyle;

/// Number of rows that are converted and encoded at a time.
const PIECE_ROWS: usize = 1_024;

/// The name of EXPLAIN, whose result differs from the result in other protocols.
const EXPLAIN: &str = "EXPLAIN";

/// The properties of a statement that determine its reply.
#[derive(Debug, Clone, Copy)]
pub struct StatementProperties {
    /// Name of the statement, such as `SELECT`.
    pub name: &'static str,
    /// True if the statement changes rows and has a RETURNING clause.
    pub has_returning: bool,
}

impl StatementProperties {
    /// Returns true if the client receives the rows of the result.
    fn returns_rows(self) -> bool {
        self.has_returning || returns_rows(self.name)
    }
}

/// A running statement, whose rows are sent in parts.
pub struct Cursor {
    rows: StatementRows,
    kind: StatementProperties,
    columns: Vec<ResultColumn>,
    /// Rows that have been computed but not sent yet.
    batch: Option<RecordBatch>,
    /// Number of rows sent so far, or changed by a write.
    count: u64,
    token: CancellationToken,
    timeout: Option<Duration>,
    interval_style: IntervalStyle,
}

impl Cursor {
    /// Creates a cursor before the first row, with the time limit and the form of intervals of the
    /// settings.
    pub fn new(
        rows: StatementRows,
        kind: StatementProperties,
        formats: &[ValueFormat],
        token: CancellationToken,
        settings: &Settings,
    ) -> Self {
        let columns = match kind.name {
            EXPLAIN => explain::columns(rows.schema(), formats),
            _ => column_types(rows.schema(), formats),
        };
        let (timeout, interval_style) = (settings.statement_timeout(), settings.interval_style());
        Cursor { rows, kind, columns, batch: None, count: 0, token, timeout, interval_style }
    }

    /// Returns the columns of the result; `None` if the client receives no rows.
    pub fn columns(&self) -> Option<&[ResultColumn]> {
        self.kind.returns_rows().then_some(self.columns.as_slice())
    }

    /// Sets the token by which the statement can be cancelled while it sends further rows.
    pub fn resume(&mut self, token: CancellationToken) {
        self.token = token;
    }

    /// Returns the number of rows that were sent so far, or changed by a write.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Returns the command tag of the statement, such as `SELECT 3`.
    pub fn tag(&self) -> String {
        match self.kind.name {
            "INSERT" => format!("INSERT 0 {}", self.count),
            "SELECT" | "UPDATE" | "DELETE" | "MERGE" | "COPY" => {
                format!("{} {}", self.kind.name, self.count)
            }
            "TRUNCATE" => "TRUNCATE TABLE".to_owned(),
            "DESCRIBE" => "SHOW".to_owned(),
            name if name.starts_with("SHOW ") => "SHOW".to_owned(),
            other => other.to_owned(),
        }
    }

    /// Sends at most `limit` rows. Returns true if no rows remain. For a write, which sends no
    /// rows, counts the changed rows.
    pub async fn send(&mut self, limit: u64, wire: &mut BufferedConnection) -> MessageResult<bool> {
        let mut left = limit;
        while left > 0 {
            let Some(batch) = self.next_slice(left, wire).await? else { return Ok(true) };
            left -= batch.num_rows() as u64;
            if !self.kind.returns_rows() {
                self.count += changed_rows(&batch);
                continue;
            }
            self.count += batch.num_rows() as u64;
            let columns = convert(&batch, self.interval_style);
            let columns = columns.map_err(|error| self.rows.fail(not_encoded(&error)))?;
            for row in 0..batch.num_rows() {
                wire.output.message(b'D', |out| {
                    out.put_u16(columns.len() as u16);
                    for (column, described) in columns.iter().zip(&self.columns) {
                        column.write(row, described.is_binary, out);
                    }
                });
                wire.send_if_full().await?;
            }
        }
        Ok(false)
    }

    /// Sends all rows as data of a COPY.
    pub async fn copy(
        &mut self,
        format: &CopyFormat,
        wire: &mut BufferedConnection,
    ) -> MessageResult {
        let (mut value, mut line) = (BytesMut::new(), Vec::new());
        // Clients expect the header and the first row, or the trailer, in one message.
        let mut needs_header = format.is_binary;
        while let Some(batch) = self.next_slice(u64::MAX, wire).await? {
            self.count += batch.num_rows() as u64;
            let columns = convert(&batch, self.interval_style);
            let columns = columns.map_err(|error| self.rows.fail(not_encoded(&error)))?;
            for row in 0..batch.num_rows() {
                if format.is_binary {
                    wire.output.message(b'd', |out| {
                        if std::mem::take(&mut needs_header) {
                            copy_binary::put_header(out);
                        }
                        copy_binary::put_row(&columns, row, out);
                    });
                    wire.send_if_full().await?;
                    continue;
                }
                line.clear();
                let values: Vec<Option<BytesMut>> =
                    columns.iter().map(|column| text(column, row, &mut value)).collect();
                format.put(values.iter().map(|value| value.as_deref()), &mut line);
                wire.output.message(b'd', |out| out.extend_from_slice(&line));
                wire.send_if_full().await?;
            }
        }
        if format.is_binary {
            wire.output.message(b'd', |out| {
                if needs_header {
                    copy_binary::put_header(out);
                }
                copy_binary::put_trailer(out);
            });
        }
        Ok(())
    }

    /// Returns the next rows of the result, at most `limit`: a slice of the current batch.
    async fn next_slice(
        &mut self,
        limit: u64,
        wire: &mut BufferedConnection,
    ) -> MessageResult<Option<RecordBatch>> {
        let batch = if let Some(batch) = self.batch.take() {
            batch
        } else {
            let next = self.rows.next();
            let next = until_stopped(next, &self.token, self.timeout, wire).await??;
            let Some(batch) = next else { return Ok(None) };
            if self.kind.name == EXPLAIN && !explain::is_json(self.rows.schema()) {
                let lines = explain::lines(&batch, self.rows.estimate());
                lines.map_err(|error| self.rows.fail(not_encoded(&error)))?
            } else {
                batch
            }
        };
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let length = batch.num_rows().min(PIECE_ROWS).min(limit);
        if length < batch.num_rows() {
            self.batch = Some(batch.slice(length, batch.num_rows() - length));
        }
        Ok(Some(batch.slice(0, length)))
    }
}

/// Returns a value as text; `None` for null.
fn text(column: &ColumnEncoder, row: usize, buffer: &mut BytesMut) -> Option<BytesMut> {
    column.write(row, false, buffer);
    let mut written = buffer.split();
    let length = written.get_i32();
    (length >= 0).then_some(written)
}

/// Returns true if the statement with this name, such as `SHOW TABLES`, returns rows.
pub fn returns_rows(name: &str) -> bool {
    let named = ["SELECT", EXPLAIN, "EXPLAIN COST", "DESCRIBE", "SUMMARIZE"];
    name.starts_with("SHOW ") || named.contains(&name)
}

/// Returns the columns of a schema, in the formats that the client requested.
pub fn column_types(schema: &Arc<Schema>, formats: &[ValueFormat]) -> Vec<ResultColumn> {
    let fields = schema.fields().iter().enumerate();
    let column = |(index, field): (usize, &Arc<arrow::datatypes::Field>)| ResultColumn {
        name: field.name().clone(),
        pg_type: PgType::of_field(field),
        is_binary: ValueFormat::at(formats, index) == ValueFormat::Binary,
    };
    fields.map(column).collect()
}

fn convert(batch: &RecordBatch, style: IntervalStyle) -> Result<Vec<ColumnEncoder>, ArrowError> {
    let fields = batch.schema_ref().fields().iter().zip(batch.columns());
    fields.map(|(field, array)| ColumnEncoder::new(field, array, style)).collect()
}

/// Returns the number of rows that a write changed, from the first column of its result.
fn changed_rows(batch: &RecordBatch) -> u64 {
    // Use the first integer column, because the first column of COPY to a file is the file's name.
    let mut columns = batch.columns().iter();
    let rows = columns.find_map(|rows| rows.as_primitive_opt::<Int64Type>());
    rows.map_or(0, |rows| rows.values().iter().map(|count| count.unsigned_abs()).sum())
}

fn not_encoded(error: &ArrowError) -> Problem {
    Problem::new(ErrorCode::InvalidSql, format!("the rows cannot be encoded: {error}"))
        .with_hint("Cast the column to a type that PostgreSQL has, such as VARCHAR.")
}
