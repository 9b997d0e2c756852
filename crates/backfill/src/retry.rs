//! Retries of a backfill's runs after errors.

use std::time::Duration;

use headwater_model::{ErrorCode, Problem};

use crate::ValueReport;

/// The wait before the first retry of a value. Each further wait is twice as long, up to the
/// maximum.
const WAIT: Duration = Duration::from_secs(1);

/// Maximum wait before a retry.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// Codes of errors that a retry cannot avoid: errors of the request, of the permissions, and of the
/// project and its queries.
const PERMANENT: [ErrorCode; 10] = [
    ErrorCode::InvalidArgument,
    ErrorCode::InvalidProject,
    ErrorCode::InvalidSql,
    ErrorCode::UnsupportedStatement,
    ErrorCode::ColumnNotFound,
    ErrorCode::TableNotFound,
    ErrorCode::BadRow,
    ErrorCode::Forbidden,
    ErrorCode::Cancelled,
    ErrorCode::RefNotFound,
];

impl ValueReport {
    /// Returns the wait before the next run of a value after an error; `None` if the value is not
    /// retried.
    pub fn retry(&self, retries: u32, problem: &Problem) -> Option<Duration> {
        if self.attempts > retries || PERMANENT.contains(&problem.code) {
            return None;
        }
        let factor = 2u32.saturating_pow(self.attempts.saturating_sub(1));
        Some(WAIT.saturating_mul(factor).min(WAIT_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_and_errors_of_the_project_are_not_retried() {
        let transient = Problem::new(ErrorCode::TimeLimit, "slow");
        let mut report = ValueReport::new("1");
        let mut waits = Vec::new();
        for _ in 0..8 {
            report.attempts += 1;
            waits.push(report.retry(7, &transient).map(|wait| wait.as_secs()));
        }
        let expected = [1, 2, 4, 8, 16, 30, 30].map(Some);
        assert_eq!(waits, [&expected[..], &[None]].concat());
        report.attempts = 1;
        for code in [ErrorCode::InvalidProject, ErrorCode::BadRow, ErrorCode::ColumnNotFound] {
            assert_eq!(report.retry(7, &Problem::new(code, "wrong")), None);
        }
    }
}
