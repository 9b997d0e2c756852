//! Decides which steps run: models with outdated tables, checks that have not passed on the current
//! state, and the intermediate models that these steps need.

use headwater_build_records::snapshot_property;
use headwater_project::{Materialization, Step};

use crate::plan::{FINGERPRINT, FINGERPRINT_CODE, Plan, PlanOptions, StepPlan};
use crate::{Result, passed_checks};

/// Reason of a step that runs only because another step reads its output.
const NEEDED: &str = "its child runs";

/// Reason of a preview step whose output is not stored.
const PREVIEWED: &str = "preview";

impl Plan {
    /// Returns the reason to run a step, ignoring the steps that read its output. The reasons of
    /// the steps whose output it reads must be known.
    pub(crate) async fn own_reason(
        &self,
        index: usize,
        options: PlanOptions<'_>,
    ) -> Result<Option<&'static str>> {
        let (step, plan) = (&self.project.steps[index], &self.steps[index]);
        if options.no_cache {
            return Ok(Some("no cache"));
        }
        // A model that was never built always has the reason `first run`, even if the models that
        // it reads also run.
        let is_table_missing = step.is_materialized() && plan.table.is_none();
        if is_table_missing || (step.is_view() && plan.lake_view.is_none()) {
            return Ok(Some("first run"));
        }
        if self.graph.parents[index].iter().any(|parent| self.steps[*parent].reason.is_some()) {
            return Ok(Some("changed input"));
        }
        if step.reads_network() {
            return Ok(Some("it uses the network"));
        }
        if step.always_runs {
            return Ok(Some("no cache strategy"));
        }
        if step.is_materialized() {
            return Ok(self.table_reason(step, plan).await);
        }
        if step.is_view() {
            return self.view_reason(index).await;
        }
        if !self.remembers(index) {
            return Ok(None); // `keep_parents` adds the step if a child runs.
        }
        let passed =
            passed_checks::passed(self.view.lake().store().as_ref(), &plan.fingerprint).await?;
        let reason = if step.is_expectation() { "not checked yet" } else { "first run" };
        Ok((!passed).then_some(reason))
    }

    /// Returns true if the run stores only the success of a step, not its rows. This applies to
    /// expectations, to views, and to models that are not stored and that no step of this run
    /// reads.
    pub(crate) fn remembers(&self, index: usize) -> bool {
        let step = &self.project.steps[index];
        let mut children = self.graph.children[index].iter();
        let is_read = children.any(|child| self.selection.planned[*child]);
        !step.is_materialized() && (step.is_view() || !is_read)
    }

    /// Marks each model without a table to run if a step that reads the model runs.
    pub(crate) fn keep_parents(&mut self) {
        for index in self.graph.order.clone().into_iter().rev() {
            let mut children = self.graph.children[index].iter();
            let needed = children.any(|child| self.steps[*child].reason.is_some());
            let step = &self.project.steps[index];
            let shown =
                self.preview.is_some() && self.selection.chosen[index] && !step.is_expectation();
            let plan = &mut self.steps[index];
            let exists = plan.lake_view.is_some() && self.preview.is_none();
            if (needed || shown) && !step.is_materialized() && !exists && plan.reason.is_none() {
                plan.reason = Some(if needed { NEEDED } else { PREVIEWED });
            }
            // An intermediate model that is not selected runs only if a step that reads it runs.
            if !needed && !self.selection.chosen[index] {
                plan.reason = None;
            }
        }
    }

    /// Returns the reason to run a materialized model, from the fingerprint in its table.
    async fn table_reason(&self, step: &Step, plan: &StepPlan) -> Option<&'static str> {
        let Some(table) = &plan.table else { return Some("first run") };
        let current = snapshot_property(table, FINGERPRINT);
        let tables = self.view.lake().tables();
        let known = match step.materialization {
            // Ignore commits of other writers to the table, because the rows that the model
            // appended stay valid.
            Materialization::Append => {
                let same = |written: &str| written == plan.fingerprint;
                tables.history().find(table, FINGERPRINT, same).await.is_some()
                    && !self.lost_rows(step, table).await
            }
            // Ignore changes of other writers to the table: the model stays up to date.
            Materialization::Merge | Materialization::OverwritePartitions => {
                let last = tables.history().find(table, FINGERPRINT, |_| true).await;
                last.as_ref() == Some(&plan.fingerprint)
            }
            _ => current == Some(&plan.fingerprint),
        };
        if known {
            return None;
        }
        if current.is_some() {
            let same = snapshot_property(table, FINGERPRINT_CODE) == Some(&plan.code);
            return Some(if same { "changed input" } else { "changed code" });
        }
        let written = tables.history().find(table, FINGERPRINT, |_| true).await;
        Some(if written.is_none() { "first run" } else { "its table was changed" })
    }
}
