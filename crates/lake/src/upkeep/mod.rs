//! Upkeep: what keeps tables small and clean, and never stands in anybody's way.
//!
//! Data files are arranged anew in commits of their own, which change no row: where somebody else changed
//! the same files first, upkeep gives up, and where upkeep was first, the other's change is merged with
//! what it left. Files are removed only where no branch and no tag leads to them, nobody reads or writes
//! them, and they have lain long enough.

mod arrange;
mod expire;
mod freed;
mod pins;
mod policy;
mod record;
mod sweep;

use std::collections::HashMap;
use std::time::Duration;

use headwater_model::{
    Fault, MaintainReport, MaintainRequest, MaintainedTable, Problem, RefSpec, TableName,
};
use headwater_tables::{Order, SortColumn};
use tokio_util::sync::CancellationToken;

pub(crate) use self::pins::{Pin, Pins};
pub(crate) use self::policy::Changed;
use self::sweep::{Retention, Sweep};
use crate::error::{Error, Result};
use crate::lake::Lake;

/// Files that nothing needs are removed once they are as old as this, where nothing else is said.
const ORPHANS_AFTER: Duration = Duration::from_hours(72);

/// No file is removed that was written later than this before.
const ORPHANS_AFTER_MIN: Duration = Duration::from_hours(1);

/// The author of upkeep that nobody asked for.
pub const UPKEEP_AUTHOR: &str = "upkeep";

/// What upkeep says while it is under way: tables done, and tables in all.
pub type UpkeepProgress = std::sync::Arc<dyn Fn(u64, u64) + Send + Sync>;

impl Lake {
    /// Keeps one table of a branch, or all of them.
    ///
    /// Errors: `table_not_found`, `column_not_found` for an order, `invalid_argument`. Where others change
    /// the same files meanwhile, the report says what was left.
    pub async fn maintain(
        &self,
        branch: &str,
        table: Option<&TableName>,
        request: &MaintainRequest,
        progress: UpkeepProgress,
        cancelled: CancellationToken,
    ) -> Result<MaintainReport> {
        let work = Work::of(request)?;
        let view = self.view(&RefSpec::Name(branch.to_owned())).await?;
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
        let (mut ids, mut foreseen) = (Vec::new(), HashMap::new());
        for (done, name) in names.iter().enumerate() {
            if cancelled.is_cancelled() {
                return Err(Error::Cancelled);
            }
            progress(done as u64, names.len() as u64);
            let Some(entry) = view.state().table(name).await? else { continue };
            ids.push(entry.id);
            let keeping = self.keep_table(branch, name, &work, (&mut foreseen, &cancelled));
            let kept = match Box::pin(keeping).await {
                // What is wrong with one table keeps no other from its upkeep.
                Err(error) if table.is_none() && !matches!(error, Error::Cancelled) => {
                    let Problem { message, causes, .. } = error.to_problem();
                    let why = [vec![message], causes].concat().join(": ");
                    MaintainedTable { gave_up: Some(why), ..nothing_done(name) }
                }
                kept => kept?,
            };
            report.tables.push(kept);
        }
        drop(view);
        let removes = request.orphans || work.retention.is_some();
        let sweep = Sweep {
            tables: if table.is_some() { Some(ids.clone()) } else { None },
            expiring: ids,
            retention: work.retention.clone(),
            orphans: request.orphans.then_some(work.orphans_after),
            dry_run: request.dry_run,
            force: request.force,
            automatic: request.author.as_deref() == Some(UPKEEP_AUTHOR),
            foreseen,
            freed: None,
        };
        if removes {
            report.swept = Some(self.sweep(sweep, &cancelled).await?);
        }
        if request.deleted_refs && !request.orphans {
            let freed = self.free(work.orphans_after, request.dry_run, &cancelled).await?;
            report.swept = Some(freed);
        }
        if !request.dry_run {
            let (all, orphans) = (table.is_none(), request.orphans);
            self.record_upkeep(&report, work.author(), (all, orphans)).await?;
        }
        Ok(report)
    }

    async fn keep_table(
        &self,
        branch: &str,
        name: &TableName,
        work: &Work,
        (foreseen, cancelled): (&mut HashMap<String, Vec<i64>>, &CancellationToken),
    ) -> Result<MaintainedTable> {
        let mut kept = nothing_done(name);
        if work.arrange.is_some() {
            Box::pin(self.arrange(branch, &mut kept, work, cancelled)).await?;
        }
        if work.manifests {
            self.arrange_manifests(branch, &mut kept, work).await?;
        }
        if let Some(retention) = &work.retention {
            foreseen.extend(self.expire_snapshots(branch, &mut kept, retention, work).await?);
        }
        let view = self.view(&RefSpec::Name(branch.to_owned())).await?;
        if let Some(entry) = view.state().table(name).await? {
            let table = self.tables().load(&entry.metadata_location).await?;
            kept.files_after = table.files();
            if work.arrange.is_some() || work.manifests {
                kept.manifests_after = self.tables().manifest_count(&table).await? as u64;
            }
        }
        Ok(kept)
    }
}

fn nothing_done(table: &TableName) -> MaintainedTable {
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
        gave_up: None,
    }
}

/// Refuses a request that makes no sense, whatever table it is about.
pub fn check_maintain(request: &MaintainRequest) -> Result<()> {
    Work::of(request).map(drop)
}

/// What a request comes to.
struct Work {
    arrange: Option<Arrangement>,
    manifests: bool,
    retention: Option<Retention>,
    orphans_after: Duration,
    dry_run: bool,
    author: Option<String>,
}

/// How data files are written anew.
#[derive(Debug, Clone)]
enum Arrangement {
    /// Those that are worth it, as they are.
    Compact {
        /// Whether large files are left alone beside a few small ones.
        thrifty: bool,
    },
    /// All, in an order.
    Order(Order),
}

impl Work {
    fn of(request: &MaintainRequest) -> Result<Work> {
        let invalid = |message: &str, hint| Error::InvalidRequest { message: message.into(), hint };
        let default = !request.names_work();
        let author = request.author.clone();
        let arrange = match (request.sort.as_slice(), request.zorder.as_slice()) {
            ([], []) if request.compact || default => {
                Some(Arrangement::Compact { thrifty: author.as_deref() == Some(UPKEEP_AUTHOR) })
            }
            ([], []) => None,
            (columns, []) => {
                let columns = columns.iter().map(|text| sort_column(text));
                Some(Arrangement::Order(Order::Sort(columns.collect::<Result<_>>()?)))
            }
            ([], columns) if (2..=8).contains(&columns.len()) => {
                Some(Arrangement::Order(Order::ZOrder(columns.to_vec())))
            }
            ([], _) => {
                let hint = "Name two to eight columns; by one column, sort.";
                return Err(invalid("a z-order is of two to eight columns", hint));
            }
            (_, _) => {
                let hint = "Choose one of them.";
                return Err(invalid("rows are sorted or put in a z-order, and not both", hint));
            }
        };
        if request.keep == Some(0) {
            let hint = "Keep at least 1: what a branch holds now is always kept.";
            return Err(invalid("no state of the table would be kept", hint));
        }
        let before = request.expire_before_seconds.map(Duration::from_secs);
        let retention = request.expires().then_some(Retention {
            before: before.unwrap_or(Duration::ZERO),
            keep: request.keep.map(|keep| usize::try_from(keep).unwrap_or(usize::MAX)),
        });
        let orphans_after =
            request.orphans_older_than_seconds.map_or(ORPHANS_AFTER, Duration::from_secs);
        if orphans_after < ORPHANS_AFTER_MIN {
            let message = "files younger than an hour may belong to a write that is under way";
            return Err(invalid(message, "Say an hour or more."));
        }
        let manifests = request.manifests || default;
        let dry_run = request.dry_run;
        Ok(Work { arrange, manifests, retention, orphans_after, dry_run, author })
    }

    fn author(&self) -> &str {
        self.author.as_deref().unwrap_or(UPKEEP_AUTHOR)
    }
}

/// `column`, `column asc` or `column desc`.
fn sort_column(text: &str) -> Result<SortColumn> {
    let text = text.trim();
    let (name, descending) = match text.rsplit_once(' ') {
        Some((name, word)) if word.eq_ignore_ascii_case("desc") => (name, true),
        Some((name, word)) if word.eq_ignore_ascii_case("asc") => (name, false),
        _ => (text, false),
    };
    let name = name.trim().to_owned();
    if name.is_empty() {
        let message = "a column to sort by has no name".to_owned();
        let hint = "Write `column` or `column desc`.";
        return Err(Error::InvalidRequest { message, hint });
    }
    Ok(SortColumn { name, descending, nulls_first: !descending })
}
