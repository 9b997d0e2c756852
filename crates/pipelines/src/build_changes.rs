//! Finds the changes since the last build of a model. The last build is recorded in a property of
//! the model's table or view.

use headwater_build_records::{BUILD, BuildRecord, snapshot_property};
use headwater_tables::Table;

use crate::plan::Plan;

impl Plan {
    /// Returns the build record of a table: the record in its current snapshot, or else the newest
    /// record in its history.
    pub(crate) async fn last_build(&self, table: &Table) -> Option<BuildRecord> {
        let text = match snapshot_property(table, BUILD) {
            Some(text) => Some(text.clone()),
            None => self.view.lake().tables().history().find(table, BUILD, |_| true).await,
        };
        serde_json::from_str(&text?).ok()
    }

    /// Returns the changes since the last build of a step, one phrase each, such as "table `trips`
    /// changed". A plan shows these phrases as the details of the reason to run the step.
    pub(crate) async fn changes_since_build(&self, index: usize) -> Vec<String> {
        let plan = &self.steps[index];
        if matches!(plan.reason, None | Some("first run" | "no cache")) {
            return Vec::new();
        }
        if plan.reason == Some("changed environment") {
            return plan.why.clone();
        }
        let before = match (&plan.table, &plan.lake_view) {
            (Some(table), _) => self.last_build(table).await,
            (None, Some(view)) => {
                let record = view.properties().remove(BUILD);
                record.and_then(|record| serde_json::from_str(&record).ok())
            }
            (None, None) => return self.running_parents(index),
        };
        let mut why = before.map_or_else(Vec::new, |before| plan.record.changes_since(&before));
        // A model that this step reads changes its table if the model runs. So list such a model as
        // a change, too.
        for parent in self.running_parents(index) {
            if !why.iter().any(|change| change.starts_with(&parent)) {
                why.push(parent);
            }
        }
        why
    }

    fn running_parents(&self, index: usize) -> Vec<String> {
        let parents = self.graph.parents[index].iter();
        let stored = parents.filter(|parent| {
            self.steps[**parent].reason.is_some() && self.project.steps[**parent].is_materialized()
        });
        stored.map(|one| format!("table `{}` changed", self.project.steps[*one].table)).collect()
    }
}
