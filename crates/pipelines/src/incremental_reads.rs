//! Incremental inputs: the rows that were appended since the last run of the model.
//!
//! When an incremental model writes its table, the new snapshot records, for each input, the last
//! snapshot that the model has read (the read position). Each branch therefore has its own read
//! positions, and a run that fails or is not merged does not advance them.

use std::collections::BTreeMap;

use headwater_engine::TableFileSubset;
use headwater_lake::CommitView;
use headwater_model::TableName;
use headwater_project::{Materialization, Step, StepInput};
use headwater_tables::{READ_UP_TO, ScanPlan, SnapshotAncestry, Table};

use crate::plan::Plan;
use crate::{Error, Result};

/// Placeholder for the snapshot id in a read position: the source had no snapshot.
const EMPTY: &str = "-";

/// Placeholder for the snapshot id in a read position: the model must read its source from the
/// start, because a rebuild by another project removed the rows that the model had added.
const START: &str = "start";

/// New files that an incremental step reads, and its new read positions.
#[derive(Debug, Default)]
pub(crate) struct IncrementalReads {
    /// New files by input index. Inputs without an entry are read completely.
    pub new: BTreeMap<usize, TableFileSubset>,
    /// Snapshot properties that record the new read positions.
    pub read: BTreeMap<String, String>,
}

/// The part of an input that is new to a model.
enum NewInputRows {
    All,
    Files(ScanPlan),
}

impl Plan {
    /// Returns true if an incremental step is rebuilt from its complete input.
    pub(crate) fn is_rebuilt(&self, index: usize) -> bool {
        self.full && self.project.steps[index].is_incremental()
    }

    /// Returns the new files that a step reads at a catalog state, and its new read positions.
    pub(crate) async fn increments(
        &self,
        index: usize,
        view: &CommitView,
    ) -> Result<IncrementalReads> {
        let step = &self.project.steps[index];
        let mut increments = IncrementalReads::default();
        if !step.is_incremental() {
            return Ok(increments);
        }
        let existing = find(view, &step.table).await?;
        if let Some((_, table)) = &existing {
            // The new snapshot also records the read positions of other projects' models that write
            // to this table. A merge finds only the positions that the table's metadata file lists,
            // and this file lists only the newest snapshots.
            increments.read = SnapshotAncestry::of(table).read_up_to();
        }
        if self.is_rebuilt(index) {
            // A rebuild also removes the rows that models of other projects added to the table, so
            // these models must read all rows again.
            increments.read.values_mut().for_each(set_to_start);
            for input in &step.inputs {
                increments.read.remove(&position_key(input));
            }
        }
        let own = existing.filter(|_| !self.is_rebuilt(index));
        for (number, input) in step.inputs.iter().enumerate().filter(|(_, one)| one.incremental) {
            let Some((name, table)) = find(view, &input.table).await? else { continue };
            let now = table.snapshot_id().map_or(EMPTY.to_owned(), |id| id.to_string());
            increments.read.insert(position_key(input), format!("{} {now}", table.id()));
            let new = match &own {
                Some((_, own)) => self.new_of(view, step, input, own, &table).await?,
                None => NewInputRows::All,
            };
            if let NewInputRows::Files(files) = new {
                let (table, id) = (name, table.id());
                increments.new.insert(number, TableFileSubset { table, id, files });
            }
        }
        Ok(increments)
    }

    /// Returns the new rows of one input. If the new rows cannot be determined, a `merge` model
    /// reads all rows again. An `append` model fails, because it would append rows twice.
    async fn new_of(
        &self,
        view: &CommitView,
        step: &Step,
        input: &StepInput,
        own: &Table,
        table: &Table,
    ) -> Result<NewInputRows> {
        let tables = view.lake().tables();
        let read = tables.history().find_since_merged(own, &position_key(input)).await;
        let since = read.as_deref().map(|read| read.split_once(' ').unwrap_or_default());
        let files = match since {
            Some((id, EMPTY | START)) if id == table.id() => return Ok(NewInputRows::All),
            Some((id, snapshot)) if id == table.id() => match snapshot.parse() {
                Ok(snapshot) => tables.history().appended(table, snapshot).await,
                Err(_) => Ok(None),
            },
            _ => Ok(None),
        };
        match (files.map_err(|error| Error::other(&error))?, step.materialization) {
            (Some(files), _) => Ok(NewInputRows::Files(files)),
            (None, Materialization::Merge) => Ok(NewInputRows::All),
            (None, _) => Err(Error::NotIncremental {
                step: step.name.clone(),
                table: input.table.to_string(),
                known: read.is_some(),
                at: input.at.clone(),
            }),
        }
    }

    /// Returns true if a rebuild by another project removed rows that a step had added to its
    /// table.
    pub(crate) async fn lost_rows(&self, step: &Step, own: &Table) -> bool {
        let history = self.view.lake().tables().history();
        for input in step.inputs.iter().filter(|input| input.incremental) {
            let read = history.find_since_merged(own, &position_key(input)).await;
            if read.is_some_and(|read| read.ends_with(START)) {
                return true;
            }
        }
        false
    }

    /// Fails before the run if a step has an incremental input whose new rows cannot be determined.
    pub(crate) async fn check_increments(&self, index: usize) -> Result<()> {
        let step = &self.project.steps[index];
        for input in step.inputs.iter().filter(|input| input.incremental) {
            let Some(parent) = self.graph.model(input).map(|at| &self.project.steps[at]) else {
                continue;
            };
            if parent.materialization != Materialization::Append {
                let message = format!(
                    "`{}` reads `{parent}` incrementally, but `{parent}` does not append rows to a \
                     table",
                    step.name,
                    parent = parent.name
                );
                let hint =
                    "Set the materialization of that model to `append`, or read the whole table.";
                return Err(Error::invalid(input.at.clone(), message, hint));
            }
        }
        self.increments(index, &self.view).await.map(drop)
    }
}

/// Changes a read position so that the model reads its source from the start.
fn set_to_start(position: &mut String) {
    *position = format!("{} {START}", position.split(' ').next().unwrap_or_default());
}

async fn find(view: &CommitView, name: &TableName) -> Result<Option<(TableName, Table)>> {
    let found = view.find(&name.namespace, &name.name).await;
    found.map_err(|error| Error::other(&error))
}

/// Returns the name of the snapshot property that contains the read position of an input.
pub(crate) fn position_key(input: &StepInput) -> String {
    format!("{READ_UP_TO}{}.{}", input.table.namespace, input.table.name).to_lowercase()
}
