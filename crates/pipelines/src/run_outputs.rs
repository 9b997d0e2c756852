//! Declared outputs of models that a merged run has not written yet.
//!
//! The batch that merges a run also stores its outputs: the addresses, and the commit with the
//! tables. So the outputs are written even if the server is killed after the merge. Each output is
//! removed from the store when it is written. This crate writes no output.

use bytes::Bytes;
use headwater_model::{Actor, CommitId, ErrorCode, JobId, Problem, TableName, Timestamp};
use headwater_store::{RefChange, RefPrecondition, WriteBatch};
use serde::{Deserialize, Serialize};

use crate::plan::Plan;
use crate::run_context::RunContext;
use crate::{Error, Result, Runner};

/// Prefix of the store's refs that hold the pending outputs: `run-output/JOB`.
const PREFIX: &str = "run-output/";

/// Number of refs that are read at a time.
const PAGE: usize = 100;

/// The outputs of a merged run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PendingOutputs {
    /// The project's name.
    pub project: String,
    /// The branch into which the run was merged.
    pub branch: String,
    /// The job of the run.
    pub job: JobId,
    /// The time of the merge.
    pub created: Timestamp,
    /// The commit with the tables of the models.
    pub commit: CommitId,
    /// The identity of the run, whose rights the outputs use.
    pub actor: Actor,
    /// The outputs that are not written yet.
    pub outputs: Vec<ModelOutput>,
}

/// An address to which the rows of a model's table are written.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ModelOutput {
    /// The namespace of the model's table.
    pub namespace: String,
    /// The name of the model's table.
    pub name: String,
    /// The address to which the rows are written.
    pub address: String,
}

impl ModelOutput {
    fn is_of(&self, table: &TableName) -> bool {
        self.namespace == table.namespace && self.name == table.name
    }
}

impl Runner {
    /// Returns the ref change that records the outputs of a run; `None` if there are none. `commit`
    /// has the tables of the run. Models whose tables did not change have no output. A runner
    /// without an identity records no outputs.
    pub(crate) async fn record_outputs(
        &self,
        plan: &Plan,
        work: &RunContext,
        commit: CommitId,
    ) -> Result<Option<RefChange>> {
        let Some(actor) = self.actor.clone() else { return Ok(None) };
        let declared = plan.project.steps.iter().flat_map(|step| {
            step.outputs.iter().map(move |address| ModelOutput {
                namespace: step.table.namespace.clone(),
                name: step.table.name.clone(),
                address: address.clone(),
            })
        });
        let mut outputs: Vec<ModelOutput> = declared.collect();
        if outputs.is_empty() {
            return Ok(None);
        }
        let changes = self.lake().catalog().diff(work.start, commit).await;
        let changes = changes.map_err(|error| Error::other(&error))?;
        outputs.retain(|output| {
            changes.iter().any(|change| change.to.is_some() && output.is_of(&change.table))
        });
        if outputs.is_empty() {
            return Ok(None);
        }
        let pending = PendingOutputs {
            project: plan.project.name.clone(),
            branch: work.target.clone(),
            job: work.context.id(),
            created: chrono::Utc::now(),
            commit,
            actor,
            outputs,
        };
        pending.change().map(Some)
    }

    /// Returns the outputs that runs of a project on a branch have not written yet, oldest first.
    pub async fn pending_outputs(
        &self,
        project: &str,
        branch: &str,
    ) -> Result<Vec<PendingOutputs>> {
        let (mut found, mut after): (Vec<PendingOutputs>, Option<String>) = (Vec::new(), None);
        loop {
            let page = self.lake().store().references(PREFIX, after.as_deref(), PAGE).await;
            let page = page.map_err(|error| Error::other(&error))?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            let stored = page.iter().filter_map(|(_, value)| serde_json::from_slice(value).ok());
            let is_own = |one: &PendingOutputs| one.project == project && one.branch == branch;
            found.extend(stored.filter(is_own));
        }
        found.sort_by_key(|one| one.created);
        Ok(found)
    }

    /// Removes the first of the pending outputs, after it has been written.
    pub async fn remove_output(&self, pending: &mut PendingOutputs) -> Result<()> {
        pending.outputs.remove(0);
        self.store_outputs(pending).await
    }

    /// Removes all outputs, so that they are never written.
    pub async fn discard_outputs(&self, mut pending: PendingOutputs) -> Result<()> {
        pending.outputs.clear();
        self.store_outputs(&pending).await
    }

    async fn store_outputs(&self, pending: &PendingOutputs) -> Result<()> {
        let batch = WriteBatch { refs: vec![pending.change()?], ..WriteBatch::default() };
        let applied = self.lake().store().apply(batch).await;
        applied.map(drop).map_err(|error| Error::other(&error))
    }
}

impl PendingOutputs {
    fn change(&self) -> Result<RefChange> {
        let value = if self.outputs.is_empty() {
            None
        } else {
            let encoded = serde_json::to_vec(self);
            let internal = |error: serde_json::Error| {
                Error::from(Problem::new(ErrorCode::Internal, error.to_string()))
            };
            Some(Bytes::from(encoded.map_err(internal)?))
        };
        let name = format!("{PREFIX}{}", self.job);
        Ok(RefChange { name, expected: RefPrecondition::Anything, value })
    }
}
