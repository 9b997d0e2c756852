//! The RETURNING clause: a query of the rows that a statement wrote or deleted. The rows are kept in
//! memory, within the memory limit of a statement.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::sql::sqlparser::ast::SelectItem;
use futures::TryStreamExt;
use headwater_sql::Prepared;
use headwater_sql::statement::Command;
use parking_lot::Mutex;

use crate::error::{Error, Result};
use crate::output::renamed;
use crate::planning_error::Limits;
use crate::scan::plain_schema;
use crate::session::Session;
use crate::statement_result::{Batches, StatementResult};

/// The name under which the query reads the rows.
const ROWS: &str = "rows of RETURNING";

/// Rows that are kept for RETURNING.
#[derive(Debug, Clone)]
pub(crate) struct Captured {
    rows: Arc<Mutex<Vec<RecordBatch>>>,
    limit: u64,
}

impl Captured {
    /// Creates an empty set for a statement with these limits.
    pub(crate) fn new(limits: Limits) -> Self {
        Captured { rows: Arc::default(), limit: limits.query_memory_bytes }
    }

    /// Adds rows. Fails above the memory limit of the statement.
    pub(crate) fn add(&self, batch: &RecordBatch) -> Result<()> {
        let mut rows = self.rows.lock();
        rows.push(batch.clone());
        let bytes: usize = rows.iter().map(RecordBatch::get_array_memory_size).sum();
        if bytes as u64 > self.limit {
            return Err(Error::MemoryLimit { limit: self.limit });
        }
        Ok(())
    }
}

/// A RETURNING clause of a table.
#[derive(Debug, Clone)]
pub(crate) struct Returning {
    sql: String,
}

impl Returning {
    /// Creates the query of a clause. `label` is the name of the table in the statement.
    pub(crate) fn new(items: &[SelectItem], label: &str) -> Self {
        let items: Vec<String> = items.iter().map(ToString::to_string).collect();
        let label = label.replace('"', "\"\"");
        Returning { sql: format!("SELECT {} FROM \"{ROWS}\" AS \"{label}\"", items.join(", ")) }
    }
}

impl Session {
    /// Plans the clause, so that a mistake in it is an error before anything is written.
    pub(crate) async fn check_returning(
        &self,
        returning: &Returning,
        schema: &SchemaRef,
    ) -> Result<SchemaRef> {
        self.register_empty(ROWS, Arc::clone(schema))?;
        Box::pin(self.schema_of(Prepared::parse(&returning.sql)?)).await
    }

    /// Returns the rows of the clause as the result of a statement that has written.
    pub(crate) async fn returned(
        &self,
        returning: &Returning,
        schema: SchemaRef,
        captured: &Captured,
        written: StatementResult,
    ) -> Result<StatementResult> {
        let batches = std::mem::take(&mut *captured.rows.lock());
        // The rows of an UPDATE may be nullable where the table is not.
        let schema = batches.first().map_or(schema, RecordBatch::schema);
        self.register(ROWS, &Batches { schema, batches })?;
        let result = Box::pin(self.execute(Prepared::parse(&returning.sql)?)).await?;
        Ok(StatementResult { commit: written.commit, metrics: written.metrics, ..result })
    }

    /// Returns the columns of the RETURNING clause of a statement; `None` without one.
    pub(crate) async fn returning_columns(&self, command: Command) -> Result<Option<SchemaRef>> {
        let (items, table) = match command {
            Command::Insert(new) => (new.returning, new.table),
            Command::Update(update) => (update.returning, update.table),
            Command::Delete(delete) => {
                let Some(source) = delete.returning else { return Ok(None) };
                let (run, view) = (self.run(), self.view().await?);
                let (plan, names) = self.plan(&run, source, &view).await?;
                return Ok(Some(renamed(&names, &plain_schema(plan.schema().as_arrow()))));
            }
            _ => return Ok(None),
        };
        let Some(items) = items else { return Ok(None) };
        let items: Vec<String> = items.iter().map(ToString::to_string).collect();
        let sql = format!("SELECT {} FROM {table}", items.join(", "));
        Box::pin(self.schema_of(Prepared::parse(&sql)?)).await.map(Some)
    }

    /// Reads all rows of a result, within the memory limit of a statement.
    pub(crate) async fn kept_rows(
        &self,
        result: StatementResult,
        limits: Limits,
    ) -> Result<Batches> {
        let captured = Captured::new(limits);
        let schema = Arc::clone(&result.schema);
        let mut stream = result.stream;
        while let Some(batch) = stream.try_next().await? {
            captured.add(&batch)?;
        }
        let batches = std::mem::take(&mut *captured.rows.lock());
        Ok(Batches { schema, batches })
    }
}

/// Returns rows in memory as the result of a statement that has written.
pub(crate) fn of_rows(rows: Batches, written: StatementResult) -> StatementResult {
    let Batches { schema, batches } = rows;
    let stream = Box::pin(futures::stream::iter(batches.into_iter().map(Ok)));
    StatementResult { schema, stream, ..written }
}
