//! Bulk ingestion: rows of a client become rows of a new or existing table, in one commit.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::sql::{
    CommandStatementIngest, TableDefinitionOptions, TableExistsOption, TableNotExistOption,
};
use headwater_model::{ErrorCode, Problem};
use headwater_service::{COPIED_ROWS, CopiedRows};
use tonic::Status;

use crate::caller::Caller;
use crate::grpc_status::{internal, to_status};
use crate::row_stream::no_columns;
use crate::statement::{FlightState, StatementSource};
use crate::transactions::RollbackGuard;
use crate::uploads::UploadQuota;

/// The rows that a client sends.
pub struct IngestedRows {
    /// The batches; `None` if the client sends no schema.
    pub batches: Option<FlightRecordBatchStream>,
    /// The quota that is charged for the batches that are not yet inserted.
    pub quota: UploadQuota,
}

/// Treatment of a missing or an existing table by an ingestion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum IngestMode {
    /// The table must not exist.
    Create,
    /// The table must exist.
    Append,
    /// The table is created if it does not exist.
    CreateOrAppend,
    /// The table is replaced if it exists.
    Replace,
}

/// The target of an ingestion.
struct IngestTarget {
    mode: IngestMode,
    /// The table's quoted name.
    table: String,
}

impl IngestTarget {
    fn new(command: &CommandStatementIngest) -> Result<Self, Problem> {
        if command.temporary {
            let message = "the ingestion into a temporary table is not supported";
            return Err(Problem::new(ErrorCode::UnsupportedStatement, message));
        }
        if let Some(option) = command.options.keys().next() {
            let message = format!("the ingestion option `{option}` is not supported");
            return Err(Problem::new(ErrorCode::UnsupportedStatement, message));
        }
        let options = command.table_definition_options.as_ref();
        let missing = options.map(TableDefinitionOptions::if_not_exist);
        let existing = options.map(TableDefinitionOptions::if_exists);
        let mode = match (missing, existing) {
            (_, Some(TableExistsOption::Replace)) => IngestMode::Replace,
            (Some(TableNotExistOption::Create), Some(TableExistsOption::Append)) => {
                IngestMode::CreateOrAppend
            }
            (_, Some(TableExistsOption::Append)) => IngestMode::Append,
            _ => IngestMode::Create,
        };
        let name = quoted(&command.table);
        let table = match command.schema.as_deref().filter(|schema| !schema.is_empty()) {
            Some(schema) => {
                let parts: Vec<String> = schema.split('.').map(quoted).collect();
                format!("{}.{name}", parts.join("."))
            }
            None => name,
        };
        Ok(IngestTarget { mode, table })
    }

    /// Returns the statements that insert a chunk of rows. `is_first` is true for the first chunk,
    /// whose statements also create the table.
    fn statements(&self, schema: &SchemaRef, is_first: bool) -> Vec<String> {
        let IngestTarget { mode, table } = self;
        let from = format!("FROM \"{COPIED_ROWS}\"");
        let names: Vec<String> = schema.fields().iter().map(|it| quoted(it.name())).collect();
        let insert = format!("INSERT INTO {table} ({0}) SELECT {0} {from}", names.join(", "));
        match mode {
            _ if !is_first => vec![insert],
            IngestMode::Append => vec![insert],
            IngestMode::Create => vec![format!("CREATE TABLE {table} AS SELECT * {from}")],
            IngestMode::Replace => {
                vec![format!("CREATE OR REPLACE TABLE {table} AS SELECT * {from}")]
            }
            IngestMode::CreateOrAppend => vec![
                format!("CREATE TABLE IF NOT EXISTS {table} AS SELECT * {from} LIMIT 0"),
                insert,
            ],
        }
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

impl FlightState {
    /// Ingests rows, and returns their number. Without a transaction of the client, all rows are
    /// inserted in a new transaction, so that an error inserts none. If the future is dropped, the
    /// new transaction is rolled back.
    pub async fn ingest(
        &self,
        caller: &Caller,
        command: &CommandStatementIngest,
        rows: IngestedRows,
    ) -> Result<i64, Status> {
        let target = IngestTarget::new(command).map_err(to_status)?;
        let given = command.transaction_id.as_deref().filter(|id| !id.is_empty());
        if let Some(id) = given {
            let id = String::from_utf8_lossy(id).into_owned();
            return self.ingest_within(caller, &id, &target, rows).await;
        }
        let caller = match command.catalog.as_deref().filter(|catalog| !catalog.is_empty()) {
            Some(catalog) => caller.at(crate::caller::parse_ref(catalog).map_err(to_status)?),
            None => caller.clone(),
        };
        let id = self.transactions.begin(&caller).await?;
        let rollback = RollbackGuard::new(&self.transactions, &caller.principal, &id);
        let ingested = self.ingest_within(&caller, &id, &target, rows).await;
        let ended = self.transactions.end(&caller.principal, &id, ingested.is_ok()).await;
        // Disarm the guard only after the transaction has ended. When a client disconnects, its
        // stream of rows fails first, and this future may then be dropped during the rollback.
        rollback.disarm();
        ended?;
        ingested
    }

    async fn ingest_within(
        &self,
        caller: &Caller,
        transaction: &str,
        target: &IngestTarget,
        sent: IngestedRows,
    ) -> Result<i64, Status> {
        let IngestedRows { batches, mut quota } = sent;
        // The transaction does not expire while the client sends rows.
        let _in_use = self.transactions.get(&caller.principal, transaction)?;
        let mut chunk = IngestChunk::default();
        let mut count = 0;
        if let Some(mut rows) = batches {
            while let Some(batch) = self.uploads.next(&mut rows).await? {
                quota.add(&batch)?;
                chunk.add(batch);
                if !quota.is_full() {
                    continue;
                }
                let full = std::mem::replace(&mut chunk, IngestChunk::after_the_first());
                count += self.add_chunk(caller, transaction, target, full).await?;
                quota.release();
            }
            if let Some(schema) = rows.schema() {
                chunk.schema.get_or_insert(schema.clone());
            }
        }
        if chunk.is_first || !chunk.batches.is_empty() {
            count += self.add_chunk(caller, transaction, target, chunk).await?;
        }
        Ok(count)
    }

    async fn add_chunk(
        &self,
        caller: &Caller,
        transaction: &str,
        target: &IngestTarget,
        chunk: IngestChunk,
    ) -> Result<i64, Status> {
        let schema = chunk.schema.unwrap_or_else(no_columns);
        let count: usize = chunk.batches.iter().map(RecordBatch::num_rows).sum();
        for sql in target.statements(&schema, chunk.is_first) {
            let rows = CopiedRows { schema: schema.clone(), batches: chunk.batches.clone() };
            let work = StatementSource::Text(sql);
            Box::pin(self.update(caller, Some(transaction), work, Some(rows))).await?;
        }
        i64::try_from(count).map_err(internal)
    }
}

/// Rows of an ingestion that one statement inserts.
struct IngestChunk {
    /// True for the first rows, whose statements create the table if needed.
    is_first: bool,
    schema: Option<SchemaRef>,
    batches: Vec<RecordBatch>,
}

impl Default for IngestChunk {
    fn default() -> Self {
        IngestChunk { is_first: true, ..IngestChunk::after_the_first() }
    }
}

impl IngestChunk {
    fn after_the_first() -> Self {
        IngestChunk { is_first: false, schema: None, batches: Vec::new() }
    }

    fn add(&mut self, batch: RecordBatch) {
        self.schema.get_or_insert_with(|| batch.schema());
        self.batches.push(batch);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;

    #[test]
    fn modes_become_statements() {
        use TableExistsOption::{Append, Fail as Exists, Replace};
        use TableNotExistOption::{Create, Fail};
        let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, true)]));
        let check = |missing, existing, expected: &[&str]| {
            let command = CommandStatementIngest {
                table_definition_options: Some(TableDefinitionOptions {
                    if_not_exist: missing as i32,
                    if_exists: existing as i32,
                }),
                table: "my \"t\"".to_owned(),
                schema: Some("sales".to_owned()),
                ..CommandStatementIngest::default()
            };
            let target = IngestTarget::new(&command).expect("a target");
            assert_eq!(target.statements(&schema, true), expected);
        };
        let table = "\"sales\".\"my \"\"t\"\"\"";
        let insert = format!("INSERT INTO {table} (\"a\") SELECT \"a\" FROM \"{COPIED_ROWS}\"");
        let create = format!("TABLE {table} AS SELECT * FROM \"{COPIED_ROWS}\"");
        check(Fail, Append, &[&insert]);
        check(Create, Exists, &[&format!("CREATE {create}")]);
        check(Create, Replace, &[&format!("CREATE OR REPLACE {create}")]);
        let missing = create.replace("TABLE", "TABLE IF NOT EXISTS");
        check(Create, Append, &[&format!("CREATE {missing} LIMIT 0"), &insert]);
    }
}
