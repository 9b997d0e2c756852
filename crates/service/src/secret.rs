//! Secrets: list, set, delete. No operation returns a value.

use std::sync::Arc;

use headwater_executors::OwnedSecrets;
use headwater_model::{AccessObject, Action, Principal, Problem, ResultExt, Secret, SetSecret};

use crate::service::Components;

/// Operations on secrets.
#[derive(Clone)]
pub struct Secrets(pub(crate) Arc<Components>);

impl Secrets {
    /// Lists the secrets that the principal may set or use, ordered by name, without their values.
    pub async fn list(&self, principal: &Principal) -> Result<Vec<Secret>, Problem> {
        self.0.authenticated(principal)?;
        let mut secrets = self.0.secrets.list().await.or_problem()?;
        secrets.retain(|one| self.0.access.may_see(principal, &AccessObject::secret(&one.name)));
        Ok(secrets)
    }

    /// Sets a secret by creating its first or next version. Later calls get the new value.
    pub async fn set(
        &self,
        principal: &Principal,
        name: &str,
        request: SetSecret,
    ) -> Result<Secret, Problem> {
        self.0.authorize(principal, Action::Set, &AccessObject::secret(name))?;
        self.0.owned_secrets().set(principal, name, &request).await
    }

    /// Deletes a secret. Later calls of functions that use it fail.
    pub async fn delete(&self, principal: &Principal, name: &str) -> Result<(), Problem> {
        self.0.authorize(principal, Action::Set, &AccessObject::secret(name))?;
        self.0.owned_secrets().delete(principal, name).await
    }
}

impl Components {
    fn owned_secrets(&self) -> OwnedSecrets<'_> {
        OwnedSecrets { access: &self.access, secrets: &self.secrets }
    }
}
