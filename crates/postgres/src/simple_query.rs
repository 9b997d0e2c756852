//! The simple protocol: a text with one or more statements, each of which is executed.

use std::time::Duration;

use headwater_model::ResultExt;
use headwater_model::{ErrorCode, Problem};
use headwater_postgres_catalog::PgType;
use headwater_service::split_script;

use crate::backend_message::{ReplyWriter, ResultColumn};
use crate::frontend_message::ValueFormat;
use crate::session::{
    MessageResult, Portal, PortalProgress, Session, StatementAction, until_stopped,
};
use crate::session_command::SessionCommand;
use crate::settings::{READ_ONLY, Settings, known_name, parse_switch};
use crate::transaction_modes::TransactionModes;

impl Session {
    /// Executes the statements of a text in order, until one fails. Earlier statements remain
    /// committed, unless they were part of a transaction.
    pub async fn query(&mut self, sql: &str) -> MessageResult {
        let statements = split_script(sql).or_problem();
        let statements = statements.map_err(|error| self.located(error.into(), sql, sql))?;
        if statements.is_empty() {
            self.wire.output.simple(b'I');
        }
        for statement in statements {
            let executed = self.query_statement(statement).await;
            executed.map_err(|failure| self.located(failure, statement, sql))?;
        }
        Ok(())
    }

    /// Executes one statement and sends its rows.
    async fn query_statement(&mut self, statement: &str) -> MessageResult {
        self.connection.show_statement(statement);
        let action = StatementAction::parse(statement, &self.identity())?;
        self.check_status(&action)?;
        match action {
            StatementAction::Empty => self.wire.output.simple(b'I'),
            StatementAction::Session(command) => self.run_command(command).await?,
            StatementAction::Copy(copy) => self.copy(&copy).await?,
            StatementAction::Sql(prepared) => {
                if let Some(parameter) = prepared.parameters().first() {
                    let message = format!("parameter `${}` has no value", parameter.name);
                    return Err(Problem::new(ErrorCode::InvalidSql, message).into());
                }
                let mut cursor = self.start(prepared, &[]).await?;
                if let Some(columns) = cursor.columns() {
                    self.wire.output.row_description(columns);
                }
                cursor.send(u64::MAX, &mut self.wire).await?;
                self.wire.output.complete(&cursor.tag());
            }
        }
        Ok(())
    }

    /// Executes a statement that the session executes itself. Sends the description of its rows
    /// first.
    async fn run_command(&mut self, command: SessionCommand) -> MessageResult {
        if let SessionCommand::Fetch(name, _) = &command {
            let columns = self.portal(name)?.columns.clone();
            self.wire.output.row_description(&columns.unwrap_or_default());
        } else if let SessionCommand::Execute(text) = &command {
            if let Some(columns) = self.prepared_columns(&text.name)? {
                self.wire.output.row_description(&columns);
            }
        } else if let Some(columns) = columns_of(&command) {
            self.wire.output.row_description(&columns);
        }
        self.execute_command(command).await
    }

    /// Executes a statement that the session executes itself. Sends its rows and its tag.
    pub async fn execute_command(&mut self, command: SessionCommand) -> MessageResult {
        let tag = match command {
            SessionCommand::Set(name, value) => self.set(&name, &value)?,
            SessionCommand::SetLocal(name, value) => self.set_local(&name, value.as_deref())?,
            SessionCommand::Show(name) => self.show(&name)?,
            SessionCommand::ShowAll => self.show_all(),
            SessionCommand::Reset(name) => self.reset(name.as_deref())?,
            SessionCommand::Begin(modes) => self.begin(modes).await?,
            SessionCommand::SetTransaction(modes) => self.set_transaction(modes)?,
            SessionCommand::Commit => self.commit().await?,
            SessionCommand::Rollback => self.roll_back().await,
            SessionCommand::Savepoint(name) => self.savepoint(&name).await?,
            SessionCommand::Release(name) => self.release(&name)?,
            SessionCommand::RollbackTo(name) => self.roll_back_to(&name).await?,
            SessionCommand::Discard(target) => self.discard(target).await?,
            SessionCommand::Prepare(text) => self.prepare_text(text).await?,
            SessionCommand::Execute(text) => return self.execute_text(text).await,
            SessionCommand::Deallocate(name) => self.deallocate(name)?,
            SessionCommand::Declare(name, sql, is_held) => {
                self.declare(name, &sql, is_held).await?;
                "DECLARE CURSOR"
            }
            SessionCommand::Fetch(name, count) => return self.fetch(&name, count).await,
            SessionCommand::CreateTemporary(create) => return self.create_temporary(create).await,
            SessionCommand::Close(name) => self.close_cursor(name)?,
            SessionCommand::SetConfig(query) => self.query_settings(&query)?,
            SessionCommand::AdvisoryLocks(query) => self.query_locks(&query).await?,
            SessionCommand::Sleep(duration) => self.sleep(duration).await?,
            SessionCommand::Vacuum => {
                let message = "VACUUM does nothing here: tables are maintained automatically";
                let notice = Problem::new(ErrorCode::UnsupportedStatement, message)
                    .with_hint("Run `headwater table maintain NAME` to compact a table now.");
                self.wire.output.notice(&notice);
                "VACUUM"
            }
            SessionCommand::Nothing(tag) => tag,
        };
        self.wire.output.complete(tag);
        Ok(())
    }

    /// Sets a setting of the session.
    pub(crate) fn set(&mut self, name: &str, value: &str) -> Result<&'static str, Problem> {
        if name.eq_ignore_ascii_case(READ_ONLY)
            && let Some(is_read_only) = parse_switch(value)
        {
            return self.set_transaction(TransactionModes { is_read_only: Some(is_read_only) });
        }
        if name.eq_ignore_ascii_case("TimeZone") && !is_utc(value) {
            let message =
                format!("the time zone `{value}` is not supported: times are shown in UTC");
            self.wire.output.notice(&Problem::new(ErrorCode::InvalidArgument, message));
        }
        self.change_settings(|settings| settings.set(name, value).map(drop))?;
        Ok("SET")
    }

    /// Changes a setting until the end of the transaction; the value `None` means the default.
    pub(crate) fn set_local(
        &mut self,
        name: &str,
        value: Option<&str>,
    ) -> Result<&'static str, Problem> {
        if let Some(value) = value.filter(|_| name.eq_ignore_ascii_case(READ_ONLY)) {
            return self.set(name, value);
        }
        let mut settings = self.settings.clone();
        match value {
            Some(value) => settings.set(name, value).map(drop)?,
            None => settings.reset(name)?,
        }
        if self.is_in_transaction() {
            self.replace_settings(settings);
        } else {
            let message = "`SET LOCAL` has no effect without a transaction";
            let notice = Problem::new(ErrorCode::InvalidArgument, message);
            let hint = "Send `BEGIN` first, or use `SET` without `LOCAL`.";
            self.wire.output.notice(&notice.with_hint(hint));
        }
        Ok("SET")
    }

    /// Waits for this time. A cancel request and `statement_timeout` end the wait early.
    async fn sleep(&mut self, duration: Duration) -> MessageResult<&'static str> {
        let (token, timeout) = (self.connection.begin(), self.settings.statement_timeout());
        until_stopped(tokio::time::sleep(duration), &token, timeout, &mut self.wire).await?;
        self.put_texts(&[""]);
        Ok("SELECT 1")
    }

    /// Changes settings of the session. In a transaction, `COMMIT` keeps the changes.
    fn change_settings(
        &mut self,
        change: impl Fn(&mut Settings) -> Result<(), Problem>,
    ) -> Result<(), Problem> {
        let mut settings = self.settings.clone();
        change(&mut settings)?;
        if let Some(of_transaction) = &mut self.transaction_settings {
            change(of_transaction.lasting_mut())?;
        }
        self.replace_settings(settings);
        Ok(())
    }

    fn show(&mut self, name: &str) -> Result<&'static str, Problem> {
        let settings = self.current_settings();
        self.put_texts(&[settings.get(name)?]);
        Ok("SHOW")
    }

    fn show_all(&mut self) -> &'static str {
        let settings = self.current_settings();
        for (name, value, _) in settings.all() {
            self.put_texts(&[name, value, ""]);
        }
        "SHOW"
    }

    fn put_texts(&mut self, texts: &[&str]) {
        self.wire.output.message(b'D', |out| {
            use bytes::BufMut;
            out.put_u16(texts.len() as u16);
            for text in texts {
                out.put_u32(text.len() as u32);
                out.extend_from_slice(text.as_bytes());
            }
        });
    }

    /// Restores the default of a setting; `None` for all settings.
    pub(crate) fn reset(&mut self, name: Option<&str>) -> Result<&'static str, Problem> {
        self.change_settings(|settings| {
            if let Some(name) = name {
                return settings.reset(name);
            }
            settings.reset_all();
            Ok(())
        })?;
        Ok("RESET")
    }

    fn deallocate(&mut self, name: Option<String>) -> Result<&'static str, Problem> {
        match name {
            Some(name) => {
                self.statements
                    .remove(&name)
                    .ok_or_else(|| missing("prepared statement", &name))?;
            }
            None => self.statements.clear(),
        }
        Ok("DEALLOCATE")
    }

    /// Declares a cursor, which is a portal in text format.
    async fn declare(&mut self, name: String, sql: &str, is_held: bool) -> MessageResult {
        let action = StatementAction::parse(sql, &self.identity())?;
        let StatementAction::Sql(prepared) = &action else {
            let message = "a cursor can be declared only for a query";
            return Err(Problem::new(ErrorCode::InvalidSql, message).into());
        };
        let columns = self.describe(prepared).await?.columns;
        let portal = Portal {
            action,
            columns,
            formats: Vec::new(),
            // True, because FETCH sends a description of the columns before the rows.
            is_described: true,
            is_held,
            progress: PortalProgress::Bound,
        };
        self.add_portal(name, portal)?;
        Ok(())
    }

    async fn fetch(&mut self, name: &str, count: Option<u64>) -> MessageResult {
        let sent = self.run_portal(name, count.unwrap_or(u64::MAX)).await?;
        self.wire.output.complete(&format!("FETCH {sent}"));
        Ok(())
    }

    fn close_cursor(&mut self, name: Option<String>) -> Result<&'static str, Problem> {
        match name {
            Some(name) => {
                self.portals.remove(&name).ok_or_else(|| missing("cursor", &name))?;
            }
            None => self.portals.clear(),
        }
        Ok("CLOSE CURSOR")
    }

    /// Returns a portal by its name.
    pub fn portal(&mut self, name: &str) -> Result<&mut Portal, Problem> {
        self.portals.get_mut(name).ok_or_else(|| missing("cursor", name))
    }
}

/// Returns the columns of a statement that the session executes itself; `None` if the statement
/// returns no rows.
pub fn columns_of(command: &SessionCommand) -> Option<Vec<ResultColumn>> {
    let column = |name: &str| ResultColumn {
        name: name.to_owned(),
        pg_type: PgType::TEXT,
        is_binary: ValueFormat::default() == ValueFormat::Binary,
    };
    match command {
        SessionCommand::Show(name) => Some(vec![column(known_name(name))]),
        SessionCommand::SetConfig(query) => Some(query.columns()),
        SessionCommand::AdvisoryLocks(query) => Some(query.columns()),
        SessionCommand::Sleep(_) => Some(vec![column("pg_sleep")]),
        SessionCommand::ShowAll => Some(["name", "setting", "description"].map(column).to_vec()),
        _ => None,
    }
}

fn is_utc(zone: &str) -> bool {
    ["utc", "etc/utc", "gmt", "z", "0", "+00", "+00:00", "default"]
        .contains(&zone.to_ascii_lowercase().as_str())
}

/// Returns the error for a statement or cursor that does not exist.
pub fn missing(what: &str, name: &str) -> Problem {
    Problem::new(ErrorCode::InvalidArgument, format!("there is no {what} `{name}`"))
}
