//! Builds the queries that evaluate the row expectations of a model, and checks them before a run.

use arrow::datatypes::{DataType, Schema};
use headwater_engine::PreparedStatement;
use headwater_model::{ErrorCode, ToProblem};
use headwater_project::{Error as ProjectError, QUARANTINE_COLUMNS, Step};

use crate::column_inference::{OutputColumns, without_position};
use crate::plan::{Plan, sql_error};
use crate::{Error, Result, Runner};

/// Name under which a session registers the rows to check.
pub(crate) const ROWS: &str = "headwater rows";

/// Returns the query that selects `columns`, followed by the results of the conditions with the
/// indexes `numbers`. A condition may qualify columns with the model's name.
pub(crate) fn query(step: &Step, columns: &[&str], numbers: std::ops::Range<usize>) -> String {
    let conditions = numbers.map(|number| {
        // A condition may end with an SQL line comment, so the closing parenthesis is on the next
        // line.
        let condition = &step.row_expectations[number].condition;
        format!("({condition}\n) AS {}", quoted(&column(number)))
    });
    let columns = columns.iter().map(|name| (*name).to_owned());
    let selected: Vec<String> = columns.chain(conditions).collect();
    format!("SELECT {} FROM {} AS {}", selected.join(", "), quoted(ROWS), quoted(&step.table.name))
}

/// Quotes a name for SQL.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Returns the name of the column with the results of the condition at this index.
fn column(number: usize) -> String {
    format!("headwater condition {number}")
}

/// Fails if the result type of a condition is not Boolean.
pub(crate) fn check_type(step: &Step, number: usize, data_type: &DataType) -> Result<()> {
    if *data_type == DataType::Boolean {
        return Ok(());
    }
    let expectation = &step.row_expectations[number];
    let message = format!(
        "the row expectation `{}` of `{}` has the type {data_type}, not Boolean",
        expectation.condition, step.name
    );
    let hint = "Write a comparison, such as `amount >= 0`.";
    Err(Error::invalid(expectation.at.clone(), message, hint))
}

/// Fails if a model with a quarantine has a column whose name the quarantine table reserves.
pub(crate) fn check_reserved<'n>(
    step: &Step,
    mut names: impl Iterator<Item = &'n str>,
) -> Result<()> {
    if step.quarantine_table().is_none() {
        return Ok(());
    }
    let is_reserved =
        |name: &&str| QUARANTINE_COLUMNS.iter().any(|own| own.eq_ignore_ascii_case(name));
    let Some(name) = names.find(is_reserved) else { return Ok(()) };
    let message =
        format!("column `{name}` of `{}` has a name that is reserved for quarantine", step.name);
    Err(Error::invalid(step.at.clone(), message, "Rename the column."))
}

impl Plan {
    /// Checks the row expectations of a model against its columns, if these are known.
    pub(crate) async fn check_row_expectations(
        &self,
        runner: &Runner,
        step: &Step,
        columns: &OutputColumns,
    ) -> Result<()> {
        let Some(schema) = columns.to_plan_with() else { return Ok(()) };
        check_reserved(step, schema.fields().iter().map(|field| field.name().as_str()))?;
        for (number, expectation) in step.row_expectations.iter().enumerate() {
            let session = self.planning_session(runner)?;
            let registered = session.register_empty(ROWS, schema.clone());
            registered.map_err(|error| Error::other(&error))?;
            let query = query(step, &[], number..number + 1);
            let planned =
                match PreparedStatement::parse(&query).and_then(|it| it.bind(&self.values)) {
                    Ok(prepared) => session.schema_of(prepared).await,
                    Err(error) => Err(error.into()),
                };
            match planned {
                Ok(_) if !columns.is_typed() => {}
                Ok(planned) => check_type(step, number, first_type(&planned))?,
                // If types are unknown, only a missing column is certainly an error.
                Err(error) if !columns.is_typed() && error.code() != ErrorCode::ColumnNotFound => {}
                Err(error) => {
                    let error = sql_error(step, &query, &error);
                    return Err(without_position(error, &expectation.at));
                }
            }
        }
        Ok(())
    }
}

fn first_type(schema: &Schema) -> &DataType {
    schema.fields().first().map_or(&DataType::Null, |field| field.data_type())
}

impl Error {
    /// Converts an error of the query that evaluates the conditions. The new error has the location
    /// of the condition with the index `number`.
    pub(crate) fn of_condition(
        step: &Step,
        number: usize,
        error: &headwater_engine::Error,
    ) -> Self {
        let at = step.row_expectations.get(number).map_or(&step.at, |one| &one.at).clone();
        let mut problem = error.to_problem();
        for key in ["line", "column", "excerpt"] {
            problem.context.remove(key);
        }
        ProjectError::Sql { step: step.name.clone(), at, problem: Box::new(problem) }.into()
    }
}
