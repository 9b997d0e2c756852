//! The rights that a commit needs, and the constraints on commits of clients that may not
//! administer the table.

use std::collections::{BTreeSet, HashSet};

use headwater_model::Action;
use headwater_table_format::storage::normalised_location;
use iceberg::TableUpdate;
use iceberg::spec::{
    DataContentType, MAIN_BRANCH, Operation, Snapshot, SnapshotRef, TableMetadata,
};

use crate::apply_updates::is_different_location;
use crate::file_checks::reject;
use crate::{Error, RestTables, Result, TableCommit};

/// Constraints on a commit. Without constraints, both fields are false.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CommitConstraints {
    /// True if new files must be inside the table's location, and the location must not change.
    /// Otherwise a client could add the files of another table to its own table, and so read rows
    /// of the other table.
    pub own_files: bool,
    /// True if snapshots must keep all existing files and add no delete files, so that the commit
    /// only appends rows.
    pub only_appends: bool,
}

/// The identity of a data file or delete file in a snapshot. It includes an offset, because one
/// file can contain several deletion vectors.
#[derive(Debug, PartialEq, Eq, Hash)]
struct LiveFile {
    location: String,
    offset: Option<i64>,
    is_data: bool,
}

impl TableCommit {
    /// Returns the commit with these constraints.
    #[must_use]
    pub fn with_constraints(mut self, constraints: CommitConstraints) -> Self {
        self.constraints = constraints;
        self
    }

    /// Returns the actions on the table that the client needs permission for. They depend on the
    /// operations in the summaries of the commit's snapshots. If a summary states that the commit
    /// only appends rows, [`CommitConstraints::only_appends`] ensures that this is true.
    pub fn actions(&self) -> BTreeSet<Action> {
        if self.creates() {
            let insert = self.adds().then_some(Action::Insert);
            return insert.into_iter().chain([Action::Create]).collect();
        }
        let added: HashSet<i64> = self.added().map(Snapshot::snapshot_id).collect();
        let mut actions = BTreeSet::from([Action::Select]);
        for update in &self.updates {
            let needed: &[Action] = match update {
                TableUpdate::AddSnapshot { snapshot }
                    if snapshot.summary().operation == Operation::Append =>
                {
                    &[Action::Insert]
                }
                TableUpdate::AddSnapshot { .. } => {
                    &[Action::Insert, Action::Update, Action::Delete]
                }
                TableUpdate::SetSnapshotRef { ref_name, reference } if ref_name == MAIN_BRANCH => {
                    let is_new = added.contains(&reference.snapshot_id);
                    if is_new { &[] } else { &[Action::Update, Action::Delete] }
                }
                TableUpdate::RemoveSnapshotRef { ref_name } if ref_name == MAIN_BRANCH => {
                    &[Action::Update, Action::Delete]
                }
                TableUpdate::RemoveSnapshots { .. } => &[Action::Delete],
                TableUpdate::AssignUuid { .. } => &[],
                _ => &[Action::Alter],
            };
            actions.extend(needed);
        }
        actions
    }

    /// Rejects an update that the constraints forbid. The files of snapshots are checked later,
    /// when their manifests are read.
    pub(crate) fn check_update(&self, before: &TableMetadata, update: &TableUpdate) -> Result<()> {
        if !self.constraints.own_files {
            return Ok(());
        }
        match update {
            TableUpdate::SetLocation { location }
                if is_different_location(location, before.location()) =>
            {
                let reason = "only an administrator can move a table".to_owned();
                Err(Error::Refused { reason })
            }
            TableUpdate::SetStatistics { statistics } => {
                check_folder(before.location(), &statistics.statistics_path)
            }
            TableUpdate::SetPartitionStatistics { partition_statistics } => {
                check_folder(before.location(), &partition_statistics.statistics_path)
            }
            _ => Ok(()),
        }
    }
}

/// Rejects a file that is outside a folder.
pub(crate) fn check_folder(folder: &str, location: &str) -> Result<()> {
    let (folder, file) = (normalised_location(folder), normalised_location(location));
    if file.strip_prefix(&*folder).is_some_and(|rest| rest.starts_with('/')) {
        return Ok(());
    }
    let reason = format!(
        "`{location}` is not in the table's location `{folder}`, and only an administrator can \
         add files from elsewhere"
    );
    Err(Error::Refused { reason })
}

impl RestTables<'_> {
    /// Rejects a snapshot that removes a file of the current snapshot, or adds a delete file.
    pub(crate) async fn check_appends(
        self,
        before: &TableMetadata,
        added: &[SnapshotRef],
    ) -> Result<()> {
        let kept = match before.current_snapshot() {
            Some(snapshot) => self.live_files(snapshot).await?,
            None => HashSet::new(),
        };
        for snapshot in added {
            let live = self.live_files(snapshot).await.map_err(reject)?;
            if !kept.is_subset(&live) || live.difference(&kept).any(|file| !file.is_data) {
                let id = snapshot.snapshot_id();
                let reason = format!("snapshot {id} is an append but removes rows");
                return Err(Error::Refused { reason });
            }
        }
        Ok(())
    }

    async fn live_files(self, snapshot: &SnapshotRef) -> Result<HashSet<LiveFile>> {
        let mut files = HashSet::new();
        for manifest in self.tables.metadata_files().manifests(snapshot).await?.iter() {
            let decoded = self.tables.metadata_files().manifest(manifest).await?;
            files.extend(decoded.live.iter().map(|entry| {
                let file = entry.data_file();
                LiveFile {
                    location: file.file_path().to_owned(),
                    offset: file.content_offset(),
                    is_data: file.content_type() == DataContentType::Data,
                }
            }));
        }
        Ok(files)
    }
}
