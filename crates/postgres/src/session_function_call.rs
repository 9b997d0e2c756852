//! Queries that consist of a single call of `set_config` or `pg_sleep`, such as `SELECT
//! set_config(…)`. The session executes them itself, because an expression of the engine can
//! neither change a session nor wait.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::session_command::{SessionCommand, StatementWords, unquoted};

/// A call of `set_config`. Its arguments are literals as written, or parameters such as `$1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetConfig {
    name: String,
    value: String,
    is_local: String,
}

impl SetConfig {
    /// Returns the names of the parameters.
    pub fn parameters(&self) -> Vec<String> {
        let arguments = [&self.name, &self.value, &self.is_local];
        let names = arguments.into_iter().filter_map(|argument| argument.strip_prefix('$'));
        names.map(str::to_owned).collect()
    }

    /// Returns the call with the values of its parameters.
    #[must_use]
    pub fn bound(&self, values: &BTreeMap<String, Value>) -> Self {
        let bound = |argument: &String| {
            let value = argument.strip_prefix('$').and_then(|name| values.get(name));
            match value {
                Some(Value::String(text)) => format!("'{}'", text.replace('\'', "''")),
                Some(other) => other.to_string(),
                None => argument.clone(),
            }
        };
        SetConfig {
            name: bound(&self.name),
            value: bound(&self.value),
            is_local: bound(&self.is_local),
        }
    }

    /// Returns the name of the setting.
    pub fn name(&self) -> String {
        unquoted(&self.name)
    }

    /// Returns the new value.
    pub fn value(&self) -> String {
        unquoted(&self.value)
    }

    /// Returns the text of the third argument: true if the value applies until the end of the
    /// transaction.
    pub fn is_local(&self) -> String {
        unquoted(&self.is_local)
    }
}

/// Parses the words after SELECT; `None` for every other query.
pub fn parse(mut words: StatementWords<'_>) -> Option<SessionCommand> {
    let name = words.next()?.to_ascii_lowercase();
    let name = name.strip_prefix("pg_catalog.").unwrap_or(&name);
    if !["set_config", "pg_sleep"].contains(&name) {
        return None;
    }
    let words: Vec<&str> = words.filter(|word| *word != ";").collect();
    match words.as_slice() {
        ["(", setting, ",", value, ",", is_local, ")"] if name == "set_config" => {
            Some(SessionCommand::SetConfig(SetConfig {
                name: (*setting).to_owned(),
                value: (*value).to_owned(),
                is_local: (*is_local).to_owned(),
            }))
        }
        ["(", seconds, ")"] if name == "pg_sleep" => {
            let seconds = unquoted(seconds).parse::<f64>().ok()?;
            Duration::try_from_secs_f64(seconds).ok().map(SessionCommand::Sleep)
        }
        _ => None,
    }
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

    #[test]
    fn arguments_of_set_config_can_be_parameters() {
        let sql = "SELECT pg_catalog.set_config('search_path', '', false);";
        let Some(SessionCommand::SetConfig(call)) = parsed(sql) else { panic!("{sql}") };
        assert_eq!((call.name(), call.value()), ("search_path".to_owned(), String::new()));
        assert_eq!((call.is_local(), call.parameters()), ("false".to_owned(), Vec::new()));
        let sql = "SELECT set_config('TimeZone', $1, $2)";
        let Some(SessionCommand::SetConfig(call)) = parsed(sql) else { panic!("{sql}") };
        assert_eq!(call.parameters(), ["1", "2"]);
        let values = [("1".to_owned(), Value::from("it's")), ("2".to_owned(), Value::from(true))];
        let call = call.bound(&values.into());
        assert_eq!((call.value(), call.is_local()), ("it's".to_owned(), "true".to_owned()));
    }
}
