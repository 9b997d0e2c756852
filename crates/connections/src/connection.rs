//! One connection: its client, its statement and its transaction.

use std::net::SocketAddr;

use headwater_model::{Clock, Identity, Principal, SystemClock, Timestamp};

/// Maximum length of the statement text in the list of connections, in bytes.
const STATEMENT_BYTES_MAX: usize = 1_024;

/// The key with which a client cancels the statement of a connection: the number of the connection,
/// and a secret that only the client of the connection knows.
pub type ConnectionKey = (i32, i32);

/// The properties of a client that connects.
#[derive(Debug, Clone)]
pub struct ClientProperties {
    /// The ref of the connection, which clients see as the database.
    pub database: String,
    /// The name of the client program; empty if the client sent none.
    pub application: String,
    /// The address of the client; `None` for a local socket.
    pub address: Option<SocketAddr>,
}

/// The state of a connection's transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TransactionState {
    /// No transaction is open.
    #[default]
    None,
    /// A transaction is open.
    Open,
    /// A statement of the transaction failed.
    Failed,
}

/// The state of a connection at one time.
#[derive(Debug, Clone)]
pub struct ConnectionState {
    /// The number of the connection.
    pub process: i32,
    /// The identity of the client.
    pub principal: Principal,
    /// The properties of the client.
    pub client: ClientProperties,
    /// The time of the login.
    pub started: Timestamp,
    /// The start of the transaction, or of the running statement outside of a transaction.
    pub transaction_started: Option<Timestamp>,
    /// The start of the last statement.
    pub statement_started: Option<Timestamp>,
    /// The time at which `is_active` or `transaction` last changed.
    pub changed: Timestamp,
    /// True while a statement is running.
    pub is_active: bool,
    /// The transaction.
    pub transaction: TransactionState,
    /// The text of the last statement, truncated.
    pub statement: String,
}

impl ConnectionState {
    pub(crate) fn new(process: i32, principal: Principal, client: ClientProperties) -> Self {
        let now = SystemClock.now();
        ConnectionState {
            process,
            principal,
            client,
            started: now,
            transaction_started: None,
            statement_started: None,
            changed: now,
            is_active: false,
            transaction: TransactionState::None,
            statement: String::new(),
        }
    }

    /// Returns PostgreSQL's name of the state: `active`, or the reason why the connection is idle.
    pub fn name(&self) -> &'static str {
        match self.transaction {
            _ if self.is_active => "active",
            TransactionState::None => "idle",
            TransactionState::Open => "idle in transaction",
            TransactionState::Failed => "idle in transaction (aborted)",
        }
    }

    /// Returns true if the client of the connection has the same account as a principal. An
    /// earlier, deleted account with the same name counts as another account.
    pub fn is_of(&self, principal: &Principal) -> bool {
        match (self.principal.identity(), principal.identity()) {
            (Identity::Owner, Identity::Owner) => true,
            (Identity::User(own), Identity::User(other)) => {
                own.name == other.name && own.created == other.created
            }
            _ => false,
        }
    }

    pub(crate) fn begin(&mut self, statement: &str, now: Timestamp) {
        let shown = &statement[..statement.floor_char_boundary(STATEMENT_BYTES_MAX)];
        shown.clone_into(&mut self.statement);
        self.is_active = true;
        self.statement_started = Some(now);
        self.changed = now;
        if self.transaction == TransactionState::None {
            self.transaction_started = Some(now);
        }
    }

    pub(crate) fn end(&mut self, transaction: TransactionState, now: Timestamp) {
        if self.is_active {
            self.changed = now;
        }
        self.is_active = false;
        self.transaction = transaction;
        if transaction == TransactionState::None {
            self.transaction_started = None;
        }
    }
}
