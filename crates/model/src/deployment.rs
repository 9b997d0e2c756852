//! Deployments: immutable versions of a project, one of which is active.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{ChangeKind, ObjectId, ProjectFiles, Timestamp};

/// Request for a deployment. It contains the files of the project.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct DeployRequest {
    /// The project's files by path, relative to its root and separated by `/`: the project file,
    /// SQL and Python files, and the files that functions use.
    pub files: ProjectFiles,
    /// Only validate and compare; deploy nothing.
    pub dry_run: bool,
    /// The author; the header `x-headwater-author` by default.
    pub author: Option<String>,
}

/// A deployed version of a project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Deployment {
    /// The hash of the version's files: the same files have the same version.
    #[schema(value_type = String)]
    pub version: ObjectId,
    /// The project's name.
    pub project: String,
    /// The time at which the version was last deployed.
    #[schema(value_type = String, format = DateTime)]
    pub deployed: Timestamp,
    /// The author of the last deployment of the version.
    pub author: String,
    /// True if this version is active.
    pub active: bool,
    /// The callable functions, by name.
    pub functions: Vec<String>,
    /// The triggers, by name.
    pub triggers: Vec<String>,
    /// The number of models.
    pub models: u64,
    /// The paths of the version's files.
    pub files: Vec<String>,
}

/// The outcome of a deployment, a rollback or a dry run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeployReport {
    /// The deployed version.
    pub deployment: Deployment,
    /// True if the request was a dry run, so that nothing was deployed.
    pub dry_run: bool,
    /// The version that was active before; null for the first deployment.
    #[schema(value_type = Option<String>)]
    pub previous: Option<ObjectId>,
    /// The differences from the version that was active before, sorted by kind and name.
    pub changes: Vec<DeployChange>,
    /// Problems that do not prevent the deployment, such as a trigger on a missing branch.
    pub warnings: Vec<String>,
}

/// One difference between two versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeployChange {
    /// The kind of the object.
    pub kind: DeployedKind,
    /// The object's name or path.
    pub name: String,
    /// The kind of change: `added`, `removed` or `changed`.
    pub change: ChangeKind,
}

/// A kind of object in a version.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum DeployedKind {
    /// A trigger.
    Trigger,
    /// A callable function.
    Function,
    /// A file.
    File,
}
