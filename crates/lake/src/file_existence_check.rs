//! Checks that the files of historical table states still exist, before a new branch, tag or merge
//! refers to these states.

use futures::{StreamExt, TryStreamExt, stream};
use headwater_catalog::{MergePlan, TableEntry};
use headwater_model::{Branch, CommitId, CreateRef, RefSpec, TableName, Tag};

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
    /// Creates a branch. Fails if files of its first commit are missing. Maintenance removes files
    /// only of commits that are neither tagged nor the head of a branch.
    pub async fn create_branch(&self, request: CreateRef) -> Result<Branch> {
        let _no_sweep = self.merging().read().await;
        self.check_start(request.from.as_ref()).await?;
        Ok(self.catalog().create_branch(request).await?)
    }

    /// Creates a tag, with the same check as [`Lake::create_branch`].
    pub async fn create_tag(&self, request: CreateRef) -> Result<Tag> {
        let _no_sweep = self.merging().read().await;
        self.check_start(request.from.as_ref()).await?;
        Ok(self.catalog().tags().create(request).await?)
    }

    async fn check_start(&self, from: Option<&RefSpec>) -> Result<()> {
        let Some(from) = from.filter(|from| !matches!(from, RefSpec::Name(_))) else {
            return Ok(());
        };
        let commit = self.catalog().resolve(from).await?.commit;
        let tables = self.catalog().state(commit).await?.all_entries().await?;
        self.check_readable(tables.iter().map(|(_, entry)| entry)).await
    }

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

    /// Returns true if all changes of a table between two states come from maintenance.
    pub(crate) async fn changed_only_by_maintenance(
        &self,
        base: &TableEntry,
        now: &TableEntry,
    ) -> Result<bool> {
        if base == now {
            return Ok(true);
        }
        if base.id != now.id || now.is_view() || base.is_view() {
            return Ok(false);
        }
        let base = self.tables().load(&base.metadata_location).await?;
        let now = self.tables().load(&now.metadata_location).await?;
        Ok(headwater_table_merge::only_compacted(self.tables(), &base, &now, false).await)
    }

    /// Returns true if only maintenance has changed the target of a merge since the merge base.
    pub(crate) async fn target_changed_only_by_maintenance(
        &self,
        plan: &MergePlan,
    ) -> Result<bool> {
        let [base] = plan.bases.as_slice() else { return Ok(false) };
        for change in self.catalog().diff(*base, plan.head).await? {
            match (&change.from, &change.to) {
                (Some(from), Some(to)) if self.changed_only_by_maintenance(from, to).await? => {}
                _ => return Ok(false),
            }
        }
        Ok(true)
    }
}
