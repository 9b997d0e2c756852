//! Data files appended to a table since a snapshot, for incremental reads.

use std::collections::HashSet;
use std::sync::Arc;

use iceberg::spec::{
    ManifestContentType, ManifestStatus, Operation, Snapshot, SnapshotRef, TableMetadata,
};

use crate::snapshot_ancestry::{SnapshotAncestry, merged_by, picked_by, undone_by};
use crate::{DataFile, Result, ScanPlan, Table, TableHistory, Tables};

impl TableHistory<'_> {
    /// Returns the data files appended since a snapshot, oldest first. Returns `None` if the new
    /// rows are not exactly the rows of these files, for example after a change of rows. If
    /// appended files were compacted later, returns the original files.
    pub async fn appended(self, table: &Table, since: i64) -> Result<Option<ScanPlan>> {
        match self.appended_since(table, since).await {
            // Maintenance has removed a file of a snapshot after `since` that has expired.
            Err(error) if error.is_not_found() => Ok(None),
            other => other,
        }
    }

    async fn appended_since(self, table: &Table, since: i64) -> Result<Option<ScanPlan>> {
        let metadata = table.metadata();
        let Some(snapshots) = append_snapshots(self.tables, table, since).await else {
            return self.new_files(table, since).await;
        };
        let mut files: Vec<Arc<DataFile>> = Vec::new();
        for snapshot in &snapshots {
            files.extend(self.added_by(metadata, snapshot).await?);
        }
        Ok(Some(ScanPlan::new(table.schema(), files.into())))
    }

    /// Returns the data files that the table has now but did not have at the snapshot `since`;
    /// `None` if a file of the snapshot `since` was removed or got new deletes. In contrast to
    /// [`append_snapshots`], this method also works after changes were reverted.
    async fn new_files(self, table: &Table, since: i64) -> Result<Option<ScanPlan>> {
        let Some(snapshot) = SnapshotAncestry::of(table).find(self.tables, since).await else {
            return Ok(None);
        };
        let now = self.tables.plan(table, None).await?;
        let then = self.tables.metadata_files().files(table.metadata(), &snapshot).await?;
        let states: HashSet<(&str, u128)> = now.files().iter().map(|file| file.state()).collect();
        if !then.iter().all(|file| states.contains(&file.state())) {
            return Ok(None);
        }
        let then = ScanPlan::new(table.schema(), then);
        Ok(Some(now.without(&then)))
    }

    /// Returns the data files that this snapshot itself added, without those of earlier snapshots.
    pub async fn added_by(
        self,
        metadata: &TableMetadata,
        snapshot: &SnapshotRef,
    ) -> Result<Vec<Arc<DataFile>>> {
        let id = snapshot.snapshot_id();
        let mut files = Vec::new();
        for manifest in self.tables.metadata_files().manifests(snapshot).await?.iter() {
            if manifest.content != ManifestContentType::Data || manifest.added_snapshot_id != id {
                continue;
            }
            let decoded = self.tables.metadata_files().manifest(manifest).await?;
            self.tables.metadata_files().init_data_files(metadata, manifest, &decoded)?;
            let added = |file: &&Arc<DataFile>| {
                file.entry.status == ManifestStatus::Added && file.entry.snapshot_id == Some(id)
            };
            files.extend(decoded.files.get().into_iter().flatten().filter(added).cloned());
        }
        Ok(files)
    }
}

/// Returns the snapshots after `since` that appended rows, oldest first; `None` if a snapshot after
/// `since` changed or deleted rows.
async fn append_snapshots(tables: &Tables, table: &Table, since: i64) -> Option<Vec<SnapshotRef>> {
    let mut lineage = SnapshotAncestry::of(table);
    let (mut found, mut read) = (Vec::new(), HashSet::from([since]));
    let mut next = lineage.current()?;
    while !read.contains(&next) {
        let snapshot = lineage.find(tables, next).await?;
        if let Some(merged) = lineage.equal_parent(tables, &snapshot).await {
            next = merged;
            continue;
        }
        next = snapshot.parent_snapshot_id()?;
        match snapshot.summary().operation {
            Operation::Append if merged_by(&snapshot) == Some(since) => {
                // The merge added the rows up to `since`, already known, to its parent's rows.
                lineage.find(tables, since).await?;
                read = lineage.ancestors_of(Some(since));
            }
            Operation::Append => {
                if read.len() > 1 && repeats(&mut lineage, tables, &snapshot, &read).await {
                    return None;
                }
                found.push(snapshot);
            }
            Operation::Replace => {}
            Operation::Overwrite | Operation::Delete => return None,
        }
    }
    found.reverse();
    Some(found)
}

/// Returns true if a snapshot may add rows again that the snapshots in `read` already have.
async fn repeats(
    lineage: &mut SnapshotAncestry,
    tables: &Tables,
    snapshot: &Snapshot,
    read: &HashSet<i64>,
) -> bool {
    if [undone_by(snapshot), picked_by(snapshot)] != [Some(vec![]), Some(vec![])] {
        return true;
    }
    let Some(merged) = merged_by(snapshot) else { return false };
    if lineage.find(tables, merged).await.is_none() {
        return true;
    }
    let before = lineage.ancestors_of(snapshot.parent_snapshot_id());
    lineage.ancestors_of(Some(merged)).iter().any(|id| read.contains(id) && !before.contains(id))
}
