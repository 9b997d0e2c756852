//! Finds the tables that a run reads in the state at its start. The merge of the run uses them to
//! check that the runs on the target have a serial order.

use std::collections::BTreeSet;

use headwater_lake::{ReadPosition, ReadSet};
use headwater_model::{CommitId, SYSTEM_NAMESPACE, TableName};

use crate::incremental_reads::position_key;
use crate::plan::Plan;
use crate::{Error, Result};

impl Plan {
    /// Returns the tables, views and read positions that the run reads at the commit `start`.
    /// Tables that the run replaces before it reads them are excluded. The inputs of unchanged
    /// steps are included, because the run read their states to decide that the steps need not run.
    /// With `all`, for a retry, also includes the inputs of steps that are not selected, because
    /// the retried run may have read them.
    pub(crate) async fn read_set(&self, start: CommitId, all: bool) -> Result<ReadSet> {
        let steps: Vec<usize> =
            (0..self.steps.len()).filter(|index| all || self.selection.planned[*index]).collect();
        let mut read: BTreeSet<TableName> = BTreeSet::new();
        let mut positions: BTreeSet<ReadPosition> = BTreeSet::new();
        for index in self.read_steps(&steps) {
            read.insert(self.stored_name(&self.project.steps[index].table).await?);
        }
        for index in steps {
            let step = &self.project.steps[index];
            if self.is_rebuilt(index) {
                let table = self.stored_name(&step.table).await?;
                positions.insert(ReadPosition { table, source: ReadPosition::ALL_SOURCES.into() });
            }
            for input in &step.inputs {
                if input.incremental {
                    let table = self.stored_name(&step.table).await?;
                    positions.insert(ReadPosition { table, source: position_key(input) });
                }
                let is_stored = input.table.namespace != SYSTEM_NAMESPACE;
                if is_stored && self.graph.model(input).is_none() {
                    read.insert(self.stored_name(&input.table).await?);
                }
            }
        }
        if all {
            read.extend(self.tables_of_removed_models(start).await?);
        }
        let mut below = BTreeSet::new();
        for table in &read {
            let entry =
                self.view.state().entry(table).await.map_err(|error| Error::other(&error))?;
            if entry.is_some_and(|entry| entry.is_view()) {
                let found = headwater_engine::tables_below(&self.view, table).await;
                below.extend(found.map_err(|error| Error::other(&error))?.entries.into_keys());
            }
        }
        read.extend(below);
        Ok(ReadSet { start, tables: read, positions, changes_any_position: all })
    }

    /// Returns the tables that the retried run changed and that no model of the project writes now.
    /// The retried run may have had models that the project no longer has.
    async fn tables_of_removed_models(&self, start: CommitId) -> Result<BTreeSet<TableName>> {
        let changes = self.view.lake().catalog().diff(start, self.view.commit()).await;
        let mut changed: BTreeSet<TableName> = changes
            .map_err(|error| Error::other(&error))?
            .into_iter()
            .map(|change| change.table)
            .collect();
        for step in &self.project.steps {
            changed.remove(&self.stored_name(&step.table).await?);
        }
        Ok(changed)
    }

    /// Returns the models whose tables the steps with the indexes `steps` read.
    fn read_steps(&self, steps: &[usize]) -> BTreeSet<usize> {
        let mut read = BTreeSet::new();
        for index in steps.iter().copied() {
            let step = &self.project.steps[index];
            let parents = step.inputs.iter().filter_map(|input| self.graph.model(input));
            read.extend(parents.filter(|parent| self.keeps_rows(*parent)));
            // A rebuild or an overwrite filter removes rows of the model's own table, so the table
            // counts as read. Other incremental models read only the read positions in their table.
            let deletes = self.is_rebuilt(index) || step.overwrite_filter.is_some();
            if deletes || self.is_unchanged(index) {
                read.insert(index);
            }
        }
        read.retain(|index| self.project.steps[*index].is_materialized());
        read
    }

    /// Returns true if the run uses the existing table of a step without running the step.
    fn is_unchanged(&self, index: usize) -> bool {
        let plan = &self.steps[index];
        plan.reason.is_none() && plan.reuses.is_none()
    }

    /// Returns true if, after the run, the table of a step contains rows from before the run.
    fn keeps_rows(&self, index: usize) -> bool {
        self.project.steps[index].materialization.accumulates() || self.is_unchanged(index)
    }

    /// Returns the name of a table in the spelling of the catalog, which may differ in case.
    async fn stored_name(&self, table: &TableName) -> Result<TableName> {
        let found = self.view.state().find(&table.namespace, &table.name).await;
        let found = found.map_err(|error| Error::other(&error))?;
        Ok(found.map_or_else(|| table.clone(), |(name, _)| name))
    }
}
