//! The extended protocol: prepare, bind, describe, execute, close.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use futures::FutureExt;
use headwater_model::{ErrorCode, Problem, ResultExt};
use headwater_postgres_catalog::PgType;
use headwater_service::{ParameterDescription, PreparedStatement, split_script};
use serde_json::Value;

use crate::array_parameter;
use crate::backend_message::{ReplyWriter, ResultColumn};
use crate::frontend_message::{Bind, Parse, StatementOrPortal, ValueFormat};
use crate::parameter_inference::{object_ids, stated_types, typing_query};
use crate::parameter_value;
use crate::result_rows::{column_types, returns_rows};
use crate::session::{
    MessageResult, Portal, PortalProgress, Session, Statement, StatementAction, TranslatedText,
};
use crate::session_command::SessionCommand;
use crate::simple_query::{columns_of, missing};

impl Session {
    /// Prepares a statement.
    pub async fn parse(&mut self, message: Parse) -> MessageResult {
        let sql = message.sql.clone();
        let prepared = self.prepare(message).await;
        prepared.map_err(|failure| self.located(failure, sql.trim_start(), &sql))?;
        self.wire.output.simple(b'1');
        Ok(())
    }

    /// Prepares a statement, and sends no reply.
    pub async fn prepare(&mut self, message: Parse) -> MessageResult {
        let statements = split_script(&message.sql).or_problem()?;
        let (action, written) = match statements.as_slice() {
            [] => (StatementAction::Empty, Vec::new()),
            [one] => StatementAction::parse_with_parameters(one, &self.identity())?,
            [_, ..] => {
                let text = "a prepared statement cannot have several statements";
                return Err(Problem::new(ErrorCode::InvalidSql, text).into());
            }
        };
        self.check_status(&action)?;
        let translated = match (&action, statements.as_slice()) {
            (StatementAction::Sql(prepared), [one]) if prepared.source() != *one => {
                Some(TranslatedText { sql: (*one).to_owned(), types: message.types.clone() })
            }
            _ => None,
        };
        let types = match &translated {
            Some(_) => message.types,
            None => self.with_operand_types(&action, message.types).await,
        };
        let action = with_arrays(action, &types)?;
        let mut statement = match &action {
            StatementAction::Sql(prepared) => self.describe_declared(prepared, &types).await?,
            StatementAction::Session(command) => {
                Statement::new(StatementAction::Empty, columns_of(command))
            }
            StatementAction::Empty | StatementAction::Copy(_) => {
                Statement::new(StatementAction::Empty, None)
            }
        };
        statement.action = action;
        statement.translated = translated;
        add_parameters(&mut statement, written);
        state_object_ids(&mut statement, &message.sql);
        declare_types(&mut statement, &types);
        declare_arrays(&mut statement, &types);
        if message.name.is_empty() {
            self.statements.remove("");
        }
        self.add_statement(message.name, statement)?;
        Ok(())
    }

    /// Returns the types that the client declares, and the types of the undeclared parameters in
    /// `ANY ($1)`: arrays of the type with which the elements are compared.
    async fn with_operand_types(
        &mut self,
        action: &StatementAction,
        mut types: Vec<u32>,
    ) -> Vec<u32> {
        let StatementAction::Sql(prepared) = action else { return types };
        let mut operands = array_parameter::operands(prepared.source());
        operands.retain(|name| place(name).is_some_and(|it| types.get(it).is_none_or(|t| *t == 0)));
        if operands.is_empty() {
            return types;
        }
        // Errors are ignored here, because describing the statement itself reports them.
        let text = array_parameter::with_elements(prepared.source());
        let Ok(compared) = PreparedStatement::parse(&text) else { return types };
        let Ok(described) = self.describe(&compared).await else { return types };
        for (name, pg_type) in described.parameters {
            let Some(place) = place(&name).filter(|_| operands.contains(&name.as_str())) else {
                continue;
            };
            if pg_type.is_array || array_parameter::sql_type(pg_type.scalar).is_none() {
                continue;
            }
            types.resize(types.len().max(place + 1), 0);
            types[place] = PgType { is_array: true, ..pg_type }.oid();
        }
        types
    }

    /// Describes a statement. For a query, casts the parameters to the types of the values that the
    /// client will bind, because the types of the columns may depend on the types of the
    /// parameters.
    async fn describe_declared(
        &mut self,
        prepared: &PreparedStatement,
        types: &[u32],
    ) -> MessageResult<Statement> {
        if prepared.name().or_problem()? != "SELECT" {
            return self.describe(prepared).await;
        }
        let mut casts = parameter_value::declared_types(types);
        let statement = match self.describe_with(prepared, &casts).await {
            Some(statement) => statement,
            None => self.describe(prepared).await?,
        };
        let wider = parameter_value::wider_types(&statement.parameters, types);
        if wider.is_empty() {
            return Ok(statement);
        }
        casts.extend(wider);
        Ok(match self.describe_with(prepared, &casts).await {
            Some(Statement { columns, .. }) => Statement { columns, ..statement },
            None => statement,
        })
    }

    /// Describes a query with casts of its parameters; `None` if there are no casts, or if a
    /// parameter cannot be cast where it occurs.
    async fn describe_with(
        &mut self,
        prepared: &PreparedStatement,
        casts: &BTreeMap<String, String>,
    ) -> Option<Statement> {
        if casts.is_empty() {
            return None;
        }
        let typed = prepared.clone().with_declared_types(casts).ok()?;
        self.describe(&typed).await.ok()
    }

    /// Describes a statement: its columns, and its parameters in the order of their numbers.
    pub async fn describe(&mut self, prepared: &PreparedStatement) -> MessageResult<Statement> {
        let name = prepared.name().or_problem()?;
        let statements = self.service.statements().within(self.transaction.as_ref());
        let described =
            statements.describe(&self.principal, &self.request(), prepared).boxed().await?;
        let written = match described.columns {
            Some(_) if !prepared.has_returning() => Vec::new(),
            _ => self.inferred(prepared.source()).await,
        };
        let stated = match described.parameters.as_slice() {
            [] => BTreeMap::new(),
            _ => stated_types(prepared.source()),
        };
        let mut parameters: Vec<(String, PgType)> = described
            .parameters
            .iter()
            .map(|one| {
                let same = |it: &&ParameterDescription| it.parameter.name == one.parameter.name;
                let written = written.iter().find(same).and_then(|it| it.data_type.as_ref());
                let data_type = one.data_type.as_ref().or(written);
                let stated = stated.get(&one.parameter.name).copied().unwrap_or(PgType::TEXT);
                let pg_type = data_type.map_or(stated, PgType::of_data_type);
                (one.parameter.name.clone(), pg_type)
            })
            .collect();
        parameters.sort_by_key(|(name, _)| number(name));
        let columns = match described.columns {
            Some(schema) => Some(column_types(&schema, &[])),
            // The columns of EXPLAIN, SHOW and DESCRIBE are known only after execution.
            None if returns_rows(name) && parameters.is_empty() => {
                let cursor = self.start(prepared.clone(), &[]).await?;
                cursor.columns().map(<[_]>::to_vec)
            }
            None => None,
        };
        let statement = Statement::new(StatementAction::Sql(prepared.clone()), columns);
        Ok(Statement { parameters, ..statement })
    }

    /// Returns the types that can be inferred for the parameters of an UPDATE or DELETE.
    async fn inferred(&mut self, sql: &str) -> Vec<ParameterDescription> {
        let query = typing_query(sql).and_then(|query| PreparedStatement::parse(&query).ok());
        let Some(query) = query.filter(|query| !query.parameters().is_empty()) else {
            return Vec::new();
        };
        let statements = self.service.statements().within(self.transaction.as_ref());
        // Errors are ignored here, because executing the statement reports them.
        let described = statements.describe(&self.principal, &self.request(), &query).boxed().await;
        described.map(|it| it.parameters).unwrap_or_default()
    }

    /// Binds values to a statement.
    pub fn bind(&mut self, message: Bind) -> MessageResult {
        self.bind_portal(message)?;
        self.wire.output.simple(b'2');
        Ok(())
    }

    /// Binds values to a statement, and sends no reply.
    pub fn bind_portal(&mut self, message: Bind) -> MessageResult {
        let statement = self.statements.get(&message.statement).cloned();
        let statement =
            statement.ok_or_else(|| missing("prepared statement", &message.statement))?;
        self.check_status(&statement.action)?;
        let action = match &statement.translated {
            Some(text) => {
                let action = StatementAction::parse(&text.sql, &self.identity())?;
                with_arrays(action, &text.types)?
            }
            None => statement.action.clone(),
        };
        let action = bind_values(action, &statement.parameters, &message)?;
        let mut columns = self.columns(&statement);
        for (index, column) in columns.iter_mut().flatten().enumerate() {
            column.is_binary = ValueFormat::at(&message.results, index) == ValueFormat::Binary
                && matches!(
                    action,
                    StatementAction::Sql(_)
                        | StatementAction::Session(
                            SessionCommand::SetConfig(_) | SessionCommand::AdvisoryLocks(_)
                        )
                );
        }
        if message.portal.is_empty() {
            self.portals.remove("");
        }
        let portal = Portal {
            action,
            columns,
            formats: message.results,
            is_described: statement.is_described.load(Ordering::Relaxed),
            is_held: false,
            progress: PortalProgress::Bound,
        };
        self.add_portal(message.portal, portal)?;
        Ok(())
    }

    /// Returns the columns of a statement. A FETCH statement has the current columns of its cursor,
    /// and an EXECUTE statement those of its prepared statement.
    fn columns(&self, statement: &Statement) -> Option<Vec<ResultColumn>> {
        match &statement.action {
            StatementAction::Session(SessionCommand::Fetch(cursor, _)) => {
                self.portals.get(cursor)?.columns.clone()
            }
            StatementAction::Session(SessionCommand::Execute(text)) => {
                self.statements.get(&text.name)?.columns.clone()
            }
            _ => statement.columns.clone(),
        }
    }

    /// Describes a statement or portal.
    pub fn describe_target(&mut self, target: &StatementOrPortal) -> MessageResult {
        let columns = match target {
            StatementOrPortal::Statement(name) => {
                let statement = self.statements.get(name).cloned();
                let statement = statement.ok_or_else(|| missing("prepared statement", name))?;
                statement.is_described.store(true, Ordering::Relaxed);
                let types: Vec<PgType> = statement.parameters.iter().map(|one| one.1).collect();
                self.wire.output.parameter_description(&types);
                self.columns(&statement)
            }
            StatementOrPortal::Portal(name) => {
                let portal = self.portal(name)?;
                portal.is_described = true;
                portal.columns.clone()
            }
        };
        match columns {
            Some(columns) => self.wire.output.row_description(&columns),
            None => self.wire.output.simple(b'n'),
        }
        Ok(())
    }

    /// Executes a portal: sends at most `limit` rows; 0 means all.
    pub async fn execute(&mut self, name: &str, limit: u32) -> MessageResult {
        let action = self.portal(name)?.action.clone();
        self.check_status(&action)?;
        match action {
            StatementAction::Empty => self.wire.output.simple(b'I'),
            StatementAction::Session(command) => return self.execute_command(command).await,
            StatementAction::Copy(copy) => return self.copy(&copy).await,
            StatementAction::Sql(_) => {
                let limit = if limit == 0 { u64::MAX } else { u64::from(limit) };
                self.run_portal(name, limit).await?;
                match self.portals.get(name).map(|portal| &portal.progress) {
                    Some(PortalProgress::Complete(tag)) => self.wire.output.complete(tag),
                    _ => self.wire.output.simple(b's'),
                }
            }
        }
        Ok(())
    }

    /// Sends at most `limit` rows of a portal whose statement the service executes. Returns their
    /// number.
    pub async fn run_portal(&mut self, name: &str, limit: u64) -> MessageResult<u64> {
        let portal = self.portal(name)?;
        let formats = portal.formats.clone();
        let started =
            std::mem::replace(&mut portal.progress, PortalProgress::Complete(String::new()));
        let mut cursor = match (started, &portal.action) {
            (PortalProgress::Suspended(mut cursor), _) => {
                cursor.resume(self.connection.begin());
                cursor
            }
            (PortalProgress::Bound, StatementAction::Sql(prepared)) => {
                let (prepared, described) = (prepared.clone(), portal.columns.clone());
                let is_described = portal.is_described;
                let calls = prepared.clone().take_file_calls();
                self.connection.show_statement(prepared.source());
                let cursor = self.start(prepared, &formats).await?;
                if is_described && calls.is_ok_and(|calls| !calls.is_empty()) {
                    check_types(described.as_deref(), cursor.columns())?;
                }
                Box::new(cursor)
            }
            (PortalProgress::Complete(_), _) => {
                self.portal(name)?.progress = PortalProgress::Complete("SELECT 0".to_owned());
                return Ok(0);
            }
            (PortalProgress::Bound, _) => return Ok(0),
        };
        let before = cursor.count();
        let is_complete = cursor.send(limit, &mut self.wire).await?;
        let sent = cursor.count() - before;
        self.portal(name)?.progress = if is_complete {
            PortalProgress::Complete(cursor.tag())
        } else {
            PortalProgress::Suspended(cursor)
        };
        Ok(sent)
    }

    /// Removes a statement or portal. Does nothing if the statement or portal does not exist.
    pub fn close(&mut self, target: &StatementOrPortal) {
        match target {
            StatementOrPortal::Statement(name) => drop(self.statements.remove(name)),
            StatementOrPortal::Portal(name) => drop(self.portals.remove(name)),
        }
        self.wire.output.simple(b'3');
    }
}

/// Fails if the columns of a result differ from those that were described to the client. They can
/// differ for a query of files, because its description used only the first rows of each file.
fn check_types(
    described: Option<&[ResultColumn]>,
    found: Option<&[ResultColumn]>,
) -> Result<(), Problem> {
    let (Some(described), Some(found)) = (described, found) else { return Ok(()) };
    let types = |columns: &[ResultColumn]| columns.iter().map(|it| it.pg_type).collect::<Vec<_>>();
    if types(described) == types(found) {
        return Ok(());
    }
    let message = "the column types of a file differ from the types of its first rows";
    let problem = Problem::new(ErrorCode::InvalidArgument, message);
    Err(problem.with_hint("Import the files, or send the statement without preparing it."))
}

/// Adds casts to array parameters, so that the statement can be planned without their values. These
/// are the parameters that the client declares as arrays, and undeclared parameters in `ANY ($1)`.
fn with_arrays(action: StatementAction, types: &[u32]) -> Result<StatementAction, Problem> {
    let StatementAction::Sql(prepared) = action else { return Ok(action) };
    let declared = types.iter().enumerate().filter_map(|(index, oid)| {
        let pg_type = PgType::from_oid(*oid).filter(|pg_type| pg_type.is_array)?;
        Some(((index + 1).to_string(), array_parameter::sql_type(pg_type.scalar)?.to_owned()))
    });
    let mut casts: BTreeMap<String, String> = declared.collect();
    for name in array_parameter::operands(prepared.source()) {
        let index = number(name).saturating_sub(1) as usize;
        if types.get(index).is_none_or(|declared| *declared == 0) {
            casts.insert(name.to_owned(), array_parameter::TEXTS.to_owned());
        }
    }
    Ok(StatementAction::Sql(prepared.with_casts(&casts).or_problem()?))
}

/// Adds the parameters that occur only in the original text and not in the statement that is
/// executed, because the client binds values to them.
fn add_parameters(statement: &mut Statement, written: Vec<String>) {
    for name in written {
        if statement.parameters.iter().all(|(known, _)| *known != name) {
            let pg_type = match &statement.action {
                StatementAction::Session(SessionCommand::AdvisoryLocks(query)) => {
                    query.parameter_type(&name)
                }
                _ => PgType::TEXT,
            };
            statement.parameters.push((name, pg_type));
        }
    }
    statement.parameters.sort_by_key(|(name, _)| number(name));
}

/// Gives parameters the type `oid` or `oid[]` if the client's text casts them to this type.
fn state_object_ids(statement: &mut Statement, sql: &str) {
    if statement.translated.is_none() {
        return;
    }
    let stated = object_ids(sql);
    for (name, pg_type) in &mut statement.parameters {
        if let Some(stated) = stated.get(name) {
            *pg_type = *stated;
        }
    }
}

/// Returns the number of a parameter; the maximum if its name is not a number, to sort it last.
fn number(name: &str) -> u32 {
    name.parse().unwrap_or(u32::MAX)
}

/// Returns the index of a parameter in a list of types; `None` if its name is not a number.
fn place(name: &str) -> Option<usize> {
    usize::from(name.parse::<u16>().ok()?).checked_sub(1)
}

/// Replaces the inferred parameter types with the types that the client declares.
fn declare_types(statement: &mut Statement, types: &[u32]) {
    for (parameter, declared) in statement.parameters.iter_mut().zip(types) {
        if let Some(declared) = PgType::from_oid(*declared) {
            parameter.1 = declared;
        }
    }
}

/// Gives undeclared parameters in `ANY ($1)` the type of an array of texts.
fn declare_arrays(statement: &mut Statement, types: &[u32]) {
    let StatementAction::Sql(prepared) = &statement.action else { return };
    let operands = array_parameter::operands(prepared.source());
    for (index, (name, pg_type)) in statement.parameters.iter_mut().enumerate() {
        let is_declared = types.get(index).is_some_and(|declared| *declared != 0);
        if !is_declared && operands.contains(&name.as_str()) {
            *pg_type = PgType { is_array: true, ..PgType::TEXT };
        }
    }
}

fn bind_values(
    action: StatementAction,
    parameters: &[(String, PgType)],
    message: &Bind,
) -> Result<StatementAction, Problem> {
    let (count, expected) = (message.values.len(), parameters.len());
    if count != expected {
        let text =
            format!("the statement has {expected} parameters, but the client sent {count} values");
        return Err(Problem::new(ErrorCode::InvalidArgument, text));
    }
    let mut values: BTreeMap<String, Value> = BTreeMap::new();
    let mut casts: BTreeMap<String, String> = BTreeMap::new();
    for (index, (name, pg_type)) in parameters.iter().enumerate() {
        let format = ValueFormat::at(&message.formats, index);
        let bound = parameter_value::decode(name, *pg_type, format, message.values[index].clone())?;
        casts.extend(bound.cast.map(|cast| (name.clone(), cast)));
        values.insert(name.clone(), bound.value);
    }
    Ok(match action {
        StatementAction::Sql(prepared) => {
            let prepared = prepared.with_casts(&casts).or_problem()?;
            StatementAction::Sql(prepared.bind(&values).or_problem()?)
        }
        StatementAction::Session(SessionCommand::SetConfig(query)) => {
            let query = query.bound(&values, &message.results);
            StatementAction::Session(SessionCommand::SetConfig(query))
        }
        StatementAction::Session(SessionCommand::AdvisoryLocks(query)) => {
            let query = query.bound(&values, &message.results);
            StatementAction::Session(SessionCommand::AdvisoryLocks(query))
        }
        other => other,
    })
}
