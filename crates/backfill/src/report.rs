//! Outcomes of a backfill, for each value of its parameter.

use std::collections::HashMap;

use headwater_model::{CommitId, ErrorCode, Problem};
use serde::{Deserialize, Serialize};

/// Outcome of a backfill for one value of its parameter.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ValueReport {
    /// The parameter's value.
    pub value: String,
    /// The outcome.
    pub status: ValueStatus,
    /// Number of runs.
    pub attempts: u32,
    /// The job of the last run.
    pub job: Option<String>,
    /// The branch's commit after the merge.
    pub commit: Option<CommitId>,
    /// The error of a failed value.
    pub error: Option<Problem>,
}

/// The outcome of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ValueStatus {
    /// The run's tables are merged.
    Merged,
    /// The run changed no table.
    Unchanged,
    /// The last run or merge failed.
    Failed,
    /// The value has not run, or its run has not ended.
    Waiting,
}

impl ValueReport {
    /// Creates the report of a value that did not run yet.
    pub fn new(value: &str) -> Self {
        let (value, status) = (value.to_owned(), ValueStatus::Waiting);
        ValueReport { value, status, attempts: 0, job: None, commit: None, error: None }
    }

    /// Sets the outcome to merged with this commit, or to unchanged for `None`.
    pub fn merged(&mut self, commit: Option<CommitId>) {
        self.status = if commit.is_some() { ValueStatus::Merged } else { ValueStatus::Unchanged };
        self.commit = commit;
    }

    /// Returns the outcome as text.
    pub fn outcome(&self) -> String {
        let outcome = match (&self.commit, &self.error) {
            (Some(commit), _) => format!("merged as @{}", commit.short()),
            (None, Some(problem)) => {
                format!("failed: {}", problem.message.lines().next().unwrap_or_default())
            }
            (None, None) if self.status == ValueStatus::Waiting => "waiting".to_owned(),
            (None, None) => "unchanged".to_owned(),
        };
        match self.attempts {
            0 | 1 => outcome,
            count => format!("{outcome}, {count} runs"),
        }
    }

    /// Returns the last part of the name of the branch for this value. Characters that are not
    /// allowed in names are written as hexadecimal numbers.
    pub fn branch_part(&self) -> String {
        let part = |byte: u8| match byte {
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'-' => char::from(byte).to_string(),
            other => format!("_{other:02x}"),
        };
        self.value.bytes().map(part).collect()
    }

    /// Returns the report with the error of the last run or merge.
    #[must_use]
    pub fn failed(self, problem: Problem) -> Self {
        ValueReport { status: ValueStatus::Failed, commit: None, error: Some(problem), ..self }
    }
}

/// Outcome of a backfill.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BackfillReport {
    /// The name of the parameter.
    pub parameter: String,
    /// The branch into which the runs are merged.
    pub branch: String,
    /// Number of values.
    pub total: usize,
    /// All values, in the order of the request.
    pub values: Vec<ValueReport>,
}

impl BackfillReport {
    /// Creates the report of all `values`. Those that are not among the reports `ended` count as
    /// waiting.
    pub fn new(
        parameter: &str,
        branch: &str,
        values: &[String],
        ended: impl IntoIterator<Item = ValueReport>,
    ) -> Self {
        let ended = ended.into_iter().map(|report| (report.value.clone(), report));
        let mut ended: HashMap<String, ValueReport> = ended.collect();
        let report =
            |value: &String| ended.remove(value).unwrap_or_else(|| ValueReport::new(value));
        BackfillReport {
            parameter: parameter.to_owned(),
            branch: branch.to_owned(),
            total: values.len(),
            values: values.iter().map(report).collect(),
        }
    }

    /// Returns an error that names the failed values; `None` if no value failed. The command in the
    /// error's hint repeats `options`, the other arguments of the original command.
    pub fn problem(&self, options: &[String]) -> Option<Problem> {
        let failed = self.values.iter().filter_map(|report| Some((report, report.error.as_ref()?)));
        let failed: Vec<(&ValueReport, &Problem)> = failed.collect();
        let (_, first) = failed.first()?;
        let is_waiting = |report: &&ValueReport| report.status == ValueStatus::Waiting;
        let waiting = self.values.iter().filter(is_waiting).count();
        let missing = failed.len() + waiting;
        let message = format!("{missing} of {} values were not backfilled", self.total);
        let mut problem = Problem::new(first.code, message);
        let name = &self.parameter;
        let cause = |(report, problem): &(&ValueReport, &Problem)| {
            format!("{name}={}: {}", report.value, problem.message)
        };
        problem.causes = failed.iter().map(cause).collect();
        if failed.len() == 1 {
            problem.causes.extend(first.causes.iter().cloned());
        }
        let hint = if self.total == 1 || waiting > 0 {
            let hint = first.hint.clone().filter(|_| first.code != ErrorCode::MergeConflict);
            hint.unwrap_or_else(|| "Correct the error, and run the command again.".to_owned())
        } else {
            let values: Vec<&str> =
                failed.iter().map(|(report, _)| report.value.as_str()).collect();
            let mut command = shell_word(&format!("{name}={}", values.join(",")));
            for option in options {
                command.push(' ');
                command.push_str(&shell_word(option));
            }
            format!("Run the missing values again: `headwater backfill {command}`.")
        };
        Some(problem.with_hint(hint))
    }
}

/// Returns an argument for a POSIX shell, in quotes if needed.
fn shell_word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(values: &[(&str, Option<Problem>)]) -> BackfillReport {
        let value = |(value, problem): &(&str, Option<Problem>)| {
            let report = ValueReport::new(value);
            match problem {
                Some(problem) => report.failed(problem.clone()),
                None => ValueReport { status: ValueStatus::Merged, ..report },
            }
        };
        BackfillReport {
            parameter: "city".to_owned(),
            branch: "dev".to_owned(),
            total: values.len(),
            values: values.iter().map(value).collect(),
        }
    }

    #[test]
    fn the_hint_repeats_the_options_of_the_command() {
        let mut slow = Problem::new(ErrorCode::TimeLimit, "slow");
        slow.causes.push("waited for a lock".to_owned());
        let report = report(&[("Oslo", None), ("New York", Some(slow))]);
        let options = ["--ref", "dev", "--select", "tag:a b", "it's"].map(str::to_owned);
        let problem = report.problem(&options).unwrap();
        assert_eq!(problem.causes, ["city=New York: slow", "waited for a lock"]);
        let command = r"headwater backfill 'city=New York' --ref dev --select 'tag:a b' 'it'\''s'";
        let hint = format!("Run the missing values again: `{command}`.");
        assert_eq!(problem.hint.as_deref(), Some(hint.as_str()));
    }

    #[test]
    fn values_that_did_not_run_are_waiting() {
        let failed = Problem::new(ErrorCode::RunFailed, "`daily` failed\nin two lines");
        let failed = ValueReport::new("1").failed(failed);
        let values = ["1", "2", "3"].map(str::to_owned);
        let report = BackfillReport::new("n", "main", &values, [failed]);
        let outcomes: Vec<String> = report.values.iter().map(ValueReport::outcome).collect();
        assert_eq!(outcomes, ["failed: `daily` failed", "waiting", "waiting"]);
        let problem = report.problem(&[]).unwrap();
        assert_eq!(problem.message, "3 of 3 values were not backfilled");
        let hint = "Correct the error, and run the command again.";
        assert_eq!(problem.hint.as_deref(), Some(hint));
    }

    #[test]
    fn an_error_of_the_only_value_keeps_its_hint() {
        let unknown = Problem::new(ErrorCode::InvalidArgument, "no parameter `ctiy`");
        let report = report(&[("Oslo", Some(unknown.with_hint("Did you mean `city`?")))]);
        let problem = report.problem(&[]).unwrap();
        assert_eq!(problem.hint.as_deref(), Some("Did you mean `city`?"));
    }
}
