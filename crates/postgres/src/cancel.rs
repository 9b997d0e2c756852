//! Cancel requests: a client cancels the current statement of one connection from another
//! connection, by a key.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// The key of a connection: its number, and a secret that only its client knows.
pub type CancelKey = (i32, i32);

/// The connections of a listener.
#[derive(Clone, Default)]
pub struct Cancels(Arc<Mutex<Registry>>);

#[derive(Default)]
struct Registry {
    last: i32,
    /// The current statement of each connection; `None` between statements.
    current: HashMap<CancelKey, Option<CancellationToken>>,
}

impl Cancels {
    /// Adds a connection until the handle is dropped.
    pub fn register(&self) -> CancelHandle {
        let random = uuid::Uuid::new_v4().into_bytes();
        let secret = i32::from_be_bytes([random[0], random[1], random[2], random[3]]);
        let mut registry = self.0.lock();
        registry.last = registry.last.wrapping_add(1).max(1);
        let key = (registry.last, secret);
        registry.current.insert(key, None);
        CancelHandle { key, cancels: self.clone() }
    }

    /// Cancels the current statement of a connection. Does nothing for an unknown key.
    pub fn cancel(&self, key: CancelKey) {
        if let Some(Some(token)) = self.0.lock().current.get(&key) {
            token.cancel();
        }
    }
}

/// The registration of a connection whose statements can be cancelled.
pub struct CancelHandle {
    /// The key.
    pub key: CancelKey,
    cancels: Cancels,
}

impl CancelHandle {
    /// Starts a statement. The returned token is cancelled by a cancel request.
    pub fn begin(&self) -> CancellationToken {
        let token = CancellationToken::new();
        self.cancels.0.lock().current.insert(self.key, Some(token.clone()));
        token
    }

    /// Ends the statement, so that a late cancel request does not cancel the next one.
    pub fn end(&self) {
        self.cancels.0.lock().current.insert(self.key, None);
    }
}

impl Drop for CancelHandle {
    fn drop(&mut self) {
        self.cancels.0.lock().current.remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_key_cancels_and_only_during_a_statement() {
        let cancels = Cancels::default();
        let handle = cancels.register();
        let (process, secret) = handle.key;
        cancels.cancel(handle.key);
        let token = handle.begin();
        cancels.cancel((process, secret.wrapping_add(1)));
        cancels.cancel((process + 1, secret));
        assert!(!token.is_cancelled());
        cancels.cancel(handle.key);
        assert!(token.is_cancelled());
        handle.end();
        drop(handle);
        cancels.cancel((process, secret));
        assert!(cancels.0.lock().current.is_empty());
    }
}
