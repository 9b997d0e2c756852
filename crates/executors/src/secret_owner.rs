//! Changes of secrets, with the record of their owner: the user that set the first version.

use headwater_access::{Access, ObjectChange, change_owned};
use headwater_model::{
    AccessObject, ErrorCode, Principal, Problem, ResultExt, Secret, SetSecret, ToProblem,
};
use headwater_secrets::{Error, SecretStore};

/// The secrets of a lake and the records of their owners.
pub struct OwnedSecrets<'a> {
    /// The users and the records of owners.
    pub access: &'a Access,
    /// The secrets.
    pub secrets: &'a SecretStore,
}

impl OwnedSecrets<'_> {
    /// Sets a secret. The user that sets the first version owns the secret. The ownership ends when
    /// another user sets a version, because the owner may not use the value of that user. One batch
    /// stores the value and the owner.
    pub async fn set(
        &self,
        by: &Principal,
        name: &str,
        request: &SetSecret,
    ) -> Result<Secret, Problem> {
        let next = self.secrets.next_version(name, &request.value, by.author()).await;
        let (secret, write) = next.or_problem()?;
        let is_new = secret.version == 1;
        let change = if is_new { ObjectChange::Created } else { ObjectChange::Replaced };
        let set =
            change_owned(self.access, by, &AccessObject::secret(name), change, &[write]).await;
        set.map_err(|error| match error.code() {
            ErrorCode::CommitConflict => Error::Conflict { name: name.to_owned() }.to_problem(),
            _ => error.to_problem(),
        })?;
        Ok(secret)
    }

    /// Deletes a secret. Removes the owner first, so that it does not own a new secret of this
    /// name.
    pub async fn delete(&self, by: &Principal, name: &str) -> Result<(), Problem> {
        self.access.remove_owner(by, &AccessObject::secret(name)).await.or_problem()?;
        self.secrets.delete(name).await.or_problem()
    }
}
