//! States of the past that a branch, a tag or a merge takes up again: they must be there still.

use futures::{StreamExt, TryStreamExt, stream};
use headwater_catalog::{MergePlan, TableEntry};
use headwater_model::{Branch, CreateRef, RefSpec, Tag};

use crate::error::Result;
use crate::lake::Lake;

/// How many states are looked at at once.
const CHECKED_AT_ONCE: usize = 16;

impl Lake {
    /// Makes a branch. Of a commit that is not the head of a branch or a tag, what it holds must be there
    /// still.
    pub async fn create_branch(&self, request: CreateRef) -> Result<Branch> {
        let _unswept = self.merging().read().await;
        self.check_start(request.from.as_ref()).await?;
        Ok(self.catalog().create_branch(request).await?)
    }

    /// Makes a tag, as [`Lake::create_branch`] makes a branch.
    pub async fn create_tag(&self, request: CreateRef) -> Result<Tag> {
        let _unswept = self.merging().read().await;
        self.check_start(request.from.as_ref()).await?;
        Ok(self.catalog().create_tag(request).await?)
    }

    async fn check_start(&self, from: Option<&RefSpec>) -> Result<()> {
        let Some(from) = from.filter(|from| !matches!(from, RefSpec::Name(_))) else {
            return Ok(());
        };
        let commit = self.catalog().resolve(from).await?.commit;
        let tables = self.catalog().state(commit).await?.entries(None).await?;
        self.check_readable(tables.iter().map(|(_, entry)| entry)).await
    }

    /// Fails where one of some states has lost its files, or is about to. Nothing is removed between that
    /// and what the caller does, as long as it holds [`Lake::merging`].
    pub(crate) async fn check_readable(
        &self,
        entries: impl Iterator<Item = &TableEntry>,
    ) -> Result<()> {
        let states = entries.map(|entry| (entry.metadata_location.clone(), entry.is_view()));
        let states: Vec<(String, bool)> = states.collect();
        let checks = stream::iter(states).map(|(location, is_view)| async move {
            if self.pins().is_doomed(&location) {
                return Err(headwater_tables::Error::Missing { location }.into());
            }
            if is_view {
                self.tables().check_view_readable(&location).await?;
            } else {
                self.tables().check_readable(&location).await?;
            }
            Ok(())
        });
        checks.buffered(CHECKED_AT_ONCE).try_collect().await
    }

    /// Whether nothing but upkeep was done to a table between two of its states.
    pub(crate) async fn only_kept(&self, base: &TableEntry, now: &TableEntry) -> Result<bool> {
        if base == now {
            return Ok(true);
        }
        if base.id != now.id || now.is_view() || base.is_view() {
            return Ok(false);
        }
        let base = self.tables().load(&base.metadata_location).await?;
        let now = self.tables().load(&now.metadata_location).await?;
        Ok(self.tables().only_arranged(&base, &now, false).await)
    }

    /// Whether nothing but upkeep was done to the target of a merge since the source parted from it.
    pub(crate) async fn target_only_kept(&self, plan: &MergePlan) -> Result<bool> {
        let [base] = plan.bases.as_slice() else { return Ok(false) };
        for change in self.catalog().diff(*base, plan.head).await? {
            match (&change.from, &change.to) {
                (Some(from), Some(to)) if self.only_kept(from, to).await? => {}
                _ => return Ok(false),
            }
        }
        Ok(true)
    }
}
