//! The sessions of browsers, and their login codes.
//!
//! Sessions and codes are kept only in memory, so they end when the server stops, like its token.
//! The maps contain hashes of the secrets, so the time of a lookup does not depend on the secret.

use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant};

use headwater_model::Principal;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use crate::token::generate_secret;

/// Maximum number of sessions. If it is exceeded, a new session ends the one with the longest idle
/// time.
const SESSIONS_MAX: usize = 1_000;

/// Maximum number of codes. If it is exceeded, a new code replaces the oldest.
const CODES_MAX: usize = 100;

/// Idle time after which a session ends.
const IDLE: Duration = Duration::from_secs(12 * 3600);

/// Maximum duration of a session in use.
const LIFETIME: Duration = Duration::from_secs(7 * 24 * 3600);

/// Validity of a code.
const CODE_LIFETIME: Duration = Duration::from_secs(60);

type Hash = [u8; 32];

/// The sessions and codes of a server.
#[derive(Debug, Default)]
pub struct Sessions {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    sessions: HashMap<Hash, Session>,
    codes: HashMap<Hash, LoginCode>,
}

#[derive(Debug)]
struct Session {
    principal: Principal,
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
    /// The value of its cookie.
    pub secret: String,
    /// The value of its header.
    pub key: String,
    /// Its maximum duration.
    pub lifetime: Duration,
}

/// The session secrets in a request.
#[derive(Clone, Copy)]
pub struct PresentedSession<'a> {
    /// The value of its cookie.
    pub secret: &'a str,
    /// The value of its header.
    pub key: &'a str,
}

impl Sessions {
    /// Creates a session.
    pub fn create(&self, principal: Principal) -> io::Result<NewSession> {
        let (secret, key) = (generate_secret()?, generate_secret()?);
        let now = Instant::now();
        let session = Session { principal, key: hash(&key), created: now, used: now };
        let mut state = self.state.lock();
        state.sessions.retain(|_, session| session.is_valid(now));
        if state.sessions.len() >= SESSIONS_MAX {
            let oldest = state.sessions.iter().min_by_key(|(_, session)| session.used);
            if let Some(oldest) = oldest.map(|(hash, _)| *hash) {
                state.sessions.remove(&oldest);
            }
        }
        state.sessions.insert(hash(&secret), session);
        Ok(NewSession { secret, key, lifetime: LIFETIME })
    }

    /// Returns the principal of a session, and restarts its idle time.
    pub fn principal(&self, shown: PresentedSession) -> Option<Principal> {
        let now = Instant::now();
        let mut state = self.state.lock();
        let session = state.sessions.get_mut(&hash(shown.secret))?;
        if session.key != hash(shown.key) || !session.is_valid(now) {
            return None;
        }
        session.used = now;
        Some(session.principal.clone())
    }

    /// Ends a session, if it exists.
    pub fn remove(&self, shown: PresentedSession) {
        if self.principal(shown).is_some() {
            self.state.lock().sessions.remove(&hash(shown.secret));
        }
    }

    /// Creates a single-use login code. Returns it and its lifetime.
    pub fn create_code(&self, principal: Principal) -> io::Result<(String, Duration)> {
        let code = generate_secret()?;
        let now = Instant::now();
        let mut state = self.state.lock();
        state.codes.retain(|_, code| code.is_valid(now));
        if state.codes.len() >= CODES_MAX {
            let oldest = state.codes.iter().min_by_key(|(_, code)| code.created);
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

fn hash(secret: &str) -> Hash {
    Sha256::digest(secret.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(session: &NewSession) -> PresentedSession<'_> {
        PresentedSession { secret: &session.secret, key: &session.key }
    }

    #[test]
    fn a_session_needs_its_cookie_and_its_key() {
        let sessions = Sessions::default();
        let one = sessions.create(Principal::owner()).expect("a session");
        let two = sessions.create(Principal::owner()).expect("a session");
        assert!(sessions.principal(shown(&one)).is_some());
        assert!(
            sessions.principal(PresentedSession { secret: &one.secret, key: &two.key }).is_none()
        );
        sessions.remove(shown(&one));
        assert!(sessions.principal(shown(&one)).is_none());
        assert!(sessions.principal(shown(&two)).is_some());
    }

    #[test]
    fn sessions_are_bounded() {
        let sessions = Sessions::default();
        let first = sessions.create(Principal::owner()).expect("a session");
        for _ in 0..SESSIONS_MAX {
            sessions.create(Principal::owner()).expect("a session");
        }
        assert!(sessions.principal(shown(&first)).is_none());
        assert_eq!(sessions.state.lock().sessions.len(), SESSIONS_MAX);
    }

    #[test]
    fn an_unused_session_ends() {
        let now = Instant::now();
        let hour_before = |end: Duration| now + Duration::from_secs(end.as_secs() - 3600);
        let session =
            Session { principal: Principal::owner(), key: [0; 32], created: now, used: now };
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
