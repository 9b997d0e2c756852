//! The payload of a job: the request that it executes, as it is recorded with the job.

use headwater_model::{Actor, CommitId, ErrorCode, Problem};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A request, with the identity whose rights its job uses.
#[derive(Debug, Serialize, Deserialize)]
pub struct JobPayload<T> {
    /// The request that the job executes.
    #[serde(flatten)]
    pub request: T,
    /// The identity whose rights the job uses.
    #[serde(default)]
    pub actor: Actor,
    /// The commit at which the target branch was created, if it was created for this job; `None` if
    /// the branch existed before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_branch: Option<CommitId>,
}

impl<T> JobPayload<T> {
    /// Creates the request of a job for which no branch was created.
    pub fn new(request: T, actor: Actor) -> Self {
        JobPayload { request, actor, new_branch: None }
    }
}

/// Returns the request of a recorded job. Errors: `corrupt`.
pub fn read<T: DeserializeOwned>(payload: Value) -> Result<T, Problem> {
    serde_json::from_value(payload).map_err(|error| {
        let message = format!("the recorded request cannot be read: {error}");
        Problem::new(ErrorCode::Corrupt, message)
    })
}
