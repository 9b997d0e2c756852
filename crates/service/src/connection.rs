//! The connections of clients. A user sees its own connections and may end them; an administrator
//! sees all.

use std::sync::Arc;

use headwater_connections::{
    ClientProperties, ConnectionHandle, ConnectionKey, ConnectionState, Connections,
};
use headwater_engine::Session;
use headwater_model::{Principal, Problem};

use crate::service::{Components, Service};

/// A function that signals a connection by its number. Returns false if there is none.
type SendSignal = fn(&VisibleConnections, i32) -> bool;

/// The SQL functions that signal a connection, and the signal of each.
const SIGNALS: [(&str, SendSignal); 2] = [
    ("pg_cancel_backend", VisibleConnections::cancel),
    ("pg_terminate_backend", VisibleConnections::end),
];

/// Operations on the connections of clients.
#[derive(Clone)]
pub struct ClientConnections(Arc<Components>);

impl Service {
    /// Returns the operations on connections.
    pub fn connections(&self) -> ClientConnections {
        ClientConnections(self.shared().clone())
    }
}

impl ClientConnections {
    /// Adds a connection of the principal until the handle is dropped.
    pub fn open(
        &self,
        principal: &Principal,
        client: ClientProperties,
    ) -> Result<ConnectionHandle, Problem> {
        self.0.authenticated(principal)?;
        Ok(self.0.connections.open(principal.clone(), client))
    }

    /// Lists the connections that the principal may see.
    pub fn list(&self, principal: &Principal) -> Result<Vec<ConnectionState>, Problem> {
        self.0.authenticated(principal)?;
        Ok(self.0.connections_of(principal).list())
    }

    /// Cancels the running statement of a connection. Returns false if the principal may see no
    /// connection with this number.
    pub fn cancel(&self, principal: &Principal, process: i32) -> Result<bool, Problem> {
        self.0.authenticated(principal)?;
        Ok(self.0.connections_of(principal).cancel(process))
    }

    /// Ends a connection, whose transaction is rolled back. Returns false if the principal may see
    /// no connection with this number.
    pub fn end(&self, principal: &Principal, process: i32) -> Result<bool, Problem> {
        self.0.authenticated(principal)?;
        Ok(self.0.connections_of(principal).end(process))
    }

    /// Cancels the running statement of the connection with this key. Needs no right, because only
    /// the client of the connection knows the key.
    pub fn cancel_by_key(&self, key: ConnectionKey) {
        self.0.connections.cancel_by_key(key);
    }
}

/// The connections that a principal may see and end.
pub(crate) struct VisibleConnections {
    connections: Connections,
    principal: Principal,
    sees_all: bool,
}

impl VisibleConnections {
    fn includes(&self, connection: &ConnectionState) -> bool {
        self.sees_all || connection.is_of(&self.principal)
    }

    pub(crate) fn list(&self) -> Vec<ConnectionState> {
        let mut connections = self.connections.list();
        connections.retain(|connection| self.includes(connection));
        connections
    }

    fn cancel(&self, process: i32) -> bool {
        self.connections.cancel(process, |connection| self.includes(connection))
    }

    fn end(&self, process: i32) -> bool {
        self.connections.end(process, |connection| self.includes(connection))
    }
}

impl Components {
    /// Returns the connections that a principal may see and end.
    pub(crate) fn connections_of(&self, principal: &Principal) -> VisibleConnections {
        VisibleConnections {
            connections: self.connections.clone(),
            principal: principal.clone(),
            sees_all: self.is_unlimited(principal),
        }
    }

    /// Adds the functions that signal connections, if a statement mentions them.
    pub(crate) fn add_signals(&self, principal: &Principal, session: &Session, sql: &str) {
        let text = sql.to_ascii_lowercase();
        for (name, send) in SIGNALS.into_iter().filter(|(name, _)| text.contains(name)) {
            let own = self.connections_of(principal);
            let send = move |process: i64| i32::try_from(process).is_ok_and(|it| send(&own, it));
            session.register_signal(name, Arc::new(send));
        }
    }
}
