//! Access keys, which sign requests with `SigV4`: create, list, revoke, authenticate.
//!
//! The verification of a signature requires the secret itself, not a hash. So the caller encrypts
//! the secret before storing it.

use std::fmt;
use std::net::IpAddr;

use headwater_model::{
    AccessKey, AuthMethod, AuthenticatedUser, CredentialSettings, Principal, Timestamp,
};
use headwater_store::KeyRange;

use crate::access::{AccessInner, RightsChange};
use crate::access_token::{check_new, checked};
use crate::credential_limit::{StoredCredential, entries_before_new};
use crate::credential_secret::{CredentialSecret, random};
use crate::record::{AccessKeyRecord, USED_JOURNAL, key_key, put};
use crate::{Access, Error, Result};

/// Prefix of the ids of access keys. Secret scanners recognise a key by this prefix.
const PREFIX: &str = "HWAK";

/// Number of random bytes in an id. Each byte determines one character.
const ID_BYTES: usize = 16;

/// The characters of an id, as in Base32.
const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// The id and the secret of a new access key.
pub struct AccessKeyPair {
    /// The id, which is part of each request.
    pub id: String,
    /// The secret, with which requests are signed.
    pub secret: String,
}

impl AccessKeyPair {
    /// Creates a random pair.
    pub fn generate() -> Result<Self> {
        let random = random::<ID_BYTES>()?.map(|byte| char::from(ALPHABET[usize::from(byte % 32)]));
        let id = random.iter().fold(PREFIX.to_owned(), |id, letter| format!("{id}{letter}"));
        Ok(AccessKeyPair { id, secret: CredentialSecret::of_key()?.into_text() })
    }
}

impl fmt::Debug for AccessKeyPair {
    /// Omits the secret, which must not be logged.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyPair").field("id", &self.id).finish_non_exhaustive()
    }
}

/// An access key to store.
#[derive(Debug)]
pub struct NewAccessKey {
    /// The id of the key.
    pub id: String,
    /// The encrypted secret.
    pub sealed: String,
    /// The user that the key authenticates; `None` for the lake's owner.
    pub user: Option<String>,
    /// Label, scopes and expiry.
    pub properties: CredentialSettings,
}

/// The access keys of a lake.
#[derive(Debug, Clone)]
pub struct AccessKeys(Access);

impl AccessKeys {
    /// Creates a handle to the access keys.
    pub fn of(access: &Access) -> Self {
        AccessKeys(access.clone())
    }

    /// Stores a new access key.
    pub async fn create(&self, by: &Principal, new: NewAccessKey) -> Result<AccessKey> {
        let created = self.shared().clock.now();
        check_new(&new.properties, created)?;
        let CredentialSettings { label, scopes, expires } = new.properties;
        let scopes = scopes.map(checked).transpose()?;
        let (last_used, revoked) = (None, None);
        let (id, user) = (new.id, new.user);
        let key = AccessKey { id, user, label, scopes, created, expires, last_used, revoked };
        let record = AccessKeyRecord { key: key.clone(), sealed: new.sealed };
        self.0
            .change(by, |directory| {
                key.user.as_deref().map(|user| directory.user(user)).transpose()?;
                let own = directory.keys.values().map(|it| &it.key);
                let own = own.filter(|it| it.user == key.user).map(|it| StoredCredential {
                    id: &it.id,
                    key: key_key(&it.id),
                    created: it.created,
                    is_valid: directory.is_token_valid(&it.id, created),
                });
                let mut entries = entries_before_new(own)?;
                entries.push(put(key_key(&key.id), &record)?);
                Ok(key_change("create_key", &key, entries))
            })
            .await?;
        Ok(key)
    }

    /// Lists access keys by creation time, optionally only those of a user.
    pub async fn list(&self, user: Option<&str>) -> Result<Vec<AccessKey>> {
        let directory = self.0.directory();
        let used = self.shared().store.scan(USED_JOURNAL, &KeyRange::all()).await?;
        let keys = directory.keys.values().map(|record| record.key.clone());
        let is_wanted = |key: &AccessKey| user.is_none() || key.user.as_deref() == user;
        let mut found: Vec<AccessKey> = keys.filter(is_wanted).collect();
        for key in &mut found {
            let entry = used.iter().find(|entry| entry.key == key.id);
            key.last_used = entry.and_then(|entry| serde_json::from_slice(&entry.value).ok());
        }
        found.sort_by_key(|key| key.created);
        Ok(found)
    }

    /// Revokes an access key immediately. A repeated revocation changes nothing. If `user` is
    /// given, a key of another user is reported as missing.
    pub async fn revoke(&self, by: &Principal, id: &str, user: Option<&str>) -> Result<()> {
        let now = self.shared().clock.now();
        self.0
            .change(by, |directory| {
                let found = directory.keys.get(id);
                let found = found.filter(|it| user.is_none() || it.key.user.as_deref() == user);
                let mut record =
                    found.cloned().ok_or_else(|| Error::NoKey { id: id.to_owned() })?;
                if record.key.revoked.is_some() {
                    return Ok(key_change("revoke_key", &record.key, Vec::new()));
                }
                record.key.revoked = Some(now);
                let entries = vec![put(key_key(id), &record)?];
                Ok(key_change("revoke_key", &record.key, entries))
            })
            .await
    }

    /// Returns the encrypted secret of an access key; `None` if the key is not valid.
    pub fn sealed_secret(&self, id: &str) -> Option<String> {
        let directory = self.0.directory();
        let is_valid = directory.is_token_valid(id, self.shared().clock.now());
        directory.keys.get(id).filter(|_| is_valid).map(|record| record.sealed.clone())
    }

    /// Returns the principal of a request signed with an access key, and records the use. The
    /// caller must have verified the signature.
    ///
    /// Errors: [`Error::InvalidCredential`] if the key or its user is no longer valid.
    pub async fn signed_by(&self, id: &str, address: Option<IpAddr>) -> Result<Principal> {
        let principal = self.principal_of(id).ok_or(Error::InvalidCredential)?;
        self.0.record_use(id).await;
        Ok(principal.with_address(address))
    }

    /// Adds a request with an unknown access key or a wrong signature to the audit log.
    pub fn failed_signature(&self, id: &str, address: Option<IpAddr>) {
        let directory = self.0.directory();
        let user = directory.keys.get(id).and_then(|record| record.key.user.as_deref());
        self.shared().audit.failed_login(user, AuthMethod::AccessKey, address);
    }

    /// Returns the expiry time of an access key or token; `None` if it does not expire.
    pub fn expiry(&self, id: &str) -> Option<Timestamp> {
        self.0.directory().expiry(id)
    }

    fn shared(&self) -> &AccessInner {
        &self.0.0
    }

    fn principal_of(&self, id: &str) -> Option<Principal> {
        let directory = self.0.directory();
        let key = &directory.keys.get(id)?.key;
        if !directory.is_token_valid(id, self.shared().clock.now()) {
            return None;
        }
        let Some(user) = &key.user else { return Some(Principal::owner()) };
        let account = directory.users.get(user).filter(|account| !account.disabled)?;
        Some(Principal::user(AuthenticatedUser {
            name: user.clone(),
            created: account.created,
            method: AuthMethod::AccessKey,
            token: Some(id.to_owned()),
            scopes: key.scopes.clone(),
            expires: None,
        }))
    }
}

fn key_change(
    action: &'static str,
    key: &AccessKey,
    entries: Vec<headwater_store::JournalAppend>,
) -> RightsChange<()> {
    let object = format!("access_key:{}", key.id);
    let detail = key.user.as_ref().map_or("of the owner".to_owned(), |it| format!("of user {it}"));
    RightsChange { entries, action, object, detail, result: () }
}
