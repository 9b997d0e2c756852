//! SQL steps: the engine's rows are written to the table, or stored for the steps that read them.

use std::sync::Arc;

use arrow::error::ArrowError;
use futures::{StreamExt, TryStreamExt};
use headwater_engine::PreparedStatement;
use headwater_functions::{SharedTable, TableQuota};
use headwater_lake::BatchStream;
use headwater_model::{ErrorCode, ToProblem};
use headwater_project::{SourceText, Step, located};
use parking_lot::Mutex;

use super::step::{FirstQueryError, capture_first_error, in_time};
use super::step_output::StepOutput;
use super::table_write::WriteAdditions;
use super::{Run, StepProgress};
use crate::declared_columns::{
    NullCounts, check_distinct_names, count_nulls, forbids_nulls, has_nulls,
};
use crate::plan::sql_error;
use crate::{Error, Result};

impl Run {
    /// Computes an SQL step. After a failure that may be transient, repeats it as often as the
    /// model declares. A step whose commit has started is not repeated, because a second commit
    /// could store the rows twice.
    pub(super) async fn compute_sql(
        &self,
        index: usize,
        sql: &str,
        done: &mut StepProgress,
    ) -> Result<()> {
        let step = &self.plan.project.steps[index];
        let mut repetition = 0;
        loop {
            let attempt = Box::pin(self.try_sql(index, sql, done));
            let outcome = self.unless_cancelled(in_time(step, attempt)).await;
            let again =
                repetition < step.retries.count && !self.committing.lock().contains(&step.name);
            match outcome {
                Err(error) if again && is_transient(&error) => {
                    repetition += 1;
                    self.wait_for_retry(step, step.retries, repetition, &error.to_string()).await?;
                    (done.output, done.preview) = (None, None);
                    (done.rows, done.quarantined) = (None, None);
                }
                outcome => return outcome,
            }
        }
    }

    async fn try_sql(&self, index: usize, sql: &str, done: &mut StepProgress) -> Result<()> {
        let step = &self.plan.project.steps[index];
        if step.is_view() && self.plan.preview.is_none() {
            return Box::pin(self.create_view(index, sql, done)).await;
        }
        let inputs: Vec<usize> = (0..step.inputs.len()).collect();
        let session = self.session(step, &inputs, &done.increments).await?;
        let failed = |error| sql_error(step, sql, &error).with_parameters(&self.plan.values);
        let query = PreparedStatement::parse(sql).and_then(|query| query.bind(&self.plan.values));
        let query = query.map_err(|error| failed(error.into()))?;
        let answer = Box::pin(session.select(query)).await.map_err(failed)?;
        let metrics = Arc::clone(&answer.metrics);
        done.queries.push(Arc::clone(&metrics));
        let names = answer.schema.fields().iter().map(|field| field.name().as_str());
        check_distinct_names(step, names)?;
        self.check_columns(step, &answer.schema)?;
        // Store the query's error, because it is more specific than the error of the write.
        let cause = FirstQueryError::default();
        let (schema, stream) = (answer.schema, capture_first_error(answer.stream, &cause));
        let nulls = ForbiddenNullCounts::default();
        let stream = without_nulls(step, stream, &nulls);
        let failed = |cause: &FirstQueryError, error: Error| match (
            cause.lock().take(),
            nulls.lock().take(),
        ) {
            (Some(error), _) => runtime_error(step, sql, &error),
            (None, Some(counts)) => has_nulls(step, &counts),
            (None, None) => error,
        };
        if self.writes_while_computing(index) && step.row_expectations.is_empty() {
            let stream = self.collect_preview(&schema, stream, done);
            let options = WriteAdditions { read: &done.increments.read, quarantine: None };
            let written = self.write(index, schema, stream, options).await;
            let written = written.map_err(|error| failed(&cause, error))?;
            done.usage.bytes_written = written.bytes_written;
            done.output = Some(StepOutput::Table);
            done.rows = Some(written.rows_written);
            done.usage.rows_written = written.rows_written;
        } else {
            let rows = SharedTable::write_stream(schema, stream, self.row_quota()).await;
            let rows = rows.map_err(|error| failed(&cause, Self::failed(step, None, &error)))?;
            Box::pin(self.store(index, rows, done)).await?;
        }
        done.usage.rows_read = metrics.usage().rows_read;
        Ok(())
    }
}

impl Run {
    /// Returns the quota for rows that are not in a table yet.
    pub(super) fn row_quota(&self) -> &TableQuota {
        &self.runner.table_quota
    }
}

/// Number of forbidden nulls in each column. Set after the last row; `None` before, or if there are
/// no forbidden nulls.
type ForbiddenNullCounts = Arc<Mutex<Option<NullCounts>>>;

/// Counts the nulls in columns that are declared `not null`. If there are any, records the counts
/// in `found`, and ends the stream with an error after the last row, so that the rows are not
/// committed.
fn without_nulls(step: &Step, rows: BatchStream, found: &ForbiddenNullCounts) -> BatchStream {
    if !forbids_nulls(&step.contract) {
        return rows;
    }
    let (declared, found) = (step.contract.clone(), Arc::clone(found));
    let counts = Arc::new(Mutex::new(NullCounts::new()));
    let counted = Arc::clone(&counts);
    let rows = rows.inspect_ok(move |batch| count_nulls(&declared, batch, &mut counted.lock()));
    let end = futures::stream::once(async move {
        let counts = std::mem::take(&mut *counts.lock());
        if counts.is_empty() {
            return None;
        }
        *found.lock() = Some(counts);
        Some(Err(ArrowError::ComputeError("a `not null` column has nulls".to_owned())))
    });
    rows.chain(end.filter_map(futures::future::ready)).boxed()
}

/// Returns true if the failure of a query may be transient: an exceeded time limit, a full queue,
/// or a failed access to a file or server.
fn is_transient(error: &Error) -> bool {
    use ErrorCode::{Storage, TimeLimit, TooBusy, Unavailable};
    matches!(error.code(), TimeLimit | TooBusy | Storage | Unavailable)
}

/// Converts an error that a query returned during execution.
fn runtime_error(step: &Step, sql: &str, error: &headwater_engine::Error) -> Error {
    let source = SourceText::new(&step.at.file, sql);
    let problem = error.to_problem().with_file_excerpt(&step.at.file, sql);
    Run::failed(step, Some(located(&source, error)), &problem)
}
