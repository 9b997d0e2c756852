//! A table that both sides changed, looked into and merged by its content.

use std::collections::BTreeMap;

use futures::future::BoxFuture;
use headwater_catalog::{Base, Contested, EntryKind, TableEntry, operation};
use headwater_model::{ConflictCause, MergedHow, MergedTable, TableName};
use headwater_tables::{Merged, RowBudget, Table, TableMerge};

use super::Verdict;
use super::cause;
use super::imports::{self, List, MergedImports};
use super::scratch::Scratch;
use crate::error::Result;
use crate::imported_files::IMPORTS_KEY;
use crate::lake::Lake;

/// What a table's content comes to.
#[derive(Debug)]
pub(super) struct Content {
    /// None where the target has it all.
    merge: Option<Box<TableMerge>>,
    imports: MergedImports,
    ours: Table,
}

impl Content {
    /// The same as the change of a commit that is made again, or undone.
    pub fn into_change(self) -> Self {
        Content { merge: self.merge.and_then(TableMerge::into_change), ..self }
    }

    /// Whether rows come that may be there already, should a commit have been picked.
    pub fn may_repeat(&self) -> bool {
        self.merge.as_ref().is_some_and(|merge| merge.may_repeat())
    }

    /// Whether the target's table changes.
    pub fn changes(&self) -> bool {
        self.merge.is_some()
    }

    /// The merge of the table as it is told.
    pub fn report(&self, table: &TableName) -> MergedTable {
        let rows = self.merge.as_ref().map(|merge| merge.rows()).unwrap_or_default();
        MergedTable {
            table: table.clone(),
            how: MergedHow::ByContent,
            rows_added: rows.rows_added,
            rows_removed: rows.rows_removed,
            whole_files: rows.whole_files,
            files_added: rows.files_added,
            files_removed: rows.files_removed,
            reshaped: self.merge.as_ref().is_some_and(|merge| merge.reshapes()),
            causes: Vec::new(),
        }
    }
}

impl Lake {
    /// Looks into a table that both sides changed. What had to be made to do so is in `scratch`.
    pub(super) async fn content(
        &self,
        contested: &Contested,
        scratch: &mut Scratch,
        budget: &mut RowBudget,
    ) -> Result<Verdict> {
        let name = &contested.table;
        let (Some(ours), Some(theirs)) = (&contested.ours, &contested.theirs) else {
            return Ok(Verdict::Conflict(vec![cause::dropped(contested)]));
        };
        let ours = self.tables().load(&ours.metadata_location).await?;
        let theirs = self.tables().load(&theirs.metadata_location).await?;
        let (base, base_imports) = match self.base(name, &contested.base, scratch, budget).await? {
            Found::Table(base, imports) => (base, imports),
            Found::Nothing => return Ok(Verdict::Conflict(vec![cause::identity()])),
            Found::Conflict => return Ok(Verdict::Conflict(vec![cause::bases()])),
        };
        let merged = self.tables().merge(&base, &ours, &theirs, budget).await?;
        let mut causes: Vec<ConflictCause> = Vec::new();
        let merge = match merged {
            Merged::Ours => None,
            Merged::Both(merge) => Some(merge),
            Merged::Clashes(clashes) => {
                for clash in &clashes {
                    causes.push(cause::of(clash)?);
                }
                None
            }
        };
        let summaries = [&ours, &theirs].map(|table| table.summary().remove(IMPORTS_KEY));
        let store = self.store().as_ref();
        let imports = imports::merge(store, name, &base_imports, summaries).await?;
        let takes = merge.as_ref().is_some_and(|merge| merge.rows().rows_added > 0);
        if takes && !imports.twice.is_empty() {
            causes.push(cause::imports(&imports.twice));
        }
        if causes.is_empty() {
            Ok(Verdict::Content(Box::new(Content { merge, imports, ours })))
        } else {
            Ok(Verdict::Conflict(causes))
        }
    }

    /// The table that both sides come from, and the list of files imported into it. Where that is
    /// several, they are merged with each other first.
    fn base<'a>(
        &'a self,
        name: &'a TableName,
        base: &'a Base,
        scratch: &'a mut Scratch,
        budget: &'a mut RowBudget,
    ) -> BoxFuture<'a, Result<Found>> {
        Box::pin(async move {
            let merged = match base {
                Base::Known(None) => return Ok(Found::Nothing),
                Base::Known(Some(entry)) => {
                    let table = self.tables().load(&entry.metadata_location).await?;
                    let imports = List::Named(table.summary().remove(IMPORTS_KEY));
                    return Ok(Found::Table(table, imports));
                }
                Base::Merged(merged) => merged,
            };
            let (mut tables, mut lists) = (Vec::new(), Vec::new());
            for side in [&merged.base, &merged.one, &merged.other] {
                match self.base(name, side, scratch, budget).await? {
                    Found::Table(table, list) => {
                        tables.push(table);
                        lists.push(list);
                    }
                    Found::Nothing | Found::Conflict => return Ok(Found::Conflict),
                }
            }
            let ([below, one, other], [below_list, one_list, other_list]) =
                (tables.as_slice(), lists.as_slice())
            else {
                return Ok(Found::Conflict);
            };
            let lists = [below_list, one_list, other_list];
            let (list, twice) = imports::merge_bases(self.store().as_ref(), name, lists).await?;
            match self.tables().merge(below, one, other, budget).await? {
                Merged::Ours => Ok(Found::Table(one.clone(), list)),
                Merged::Clashes(_) => Ok(Found::Conflict),
                Merged::Both(merge) if twice && merge.rows().rows_added > 0 => Ok(Found::Conflict),
                Merged::Both(merge) => {
                    let made = self.tables().apply_merge(&merge, BTreeMap::new()).await?;
                    let table = made.table.clone();
                    scratch.add(made, one.clone());
                    Ok(Found::Table(table, list))
                }
            }
        })
    }

    /// Makes what a table's content comes to, which is then in `made`; none where the target has it all.
    /// Objects that the store must hold then are added to `objects`.
    pub(super) async fn make(
        &self,
        content: &Content,
        objects: &mut Vec<bytes::Bytes>,
        made: &mut Scratch,
    ) -> Result<Option<TableEntry>> {
        let Some(merge) = &content.merge else { return Ok(None) };
        let mut summary = merge.kept_summary();
        summary.remove(IMPORTS_KEY);
        let imports = content.imports.value.clone();
        summary.extend(imports.map(|value| (IMPORTS_KEY.to_owned(), value)));
        let new = self.tables().apply_merge(merge, summary).await?;
        objects.extend(content.imports.objects.iter().cloned());
        let word = if merge.only_adds() { operation::APPENDED } else { operation::CHANGED };
        let entry = TableEntry {
            kind: EntryKind::Table,
            id: new.table.id(),
            metadata_location: new.table.metadata_location().to_owned(),
            snapshot: new.table.snapshot_id(),
            operation: word.to_owned(),
        };
        made.add(new, content.ours.clone());
        Ok(Some(entry))
    }
}

/// What both sides come from.
enum Found {
    Table(Table, List),
    /// There was no such table.
    Nothing,
    /// Crosswise merges settled it in different ways.
    Conflict,
}
