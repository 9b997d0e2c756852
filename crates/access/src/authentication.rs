//! Authentication: converts a credential to a principal.
//!
//! Every failure has the same error, and the check of an unknown user takes as long as the check of
//! a wrong password. Tokens are looked up by their hash, so that the duration of the lookup reveals
//! nothing about a token.

use std::net::IpAddr;

use headwater_model::{AuthMethod, AuthenticatedUser, Identity, Principal, Timestamp};
use headwater_store::{JournalAppend, WriteBatch};
use sha2::{Digest, Sha256};

use crate::credential_secret::{CredentialSecret, PREFIX};
use crate::record::USED_JOURNAL;
use crate::{Access, Error, Result};

/// Minimum interval between two recorded uses of a token, in seconds.
const USED_INTERVAL_SECONDS: i64 = 60;

/// A credential sent by a client.
#[derive(Clone, Copy)]
pub enum Credential<'a> {
    /// An access token.
    Token(&'a str),
    /// A user's name with its password, or with one of its access tokens.
    Password {
        /// The user's name.
        user: &'a str,
        /// The password or access token.
        password: &'a str,
    },
}

impl std::fmt::Debug for Credential<'_> {
    /// Omits the secret, which must not be logged.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credential")
    }
}

/// A digest of the credential with which a principal logged in. A session stores this digest at
/// login, and ends when the digest changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CredentialDigest(Option<[u8; 32]>);

impl CredentialDigest {
    /// Returns the current digest of the credential of a valid principal. If the principal logged
    /// in with a password, the digest changes when the password changes.
    pub fn of(access: &Access, principal: &Principal) -> Self {
        let Identity::User(user) = principal.identity() else { return CredentialDigest(None) };
        let directory = access.directory();
        let account = directory.users.get(&user.name);
        let account = account.filter(|_| user.method == AuthMethod::Password);
        let password = account.map(|account| account.password.as_deref().unwrap_or_default());
        CredentialDigest(password.map(|hash| Sha256::digest(hash).into()))
    }
}

impl Access {
    /// Authenticates a client. `address`, if known, is recorded in the audit log. The audit log
    /// records failures and logins with a password.
    ///
    /// Errors: [`Error::InvalidCredential`] for every invalid credential; [`Error::Busy`] if too
    /// many password checks are running.
    pub async fn authenticate(
        &self,
        credential: Credential<'_>,
        address: Option<IpAddr>,
    ) -> Result<Principal> {
        let (user, method, found) = match credential {
            Credential::Token(text) => (None, AuthMethod::Token, self.by_token(text, None)),
            Credential::Password { user, password } if password.starts_with(PREFIX) => {
                (Some(user), AuthMethod::Token, self.by_token(password, Some(user)))
            }
            Credential::Password { user, password } => {
                (Some(user), AuthMethod::Password, self.by_password(user, password).await?)
            }
        };
        let Some(authenticated) = found else {
            let known = user.filter(|name| self.directory().users.contains_key(*name));
            self.0.audit.failed_login(known, method, address);
            return Err(Error::InvalidCredential);
        };
        let principal = Principal::user(authenticated).with_address(address);
        if method == AuthMethod::Password {
            let allowed = headwater_model::AuditOutcome::Allowed;
            self.0.audit.record(self.0.audit.event(&principal, "login", "lake", allowed));
        }
        if let Identity::User(user) = principal.identity()
            && let Some(token) = &user.token
        {
            self.record_use(token).await;
        }
        Ok(principal)
    }

    /// Returns the user of a valid token. If `user` is given, it must be the user to whom the token
    /// belongs.
    fn by_token(&self, text: &str, user: Option<&str>) -> Option<AuthenticatedUser> {
        let hash = CredentialSecret::parse(text)?.hash();
        let directory = self.directory();
        let token = &directory.token(&hash)?.token;
        let account = directory.users.get(&token.user)?;
        let is_valid = !account.disabled
            && user.is_none_or(|user| user == token.user)
            && directory.is_token_valid(&token.id, self.0.clock.now());
        is_valid.then(|| AuthenticatedUser {
            name: token.user.clone(),
            created: account.created,
            method: AuthMethod::Token,
            token: Some(token.id.clone()),
            scopes: token.scopes.clone(),
            expires: None,
        })
    }

    async fn by_password(&self, user: &str, password: &str) -> Result<Option<AuthenticatedUser>> {
        let directory = self.directory();
        let account = directory.users.get(user).filter(|account| !account.disabled);
        let hash = account.and_then(|account| account.password.clone());
        let is_valid = self.0.passwords.verify(password, hash).await?;
        Ok(account.filter(|_| is_valid).map(|account| AuthenticatedUser {
            name: account.name.clone(),
            created: account.created,
            method: AuthMethod::Password,
            token: None,
            scopes: None,
            expires: None,
        }))
    }

    /// Records the use of a token or access key, at most once a minute.
    pub(crate) async fn record_use(&self, token: &str) {
        let now = self.0.clock.now();
        if !self.must_record_use(token, now) {
            return;
        }
        let Ok(value) = serde_json::to_vec(&now) else { return };
        let entries = vec![JournalAppend::put(USED_JOURNAL, token, value.into())];
        let batch = WriteBatch { entries, relaxed: true, ..WriteBatch::default() };
        if let Err(error) = self.0.store.apply(batch).await {
            tracing::warn!("the use of a credential cannot be recorded: {error}");
        }
    }

    fn must_record_use(&self, token: &str, now: Timestamp) -> bool {
        let mut used = self.0.used.lock();
        let is_due = |last: &Timestamp| (now - *last).num_seconds() >= USED_INTERVAL_SECONDS;
        if !used.get(token).is_none_or(is_due) {
            return false;
        }
        used.insert(token.to_owned(), now);
        true
    }
}
