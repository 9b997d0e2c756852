//! Changes of secrets, with the record of their owner: the user that set the first version.

use headwater_access::{Access, record_owner};
use headwater_model::{Object, Principal, Problem, ResultExt, Secret, SetSecret};
use headwater_secrets::SecretStore;

/// The secrets of a lake and the records of their owners.
pub struct OwnedSecrets<'a> {
    /// The users and the records of owners.
    pub access: &'a Access,
    /// The secrets.
    pub secrets: &'a SecretStore,
}

impl OwnedSecrets<'_> {
    /// Sets a secret. The user that sets the first version owns the secret. The ownership ends when
    /// another user sets a version, because the owner may not use the value of that user.
    pub async fn set(
        &self,
        by: &Principal,
        name: &str,
        request: &SetSecret,
    ) -> Result<Secret, Problem> {
        let object = Object::secret(name);
        // Remove the owner first, so that it never owns the new value.
        record_owner(self.access, by, &object, false).await.or_problem()?;
        let set = self.secrets.set(name, &request.value, by.author()).await.or_problem()?;
        // A concurrent request of another user may have recorded this user after the first check.
        record_owner(self.access, by, &object, false).await.or_problem()?;
        if set.version == 1 && by.user_name().is_some() {
            self.access.set_owner(by, &object).await.or_problem()?;
            // Another user may have set the secret before the owner was recorded.
            let listed = self.secrets.list().await.or_problem()?;
            if !listed.contains(&set) {
                self.access.remove_owner(by, &object).await.or_problem()?;
            }
        }
        Ok(set)
    }

    /// Deletes a secret. Removes the owner first, so that it does not own a new secret of this
    /// name.
    pub async fn delete(&self, by: &Principal, name: &str) -> Result<(), Problem> {
        self.access.remove_owner(by, &Object::secret(name)).await.or_problem()?;
        self.secrets.delete(name).await.or_problem()
    }
}
