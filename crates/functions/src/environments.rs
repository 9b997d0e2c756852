//! What people see of environments and can do to them.

use std::time::Duration;

use headwater_model::{
    EnvironmentExplained, EnvironmentSummary, PrunedEnvironments, RebuiltEnvironment, ZygoteSummary,
};

use crate::environment::Removed;
use crate::functions::Functions;
use crate::{Environment, EnvironmentEvent, Error, Result};

impl Functions {
    /// The environments that there are, the last used first.
    pub async fn environments(&self) -> Vec<EnvironmentSummary> {
        let functions = self.clone();
        let all = tokio::task::spawn_blocking(move || functions.0.environments.all());
        all.await.unwrap_or_default()
    }

    /// What there is to say of an environment, by the beginning of its id, and of every call that
    /// runs or waits. Codes: `environment_not_found`.
    pub async fn explain(&self, id: &str) -> Result<EnvironmentExplained> {
        let environment = self.named(id).await?;
        let report = self.zygotes().into_iter().find(|one| one.environment == environment.id);
        let zygote = report.map(|report| ZygoteSummary {
            memory_bytes: report.memory_bytes,
            imported_ms: report.imported_ms,
            skipped: report.skipped,
            failure: report.failure,
        });
        let small_pages = self.0.pages.as_ref().err().cloned();
        Ok(EnvironmentExplained { environment, zygote, small_pages, calls: self.calls() })
    }

    /// What [`Functions::prune`] would remove now; nothing is.
    pub async fn prunable(&self, unused_for: Duration) -> PrunedEnvironments {
        let mut pruned = PrunedEnvironments::default();
        let calls = self.calls();
        for environment in self.environments().await {
            if !self.0.environments.is_unused(&environment.id, unused_for) {
                continue;
            }
            // What waits for calls to come would be ended.
            if calls.iter().any(|call| call.environment == environment.id) {
                pruned.busy.push(environment.id);
            } else {
                pruned.bytes += environment.bytes_own;
                pruned.removed.push(environment);
            }
        }
        pruned
    }

    /// Removes environments that no function has asked for in so long and that none uses now.
    pub async fn prune(&self, unused_for: Duration) -> Result<PrunedEnvironments> {
        let mut pruned = PrunedEnvironments::default();
        for environment in self.environments().await {
            if !self.0.environments.is_unused(&environment.id, unused_for) {
                continue;
            }
            // What waits for calls to come is in nobody's use.
            let of_this = |held: &Environment| held.id == environment.id;
            self.0.warm.end_where(of_this);
            self.0.zygotes.end_unused(of_this);
            match self.0.environments.remove(&environment.id, unused_for).await? {
                Removed::Gone { environment, made } => {
                    pruned.bytes += made;
                    pruned.removed.push(environment);
                }
                Removed::Busy => pruned.busy.push(environment.id),
                Removed::Wanted => {}
            }
        }
        pruned.bytes += self.0.environments.sweep_packages().await;
        Ok(pruned)
    }

    /// Chooses an environment's packages anew, within what was asked for. Calls that run go on with
    /// the old ones; the next call gets the new ones. Codes: `environment_not_found`,
    /// `environment_failed`.
    pub async fn rebuild(
        &self,
        id: &str,
        on_progress: &(dyn Fn(EnvironmentEvent) + Send + Sync),
    ) -> Result<RebuiltEnvironment> {
        let id = self.named(id).await?.id;
        let rebuilt = self.0.environments.rebuild(&id, on_progress).await?;
        let now = self.0.environments.build_of(&id);
        let of_before = |held: &Environment| held.id == id && Some(&held.build) != now.as_ref();
        self.0.warm.end_where(of_before);
        self.0.zygotes.end_where(of_before);
        let environments = self.0.environments.clone();
        let _ = tokio::task::spawn_blocking(move || environments.sweep()).await;
        Ok(rebuilt)
    }

    async fn named(&self, id: &str) -> Result<EnvironmentSummary> {
        let (functions, id) = (self.clone(), id.to_owned());
        let found = tokio::task::spawn_blocking(move || functions.0.environments.named(&id));
        found.await.map_err(|_| Error::Spawner { reason: "is stopping".to_owned() })?
    }
}
