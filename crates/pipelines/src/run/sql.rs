//! SQL steps: straight from the engine into the table, or aside for the children.

use std::sync::Arc;

use headwater_engine::substitute;
use headwater_functions::SharedTable;

use super::output::Output;
use super::step::{Cause, told};
use super::{Done, Run};
use crate::plan::sql_error;
use crate::project::located;
use crate::source::SourceText;
use crate::step::Step;
use crate::{Error, Result};

impl Run {
    pub(super) async fn compute_sql(&self, index: usize, sql: &str, done: &mut Done) -> Result<()> {
        let step = &self.plan.project.steps[index];
        let session = self.session(step, &step.inputs)?;
        let text =
            substitute(sql, &self.plan.values).map_err(|error| sql_error(step, sql, &error))?;
        let answer =
            Box::pin(session.select(&text)).await.map_err(|error| sql_error(step, sql, &error))?;
        let metrics = Arc::clone(&answer.metrics);
        done.queries.push(Arc::clone(&metrics));
        Self::check_columns(step, &answer.schema)?;
        let (rows, output) = if step.is_materialized() {
            let schema = answer.schema.clone();
            // What the query failed of says more than that the rows to write did not come.
            let cause = Cause::default();
            let stream = told(answer.stream, &cause);
            let written = self.write(index, step, schema, stream).await;
            let cause = cause.lock().take();
            let written = match cause {
                Some(error) => return Err(runtime_error(step, sql, &error)),
                None => written?,
            };
            done.usage.bytes_written = written.bytes_written;
            (written.rows_written, Output::Table)
        } else {
            let cause = Cause::default();
            let stream = told(answer.stream, &cause);
            let table = SharedTable::write_stream(answer.schema, stream, &self.runner.room).await;
            let cause = cause.lock().take();
            let table = match cause {
                Some(error) => return Err(runtime_error(step, sql, &error)),
                None => table.map_err(|error| Self::failed(step, None, &error))?,
            };
            (table.rows(), Output::Rows(table))
        };
        done.rows = Some(rows);
        done.usage.rows_written = rows;
        done.usage.rows_read = metrics.usage().rows_read;
        done.output = Some(output);
        Ok(())
    }
}

/// What a query failed of while it ran.
fn runtime_error(step: &Step, sql: &str, error: &headwater_engine::Error) -> Error {
    let source = SourceText::new(&step.at.file, sql);
    Run::failed(step, Some(located(&source, error)), error)
}
