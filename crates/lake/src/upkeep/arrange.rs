//! Data files put together, and put in order; manifests put together. Each is a commit that changes no
//! row.

use headwater_model::{MaintainedTable, TableName};
use headwater_tables::{Bin, Packing, Staged, Table};
use tokio_util::sync::CancellationToken;

use super::policy::has_many_deletes;
use super::{Arrangement, Work};
use crate::error::{Error, Result};
use crate::lake::Lake;
use crate::transaction::Transaction;

/// Bytes of data files that one commit puts others in place of, about: what a conflict costs.
const COMMIT_BYTES: u64 = 4 << 30;

/// Files that one commit puts others in place of, at most.
const COMMIT_FILES: usize = 5_000;

/// Bytes of rows that are held while they are put in order, about.
const ORDER_BYTES: usize = 256 << 20;

impl Lake {
    pub(super) async fn arrange(
        &self,
        branch: &str,
        kept: &mut MaintainedTable,
        work: &Work,
        cancelled: &CancellationToken,
    ) -> Result<()> {
        let Some(arrangement) = &work.arrange else { return Ok(()) };
        let name = kept.table.clone();
        let mut change = self.upkeep(branch, work).await?;
        let table = change.table(&name).await?;
        kept.manifests_before = self.tables().manifest_count(&table).await? as u64;
        let bins = match arrangement {
            Arrangement::Compact { thrifty } => {
                let before = self.pins().oldest_in_lake();
                let folds_all = has_many_deletes(&table);
                let packing =
                    Packing { thrifty: *thrifty, folds_all, before, ..Packing::default() };
                self.tables().bins(&table, &packing).await?
            }
            Arrangement::Order(order) => {
                self.tables().check_order(&table, order)?;
                self.tables().whole_partitions(&table).await?
            }
        };
        if work.dry_run {
            let files = bins.iter().map(|bin| bin.files.len() as u64);
            kept.files_rewritten = files.sum();
            kept.bytes_rewritten = bins.iter().map(Bin::bytes).sum();
            return Ok(());
        }
        if bins.is_empty() {
            let dangling = self.tables().dangling_deletes(&table, &[]).await?;
            if dangling.is_empty() {
                return Ok(());
            }
            return self.arrange_some(change, kept, arrangement, &[]).await.map(drop);
        }
        let mut change = Some(change);
        for some in portions(&bins) {
            if cancelled.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let change = match change.take() {
                Some(change) => change,
                None => self.upkeep(branch, work).await?,
            };
            if !self.arrange_some(change, kept, arrangement, some).await? {
                break;
            }
        }
        Ok(())
    }

    /// Writes some bins anew, in one commit; false where others changed their files meanwhile.
    async fn arrange_some(
        &self,
        mut change: Transaction,
        kept: &mut MaintainedTable,
        arrangement: &Arrangement,
        bins: &[Bin],
    ) -> Result<bool> {
        let name = kept.table.clone();
        let table = change.table(&name).await?;
        let deletes_before = table.delete_files();
        let mut written: Vec<Staged> = Vec::new();
        for bin in bins {
            let files = bin.files.clone();
            written.push(match arrangement {
                Arrangement::Compact { .. } => {
                    let rows = self.tables().read_to_rewrite(&table, &files)?;
                    change.write_rows(&name, rows).await?
                }
                Arrangement::Order(order) => {
                    let rows = self.tables().read_in_order(&table, files, order, ORDER_BYTES)?;
                    change.write_as_ordered(&name, rows).await?
                }
            });
        }
        let staged = match Staged::all(&written) {
            Some(staged) => staged,
            None => change.write_rows(&name, Box::pin(futures::stream::empty())).await?,
        };
        let removed = bins.iter().flat_map(|bin| bin.files.iter().cloned()).collect::<Vec<_>>();
        let (files, bytes) = (removed.len() as u64, bins.iter().map(Bin::bytes).sum::<u64>());
        let (files_written, bytes_written) = (staged.files() as u64, staged.bytes());
        change.arrange(&name, removed, staged).await?;
        let branch = change.branch().to_owned();
        match change.commit(&format!("arrange {name}")).await {
            Ok(commit) => {
                kept.commit = commit.map(|commit| commit.id).or(kept.commit);
                kept.files_rewritten += files;
                kept.bytes_rewritten += bytes;
                kept.files_written += files_written;
                kept.bytes_written += bytes_written;
                let after = self.current(&branch, &name).await?;
                let left = after.map_or(0, |table| table.delete_files());
                kept.delete_files_removed += deletes_before.saturating_sub(left);
                Ok(true)
            }
            Err(error) => gave_up(kept, error).map(|()| false),
        }
    }

    pub(super) async fn arrange_manifests(
        &self,
        branch: &str,
        kept: &mut MaintainedTable,
        work: &Work,
    ) -> Result<()> {
        let name = kept.table.clone();
        let mut change = self.upkeep(branch, work).await?;
        let table = change.table(&name).await?;
        let before = self.tables().manifest_count(&table).await? as u64;
        kept.manifests_before = kept.manifests_before.max(before);
        if work.dry_run || !self.tables().has_scattered_manifests(&table).await? {
            return Ok(());
        }
        change.arrange_manifests(&name).await?;
        match change.commit(&format!("arrange the manifests of {name}")).await {
            Ok(commit) => kept.commit = commit.map(|commit| commit.id).or(kept.commit),
            Err(error) => gave_up(kept, error)?,
        }
        Ok(())
    }

    /// Begins a change that changes no row.
    pub(super) async fn upkeep(&self, branch: &str, work: &Work) -> Result<Transaction> {
        let mut change = self.transaction(branch, work.author()).await?;
        change.changes_no_row();
        Ok(change)
    }

    async fn current(&self, branch: &str, name: &TableName) -> Result<Option<Table>> {
        let view = self.view(&headwater_model::RefSpec::Name(branch.to_owned())).await?;
        let Some(entry) = view.state().table(name).await? else { return Ok(None) };
        Ok(Some(self.tables().load(&entry.metadata_location).await?))
    }
}

/// Notes that others were first; any other error stays one.
pub(super) fn gave_up(kept: &mut MaintainedTable, error: Error) -> Result<()> {
    if !error.is_stale() {
        return Err(error);
    }
    kept.gave_up = Some(error.to_string());
    Ok(())
}

/// Bins in portions of one commit each.
fn portions(bins: &[Bin]) -> Vec<&[Bin]> {
    let (mut found, mut from) = (Vec::new(), 0);
    let (mut bytes, mut files) = (0, 0);
    for (at, bin) in bins.iter().enumerate() {
        let full = bytes + bin.bytes() > COMMIT_BYTES || files + bin.files.len() > COMMIT_FILES;
        if full && at > from {
            found.push(&bins[from..at]);
            (from, bytes, files) = (at, 0, 0);
        }
        bytes += bin.bytes();
        files += bin.files.len();
    }
    found.push(&bins[from..]);
    found
}
