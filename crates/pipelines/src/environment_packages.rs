//! Package versions of the environments that computed a table. If an environment now has other
//! versions, the model runs again.
//!
//! The versions are stored in the table's snapshot. They are not part of the fingerprint, because
//! a run can be planned before an environment is installed. The model stays up to date if the
//! earlier or the current versions are not known.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use headwater_build_records::snapshot_property;
use headwater_functions::{EnvironmentSpec, package_changes};
use headwater_tables::Table;

use crate::Runner;
use crate::plan::Plan;

/// Snapshot property with the packages of the functions that computed the table, as JSON.
pub(crate) const PACKAGES: &str = "headwater.environment.packages";

/// Installed versions, by package name.
pub(crate) type PackageVersions = BTreeMap<String, String>;

impl Plan {
    /// Finds the installed packages of Python steps. Looks up each environment only once.
    pub(crate) fn find_packages(&mut self, runner: &Runner) {
        let mut known: Vec<(EnvironmentSpec, Option<Arc<PackageVersions>>)> = Vec::new();
        for (step, plan) in self.project.steps.iter().zip(&mut self.steps) {
            let Some(function) = step.function() else { continue };
            let defaults = &self.project.defaults;
            let spec = self.pinned.spec(runner, defaults, function);
            if let Some((_, packages)) = known.iter().find(|(other, _)| *other == spec) {
                plan.packages.clone_from(packages);
                continue;
            }
            let environment = runner.installed_environment(&spec);
            if let Some(found) = &environment {
                self.environments.add(defaults, function, found);
            }
            plan.packages = environment.map(|found| Arc::new(found.packages.clone()));
            known.push((spec, plan.packages.clone()));
        }
    }

    /// Marks an unchanged model to run again if the packages of its functions changed. Ignores
    /// models that keep the rows of earlier runs, because a new run could add the same rows again.
    pub(crate) fn compare_packages(&mut self, index: usize) {
        let (step, plan) = (&self.project.steps[index], &self.steps[index]);
        if plan.reason.is_some() || step.materialization.accumulates() {
            return;
        }
        let Some(table) = &plan.table else { return };
        let changes = self.changed_packages(index, table);
        if !changes.is_empty() {
            self.steps[index].reason = Some("changed environment");
            self.steps[index].why = changes;
        }
    }

    /// Returns the differences between the packages that computed a model's table and the packages
    /// that are installed now, one phrase each.
    pub(crate) fn changed_packages(&self, index: usize, table: &Table) -> Vec<String> {
        let Some(text) = snapshot_property(table, PACKAGES) else { return Vec::new() };
        let before: BTreeMap<String, PackageVersions> =
            serde_json::from_str(text).unwrap_or_default();
        let mut changes = BTreeSet::new();
        for step in self.functions_of(index) {
            let before = before.get(&self.project.steps[step].name);
            if let (Some(before), Some(now)) = (before, &self.steps[step].packages) {
                changes.extend(package_changes(before, now));
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
