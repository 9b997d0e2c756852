//! Access tokens: create, list, revoke.

use headwater_model::{
    AccessToken, CreatedToken, CredentialSettings, Permission, Principal, Timestamp,
};
use headwater_store::KeyRange;

use crate::access::RightsChange;
use crate::credential_limit::{StoredCredential, entries_before_new};
use crate::credential_secret::CredentialSecret;
use crate::record::{AccessTokenRecord, USED_JOURNAL, put, token_key};
use crate::{Access, Error, Result};

/// Maximum length of a credential's label, in bytes.
const LABEL_BYTES_MAX: usize = 200;

/// Maximum number of scopes of a credential.
const SCOPES_MAX: usize = 100;

impl Access {
    /// Creates an access token of a user. The secret is returned only here.
    pub async fn create_token(
        &self,
        by: &Principal,
        user: &str,
        new: CredentialSettings,
    ) -> Result<CreatedToken> {
        let created = self.0.clock.now();
        check_new(&new, created)?;
        let secret = CredentialSecret::generate()?;
        let hash = secret.hash();
        let token = AccessToken {
            id: hash.short(),
            user: user.to_owned(),
            label: new.label,
            scopes: new.scopes.map(checked).transpose()?,
            created,
            expires: new.expires,
            last_used: None,
            revoked: None,
        };
        let record = AccessTokenRecord { token: token.clone(), hash };
        self.change(by, |directory| {
            directory.user(user)?;
            let own = directory.tokens.values().map(|it| &it.token).filter(|it| it.user == user);
            let own = own.map(|it| StoredCredential {
                id: &it.id,
                key: token_key(&it.id),
                created: it.created,
                is_valid: directory.is_token_valid(&it.id, created),
            });
            let mut entries = entries_before_new(own)?;
            entries.push(put(token_key(&token.id), &record)?);
            Ok(token_change("create_token", &token, entries))
        })
        .await?;
        Ok(CreatedToken { token, secret: secret.into_text() })
    }

    /// Lists tokens by creation time, optionally only those of a user.
    pub async fn tokens(&self, user: Option<&str>) -> Result<Vec<AccessToken>> {
        let directory = self.directory();
        let used = self.0.store.scan(USED_JOURNAL, &KeyRange::all()).await?;
        let tokens = directory.tokens.values().map(|record| record.token.clone());
        let mut found: Vec<AccessToken> =
            tokens.filter(|token| user.is_none_or(|user| token.user == user)).collect();
        for token in &mut found {
            let entry = used.iter().find(|entry| entry.key == token.id);
            token.last_used = entry.and_then(|entry| serde_json::from_slice(&entry.value).ok());
        }
        found.sort_by_key(|token| token.created);
        Ok(found)
    }

    /// Revokes a token immediately. A repeated revocation changes nothing. If `user` is given, a
    /// token of another user is reported as missing.
    pub async fn revoke_token(&self, by: &Principal, id: &str, user: Option<&str>) -> Result<()> {
        let now = self.0.clock.now();
        self.change(by, |directory| {
            let found = directory.tokens.get(id);
            let found = found.filter(|it| user.is_none_or(|user| it.token.user == user));
            let mut record = found.cloned().ok_or_else(|| Error::NoToken { id: id.to_owned() })?;
            if record.token.revoked.is_some() {
                return Ok(token_change("revoke_token", &record.token, Vec::new()));
            }
            record.token.revoked = Some(now);
            let entries = vec![put(token_key(id), &record)?];
            Ok(token_change("revoke_token", &record.token, entries))
        })
        .await
    }
}

/// Checks the label and the expiry of a new credential.
pub(crate) fn check_new(new: &CredentialSettings, now: Timestamp) -> Result<()> {
    if new.expires.is_some_and(|expires| expires <= now) {
        return Err(Error::Expired);
    }
    if new.label.len() > LABEL_BYTES_MAX {
        return Err(Error::TooLong { what: "label", max: LABEL_BYTES_MAX });
    }
    Ok(())
}

/// Checks the scopes of a new credential, and returns them.
pub(crate) fn checked(scopes: Vec<Permission>) -> Result<Vec<Permission>> {
    if scopes.len() > SCOPES_MAX {
        return Err(Error::TooLong { what: "list of scopes", max: SCOPES_MAX });
    }
    scopes.into_iter().map(|scope| scope.checked().map_err(Error::from)).collect()
}

fn token_change(
    action: &'static str,
    token: &AccessToken,
    entries: Vec<headwater_store::JournalAppend>,
) -> RightsChange<()> {
    let object = format!("token:{}", token.id);
    RightsChange { entries, action, object, detail: format!("of user {}", token.user), result: () }
}
