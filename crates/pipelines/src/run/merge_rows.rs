//! Merges a model's rows into its table: a row with an existing key replaces the stored row, any
//! other row is added.

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use futures::{StreamExt, TryStreamExt};
use headwater_build_records::profile_of;
use headwater_engine::Session;
use headwater_functions::SharedTable;
use headwater_lake::{Transaction, new_columns, nullable};
use headwater_model::{Action, TableName};
use headwater_project::Step;
use headwater_tables::PROFILE;

use super::table_write::WriteAdditions;
use super::{Run, StepProgress, step_output};
use crate::plan::FINGERPRINT;
use crate::{Error, Result};

/// Name under which the MERGE statement reads the new rows.
const ROWS: &str = "headwater rows";

/// Name of the column that counts the rows of each key.
const COUNT: &str = "headwater count";

impl Run {
    /// Merges rows into the table. In the first run, and in a rebuild, the rows replace the whole
    /// table.
    pub(super) async fn merge(
        &self,
        index: usize,
        rows: &SharedTable,
        quarantine: Option<&SharedTable>,
        done: &mut StepProgress,
    ) -> Result<()> {
        let step = &self.plan.project.steps[index];
        let properties = self.snapshot_properties(index, &done.increments.read);
        let session = self.engine_session(step, properties)?;
        step_output::register(&session, ROWS, rows)?;
        let keys = keys(step, &rows.schema());
        self.check_keys(step, &session, &keys, done).await?;
        let mut transaction = self.transaction(index, &done.increments.read).await?;
        let (namespace, name) = (&step.table.namespace, &step.table.name);
        let failed = |error: headwater_lake::Error| Self::failed(step, None, &error);
        let found = transaction.view().find(namespace, name).await.map_err(failed)?;
        let Some((name, table)) = found.filter(|_| !self.plan.is_rebuilt(index)) else {
            drop(transaction);
            let read = &done.increments.read;
            let options = WriteAdditions { read, quarantine };
            let written = self.write(index, rows.schema(), rows.stream(), options).await?;
            done.usage.bytes_written += written.bytes_written;
            return Ok(());
        };
        let profile = profile_of(rows)
            .await
            .map_err(|error| Self::failed(step, None, &headwater_functions::Error::Arrow(error)))?;
        transaction.snapshot_property(PROFILE, profile);
        if let Some(quarantine) = quarantine {
            self.add_quarantine(index, &mut transaction, quarantine).await?;
        }
        let new = new_columns(&nullable(&rows.schema(), None), &table.schema());
        if !new.is_empty() {
            self.check_change(&[Action::Alter], &name, transaction.view()).await?;
            transaction.add_columns(&name, new).await.map_err(failed)?;
        }
        let statement = statement(&name, &table.schema(), &rows.schema(), &keys);
        let changed = Box::pin(session.execute_in(transaction, &statement)).await;
        let (mut transaction, answer) =
            changed.map_err(|error| Self::failed(step, None, &error))?;
        done.queries.push(answer.metrics.clone());
        self.note_unchanged(index, &name, &mut transaction).await?;
        done.usage.bytes_written += transaction.written().bytes_written;
        self.commit(step, transaction).await
    }

    /// Checks that each key has one row and that no key is null.
    async fn check_keys(
        &self,
        step: &Step,
        session: &Session,
        keys: &[String],
        done: &mut StepProgress,
    ) -> Result<()> {
        let listed = keys.iter().map(|key| quoted(key)).collect::<Vec<_>>().join(", ");
        let nulls = keys.iter().map(|key| format!(" OR {} IS NULL", quoted(key)));
        let query = format!(
            "SELECT {listed}, count(*) AS {} FROM {} GROUP BY {listed} HAVING count(*) > 1{} LIMIT 1",
            quoted(COUNT),
            quoted(ROWS),
            nulls.collect::<String>()
        );
        let failed = |error: headwater_engine::Error| Self::failed(step, None, &error);
        let answer = Box::pin(session.select(&query)).await.map_err(failed)?;
        done.queries.push(answer.metrics.clone());
        let found: Vec<RecordBatch> = answer.stream.try_collect().await.map_err(failed)?;
        let Some(row) = found.iter().find(|batch| batch.num_rows() > 0) else { return Ok(()) };
        let null_column = null_key(row);
        let what = match &null_column {
            Some(column) => format!("a row whose key `{column}` is null"),
            None => repeated(row).unwrap_or_else(|| "several rows with the same key".to_owned()),
        };
        Err(Error::Keys { step: step.name.clone(), at: step.at.clone(), what, null_column })
    }

    /// Adds an empty snapshot that records the run, if the MERGE changed no row.
    async fn note_unchanged(
        &self,
        index: usize,
        name: &TableName,
        transaction: &mut Transaction,
    ) -> Result<()> {
        let step = &self.plan.project.steps[index];
        let failed = |error: headwater_lake::Error| Self::failed(step, None, &error);
        let table = transaction.table(name).await.map_err(failed)?;
        if table.summary().get(FINGERPRINT) == Some(&self.plan.steps[index].fingerprint) {
            return Ok(());
        }
        let none = futures::stream::iter([Ok(RecordBatch::new_empty(table.schema()))]).boxed();
        transaction.append(name, none).await.map_err(failed)
    }
}

/// Returns the key columns as they are spelled in the rows.
fn keys(step: &Step, rows: &SchemaRef) -> Vec<String> {
    step.keys.iter().map(|key| spelled(key, rows).unwrap_or(key).to_owned()).collect()
}

fn spelled<'s>(name: &str, schema: &'s Schema) -> Option<&'s str> {
    let names = || schema.fields().iter().map(|field| field.name().as_str());
    names().find(|one| *one == name).or_else(|| names().find(|one| one.eq_ignore_ascii_case(name)))
}

/// Returns the MERGE statement. An existing row with equal values is not rewritten, so that its
/// file stays unchanged. If a column has a nested type, values cannot be compared and matched rows
/// are always rewritten.
fn statement(name: &TableName, table: &Schema, rows: &Schema, keys: &[String]) -> String {
    let own = |column: &str| quoted(spelled(column, table).unwrap_or(column));
    let on = keys.iter().map(|key| format!("t.{} = s.{}", own(key), quoted(key)));
    let others: Vec<&str> = rows
        .fields()
        .iter()
        .map(|field| field.name().as_str())
        .filter(|column| !keys.iter().any(|key| key == column))
        .collect();
    let comparable = rows.fields().iter().all(|field| is_comparable(field.data_type()));
    let differs =
        |column: &&str| format!("t.{} IS DISTINCT FROM s.{}", own(column), quoted(column));
    let differs: Vec<String> = others.iter().map(differs).collect();
    let only = if comparable { format!(" AND ({})", differs.join(" OR ")) } else { String::new() };
    let set = others.iter().map(|column| format!("{} = s.{}", own(column), quoted(column)));
    let matched = match set.collect::<Vec<_>>().join(", ") {
        set if set.is_empty() => String::new(),
        set => format!(" WHEN MATCHED{only} THEN UPDATE SET {set}"),
    };
    let columns = || rows.fields().iter().map(|field| field.name().as_str());
    let targets = columns().map(own).collect::<Vec<_>>().join(", ");
    let values =
        columns().map(|column| format!("s.{}", quoted(column))).collect::<Vec<_>>().join(", ");
    format!(
        "MERGE INTO {}.{} AS t USING {} AS s ON {}{matched} \
         WHEN NOT MATCHED THEN INSERT ({targets}) VALUES ({values})",
        quoted(&name.namespace),
        quoted(&name.name),
        quoted(ROWS),
        on.collect::<Vec<_>>().join(" AND "),
    )
}

fn is_comparable(data_type: &DataType) -> bool {
    !data_type.is_nested()
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Returns the first key column that contains a null, from a batch of keys with their counts.
fn null_key(found: &RecordBatch) -> Option<String> {
    let keys = found.num_columns().checked_sub(1)?;
    let null = found.columns()[..keys].iter().position(|column| column.is_null(0))?;
    Some(found.schema().field(null).name().clone())
}

/// Returns a description of the first duplicate key, from a batch of keys with their counts.
fn repeated(found: &RecordBatch) -> Option<String> {
    let options = FormatOptions::default().with_null("null");
    let (keys, count) = found.columns().split_at(found.num_columns().checked_sub(1)?);
    let value = |column: &dyn arrow::array::Array| {
        Some(ArrayFormatter::try_new(column, &options).ok()?.value(0).to_string())
    };
    let schema = found.schema();
    let mut shown = Vec::new();
    for (field, column) in schema.fields().iter().zip(keys) {
        shown.push(format!("`{}` {}", field.name(), value(column)?));
    }
    Some(format!("{} rows with {}", value(&count.first()?)?, shown.join(", ")))
}
