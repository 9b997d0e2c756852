//! A table that both sides changed, looked into and merged by its content.

use std::collections::BTreeMap;

use futures::future::BoxFuture;
use headwater_catalog::{Base, Contested, TableEntry, operation};
use headwater_model::{ConflictCause, MergedHow, MergedTable, TableName};
use headwater_tables::{MadeMerge, Merged, Table, TableMerge};

use super::Verdict;
use super::cause;
use super::imports::{self, MergedImports};
use crate::error::Result;
use crate::import::IMPORTS_KEY;
use crate::lake::Lake;

/// What a table's content comes to.
#[derive(Debug)]
pub(super) struct Content {
    /// None where the target has it all.
    merge: Option<Box<TableMerge>>,
    imports: MergedImports,
    ours: Table,
}

/// A table that was made by a merge.
#[derive(Debug)]
pub(super) struct Made {
    pub entry: TableEntry,
    made: MadeMerge,
    before: Table,
}

/// What merges made on the way and nobody came to need.
#[derive(Debug, Default)]
pub(super) struct Scratch(Vec<(MadeMerge, Table)>);

impl Scratch {
    pub fn add(&mut self, made: Vec<Made>) {
        self.0.extend(made.into_iter().map(|made| (made.made, made.before)));
    }

    /// Removes everything. What cannot be removed is left for the lake's upkeep to find.
    pub async fn discard(&mut self, lake: &Lake) {
        for (made, before) in std::mem::take(&mut self.0).into_iter().rev() {
            if let Err(error) = lake.tables().discard_state(&made.table, Some(&before)).await {
                tracing::warn!(%error, "the metadata of a merge that was not made is left behind");
            }
            for staged in made.staged {
                if let Err(error) = lake.tables().discard(staged).await {
                    tracing::warn!(%error, "a data file of a merge that was not made is left behind");
                }
            }
        }
    }
}

impl Content {
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
    ) -> Result<Verdict> {
        let name = &contested.table;
        let (Some(ours), Some(theirs)) = (&contested.ours, &contested.theirs) else {
            let ours_dropped = contested.ours.is_none();
            return Ok(Verdict::Conflict(vec![cause::dropped(ours_dropped)]));
        };
        let ours = self.tables().load(&ours.metadata_location).await?;
        let theirs = self.tables().load(&theirs.metadata_location).await?;
        let base = match self.base(&contested.base, scratch).await? {
            Found::Table(base) => base,
            Found::Nothing => return Ok(Verdict::Conflict(vec![cause::identity()])),
            Found::Conflict => return Ok(Verdict::Conflict(vec![cause::bases()])),
        };
        let merged = self.tables().merge(&base, &ours, &theirs).await?;
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
        let summaries = [&base, &ours, &theirs].map(|table| table.summary().remove(IMPORTS_KEY));
        let imports = imports::merge(self.store().as_ref(), name, summaries).await?;
        let takes = merge.as_ref().is_some_and(|merge| merge.rows().files_added > 0);
        if takes && !imports.twice.is_empty() {
            causes.push(cause::imports(&imports.twice));
        }
        if causes.is_empty() {
            Ok(Verdict::Content(Box::new(Content { merge, imports, ours })))
        } else {
            Ok(Verdict::Conflict(causes))
        }
    }

    /// The table that both sides come from. Where that is several, they are merged with each other
    /// first.
    fn base<'a>(
        &'a self,
        base: &'a Base,
        scratch: &'a mut Scratch,
    ) -> BoxFuture<'a, Result<Found>> {
        Box::pin(async move {
            let merged = match base {
                Base::Known(None) => return Ok(Found::Nothing),
                Base::Known(Some(entry)) => {
                    let table = self.tables().load(&entry.metadata_location).await?;
                    return Ok(Found::Table(table));
                }
                Base::Merged(merged) => merged,
            };
            let mut tables = Vec::new();
            for side in [&merged.base, &merged.one, &merged.other] {
                match self.base(side, scratch).await? {
                    Found::Table(table) => tables.push(table),
                    Found::Nothing | Found::Conflict => return Ok(Found::Conflict),
                }
            }
            let [below, one, other] = tables.as_slice() else { return Ok(Found::Conflict) };
            match self.tables().merge(below, one, other).await? {
                Merged::Ours => Ok(Found::Table(one.clone())),
                Merged::Clashes(_) => Ok(Found::Conflict),
                Merged::Both(merge) => {
                    let made = self.tables().apply_merge(&merge, BTreeMap::new()).await?;
                    let table = made.table.clone();
                    scratch.0.push((made, one.clone()));
                    Ok(Found::Table(table))
                }
            }
        })
    }

    /// Makes what a table's content comes to; none where the target has it all. Objects that the store
    /// must hold then are added to `objects`.
    pub(super) async fn make(
        &self,
        content: &Content,
        objects: &mut Vec<bytes::Bytes>,
    ) -> Result<Option<Made>> {
        let Some(merge) = &content.merge else { return Ok(None) };
        let imports = content.imports.value.iter();
        let summary = imports.map(|value| (IMPORTS_KEY.to_owned(), value.clone())).collect();
        let made = self.tables().apply_merge(merge, summary).await?;
        objects.extend(content.imports.objects.iter().cloned());
        let word = if merge.only_adds() { operation::APPENDED } else { operation::CHANGED };
        let entry = TableEntry {
            id: made.table.id(),
            metadata_location: made.table.metadata_location().to_owned(),
            snapshot: made.table.snapshot_id(),
            operation: word.to_owned(),
        };
        Ok(Some(Made { entry, made, before: content.ours.clone() }))
    }
}

/// What both sides come from.
enum Found {
    Table(Table),
    /// There was no such table.
    Nothing,
    /// Crosswise merges settled it in different ways.
    Conflict,
}
