//! Maintenance of tables: request, report and record.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{CommitId, TableName, Timestamp};

/// Request to maintain a table, or all tables of a branch. Only the requested tasks run. If none is
/// requested, the defaults are compaction, rewriting of files with many deleted rows and merging of
/// manifests.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MaintainRequest {
    /// Compact small data files up to the table's `write.target-file-size-bytes`, and rewrite files
    /// with many deleted rows.
    pub compact: bool,
    /// Rewrite all data files sorted by these columns: `column` or `column desc`.
    pub sort: Vec<String>,
    /// Rewrite all data files in a z-order of these columns.
    pub zorder: Vec<String>,
    /// Merge manifests.
    pub manifests: bool,
    /// Remove the files of table states that were superseded more than this number of seconds ago.
    pub expire_before_seconds: Option<u64>,
    /// Keep this number of table states on each branch and remove the files of older states. With
    /// `expire_before_seconds`, a state expires only if both settings allow it.
    pub keep: Option<u64>,
    /// Remove unreferenced files: files that no reachable commit needs.
    pub orphans: bool,
    /// Remove files, of all tables, that are referenced only by deleted branches and tags. A server
    /// also removes these files automatically.
    pub deleted_refs: bool,
    /// Minimum time in seconds since an unreferenced file was written, or since a branch or tag was
    /// deleted. Three days by default, at least one hour.
    pub orphans_older_than_seconds: Option<u64>,
    /// Remove unreferenced files even if most files are unreferenced, for example after the loss of
    /// the lake's database.
    pub force: bool,
    /// Return the report without changing anything.
    pub dry_run: bool,
    /// The author of the commits.
    pub author: Option<String>,
}

impl MaintainRequest {
    /// Returns true if the request contains any task.
    pub fn has_tasks(&self) -> bool {
        self.rewrites_files()
            || self.manifests
            || self.expires()
            || self.orphans
            || self.deleted_refs
    }

    /// Returns true if the request rewrites data files.
    pub fn rewrites_files(&self) -> bool {
        self.compact || !self.sort.is_empty() || !self.zorder.is_empty()
    }

    /// Returns true if the request expires table states.
    pub fn expires(&self) -> bool {
        self.expire_before_seconds.is_some() || self.keep.is_some()
    }
}

/// The result of maintenance, or its estimate in a dry run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MaintainReport {
    /// The branch.
    pub branch: String,
    /// The tables, by name.
    pub tables: Vec<MaintainedTable>,
    /// The removed files; absent if no removal was requested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed_files: Option<RemovedFiles>,
    /// True for a dry run, which changes nothing.
    pub dry_run: bool,
}

/// The maintenance of one table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MaintainedTable {
    /// The table.
    #[schema(value_type = String)]
    pub table: TableName,
    /// Number of data files that were replaced.
    pub files_rewritten: u64,
    /// Bytes of the replaced data files.
    pub bytes_rewritten: u64,
    /// Number of data files written; 0 in a dry run.
    pub files_written: u64,
    /// Bytes of the written data files.
    pub bytes_written: u64,
    /// Number of delete files removed.
    pub delete_files_removed: u64,
    /// Number of manifests before maintenance.
    pub manifests_before: u64,
    /// Number of manifests after maintenance.
    pub manifests_after: u64,
    /// Number of snapshots removed from the table metadata.
    pub snapshots_expired: u64,
    /// Number of data files after maintenance.
    pub files_after: u64,
    /// The last commit that the maintenance made; null if nothing changed.
    #[schema(value_type = Option<String>)]
    pub commit: Option<CommitId>,
    /// The reason why some work was postponed, such as a conflict with a writer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped_reason: Option<String>,
}

/// Removed files; in a dry run, the files that would be removed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RemovedFiles {
    /// Number of expired table states.
    pub states_expired: u64,
    /// Number of files that only the expired states needed.
    pub files_expired: u64,
    /// Bytes of the files counted in `files_expired`.
    pub bytes_expired: u64,
    /// Number of unreferenced files.
    pub orphans: u64,
    /// Bytes of the unreferenced files.
    pub orphan_bytes: u64,
    /// Number of unreferenced files that are too recent to remove.
    pub too_recent: u64,
    /// Tables whose files were not removed, because some of their metadata cannot be read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped_tables: Vec<SkippedTable>,
}

/// A table whose files were not removed, because the files that the table needs are not known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SkippedTable {
    /// The current or last name of the table.
    #[schema(value_type = String)]
    pub table: TableName,
    /// The error of the unreadable file.
    pub reason: String,
}

/// The last maintenance of a table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TableMaintenance {
    /// The maintained table.
    #[schema(value_type = String)]
    pub table: TableName,
    /// The branch on which the table was maintained.
    pub branch: String,
    /// The time of the maintenance.
    #[schema(value_type = String, format = DateTime)]
    pub time: Timestamp,
    /// The author of the request; `maintenance` for automatic maintenance.
    pub author: String,
    /// Number of data files that were replaced.
    pub files_rewritten: u64,
    /// Number of data files written.
    pub files_written: u64,
    /// Number of delete files removed.
    pub delete_files_removed: u64,
    /// Number of files removed from storage.
    pub files_removed: u64,
    /// Bytes of the removed files.
    pub bytes_freed: u64,
    /// The reason why some work was postponed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped_reason: Option<String>,
}
