//! Python environments: list, explain, prune, rebuild.

use std::sync::Arc;
use std::time::Duration;

use headwater_executors::EVERY;
use headwater_functions::EnvironmentEvent;
use headwater_model::{
    AccessObject, Action, EnvironmentDetails, EnvironmentSummary, Principal, Problem,
    PruneEnvironments, PrunedEnvironments, RebuiltEnvironment, ResultExt,
};

use crate::service::Components;

/// Operations on environments.
#[derive(Clone)]
pub struct Environments(pub(crate) Arc<Components>);

impl Environments {
    /// Lists environments that the principal may read, most recently used first.
    pub async fn list(&self, principal: &Principal) -> Result<Vec<EnvironmentSummary>, Problem> {
        self.0.authenticated(principal)?;
        let mut environments = self.0.functions.environments().await;
        environments.retain(|one| {
            self.0.allows(principal, Action::Read, &AccessObject::environment(&one.id))
        });
        Ok(environments)
    }

    /// Returns an environment's packages, zygote and calls. Accepts a prefix of its id.
    pub async fn explain(
        &self,
        principal: &Principal,
        id: &str,
    ) -> Result<EnvironmentDetails, Problem> {
        self.0.authorize(principal, Action::Read, &AccessObject::environment(id))?;
        self.0.functions.explain(id).await.or_problem()
    }

    /// Removes environments that were unused for the requested time. A dry run only lists them.
    pub async fn prune(
        &self,
        principal: &Principal,
        request: &PruneEnvironments,
    ) -> Result<PrunedEnvironments, Problem> {
        self.0.authorize(principal, Action::Drop, &AccessObject::environment(EVERY))?;
        let unused_for = Duration::from_secs(request.unused_seconds);
        if request.dry_run {
            return Ok(self.0.functions.prunable(unused_for).await);
        }
        self.0.functions.prune(unused_for).await.or_problem()
    }

    /// Resolves and installs an environment's packages again. Running calls continue to use the old
    /// packages.
    pub async fn rebuild(
        &self,
        principal: &Principal,
        id: &str,
    ) -> Result<RebuiltEnvironment, Problem> {
        self.0.authorize(principal, Action::Drop, &AccessObject::environment(id))?;
        let ignore = |_: EnvironmentEvent| ();
        self.0.functions.rebuild(id, &ignore).await.or_problem()
    }
}
