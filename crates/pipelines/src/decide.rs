//! Which steps of a plan run: those whose table is not what they would write, checks that have not
//! passed on just this, and what these need that is not kept.

use crate::plan::{FINGERPRINT, FINGERPRINT_CODE, Plan, PlanOptions, StepPlan};
use crate::step::{Materialization, Step};
use crate::{Result, checks};

/// The reason of a step that runs only because what it gives is not kept.
const NEEDED: &str = "its child runs";

impl Plan {
    /// Why a step runs by itself; its parents are decided already.
    pub(crate) async fn own_reason(
        &self,
        index: usize,
        options: PlanOptions,
    ) -> Result<Option<&'static str>> {
        let (step, plan) = (&self.project.steps[index], &self.steps[index]);
        if options.no_cache {
            return Ok(Some("no cache"));
        }
        if self.graph.parents[index].iter().any(|parent| self.steps[*parent].reason.is_some()) {
            return Ok(Some("changed input"));
        }
        if step.reads_network() {
            return Ok(Some("it reads the network"));
        }
        if step.is_materialized() {
            return Ok(self.table_reason(step, plan).await);
        }
        if !self.remembers(index) {
            return Ok(None); // A child that runs will ask for it.
        }
        let passed = checks::passed(self.view.lake().store().as_ref(), &plan.fingerprint).await?;
        let reason = if step.is_expectation() { "not checked yet" } else { "first run" };
        Ok((!passed).then_some(reason))
    }

    /// Whether that a step succeeded is all it leaves: expectations, and models that are neither
    /// kept nor read.
    pub(crate) fn remembers(&self, index: usize) -> bool {
        let step = &self.project.steps[index];
        !step.is_materialized() && self.graph.children[index].is_empty()
    }

    /// Models that are not kept run where a child of theirs does.
    pub(crate) fn keep_parents(&mut self) {
        for index in self.graph.order.clone().into_iter().rev() {
            let mut children = self.graph.children[index].iter();
            let needed = children.any(|child| self.steps[*child].reason.is_some());
            let plan = &mut self.steps[index];
            if needed && !self.project.steps[index].is_materialized() && plan.reason.is_none() {
                plan.reason = Some(NEEDED);
            }
        }
    }

    /// Why a materialised model runs, told from what its table says of the run that wrote it.
    async fn table_reason(&self, step: &Step, plan: &StepPlan) -> Option<&'static str> {
        let Some(table) = &plan.table else { return Some("first run") };
        let current = table.summary().get(FINGERPRINT).cloned();
        let tables = self.view.lake().tables();
        let known = match step.materialization {
            // What was appended once stays appended, whatever others appended since.
            Materialization::Append => {
                let same = |written: &str| written == plan.fingerprint;
                tables.find_in_history(table, FINGERPRINT, same).await.is_some()
            }
            // What others did to rows that were merged is theirs.
            Materialization::Merge => {
                let last = tables.find_in_history(table, FINGERPRINT, |_| true).await;
                last.as_ref() == Some(&plan.fingerprint)
            }
            _ => current.as_ref() == Some(&plan.fingerprint),
        };
        if known {
            return None;
        }
        if current.is_some() {
            let same = table.summary().get(FINGERPRINT_CODE) == Some(&plan.code);
            return Some(if same { "changed input" } else { "changed code" });
        }
        let written = tables.find_in_history(table, FINGERPRINT, |_| true).await;
        Some(if written.is_none() { "first run" } else { "its table was changed" })
    }
}
