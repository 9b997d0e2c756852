//! Finds tables and merge targets that only maintenance has changed.

use headwater_catalog::{MergePlan, TableEntry};

use crate::error::Result;
use crate::lake::Lake;

impl Lake {
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
