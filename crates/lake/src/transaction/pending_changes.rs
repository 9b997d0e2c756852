//! The pending changes of one table, in a form that can be rebased on a newer state.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{Field, SchemaRef};
use bytes::Bytes;
use headwater_catalog::{TableEntry, operation};
use headwater_model::{ObjectOwner, PartitionField, TableName};
use headwater_table_rest::{RestTables, TableCommit};
use headwater_tables::{
    Alteration, DataFile, READ_UP_TO, RetainedRows, RowRewrite, StagedFiles, Table, TableOperation,
};

use super::discard_guard::{NewTableState, discard_states};
use crate::error::Result;
use crate::imported_files::{IMPORTS_KEY, ImportedFiles};
use crate::lake::Lake;

/// A change of a table.
#[derive(Debug, Clone)]
pub(super) enum PendingChange {
    /// Creation of the table, which cannot be rebased.
    Create,
    /// Adoption of the state of the table at another commit, which cannot be rebased.
    Adopt,
    Append {
        staged: StagedFiles,
        imported: Option<ImportedFiles>,
    },
    Overwrite(StagedFiles),
    OverwritePartitions {
        staged: StagedFiles,
        retained: Option<RetainedRows>,
    },
    Rewrite(RowRewrite),
    Compact {
        removed: Vec<Arc<DataFile>>,
        staged: StagedFiles,
    },
    Replace {
        schema: SchemaRef,
        partition: Vec<PartitionField>,
        after: Option<i32>,
        staged: StagedFiles,
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
    /// A commit request of another engine: its updates, and the requirements on the table's state.
    Apply(Arc<TableCommit>),
    RewriteManifests,
    ExpireSnapshots(Vec<i64>),
    Drop,
}

impl PendingChange {
    /// Returns the change as an operation on the table; `None` if the change is a creation, an
    /// adopted state, a drop or a commit of a REST client.
    fn operation(&self) -> Option<TableOperation> {
        Some(match self.clone() {
            PendingChange::Create
            | PendingChange::Adopt
            | PendingChange::Drop
            | PendingChange::Apply(_) => return None,
            PendingChange::Append { staged, imported: _ } => TableOperation::Append(staged),
            PendingChange::OverwritePartitions { staged, retained } => {
                TableOperation::OverwritePartitions { staged, retained }
            }
            PendingChange::Rewrite(rewrite) => TableOperation::Rewrite(rewrite),
            PendingChange::Compact { removed, staged } => {
                TableOperation::Compact { removed, staged }
            }
            PendingChange::RewriteManifests => TableOperation::ArrangeManifests,
            PendingChange::ExpireSnapshots(ids) => TableOperation::ExpireSnapshots(ids),
            PendingChange::Overwrite(staged) => TableOperation::Overwrite(staged),
            PendingChange::Replace { schema, partition, after, staged } => {
                TableOperation::Replace { schema, partition, after, staged }
            }
            PendingChange::AddColumns { columns, after } => {
                TableOperation::AddColumns { columns, after }
            }
            PendingChange::Alter { alterations, after } => {
                TableOperation::Alter { alterations, after }
            }
            PendingChange::SetProperties(properties) => TableOperation::SetProperties(properties),
        })
    }

    /// Returns true if the change creates a snapshot of a table that still has the rows of earlier
    /// imports, so that the list of imported files stays valid.
    fn keeps_rows(&self) -> bool {
        match self {
            PendingChange::Append { .. }
            | PendingChange::OverwritePartitions { .. }
            | PendingChange::Rewrite(_)
            | PendingChange::Compact { .. }
            | PendingChange::Apply(_)
            | PendingChange::RewriteManifests
            | PendingChange::ExpireSnapshots(_) => true,
            PendingChange::Create
            | PendingChange::Adopt
            | PendingChange::Overwrite(_)
            | PendingChange::Replace { .. }
            | PendingChange::AddColumns { .. }
            | PendingChange::Alter { .. }
            | PendingChange::SetProperties(_)
            | PendingChange::Drop => false,
        }
    }

    /// Returns the source files that the change imports; `None` if the change is not an import.
    fn imported(&self) -> Option<&ImportedFiles> {
        match self {
            PendingChange::Append { imported, .. } => imported.as_ref(),
            _ => None,
        }
    }
}

/// The pending changes of a table.
#[derive(Debug)]
pub(super) struct PendingChanges {
    /// The entry of the table on the branch when the transaction first used the table.
    entry: Option<TableEntry>,
    changes: Vec<PendingChange>,
    /// The table after the first `applied` of the `changes`; `None` if the table does not exist
    /// then.
    table: Option<Table>,
    applied: usize,
    /// The store objects that the applied changes add.
    objects: Vec<Bytes>,
    /// The owner of the table after the changes.
    owner: Option<ObjectOwner>,
}

/// The result of applying changes.
pub(super) struct AppliedChanges {
    pub table: Option<Table>,
    pub objects: Vec<Bytes>,
    /// All states that were created, in order: the intermediate states and the final state.
    pub made: Vec<NewTableState>,
}

impl PendingChanges {
    pub fn new(entry: Option<TableEntry>, table: Option<Table>) -> Self {
        let owner = entry.as_ref().and_then(|entry| entry.owner.clone());
        PendingChanges { entry, changes: Vec::new(), table, applied: 0, objects: Vec::new(), owner }
    }

    /// Returns the table's entry on the branch at the transaction's first use of the table.
    pub fn entry(&self) -> Option<&TableEntry> {
        self.entry.as_ref()
    }

    /// Returns the table after the applied changes; `None` if the table does not exist then.
    pub fn table(&self) -> Option<&Table> {
        self.table.as_ref()
    }

    /// Returns the store objects that the applied changes add.
    pub fn objects(&self) -> &[Bytes] {
        &self.objects
    }

    /// Returns the owner of the table after the changes.
    pub fn owner(&self) -> Option<&ObjectOwner> {
        self.owner.as_ref()
    }

    pub fn is_unchanged(&self) -> bool {
        self.changes.is_empty()
    }

    /// Adds a change that is applied later.
    pub fn add(&mut self, change: PendingChange) {
        self.changes.push(change);
    }

    /// Adds a change that is already applied. All earlier changes must be applied.
    pub fn add_applied(&mut self, change: PendingChange, table: Option<Table>) {
        self.changes.push(change);
        self.applied = self.changes.len();
        self.table = table;
    }

    /// Adds a change, already applied, that creates a table under this name for an owner.
    pub fn add_new(&mut self, change: PendingChange, table: Table, owner: Option<ObjectOwner>) {
        self.add_applied(change, Some(table));
        self.owner = owner;
    }

    /// Returns true if the changes can be applied to a newer state of the table.
    pub fn can_rebase(&self) -> bool {
        // A rewrite counts as one that can be rebased: when it is applied to the newer state, it is
        // checked against that state.
        let rebases = |change: &PendingChange| {
            use PendingChange::{
                AddColumns, Alter, Append, Apply, Compact, ExpireSnapshots, Rewrite,
                RewriteManifests, SetProperties,
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
                    | RewriteManifests
                    | ExpireSnapshots(_)
            )
        };
        self.changes.iter().all(rebases)
    }

    /// Returns true if the changes cannot be merged with concurrent maintenance. This is the case
    /// for maintenance itself, and for commits of other engines, which retry after a conflict.
    pub fn yields_to_maintenance(&self) -> bool {
        use PendingChange::{Apply, Compact, ExpireSnapshots, RewriteManifests};
        let yields = |change: &PendingChange| {
            matches!(change, Compact { .. } | RewriteManifests | ExpireSnapshots(_) | Apply(_))
        };
        self.changes.iter().any(yields)
    }

    /// Returns true if the changes stay valid if another commit appends rows.
    pub fn ignores_appends(&self) -> bool {
        let checks_appends = |change: &PendingChange| matches!(change, PendingChange::Rewrite(rewrite) if rewrite.unseen.is_some());
        self.can_rebase() && !self.changes.iter().any(checks_appends)
    }

    /// Returns one word for all changes, for conflict messages.
    pub fn operation(&self) -> &'static str {
        let mut word = operation::CHANGED;
        for change in &self.changes {
            let appends = match change {
                PendingChange::Apply(commit) => commit.appends(),
                _ => None,
            };
            word = match (change, word) {
                (PendingChange::Apply(_), word) => match (appends, word) {
                    (None, word) | (_, word @ (operation::CREATED | operation::REPLACED)) => word,
                    (Some(true), _) => operation::APPENDED,
                    (Some(false), _) => operation::CHANGED,
                },
                (PendingChange::Append { .. }, operation::CREATED | operation::REPLACED)
                | (
                    PendingChange::AddColumns { .. }
                    | PendingChange::Alter { .. }
                    | PendingChange::SetProperties(_)
                    | PendingChange::RewriteManifests
                    | PendingChange::ExpireSnapshots(_)
                    | PendingChange::Compact { .. },
                    _,
                ) => word,
                (PendingChange::Append { .. }, _) => operation::APPENDED,
                (PendingChange::Rewrite(_), operation::CHANGED | operation::APPENDED) => {
                    operation::CHANGED
                }
                (PendingChange::Create, _) | (_, operation::CREATED) => operation::CREATED,
                _ => operation::REPLACED,
            };
        }
        word
    }

    /// Applies the remaining changes to the table of the transaction.
    pub async fn apply_remaining(&self, context: &ApplyContext<'_>) -> Result<AppliedChanges> {
        let rest = &self.changes[self.applied..];
        let mut applied = context.apply(self.table.clone(), rest).await?;
        applied.objects.splice(..0, self.objects.iter().cloned());
        Ok(applied)
    }

    /// Applies all changes to a newer state of the table.
    pub async fn rebase(&self, context: &ApplyContext<'_>, table: Table) -> Result<AppliedChanges> {
        context.apply(Some(table), &self.changes).await
    }

    /// Records the result of applying the remaining changes.
    pub fn set_applied(&mut self, applied: AppliedChanges) {
        self.applied = self.changes.len();
        self.table = applied.table;
        self.objects = applied.objects;
    }
}

/// The context for applying changes.
pub(super) struct ApplyContext<'a> {
    pub lake: &'a Lake,
    pub name: &'a TableName,
    pub snapshot_properties: &'a BTreeMap<String, String>,
    /// True if the changes are applied to a state that another commit created, not to the state
    /// that the transaction first saw.
    pub is_rebase: bool,
}

impl ApplyContext<'_> {
    async fn apply(
        &self,
        table: Option<Table>,
        changes: &[PendingChange],
    ) -> Result<AppliedChanges> {
        let mut applied = AppliedChanges { table, objects: Vec::new(), made: Vec::new() };
        match self.apply_to(&mut applied, changes).await {
            Ok(()) => Ok(applied),
            Err(error) => {
                discard_states(self.lake.tables(), applied.made).await;
                Err(error)
            }
        }
    }

    async fn apply_to(
        &self,
        applied: &mut AppliedChanges,
        changes: &[PendingChange],
    ) -> Result<()> {
        let AppliedChanges { table, objects, made } = applied;
        for change in changes {
            let Some(current) = &*table else { break };
            let mut summary = self.snapshot_properties.clone();
            if change.keeps_rows() {
                let imports = self.imports(current, change.imported(), objects).await?;
                summary.extend(imports.map(|imports| (IMPORTS_KEY.to_owned(), imports)));
                // Copy the read positions of models to each new snapshot, because the snapshot that
                // stored them may expire.
                let positions = current.summary().into_iter();
                for (key, value) in positions.filter(|(key, _)| key.starts_with(READ_UP_TO)) {
                    summary.entry(key).or_insert(value);
                }
            }
            let tables = self.lake.tables();
            let state = match (change, change.operation()) {
                (_, Some(operation)) => tables.commit(current, operation, summary).await?,
                (PendingChange::Apply(commit), None) => {
                    let rest = RestTables::new(tables);
                    Box::pin(rest.apply(current, commit, &summary)).await?
                }
                (PendingChange::Drop, None) => {
                    *table = None;
                    continue;
                }
                (_, None) => continue,
            };
            let foreign = matches!(change, PendingChange::Apply(_));
            let before = Some(current.clone());
            let name = self.name.clone();
            let rebased = self.is_rebase;
            made.push(NewTableState { name, state: state.clone(), before, rebased, foreign });
            *table = Some(state);
        }
        Ok(())
    }

    /// Returns the summary value of the list of imported files for the next snapshot: the current
    /// list and the files that this change imports.
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
