//! Snapshots that a table's metadata does not list any more. What only they need goes with the sweep.

use headwater_model::MaintainedTable;

use super::Work;
use super::arrange::gave_up;
use super::sweep::Retention;
use crate::error::Result;
use crate::lake::Lake;

impl Lake {
    /// Lists old snapshots no longer; in a dry run gives those that would go, with the metadata file.
    pub(super) async fn expire_snapshots(
        &self,
        branch: &str,
        kept: &mut MaintainedTable,
        retention: &Retention,
        work: &Work,
    ) -> Result<Option<(String, Vec<i64>)>> {
        let name = kept.table.clone();
        let mut change = self.upkeep(branch, work).await?;
        let table = change.table(&name).await?;
        let before = self.clock().now() - retention.before;
        let ids = table.snapshots_before(before, retention.keep.unwrap_or(1));
        kept.snapshots_expired = ids.len() as u64;
        if ids.is_empty() {
            return Ok(None);
        }
        if work.dry_run {
            return Ok(Some((table.metadata_location().to_owned(), ids)));
        }
        change.expire_snapshots(&name, ids).await?;
        match change.commit(&format!("expire snapshots of {name}")).await {
            Ok(commit) => kept.commit = commit.map(|commit| commit.id).or(kept.commit),
            Err(error) => {
                kept.snapshots_expired = 0;
                gave_up(kept, error)?;
            }
        }
        Ok(None)
    }
}
