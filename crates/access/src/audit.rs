//! The audit log: the journal `audit`, whose keys are version 7 UUIDs and sort by time.
//!
//! Changes of rights store their event in the batch of the change. Decisions and logins are
//! recorded in memory first and written in groups.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use headwater_model::{
    AuditEvent, AuditOutcome, AuthMethod, Clock, Identity, Principal, Timestamp,
};
use headwater_store::{Append, Batch, KeyRange, Store};
use parking_lot::Mutex;
use uuid::Uuid;

use crate::{Error, Result};

/// The journal.
const JOURNAL: &str = "audit";

/// Maximum number of events in memory; then the oldest is dropped, with a warning.
const PENDING_MAX: usize = 100_000;

/// Maximum length of a text in an event, in bytes.
const TEXT_BYTES_MAX: usize = 1_000;

/// The audit log.
pub struct AuditLog {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    pending: Mutex<Vec<Append>>,
    /// The time at which old events were deleted last.
    expired: Mutex<Option<Timestamp>>,
}

impl std::fmt::Debug for AuditLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuditLog").finish_non_exhaustive()
    }
}

impl AuditLog {
    pub(crate) fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Self {
        AuditLog { store, clock, pending: Mutex::default(), expired: Mutex::default() }
    }

    /// Returns an event of a principal, at the current time.
    pub fn event(
        &self,
        principal: &Principal,
        action: &str,
        object: impl Into<String>,
        outcome: AuditOutcome,
    ) -> AuditEvent {
        let (name, token) = match principal.identity() {
            Identity::Owner => ("owner".to_owned(), None),
            Identity::User(user) => (user.name.clone(), user.token.clone()),
            Identity::Anonymous => ("anonymous".to_owned(), None),
        };
        AuditEvent {
            time: self.clock.now(),
            principal: name,
            method: principal.method(),
            token,
            address: principal.address(),
            action: action.to_owned(),
            object: cut(object.into()),
            outcome,
            reason: String::new(),
            job: None,
        }
    }

    /// Records an event. [`AuditLog::flush`] stores it.
    pub fn record(&self, event: AuditEvent) {
        let entry = match entry(&event) {
            Ok(entry) => entry,
            Err(error) => return tracing::error!("an audit event is lost: {error}"),
        };
        let mut pending = self.pending.lock();
        if pending.len() >= PENDING_MAX {
            tracing::warn!("too many audit events: the oldest is lost");
            pending.remove(0);
        }
        pending.push(entry);
    }

    /// Records a failed login. `user` must be the name of a user, since a client that mistakes the
    /// fields may send a password as the name.
    pub(crate) fn failed_login(
        &self,
        user: Option<&str>,
        method: AuthMethod,
        address: Option<IpAddr>,
    ) {
        let anonymous = Principal::anonymous().with_address(address);
        let mut event = self.event(&anonymous, "login", "lake", AuditOutcome::Denied);
        event.method = method;
        if let Some(user) = user {
            user.clone_into(&mut event.principal);
        }
        "invalid credential".clone_into(&mut event.reason);
        self.record(event);
    }

    /// Returns the entry of a change of rights.
    pub(crate) fn change(
        &self,
        by: &Principal,
        action: &str,
        object: String,
        detail: String,
    ) -> Result<Append> {
        let event = self.event(by, action, object, AuditOutcome::Allowed);
        entry(&AuditEvent { reason: cut(detail), ..event })
    }

    /// Stores the recorded events. After an error they are kept.
    pub async fn flush(&self) -> Result<()> {
        let entries = std::mem::take(&mut *self.pending.lock());
        if entries.is_empty() {
            return Ok(());
        }
        let batch = Batch { entries: entries.clone(), relaxed: true, ..Batch::default() };
        if let Err(error) = self.store.apply(batch).await {
            let mut pending = self.pending.lock();
            let later = std::mem::replace(&mut *pending, entries);
            pending.extend(later);
            return Err(error.into());
        }
        Ok(())
    }

    /// Returns events, the newest first, at most `limit`.
    pub async fn list(&self, limit: usize) -> Result<Vec<AuditEvent>> {
        self.flush().await?;
        let range = KeyRange::all().reverse().limit(limit);
        let entries = self.store.scan(JOURNAL, &range).await?;
        let parse = |entry: headwater_store::Entry| {
            serde_json::from_slice(&entry.value).map_err(|_| Error::Corrupt { key: entry.key })
        };
        entries.into_iter().map(parse).collect()
    }

    /// Deletes the events that are older than `keep`, at most once an hour.
    pub async fn expire(&self, keep: Duration) -> Result<()> {
        let now = self.clock.now();
        {
            let mut expired = self.expired.lock();
            if expired.is_some_and(|last| (now - last).num_hours() < 1) {
                return Ok(());
            }
            *expired = Some(now);
        }
        self.store.trim(JOURNAL, &KeyRange::all().until(key_at(now - keep))).await?;
        Ok(())
    }
}

/// Returns a text that sorts before the keys of events at a time, and after those of earlier ones.
fn key_at(time: Timestamp) -> String {
    let milliseconds = u128::try_from(time.timestamp_millis()).unwrap_or(0);
    Uuid::from_u128(milliseconds << 80).to_string()
}

fn entry(event: &AuditEvent) -> Result<Append> {
    let key = Uuid::now_v7().to_string();
    let value = serde_json::to_vec(event).map_err(|_| Error::Corrupt { key: key.clone() })?;
    Ok(Append::put(JOURNAL, key, value.into()))
}

fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
    text
}
