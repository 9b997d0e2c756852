//! What a transaction does to one table, kept so that it can be done again on a newer state of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{Field, SchemaRef};
use bytes::Bytes;
use headwater_catalog::{TableEntry, operation};
use headwater_model::{PartitionField, TableName};
use headwater_tables::{
    Alteration, Beside, DataFile, Operation, Rewrite, Staged, Table, TableCommit,
};

use super::staged_files::{Made, discard_states};
use crate::error::Result;
use crate::imported_files::{IMPORTS_KEY, ImportedFiles};
use crate::lake::Lake;

/// One change of one table.
#[derive(Debug, Clone)]
pub(super) enum Change {
    /// The table is made; doing it again is never right.
    Create,
    Append {
        staged: Staged,
        imported: Option<ImportedFiles>,
    },
    Overwrite(Staged),
    OverwritePartitions {
        staged: Staged,
        beside: Option<Beside>,
    },
    Rewrite(Rewrite),
    Compact {
        removed: Vec<Arc<DataFile>>,
        staged: Staged,
    },
    Replace {
        schema: SchemaRef,
        partition: Vec<PartitionField>,
        after: Option<i32>,
        staged: Staged,
    },
    AddColumns {
        columns: Vec<Field>,
        after: Option<i32>,
    },
    Alter {
        alterations: Vec<Alteration>,
        after: Option<i32>,
    },
    SetProperties(BTreeMap<String, String>),
    /// What another engine asks for; it says itself what must be so.
    Apply(Arc<TableCommit>),
    ArrangeManifests,
    ExpireSnapshots(Vec<i64>),
    Drop,
}

impl Change {
    /// Whether it makes a snapshot in which rows stay that files were imported for.
    fn keeps_rows(&self) -> bool {
        match self {
            Change::Append { .. }
            | Change::OverwritePartitions { .. }
            | Change::Rewrite(_)
            | Change::Compact { .. }
            | Change::Apply(_)
            | Change::ArrangeManifests
            | Change::ExpireSnapshots(_) => true,
            Change::Create
            | Change::Overwrite(_)
            | Change::Replace { .. }
            | Change::AddColumns { .. }
            | Change::Alter { .. }
            | Change::SetProperties(_)
            | Change::Drop => false,
        }
    }

    /// The files that it imports.
    fn imported(&self) -> Option<&ImportedFiles> {
        match self {
            Change::Append { imported, .. } => imported.as_ref(),
            _ => None,
        }
    }
}

/// The changes of one table.
#[derive(Debug)]
pub(super) struct Pending {
    /// What the branch held when the table was first touched.
    entry: Option<TableEntry>,
    changes: Vec<Change>,
    /// The table with the first `applied` changes made.
    table: Option<Table>,
    applied: usize,
    /// Objects that the applied changes need in the store.
    objects: Vec<Bytes>,
}

/// What applying changes gave.
pub(super) struct Applied {
    pub table: Option<Table>,
    pub objects: Vec<Bytes>,
    /// Every state that was made on the way.
    pub made: Vec<Made>,
}

impl Pending {
    pub fn new(entry: Option<TableEntry>, table: Option<Table>) -> Self {
        Pending { entry, changes: Vec::new(), table, applied: 0, objects: Vec::new() }
    }

    /// What the branch held when the table was first touched.
    pub fn entry(&self) -> Option<&TableEntry> {
        self.entry.as_ref()
    }

    /// The table with the changes applied so far; none where it is not there.
    pub fn table(&self) -> Option<&Table> {
        self.table.as_ref()
    }

    /// Objects that the applied changes need in the store.
    pub fn objects(&self) -> &[Bytes] {
        &self.objects
    }

    pub fn is_unchanged(&self) -> bool {
        self.changes.is_empty()
    }

    /// Adds a change that is to be made.
    pub fn add(&mut self, change: Change) {
        self.changes.push(change);
    }

    /// Adds a change that is made already. Every change before it must be, too.
    pub fn add_applied(&mut self, change: Change, table: Option<Table>) {
        self.changes.push(change);
        self.applied = self.changes.len();
        self.table = table;
    }

    /// Whether the changes mean the same on a newer state of the table.
    pub fn can_rebase(&self) -> bool {
        // A rewrite sees for itself whether it still fits.
        let rebases = |change: &Change| {
            use Change::{
                AddColumns, Alter, Append, Apply, ArrangeManifests, Compact, ExpireSnapshots,
                Rewrite, SetProperties,
            };
            matches!(
                change,
                Append { .. }
                    | AddColumns { .. }
                    | Alter { .. }
                    | Rewrite(_)
                    | Compact { .. }
                    | SetProperties(_)
                    | Apply(_)
                    | ArrangeManifests
                    | ExpireSnapshots(_)
            )
        };
        self.changes.iter().all(rebases)
    }

    /// Whether it cannot be merged with what upkeep did: it is no change of rows itself, or one of another
    /// engine, which makes it again.
    pub fn gives_way(&self) -> bool {
        use Change::{Apply, ArrangeManifests, Compact, ExpireSnapshots};
        let gives_way = |change: &Change| {
            matches!(change, Compact { .. } | ArrangeManifests | ExpireSnapshots(_) | Apply(_))
        };
        self.changes.iter().any(gives_way)
    }

    /// Whether rows that others added in the meantime are left alone, whatever they are.
    pub fn bears_appends(&self) -> bool {
        let sees = |change: &Change| matches!(change, Change::Rewrite(rewrite) if rewrite.unseen.is_some());
        self.can_rebase() && !self.changes.iter().any(sees)
    }

    /// What the changes amount to, in the word that conflicts use.
    pub fn word(&self) -> &'static str {
        let mut word = operation::CHANGED;
        for change in &self.changes {
            let appends = match change {
                Change::Apply(commit) => commit.appends(),
                _ => None,
            };
            word = match (change, word) {
                (Change::Apply(_), word) => match (appends, word) {
                    (None, word) | (_, word @ (operation::CREATED | operation::REPLACED)) => word,
                    (Some(true), _) => operation::APPENDED,
                    (Some(false), _) => operation::CHANGED,
                },
                (Change::Append { .. }, operation::CREATED | operation::REPLACED)
                | (
                    Change::AddColumns { .. }
                    | Change::Alter { .. }
                    | Change::SetProperties(_)
                    | Change::ArrangeManifests
                    | Change::ExpireSnapshots(_)
                    | Change::Compact { .. },
                    _,
                ) => word,
                (Change::Append { .. }, _) => operation::APPENDED,
                (Change::Rewrite(_), operation::CHANGED | operation::APPENDED) => {
                    operation::CHANGED
                }
                (Change::Create, _) | (_, operation::CREATED) => operation::CREATED,
                _ => operation::REPLACED,
            };
        }
        word
    }

    /// The changes not applied yet, on the table as this transaction has it.
    pub async fn apply_rest(&self, context: &Context<'_>) -> Result<Applied> {
        let rest = &self.changes[self.applied..];
        let mut applied = context.apply(self.table.clone(), rest).await?;
        applied.objects.splice(..0, self.objects.iter().cloned());
        Ok(applied)
    }

    /// All changes, on a newer state of the table.
    pub async fn rebase(&self, context: &Context<'_>, table: Table) -> Result<Applied> {
        context.apply(Some(table), &self.changes).await
    }

    /// Takes over what applying the rest gave.
    pub fn set_applied(&mut self, applied: Applied) {
        self.applied = self.changes.len();
        self.table = applied.table;
        self.objects = applied.objects;
    }
}

/// What changes are applied with.
pub(super) struct Context<'a> {
    pub lake: &'a Lake,
    pub name: &'a TableName,
    pub snapshot_properties: &'a BTreeMap<String, String>,
    /// Whether the changes are made on what another commit left.
    pub rebases: bool,
}

impl Context<'_> {
    async fn apply(&self, table: Option<Table>, changes: &[Change]) -> Result<Applied> {
        let mut applied = Applied { table, objects: Vec::new(), made: Vec::new() };
        match self.apply_to(&mut applied, changes).await {
            Ok(()) => Ok(applied),
            Err(error) => {
                discard_states(self.lake.tables(), applied.made).await;
                Err(error)
            }
        }
    }

    async fn apply_to(&self, applied: &mut Applied, changes: &[Change]) -> Result<()> {
        let Applied { table, objects, made } = applied;
        for change in changes {
            let Some(current) = &*table else { break };
            let mut summary = self.snapshot_properties.clone();
            if change.keeps_rows() {
                let imports = self.imports(current, change.imported(), objects).await?;
                summary.extend(imports.map(|imports| (IMPORTS_KEY.to_owned(), imports)));
            }
            let operation = match change.clone() {
                Change::Create => continue,
                Change::Drop => {
                    *table = None;
                    continue;
                }
                Change::Append { staged, imported: _ } => Operation::Append(staged),
                Change::OverwritePartitions { staged, beside } => {
                    Operation::OverwritePartitions { staged, beside }
                }
                Change::Rewrite(rewrite) => Operation::Rewrite(rewrite),
                Change::Compact { removed, staged } => Operation::Compact { removed, staged },
                Change::ArrangeManifests => Operation::ArrangeManifests,
                Change::ExpireSnapshots(ids) => Operation::ExpireSnapshots(ids),
                Change::Overwrite(staged) => Operation::Overwrite(staged),
                Change::Replace { schema, partition, after, staged } => {
                    Operation::Replace { schema, partition, after, staged }
                }
                Change::AddColumns { columns, after } => Operation::AddColumns { columns, after },
                Change::Alter { alterations, after } => Operation::Alter { alterations, after },
                Change::SetProperties(properties) => Operation::SetProperties(properties),
                Change::Apply(commit) => Operation::Apply(commit),
            };
            let foreign = matches!(operation, Operation::Apply(_));
            let state = self.lake.tables().commit(current, operation, summary).await?;
            let before = Some(current.clone());
            let name = self.name.clone();
            let rebased = self.rebases;
            made.push(Made { name, state: state.clone(), before, rebased, foreign });
            *table = Some(state);
        }
        Ok(())
    }

    /// The list of imported files that the next snapshot carries: that of the current one, with new
    /// files added.
    async fn imports(
        &self,
        table: &Table,
        imported: Option<&ImportedFiles>,
        objects: &mut Vec<Bytes>,
    ) -> Result<Option<String>> {
        let current = table.summary().get(IMPORTS_KEY).cloned();
        match imported {
            None => Ok(current),
            Some(files) => {
                let store = self.lake.store().as_ref();
                files.add_to(store, self.name, current.as_deref(), objects).await.map(Some)
            }
        }
    }
}
