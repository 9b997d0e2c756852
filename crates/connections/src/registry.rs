//! The set of open connections, and the handle of each.

use std::collections::BTreeMap;
use std::sync::Arc;

use headwater_model::{Clock, Principal, SystemClock};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::advisory_lock::{
    AdvisoryKey, AdvisoryLocks, LockKind, LockMode, LockScope, TooManyLocks,
};
use crate::connection::{ClientProperties, ConnectionKey, ConnectionState, TransactionState};

/// The open connections. Clones share one list.
#[derive(Clone, Default)]
pub struct Connections(Arc<Mutex<Registry>>);

#[derive(Default)]
struct Registry {
    last: i32,
    open: BTreeMap<i32, OpenConnection>,
    locks: AdvisoryLocks,
}

struct OpenConnection {
    secret: i32,
    state: ConnectionState,
    /// The token that cancels the running statement; `None` between statements.
    statement: Option<CancellationToken>,
    /// The token that ends the connection.
    ended: CancellationToken,
}

impl OpenConnection {
    fn cancel(&self) {
        if let Some(statement) = &self.statement {
            statement.cancel();
        }
    }
}

impl Connections {
    /// Adds a connection, which is removed when the returned handle is dropped.
    pub fn open(&self, principal: Principal, client: ClientProperties) -> ConnectionHandle {
        let random = uuid::Uuid::new_v4().into_bytes();
        let secret = i32::from_be_bytes([random[0], random[1], random[2], random[3]]);
        let ended = CancellationToken::new();
        let mut registry = self.0.lock();
        // Numbers can repeat after an overflow, so skip the numbers of open connections.
        loop {
            registry.last = registry.last.wrapping_add(1).max(1);
            if !registry.open.contains_key(&registry.last) {
                break;
            }
        }
        let process = registry.last;
        let database = client.database.clone();
        let state = ConnectionState::new(process, principal, client);
        let connection = OpenConnection { secret, state, statement: None, ended: ended.clone() };
        registry.open.insert(process, connection);
        ConnectionHandle { key: (process, secret), database, connections: self.clone(), ended }
    }

    /// Returns the connections, in the order of their numbers.
    pub fn list(&self) -> Vec<ConnectionState> {
        self.0.lock().open.values().map(|connection| connection.state.clone()).collect()
    }

    /// Cancels the running statement of a connection. Does nothing for an unknown key.
    pub fn cancel_by_key(&self, (process, secret): ConnectionKey) {
        let registry = self.0.lock();
        let found = registry.open.get(&process).filter(|connection| connection.secret == secret);
        if let Some(connection) = found {
            connection.cancel();
        }
    }

    /// Cancels the running statement of a connection. Returns false if there is no connection with
    /// this number that the caller may signal.
    pub fn cancel(&self, process: i32, may_signal: impl Fn(&ConnectionState) -> bool) -> bool {
        self.signal(process, may_signal, OpenConnection::cancel)
    }

    /// Ends a connection, and cancels its running statement. Returns false if there is no
    /// connection with this number that the caller may signal.
    pub fn end(&self, process: i32, may_signal: impl Fn(&ConnectionState) -> bool) -> bool {
        self.signal(process, may_signal, |connection| {
            connection.ended.cancel();
            connection.cancel();
        })
    }

    fn signal(
        &self,
        process: i32,
        may_signal: impl Fn(&ConnectionState) -> bool,
        signal: impl Fn(&OpenConnection),
    ) -> bool {
        let registry = self.0.lock();
        let found = registry.open.get(&process);
        let Some(connection) = found.filter(|connection| may_signal(&connection.state)) else {
            return false;
        };
        signal(connection);
        true
    }

    fn update(&self, process: i32, change: impl FnOnce(&mut OpenConnection)) {
        if let Some(connection) = self.0.lock().open.get_mut(&process) {
            change(connection);
        }
    }
}

/// The handle of an open connection. Dropping it removes the connection from the list, and releases
/// its advisory locks.
pub struct ConnectionHandle {
    /// The key with which the client can cancel a statement.
    pub key: ConnectionKey,
    /// The database whose advisory locks the connection uses.
    database: String,
    connections: Connections,
    ended: CancellationToken,
}

impl ConnectionHandle {
    /// Sets the statement that users see for this connection: the text that the client sent, which
    /// can contain several statements.
    pub fn show_statement(&self, text: &str) {
        let now = SystemClock.now();
        self.connections.update(self.key.0, |connection| connection.state.begin(text, now));
    }

    /// Sets the name of the client program that users see for this connection.
    pub fn set_application_name(&self, name: &str) {
        let change = |it: &mut OpenConnection| name.clone_into(&mut it.state.client.application);
        self.connections.update(self.key.0, change);
    }

    /// Records that a statement starts. A request to cancel the statement cancels the returned
    /// token.
    pub fn begin(&self) -> CancellationToken {
        let token = CancellationToken::new();
        let own = token.clone();
        self.connections.update(self.key.0, |connection| connection.statement = Some(own));
        // A signal may have ended the connection before the statement began, so cancel it at once.
        if self.ended.is_cancelled() {
            token.cancel();
        }
        token
    }

    /// Records that the statement has ended, so that a late request to cancel it has no effect.
    pub fn end(&self, transaction: TransactionState) {
        let now = SystemClock.now();
        self.connections.update(self.key.0, |connection| {
            connection.statement = None;
            connection.state.end(transaction, now);
        });
    }

    /// Acquires an advisory lock. Returns false if the lock of another connection excludes it.
    pub fn try_lock(&self, key: AdvisoryKey, kind: LockKind) -> Result<bool, TooManyLocks> {
        let name = (self.database.clone(), key);
        self.connections.0.lock().locks.acquire(name, self.key.0, kind)
    }

    /// Acquires an advisory lock, and waits while the lock of another connection excludes it.
    pub async fn lock(&self, key: AdvisoryKey, kind: LockKind) -> Result<(), TooManyLocks> {
        let name = (self.database.clone(), key);
        loop {
            let released = {
                let mut registry = self.connections.0.lock();
                if registry.locks.acquire(name.clone(), self.key.0, kind)? {
                    return Ok(());
                }
                registry.locks.wait(&name)
            };
            released.cancelled().await;
        }
    }

    /// Undoes one acquisition of an advisory lock in this mode by the session. The lock is released
    /// when each acquisition is undone. Returns false if the connection does not hold the lock.
    pub fn unlock(&self, key: AdvisoryKey, mode: LockMode) -> bool {
        let name = (self.database.clone(), key);
        self.connections.0.lock().locks.release(&name, self.key.0, mode)
    }

    /// Releases all advisory locks of the connection that have one of the scopes.
    pub fn release_locks(&self, scopes: &[LockScope]) {
        self.connections.0.lock().locks.release_all(self.key.0, scopes);
    }

    /// Returns the token that is cancelled when the connection must end.
    pub fn ended(&self) -> &CancellationToken {
        &self.ended
    }
}

impl Drop for ConnectionHandle {
    fn drop(&mut self) {
        let mut registry = self.connections.0.lock();
        registry.open.remove(&self.key.0);
        registry.locks.release_all(self.key.0, &[LockScope::Session, LockScope::Transaction]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(connections: &Connections) -> ConnectionHandle {
        let client =
            ClientProperties { database: "main".into(), application: "psql".into(), address: None };
        connections.open(Principal::owner(), client)
    }

    #[test]
    fn only_the_key_cancels_and_only_during_a_statement() {
        let connections = Connections::default();
        let handle = open(&connections);
        let (process, secret) = handle.key;
        connections.cancel_by_key(handle.key);
        let token = handle.begin();
        connections.cancel_by_key((process, secret.wrapping_add(1)));
        connections.cancel_by_key((process + 1, secret));
        assert!(!token.is_cancelled());
        connections.cancel_by_key(handle.key);
        assert!(token.is_cancelled());
        handle.end(TransactionState::None);
        drop(handle);
        connections.cancel_by_key((process, secret));
        assert!(connections.list().is_empty());
    }

    #[test]
    fn signals_reach_only_the_permitted_connections() {
        let connections = Connections::default();
        let (one, two) = (open(&connections), open(&connections));
        let (first, second) = (one.begin(), two.begin());
        assert!(!connections.cancel(one.key.0, |_| false));
        assert!(connections.cancel(one.key.0, |_| true));
        assert!(first.is_cancelled() && !one.ended().is_cancelled());
        assert!(connections.end(two.key.0, |state| state.is_of(&Principal::owner())));
        assert!(second.is_cancelled() && two.ended().is_cancelled());
        assert!(two.begin().is_cancelled(), "a statement after the signal");
        assert!(!connections.end(99, |_| true));
    }

    #[test]
    fn a_connection_shows_its_statement_and_its_transaction() {
        let connections = Connections::default();
        let handle = open(&connections);
        let state = || connections.list().remove(0);
        assert_eq!(state().name(), "idle");
        handle.show_statement("SELECT 1");
        assert_eq!((state().name(), state().statement), ("active", "SELECT 1".to_owned()));
        assert!(state().transaction_started.is_some());
        handle.end(TransactionState::Failed);
        assert_eq!(state().name(), "idle in transaction (aborted)");
        handle.end(TransactionState::None);
        assert_eq!((state().name(), state().transaction_started), ("idle", None));
        handle.set_application_name("pgbench");
        assert_eq!(state().client.application, "pgbench");
    }
}
