//! Row expectations of a run: divides a model's rows into rows to write and rows for the quarantine
//! table.

use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, RecordBatch, StringArray};
use arrow::compute::{filter_record_batch, not};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use futures::StreamExt;
use headwater_engine::PreparedStatement;
use headwater_functions::SharedTable;
use headwater_lake::BatchStream;
use headwater_model::{ErrorCode, Problem};
use headwater_project::{QUARANTINE_COLUMNS, Severity, Step};

use super::step::{FirstQueryError, capture_first_error};
use super::{Run, StepProgress, step_output};
use crate::row_expectations::{ROWS, check_reserved, check_type, query};
use crate::{Error, Result};

/// Separator between the violated conditions in the reason column of a quarantine table.
const SEPARATOR: &str = "; ";

/// Rows of a model, divided by its row expectations.
pub(super) struct CheckedRows {
    /// Rows to write.
    pub rows: SharedTable,
    /// Rows for the quarantine table, including its additional columns; `None` if the model has no
    /// quarantine table.
    pub quarantine: Option<SharedTable>,
}

/// A model's rows, followed by the result of each condition.
#[derive(Clone)]
struct EvaluatedRows {
    /// Columns of the model, without the results of the conditions.
    schema: SchemaRef,
    rows: SharedTable,
    severities: Vec<Severity>,
    conditions: Vec<String>,
}

impl Run {
    /// Evaluates the row expectations of a model. Fails if a row violates an expectation with the
    /// severity `fail`. Rows that go to the quarantine table cannot cause this failure.
    pub(super) async fn check_rows(
        &self,
        step: &Step,
        rows: SharedTable,
        done: &mut StepProgress,
    ) -> Result<CheckedRows> {
        if step.row_expectations.is_empty() {
            return Ok(CheckedRows { rows, quarantine: None });
        }
        let evaluated = self.evaluate(step, &rows, done).await?;
        let arrow = |error| Self::failed(step, None, &headwater_functions::Error::Arrow(error));
        let (failed, counts) = evaluated.count().await.map_err(arrow)?;
        self.report_counts(step, &counts, rows.rows() - failed)?;
        if step.quarantine_table().is_none() {
            return Ok(CheckedRows { rows, quarantine: None });
        }
        done.quarantined = Some(failed);
        let quota = self.row_quota();
        let rows = if failed == 0 {
            rows
        } else {
            drop(rows);
            let passing = SharedTable::write_stream(
                Arc::clone(&evaluated.schema),
                evaluated.passing(),
                quota,
            );
            passing.await.map_err(|error| Self::failed(step, None, &error))?
        };
        let job = self.context.id().to_string();
        let failing = SharedTable::write_stream(
            quarantine_schema(&evaluated.schema),
            evaluated.failing(job),
            quota,
        );
        let failing = failing.await.map_err(|error| Self::failed(step, None, &error))?;
        Ok(CheckedRows { rows, quarantine: Some(failing) })
    }

    /// Evaluates every condition exactly once for each row and stores the results, because a
    /// condition can be random.
    async fn evaluate(
        &self,
        step: &Step,
        rows: &SharedTable,
        done: &mut StepProgress,
    ) -> Result<EvaluatedRows> {
        let schema = rows.schema();
        check_reserved(step, schema.fields().iter().map(|field| field.name().as_str()))?;
        let session = self.engine_session(step, std::collections::BTreeMap::new())?;
        step_output::register(&session, ROWS, rows)?;
        let count = step.row_expectations.len();
        let failed = |error: headwater_engine::Error| Error::of_condition(step, 0, &error);
        let statement = PreparedStatement::parse(&query(step, &["*"], 0..count))
            .and_then(|query| query.bind(&self.plan.values))
            .map_err(|error| failed(error.into()))?;
        let answer = Box::pin(session.select(statement)).await.map_err(failed)?;
        done.queries.push(Arc::clone(&answer.metrics));
        let own = answer.schema.fields().len().saturating_sub(count);
        for (number, field) in answer.schema.fields().iter().skip(own).enumerate() {
            check_type(step, number, field.data_type())?;
        }
        let cause = FirstQueryError::default();
        let (all, stream) =
            (Arc::clone(&answer.schema), capture_first_error(answer.stream, &cause));
        let rows = SharedTable::write_stream(all, stream, self.row_quota()).await;
        let rows = rows.map_err(|error| match cause.lock().take() {
            Some(error) => failed(error),
            None => Self::failed(step, None, &error),
        })?;
        let columns: Vec<usize> = (0..own).collect();
        let schema = answer
            .schema
            .project(&columns)
            .map_err(|error| Self::failed(step, None, &headwater_functions::Error::Arrow(error)))?;
        let expectations = step.row_expectations.iter();
        let (severities, conditions) =
            expectations.map(|one| (one.severity, one.condition.clone())).unzip();
        Ok(EvaluatedRows { schema: Arc::new(schema), rows, severities, conditions })
    }

    /// Reports the conditions that rows outside of the quarantine violate, as an error or as a
    /// warning.
    fn report_counts(&self, step: &Step, counts: &[u64], rows: u64) -> Result<()> {
        let mut failures = Vec::new();
        for (expectation, count) in step.row_expectations.iter().zip(counts) {
            if *count == 0 || expectation.severity == Severity::Quarantine {
                continue;
            }
            let text = format!(
                "{count} of {rows} rows of `{}` do not satisfy `{}` ({})",
                step.name, expectation.condition, expectation.at
            );
            if self.strict && expectation.severity == Severity::Fail {
                failures.push(text);
            } else {
                self.log(step, format!("warning: {text}"));
            }
        }
        let mut failures = failures.into_iter();
        let Some(message) = failures.next() else { return Ok(()) };
        let mut problem = Problem::new(ErrorCode::ExpectationFailed, message).with_hint(
            "Correct the rows, or keep them out of the table with `expect_or_quarantine`.",
        );
        problem.causes.extend(failures);
        problem.context.insert("step".to_owned(), step.name.clone().into());
        problem.context.insert("file".to_owned(), step.at.file.to_string().into());
        problem.context.insert("line".to_owned(), step.at.line.into());
        Err(problem.into())
    }
}

impl EvaluatedRows {
    /// Returns the number of rows for the quarantine. Also returns, for each condition, the number
    /// of rows outside of the quarantine that violate the condition.
    async fn count(&self) -> Result<(u64, Vec<u64>), ArrowError> {
        let (mut quarantined, mut counts) = (0, vec![0; self.severities.len()]);
        let mut rows = self.rows.stream();
        while let Some(batch) = rows.next().await {
            let batch = batch?;
            let stays = self.passing_mask(&batch)?;
            quarantined += stays.false_count() as u64;
            for (number, count) in counts.iter_mut().enumerate() {
                let failed = not(&self.satisfied(&batch, number))?;
                *count += arrow::compute::and(&failed, &stays)?.true_count() as u64;
            }
        }
        Ok((quarantined, counts))
    }

    /// Returns for each row true if it satisfies a condition. Null counts as false.
    fn satisfied(&self, batch: &RecordBatch, number: usize) -> BooleanArray {
        let column = batch.column(self.schema.fields().len() + number).as_boolean();
        column.iter().map(|value| Some(value == Some(true))).collect()
    }

    /// Returns false for each row that belongs in the quarantine table, and true for the others.
    fn passing_mask(&self, batch: &RecordBatch) -> Result<BooleanArray, ArrowError> {
        let mut stays = BooleanArray::from(vec![true; batch.num_rows()]);
        for number in self.quarantines() {
            stays = arrow::compute::and(&stays, &self.satisfied(batch, number))?;
        }
        Ok(stays)
    }

    fn quarantines(&self) -> impl Iterator<Item = usize> {
        let severities = self.severities.iter().enumerate();
        severities.filter(|(_, one)| **one == Severity::Quarantine).map(|(number, _)| number)
    }

    fn own(&self, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let columns: Vec<usize> = (0..self.schema.fields().len()).collect();
        batch.project(&columns)
    }

    /// Returns the rows to write.
    fn passing(&self) -> BatchStream {
        let this = self.clone();
        let pass = move |batch: Result<RecordBatch, ArrowError>| {
            let batch = batch?;
            filter_record_batch(&this.own(&batch)?, &this.passing_mask(&batch)?)
        };
        self.rows.stream().map(pass).boxed()
    }

    /// Returns the rows for the quarantine table.
    fn failing(&self, job: String) -> BatchStream {
        let this = self.clone();
        let fail = move |batch: Result<RecordBatch, ArrowError>| {
            let batch = batch?;
            let failing = not(&this.passing_mask(&batch)?)?;
            let reasons = this.reasons(&batch);
            let jobs = StringArray::from(vec![job.as_str(); batch.num_rows()]);
            let mut columns = this.own(&batch)?.columns().to_vec();
            columns.extend([Arc::new(reasons) as _, Arc::new(jobs) as _]);
            let batch = RecordBatch::try_new(quarantine_schema(&this.schema), columns)?;
            filter_record_batch(&batch, &failing)
        };
        self.rows.stream().map(fail).boxed()
    }

    /// Returns for each row the quarantine conditions that the row violates.
    fn reasons(&self, batch: &RecordBatch) -> StringArray {
        let results: Vec<(usize, BooleanArray)> =
            self.quarantines().map(|number| (number, self.satisfied(batch, number))).collect();
        let reason = |row: usize| {
            let failed = results.iter().filter(|(_, satisfied)| !satisfied.value(row));
            let failed: Vec<&str> =
                failed.map(|(number, _)| self.conditions[*number].as_str()).collect();
            Some(failed.join(SEPARATOR))
        };
        (0..batch.num_rows()).map(reason).collect()
    }
}

fn quarantine_schema(schema: &Schema) -> SchemaRef {
    let own = QUARANTINE_COLUMNS.map(|name| Arc::new(Field::new(name, DataType::Utf8, true)));
    Arc::new(Schema::new(schema.fields().iter().cloned().chain(own).collect::<Vec<_>>()))
}
