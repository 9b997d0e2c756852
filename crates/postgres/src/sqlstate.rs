//! The SQLSTATE of an error.
//!
//! Each error code has a default SQLSTATE. PostgreSQL distinguishes more causes, and drivers and
//! libraries rely on this: psycopg and `SQLAlchemy` choose the exception class by SQLSTATE. So
//! [`of`] derives a more precise SQLSTATE from the text of the engine's message, if it can.
//! `tests/clients/postgres_session.py` checks these SQLSTATEs.

use headwater_model::{ErrorCode, Problem};
use serde_json::Value;

use crate::transaction_modes::SQLSTATE;

/// The beginning of the message for a text that does not have the format of a type.
const CAST: &str = "cannot cast string ";

/// Types of dates and times, in messages about casts.
const TIME_TYPES: [&str; 4] = ["DATE type", "TIMESTAMP type", "TIME type", "INTERVAL type"];

/// Returns the SQLSTATE of an error.
pub fn of(problem: &Problem) -> &str {
    if let Some(own) = problem.context.get(SQLSTATE).and_then(Value::as_str) {
        return own;
    }
    let message = problem.message.as_str();
    let cause = match problem.code {
        ErrorCode::BadRow => data_error(message),
        // Planning also fails if a statement compares a column with an invalid value.
        ErrorCode::InvalidSql if message.starts_with(CAST) => data_error(message),
        ErrorCode::InvalidSql => planning_error(message),
        ErrorCode::AlreadyExists => existing_object(message),
        ErrorCode::InvalidArgument => missing_object(message),
        _ => None,
    };
    cause.unwrap_or(problem.code.sqlstate())
}

/// Returns the SQLSTATE of an invalid value.
fn data_error(message: &str) -> Option<&'static str> {
    if let Some((_, value)) = message.split_once(CAST) {
        let is_time = TIME_TYPES.iter().any(|name| value.contains(name));
        let text = value.split('\'').nth(1).unwrap_or_default();
        return Some(match text.trim().parse::<i128>() {
            Ok(_) if !is_time => "22003",
            _ if is_time => "22007",
            _ => "22P02",
        });
    }
    // Parts of messages. The beginning of a message may name a column, and its end may be a
    // position.
    let causes = [
        ("error parsing timestamp", "22007"),
        ("error parsing date", "22007"),
        ("type interval", "22007"),
        ("division by zero", "22012"),
        ("can't cast value ", "22003"),
        ("is too large to store in a DECIMAL", "22003"),
        ("is too small to store in a DECIMAL", "22003"),
        ("does not fit the table's type", "22003"),
        ("is required, but null in", "23502"),
        ("lack the required column", "23502"),
        ("matches more than one source row", "21000"),
        ("have the same key", "21000"),
        ("the regular expression", "2201B"),
        // Without the first letter: the word is `overflow` or `Overflow`.
        ("verflow", "22003"),
    ];
    first(&causes, |text| message.contains(text))
}

/// Returns the SQLSTATE of a statement that cannot be planned.
fn planning_error(message: &str) -> Option<&'static str> {
    let beginnings = [
        ("there is no function ", "42883"),
        ("no signature of the function ", "42883"),
        ("there is no table or alias ", "42P01"),
        ("there are two columns named ", "42701"),
        ("the regular expression ", "2201B"),
    ];
    let parts = [
        ("` does not take ", "42883"),
        ("` is ambiguous: ", "42702"),
        ("` is neither in GROUP BY nor in an aggregate function", "42803"),
    ];
    let found = first(&beginnings, |text| message.starts_with(text));
    found.or_else(|| first(&parts, |text| message.contains(text)))
}

/// Returns the SQLSTATE for an object that exists already; `None` for a table or view, to which the
/// default SQLSTATE of the error code applies.
fn existing_object(message: &str) -> Option<&'static str> {
    let beginnings = [
        ("namespace `", "42P06"),
        ("column `", "42701"),
        ("function `", "42723"),
        ("the prepared statement `", "42P05"),
        ("the cursor `", "42P03"),
        ("a user or role `", "42710"),
    ];
    first(&beginnings, |text| message.starts_with(text))
}

/// Returns the SQLSTATE for a missing prepared statement, cursor, savepoint or setting.
fn missing_object(message: &str) -> Option<&'static str> {
    let beginnings = [
        ("there is no prepared statement `", "26000"),
        ("there is no cursor `", "34000"),
        ("there is no savepoint `", "3B001"),
        ("there is no setting `", "42704"),
    ];
    first(&beginnings, |text| message.starts_with(text))
}

/// Returns the SQLSTATE of the first pair whose text satisfies `applies`.
fn first(causes: &[(&str, &'static str)], applies: impl Fn(&str) -> bool) -> Option<&'static str> {
    causes.iter().find(|(text, _)| applies(text)).map(|(_, sqlstate)| *sqlstate)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(code: ErrorCode, message: &str, expected: &str) {
        assert_eq!(of(&Problem::new(code, message)), expected, "{message}");
    }

    #[test]
    fn invalid_values_have_the_sqlstates_of_postgresql() {
        for (message, expected) in [
            ("division by zero", "22012"),
            ("column `n` of `t`: division by zero (line 1, column 8)", "22012"),
            ("overflow happened on: 1 + 9223372036854775807", "22003"),
            ("column `n` of `t`: can't cast value 10000000000 to type INT", "22003"),
            ("cannot cast to DECIMAL(4, 2). Overflowing on 1000", "22003"),
            ("cannot cast string '99999999999' to value of INT type", "22003"),
            ("cannot cast string 'division by zero' to value of BIGINT type", "22P02"),
            ("column `d` of `t`: cannot cast string 'x' to value of DATE type", "22007"),
            ("error parsing timestamp from 'never': error parsing date", "22007"),
            ("column `id` is required, but null in 1 rows", "23502"),
            ("a row of `t` matches more than one source row", "21000"),
            ("the text is not a list", "22P02"),
        ] {
            check(ErrorCode::BadRow, message, expected);
        }
        let comparison = "cannot cast string 'EWR' to value of BIGINT type (line 1, column 29)";
        check(ErrorCode::InvalidSql, comparison, "22P02");
    }

    #[test]
    fn objects_have_the_sqlstates_of_postgresql() {
        for (code, message, expected) in [
            (ErrorCode::InvalidSql, "there is no function `summ`", "42883"),
            (ErrorCode::InvalidSql, "`+` does not take VARCHAR and BIGINT", "42883"),
            (ErrorCode::InvalidSql, "`TIP` is ambiguous: it matches `tip` or `Tip`", "42702"),
            (ErrorCode::InvalidSql, "expected an expression, found `FROM`", "42601"),
            (ErrorCode::AlreadyExists, "table `t` already exists", "42P07"),
            (ErrorCode::AlreadyExists, "namespace `n` already exists", "42P06"),
            (ErrorCode::InvalidArgument, "there is no cursor `c`", "34000"),
            (ErrorCode::InvalidArgument, "`soon` is not a duration", "22023"),
            (ErrorCode::TableNotFound, "table `t` is not in `main`", "42P01"),
        ] {
            check(code, message, expected);
        }
    }

    #[test]
    fn an_error_can_have_its_own_sqlstate() {
        let mut problem = Problem::new(ErrorCode::UnsupportedStatement, "no writes");
        problem.context.insert(SQLSTATE.to_owned(), Value::from("25006"));
        assert_eq!(of(&problem), "25006");
    }
}
