//! Statements that the session executes itself, such as `SET`, `BEGIN` and `FETCH`. All other
//! statements are passed to the service.

use std::time::Duration;

use headwater_model::{ErrorCode, Problem};

use crate::advisory_lock::AdvisoryLockQuery;
use crate::discard::DiscardTarget;
use crate::prepare_statement::{ExecuteStatement, PrepareStatement};
use crate::session_function_call;
use crate::set_config_query::SetConfigQuery;
use crate::settings::{DEFAULT_READ_ONLY, switch_text};
use crate::temporary_objects::CreateTemporaryStatement;
use crate::transaction_modes::TransactionModes;

/// A statement that the session executes itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionCommand {
    /// `SET name = value`
    Set(String, String),
    /// `SET LOCAL name = value`; `None` for the default of the session.
    SetLocal(String, Option<String>),
    /// `SHOW name`
    Show(String),
    /// `SHOW ALL`
    ShowAll,
    /// `RESET name`; `None` for `RESET ALL`.
    Reset(Option<String>),
    /// `BEGIN` or `START TRANSACTION`
    Begin(TransactionModes),
    /// `SET TRANSACTION`
    SetTransaction(TransactionModes),
    /// `COMMIT`
    Commit,
    /// `ROLLBACK`
    Rollback,
    /// `SAVEPOINT name`
    Savepoint(String),
    /// `RELEASE SAVEPOINT name`
    Release(String),
    /// `ROLLBACK TO SAVEPOINT name`
    RollbackTo(String),
    /// `DISCARD`
    Discard(DiscardTarget),
    /// `PREPARE name AS query`
    Prepare(PrepareStatement),
    /// `EXECUTE name (value, …)`
    Execute(ExecuteStatement),
    /// `DEALLOCATE name`; `None` for all statements.
    Deallocate(Option<String>),
    /// `DECLARE name CURSOR FOR query`; true with `WITH HOLD`.
    Declare(String, String, bool),
    /// `FETCH count FROM name`; `None` for all rows.
    Fetch(String, Option<u64>),
    /// `CLOSE name`; `None` for all cursors.
    Close(Option<String>),
    /// `CREATE TEMPORARY TABLE` or `VIEW`
    CreateTemporary(CreateTemporaryStatement),
    /// `SELECT set_config(name, value, is_local), …`
    SetConfig(SetConfigQuery),
    /// `SELECT pg_try_advisory_lock(number)`, …
    AdvisoryLocks(AdvisoryLockQuery),
    /// `SELECT pg_sleep(seconds)`
    Sleep(Duration),
    /// `VACUUM`, which has no effect, because tables are maintained automatically.
    Vacuum,
    /// A statement without effect, with its command tag.
    Nothing(&'static str),
}

impl SessionCommand {
    /// Parses a statement; `None` if the service executes it instead.
    pub fn parse(sql: &str) -> Option<Result<Self, Problem>> {
        let mut words = StatementWords { rest: sql };
        let first = words.next()?.to_ascii_uppercase();
        let command = match first.as_str() {
            "SET" => match set_transaction(words.clone()) {
                Some(command) => return Some(command),
                None => set(&mut words),
            },
            "SHOW" => return show(&mut words).map(Ok),
            "RESET" => words.name().map(|name| SessionCommand::Reset(unless_all(name))),
            "BEGIN" | "START" => {
                words.skip_word("WORK");
                words.skip_word("TRANSACTION");
                return Some(TransactionModes::parse(words).map(SessionCommand::Begin));
            }
            "COMMIT" | "END" => return Some(end(words, SessionCommand::Commit)),
            "ROLLBACK" | "ABORT" if !words.clone().any(|word| word.eq_ignore_ascii_case("to")) => {
                return Some(end(words, SessionCommand::Rollback));
            }
            "ROLLBACK" | "ABORT" => {
                words.by_ref().find(|word| word.eq_ignore_ascii_case("to"));
                words.skip_word("SAVEPOINT");
                words.name().map(SessionCommand::RollbackTo)
            }
            "SAVEPOINT" => words.name().map(SessionCommand::Savepoint),
            "RELEASE" => {
                words.skip_word("SAVEPOINT");
                words.name().map(SessionCommand::Release)
            }
            "LISTEN" | "NOTIFY" | "MOVE" => return Some(Err(refused(&first))),
            "DISCARD" => {
                return Some(DiscardTarget::parse(&mut words).map(SessionCommand::Discard));
            }
            "VACUUM" => Some(SessionCommand::Vacuum),
            // ANALYZE has no effect: each snapshot has its own statistics.
            "ANALYZE" | "ANALYSE" => Some(SessionCommand::Nothing("ANALYZE")),
            "UNLISTEN" => Some(SessionCommand::Nothing("UNLISTEN")),
            "SELECT" => return session_function_call::parse(sql, words).map(Ok),
            "PREPARE" => PrepareStatement::parse(&mut words).map(SessionCommand::Prepare),
            "EXECUTE" => match ExecuteStatement::parse(&mut words) {
                Some(text) => return Some(text.map(SessionCommand::Execute)),
                None => None,
            },
            "DEALLOCATE" => {
                words.skip_word("PREPARE");
                words.name().map(|name| SessionCommand::Deallocate(unless_all(name)))
            }
            "CREATE" => {
                return CreateTemporaryStatement::parse(sql)
                    .map(SessionCommand::CreateTemporary)
                    .map(Ok);
            }
            "DECLARE" => declare(&mut words),
            "FETCH" => fetch(&mut words),
            "CLOSE" => words.name().map(|name| SessionCommand::Close(unless_all(name))),
            _ => return None,
        };
        Some(command.ok_or_else(|| {
            let message = format!("the statement `{first}` is not complete");
            Problem::new(ErrorCode::InvalidSql, message)
        }))
    }
}

fn refused(name: &str) -> Problem {
    let message = format!("{name} is not supported");
    let problem = Problem::new(ErrorCode::UnsupportedStatement, message);
    match name {
        "MOVE" => problem.with_hint("Use `FETCH`."),
        _ => problem.with_hint("Use a trigger of the project."),
    }
}

fn unless_all(name: String) -> Option<String> {
    Some(name).filter(|name| !name.eq_ignore_ascii_case("all"))
}

/// Parses the words after COMMIT or ROLLBACK. Rejects words with another meaning: for example,
/// `COMMIT AND CHAIN` must not simply end the transaction.
fn end(mut words: StatementWords<'_>, command: SessionCommand) -> Result<SessionCommand, Problem> {
    words.skip_word("WORK");
    words.skip_word("TRANSACTION");
    let rest: Vec<String> = words.map(str::to_ascii_uppercase).filter(|word| word != ";").collect();
    match rest.join(" ").as_str() {
        "" | "AND NO CHAIN" => Ok(command),
        rest => {
            let message = format!("`{rest}` at the end of a transaction is not supported");
            Err(Problem::new(ErrorCode::UnsupportedStatement, message)
                .with_hint("Send `COMMIT` or `ROLLBACK`, and `BEGIN` for a new transaction."))
        }
    }
}

/// Parses `SET TRANSACTION` and `SET SESSION CHARACTERISTICS AS TRANSACTION`, without the word SET;
/// `None` for other settings.
fn set_transaction(mut words: StatementWords<'_>) -> Option<Result<SessionCommand, Problem>> {
    words.skip_word("LOCAL");
    words.skip_word("SESSION");
    let first = words.next()?.to_ascii_uppercase();
    if first == "CHARACTERISTICS" {
        words.skip_word("AS");
        words.skip_word("TRANSACTION");
    } else if first != "TRANSACTION" {
        return None;
    }
    Some(TransactionModes::parse(words).map(|modes| match modes.is_read_only {
        _ if first == "TRANSACTION" => SessionCommand::SetTransaction(modes),
        Some(is_read_only) => {
            let value = switch_text(is_read_only).to_owned();
            SessionCommand::Set(DEFAULT_READ_ONLY.to_owned(), value)
        }
        None => SessionCommand::Nothing("SET"),
    }))
}

fn set(words: &mut StatementWords<'_>) -> Option<SessionCommand> {
    let mut name = words.name()?;
    let mut is_local = false;
    if matches!(name.as_str(), "session" | "local")
        && words.clone().next().is_none_or(|word| word != "=")
    {
        is_local = name == "local";
        name = words.name()?;
    }
    match name.to_ascii_uppercase().as_str() {
        "CONSTRAINTS" => return Some(SessionCommand::Nothing("SET")),
        "AUTHORIZATION" | "ROLE" => {
            let role = words.name()?;
            let is_own = ["default", "none"].iter().any(|own| role.eq_ignore_ascii_case(own));
            return Some(if is_own {
                SessionCommand::Nothing("SET")
            } else {
                SessionCommand::Set("role".to_owned(), role)
            });
        }
        "TIME" => {
            words.next()?;
            return Some(SessionCommand::Set("TimeZone".to_owned(), words.value()));
        }
        "NAMES" => return Some(SessionCommand::Set("client_encoding".to_owned(), words.value())),
        _ => {}
    }
    // `SET SCHEMA 'name'` is a short form of `SET search_path = 'name'`.
    if name == "schema" {
        "search_path".clone_into(&mut name);
    } else {
        words.next().filter(|sign| *sign == "=" || sign.eq_ignore_ascii_case("to"))?;
    }
    let value = Some(words.value()).filter(|value| !value.eq_ignore_ascii_case("default"));
    Some(match value {
        value if is_local => SessionCommand::SetLocal(name, value),
        Some(value) => SessionCommand::Set(name, value),
        None => SessionCommand::Reset(Some(name)),
    })
}

/// Parses SHOW of a setting. `SHOW TABLES` and similar statements are executed by the service.
fn show(words: &mut StatementWords<'_>) -> Option<SessionCommand> {
    let name = words.name()?;
    match name.to_ascii_uppercase().as_str() {
        "ALL" => Some(SessionCommand::ShowAll),
        "TRANSACTION" => Some(SessionCommand::Show("transaction_isolation".to_owned())),
        "TIME" => Some(SessionCommand::Show("TimeZone".to_owned())),
        "TABLES" | "VIEWS" | "SCHEMAS" | "NAMESPACES" | "DATABASES" | "COLUMNS" | "CREATE"
        | "FUNCTIONS" | "BRANCHES" | "TAGS" | "ROLES" | "GRANTS" | "ROW" | "COLUMN" => None,
        _ => Some(SessionCommand::Show(name)),
    }
}

fn declare(words: &mut StatementWords<'_>) -> Option<SessionCommand> {
    let name = words.name()?;
    let is_for = |word: &&str| word.eq_ignore_ascii_case("for");
    let is_held =
        words.clone().take_while(|it| !is_for(it)).any(|it| it.eq_ignore_ascii_case("with"));
    words.find(is_for)?;
    Some(SessionCommand::Declare(name, words.rest.trim().to_owned(), is_held))
}

fn fetch(words: &mut StatementWords<'_>) -> Option<SessionCommand> {
    let mut count = Some(1);
    loop {
        let word = words.name()?;
        match word.to_ascii_uppercase().as_str() {
            "NEXT" | "FORWARD" | "FROM" | "IN" => {}
            "ALL" => count = None,
            // Cursors move only forward.
            "PRIOR" | "BACKWARD" | "FIRST" | "LAST" | "ABSOLUTE" | "RELATIVE" => return None,
            _ => match word.parse() {
                Ok(number) => count = Some(number),
                Err(_) => return Some(SessionCommand::Fetch(word, count)),
            },
        }
    }
}

/// Returns the text of a literal, without its quotes.
pub fn unquoted(word: &str) -> String {
    let inner = word.strip_prefix('\'').and_then(|word| word.strip_suffix('\''));
    inner.map_or_else(|| word.to_owned(), |inner| inner.replace("''", "'"))
}

/// The tokens of a statement, without comments: words, quoted texts, and single characters.
#[derive(Clone)]
pub struct StatementWords<'a> {
    rest: &'a str,
}

impl<'a> StatementWords<'a> {
    /// Creates an iterator before the first word.
    pub fn new(sql: &'a str) -> Self {
        StatementWords { rest: sql }
    }

    /// Returns the text after the last word.
    pub fn rest(&self) -> &'a str {
        self.rest
    }

    /// Returns the next word as a name, without its quotes. Names without quotes are in lower case.
    pub fn name(&mut self) -> Option<String> {
        let word = self.next()?;
        let inner = word.strip_prefix('"').and_then(|word| word.strip_suffix('"'));
        Some(inner.map_or_else(|| word.to_ascii_lowercase(), |inner| inner.replace("\"\"", "\"")))
    }

    /// Returns the rest of the statement as a value: names or texts, separated by commas.
    fn value(&mut self) -> String {
        let mut value = String::new();
        for word in self {
            if word == ";" {
                break;
            }
            let inner = word.strip_prefix('\'').and_then(|word| word.strip_suffix('\''));
            match inner {
                Some(inner) => value.push_str(&inner.replace("''", "'")),
                None if word == "," => value.push_str(", "),
                None => value.push_str(word),
            }
        }
        value
    }

    fn skip_word(&mut self, wanted: &str) {
        let mut after = self.clone();
        if after.next().is_some_and(|word| word.eq_ignore_ascii_case(wanted)) {
            *self = after;
        }
    }

    fn skip_space(&mut self) {
        loop {
            self.rest = self.rest.trim_start();
            let end = match self.rest.as_bytes() {
                [b'-', b'-', ..] => self.rest.find('\n').map(|end| end + 1),
                [b'/', b'*', ..] => self.rest.find("*/").map(|end| end + 2),
                _ => return,
            };
            self.rest = &self.rest[end.unwrap_or(self.rest.len())..];
        }
    }
}

impl<'a> Iterator for StatementWords<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        self.skip_space();
        let first = self.rest.chars().next()?;
        let is_part = |c: char| c.is_alphanumeric() || "_$.-+".contains(c);
        let length = match first {
            '\'' | '"' => {
                let end = self.rest[1..].find(first).map_or(self.rest.len(), |end| end + 2);
                // Two quotes inside the text mean one quote.
                let mut end = end;
                while self.rest[end..].starts_with(first) {
                    let next = self.rest[end + 1..].find(first);
                    end = next.map_or(self.rest.len(), |next| end + next + 2);
                }
                end
            }
            first if is_part(first) => self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len()),
            first => first.len_utf8(),
        };
        let (word, rest) = self.rest.split_at(length);
        self.rest = rest;
        Some(word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sql: &str, expected: SessionCommand) {
        assert_eq!(SessionCommand::parse(sql), Some(Ok(expected)), "{sql}");
    }

    #[test]
    fn settings_are_set_in_every_form() {
        let set = |name: &str, value: &str| SessionCommand::Set(name.into(), value.into());
        check("SET extra_float_digits = 3", set("extra_float_digits", "3"));
        check("set session application_name to 'it''s'", set("application_name", "it's"));
        check(
            "/* a */ SET -- b\n search_path = \"$user\", sales;",
            set("search_path", "\"$user\", sales"),
        );
        check("SET TIME ZONE 'Europe/Paris'", set("TimeZone", "Europe/Paris"));
        check("SET NAMES 'UTF8'", set("client_encoding", "UTF8"));
        check(
            "SET statement_timeout TO DEFAULT",
            SessionCommand::Reset(Some("statement_timeout".into())),
        );
        check(
            "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED",
            SessionCommand::Nothing("SET"),
        );
        check(
            "SHOW TRANSACTION ISOLATION LEVEL",
            SessionCommand::Show("transaction_isolation".into()),
        );
        check("RESET ALL", SessionCommand::Reset(None));
        check("SET SCHEMA 'sales'", set("search_path", "sales"));
        let local = |value: Option<&str>| {
            SessionCommand::SetLocal("search_path".into(), value.map(str::to_owned))
        };
        check("SET LOCAL search_path TO Sales", local(Some("Sales")));
        check("set local SEARCH_PATH = default", local(None));
        check("SET local = 1", set("local", "1"));
    }

    #[test]
    fn roles_and_read_only_transactions_are_not_ignored() {
        let set = |name: &str, value: &str| SessionCommand::Set(name.into(), value.into());
        check("SET ROLE analyst", set("role", "analyst"));
        check("SET SESSION AUTHORIZATION 'ana'", set("role", "'ana'"));
        check("SET SESSION AUTHORIZATION DEFAULT", SessionCommand::Nothing("SET"));
        check("SET ROLE NONE", SessionCommand::Nothing("SET"));
        let session = "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY";
        check(session, set("default_transaction_read_only", "on"));
        let session = "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE";
        check(session, set("default_transaction_read_only", "off"));
        let modes = TransactionModes { is_read_only: Some(true) };
        check("SET TRANSACTION READ ONLY", SessionCommand::SetTransaction(modes));
        check("BEGIN READ ONLY;", SessionCommand::Begin(modes));
        check("START TRANSACTION READ ONLY", SessionCommand::Begin(modes));
        for sql in [
            "BEGIN ISOLATION LEVEL SERIALIZABLE",
            "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
            "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE",
            "BEGIN IMMEDIATE",
        ] {
            assert!(matches!(SessionCommand::parse(sql), Some(Err(_))), "{sql}");
        }
    }

    #[test]
    fn transactions_and_cursors() {
        let modes = TransactionModes::default();
        check("BEGIN ISOLATION LEVEL REPEATABLE READ", SessionCommand::Begin(modes));
        check("BEGIN WORK;", SessionCommand::Begin(modes));
        check("START TRANSACTION", SessionCommand::Begin(modes));
        check("rollback", SessionCommand::Rollback);
        check("SAVEPOINT \"S 1\"", SessionCommand::Savepoint("S 1".into()));
        check("ROLLBACK WORK TO SAVEPOINT s", SessionCommand::RollbackTo("s".into()));
        check("ROLLBACK TO s", SessionCommand::RollbackTo("s".into()));
        check("SAVEPOINT One", SessionCommand::Savepoint("one".into()));
        check("COMMIT WORK AND NO CHAIN;", SessionCommand::Commit);
        check("END TRANSACTION -- done", SessionCommand::Commit);
        for sql in ["COMMIT AND CHAIN", "ROLLBACK AND CHAIN", "COMMIT PREPARED 'a'"] {
            assert!(matches!(SessionCommand::parse(sql), Some(Err(_))), "{sql}");
        }
        check("RELEASE s", SessionCommand::Release("s".into()));
        let declare = |held| SessionCommand::Declare("c".into(), "SELECT 1".into(), held);
        check("DECLARE \"c\" NO SCROLL CURSOR WITH HOLD FOR SELECT 1", declare(true));
        check("DECLARE c CURSOR WITHOUT HOLD FOR SELECT 1", declare(false));
        check("FETCH FORWARD 10 FROM c", SessionCommand::Fetch("c".into(), Some(10)));
        check("FETCH ALL IN c", SessionCommand::Fetch("c".into(), None));
        check("fetch c", SessionCommand::Fetch("c".into(), Some(1)));
        check("DEALLOCATE PREPARE s", SessionCommand::Deallocate(Some("s".into())));
        check("CLOSE ALL", SessionCommand::Close(None));
        check("vacuum analyze pgbench_branches", SessionCommand::Vacuum);
        check("ANALYZE VERBOSE sales.orders;", SessionCommand::Nothing("ANALYZE"));
    }

    #[test]
    fn other_statements_are_sql() {
        for sql in [
            "SELECT 1",
            "SHOW TABLES",
            "SHOW ROW FILTERS",
            "SHOW COLUMN MASKS",
            "",
            "-- BEGIN",
            "'SET'",
            "(SELECT 1)",
        ] {
            assert_eq!(SessionCommand::parse(sql), None, "{sql}");
        }
        for sql in ["SET", "SET a", "SET a =", "SAVEPOINT", "LISTEN c", "FETCH PRIOR FROM c"] {
            let refused = matches!(SessionCommand::parse(sql), Some(Err(_)));
            let empty = sql == "SET a =";
            assert!(refused || empty, "{sql}");
        }
    }
}
