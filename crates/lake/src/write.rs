//! Writes of record batches to a table, in one commit.
//!
//! [`Lake::write`] creates the table if it does not exist, adds new columns, and appends or
//! replaces rows. [`nullable`] and [`new_columns`] derive the table's columns from the columns of
//! the rows.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, FieldRef, Fields, Schema, SchemaRef};
use headwater_model::{ObjectOwner, PROPERTY_JOB, TableName, WriteMode, WriteReport};
use headwater_tables::{
    BatchStream, check_types, has_nanoseconds, in_microseconds, normalise_schema, without_defaults,
};

use crate::error::{Error, Result};
use crate::lake::Lake;
use crate::transaction::set_creator;

/// Maximum number of attempts, if other commits change the table during each attempt.
const ATTEMPTS_MAX: usize = 10;

/// Rows to write.
#[derive(Debug, Clone)]
pub struct RowsToWrite {
    /// The target branch.
    pub branch: String,
    /// The target table.
    pub table: TableName,
    /// The effect of the write on an existing table.
    pub mode: WriteMode,
    /// The columns of the rows.
    pub schema: SchemaRef,
    /// The commit's author.
    pub author: String,
    /// The owner of the table, if the write creates it.
    pub creator: Option<ObjectOwner>,
    /// The id of the table if only its owner may write to it; another table with this name is then
    /// a conflict.
    pub owned_id: Option<String>,
    /// True if the author may only create the table; an existing table is then a conflict.
    pub must_create: bool,
    /// The id of the job, which the commit contains.
    pub job: String,
}

impl Lake {
    /// Writes rows durably. `rows` is called once per attempt and must return all rows each time. A
    /// failed write changes nothing.
    pub async fn write(
        &self,
        request: &RowsToWrite,
        rows: impl Fn() -> BatchStream + Send + Sync,
    ) -> Result<WriteReport> {
        let mut attempt = 1;
        loop {
            // Another commit may have created the table or changed its columns, so the write is
            // planned again.
            match Box::pin(self.write_once(request, rows())).await {
                Err(error) if error.is_stale() && attempt < ATTEMPTS_MAX => attempt += 1,
                other => return other,
            }
        }
    }

    async fn write_once(&self, request: &RowsToWrite, rows: BatchStream) -> Result<WriteReport> {
        let mut transaction = self.transaction(&request.branch, &request.author).await?;
        set_creator(&mut transaction, request.creator.clone());
        transaction.property(PROPERTY_JOB, request.job.clone());
        let wanted = &request.table;
        let existing = transaction.view().find(&wanted.namespace, &wanted.name).await?;
        let id = existing.as_ref().map(|(_, table)| table.id());
        let is_other = request.owned_id.is_some() && request.owned_id != id;
        if is_other || (request.must_create && id.is_some()) {
            let (table, branch) = (wanted.clone(), request.branch.clone());
            return Err(Error::CommitConflict { table, branch });
        }
        let known = existing.as_ref().map(|(_, table)| table.schema());
        let schema = nullable(&request.schema, known.as_deref());
        let created_table = existing.is_none();
        let mut columns_added = Vec::new();
        let name = match existing {
            None => {
                transaction.create(wanted, schema, Vec::new(), BTreeMap::new()).await?;
                transaction.append(wanted, rows).await?;
                wanted.clone()
            }
            Some((name, table)) if request.mode == WriteMode::Append => {
                let new = new_columns(&schema, &table.schema());
                columns_added.extend(new.iter().map(|field| field.name().clone()));
                if new.is_empty() {
                    transaction.append_rows(&name, rows).await?;
                } else {
                    transaction.add_columns(&name, new).await?;
                    transaction.append(&name, rows).await?;
                }
                name
            }
            Some((name, table)) => {
                let keeps = |column: &str| schema.field_with_name(column).is_ok();
                let partition = table.partition();
                let partition = partition.into_iter().filter(|field| keeps(&field.column));
                let partition = partition.collect();
                transaction.replace(&name, schema, partition, rows).await?;
                name
            }
        };
        let written = transaction.written();
        let verb = if request.mode == WriteMode::Append { "append to" } else { "replace" };
        let commit = transaction.commit(&format!("{verb} {name}")).await?;
        Ok(WriteReport {
            table: name,
            branch: request.branch.clone(),
            created_table,
            commit: commit.map(|commit| commit.id),
            rows: written.rows_written,
            columns_added,
            bytes_written: written.bytes_written,
        })
    }
}

/// Returns the columns of the rows that the table does not have. After the append, existing rows
/// have nulls in these columns.
pub fn new_columns(schema: &SchemaRef, table: &SchemaRef) -> Vec<Field> {
    let known = |name: &str| table.fields().iter().any(|field| field.name() == name);
    let new = schema.fields().iter().filter(|field| !known(field.name()));
    new.map(|field| without_defaults(field)).collect()
}

/// Checks that rows with the columns `rows` can be appended, without reading their values. `table`
/// has the columns of the existing table, if there is one. `earlier` has the columns of rows that
/// are appended before these rows in the same commit, and that may add columns. Returns the columns
/// of the table after the append, for [`check_values`].
pub fn check_append(
    rows: &SchemaRef,
    table: Option<&SchemaRef>,
    earlier: &SchemaRef,
) -> Result<Schema> {
    // Returns the columns that rows add to the table.
    let added = |columns: &SchemaRef| -> Result<Schema> {
        let columns = nullable(columns, table.map(AsRef::as_ref));
        let added: Fields = match table {
            Some(table) => new_columns(&columns, table).into(),
            None => columns.fields().clone(),
        };
        let added = Schema::new(added);
        if added.fields().is_empty() { Ok(added) } else { Ok(normalise_schema(&added)?) }
    };
    if let Some(table) = table {
        check_types(rows, table)?;
    }
    let (earlier, own) = (added(earlier)?, added(rows)?);
    check_types(rows, &earlier)?;
    let mut columns: Vec<FieldRef> = Vec::new();
    let existing = table.map(|table| table.fields());
    let fields = existing.into_iter().flatten().chain(earlier.fields()).chain(own.fields());
    for field in fields {
        if columns.iter().all(|known| known.name() != field.name()) {
            columns.push(Arc::clone(field));
        }
    }
    Ok(Schema::new(columns))
}

/// Checks that the values of rows can be converted to the columns that [`check_append`] returned.
pub fn check_values(rows: &RecordBatch, columns: &Schema) -> Result<()> {
    Ok(headwater_tables::check_values(rows, columns)?)
}

/// Returns the columns of the target table for rows with this schema. All columns are nullable,
/// because later rows may have nulls; no column has a default. Timestamps get microseconds unless
/// the existing column has nanoseconds. The unit in the rows is ignored, because functions and
/// Python packages return all timestamps in nanoseconds.
pub fn nullable(schema: &SchemaRef, table: Option<&Schema>) -> SchemaRef {
    let uses_nanoseconds = |name: &str| {
        let known = table.and_then(|table| table.field_with_name(name).ok());
        known.is_some_and(|field| has_nanoseconds(field.data_type()))
    };
    let column = |field: &FieldRef| {
        let field =
            if uses_nanoseconds(field.name()) { Arc::clone(field) } else { in_microseconds(field) };
        without_defaults(&field).with_nullable(true)
    };
    let fields: Fields = schema.fields().iter().map(column).collect();
    Arc::new(Schema::new(fields))
}
