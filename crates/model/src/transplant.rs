//! Asking for the change of one commit to be made again on a branch, or to be undone there.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{MergeChoice, RefSpec, TableName};

/// Asks to make the change of a commit again on a branch.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct CherryPickRequest {
    /// The commit: what it changed since its first parent.
    #[schema(value_type = String)]
    pub commit: RefSpec,
    /// The message of the new commit; that of the commit where none is given.
    #[serde(default)]
    pub message: Option<String>,
    /// Say what would happen and change nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// Take what a failed run wrote all the same.
    #[serde(default)]
    pub unchecked: bool,
    /// What to do about tables in conflict.
    #[serde(default)]
    pub on_conflict: MergeChoice,
    /// The same for single tables, by name.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, MergeChoice>)]
    pub choices: BTreeMap<TableName, MergeChoice>,
}

/// Asks to undo a commit of a branch, or what a run wrote there.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct RevertRequest {
    /// The commit; this or a run.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub commit: Option<RefSpec>,
    /// The run, by its job's id: all tables that it wrote go back together.
    #[serde(default)]
    pub run: Option<String>,
    /// Undo the change of these tables alone; of all where none is named.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub tables: Vec<TableName>,
    /// Undo some tables of a commit that changed several, though they belong together.
    #[serde(default)]
    pub partial: bool,
    /// The message of the new commit; one is made where none is given.
    #[serde(default)]
    pub message: Option<String>,
    /// Say what would happen and change nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// Change a branch that requires checks though nobody has checked what it will be.
    #[serde(default)]
    pub unchecked: bool,
    /// What to do about tables in conflict.
    #[serde(default)]
    pub on_conflict: MergeChoice,
    /// The same for single tables, by name.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, MergeChoice>)]
    pub choices: BTreeMap<TableName, MergeChoice>,
}
