//! Merges an SQL view that both sides changed. The merge succeeds if one side changed the query and
//! the other side the properties, or if both made the same change.

use headwater_catalog::{BaseValue, DivergedTable, TableEntry, operation};
use headwater_model::{
    ConflictCause, ConflictKind, MergeResolution, MergedTable, ObjectOwner, TableName,
};
use headwater_tables::{SqlView, ViewMerge, ViewMergeResult};

use super::uncommitted_files::UncommittedMerge;
use super::{ContentMergeResult, conflict_cause};
use crate::error::Result;
use crate::lake::Lake;
use crate::transaction::view_entry;

/// The merged view.
#[derive(Debug)]
pub(super) struct ViewContent {
    /// The merge to apply; `None` if the target already has the merged view.
    merge: Option<Box<ViewMerge>>,
    ours: SqlView,
    /// The owner of the target's view.
    owner: Option<ObjectOwner>,
}

impl ViewContent {
    /// Returns true if the merge changes the target's view.
    pub fn changes(&self) -> bool {
        self.merge.is_some()
    }

    /// Returns the report of the merged view.
    pub fn report(&self, view: &TableName) -> MergedTable {
        MergedTable {
            table: view.clone(),
            how: MergeResolution::ByContent,
            rows_added: 0,
            rows_removed: 0,
            whole_files: false,
            files_added: 0,
            files_removed: 0,
            schema_changed: self.merge.is_some(),
            causes: Vec::new(),
        }
    }
}

/// Returns true if the name in conflict refers to a view on either side or at the base.
pub(super) fn concerns_view(contested: &DivergedTable) -> bool {
    let sides = [contested.base.first(), &contested.ours, &contested.theirs];
    sides.into_iter().flatten().any(TableEntry::is_view)
}

impl Lake {
    /// Merges a view that both sides changed.
    pub(super) async fn view_content(
        &self,
        contested: &DivergedTable,
    ) -> Result<ContentMergeResult> {
        let (Some(ours), Some(theirs)) = (&contested.ours, &contested.theirs) else {
            return Ok(ContentMergeResult::Conflict(vec![conflict_cause::dropped(contested)]));
        };
        if !ours.is_view() || !theirs.is_view() {
            return Ok(ContentMergeResult::Conflict(vec![conflict_cause::view_and_table(
                ours.is_view(),
            )]));
        }
        let base = match &contested.base {
            BaseValue::Known(Some(base)) if base.is_view() && base.id == ours.id => {
                Some(self.tables().views().load(&base.metadata_location).await?)
            }
            BaseValue::Known(_) => None,
            BaseValue::Merged(_) => {
                return Ok(ContentMergeResult::Conflict(vec![conflict_cause::ambiguous_base()]));
            }
        };
        let owner = ours.owner.clone();
        let ours = self.tables().views().load(&ours.metadata_location).await?;
        let theirs = self.tables().views().load(&theirs.metadata_location).await?;
        let merge = match self.tables().views().merge(base.as_ref(), &ours, &theirs)? {
            ViewMergeResult::Ours => None,
            ViewMergeResult::Both(merge) => Some(merge),
            ViewMergeResult::Conflicts { query, properties } => {
                let is_function = contested.table.function().is_some();
                let what = if is_function { "function" } else { "view" };
                let causes = causes(what, base.is_none(), query, &properties);
                return Ok(ContentMergeResult::Conflict(causes));
            }
        };
        Ok(ContentMergeResult::View(Box::new(ViewContent { merge, ours, owner })))
    }

    /// Writes the merged view and adds it to `made`. Returns `None` if the target does not change.
    pub(super) async fn write_view(
        &self,
        content: &ViewContent,
        made: &mut UncommittedMerge,
    ) -> Result<Option<TableEntry>> {
        let Some(merge) = &content.merge else { return Ok(None) };
        let view = self.tables().views().apply_merge(merge).await?;
        let entry = view_entry(&view, operation::CHANGED, content.owner.clone());
        made.add_view(view, content.ours.clone());
        Ok(Some(entry))
    }
}

fn causes(
    what: &str,
    both_created: bool,
    query: bool,
    properties: &[String],
) -> Vec<ConflictCause> {
    let mut causes = Vec::new();
    if query {
        let message = match (what, both_created) {
            ("function", true) => "both sides created a function with this name",
            ("function", false) => "both sides changed the function",
            (_, true) => "both sides created a view with this name, with different queries",
            (_, false) => "both sides changed the query of the view",
        };
        causes.push(conflict_cause::plain(ConflictKind::View, message.to_owned()));
    }
    for property in properties {
        let message = format!("both sides set the property `{property}` to different values");
        causes.push(conflict_cause::plain(ConflictKind::Property, message));
    }
    causes
}
