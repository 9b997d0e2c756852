//! Namespaces: list, create, delete.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::ready;
use headwater_model::{AccessObject, Action, Namespace, Principal, Problem, RefSpec, ResultExt};

use crate::service::Components;

/// Operations on namespaces.
#[derive(Clone)]
pub struct Namespaces(pub(crate) Arc<Components>);

impl Namespaces {
    /// Lists namespaces by name.
    pub async fn list(
        &self,
        principal: &Principal,
        reference: &RefSpec,
    ) -> Result<Vec<Namespace>, Problem> {
        let view = self.0.view_for(principal, reference).await?;
        self.0.entry_rights(principal).visible_namespaces(&view).await
    }

    /// Creates a namespace on a branch, as a job.
    pub async fn create(
        &self,
        principal: &Principal,
        branch: &str,
        name: String,
    ) -> Result<Namespace, Problem> {
        self.0.authorize(principal, Action::Write, &AccessObject::branch(branch))?;
        let (reference, object) =
            (RefSpec::Name(branch.to_owned()), AccessObject::namespace(&name));
        self.0.authorize_at(principal, &reference, [Action::Create], object).await?;
        let change = format!("create namespace {name}");
        let created = name.clone();
        self.0
            .commit_as_job(principal, branch, change, move |transaction| {
                transaction.create_namespace(&name, BTreeMap::new());
                ready(Ok(())).boxed()
            })
            .await?;
        let owner = principal.as_object_owner();
        Ok(Namespace { name: created, properties: BTreeMap::new(), owner })
    }

    /// Deletes a namespace from a branch, as a job. Errors: `not_empty` if it contains tables.
    pub async fn delete(
        &self,
        principal: &Principal,
        branch: &str,
        name: &str,
    ) -> Result<(), Problem> {
        self.0.authorize(principal, Action::Write, &AccessObject::branch(branch))?;
        let (reference, object) = (RefSpec::Name(branch.to_owned()), AccessObject::namespace(name));
        self.0.authorize_at(principal, &reference, [Action::Drop], object).await?;
        // Check first, so that no job is recorded if the namespace does not exist.
        let view = self.0.lake.view(&reference).await.or_problem()?;
        let exists = view.check_namespace(name).await.or_problem();
        exists.map_err(|problem| self.0.conceal(principal, problem))?;
        let change = format!("drop namespace {name}");
        let name = name.to_owned();
        self.0
            .commit_as_job(principal, branch, change, move |transaction| {
                transaction.drop_namespace(&name);
                ready(Ok(())).boxed()
            })
            .await
    }
}
