//! The order of step reports: the report of a step follows the reports of its parents, which are
//! the steps that it reads. A step may end before the report of a parent is complete, because the
//! parent's process has not exited yet.

use std::collections::BTreeMap;

use headwater_model::StepReport;
use headwater_project::StepGraph;

/// Reports of ended steps, each held back until the reports of its parents are complete.
pub(super) struct ReportReorderBuffer<'a> {
    graph: &'a StepGraph,
    is_noted: Vec<bool>,
    held: BTreeMap<usize, StepReport>,
}

impl<'a> ReportReorderBuffer<'a> {
    pub fn new(graph: &'a StepGraph) -> Self {
        let is_noted = vec![false; graph.parents.len()];
        ReportReorderBuffer { graph, is_noted, held: BTreeMap::new() }
    }

    /// Adds a report, and returns the reports that can be recorded now, in order.
    pub fn ended(&mut self, step: usize, report: StepReport) -> Vec<(usize, StepReport)> {
        self.held.insert(step, report);
        let mut ready = Vec::new();
        while let Some(step) = self.next_ready() {
            if let Some(report) = self.held.remove(&step) {
                self.is_noted[step] = true;
                ready.push((step, report));
            }
        }
        ready
    }

    /// Returns the reports whose parents have no report, because the parents ended with an internal
    /// error.
    pub fn into_remaining(self) -> impl Iterator<Item = (usize, StepReport)> {
        self.held.into_iter()
    }

    fn next_ready(&self) -> Option<usize> {
        let is_ready =
            |step: &usize| self.graph.parents[*step].iter().all(|parent| self.is_noted[*parent]);
        self.held.keys().copied().find(is_ready)
    }
}
