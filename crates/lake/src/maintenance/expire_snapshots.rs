//! Expires snapshots: removes them from the table metadata. The sweep later removes the files that
//! only expired snapshots need.

use headwater_model::MaintainedTable;

use super::Maintenance;
use super::ValidatedOperations;
use super::compact::record_conflict;
use super::sweep_options::Retention;
use crate::error::Result;

impl Maintenance<'_> {
    /// Removes old snapshots from the metadata of a table. A dry run only returns the location of
    /// the metadata file and the snapshots that would be removed.
    pub(super) async fn expire_snapshots(
        self,
        branch: &str,
        report: &mut MaintainedTable,
        retention: &Retention,
        work: &ValidatedOperations,
    ) -> Result<Option<(String, Vec<i64>)>> {
        let name = report.table.clone();
        let mut change = self.maintenance_transaction(branch, work).await?;
        let table = change.table(&name).await?;
        let before = self.lake.clock().now() - retention.before;
        let ids = table.snapshots_before(before, retention.keep.unwrap_or(1));
        report.snapshots_expired = ids.len() as u64;
        if ids.is_empty() {
            return Ok(None);
        }
        if work.dry_run {
            return Ok(Some((table.metadata_location().to_owned(), ids)));
        }
        change.expire_snapshots(&name, ids).await?;
        match change.commit(&format!("expire snapshots of {name}")).await {
            Ok(commit) => report.commit = commit.map(|commit| commit.id).or(report.commit),
            Err(error) => {
                report.snapshots_expired = 0;
                record_conflict(report, error)?;
            }
        }
        Ok(None)
    }
}
