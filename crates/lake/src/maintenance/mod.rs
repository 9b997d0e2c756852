//! Maintenance of tables: compaction, snapshot expiry and removal of unreferenced files.
//! Maintenance never blocks writers.
//!
//! Data files are rewritten in separate commits that change no rows. If a concurrent commit has
//! changed the same files, maintenance skips them. If it has changed other files, maintenance is
//! committed on top of it. A file is removed only if it is older than a grace period, no branch or
//! tag references it, and no running read or write uses it.

mod compact;
mod deleted_ref_files;
mod expire_snapshots;
mod handle;
mod maintenance_records;
mod pinned_commits;
mod policy;
mod referenced_files;
mod sweep;
mod sweep_options;

use std::collections::HashMap;
use std::time::Duration;

use headwater_model::{
    MaintainReport, MaintainRequest, MaintainedTable, Problem, RefSpec, TableName, ToProblem,
};
use headwater_tables::{RowOrder, SortColumn};
use tokio_util::sync::CancellationToken;

pub use self::handle::Maintenance;
pub(crate) use self::pinned_commits::{CommitPin, PinnedCommits};
pub(crate) use self::policy::ChangedTables;
use self::sweep_options::{Retention, SweepOptions};
use crate::error::{Error, Result};

/// Default minimum age at which unreferenced files are removed.
const ORPHANS_AFTER: Duration = Duration::from_hours(72);

/// Lowest allowed value for the minimum age at which unreferenced files are removed.
const ORPHANS_AFTER_MIN: Duration = Duration::from_hours(1);

/// The author of automatic maintenance.
pub const MAINTENANCE_AUTHOR: &str = "maintenance";

/// A progress callback. Its arguments are the number of finished tables and the total number of
/// tables.
pub type MaintenanceProgress = std::sync::Arc<dyn Fn(u64, u64) + Send + Sync>;

impl Maintenance<'_> {
    /// Maintains one table of a branch, or all tables of the branch.
    ///
    /// Fails with `table_not_found`, `column_not_found` for a sort column, or `invalid_argument`.
    /// The report contains the files that were skipped because a concurrent commit changed them.
    pub async fn run(
        self,
        branch: &str,
        table: Option<&TableName>,
        request: &MaintainRequest,
        progress: MaintenanceProgress,
        cancelled: CancellationToken,
    ) -> Result<MaintainReport> {
        let work = ValidatedOperations::of(request)?;
        let view = self.lake.view(&RefSpec::Name(branch.to_owned())).await?;
        let branch = view.branch().ok_or_else(|| Error::NotABranch { reference: branch.into() })?;
        let names: Vec<TableName> = match table {
            Some(name) => match view.state().find_table(&name.namespace, &name.name).await? {
                Some((name, _)) => vec![name],
                None => return Err(view.not_found(name).await?),
            },
            None => view.list(None).await?.into_iter().map(|(name, _)| name).collect(),
        };
        let mut report = MaintainReport {
            branch: branch.to_owned(),
            dry_run: request.dry_run,
            ..MaintainReport::default()
        };
        let mut ids = Vec::new();
        let dry_run_expired = HashMap::new();
        let mut run =
            BranchMaintenance { branch, work: &work, cancelled: &cancelled, dry_run_expired };
        for (done, name) in names.iter().enumerate() {
            if cancelled.is_cancelled() {
                return Err(Error::Cancelled);
            }
            progress(done as u64, names.len() as u64);
            let Some(entry) = view.state().table(name).await? else { continue };
            ids.push(entry.id);
            let table_report = match Box::pin(self.maintain_table(name, &mut run)).await {
                // An error of one table does not stop the maintenance of the other tables.
                Err(error) if table.is_none() && !matches!(error, Error::Cancelled) => {
                    let Problem { message, causes, .. } = error.to_problem();
                    let reason = [vec![message], causes].concat().join(": ");
                    MaintainedTable { skipped_reason: Some(reason), ..empty_report(name) }
                }
                table_report => table_report?,
            };
            report.tables.push(table_report);
        }
        let dry_run_expired = run.dry_run_expired;
        drop(view);
        let removes = request.orphans || work.retention.is_some();
        let sweep = SweepOptions {
            tables: if table.is_some() { Some(ids.clone()) } else { None },
            expiring: ids,
            retention: work.retention.clone(),
            orphans: request.orphans.then_some(work.orphans_after),
            dry_run: request.dry_run,
            force: request.force,
            automatic: request.author.as_deref() == Some(MAINTENANCE_AUTHOR),
            dry_run_expired,
            unreachable: None,
        };
        if removes {
            report.removed_files = Some(self.sweep(sweep, &cancelled).await?);
        }
        if request.deleted_refs && !request.orphans {
            let removed =
                self.collect_deleted_refs(work.orphans_after, request.dry_run, &cancelled).await?;
            report.removed_files = Some(removed);
        }
        if !request.dry_run {
            let (all, orphans) = (table.is_none(), request.orphans);
            self.record_maintenance(&report, work.author(), all, orphans).await?;
        }
        Ok(report)
    }

    async fn maintain_table(
        self,
        name: &TableName,
        run: &mut BranchMaintenance<'_>,
    ) -> Result<MaintainedTable> {
        let BranchMaintenance { branch, work, cancelled, .. } = *run;
        let mut table_report = empty_report(name);
        if work.rewrite.is_some() {
            Box::pin(self.rewrite_files(branch, &mut table_report, work, cancelled)).await?;
        }
        if work.manifests {
            self.rewrite_manifests(branch, &mut table_report, work).await?;
        }
        if let Some(retention) = &work.retention {
            let expired = self.expire_snapshots(branch, &mut table_report, retention, work).await?;
            run.dry_run_expired.extend(expired);
        }
        let view = self.lake.view(&RefSpec::Name(branch.to_owned())).await?;
        if let Some(entry) = view.state().table(name).await? {
            let table = self.lake.tables().load(&entry.metadata_location).await?;
            table_report.files_after = table.files();
            if work.rewrite.is_some() || work.manifests {
                table_report.manifests_after =
                    self.lake.tables().maintenance().manifest_count(&table).await? as u64;
            }
        }
        Ok(table_report)
    }
}

/// The maintenance of a branch's tables.
struct BranchMaintenance<'a> {
    branch: &'a str,
    work: &'a ValidatedOperations,
    cancelled: &'a CancellationToken,
    /// The snapshots that a dry run would expire, by table id.
    dry_run_expired: HashMap<String, Vec<i64>>,
}

fn empty_report(table: &TableName) -> MaintainedTable {
    MaintainedTable {
        table: table.clone(),
        files_rewritten: 0,
        bytes_rewritten: 0,
        files_written: 0,
        bytes_written: 0,
        delete_files_removed: 0,
        manifests_before: 0,
        manifests_after: 0,
        snapshots_expired: 0,
        files_after: 0,
        commit: None,
        skipped_reason: None,
    }
}

/// Checks the parts of a maintenance request that can be checked without the tables.
pub fn check_maintain(request: &MaintainRequest) -> Result<()> {
    ValidatedOperations::of(request).map(drop)
}

/// The operations of a valid maintenance request.
struct ValidatedOperations {
    rewrite: Option<FileRewrite>,
    manifests: bool,
    retention: Option<Retention>,
    orphans_after: Duration,
    dry_run: bool,
    author: Option<String>,
}

/// The way in which data files are rewritten.
#[derive(Debug, Clone)]
enum FileRewrite {
    /// Files below the target size are compacted.
    Compact {
        /// True to skip a file that is much larger than all files with which it would be rewritten.
        skip_large: bool,
    },
    /// All files are rewritten in a sort order.
    Order(RowOrder),
}

impl ValidatedOperations {
    fn of(request: &MaintainRequest) -> Result<ValidatedOperations> {
        let invalid = |message: &str, hint| Error::InvalidRequest { message: message.into(), hint };
        let default = !request.has_tasks();
        let author = request.author.clone();
        let rewrite = match (request.sort.as_slice(), request.zorder.as_slice()) {
            ([], []) if request.compact || default => Some(FileRewrite::Compact {
                skip_large: author.as_deref() == Some(MAINTENANCE_AUTHOR),
            }),
            ([], []) => None,
            (columns, []) => {
                let columns = columns.iter().map(|text| sort_column(text));
                Some(FileRewrite::Order(RowOrder::Sort(columns.collect::<Result<_>>()?)))
            }
            ([], columns) if (2..=8).contains(&columns.len()) => {
                Some(FileRewrite::Order(RowOrder::ZOrder(columns.to_vec())))
            }
            ([], _) => {
                let hint = "Specify two to eight columns, or sort by one column.";
                return Err(invalid("a z-order requires two to eight columns", hint));
            }
            (_, _) => {
                let hint = "Specify either the sort columns or the z-order.";
                return Err(invalid("sort and z-order cannot be combined", hint));
            }
        };
        if request.keep == Some(0) {
            let hint = "Keep at least 1 snapshot, the current one.";
            return Err(invalid("`keep` must not be 0", hint));
        }
        let before = request.expire_before_seconds.map(Duration::from_secs);
        let retention = request.expires().then_some(Retention {
            before: before.unwrap_or(Duration::ZERO),
            keep: request.keep.map(|keep| usize::try_from(keep).unwrap_or(usize::MAX)),
        });
        let orphans_after =
            request.orphans_older_than_seconds.map_or(ORPHANS_AFTER, Duration::from_secs);
        if orphans_after < ORPHANS_AFTER_MIN {
            let message = "files younger than one hour may belong to a running write";
            return Err(invalid(message, "Specify an age of at least one hour."));
        }
        let manifests = request.manifests || default;
        let dry_run = request.dry_run;
        Ok(ValidatedOperations { rewrite, manifests, retention, orphans_after, dry_run, author })
    }

    fn author(&self) -> &str {
        self.author.as_deref().unwrap_or(MAINTENANCE_AUTHOR)
    }
}

/// Parses `column`, `column asc` or `column desc`.
fn sort_column(text: &str) -> Result<SortColumn> {
    let text = text.trim();
    let (name, descending) = match text.rsplit_once(' ') {
        Some((name, word)) if word.eq_ignore_ascii_case("desc") => (name, true),
        Some((name, word)) if word.eq_ignore_ascii_case("asc") => (name, false),
        _ => (text, false),
    };
    let name = name.trim().to_owned();
    if name.is_empty() {
        let message = "a sort column has no name".to_owned();
        let hint = "Write `column` or `column desc`.";
        return Err(Error::InvalidRequest { message, hint });
    }
    Ok(SortColumn { name, descending, nulls_first: !descending })
}
