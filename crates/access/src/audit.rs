//! The audit log: the journal `audit`, whose keys are version 7 UUIDs and sort by time.
//!
//! If rights change, the event is stored in the same batch as the change. Events for access
//! decisions and logins are first recorded in memory, and stored in groups.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use headwater_model::{
    AuditEvent, AuditOutcome, AuthMethod, Clock, Identity, Principal, Timestamp,
};
use headwater_store::{JournalAppend, KeyRange, Store, WriteBatch};
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use parking_lot::Mutex;
use uuid::Uuid;

use crate::login_limiter::network;
use crate::{Error, Result};

/// Name of the journal that holds the audit events.
const JOURNAL: &str = "audit";

/// Maximum number of events in memory. Beyond this number, the oldest event is dropped with a
/// warning.
const PENDING_MAX: usize = 100_000;

/// Maximum length of a text in an event, in bytes.
const TEXT_BYTES_MAX: usize = 1_000;

/// Maximum number of failed logins from one address that are recorded within a minute. Without this
/// limit, clients without credentials could fill the log.
const FAILED_LOGINS_MAX: u32 = 20;

/// The period for which [`FAILED_LOGINS_MAX`] limits the events of an address.
const FAILED_LOGINS_PERIOD: Duration = Duration::from_secs(60);

/// Maximum number of addresses whose failed logins are counted.
const ADDRESSES_MAX: u64 = 20_000;

/// Number of events per read from the store.
const PAGE: usize = 5_000;

/// The filter of an export; selects all events by default.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// Select only events at this time or later.
    pub since: Option<Timestamp>,
    /// Select only events before this time.
    pub until: Option<Timestamp>,
    /// Select only events of this principal.
    pub principal: Option<String>,
    /// Select only events with this action.
    pub action: Option<String>,
    /// Select only events with this outcome.
    pub outcome: Option<AuditOutcome>,
}

impl AuditFilter {
    fn selects(&self, event: &AuditEvent) -> bool {
        self.since.is_none_or(|since| event.time >= since)
            && self.until.is_none_or(|until| event.time < until)
            && self.principal.as_ref().is_none_or(|principal| event.principal == *principal)
            && self.action.as_ref().is_none_or(|action| event.action == *action)
            && self.outcome.is_none_or(|outcome| event.outcome == outcome)
    }
}

/// A page of events, oldest first.
#[derive(Debug)]
pub struct AuditPage {
    /// The events of this page, oldest first.
    pub events: Vec<AuditEvent>,
    /// The position of the next page; `None` if this is the last page.
    pub next: Option<String>,
}

/// The audit log.
pub struct AuditLog {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    pending: Mutex<Vec<JournalAppend>>,
    /// Lock that is held while events are stored.
    storing: tokio::sync::Mutex<()>,
    /// The number of recorded failed logins by address; removed a minute after the last one.
    failed_logins: Cache<IpAddr, u32>,
    /// The time at which old events were last deleted.
    expired: Mutex<Option<Timestamp>>,
}

/// Events that are being stored. When this value is dropped before the store has confirmed the
/// write, the events return to the queue. If an event is then stored twice, the log lists it once,
/// because both entries have the same key.
struct UnstoredEvents<'a> {
    pending: &'a Mutex<Vec<JournalAppend>>,
    entries: Vec<JournalAppend>,
}

impl Drop for UnstoredEvents<'_> {
    fn drop(&mut self) {
        let mut pending = self.pending.lock();
        let later = std::mem::replace(&mut *pending, std::mem::take(&mut self.entries));
        pending.extend(later);
    }
}

impl std::fmt::Debug for AuditLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuditLog").finish_non_exhaustive()
    }
}

impl AuditLog {
    pub(crate) fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Self {
        let failed_logins = Cache::builder()
            .max_capacity(ADDRESSES_MAX)
            .eviction_policy(EvictionPolicy::lru())
            .time_to_live(FAILED_LOGINS_PERIOD)
            .build();
        let (pending, expired) = (Mutex::default(), Mutex::default());
        let storing = tokio::sync::Mutex::default();
        AuditLog { store, clock, pending, storing, failed_logins, expired }
    }

    /// Creates an event of a principal, at the current time.
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

    /// Records an event in memory. [`AuditLog::flush`] stores the event.
    pub fn record(&self, event: AuditEvent) {
        let entry = match entry(&event) {
            Ok(entry) => entry,
            Err(error) => return tracing::error!("an audit event could not be stored: {error}"),
        };
        let mut pending = self.pending.lock();
        if pending.len() >= PENDING_MAX {
            tracing::warn!("the audit queue is full: the oldest event is discarded");
            pending.remove(0);
        }
        pending.push(entry);
    }

    /// Records a failed login, unless too many failed logins from its address are recorded already.
    /// `user` must be the name of an existing user: a client may send a password as the name by
    /// mistake, which must not be in the log.
    pub(crate) fn failed_login(
        &self,
        user: Option<&str>,
        method: AuthMethod,
        address: Option<IpAddr>,
    ) {
        let recorded = address.map_or(0, |address| self.count_failed_login(network(address)));
        if recorded > FAILED_LOGINS_MAX {
            return;
        }
        let anonymous = Principal::anonymous().with_address(address);
        let mut event = self.event(&anonymous, "login", "lake", AuditOutcome::Denied);
        event.method = method;
        if let Some(user) = user {
            user.clone_into(&mut event.principal);
        }
        let reason = match recorded {
            FAILED_LOGINS_MAX => {
                "invalid credential; further failures of this address within a minute are not \
                 recorded"
            }
            _ => "invalid credential",
        };
        reason.clone_into(&mut event.reason);
        self.record(event);
    }

    /// Counts a failed login of an address. A count above the maximum is not stored, so that it
    /// expires a minute after the last recorded failure. Failures are then recorded again.
    fn count_failed_login(&self, address: IpAddr) -> u32 {
        let count = self.failed_logins.get(&address).unwrap_or(0) + 1;
        if count <= FAILED_LOGINS_MAX {
            self.failed_logins.insert(address, count);
        }
        count
    }

    /// Returns the journal entry that records a change of rights.
    pub(crate) fn change(
        &self,
        by: &Principal,
        action: &str,
        object: String,
        detail: String,
    ) -> Result<JournalAppend> {
        let event = self.event(by, action, object, AuditOutcome::Allowed);
        entry(&AuditEvent { reason: cut(detail), ..event })
    }

    /// Stores the recorded events. After an error, or if the future is dropped, the events are kept
    /// for the next attempt.
    pub async fn flush(&self) -> Result<()> {
        // Wait for a concurrent call, which may not have stored its events yet.
        let _storing = self.storing.lock().await;
        let entries = std::mem::take(&mut *self.pending.lock());
        if entries.is_empty() {
            return Ok(());
        }
        let mut unstored = UnstoredEvents { pending: &self.pending, entries };
        let entries = unstored.entries.clone();
        self.store.apply(WriteBatch { entries, relaxed: true, ..WriteBatch::default() }).await?;
        unstored.entries.clear();
        Ok(())
    }

    /// Returns at most `limit` events, newest first.
    pub async fn list(&self, limit: usize) -> Result<Vec<AuditEvent>> {
        self.flush().await?;
        let range = KeyRange::all().reverse().limit(limit);
        let entries = self.store.scan(JOURNAL, &range).await?;
        entries.into_iter().map(parse).collect()
    }

    /// Returns the events that a filter selects, starting at a position; an empty position is the
    /// start. If the filter selects none of the events that were read, a page is empty although
    /// more pages follow.
    pub async fn page(&self, filter: &AuditFilter, position: &str) -> Result<AuditPage> {
        if position.is_empty() {
            self.flush().await?;
        }
        // Read until a minute after the filter's end: the keys are only in about the order of the
        // events' times.
        let since = filter.since.map(key_at).unwrap_or_default();
        let range = KeyRange::all().from(since.max(position.to_owned())).limit(PAGE);
        let entries = self.store.scan(JOURNAL, &range).await?;
        let last = entries.last().filter(|_| entries.len() == PAGE);
        let next = last.map(|entry| format!("{}\0", entry.key));
        let is_past = |event: &AuditEvent| {
            let until = filter.until.map(|until| until + chrono::TimeDelta::minutes(1));
            until.is_some_and(|until| event.time > until)
        };
        let events: Vec<AuditEvent> = entries.into_iter().map(parse).collect::<Result<_>>()?;
        let next = next.filter(|_| !events.last().is_some_and(is_past));
        Ok(AuditPage { events: events.into_iter().filter(|it| filter.selects(it)).collect(), next })
    }

    /// Deletes events older than `keep`, at most once an hour.
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

/// Returns a key that sorts after the keys of all events before this time, and before all others.
fn key_at(time: Timestamp) -> String {
    let milliseconds = u128::try_from(time.timestamp_millis()).unwrap_or(0);
    Uuid::from_u128(milliseconds << 80).to_string()
}

fn parse(entry: headwater_store::JournalEntry) -> Result<AuditEvent> {
    serde_json::from_slice(&entry.value).map_err(|_| Error::Corrupt { key: entry.key })
}

fn entry(event: &AuditEvent) -> Result<JournalAppend> {
    let key = Uuid::now_v7().to_string();
    let value = serde_json::to_vec(event).map_err(|_| Error::Corrupt { key: key.clone() })?;
    Ok(JournalAppend::put(JOURNAL, key, value.into()))
}

fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
    text
}
