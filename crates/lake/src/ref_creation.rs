//! Creation of branches and tags, which fails if files of their first commit are missing.

use headwater_model::{Branch, CreateRef, RefSpec, Tag};

use crate::error::Result;
use crate::lake::Lake;

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
}
