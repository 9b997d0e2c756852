//! Layers: files that are shared by several functions, each deployed without a project.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{ObjectId, ProjectFiles, Timestamp};

/// Request to publish a version of a layer. The first version creates the layer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PublishLayer {
    /// A description.
    pub description: String,
    /// The files by path, separated by `/`. Functions import files below `python/` and `nodejs/`.
    pub files: ProjectFiles,
    /// The files as a ZIP archive in Base64, instead of `files`.
    pub archive: Option<String>,
    /// The path of an uploaded ZIP archive on the server's machine, instead of `files`. The archive
    /// is deleted after the version is stored.
    pub upload: Option<String>,
    /// The author; the header `x-headwater-author` by default.
    pub author: Option<String>,
}

/// A version of a layer. A version never changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LayerVersion {
    /// The name of the layer.
    pub layer: String,
    /// The version number, from 1. Numbers of deleted versions are not used again.
    pub version: u64,
    /// The description.
    pub description: String,
    /// The hash of the version's files: the same files have the same hash.
    #[schema(value_type = String)]
    pub code: ObjectId,
    /// The size of the version's files in bytes.
    pub code_bytes: u64,
    /// The time of the version's creation.
    #[schema(value_type = String, format = DateTime)]
    pub created: Timestamp,
    /// The author of the version.
    pub author: String,
}
