//! Compaction and sorting of data files, and rewriting of manifests. Each operation is a commit
//! that changes no rows.

use headwater_model::{MaintainedTable, TableName};
use headwater_tables::{Bin, BinPackOptions, StagedFiles, Table};
use tokio_util::sync::CancellationToken;

use super::Maintenance;
use super::policy::has_many_deletes;
use super::{FileRewrite, ValidatedOperations};
use crate::error::{Error, Result};
use crate::transaction::Transaction;

/// Approximate number of bytes that one commit rewrites. This bounds the work that is lost if the
/// commit conflicts.
const COMMIT_BYTES_MAX: u64 = 4 << 30;

/// Maximum number of files that one commit rewrites.
const COMMIT_FILES_MAX: usize = 5_000;

/// Approximate memory for sorting rows, in bytes.
const SORT_BYTES: usize = 256 << 20;

impl Maintenance<'_> {
    pub(super) async fn rewrite_files(
        self,
        branch: &str,
        report: &mut MaintainedTable,
        work: &ValidatedOperations,
        cancelled: &CancellationToken,
    ) -> Result<()> {
        let Some(rewrite) = &work.rewrite else { return Ok(()) };
        let name = report.table.clone();
        let mut change = self.maintenance_transaction(branch, work).await?;
        let table = change.table(&name).await?;
        report.manifests_before =
            self.lake.tables().maintenance().manifest_count(&table).await? as u64;
        let bins = match rewrite {
            FileRewrite::Compact { skip_large } => {
                let before = self.lake.pins().oldest_in_lake();
                let folds_all = has_many_deletes(&table);
                let options = BinPackOptions {
                    skip_large: *skip_large,
                    folds_all,
                    before,
                    ..BinPackOptions::default()
                };
                self.lake.tables().maintenance().bins(&table, &options).await?
            }
            FileRewrite::Order(order) => {
                self.lake.tables().maintenance().check_order(&table, order)?;
                self.lake.tables().maintenance().whole_partitions(&table).await?
            }
        };
        if work.dry_run {
            let files = bins.iter().map(|bin| bin.files.len() as u64);
            report.files_rewritten = files.sum();
            report.bytes_rewritten = bins.iter().map(Bin::bytes).sum();
            return Ok(());
        }
        if bins.is_empty() {
            let dangling = self.lake.tables().maintenance().dangling_deletes(&table, &[]).await?;
            if dangling.is_empty() {
                return Ok(());
            }
            return self.rewrite_bins(change, report, rewrite, &[]).await.map(drop);
        }
        let mut change = Some(change);
        for some in commit_groups(&bins) {
            if cancelled.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let change = match change.take() {
                Some(change) => change,
                None => self.maintenance_transaction(branch, work).await?,
            };
            if !self.rewrite_bins(change, report, rewrite, some).await? {
                break;
            }
        }
        Ok(())
    }

    /// Rewrites the data files of several bins in one commit. Returns false if a concurrent commit
    /// changed these files.
    async fn rewrite_bins(
        self,
        mut change: Transaction,
        report: &mut MaintainedTable,
        rewrite: &FileRewrite,
        bins: &[Bin],
    ) -> Result<bool> {
        let name = report.table.clone();
        let table = change.table(&name).await?;
        let deletes_before = table.delete_files();
        let mut written: Vec<StagedFiles> = Vec::new();
        for bin in bins {
            let files = bin.files.clone();
            written.push(match rewrite {
                FileRewrite::Compact { .. } => {
                    let rows = self.lake.tables().rewrites().read(&table, &files)?;
                    change.write_rows(&name, rows).await?
                }
                FileRewrite::Order(order) => {
                    let rows = self
                        .lake
                        .tables()
                        .maintenance()
                        .read_in_order(&table, files, order, SORT_BYTES)?;
                    change.write_in_order(&name, rows).await?
                }
            });
        }
        let staged = match StagedFiles::all(&written) {
            Some(staged) => staged,
            None => change.write_rows(&name, Box::pin(futures::stream::empty())).await?,
        };
        let removed = bins.iter().flat_map(|bin| bin.files.iter().cloned()).collect::<Vec<_>>();
        let (files, bytes) = (removed.len() as u64, bins.iter().map(Bin::bytes).sum::<u64>());
        let (files_written, bytes_written) = (staged.files() as u64, staged.bytes());
        change.replace_files(&name, removed, staged).await?;
        let branch = change.branch().to_owned();
        match change.commit(&format!("compact {name}")).await {
            Ok(commit) => {
                report.commit = commit.map(|commit| commit.id).or(report.commit);
                report.files_rewritten += files;
                report.bytes_rewritten += bytes;
                report.files_written += files_written;
                report.bytes_written += bytes_written;
                let after = self.current(&branch, &name).await?;
                let left = after.map_or(0, |table| table.delete_files());
                report.delete_files_removed += deletes_before.saturating_sub(left);
                Ok(true)
            }
            Err(error) => record_conflict(report, error).map(|()| false),
        }
    }

    pub(super) async fn rewrite_manifests(
        self,
        branch: &str,
        report: &mut MaintainedTable,
        work: &ValidatedOperations,
    ) -> Result<()> {
        let name = report.table.clone();
        let mut change = self.maintenance_transaction(branch, work).await?;
        let table = change.table(&name).await?;
        let before = self.lake.tables().maintenance().manifest_count(&table).await? as u64;
        report.manifests_before = report.manifests_before.max(before);
        if work.dry_run || !self.lake.tables().maintenance().has_scattered_manifests(&table).await?
        {
            return Ok(());
        }
        change.rewrite_manifests(&name).await?;
        match change.commit(&format!("rewrite the manifests of {name}")).await {
            Ok(commit) => report.commit = commit.map(|commit| commit.id).or(report.commit),
            Err(error) => record_conflict(report, error)?,
        }
        Ok(())
    }

    /// Starts a maintenance transaction, which changes no rows.
    pub(super) async fn maintenance_transaction(
        self,
        branch: &str,
        work: &ValidatedOperations,
    ) -> Result<Transaction> {
        let mut change = self.lake.transaction(branch, work.author()).await?;
        change.mark_as_maintenance();
        Ok(change)
    }

    async fn current(self, branch: &str, name: &TableName) -> Result<Option<Table>> {
        let view = self.lake.view(&headwater_model::RefSpec::Name(branch.to_owned())).await?;
        let Some(entry) = view.state().table(name).await? else { return Ok(None) };
        Ok(Some(self.lake.tables().load(&entry.metadata_location).await?))
    }
}

/// Records an error in the report if it is a conflict with another commit. Returns any other error.
pub(super) fn record_conflict(report: &mut MaintainedTable, error: Error) -> Result<()> {
    if !error.is_stale() {
        return Err(error);
    }
    report.skipped_reason = Some(error.to_string());
    Ok(())
}

/// Splits the bins into groups. Each group is rewritten in one commit.
fn commit_groups(bins: &[Bin]) -> Vec<&[Bin]> {
    let (mut found, mut from) = (Vec::new(), 0);
    let (mut bytes, mut files) = (0, 0);
    for (at, bin) in bins.iter().enumerate() {
        let full =
            bytes + bin.bytes() > COMMIT_BYTES_MAX || files + bin.files.len() > COMMIT_FILES_MAX;
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
