//! A view that both sides changed: merged where one changed its query and the other its properties, or both
//! alike.

use headwater_catalog::{Base, Contested, TableEntry, operation};
use headwater_model::{ConflictCause, ConflictKind, MergedHow, MergedTable, TableName};
use headwater_tables::{MergedView, SqlView, ViewMerge};

use super::scratch::Scratch;
use super::{Verdict, cause};
use crate::error::Result;
use crate::lake::Lake;
use crate::transaction::view_entry;

/// What a view comes to.
#[derive(Debug)]
pub(super) struct ViewContent {
    /// None where the target has it all.
    merge: Option<Box<ViewMerge>>,
    ours: SqlView,
}

impl ViewContent {
    /// Whether the target's view changes.
    pub fn changes(&self) -> bool {
        self.merge.is_some()
    }

    /// The merge of the view as it is told.
    pub fn report(&self, view: &TableName) -> MergedTable {
        MergedTable {
            table: view.clone(),
            how: MergedHow::ByContent,
            rows_added: 0,
            rows_removed: 0,
            whole_files: false,
            files_added: 0,
            files_removed: 0,
            reshaped: self.merge.is_some(),
            causes: Vec::new(),
        }
    }
}

/// Whether one of the states that a contested name has is a view.
pub(super) fn concerns_view(contested: &Contested) -> bool {
    let sides = [contested.base.first(), &contested.ours, &contested.theirs];
    sides.into_iter().flatten().any(TableEntry::is_view)
}

impl Lake {
    /// Looks into a view that both sides changed.
    pub(super) async fn view_content(&self, contested: &Contested) -> Result<Verdict> {
        let (Some(ours), Some(theirs)) = (&contested.ours, &contested.theirs) else {
            return Ok(Verdict::Conflict(vec![cause::dropped(contested)]));
        };
        if !ours.is_view() || !theirs.is_view() {
            return Ok(Verdict::Conflict(vec![cause::view_and_table(ours.is_view())]));
        }
        let base = match &contested.base {
            Base::Known(Some(base)) if base.is_view() && base.id == ours.id => {
                Some(self.tables().load_view(&base.metadata_location).await?)
            }
            Base::Known(_) => None,
            Base::Merged(_) => return Ok(Verdict::Conflict(vec![cause::bases()])),
        };
        let ours = self.tables().load_view(&ours.metadata_location).await?;
        let theirs = self.tables().load_view(&theirs.metadata_location).await?;
        let merge = match self.tables().merge_views(base.as_ref(), &ours, &theirs)? {
            MergedView::Ours => None,
            MergedView::Both(merge) => Some(merge),
            MergedView::Clashes { query, properties } => {
                return Ok(Verdict::Conflict(causes(base.is_none(), query, &properties)));
            }
        };
        Ok(Verdict::View(Box::new(ViewContent { merge, ours })))
    }

    /// Makes what a view comes to, which is then in `made`; none where the target has it all.
    pub(super) async fn make_view(
        &self,
        content: &ViewContent,
        made: &mut Scratch,
    ) -> Result<Option<TableEntry>> {
        let Some(merge) = &content.merge else { return Ok(None) };
        let view = self.tables().apply_view_merge(merge).await?;
        let entry = view_entry(&view, operation::CHANGED);
        made.add_view(view, content.ours.clone());
        Ok(Some(entry))
    }
}

fn causes(both_made: bool, query: bool, properties: &[String]) -> Vec<ConflictCause> {
    let mut causes = Vec::new();
    if query {
        let message = if both_made {
            "both made a view of that name, with different queries"
        } else {
            "both changed the query of the view"
        };
        causes.push(cause::plain(ConflictKind::View, message.to_owned()));
    }
    for property in properties {
        let message = format!("both set the property `{property}` differently");
        causes.push(cause::plain(ConflictKind::Property, message));
    }
    causes
}
