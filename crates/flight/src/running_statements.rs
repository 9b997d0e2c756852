//! The running statements of all clients, which a client can cancel by id.
//!
//! The id of a prepared statement is its handle, so one id can run several times at once. A cancel
//! request stops all runs of its id.

use std::collections::HashMap;
use std::sync::Arc;

use headwater_model::Principal;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::limits::account;

/// The running statements of all clients.
#[derive(Clone, Default)]
pub struct RunningStatements(Arc<Mutex<StatementRuns>>);

#[derive(Default)]
struct StatementRuns {
    /// For each statement, the tokens that cancel its runs, by the number of the run.
    tokens: HashMap<StatementKey, HashMap<u64, CancellationToken>>,
    /// The number of runs that were registered so far.
    registered: u64,
}

/// The id of a statement, and the account of its client.
#[derive(Clone, PartialEq, Eq, Hash)]
struct StatementKey {
    account: String,
    id: String,
}

impl StatementKey {
    fn new(principal: &Principal, id: &str) -> Self {
        StatementKey { account: account(principal.identity()), id: id.to_owned() }
    }
}

/// Registration of a running statement, which ends when this value is dropped.
pub struct StatementRegistration {
    running: RunningStatements,
    key: StatementKey,
    number: u64,
}

impl Drop for StatementRegistration {
    fn drop(&mut self) {
        let mut runs = self.running.0.lock();
        let is_last = runs.tokens.get_mut(&self.key).is_some_and(|tokens| {
            tokens.remove(&self.number);
            tokens.is_empty()
        });
        if is_last {
            runs.tokens.remove(&self.key);
        }
    }
}

impl RunningStatements {
    /// Registers a run of a statement. Returns the token that a cancel request cancels.
    pub fn register(
        &self,
        principal: &Principal,
        id: &str,
    ) -> (CancellationToken, StatementRegistration) {
        let (token, key) = (CancellationToken::new(), StatementKey::new(principal, id));
        let mut runs = self.0.lock();
        runs.registered += 1;
        let number = runs.registered;
        runs.tokens.entry(key.clone()).or_default().insert(number, token.clone());
        drop(runs);
        (token, StatementRegistration { running: self.clone(), key, number })
    }

    /// Cancels all runs of a statement. Returns false if the statement of this client does not run.
    pub fn cancel(&self, principal: &Principal, id: &str) -> bool {
        let tokens = self.0.lock().tokens.remove(&StatementKey::new(principal, id));
        let Some(tokens) = tokens else { return false };
        tokens.values().for_each(CancellationToken::cancel);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_that_runs_twice_can_be_cancelled_until_both_runs_end() {
        let (running, owner) = (RunningStatements::default(), Principal::owner());
        let (first, first_run) = running.register(&owner, "handle");
        let (second, second_run) = running.register(&owner, "handle");
        drop(first_run);
        assert!(running.cancel(&owner, "handle"));
        assert_eq!((first.is_cancelled(), second.is_cancelled()), (false, true));
        drop(second_run);
        assert!(!running.cancel(&owner, "handle"));
    }

    #[test]
    fn a_cancel_request_stops_all_runs_of_its_statement() {
        let (running, owner) = (RunningStatements::default(), Principal::owner());
        let (first, _first_run) = running.register(&owner, "handle");
        let (second, _second_run) = running.register(&owner, "handle");
        let (other, _other_run) = running.register(&owner, "other");
        assert!(running.cancel(&owner, "handle"));
        let cancelled = [first, second, other].map(|token| token.is_cancelled());
        assert_eq!(cancelled, [true, true, false]);
    }
}
