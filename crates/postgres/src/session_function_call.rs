//! Queries that consist of calls of `set_config`, of `pg_sleep` or of functions on advisory locks,
//! such as `SELECT set_config(…)`. The session executes them itself, because an expression of the
//! engine can neither change a session nor wait.

use std::time::Duration;

use crate::advisory_lock::AdvisoryLockQuery;
use crate::session_command::{SessionCommand, StatementWords, unquoted};
use crate::set_config_query::SetConfigQuery;

/// Parses a query that calls one of these functions; `None` for any other query. `words` are the
/// words after SELECT.
pub fn parse(sql: &str, mut words: StatementWords<'_>) -> Option<SessionCommand> {
    if let Some(query) = SetConfigQuery::parse(sql) {
        return Some(SessionCommand::SetConfig(query));
    }
    if let Some(query) = AdvisoryLockQuery::parse(sql) {
        return Some(SessionCommand::AdvisoryLocks(query));
    }
    let name = words.next()?.to_ascii_lowercase();
    if name.strip_prefix("pg_catalog.").unwrap_or(&name) != "pg_sleep" {
        return None;
    }
    let words: Vec<&str> = words.filter(|word| *word != ";").collect();
    let ["(", seconds, ")"] = words.as_slice() else { return None };
    let seconds = unquoted(seconds).parse::<f64>().ok()?;
    Duration::try_from_secs_f64(seconds).ok().map(SessionCommand::Sleep)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(sql: &str) -> Option<SessionCommand> {
        SessionCommand::parse(sql).map(|command| command.expect(sql))
    }

    #[test]
    fn calls_of_the_session_are_executed_by_it() {
        let sleep = |millis| Some(SessionCommand::Sleep(Duration::from_millis(millis)));
        assert_eq!(parsed("SELECT pg_sleep(0.25)"), sleep(250));
        assert_eq!(parsed("select pg_catalog.pg_sleep ('2');"), sleep(2_000));
        for sql in ["SELECT pg_sleep(n) FROM t", "SELECT pg_sleep(-1)", "SELECT pg_sleep(1), 2"] {
            assert_eq!(parsed(sql), None, "{sql}");
        }
    }
}
