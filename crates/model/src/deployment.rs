//! Deployments: immutable versions of a project, one of which is in force.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{ChangeKind, ObjectId, Timestamp};

/// Asks for a deployment. The project travels with the request, so that what is deployed is what was
/// sent.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct DeployRequest {
    /// The project's files by path relative to its root, with `/`: `headwater.toml`, SQL and Python
    /// files.
    pub files: BTreeMap<String, String>,
    /// Validate and compare, and deploy nothing.
    pub dry_run: bool,
    /// The author; the header `x-headwater-author` by default.
    pub author: Option<String>,
}

/// A deployed version of a project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Deployment {
    /// The hash of its files: the same files have the same version.
    #[schema(value_type = String)]
    pub version: ObjectId,
    /// The project's name.
    pub project: String,
    /// The time of its last deployment.
    #[schema(value_type = String, format = DateTime)]
    pub deployed: Timestamp,
    /// The author of its last deployment.
    pub author: String,
    /// Whether this version is in force.
    pub active: bool,
    /// The functions that can be called, by name.
    pub functions: Vec<String>,
    /// The triggers, by name.
    pub triggers: Vec<String>,
    /// The number of models.
    pub models: u64,
    /// The paths of its files.
    pub files: Vec<String>,
}

/// The outcome of a deployment, a rollback or a dry run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeployReport {
    /// The version.
    pub deployment: Deployment,
    /// Whether nothing was deployed, because the request asked only for validation.
    pub dry_run: bool,
    /// The version that was in force before; none for the first.
    #[schema(value_type = Option<String>)]
    pub previous: Option<ObjectId>,
    /// The differences to the version that was in force before, sorted by kind and name.
    pub changes: Vec<DeployChange>,
    /// Problems that do not prevent the deployment, such as a trigger on a missing branch.
    pub warnings: Vec<String>,
}

/// One difference between two versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeployChange {
    /// What differs.
    pub kind: DeployedKind,
    /// Its name, or its path.
    pub name: String,
    /// How it differs: `added`, `removed` or `changed`.
    pub change: ChangeKind,
}

/// What a version holds.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum DeployedKind {
    /// A trigger.
    Trigger,
    /// A function that can be called.
    Function,
    /// A file.
    File,
}
