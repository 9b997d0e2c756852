//! The sessions of browsers and of Flight clients, and the login codes of browsers.
//!
//! A session ends when the account, token or password that its client used to log in becomes
//! invalid. Sessions and codes are kept only in memory, so they become invalid when the server
//! stops, like the server's token. The maps contain hashes of the secrets, so that the time of a
//! lookup reveals nothing about a secret.

use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant};

use headwater_model::{Identity, Principal, Timestamp};
use headwater_service::CredentialDigest;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use crate::local_tcp_token::generate_secret;

/// Maximum number of sessions of a principal. Above this limit, a new session ends the principal's
/// session that was idle for the longest time.
const SESSIONS_MAX: usize = 500;

/// Maximum number of codes of a principal. Above this limit, a new code replaces the principal's
/// oldest code.
const CODES_MAX: usize = 100;

/// Idle time after which a session ends.
const IDLE: Duration = Duration::from_secs(12 * 3600);

/// Time after which a session ends even if it is used.
const LIFETIME: Duration = Duration::from_secs(7 * 24 * 3600);

/// Validity of a code.
const CODE_LIFETIME: Duration = Duration::from_secs(60);

type Hash = [u8; 32];

/// The sessions and codes of a server.
#[derive(Debug, Default)]
pub struct Sessions {
    state: Mutex<SessionsState>,
}

#[derive(Debug, Default)]
struct SessionsState {
    sessions: HashMap<Hash, Session>,
    codes: HashMap<Hash, LoginCode>,
}

#[derive(Debug)]
struct Session {
    principal: Principal,
    /// The digest of the principal's credential at the login.
    credential: CredentialDigest,
    key: Hash,
    created: Instant,
    used: Instant,
}

#[derive(Debug)]
struct LoginCode {
    principal: Principal,
    created: Instant,
}

/// The secrets of a new session.
pub struct NewSession {
    /// The value of the session's cookie.
    pub secret: String,
    /// The value of the session's header.
    pub key: String,
    /// The maximum duration of the session.
    pub lifetime: Duration,
}

/// The session secrets in a request.
#[derive(Clone, Copy)]
pub struct PresentedSession<'a> {
    /// The value of the session's cookie.
    pub secret: &'a str,
    /// The value of the session's header.
    pub key: &'a str,
}

impl Sessions {
    /// Creates a session for a principal. `credential` is the state of its credential at the login.
    pub fn create(
        &self,
        principal: Principal,
        credential: CredentialDigest,
    ) -> io::Result<NewSession> {
        let (secret, key) = (generate_secret()?, generate_secret()?);
        let now = Instant::now();
        let of = account(&principal);
        let session = Session { principal, credential, key: hash(&key), created: now, used: now };
        let mut state = self.state.lock();
        state.sessions.retain(|_, session| session.is_valid(now));
        let own = state.sessions.iter().filter(|(_, session)| account(&session.principal) == of);
        if own.clone().count() >= SESSIONS_MAX {
            let oldest = own.min_by_key(|(_, session)| session.used);
            if let Some(oldest) = oldest.map(|(hash, _)| *hash) {
                state.sessions.remove(&oldest);
            }
        }
        state.sessions.insert(hash(&secret), session);
        Ok(NewSession { secret, key, lifetime: LIFETIME })
    }

    /// Returns the principal of a session and the state of its credential at the login. Resets the
    /// session's idle time.
    pub fn find(&self, shown: PresentedSession) -> Option<(Principal, CredentialDigest)> {
        let now = Instant::now();
        let mut state = self.state.lock();
        let session = state.sessions.get_mut(&hash(shown.secret))?;
        if session.key != hash(shown.key) || !session.is_valid(now) {
            return None;
        }
        session.used = now;
        Some((session.principal.clone(), session.credential.clone()))
    }

    /// Returns the same as [`Sessions::find`], without resetting the session's idle time.
    pub fn peek(&self, shown: PresentedSession) -> Option<(Principal, CredentialDigest)> {
        let state = self.state.lock();
        let session = state.sessions.get(&hash(shown.secret))?;
        let is_valid = session.key == hash(shown.key) && session.is_valid(Instant::now());
        is_valid.then(|| (session.principal.clone(), session.credential.clone()))
    }

    /// Ends a session, if it exists.
    pub fn remove(&self, shown: PresentedSession) {
        if self.find(shown).is_some() {
            self.state.lock().sessions.remove(&hash(shown.secret));
        }
    }

    /// Creates a single-use login code. Returns the code and its lifetime.
    pub fn create_code(&self, principal: Principal) -> io::Result<(String, Duration)> {
        let code = generate_secret()?;
        let now = Instant::now();
        let of = account(&principal);
        let mut state = self.state.lock();
        state.codes.retain(|_, code| code.is_valid(now));
        let own = state.codes.iter().filter(|(_, code)| account(&code.principal) == of);
        if own.clone().count() >= CODES_MAX {
            let oldest = own.min_by_key(|(_, code)| code.created);
            if let Some(oldest) = oldest.map(|(hash, _)| *hash) {
                state.codes.remove(&oldest);
            }
        }
        state.codes.insert(hash(&code), LoginCode { principal, created: now });
        Ok((code, CODE_LIFETIME))
    }

    /// Returns the principal of a code, and invalidates the code. Returns `None` if the code is
    /// invalid.
    pub fn redeem(&self, code: &str) -> Option<Principal> {
        let code = self.state.lock().codes.remove(&hash(code))?;
        code.is_valid(Instant::now()).then_some(code.principal)
    }
}

impl PresentedSession<'_> {
    /// Returns the session's public id.
    pub fn id(&self) -> String {
        hex::encode(hash(self.secret))
    }
}

impl Session {
    fn is_valid(&self, now: Instant) -> bool {
        now.duration_since(self.used) < IDLE && now.duration_since(self.created) < LIFETIME
    }
}

impl LoginCode {
    fn is_valid(&self, now: Instant) -> bool {
        now.duration_since(self.created) < CODE_LIFETIME
    }
}

/// Returns the account for which sessions and codes are counted; `None` for the owner.
fn account(principal: &Principal) -> Option<(String, Timestamp)> {
    match principal.identity() {
        Identity::User(user) => Some((user.name.clone(), user.created)),
        Identity::Owner | Identity::Anonymous => None,
    }
}

fn hash(secret: &str) -> Hash {
    Sha256::digest(secret.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use headwater_model::{AuthMethod, AuthenticatedUser};

    use super::*;

    fn create(sessions: &Sessions, principal: Principal) -> NewSession {
        sessions.create(principal, CredentialDigest::default()).expect("a session")
    }

    fn user(name: &str) -> Principal {
        Principal::user(AuthenticatedUser {
            name: name.to_owned(),
            created: "2026-01-01T00:00:00Z".parse().expect("a time"),
            method: AuthMethod::Password,
            token: None,
            scopes: None,
            expires: None,
        })
    }

    fn shown(session: &NewSession) -> PresentedSession<'_> {
        PresentedSession { secret: &session.secret, key: &session.key }
    }

    #[test]
    fn a_session_needs_its_cookie_and_its_key() {
        let sessions = Sessions::default();
        let one = create(&sessions, Principal::owner());
        let two = create(&sessions, Principal::owner());
        assert!(sessions.find(shown(&one)).is_some());
        assert!(sessions.find(PresentedSession { secret: &one.secret, key: &two.key }).is_none());
        assert!(sessions.peek(shown(&one)).is_some());
        assert!(sessions.peek(PresentedSession { secret: &one.secret, key: &two.key }).is_none());
        sessions.remove(shown(&one));
        assert!(sessions.find(shown(&one)).is_none());
        assert!(sessions.peek(shown(&one)).is_none());
        assert!(sessions.find(shown(&two)).is_some());
    }

    #[test]
    fn the_sessions_of_a_principal_are_bounded_and_end_no_others() {
        let sessions = Sessions::default();
        let (first, other) = (create(&sessions, user("ana")), create(&sessions, user("eve")));
        for _ in 0..SESSIONS_MAX {
            create(&sessions, user("ana"));
        }
        assert!(sessions.find(shown(&first)).is_none());
        assert!(sessions.find(shown(&other)).is_some());
        assert_eq!(sessions.state.lock().sessions.len(), SESSIONS_MAX + 1);
    }

    #[test]
    fn an_unused_session_ends() {
        let now = Instant::now();
        let hour_before = |end: Duration| now + Duration::from_secs(end.as_secs() - 3600);
        let session = Session {
            principal: Principal::owner(),
            credential: CredentialDigest::default(),
            key: [0; 32],
            created: now,
            used: now,
        };
        assert!(session.is_valid(hour_before(IDLE)));
        assert!(!session.is_valid(now + IDLE));
        let used = Session { used: hour_before(LIFETIME), ..session };
        assert!(used.is_valid(hour_before(LIFETIME)));
        assert!(!used.is_valid(now + LIFETIME));
    }

    #[test]
    fn a_code_is_valid_once() {
        let sessions = Sessions::default();
        let (code, _) = sessions.create_code(Principal::owner()).expect("a code");
        assert!(sessions.redeem("guess").is_none());
        assert!(sessions.redeem(&code).is_some());
        assert!(sessions.redeem(&code).is_none());
        for _ in 0..2 * CODES_MAX {
            sessions.create_code(Principal::owner()).expect("a code");
        }
        assert_eq!(sessions.state.lock().codes.len(), CODES_MAX);
    }
}
