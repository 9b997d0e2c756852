//! Merges, by its content, a table that both sides changed.

use std::collections::BTreeMap;

use futures::future::BoxFuture;
use headwater_catalog::{BaseValue, DivergedTable, EntryKind, TableEntry, operation};
use headwater_model::{ConflictCause, MergeResolution, MergedTable, ObjectOwner, TableName};
use headwater_table_merge::{
    EqualChanges, MergeInputs, RowBudget, TableMerge, TableMergeResult, merge as merge_tables,
};
use headwater_tables::Table;

use super::ContentMergeResult;
use super::conflict_cause;
use super::import_lists::{self, ImportList, MergedImports};
use super::uncommitted_files::UncommittedMerge;
use crate::error::Result;
use crate::imported_files::IMPORTS_KEY;
use crate::lake::Lake;

/// The merged content of a table.
#[derive(Debug)]
pub(super) struct TableContent {
    /// The merge to apply; `None` if the target already has the merged content.
    merge: Option<Box<TableMerge>>,
    imports: MergedImports,
    ours: Table,
    /// The owner of the target's table.
    owner: Option<ObjectOwner>,
}

impl TableContent {
    /// Marks the content as the result of a cherry-pick or revert.
    pub fn into_change(self) -> Self {
        TableContent { merge: self.merge.and_then(TableMerge::into_change), ..self }
    }

    /// Returns true if the merge may repeat rows that a cherry-pick has already added.
    pub fn may_repeat(&self) -> bool {
        self.merge.as_ref().is_some_and(|merge| merge.may_repeat())
    }

    /// Returns true if the merge changes the target's table.
    pub fn changes(&self) -> bool {
        self.merge.is_some()
    }

    /// Returns the report of the merged table.
    pub fn report(&self, table: &TableName) -> MergedTable {
        let rows = self.merge.as_ref().map(|merge| merge.rows()).unwrap_or_default();
        MergedTable {
            table: table.clone(),
            how: MergeResolution::ByContent,
            rows_added: rows.rows_added,
            rows_removed: rows.rows_removed,
            whole_files: rows.whole_files,
            files_added: rows.files_added,
            files_removed: rows.files_removed,
            schema_changed: self.merge.as_ref().is_some_and(|merge| merge.changes_metadata()),
            causes: Vec::new(),
        }
    }
}

impl Lake {
    /// Merges the content of a table that both sides changed. Several merge bases are merged into
    /// one first. The table states that this writes are added to `scratch`, so that they are
    /// removed later.
    pub(super) async fn content(
        &self,
        contested: &DivergedTable,
        equal_changes: EqualChanges,
        scratch: &mut UncommittedMerge,
        budget: &mut RowBudget,
    ) -> Result<ContentMergeResult> {
        let name = &contested.table;
        let (Some(ours), Some(theirs)) = (&contested.ours, &contested.theirs) else {
            return Ok(ContentMergeResult::Conflict(vec![conflict_cause::dropped(contested)]));
        };
        let owner = ours.owner.clone();
        let ours = self.tables().load(&ours.metadata_location).await?;
        let theirs = self.tables().load(&theirs.metadata_location).await?;
        let (base, base_imports) = match self.base(name, &contested.base, scratch, budget).await? {
            BaseTable::Table(base, imports) => (base, imports),
            BaseTable::Missing => {
                return Ok(ContentMergeResult::Conflict(vec![conflict_cause::both_created()]));
            }
            BaseTable::Conflict => {
                return Ok(ContentMergeResult::Conflict(vec![conflict_cause::ambiguous_base()]));
            }
        };
        let inputs = MergeInputs { equal_changes, ..MergeInputs::new(&base, &ours, &theirs) };
        let merged = merge_tables(self.tables(), inputs, budget).await?;
        let mut causes: Vec<ConflictCause> = Vec::new();
        let merge = match merged {
            TableMergeResult::Ours => None,
            TableMergeResult::Both(merge) => Some(merge),
            TableMergeResult::Conflicts(conflicts) => {
                for conflict in &conflicts {
                    causes.push(conflict_cause::of_conflict(conflict)?);
                }
                None
            }
        };
        let summaries = [&ours, &theirs].map(|table| table.summary().remove(IMPORTS_KEY));
        let store = self.store().as_ref();
        let shared = merge.as_ref().map(|merge| merge.shared_values(IMPORTS_KEY));
        let shared = shared.unwrap_or_default();
        let imports = import_lists::merge(store, name, &base_imports, summaries, &shared).await?;
        let takes = merge.as_ref().is_some_and(|merge| merge.rows().rows_added > 0);
        if takes && !imports.duplicates.is_empty() {
            causes.push(conflict_cause::duplicate_imports(&imports.duplicates));
        }
        if causes.is_empty() {
            let content = TableContent { merge, imports, ours, owner };
            Ok(ContentMergeResult::Content(Box::new(content)))
        } else {
            Ok(ContentMergeResult::Conflict(causes))
        }
    }

    /// Returns the table at the merge base, and its list of imported files. Several merge bases are
    /// first merged into one.
    fn base<'a>(
        &'a self,
        name: &'a TableName,
        base: &'a BaseValue,
        scratch: &'a mut UncommittedMerge,
        budget: &'a mut RowBudget,
    ) -> BoxFuture<'a, Result<BaseTable>> {
        Box::pin(async move {
            let merged = match base {
                BaseValue::Known(None) => return Ok(BaseTable::Missing),
                BaseValue::Known(Some(entry)) => {
                    let table = self.tables().load(&entry.metadata_location).await?;
                    let imports = ImportList::Stored(table.summary().remove(IMPORTS_KEY));
                    return Ok(BaseTable::Table(table, imports));
                }
                BaseValue::Merged(merged) => merged,
            };
            let (mut tables, mut lists) = (Vec::new(), Vec::new());
            for side in [&merged.base, &merged.one, &merged.other] {
                match self.base(name, side, scratch, budget).await? {
                    BaseTable::Table(table, list) => {
                        tables.push(table);
                        lists.push(list);
                    }
                    BaseTable::Missing | BaseTable::Conflict => return Ok(BaseTable::Conflict),
                }
            }
            let ([below, one, other], [below_list, one_list, other_list]) =
                (tables.as_slice(), lists.as_slice())
            else {
                return Ok(BaseTable::Conflict);
            };
            let lists = [below_list, one_list, other_list];
            let (list, duplicates) =
                import_lists::merge_bases(self.store().as_ref(), name, lists).await?;
            let inputs = MergeInputs::new(below, one, other);
            match merge_tables(self.tables(), inputs, budget).await? {
                TableMergeResult::Ours => Ok(BaseTable::Table(one.clone(), list)),
                TableMergeResult::Conflicts(_) => Ok(BaseTable::Conflict),
                TableMergeResult::Both(merge) if duplicates && merge.rows().rows_added > 0 => {
                    Ok(BaseTable::Conflict)
                }
                TableMergeResult::Both(merge) => {
                    let made = merge.commit(self.tables(), BTreeMap::new()).await?;
                    let table = made.table.clone();
                    scratch.add(made, one.clone());
                    Ok(BaseTable::Table(table, list))
                }
            }
        })
    }

    /// Writes the merged table and adds it to `made`. Returns `None` if the target does not change.
    /// Appends the objects that the commit must store to `objects`.
    pub(super) async fn write_content(
        &self,
        content: &TableContent,
        objects: &mut Vec<bytes::Bytes>,
        made: &mut UncommittedMerge,
    ) -> Result<Option<TableEntry>> {
        let Some(merge) = &content.merge else { return Ok(None) };
        let mut summary = merge.kept_summary();
        summary.remove(IMPORTS_KEY);
        let imports = content.imports.value.clone();
        summary.extend(imports.map(|value| (IMPORTS_KEY.to_owned(), value)));
        let new = merge.commit(self.tables(), summary).await?;
        objects.extend(content.imports.objects.iter().cloned());
        let operation_name =
            if merge.only_adds() { operation::APPENDED } else { operation::CHANGED };
        let entry = TableEntry {
            kind: EntryKind::Table,
            id: new.table.id(),
            metadata_location: new.table.metadata_location().to_owned(),
            snapshot: new.table.snapshot_id(),
            operation: operation_name.to_owned(),
            owner: content.owner.clone(),
        };
        made.add(new, content.ours.clone());
        Ok(Some(entry))
    }
}

/// The table at the merge base.
enum BaseTable {
    Table(Table, ImportList),
    /// The table does not exist at the merge base.
    Missing,
    /// The merge base is ambiguous, because criss-cross merges resolved the table in different
    /// ways.
    Conflict,
}
