//! Provisioned concurrency of deployed functions: the functions of the active version of the
//! project, and the functions without a project.
//!
//! The settings are applied at the start of the server and after each deployment. The settings are
//! also applied periodically, because a rebuilt environment needs new instances. Starting an
//! instance imports the function's code but does not call the function, so no rights are checked.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use headwater_function_store::StoredFunction;
use headwater_functions::{EnvironmentCache, Functions, ProvisionedStatus};
use headwater_model::{FunctionAlias, Problem, ResultExt};
use headwater_pipelines::{Callable, Project, ProvisionedCallable, Runner};
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::deployer::ActiveDeployment;
use crate::function_catalog::FunctionCatalog;

/// Interval at which the settings are applied again.
const APPLY_EVERY: Duration = Duration::from_secs(60);

/// Maximum error of a computed number of instances: 100 × 0.07 is 7.000000000000001.
const ROUNDING_ERROR: f64 = 1e-6;

/// The components that a provisioner uses.
#[derive(Clone)]
pub struct ProvisionerParts {
    /// The runner, which starts instances.
    pub runner: Runner,
    /// The environments of functions.
    pub given: Arc<EnvironmentCache>,
    /// The functions that are deployed without a project.
    pub catalog: FunctionCatalog,
    /// The active version of the project.
    pub deployed: Arc<ActiveDeployment>,
}

/// The task that applies the settings of provisioned concurrency. Dropping this value ends the
/// task.
pub struct Provisioner {
    changed: Arc<Notify>,
    is_active: Arc<AtomicBool>,
    runner: Runner,
    stop: CancellationToken,
    _stop_on_drop: DropGuard,
}

impl Provisioner {
    /// Starts the task.
    pub fn start(parts: ProvisionerParts) -> Self {
        let (changed, is_active) = (Arc::<Notify>::default(), Arc::<AtomicBool>::default());
        let (stop, runner) = (CancellationToken::new(), parts.runner.clone());
        let applied = parts.apply_periodically(changed.clone(), is_active.clone());
        let stopped = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = stopped.cancelled() => {}
                () = applied => {}
            }
        });
        let guard = stop.clone().drop_guard();
        Provisioner { changed, is_active, runner, stop, _stop_on_drop: guard }
    }

    /// Ends the task and the idle provisioned instances, when the server stops.
    pub fn stop(&self) {
        self.stop.cancel();
        self.runner.retain_provisioned(|_| false);
    }

    /// Requests that changed settings are applied. Does not wait for the result.
    pub fn update(&self) {
        self.changed.notify_one();
    }

    /// Returns true if at least one function has a setting for provisioned instances.
    pub fn is_active(&self) -> bool {
        self.is_active.load(Ordering::Relaxed)
    }
}

impl ProvisionerParts {
    /// Creates handles to the components.
    pub fn of(
        runner: &Runner,
        given: &Arc<EnvironmentCache>,
        catalog: &FunctionCatalog,
        deployed: &Arc<ActiveDeployment>,
    ) -> Self {
        let (runner, given) = (runner.clone(), given.clone());
        ProvisionerParts { runner, given, catalog: catalog.clone(), deployed: deployed.clone() }
    }

    async fn apply_periodically(self, changed: Arc<Notify>, is_active: Arc<AtomicBool>) {
        loop {
            if let Err(problem) = self.apply(&is_active).await {
                tracing::warn!("provisioned concurrency cannot be applied: {problem}");
            }
            let _ = tokio::time::timeout(APPLY_EVERY, changed.notified()).await;
        }
    }

    /// Applies the settings of all functions. First ends the instances that no setting requests any
    /// more, because the later installation of an environment can take minutes. Sets `is_active` to
    /// true if there are settings.
    async fn apply(&self, is_active: &AtomicBool) -> Result<(), Problem> {
        // If the version cannot be read, its functions cannot be called and need no instances.
        let version = self.deployed.version().ok().flatten();
        let callables = version.iter().flat_map(|version| version.project.callables.values());
        let callables: Vec<&Callable> =
            callables.filter(|callable| callable.concurrency.provisioned > 0).collect();
        let functions = self.catalog.store().list().await.or_problem()?;
        let stored: Vec<ProvisionedConcurrencySetting<'_>> =
            functions.iter().flat_map(stored_settings).collect();
        let mut names: BTreeSet<&str> = stored.iter().map(|one| one.name.as_str()).collect();
        names.extend(callables.iter().map(|callable| callable.name.as_str()));
        self.runner.retain_provisioned(|name| names.contains(name));
        is_active.store(!names.is_empty(), Ordering::Relaxed);
        if let Some(version) = &version {
            for callable in &callables {
                let count = callable.concurrency.provisioned;
                self.provision(&version.project, callable, &callable.name, count).await;
            }
        }
        for setting in &stored {
            self.provision_stored(setting).await;
        }
        Ok(())
    }

    async fn provision_stored(&self, setting: &ProvisionedConcurrencySetting<'_>) {
        let ProvisionedConcurrencySetting { function, version, name, count } = setting;
        match self.catalog.version(function, *version).await {
            Ok(parsed) => {
                self.provision(&parsed.project, &parsed.callable, name, *count).await;
            }
            Err(problem) => {
                tracing::warn!("function `{name}` has no provisioned instances: {problem}");
            }
        }
    }

    async fn provision(&self, project: &Project, callable: &Callable, name: &str, count: u32) {
        let (given, count) = (&*self.given, count as usize);
        let call = ProvisionedCallable { project, given, callable, name };
        self.runner.provision(call, count).await;
    }
}

/// Returns a warning about a function that requests provisioned instances, but cannot have them.
pub fn provisioning_warning(callable: &Callable) -> Option<String> {
    let reason =
        callable.provisioning_obstacle().filter(|_| callable.concurrency.provisioned > 0)?;
    Some(format!("function `{}` has no provisioned instances: {reason}", callable.name))
}

/// The provisioned concurrency of a version of a function without a project.
struct ProvisionedConcurrencySetting<'a> {
    function: &'a StoredFunction,
    /// The version; `None` for `$LATEST`.
    version: Option<u64>,
    /// The name under which the function runtime knows the setting.
    name: String,
    /// Number of instances.
    count: u32,
}

fn stored_settings(function: &StoredFunction) -> Vec<ProvisionedConcurrencySetting<'_>> {
    let mut settings = Vec::new();
    for (qualifier, one) in &function.qualifiers {
        let Some(config) = &one.provisioned else { continue };
        for (version, count) in shares(function, qualifier, config.count) {
            let name = setting_name(&function.name, qualifier, version);
            settings.push(ProvisionedConcurrencySetting { function, version, name, count });
        }
    }
    settings
}

/// Returns the state of the provisioned instances of a version or alias; `None` if it has no
/// provisioned concurrency.
pub fn provisioned_status(
    functions: &Functions,
    stored: &StoredFunction,
    qualifier: &str,
) -> Option<ProvisionedStatus> {
    let config = stored.qualifiers.get(qualifier)?.provisioned.as_ref()?;
    let requested = config.count as usize;
    let mut status = ProvisionedStatus { requested, allotted: 0, ready: 0, problem: None };
    for (version, _) in shares(stored, qualifier, config.count) {
        let name = setting_name(&stored.name, qualifier, version);
        if let Some(part) = functions.provisioned(&name) {
            status.allotted += part.allotted;
            status.ready += part.ready;
            status.problem = status.problem.or(part.problem);
        }
    }
    Some(status)
}

/// Returns the name under which the function runtime knows a setting. The name contains a colon, so
/// it differs from the name of each function of a project.
fn setting_name(function: &str, qualifier: &str, version: Option<u64>) -> String {
    let version = version.map_or_else(|| "latest".to_owned(), |version| version.to_string());
    format!("{function}:{qualifier}:{version}")
}

/// Returns the versions that the calls of a version or alias execute, and the number of instances
/// of each version.
fn shares(stored: &StoredFunction, qualifier: &str, count: u32) -> Vec<(Option<u64>, u32)> {
    let Ok(main) = stored.resolve(qualifier, 1.0) else { return Vec::new() };
    match stored.aliases.get(qualifier) {
        Some(alias) => alias_shares(alias, count),
        None => vec![(main, count)],
    }
}

/// Returns the versions of an alias, and the number of instances of each version. The instances are
/// distributed by the weights. Each number is rounded up.
fn alias_shares(alias: &FunctionAlias, count: u32) -> Vec<(Option<u64>, u32)> {
    let part = |weight: f64| (f64::from(count) * weight - ROUNDING_ERROR).ceil() as u32;
    let rest = 1.0 - alias.weights.values().sum::<f64>();
    let others = alias.weights.iter().map(|(version, weight)| (Some(*version), part(*weight)));
    let all = std::iter::once((alias.version, part(rest))).chain(others);
    all.filter(|(_, count)| *count > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_instances_of_an_alias_are_distributed_by_its_weights() {
        for (weights, count, expected) in [
            (vec![], 5, vec![(Some(1), 5)]),
            (vec![(2, 0.07)], 100, vec![(Some(1), 93), (Some(2), 7)]),
            (vec![(2, 0.1)], 5, vec![(Some(1), 5), (Some(2), 1)]),
            (vec![(2, 0.001)], 1, vec![(Some(1), 1), (Some(2), 1)]),
            (
                vec![(2, 0.7), (3, 0.2), (4, 0.1)],
                10,
                vec![(Some(2), 7), (Some(3), 2), (Some(4), 1)],
            ),
        ] {
            let weights = weights.into_iter().collect();
            let alias = FunctionAlias { version: Some(1), weights, ..FunctionAlias::default() };
            assert_eq!(alias_shares(&alias, count), expected, "{alias:?}");
        }
    }
}
