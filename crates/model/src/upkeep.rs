//! Upkeep: keeping tables small and clean, and what it did.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{CommitId, TableName, Timestamp};

/// Asks for upkeep of a table, or of all tables of a branch. What is not asked for is not done;
/// where nothing is, small files are put together, deletes folded in and manifests arranged.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MaintainRequest {
    /// Put small data files together, up to the table's `write.target-file-size-bytes`, and write
    /// files anew that lost many rows to delete files.
    pub compact: bool,
    /// Write all data files anew, sorted by these columns: `column` or `column desc`.
    pub sort: Vec<String>,
    /// Write all data files anew, in a z-order of these columns.
    pub zorder: Vec<String>,
    /// Put what many manifests say into few.
    pub manifests: bool,
    /// Remove the files of states of the table that were superseded longer ago than this, in
    /// seconds.
    pub expire_before_seconds: Option<u64>,
    /// Remove the files of all states of the table but the last so many of each branch. With
    /// `expire_before_seconds`, those that both say.
    pub keep: Option<u64>,
    /// Remove files that no branch, no tag and no commit that leads to one needs.
    pub orphans: bool,
    /// Remove files that only branches and tags led to which were deleted, of whatever table. A
    /// server does so by itself.
    pub deleted_refs: bool,
    /// How long ago those files were written, and those branches and tags deleted, at least, in
    /// seconds: three days where it is not said, and no less than an hour.
    pub orphans_older_than_seconds: Option<u64>,
    /// Remove those files even where they are most of what is there, as after a loss of the lake's
    /// database.
    pub force: bool,
    /// Say what would be done, and do nothing.
    pub dry_run: bool,
    /// Who asks.
    pub author: Option<String>,
}

impl MaintainRequest {
    /// Whether anything is asked for by name.
    pub fn names_work(&self) -> bool {
        self.arranges() || self.manifests || self.expires() || self.orphans || self.deleted_refs
    }

    /// Whether data files are to be written anew.
    pub fn arranges(&self) -> bool {
        self.compact || !self.sort.is_empty() || !self.zorder.is_empty()
    }

    /// Whether states of the table are to lose their files.
    pub fn expires(&self) -> bool {
        self.expire_before_seconds.is_some() || self.keep.is_some()
    }
}

/// What upkeep did, or would do.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MaintainReport {
    /// The branch.
    pub branch: String,
    /// The tables, by name.
    pub tables: Vec<MaintainedTable>,
    /// Files that were removed; none where none were looked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swept: Option<SweptFiles>,
    /// Whether nothing was done.
    pub dry_run: bool,
}

/// What upkeep did to one table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MaintainedTable {
    /// The table.
    #[schema(value_type = String)]
    pub table: TableName,
    /// Data files that were written anew.
    pub files_rewritten: u64,
    /// Bytes of those.
    pub bytes_rewritten: u64,
    /// Data files that came in their place; 0 in a dry run.
    pub files_written: u64,
    /// Bytes of those.
    pub bytes_written: u64,
    /// Delete files that went.
    pub delete_files_removed: u64,
    /// Manifests before.
    pub manifests_before: u64,
    /// Manifests after.
    pub manifests_after: u64,
    /// Snapshots that the metadata file does not list any more.
    pub snapshots_expired: u64,
    /// Data files after.
    pub files_after: u64,
    /// The last commit that was made; none where nothing was to do.
    #[schema(value_type = Option<String>)]
    pub commit: Option<CommitId>,
    /// Why some of it was left for the next time: others changed the same files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gave_up: Option<String>,
}

/// Files that were removed, or would be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SweptFiles {
    /// States of tables that lost their files because they were superseded long ago.
    pub states_expired: u64,
    /// Files of those states.
    pub files_expired: u64,
    /// Bytes of those.
    pub bytes_expired: u64,
    /// Files that nothing needed.
    pub orphans: u64,
    /// Bytes of those.
    pub orphan_bytes: u64,
    /// Files that nothing needs, and that are too young to be removed.
    pub young: u64,
    /// Tables that cannot be read as a whole, so that nothing was removed which may be theirs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spared: Vec<SparedTable>,
}

/// A table whose files are left as they are, since nobody can tell which of them it needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SparedTable {
    /// The table, by the name that it has or had.
    #[schema(value_type = String)]
    pub table: TableName,
    /// What cannot be read, and why.
    pub reason: String,
}

/// When a table was kept last, and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TableUpkeep {
    /// The table.
    #[schema(value_type = String)]
    pub table: TableName,
    /// The branch.
    pub branch: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub time: Timestamp,
    /// Who asked for it; `upkeep` where it went by itself.
    pub author: String,
    /// Data files that were written anew.
    pub files_rewritten: u64,
    /// Data files that came in their place.
    pub files_written: u64,
    /// Delete files that went.
    pub delete_files_removed: u64,
    /// Files that were removed, and bytes of those.
    pub files_removed: u64,
    /// Bytes that were freed.
    pub bytes_freed: u64,
    /// Why some of it was left for the next time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gave_up: Option<String>,
}
