//! Checks that concurrent commits did not change the state from which an operation was computed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::{DataFile, Error, Result, RowRewrite, ScanPlan, StagedFiles, Table, Tables};

/// Checks that the replacement files have as many rows as the removed files.
pub(super) async fn check_rows(
    tables: &Tables,
    removed: &[Arc<DataFile>],
    staged: &StagedFiles,
) -> Result<()> {
    let before = tables.deletes().live_rows(removed.to_vec()).await?;
    if before == staged.rows() {
        return Ok(());
    }
    let message =
        format!("compaction changed the number of rows from {before} to {}", staged.rows());
    Err(Error::internal("compacted", message))
}

/// Checks that a change does not affect rows that another commit added after the change was
/// computed.
pub(super) async fn check_added_rows(
    tables: &Tables,
    table: &Table,
    rewrite: &RowRewrite,
) -> Result<()> {
    let Some(unseen) = &rewrite.unseen else { return Ok(()) };
    let plan = tables.plan(table, None).await?;
    let added = with_new_rows(tables, &plan, &rewrite.seen).await?;
    if added.files().is_empty() || !unseen(&added) {
        return Ok(());
    }
    Err(Error::TableChanged { what: "data" })
}

/// Returns the files of the plan `now` with rows that the earlier plan `then` lacks. These are new
/// files, and files of which some deleted rows are live again, for example by a rollback.
async fn with_new_rows(tables: &Tables, now: &ScanPlan, then: &ScanPlan) -> Result<ScanPlan> {
    let seen: HashMap<&str, &Arc<DataFile>> =
        then.files().iter().map(|file| (file.location.as_str(), file)).collect();
    let mut new = vec![false; now.files().len()];
    let (mut indexes, mut before, mut after) = (Vec::new(), Vec::new(), Vec::new());
    for (index, file) in now.files().iter().enumerate() {
        match seen.get(file.location.as_str()) {
            None => new[index] = true,
            Some(old) if !old.has_deletes() || old.state() == file.state() => {}
            Some(old) => {
                indexes.push(index);
                before.push(Arc::clone(old));
                after.push(Arc::clone(file));
            }
        }
    }
    let before = tables.deletes().deleted_of_all(before).await?;
    let after = tables.deletes().deleted_of_all(after).await?;
    for (index, (before, after)) in indexes.into_iter().zip(before.into_iter().zip(after)) {
        let deleted_before = before.unwrap_or_default();
        new[index] = !after.unwrap_or_default().has_all(&deleted_before);
    }
    Ok(now.retain(&new))
}

/// Checks the files that a change removes or from which it deletes rows. Each of these files must
/// still exist, and the same delete files must apply to it as when the change read it.
pub(super) async fn check_deletes(
    tables: &Tables,
    table: &Table,
    rewrite: &RowRewrite,
) -> Result<()> {
    let with_new_deletes = rewrite.staged.deletes.iter().map(|delete| &delete.of);
    let seen = rewrite.removed.iter().chain(with_new_deletes);
    if rewrite.staged.deletes.is_empty() {
        return check_rows_unchanged(tables, table, seen).await;
    }
    // A data file that only gets new deletes is not in the list of removed files, so the commit
    // itself does not check its existence. The following check does.
    check_delete_files_unchanged(tables, table, seen).await
}

/// Checks that the same delete files apply to data files as when the change read the data files.
pub(super) async fn check_rows_unchanged(
    tables: &Tables,
    table: &Table,
    seen: impl Iterator<Item = &Arc<DataFile>> + Clone,
) -> Result<()> {
    if !table.has_deletes() && seen.clone().all(|file| !file.has_deletes()) {
        return Ok(());
    }
    check_delete_files_unchanged(tables, table, seen).await
}

async fn check_delete_files_unchanged(
    tables: &Tables,
    table: &Table,
    seen: impl Iterator<Item = &Arc<DataFile>>,
) -> Result<()> {
    let plan = tables.plan(table, None).await?;
    let now: HashSet<_> = plan.files().iter().map(|file| file.state()).collect();
    let mut same = seen.map(|file| now.contains(&file.state()));
    if same.all(|same| same) { Ok(()) } else { Err(Error::TableChanged { what: "data" }) }
}
