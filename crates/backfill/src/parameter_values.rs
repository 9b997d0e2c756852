//! Values of a backfill: a range or a list. The Python client has the same rules, in
//! `python/headwater/backfill_values.py`.

use std::collections::HashSet;

use chrono::{Datelike, NaiveDate};

use headwater_model::{ErrorCode, Problem};

/// Maximum number of values.
const VALUES_MAX: usize = 10_000;

/// Hint with the forms of a range.
const FORMS: &str = "Write `day=2026-01-01..2026-01-31`, `month=2026-01..2026-06`, `part=0..15` or \
                     `origin=JFK,LGA`.";

/// A parameter with its values, in order.
#[derive(Debug, PartialEq, Eq)]
pub struct ParameterValues {
    /// The name of the parameter.
    pub name: String,
    /// The parameter's values, without duplicates.
    pub values: Vec<String>,
}

impl ParameterValues {
    /// Parses `NAME=FROM..TO` or `NAME=VALUE,VALUE`. Both ends of a range are included.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        let invalid = |message: String| Problem::new(ErrorCode::InvalidArgument, message);
        let wrong = |message: String| invalid(message).with_hint(FORMS);
        let (name, values) = text
            .split_once('=')
            .map(|(name, values)| (name.trim(), values.trim()))
            .filter(|(name, values)| !name.is_empty() && !values.is_empty())
            .ok_or_else(|| wrong(format!("`{text}` does not have the form `PARAMETER=VALUES`")))?;
        let values = match values.split_once("..") {
            Some((from, to)) => range(from.trim(), to.trim())
                .ok_or_else(|| wrong(format!("`{values}` is not a range of dates or numbers")))?,
            None => values.split(',').map(|value| value.trim().to_owned()).collect(),
        };
        if values.is_empty() {
            return Err(wrong(format!("`{text}` is an empty range: the end is before the start")));
        }
        if values.len() > VALUES_MAX {
            let message = format!("`{text}` has more than {VALUES_MAX} values");
            return Err(
                invalid(message).with_hint("Run several backfills, each with fewer values.")
            );
        }
        if let Some(value) = first_duplicate(&values) {
            return Err(wrong(format!("`{text}` has the value `{value}` twice")));
        }
        Ok(ParameterValues { name: name.to_owned(), values })
    }
}

/// Checks the values that a request contains. Error: `invalid_argument`.
pub fn check_values(name: &str, values: &[String]) -> Result<(), Problem> {
    let invalid = |message: String| Err(Problem::new(ErrorCode::InvalidArgument, message));
    if name.is_empty() || values.is_empty() {
        return invalid("a backfill needs a parameter and its values".to_owned());
    }
    if values.len() > VALUES_MAX {
        let problem = invalid(format!("`{name}` has more than {VALUES_MAX} values"));
        return problem.map_err(|problem| problem.with_hint("Backfill fewer values at once."));
    }
    match first_duplicate(values) {
        Some(value) => invalid(format!("`{name}` has the value `{value}` twice")),
        None => Ok(()),
    }
}

fn first_duplicate(values: &[String]) -> Option<&String> {
    let mut known = HashSet::new();
    values.iter().find(|value| !known.insert(value.as_str()))
}

/// Returns the values of a range. If there are too many, returns one more than the maximum. Returns
/// `None` unless both ends are days, months or whole numbers.
fn range(from: &str, to: &str) -> Option<Vec<String>> {
    if let (Some(from), Some(to)) = (day(from), day(to)) {
        let days = from.iter_days().take_while(|day| *day <= to);
        return Some(days.take(VALUES_MAX + 1).map(|day| day.to_string()).collect());
    }
    if let (Some(from), Some(to)) = (month(from), month(to)) {
        let months = (from..=to).take(VALUES_MAX + 1);
        return Some(months.map(|at| format!("{:04}-{:02}", at / 12, at % 12 + 1)).collect());
    }
    let (from, to): (i64, i64) = (from.parse().ok()?, to.parse().ok()?);
    Some((from..=to).take(VALUES_MAX + 1).map(|number| number.to_string()).collect())
}

fn day(text: &str) -> Option<NaiveDate> {
    (text.len() == 10).then(|| text.parse().ok())?
}

/// Parses a month to the number of months since the year 0.
fn month(text: &str) -> Option<i32> {
    let first = (text.len() == 7).then(|| day(&format!("{text}-01")))??;
    Some(first.year() * 12 + i32::try_from(first.month0()).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> String {
        match ParameterValues::parse(text) {
            Ok(ParameterValues { name, values }) => format!("{name}: {}", values.join(" ")),
            Err(problem) => problem.message,
        }
    }

    #[test]
    fn ranges_have_both_ends() {
        assert_eq!(parsed("d=2024-02-28..2024-03-01"), "d: 2024-02-28 2024-02-29 2024-03-01");
        assert_eq!(parsed("m=2025-11..2026-02"), "m: 2025-11 2025-12 2026-01 2026-02");
        assert_eq!(parsed("n=-1..2"), "n: -1 0 1 2");
        assert_eq!(parsed(" origin = JFK, LGA"), "origin: JFK LGA");
        assert_eq!(parsed("n=7..7"), "n: 7");
    }

    #[test]
    fn values_of_a_request_are_checked() {
        let check = |name: &str, values: &[&str]| {
            let values: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
            check_values(name, &values).err().map(|problem| problem.message)
        };
        assert_eq!(check("day", &["1", "2"]), None);
        assert!(check("", &["1"]).is_some() && check("day", &[]).is_some());
        let twice = "`day` has the value `1` twice";
        assert_eq!(check("day", &["1", "2", "1"]).as_deref(), Some(twice));
    }

    #[test]
    fn wrong_values_are_named() {
        for (text, expected) in [
            ("day", "`day` does not have the form `PARAMETER=VALUES`"),
            ("=1..2", "`=1..2` does not have the form `PARAMETER=VALUES`"),
            ("day=", "`day=` does not have the form `PARAMETER=VALUES`"),
            (
                "day=2026-02-30..2026-03-01",
                "`2026-02-30..2026-03-01` is not a range of dates or numbers",
            ),
            ("day=2026-01-01..5", "`2026-01-01..5` is not a range of dates or numbers"),
            ("day=..", "`..` is not a range of dates or numbers"),
            ("n=2..1", "`n=2..1` is an empty range: the end is before the start"),
            ("n=1..20000", "`n=1..20000` has more than 10000 values"),
            (
                "n=-9223372036854775808..9223372036854775807",
                "`n=-9223372036854775808..9223372036854775807` has more than 10000 values",
            ),
            ("o=a,b,a", "`o=a,b,a` has the value `a` twice"),
        ] {
            assert_eq!(parsed(text), expected);
        }
    }
}
