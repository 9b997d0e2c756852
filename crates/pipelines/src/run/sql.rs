//! SQL steps: straight from the engine into the table, or into memory for the children.

use std::sync::Arc;

use arrow::error::ArrowError;
use futures::{StreamExt, TryStreamExt};
use headwater_engine::{Answer, substitute};
use headwater_model::Usage;
use parking_lot::Mutex;

use super::output::{self, Output};
use super::{Done, Run};
use crate::plan::sql_error;
use crate::project::located;
use crate::source::SourceText;
use crate::step::Step;
use crate::{Error, Result};

impl Run {
    pub(super) async fn compute_sql(&self, index: usize, step: &Step, sql: &str) -> Result<Done> {
        let session = self.session(step, &step.inputs)?;
        let text =
            substitute(sql, &self.plan.values).map_err(|error| sql_error(step, sql, &error))?;
        let answer =
            Box::pin(session.select(&text)).await.map_err(|error| sql_error(step, sql, &error))?;
        Self::check_columns(step, &answer.schema)?;
        let metrics = Arc::clone(&answer.metrics);
        let (rows, written, output) = if step.is_materialized() {
            let schema = answer.schema.clone();
            // What the query failed of says more than that the rows to write did not come.
            let cause = Arc::new(Mutex::new(None));
            let noted = Arc::clone(&cause);
            let stream = answer.stream.map_err(move |error| {
                let failed = ArrowError::ComputeError(error.to_string());
                *noted.lock() = Some(error);
                failed
            });
            let written = self.write(index, step, schema, stream.boxed()).await;
            let cause = cause.lock().take();
            let written = match cause {
                Some(error) => return Err(runtime_error(step, sql, &error)),
                None => written?,
            };
            (written.rows_written, written, Output::Table)
        } else {
            let (rows, output) =
                collect(answer).await.map_err(|error| runtime_error(step, sql, &error))?;
            (rows, Usage::default(), output)
        };
        let mut usage = metrics.usage();
        usage.bytes_written = written.bytes_written;
        usage.rows_written = rows;
        Ok(Done { rows: Some(rows), usage, output: Some(output), ..Done::default() })
    }

    /// The columns a model declares are those it gives.
    pub(super) fn check_columns(step: &Step, schema: &arrow::datatypes::Schema) -> Result<()> {
        let Some(declared) = &step.columns else { return Ok(()) };
        let given: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        let missing = declared.iter().filter(|name| !given.contains(&name.as_str()));
        let missing: Vec<String> = missing.map(|name| format!("`{name}` is missing")).collect();
        let more = given.iter().filter(|name| !declared.iter().any(|known| known == *name));
        let more: Vec<String> = more.map(|name| format!("`{name}` is not declared")).collect();
        let difference = [missing, more].concat().join(", ");
        if difference.is_empty() {
            return Ok(());
        }
        Err(Error::DeclaredColumns { step: step.name.clone(), at: step.at.clone(), difference })
    }
}

/// What a query failed of while it ran.
fn runtime_error(step: &Step, sql: &str, error: &headwater_engine::Error) -> Error {
    let source = SourceText::new(&step.at.file, sql);
    Run::failed(step, Some(located(&source, error)), error)
}

async fn collect(answer: Answer) -> headwater_engine::Result<(u64, Output)> {
    let batches: Vec<_> = answer.stream.try_collect().await?;
    let rows = batches.iter().map(|batch| batch.num_rows() as u64).sum();
    Ok((rows, output::rows(answer.schema, batches)))
}
