//! Reads of historical table states, and the check that the files of such states still exist.

use futures::{StreamExt, TryStreamExt, stream};
use headwater_catalog::TableEntry;
use headwater_model::{CommitId, RefSpec, TableName};

use crate::commit_view::CommitView;
use crate::error::Result;
use crate::lake::Lake;

/// Maximum number of states checked concurrently.
const CHECK_CONCURRENCY: usize = 16;

impl CommitView {
    /// Returns a view of an earlier commit; `None` if the commit does not have the table, or if
    /// maintenance removed files of the table's state. While the view exists, maintenance does not
    /// remove files of the state.
    pub async fn of_history(
        lake: &Lake,
        commit: CommitId,
        table: &TableName,
    ) -> Result<Option<CommitView>> {
        let _no_sweep = lake.merging().read().await;
        // The view pins the commit before the check, so that a later sweep keeps the files.
        let view = lake.view(&RefSpec::Commit(commit.to_string())).await?;
        let found = view.state().find_table(&table.namespace, &table.name).await?;
        let Some((_, entry)) = found else { return Ok(None) };
        let readable = lake.check_readable(std::iter::once(&entry)).await;
        Ok(readable.is_ok().then_some(view))
    }
}

impl Lake {
    /// Fails if the files of a table state are missing or scheduled for removal. The caller must
    /// hold the lock [`Lake::merging`], so that no file is removed after the check.
    pub(crate) async fn check_readable(
        &self,
        entries: impl Iterator<Item = &TableEntry>,
    ) -> Result<()> {
        let states = entries.map(|entry| (entry.metadata_location.clone(), entry.is_view()));
        let states: Vec<(String, bool)> = states.collect();
        let checks = stream::iter(states).map(|(location, is_view)| async move {
            if self.pins().is_scheduled(&location) {
                return Err(headwater_tables::Error::Missing { location }.into());
            }
            if is_view {
                self.tables().views().check_readable(&location).await?;
            } else {
                self.tables().files().check_readable(&location).await?;
            }
            Ok(())
        });
        checks.buffered(CHECK_CONCURRENCY).try_collect().await
    }
}
