//! Objects that clients create and use by random ids, such as transactions. Each principal has its
//! own objects, at most a given number, and an object that is not used expires.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use headwater_model::Principal;
use parking_lot::Mutex;
use tonic::Status;

use crate::caller::{Caller, ClientSession};
use crate::limits::{account, exceeded};

/// All objects of one kind, such as the open transactions. Clients refer to an object by its id,
/// the handle.
pub struct ClientHandles<T> {
    /// The name of the kind in the plural, for messages.
    kind: &'static str,
    /// The hint for a client with too many objects.
    hint: &'static str,
    /// Maximum number of objects of one principal.
    count_max: usize,
    /// Time without use after which an object expires.
    idle: Duration,
    /// The objects by principal and id.
    entries: Mutex<HashMap<String, PrincipalEntries<T>>>,
}

/// The objects of one principal by id.
type PrincipalEntries<T> = HashMap<String, Arc<HandleEntry<T>>>;

/// An object with the client that created it.
struct HandleEntry<T> {
    owner: Principal,
    session: Option<ClientSession>,
    value: T,
    usage: Mutex<HandleUsage>,
}

struct HandleUsage {
    /// Number of requests that use the object now.
    users: usize,
    /// The time at which the last use ended.
    last: Instant,
}

/// An object in use. The object does not expire while this handle exists.
pub struct EntryGuard<T>(Arc<HandleEntry<T>>);

impl<T> EntryGuard<T> {
    fn new(entry: &Arc<HandleEntry<T>>) -> Self {
        entry.usage.lock().users += 1;
        EntryGuard(entry.clone())
    }
}

impl<T> Deref for EntryGuard<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.value
    }
}

impl<T> Drop for EntryGuard<T> {
    fn drop(&mut self) {
        let mut usage = self.0.usage.lock();
        usage.users -= 1;
        usage.last = Instant::now();
    }
}

impl<T> ClientHandles<T> {
    /// Creates an empty set of objects of a kind.
    pub fn new(kind: &'static str, hint: &'static str, count_max: usize, idle: Duration) -> Self {
        ClientHandles { kind, hint, count_max, idle, entries: Mutex::default() }
    }

    /// Adds an object that belongs to the client. Returns the new object's id. If the principal has
    /// too many objects, returns the object with an error.
    pub fn add(&self, caller: &Caller, value: T) -> Result<String, (T, Status)> {
        let identity = caller.principal.identity();
        let mut entries = self.entries.lock();
        let own = entries.entry(account(identity)).or_default();
        if own.len() >= self.count_max {
            let what = format!("{} {}", own.len(), self.kind);
            return Err((value, exceeded(identity, &what, self.hint)));
        }
        let id = uuid::Uuid::new_v4().simple().to_string();
        let entry = HandleEntry {
            owner: caller.principal.clone(),
            session: caller.session.clone(),
            value,
            usage: Mutex::new(HandleUsage { users: 0, last: Instant::now() }),
        };
        own.insert(id.clone(), Arc::new(entry));
        Ok(id)
    }

    /// Returns an object by its id, if the client has the credential that created it.
    pub fn get(&self, principal: &Principal, id: &str) -> Option<EntryGuard<T>> {
        let entries = self.entries.lock();
        let entry = entries.get(&account(principal.identity()))?.get(id)?;
        (entry.owner.identity() == principal.identity()).then(|| EntryGuard::new(entry))
    }

    /// Removes and returns an object, if the client has the credential that created it.
    pub fn remove(&self, principal: &Principal, id: &str) -> Option<EntryGuard<T>> {
        let key = account(principal.identity());
        let mut entries = self.entries.lock();
        let own = entries.get_mut(&key)?;
        own.get(id).filter(|entry| entry.owner.identity() == principal.identity())?;
        let entry = own.remove(id)?;
        if own.is_empty() {
            entries.remove(&key);
        }
        Some(EntryGuard::new(&entry))
    }

    /// Removes and returns the objects of a session.
    pub fn remove_session(&self, session: &str) -> Vec<EntryGuard<T>> {
        self.remove_if(|entry| entry.session.as_ref().is_some_and(|own| own.id() == session))
    }

    /// Removes and returns the objects that have expired, whose principal is no longer valid, or
    /// whose session has ended.
    pub fn remove_expired(
        &self,
        now: Instant,
        is_valid: impl Fn(&Principal) -> bool,
    ) -> Vec<EntryGuard<T>> {
        self.remove_if(|entry| {
            let usage = entry.usage.lock();
            let is_idle = usage.users == 0 && now.duration_since(usage.last) >= self.idle;
            let has_ended = |session: &ClientSession| !session.is_open();
            is_idle || !is_valid(&entry.owner) || entry.session.as_ref().is_some_and(has_ended)
        })
    }

    fn remove_if(&self, is_removed: impl Fn(&HandleEntry<T>) -> bool) -> Vec<EntryGuard<T>> {
        let mut removed = Vec::new();
        self.entries.lock().retain(|_, own| {
            own.retain(|_, entry| {
                let keep = !is_removed(entry);
                if !keep {
                    removed.push(EntryGuard::new(entry));
                }
                keep
            });
            !own.is_empty()
        });
        removed
    }
}

#[cfg(test)]
mod tests {
    use headwater_model::{AuthMethod, AuthenticatedUser, RefSpec};

    use super::*;

    const IDLE: Duration = Duration::from_secs(60);

    fn caller(user: &str, token: &str) -> Caller {
        let user = AuthenticatedUser {
            name: user.to_owned(),
            created: "2026-01-01T00:00:00Z".parse().expect("a time"),
            method: AuthMethod::Token,
            token: Some(token.to_owned()),
            scopes: None,
            expires: None,
        };
        let session = ClientSession::new(token.to_owned(), Arc::new(|| true), Arc::new(|| {}));
        Caller {
            principal: Principal::user(user),
            reference: RefSpec::main(),
            namespace: None,
            session: Some(session),
        }
    }

    fn registry() -> ClientHandles<u8> {
        ClientHandles::new("open transactions", "End one of them.", 2, IDLE)
    }

    fn add(registry: &ClientHandles<u8>, caller: &Caller) -> Result<String, Status> {
        registry.add(caller, 7).map_err(|(_, status)| status)
    }

    #[test]
    fn each_principal_has_its_own_limit() {
        let (registry, ana, eve) = (registry(), caller("ana", "1"), caller("eve", "2"));
        let first = add(&registry, &ana).expect("an id");
        add(&registry, &caller("ana", "3")).expect("an id");
        let error = add(&registry, &ana).expect_err("too many");
        assert_eq!(error.code(), tonic::Code::ResourceExhausted);
        let expected = "limit reached: user `ana` has 2 open transactions\nhint: End one of them.";
        assert_eq!(error.message(), expected);
        let other = add(&registry, &eve).expect("an id");
        assert!(registry.get(&ana.principal, &first).is_some());
        assert!(registry.get(&ana.principal, &other).is_none(), "an object of another user");
        assert!(registry.get(&caller("ana", "3").principal, &first).is_none(), "another token");
        assert!(registry.remove(&eve.principal, &first).is_none());
        assert!(registry.remove(&ana.principal, &first).is_some());
        assert!(registry.get(&ana.principal, &first).is_none());
        add(&registry, &ana).expect("an id");
    }

    #[test]
    fn an_unused_object_expires_but_not_one_in_use() {
        let (registry, ana) = (registry(), caller("ana", "1"));
        let id = add(&registry, &ana).expect("an id");
        let in_use = registry.get(&ana.principal, &id).expect("an object");
        let later = Instant::now() + 2 * IDLE;
        assert!(registry.remove_expired(later, |_| true).is_empty());
        drop(in_use);
        assert!(registry.remove_expired(Instant::now(), |_| true).is_empty());
        assert_eq!(registry.remove_expired(later, |_| true).len(), 1);
        assert!(registry.get(&ana.principal, &id).is_none());
    }

    #[test]
    fn objects_end_with_their_session_and_with_their_principal() {
        let (registry, ana, eve) = (registry(), caller("ana", "1"), caller("eve", "2"));
        for caller in [&ana, &eve] {
            add(&registry, caller).expect("an id");
        }
        assert_eq!(registry.remove_session("1").len(), 1);
        assert!(registry.remove_session("1").is_empty());
        let is_valid = |principal: &Principal| principal.user_name() != Some("eve");
        assert_eq!(registry.remove_expired(Instant::now(), is_valid).len(), 1);
        let ended = ClientSession::new("3".to_owned(), Arc::new(|| false), Arc::new(|| {}));
        add(&registry, &ana).expect("an id");
        add(&registry, &Caller { session: Some(ended), ..ana.clone() }).expect("an id");
        assert_eq!(registry.remove_expired(Instant::now(), |_| true).len(), 1);
    }
}
