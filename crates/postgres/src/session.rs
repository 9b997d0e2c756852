//! A session: the state of one connection between two messages.

use std::borrow::Cow;
use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use futures::FutureExt;
use headwater_model::{
    DEFAULT_NAMESPACE, ErrorCode, Principal, Problem, QueryRequest, RefSpec, ResultExt,
};
use headwater_postgres_catalog::{
    ConnectionProperties, PgType, Translation, translate, without_database,
};
use headwater_service::{
    ConnectionHandle, CopiedRows, OpenTransaction, PreparedStatement, Service,
};
use tokio_util::sync::CancellationToken;

use crate::backend_message::TransactionStatus;
use crate::buffered_connection::BufferedConnection;
use crate::copy::CopyStatement;
use crate::frontend_message::ValueFormat;
use crate::result_rows::{Cursor, StatementProperties};
use crate::session_command::SessionCommand;
use crate::settings::{READ_ONLY, SERVER_VERSION, Settings, switch_text};
use crate::temporary_objects::TemporaryRelations;
use crate::transaction_settings::TransactionSettings;

/// Maximum number of prepared statements, and of portals, of a session.
const NAMES_MAX: usize = 1_000;

/// The version of Headwater, as `version()` shows it.
const HEADWATER_VERSION: &str = env!("CARGO_PKG_VERSION");

/// An error that ends the processing of a message.
#[derive(Debug)]
pub enum MessageError {
    /// The message failed; the connection remains usable.
    Problem(Problem),
    /// The connection ended.
    Closed(io::Error),
}

impl From<Problem> for MessageError {
    fn from(problem: Problem) -> Self {
        MessageError::Problem(problem)
    }
}

impl From<io::Error> for MessageError {
    fn from(error: io::Error) -> Self {
        MessageError::Closed(error)
    }
}

/// The result of processing a message.
pub type MessageResult<T = ()> = Result<T, MessageError>;

/// The work that a prepared statement or portal executes.
#[derive(Debug, Clone)]
pub enum StatementAction {
    /// Nothing: the text has no statement.
    Empty,
    /// A statement that the session executes itself.
    Session(SessionCommand),
    /// A statement that the service executes.
    Sql(PreparedStatement),
    /// A COPY statement.
    Copy(Box<CopyStatement>),
}

impl StatementAction {
    /// Parses the text of one statement.
    pub fn parse(sql: &str, identity: &ConnectionProperties) -> Result<Self, Problem> {
        Ok(Self::parse_with_parameters(sql, identity)?.0)
    }

    /// Parses the text of one statement. Also returns the names of the parameters in the text,
    /// which can include parameters that the action does not use.
    pub fn parse_with_parameters(
        sql: &str,
        identity: &ConnectionProperties,
    ) -> Result<(Self, Vec<String>), Problem> {
        let sql = &*without_database(sql, &identity.database);
        if let Some(command) = SessionCommand::parse(sql) {
            let command = command?;
            let parameters = match &command {
                SessionCommand::SetConfig(query) => query.parameters(),
                SessionCommand::AdvisoryLocks(query) => query.parameters(),
                _ => Vec::new(),
            };
            return Ok((StatementAction::Session(command), parameters));
        }
        if let Some(copy) = CopyStatement::parse(sql) {
            return Ok((StatementAction::Copy(Box::new(copy?)), Vec::new()));
        }
        let (sql, parameters) = match translate(sql, identity)? {
            Some(Translation { sql, parameters }) => (Cow::Owned(sql), parameters),
            None => (Cow::Borrowed(sql), Vec::new()),
        };
        Ok((StatementAction::Sql(PreparedStatement::parse(&sql).or_problem()?), parameters))
    }
}

/// A prepared statement with its types.
#[derive(Debug)]
pub struct Statement {
    /// The action.
    pub action: StatementAction,
    /// Names and types of its parameters.
    pub parameters: Vec<(String, PgType)>,
    /// Columns of the result, in text format; `None` if the statement returns no rows.
    pub columns: Option<Vec<crate::backend_message::ResultColumn>>,
    /// True once the client has requested a description of the columns.
    pub is_described: AtomicBool,
    /// The text of a translated statement; `None` for other statements. The translation contains
    /// settings of the session, so the text is translated again when values are bound.
    pub translated: Option<TranslatedText>,
}

/// The text of a translated statement.
#[derive(Debug)]
pub struct TranslatedText {
    /// The text that the client sent.
    pub sql: String,
    /// The OIDs of the parameter types that the client declared.
    pub types: Vec<u32>,
}

impl Statement {
    /// Creates a statement without parameters.
    pub fn new(
        action: StatementAction,
        columns: Option<Vec<crate::backend_message::ResultColumn>>,
    ) -> Self {
        Statement {
            action,
            parameters: Vec::new(),
            columns,
            is_described: AtomicBool::default(),
            translated: None,
        }
    }
}

/// A statement with bound values, whose rows a client can request in parts.
pub struct Portal {
    /// The statement, whose parameters are bound.
    pub action: StatementAction,
    /// Columns of the result, in the formats requested by the client; `None` if the statement
    /// returns no rows.
    pub columns: Option<Vec<crate::backend_message::ResultColumn>>,
    /// Formats of the columns that the client requested: an empty list (all text), one format for
    /// all columns, or one for each column.
    pub formats: Vec<ValueFormat>,
    /// True if the client has received a description of the columns. The rows must then have these
    /// columns.
    pub is_described: bool,
    /// True for a cursor WITH HOLD, which `COMMIT` does not close.
    pub is_held: bool,
    /// The progress of the portal's execution.
    pub progress: PortalProgress,
}

/// Progress of a portal.
pub enum PortalProgress {
    /// The portal is not executed yet.
    Bound,
    /// Partly executed: the client has not requested the remaining rows yet.
    Suspended(Box<Cursor>),
    /// The portal is executed completely, with this command tag.
    Complete(String),
}

/// An authenticated client, for which a session is created.
pub struct AuthenticatedClient {
    /// The identity.
    pub principal: Principal,
    /// The ref that statements read and write.
    pub reference: RefSpec,
    /// The settings that the client sent when it connected.
    pub settings: Settings,
}

/// The state of a connection.
pub struct Session {
    /// The connection.
    pub wire: BufferedConnection,
    /// The service that executes the operations.
    pub service: Service,
    /// The identity of the client.
    pub principal: Principal,
    /// The ref that statements read and write.
    pub reference: RefSpec,
    /// Settings of the session, which the client can change with `SET`.
    pub settings: Settings,
    /// The state of the transaction, as reported to the client.
    pub status: TransactionStatus,
    /// The transaction, if one is open.
    pub transaction: Option<OpenTransaction>,
    /// True if the open transaction is read-only.
    pub is_read_only: bool,
    /// The settings that are restored when the open transaction ends.
    pub transaction_settings: Option<TransactionSettings>,
    /// The temporary tables and views of the transaction.
    pub temporary: TemporaryRelations,
    /// The rows of a COPY that are not inserted yet. The next INSERT statement of the COPY inserts
    /// them.
    pub copied: Option<CopiedRows>,
    /// Prepared statements by name.
    pub statements: HashMap<String, Arc<Statement>>,
    /// Portals by name. SQL cursors are also portals.
    pub portals: HashMap<String, Portal>,
    /// The handle by which other connections see the state of this connection, cancel its
    /// statements and end it.
    pub connection: ConnectionHandle,
}

impl Session {
    /// Creates a session outside of a transaction.
    pub fn new(
        wire: BufferedConnection,
        service: Service,
        client: AuthenticatedClient,
        connection: ConnectionHandle,
    ) -> Self {
        let AuthenticatedClient { principal, reference, mut settings } = client;
        settings.keep_as_defaults();
        Session {
            wire,
            service,
            principal,
            reference,
            settings,
            status: TransactionStatus::default(),
            transaction: None,
            is_read_only: false,
            transaction_settings: None,
            temporary: TemporaryRelations::default(),
            copied: None,
            statements: HashMap::new(),
            portals: HashMap::new(),
            connection,
        }
    }

    /// Returns the properties of the connection that are used to translate PostgreSQL's catalog
    /// queries.
    pub(crate) fn identity(&self) -> ConnectionProperties {
        let setting = |(name, value, _): (&str, &str, bool)| (name.to_owned(), value.to_owned());
        let settings = self.current_settings();
        let custom = settings.custom().map(|(name, value)| (name.to_owned(), value.to_owned()));
        ConnectionProperties {
            database: self.reference.to_string(),
            process: self.connection.key.0,
            user: self.settings.get("session_authorization").unwrap_or_default().to_owned(),
            namespace: self.settings.namespace().unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned()),
            version: format!("PostgreSQL {SERVER_VERSION} (Headwater {HEADWATER_VERSION})"),
            settings: settings.all().map(setting).chain(custom).collect(),
        }
    }

    /// Returns the settings, with current values of the settings that show the state of the
    /// transaction.
    pub(crate) fn current_settings(&self) -> Settings {
        let mut settings = self.settings.clone();
        settings.set_by_server(READ_ONLY, switch_text(self.rejects_writes()));
        settings
    }

    /// Returns the context of a statement.
    pub fn request(&self) -> QueryRequest {
        let reference =
            self.transaction.as_ref().map_or(&self.reference, OpenTransaction::reference);
        QueryRequest {
            reference: Some(reference.clone()),
            namespace: self.settings.namespace(),
            ..QueryRequest::default()
        }
    }

    /// Rejects every statement in a failed transaction, except those that end the transaction.
    pub fn check_status(&self, action: &StatementAction) -> Result<(), Problem> {
        let ends = matches!(
            action,
            StatementAction::Session(
                SessionCommand::Commit | SessionCommand::Rollback | SessionCommand::RollbackTo(_)
            ) | StatementAction::Empty
        );
        if self.status != TransactionStatus::Failed || ends {
            return Ok(());
        }
        let message = "an earlier statement of the transaction failed";
        Err(Problem::new(ErrorCode::TransactionFailed, message).with_hint("Send `ROLLBACK`."))
    }

    /// Adds a portal. An unnamed portal replaces the previous unnamed portal.
    pub(crate) fn add_portal(&mut self, name: String, portal: Portal) -> Result<(), Problem> {
        check_count(self.portals.len())?;
        if !name.is_empty() && self.portals.contains_key(&name) {
            return Err(exists("cursor", &name));
        }
        self.portals.insert(name, portal);
        Ok(())
    }

    /// Adds a prepared statement. An unnamed statement replaces the previous unnamed statement.
    pub fn add_statement(&mut self, name: String, statement: Statement) -> Result<(), Problem> {
        check_count(self.statements.len())?;
        if !name.is_empty() && self.statements.contains_key(&name) {
            return Err(exists("prepared statement", &name));
        }
        self.statements.insert(name, Arc::new(statement));
        Ok(())
    }

    /// Starts a statement in the service.
    pub async fn start(
        &mut self,
        statement: PreparedStatement,
        formats: &[ValueFormat],
    ) -> MessageResult<Cursor> {
        let name = statement.name().or_problem()?;
        // Clients expect the command tag of the statement that they sent: an upsert is executed
        // under another name.
        let name = if statement.is_upsert() { "INSERT" } else { name };
        let kind = StatementProperties { name, has_returning: statement.has_returning() };
        self.update_temporary(statement.source());
        self.prepare_write(name).await?;
        let token = self.connection.begin();
        let (request, timeout) = (self.request(), self.settings.statement_timeout());
        let statements = self.service.statements().within(self.transaction.as_ref());
        let statements = statements.with_rows(self.copied.take());
        let principal = self.principal.clone();
        let starting = statements.start_prepared(&principal, &request, statement).boxed();
        let started = until_stopped(starting, &token, timeout, &mut self.wire).await;
        let rows = started?.and_then(|started| started.rows)?;
        Ok(Cursor::new(rows, kind, formats, token, &self.settings))
    }
}

/// Waits for a result. The wait ends with an error at a cancel request, at the time limit, and when
/// the client closes the connection.
pub async fn until_stopped<T>(
    work: impl Future<Output = T>,
    token: &CancellationToken,
    timeout: Option<Duration>,
    wire: &mut BufferedConnection,
) -> MessageResult<T> {
    let expired = async {
        match timeout {
            Some(timeout) => tokio::time::sleep(timeout).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        () = token.cancelled() => {
            Err(cancelled().into())
        }
        done = work => Ok(done),
        () = expired => {
            let message = "the statement ran longer than `statement_timeout`";
            Err(Problem::new(ErrorCode::TimeLimit, message).into())
        }
        () = wire.closed() => Err(io::Error::from(io::ErrorKind::ConnectionAborted).into()),
    }
}

/// Returns the error of a cancelled statement.
pub fn cancelled() -> Problem {
    Problem::new(ErrorCode::Cancelled, "a client cancelled the statement")
}

fn check_count(count: usize) -> Result<(), Problem> {
    if count < NAMES_MAX {
        return Ok(());
    }
    let message = format!("the session has {count} statements or cursors (limit {NAMES_MAX})");
    Err(Problem::new(ErrorCode::TooBusy, message)
        .with_hint("Close statements and cursors that are not used."))
}

fn exists(what: &str, name: &str) -> Problem {
    Problem::new(ErrorCode::AlreadyExists, format!("the {what} `{name}` already exists"))
}
