//! Access keys: create, list, revoke. Users manage their own keys, administrators all keys.
//!
//! To verify a signature, a protocol first gets the secret of the access key. After the
//! verification, the protocol gets the principal of the signed request.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use headwater_access::{AccessKeyPair, AccessKeys as Keys, NewAccessKey};
use headwater_model::{
    AccessKey, CreateAccessKey, CreatedAccessKey, ErrorCode, Identity, Principal, Problem,
    ResultExt,
};
use parking_lot::Mutex;

use crate::service::Components;
use crate::token::{check_delegation, subject};

/// Maximum number of decrypted secrets in memory.
const SECRETS_MAX: usize = 1_000;

/// Cache of decrypted secrets of access keys, by their encrypted form. Decryption needs the lake's
/// key, and the command that returns this key may be slow.
#[derive(Default)]
pub(crate) struct KeySecretCache(Mutex<HashMap<String, Arc<str>>>);

/// Operations on access keys.
#[derive(Clone)]
pub struct AccessKeys(pub(crate) Arc<Components>);

impl AccessKeys {
    /// Lists the access keys of a user, or of all users, by creation time.
    pub async fn list(
        &self,
        principal: &Principal,
        user: Option<&str>,
    ) -> Result<Vec<AccessKey>, Problem> {
        let user = subject(&self.0, principal, user)?;
        Keys::of(&self.0.access).list(user).await.or_problem()
    }

    /// Creates an access key for a user, by default for the principal. Returns the secret only
    /// once.
    ///
    /// Errors: `forbidden` if the key would have more rights or a longer lifetime than the
    /// principal's credential; `invalid_argument` if a key of the lake's owner would have scopes.
    pub async fn create(
        &self,
        principal: &Principal,
        request: CreateAccessKey,
    ) -> Result<CreatedAccessKey, Problem> {
        self.0.authenticated(principal)?;
        let user = request.user.clone().or(principal.user_name().map(str::to_owned));
        self.check_create(principal, user.as_deref(), &request)?;
        let pair = AccessKeyPair::generate().or_problem()?;
        let sealed = self.0.secrets.seal(&label(&pair.id), &pair.secret).await.or_problem()?;
        let new = NewAccessKey { id: pair.id, sealed, user, properties: request.into() };
        let key = Keys::of(&self.0.access).create(principal, new).await.or_problem()?;
        Ok(CreatedAccessKey { key, secret: pair.secret })
    }

    /// Revokes an access key.
    pub async fn revoke(&self, principal: &Principal, id: &str) -> Result<(), Problem> {
        self.0.authenticated(principal)?;
        // With the user's name, a key of another user gives the same error as a missing key.
        let user = match self.0.administer(principal) {
            Ok(()) => None,
            Err(problem) => Some(principal.user_name().ok_or(problem)?),
        };
        Keys::of(&self.0.access).revoke(principal, id, user).await.or_problem()
    }

    fn check_create(
        &self,
        principal: &Principal,
        user: Option<&str>,
        request: &CreateAccessKey,
    ) -> Result<(), Problem> {
        let Some(user) = user else {
            if *principal.identity() != Identity::Owner {
                return self.0.administer(principal);
            }
            if request.scopes.is_some() {
                let message = "an access key of the owner cannot have scopes";
                return Err(Problem::new(ErrorCode::InvalidArgument, message)
                    .with_hint("Name a user with only these rights: `--user NAME`."));
            }
            return Ok(());
        };
        if principal.user_name() == Some(user) {
            return check_delegation(&self.0, principal, request.expires);
        }
        self.0.administer(principal)
    }
}

/// Operations for verifying requests signed with access keys.
#[derive(Clone)]
pub struct Signatures(pub(crate) Arc<Components>);

impl Signatures {
    /// Returns the secret of a valid access key, for the verification of a signature.
    ///
    /// Errors: `unauthenticated` if there is no such key; errors of reading the lake's key.
    pub async fn secret(&self, id: &str) -> Result<Arc<str>, Problem> {
        let Some(sealed) = self.keys().sealed_secret(id) else {
            return Err(headwater_access::Error::InvalidCredential).or_problem();
        };
        let known = &self.0.buckets.key_secrets.0;
        if let Some(secret) = known.lock().get(&sealed) {
            return Ok(secret.clone());
        }
        let secret = self.0.secrets.unseal(&label(id), &sealed).await.or_problem()?;
        let secret: Arc<str> = Arc::from(secret.as_str());
        let mut secrets = known.lock();
        if secrets.len() >= SECRETS_MAX {
            secrets.clear();
        }
        secrets.insert(sealed, secret.clone());
        Ok(secret)
    }

    /// Returns the principal of a request signed with an access key. The caller must have verified
    /// the signature.
    ///
    /// Errors: `unauthenticated` if the key or its user is no longer valid.
    pub async fn signer(&self, id: &str, address: Option<IpAddr>) -> Result<Principal, Problem> {
        self.keys().signed_by(id, address).await.or_problem()
    }

    /// Adds an event to the audit log: a request with an unknown access key or a wrong signature.
    pub fn record_failure(&self, id: &str, address: Option<IpAddr>) {
        self.keys().failed_signature(id, address);
    }

    fn keys(&self) -> Keys {
        Keys::of(&self.0.access)
    }
}

/// Returns the label that binds an encrypted secret to its access key.
fn label(id: &str) -> String {
    format!("access key {id}")
}
