//! Contents of the tables and views that both sides of a merge changed: merges them, writes the
//! results, and reports them.

use std::collections::{BTreeMap, BTreeSet};

use headwater_catalog::{BaseValue, DivergedTable, MergePlan, TableChange};
use headwater_model::{
    CommitId, ConflictCause, MergeChoice, MergeOutcome, MergeReport, MergeResolution, MergedTable,
    TableName,
};
use headwater_table_merge::RowBudget;

use super::table_merge::TableContent;
use super::uncommitted_files::UncommittedMerge;
use super::view_merge::{ViewContent, concerns_view};
use super::{MergeRange, OngoingMerge, conflict_cause};
use crate::error::Result;

/// The merged content of a table or view that both sides changed, or the causes of the conflict.
#[derive(Debug)]
pub(super) enum ContentMergeResult {
    Content(Box<TableContent>),
    View(Box<ViewContent>),
    Conflict(Vec<ConflictCause>),
}

impl ContentMergeResult {
    /// Returns true if a content merge changes the target's table or view.
    pub(super) fn changes(&self) -> bool {
        match self {
            ContentMergeResult::Content(content) => content.changes(),
            ContentMergeResult::View(content) => content.changes(),
            ContentMergeResult::Conflict(_) => false,
        }
    }
}

/// The merge results by table. A result stays valid until the table changes on one of the sides.
pub(super) type MergedContents = BTreeMap<TableName, MergedContent>;

/// The result of merging one table that both sides changed, and the number of compared rows.
#[derive(Debug)]
pub(super) struct MergedContent {
    pub(super) contested: DivergedTable,
    pub(super) verdict: ContentMergeResult,
    /// The number of rows that were compared for this result.
    rows: u64,
}

/// The changes that the merge commit makes, the reports of merged tables, and the objects to store.
#[derive(Default)]
pub(super) struct MergeCommitChanges {
    pub(super) changes: Vec<TableChange>,
    pub(super) merged: Vec<MergedTable>,
    pub(super) objects: Vec<bytes::Bytes>,
}

impl OngoingMerge<'_> {
    /// Merges the contents of the tables that both sides changed. Reuses the results of the
    /// previous attempt for tables that have not changed on either side since then.
    pub(super) async fn merge_contents(&mut self, plan: &MergePlan) -> Result<()> {
        for contested in &plan.contested {
            let known = self.verdicts.get(&contested.table);
            if known.is_some_and(|known| known.contested == *contested) {
                continue;
            }
            self.verdicts.remove(&contested.table);
            let spent = self.verdicts.values().map(|entry| entry.rows).sum();
            let mut budget = RowBudget::new(self.lake.tables(), spent);
            let mut verdict = self.merge_content(contested, &mut budget).await?;
            let doubtful =
                matches!(&verdict, ContentMergeResult::Content(content) if content.may_repeat());
            if doubtful && self.has_common_cherry_pick(plan).await? {
                verdict =
                    ContentMergeResult::Conflict(vec![conflict_cause::duplicate_cherry_pick()]);
            }
            let rows = budget.spent() - spent;
            let entry = MergedContent { contested: contested.clone(), verdict, rows };
            self.verdicts.insert(contested.table.clone(), entry);
        }
        let contested: BTreeSet<&TableName> =
            plan.contested.iter().map(|contested| &contested.table).collect();
        self.verdicts.retain(|table, _| contested.contains(table));
        Ok(())
    }

    /// Returns true if only maintenance changed the target's table since the merge base.
    async fn changed_only_by_maintenance(&self, contested: &DivergedTable) -> Result<bool> {
        match (&contested.base, &contested.ours) {
            (BaseValue::Known(Some(base)), Some(ours)) => {
                self.lake.changed_only_by_maintenance(base, ours).await
            }
            _ => Ok(false),
        }
    }

    async fn merge_content(
        &mut self,
        contested: &DivergedTable,
        budget: &mut RowBudget,
    ) -> Result<ContentMergeResult> {
        let whole = contested.names().into_iter().any(|name| self.options.whole.contains(name));
        if whole && !self.changed_only_by_maintenance(contested).await? {
            return Ok(ContentMergeResult::Conflict(vec![conflict_cause::unchecked_merge()]));
        }
        if concerns_view(contested) {
            return self.lake.view_content(contested).await;
        }
        let (lake, equal_changes) = (self.lake, self.options.equal_changes);
        let verdict = lake.content(contested, equal_changes, &mut self.scratch, budget).await?;
        Ok(match (verdict, &self.range) {
            (ContentMergeResult::Content(content), MergeRange::From { .. }) => {
                ContentMergeResult::Content(Box::new(content.into_change()))
            }
            (verdict, _) => verdict,
        })
    }

    /// Returns the reports of the tables that both sides changed, without writing anything.
    pub(super) fn merged_tables(&self) -> Vec<MergedTable> {
        let tables = self.verdicts.iter().map(|(table, entry)| match &entry.verdict {
            ContentMergeResult::Content(content) => content.report(table),
            ContentMergeResult::View(content) => content.report(table),
            ContentMergeResult::Conflict(causes) => self.chosen(&entry.contested, causes),
        });
        tables.collect()
    }

    /// Writes the merged tables, adds them to `made`, and returns all changes of the target.
    pub(super) async fn final_changes(
        &self,
        plan: &MergePlan,
        made: &mut UncommittedMerge,
    ) -> Result<MergeCommitChanges> {
        let mut result = MergeCommitChanges {
            changes: plan.taken.clone(),
            merged: self.merged_tables(),
            ..MergeCommitChanges::default()
        };
        for MergedContent { contested, verdict, .. } in self.verdicts.values() {
            let merged = match verdict {
                ContentMergeResult::Content(content) => {
                    self.lake.write_content(content, &mut result.objects, made).await?
                }
                ContentMergeResult::View(content) => self.lake.write_view(content, made).await?,
                ContentMergeResult::Conflict(_)
                    if self.request.choice(contested.names()) == MergeChoice::Theirs =>
                {
                    result.changes.extend(contested.resolve_to(contested.theirs.clone()));
                    continue;
                }
                ContentMergeResult::Conflict(_) => continue,
            };
            let changes = merged.is_some() || contested.renames();
            let to = merged.or_else(|| contested.ours.clone()).filter(|_| changes);
            result.changes.extend(to.into_iter().flat_map(|to| contested.resolve_to(Some(to))));
        }
        result.changes.sort_by(|a, b| a.table.cmp(&b.table));
        Ok(result)
    }

    /// Returns the report of the merge.
    pub(super) fn report(
        &self,
        plan: &MergePlan,
        outcome: MergeOutcome,
        commit: CommitId,
        merged: &[MergedTable],
    ) -> MergeReport {
        let mut tables: Vec<TableName> =
            plan.taken.iter().map(|change| change.table.clone()).collect();
        for merged in merged {
            let Some(entry) = self.verdicts.get(&merged.table) else { continue };
            let changes = match merged.how {
                MergeResolution::Ours => false,
                MergeResolution::Theirs => true,
                MergeResolution::ByContent => entry.contested.renames() || entry.verdict.changes(),
            };
            if changes {
                let names = entry.contested.resolve_to(None).into_iter().map(|change| change.table);
                tables.extend(names);
            }
        }
        tables.sort();
        MergeReport { tables, merged: merged.to_vec(), ..plan.report(outcome, commit) }
    }
}
