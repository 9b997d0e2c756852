//! Row expectations of a model: conditions that every row of the model's result should satisfy.

use std::collections::BTreeSet;

use headwater_model::{TableName, ToProblem};

use crate::{Error, Location, ParameterInput, Result, Severity, Step};

/// The kinds of row expectations, in the order of the documentation.
pub(crate) const KINDS: [RowExpectationKind; 3] = [
    RowExpectationKind { name: "expect", severity: Severity::Fail },
    RowExpectationKind { name: "expect_or_warn", severity: Severity::Warn },
    RowExpectationKind { name: "expect_or_quarantine", severity: Severity::Quarantine },
];

/// A kind of row expectation: the setting that declares its conditions, and their severity.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowExpectationKind {
    /// The setting's name.
    pub name: &'static str,
    /// Severity of the conditions that the setting contains.
    pub severity: Severity,
}

/// Suffix of the name of a model's quarantine table.
const SUFFIX: &str = "_quarantine";

/// Columns that follow the model's columns in a quarantine table: the failed conditions, and the
/// job of the run.
pub const QUARANTINE_COLUMNS: [&str; 2] = ["quarantine_reason", "quarantine_job"];

/// A condition that every row of a model's result should satisfy. Null counts as not satisfied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowExpectation {
    /// Condition in SQL over the model's columns, with `$parameters`.
    pub condition: String,
    /// Consequence for rows that do not satisfy the condition.
    pub severity: Severity,
    /// Location in the source.
    pub at: Location,
}

impl RowExpectation {
    /// Parses a condition, the value of a setting. Also returns the parameters that it uses.
    pub(crate) fn parse(
        RowExpectationKind { name, severity }: RowExpectationKind,
        condition: &str,
        at: &Location,
    ) -> Result<(Self, Vec<ParameterInput>)> {
        let condition = condition.trim();
        let checked = headwater_sql::check_condition(condition);
        let used = checked.and_then(|()| headwater_sql::placeholders(condition));
        let used = used.map_err(|error| {
            let hint = "Write a condition over the model's columns, such as `amount >= 0`.";
            Error::invalid(at.clone(), format!("`{name}` cannot be used: {error}"), hint)
        })?;
        let parameter =
            |(name, _): (String, _)| ParameterInput { argument: None, name, at: at.clone() };
        let expectation =
            RowExpectation { condition: condition.to_owned(), severity, at: at.clone() };
        Ok((expectation, used.into_iter().map(parameter).collect()))
    }
}

/// Returns the name of a model's quarantine table.
pub fn quarantine_name(model: &str) -> String {
    format!("{model}{SUFFIX}")
}

impl Step {
    /// Returns the table for the rows that fail an expectation with the severity `quarantine`;
    /// `None` if the model has no such expectation.
    pub fn quarantine_table(&self) -> Option<TableName> {
        let mut expectations = self.row_expectations.iter();
        let quarantines = expectations.any(|one| one.severity == Severity::Quarantine);
        let TableName { namespace, name } = self.table.clone();
        quarantines.then(|| TableName { namespace, name: quarantine_name(&name) })
    }
}

/// Checks that models with a quarantine table are stored, and that no model has the name of a
/// quarantine table.
pub(crate) fn check(steps: &[Step]) -> Result<()> {
    let full = |table: &TableName| table.to_string().to_lowercase();
    let tables: BTreeSet<String> = steps.iter().map(|step| full(&step.table)).collect();
    for step in steps {
        let Some(table) = step.quarantine_table() else { continue };
        let quarantines = |one: &&RowExpectation| one.severity == Severity::Quarantine;
        let at = step.row_expectations.iter().find(quarantines).map(|one| one.at.clone());
        let at = at.unwrap_or_else(|| step.at.clone());
        if !step.is_materialized() {
            let message = format!(
                "`{}` uses `expect_or_quarantine`, but is not stored as a table",
                step.name
            );
            let hint = "Set `materialization`, or use `expect` or `expect_or_warn`.";
            return Err(Error::invalid(at, message, hint));
        }
        if tables.contains(&full(&table)) {
            let message =
                format!("model `{table}` has the name of the quarantine table of `{}`", step.name);
            return Err(Error::invalid(at, message, "Rename one of the models."));
        }
        TableName::new(table.namespace, table.name).map_err(|error| Error::Invalid {
            at,
            message: format!("the quarantine table of `{}` cannot be created: {error}", step.name),
            hint: error.hint(),
        })?;
    }
    Ok(())
}
