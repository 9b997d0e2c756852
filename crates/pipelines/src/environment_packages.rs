//! Package versions of the environments that computed a table. If an environment was rebuilt with
//! other versions since then, the model runs again.
//!
//! The versions are stored in the table's snapshot and are not part of the fingerprint, because a
//! plan can be made before an environment is installed. If the versions that a table was computed
//! with, or those of the current environment, are not known, the model stays up to date.

use std::collections::{BTreeMap, BTreeSet};

use headwater_tables::Table;

use crate::plan::Plan;
use crate::{Runner, fingerprint};

/// Snapshot property with the packages of the functions that computed the table, as JSON.
pub(crate) const PACKAGES: &str = "headwater.environment.packages";

/// Version by package.
pub(crate) type Packages = BTreeMap<String, String>;

impl Plan {
    /// Marks an unchanged model as running if the packages of its functions changed. Models that
    /// keep the rows of earlier runs are left out, because they would add the same rows again.
    pub(crate) fn compare_packages(&mut self, index: usize, runner: &Runner) {
        let (step, plan) = (&self.project.steps[index], &self.steps[index]);
        if plan.reason.is_some() || step.materialization.accumulates() {
            return;
        }
        let Some(table) = &plan.table else { return };
        let changes = self.changed_packages(index, table, runner);
        if !changes.is_empty() {
            self.steps[index].reason = Some("changed environment");
            self.steps[index].package_changes = changes;
        }
    }

    /// Returns the differences between the packages that computed a model's table and those that
    /// are installed now, one phrase each.
    pub(crate) fn changed_packages(
        &self,
        index: usize,
        table: &Table,
        runner: &Runner,
    ) -> Vec<String> {
        let Some(text) = fingerprint::written(table, PACKAGES) else { return Vec::new() };
        let Ok(before) = serde_json::from_str::<BTreeMap<String, Packages>>(text) else {
            return Vec::new();
        };
        let mut changes = BTreeSet::new();
        for step in self.functions_of(index) {
            let step = &self.project.steps[step];
            let (Some(function), Some(before)) = (step.function(), before.get(&step.name)) else {
                continue;
            };
            let spec = fingerprint::environment_spec(&self.project.defaults, function);
            if let Some(environment) = runner.installed_environment(&spec) {
                changes.extend(environment.changes_since(before));
            }
        }
        changes.into_iter().collect()
    }

    /// Returns the Python steps that compute a model: the model itself, and the intermediate models
    /// that it reads, directly or indirectly.
    pub(crate) fn functions_of(&self, index: usize) -> Vec<usize> {
        let (mut open, mut seen) = (vec![index], BTreeSet::new());
        while let Some(next) = open.pop() {
            let is_stored = next != index && self.project.steps[next].is_materialized();
            if !is_stored && seen.insert(next) {
                open.extend(&self.graph.parents[next]);
            }
        }
        let is_function = |step: &usize| self.project.steps[*step].function().is_some();
        seen.into_iter().filter(is_function).collect()
    }
}
