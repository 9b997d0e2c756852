//! Operations on environments: list, explain, prune and rebuild.

use std::time::Duration;

use headwater_environments::RemovalResult;
use headwater_model::{
    EnvironmentDetails, EnvironmentSummary, PrunedEnvironments, RebuiltEnvironment, ZygoteSummary,
};

use crate::functions::Functions;
use crate::{Environment, EnvironmentEvent, Result};

impl Functions {
    /// Returns the environments, the most recently used environment first.
    pub async fn environments(&self) -> Vec<EnvironmentSummary> {
        let functions = self.clone();
        let all = tokio::task::spawn_blocking(move || functions.0.environments.all());
        all.await.unwrap_or_default()
    }

    /// Returns the details of the environment whose id starts with `id`, and the running and queued
    /// calls of all environments. Errors: `environment_not_found`.
    pub async fn explain(&self, id: &str) -> Result<EnvironmentDetails> {
        let environment = self.named(id).await?;
        let report = self.zygotes().into_iter().find(|one| one.environment == environment.id);
        let zygote = report.map(|report| ZygoteSummary {
            memory_bytes: report.memory_bytes,
            imported_ms: report.imported_ms,
            skipped: report.skipped,
            failure: report.failure,
        });
        let instances = self.warm_instances(&environment.id);
        let huge_pages_unavailable = self.0.pages.as_ref().err().cloned();
        let calls = self.calls();
        Ok(EnvironmentDetails { environment, zygote, instances, huge_pages_unavailable, calls })
    }

    /// Returns the environments that [`Functions::prune`] would remove now.
    pub async fn prunable(&self, unused_for: Duration) -> PrunedEnvironments {
        let mut pruned = PrunedEnvironments::default();
        let calls = self.calls();
        for environment in self.environments().await {
            if !self.0.environments.is_unused(&environment.id, unused_for) {
                continue;
            }
            // An environment with running or queued calls is in use. Idle instances do not count as
            // use, because pruning ends them.
            if calls.iter().any(|call| call.environment == environment.id) {
                pruned.busy.push(environment.id);
            } else {
                pruned.bytes += environment.bytes_own;
                pruned.removed.push(environment);
            }
        }
        pruned
    }

    /// Removes the environments that were last used at least `unused_for` ago. Keeps environments
    /// with running or queued calls.
    pub async fn prune(&self, unused_for: Duration) -> Result<PrunedEnvironments> {
        let mut pruned = PrunedEnvironments::default();
        for environment in self.environments().await {
            if !self.0.environments.is_unused(&environment.id, unused_for) {
                continue;
            }
            // End the environment's idle instances, because its files are about to be removed.
            let of_this = |held: &Environment| held.id == environment.id;
            self.0.queue.end_idle_of(of_this);
            self.0.zygotes.end_unused(of_this);
            match self.0.environments.remove(&environment.id, unused_for).await? {
                RemovalResult::Removed { environment, bytes } => {
                    pruned.bytes += bytes;
                    pruned.removed.push(*environment);
                }
                RemovalResult::InUse => pruned.busy.push(environment.id),
                RemovalResult::Kept => {}
            }
        }
        pruned.bytes += self.0.environments.sweep_packages().await;
        Ok(pruned)
    }

    /// Resolves the packages of an environment again, and installs them. Running calls keep the old
    /// packages; later calls use the new packages. Errors: `environment_not_found`,
    /// `environment_failed`.
    pub async fn rebuild(
        &self,
        id: &str,
        on_progress: &(dyn Fn(EnvironmentEvent) + Send + Sync),
    ) -> Result<RebuiltEnvironment> {
        let id = self.named(id).await?.id;
        let rebuilt = self.0.environments.rebuild(&id, on_progress).await?;
        let now = self.0.environments.current_build(&id);
        let of_before = |held: &Environment| held.id == id && Some(&held.build) != now.as_ref();
        self.0.queue.end_idle_of(of_before);
        self.0.zygotes.end_where(of_before);
        let environments = self.0.environments.clone();
        let _ = tokio::task::spawn_blocking(move || environments.sweep()).await;
        Ok(rebuilt)
    }

    async fn named(&self, id: &str) -> Result<EnvironmentSummary> {
        let (functions, prefix) = (self.clone(), id.to_owned());
        let found =
            tokio::task::spawn_blocking(move || functions.0.environments.by_prefix(&prefix));
        let gone = || headwater_environments::Error::NotFound { id: id.to_owned() };
        Ok(found.await.map_err(|_| gone())??)
    }
}
