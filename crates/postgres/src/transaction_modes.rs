//! The modes of a transaction: the words after `BEGIN`, `START TRANSACTION` and `SET TRANSACTION`.
//!
//! A transaction has snapshot isolation, which is stronger than all isolation levels of PostgreSQL
//! except `SERIALIZABLE`. A stronger level than the requested one is permitted, a weaker one is
//! not. So `SERIALIZABLE` is rejected.

use headwater_model::{ErrorCode, Problem};
use serde_json::Value;

/// Key in the context of a problem. Its value is a SQLSTATE that no error code has.
pub const SQLSTATE: &str = "sqlstate";

/// The SQLSTATE of a write in a read-only transaction.
const READ_ONLY_TRANSACTION: &str = "25006";

/// The modes of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TransactionModes {
    /// True for `READ ONLY`, false for `READ WRITE`; `None` if the statement contains neither.
    pub is_read_only: Option<bool>,
}

impl TransactionModes {
    /// Parses modes, which spaces or commas separate.
    ///
    /// Errors: `unsupported_statement` for the isolation level `SERIALIZABLE`, and `invalid_sql`
    /// for unknown modes.
    pub fn parse<'a>(words: impl Iterator<Item = &'a str>) -> Result<Self, Problem> {
        let words = words.map(str::to_ascii_uppercase).filter(|word| word != "," && word != ";");
        let words: Vec<String> = words.collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut modes = TransactionModes::default();
        let mut rest = words.as_slice();
        while !rest.is_empty() {
            rest = match rest {
                ["READ", "ONLY", rest @ ..] => {
                    modes.is_read_only = Some(true);
                    rest
                }
                ["READ", "WRITE", rest @ ..] => {
                    modes.is_read_only = Some(false);
                    rest
                }
                ["ISOLATION", "LEVEL", "SERIALIZABLE", ..] => return Err(serializable()),
                ["ISOLATION", "LEVEL", "REPEATABLE", "READ", rest @ ..]
                | ["ISOLATION", "LEVEL", "READ", "COMMITTED" | "UNCOMMITTED", rest @ ..]
                // DEFERRABLE affects only serializable transactions, so the words have no effect.
                | ["NOT", "DEFERRABLE", rest @ ..]
                | ["DEFERRABLE", rest @ ..] => rest,
                other => return Err(unknown(&other.join(" "))),
            };
        }
        Ok(modes)
    }
}

fn serializable() -> Problem {
    let message = "the isolation level `SERIALIZABLE` is not supported: transactions have snapshot \
                   isolation";
    Problem::new(ErrorCode::UnsupportedStatement, message)
        .with_hint("Use `REPEATABLE READ`, and write the rows that must not change.")
}

fn unknown(modes: &str) -> Problem {
    let message = format!("`{modes}` is not a mode of a transaction");
    Problem::new(ErrorCode::InvalidSql, message).with_hint(
        "Write `READ ONLY`, `READ WRITE`, or `ISOLATION LEVEL` with `READ UNCOMMITTED`, \
         `READ COMMITTED` or `REPEATABLE READ`.",
    )
}

/// Returns the error for a statement that writes in a read-only transaction. `is_alone` is true if
/// the statement is its own transaction.
pub fn read_only(statement: &str, is_alone: bool) -> Problem {
    let message = format!("{statement} is not permitted in a read-only transaction");
    let hint = if is_alone {
        "Send `SET default_transaction_read_only = off` first."
    } else {
        "Begin the transaction with `READ WRITE`."
    };
    let mut problem = Problem::new(ErrorCode::UnsupportedStatement, message).with_hint(hint);
    problem.context.insert(SQLSTATE.to_owned(), Value::from(READ_ONLY_TRANSACTION));
    problem
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, is_read_only: Option<bool>) {
        let modes = TransactionModes::parse(text.split_whitespace());
        assert_eq!(modes, Ok(TransactionModes { is_read_only }), "{text}");
    }

    #[test]
    fn modes_are_parsed_in_every_order() {
        check("", None);
        check("READ ONLY", Some(true));
        check("isolation level read committed , read write", Some(false));
        check("ISOLATION LEVEL REPEATABLE READ READ ONLY NOT DEFERRABLE", Some(true));
        check("ISOLATION LEVEL READ UNCOMMITTED ;", None);
        check("DEFERRABLE", None);
    }

    #[test]
    fn modes_that_would_have_no_effect_are_errors() {
        let code = |text: &str| {
            let modes = TransactionModes::parse(text.split_whitespace());
            modes.map_err(|problem| problem.code)
        };
        let level = "ISOLATION LEVEL SERIALIZABLE READ ONLY";
        assert_eq!(code(level), Err(ErrorCode::UnsupportedStatement));
        for text in ["IMMEDIATE", "READ", "ISOLATION LEVEL", "SNAPSHOT '1'", "READ ONLY AT 1"] {
            assert_eq!(code(text), Err(ErrorCode::InvalidSql), "{text}");
        }
    }

    #[test]
    fn a_write_in_a_read_only_transaction_has_its_own_sqlstate() {
        for is_alone in [false, true] {
            assert_eq!(read_only("INSERT", is_alone).context[SQLSTATE], "25006");
        }
    }
}
