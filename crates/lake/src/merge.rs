//! Merges one ref into a branch.

use headwater_model::{MergeReport, MergeRequest};

use crate::error::Result;
use crate::lake::Lake;

impl Lake {
    /// Merges a ref into a branch, table by table. A conflict is an answer and no error: the report
    /// names every table and both changes, and nothing was changed. A protected branch takes
    /// merges.
    pub async fn merge(
        &self,
        target: &str,
        request: MergeRequest,
        author: &str,
    ) -> Result<MergeReport> {
        Ok(self.catalog().merge(target, request, author).await?)
    }
}
