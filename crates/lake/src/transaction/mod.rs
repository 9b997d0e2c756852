//! Transactions: atomic changes of any number of tables on one branch, in one commit.
//!
//! A [`Transaction`] writes data files immediately and changes no ref before
//! [`Transaction::commit`]. If the branch has moved, appends and other independent changes are
//! rebased on the new head, and their data files are used again. If another commit changed the same
//! table so that a rebase is not possible, the commit fails with a conflict. Dropping the
//! transaction removes uncommitted files.

mod adopt_table_state;
mod commit;
mod discard_guard;
mod group_commit;
mod pending_changes;
mod rest_changes;
mod transaction_slot;
mod view_changes;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{Field, SchemaRef};
use futures::FutureExt;
use headwater_catalog::NamespaceChange;
use headwater_model::{Namespace, ObjectOwner, PartitionField, TableName, Usage};
use headwater_store::WriteBatch;
use headwater_tables::{
    Alteration, BatchStream, CreateTable, DataFile, Positions, RowRewrite, StagedFiles, Table,
    normalise_schema,
};

pub use self::commit::{add_entry, set_creator};
use self::discard_guard::{DiscardGuard, NewTableState};
pub(crate) use self::group_commit::AppendQueues;
use self::group_commit::SmallAppend;
use self::pending_changes::{PendingChange, PendingChanges};
pub use self::rest_changes::{CommittedRestRequests, RestChanges};
pub use self::transaction_slot::TransactionSlot;
use self::view_changes::PendingView;
pub use self::view_changes::ViewChanges;
pub(crate) use self::view_changes::view_entry;
use crate::CommitView;
use crate::error::{Error, Result};
use crate::imported_files::ImportedFiles;

/// A transaction on a branch.
#[derive(Debug)]
pub struct Transaction {
    view: CommitView,
    branch: String,
    author: String,
    /// The owner of the objects that the transaction creates.
    creator: Option<ObjectOwner>,
    tables: BTreeMap<TableName, PendingChanges>,
    views: BTreeMap<TableName, PendingView>,
    namespaces: Vec<NamespaceChange>,
    properties: BTreeMap<String, String>,
    snapshot_properties: BTreeMap<String, String>,
    event: Option<String>,
    /// True for a transaction of a user, which protected branches reject; false for maintenance.
    direct: bool,
    /// A small append that can use group commit.
    small: Option<SmallAppend>,
    /// A guard that prevents the removal of files while the transaction refers to existing files.
    no_sweep: Option<tokio::sync::OwnedRwLockReadGuard<()>>,
    with: WriteBatch,
    written: Usage,
    staged: DiscardGuard,
    /// The table states after the last commit attempt.
    states: BTreeMap<TableName, Table>,
    /// The tables that another engine created or registered.
    registered: Vec<TableName>,
}

/// Returns the first state of a new table.
fn created_state(name: &TableName, table: &Table, foreign: bool) -> NewTableState {
    let (name, state) = (name.clone(), table.clone());
    NewTableState { name, state, before: None, rebased: false, foreign }
}

impl Transaction {
    /// Starts a transaction on a branch. `view` pins the head of the branch.
    pub fn new(view: CommitView, branch: &str, author: &str) -> Self {
        let staged = DiscardGuard::new(view.lake().tables().clone());
        Transaction {
            view,
            branch: branch.to_owned(),
            author: author.to_owned(),
            creator: None,
            tables: BTreeMap::new(),
            views: BTreeMap::new(),
            namespaces: Vec::new(),
            properties: BTreeMap::new(),
            snapshot_properties: BTreeMap::new(),
            event: None,
            direct: true,
            small: None,
            no_sweep: None,
            with: WriteBatch::default(),
            written: Usage::default(),
            staged,
            states: BTreeMap::new(),
            registered: Vec::new(),
        }
    }

    /// Returns the branch's head at the start of the transaction.
    pub fn view(&self) -> &CommitView {
        &self.view
    }

    /// Returns the handle for changes of views.
    pub fn views(&mut self) -> ViewChanges<'_> {
        ViewChanges { transaction: self }
    }

    /// Returns the handle for changes by clients of Iceberg's REST catalog.
    pub fn iceberg_rest(&mut self) -> RestChanges<'_> {
        RestChanges { transaction: self }
    }

    /// Returns a table with the changes that this transaction has made so far.
    pub async fn table(&mut self, name: &TableName) -> Result<Table> {
        let name = self.resolve(name).await?;
        self.existing(&name).await
    }

    /// Creates a table. Fails with `TableExists`, or with `NamespaceNotFound` if neither the branch
    /// nor this transaction has the namespace.
    pub async fn create(
        &mut self,
        name: &TableName,
        schema: SchemaRef,
        partition: Vec<PartitionField>,
        properties: BTreeMap<String, String>,
    ) -> Result<()> {
        self.check_free(name).await?;
        let schema = normalise_schema(&schema)?.into();
        let request = CreateTable { name: name.clone(), schema, partition, properties };
        let table = self.view.lake().tables().create(request).await?;
        self.staged.push_states([created_state(name, &table, false)]);
        let creator = self.creator.clone();
        self.pending(name)?.add_new(PendingChange::Create, table, creator);
        Ok(())
    }

    /// Appends rows to a table. Columns are matched by name.
    pub async fn append(&mut self, name: &TableName, rows: BatchStream) -> Result<()> {
        let (name, staged) = self.write(name, rows).await?;
        self.pending(&name)?.add(PendingChange::Append { staged, imported: None });
        Ok(())
    }

    /// Replaces all rows of a table.
    pub async fn overwrite(&mut self, name: &TableName, rows: BatchStream) -> Result<()> {
        let (name, staged) = self.write(name, rows).await?;
        self.pending(&name)?.add(PendingChange::Overwrite(staged));
        Ok(())
    }

    /// Replaces all rows in the partitions to which the new rows belong. If the table is not
    /// partitioned, replaces all rows.
    pub async fn overwrite_partitions(
        &mut self,
        name: &TableName,
        rows: BatchStream,
    ) -> Result<()> {
        let (name, staged) = self.write(name, rows).await?;
        let table = self.existing(&name).await?;
        let lake = self.view.lake().clone();
        let retained = lake.tables().deletes().retained_rows(&table, &staged).boxed().await?;
        let retained = match retained {
            Some((removed, rest)) => {
                let rest = Box::pin(self.stage(&table, rest)).await?;
                // The rows in `rest` are existing rows that were rewritten, so they do not count as
                // written.
                self.written.rows_written -= rest.rows();
                Some((removed, rest))
            }
            None => None,
        };
        self.pending(&name)?.add(PendingChange::OverwritePartitions { staged, retained });
        Ok(())
    }

    /// Writes rows to new data files for [`Transaction::rewrite`]. Files that no rewrite uses are
    /// removed at the end of the transaction.
    pub async fn write_rows(&mut self, name: &TableName, rows: BatchStream) -> Result<StagedFiles> {
        Ok(self.write(name, rows).await?.1)
    }

    /// Does the same as [`Transaction::write_rows`], but keeps the order of the rows.
    pub(crate) async fn write_in_order(
        &mut self,
        name: &TableName,
        rows: BatchStream,
    ) -> Result<StagedFiles> {
        let name = self.resolve(name).await?;
        let table = self.existing(&name).await?;
        let staged = self.view.lake().tables().write_in_order(&table, rows).await?;
        self.keep(&staged);
        Ok(staged)
    }

    /// Writes delete files for [`Transaction::rewrite`]. Files that no rewrite uses are removed at
    /// the end of the transaction.
    pub async fn write_deletes(
        &mut self,
        name: &TableName,
        rows: Vec<(Arc<DataFile>, Positions)>,
    ) -> Result<StagedFiles> {
        let name = self.resolve(name).await?;
        let table = self.existing(&name).await?;
        let staged = self.view.lake().tables().deletes().write(&table, rows).await?;
        self.keep(&staged);
        Ok(staged)
    }

    /// Replaces data files with new files that contain the remaining rows, some of them updated.
    pub async fn rewrite(&mut self, name: &TableName, rewrite: RowRewrite) -> Result<()> {
        let name = self.resolve(name).await?;
        self.existing(&name).await?;
        self.pending(&name)?.add(PendingChange::Rewrite(rewrite));
        Ok(())
    }

    /// Replaces data files with new files. `rows` must be exactly the rows of the removed files.
    pub async fn compact(
        &mut self,
        name: &TableName,
        removed: Vec<Arc<DataFile>>,
        rows: BatchStream,
    ) -> Result<()> {
        let (name, staged) = self.write(name, rows).await?;
        self.pending(&name)?.add(PendingChange::Compact { removed, staged });
        Ok(())
    }

    /// Replaces data files with new files that contain the same rows.
    pub(crate) async fn replace_files(
        &mut self,
        name: &TableName,
        removed: Vec<Arc<DataFile>>,
        staged: StagedFiles,
    ) -> Result<()> {
        let name = self.resolve(name).await?;
        self.existing(&name).await?;
        self.pending(&name)?.add(PendingChange::Compact { removed, staged });
        Ok(())
    }

    /// Rewrites the manifests of a table into fewer manifests.
    pub(crate) async fn rewrite_manifests(&mut self, name: &TableName) -> Result<()> {
        let name = self.resolve(name).await?;
        self.pending(&name)?.add(PendingChange::RewriteManifests);
        Ok(())
    }

    /// Removes snapshots from the table metadata.
    pub(crate) async fn expire_snapshots(&mut self, name: &TableName, ids: Vec<i64>) -> Result<()> {
        let name = self.resolve(name).await?;
        self.pending(&name)?.add(PendingChange::ExpireSnapshots(ids));
        Ok(())
    }

    /// Marks the transaction as maintenance, which changes no rows and is therefore allowed on
    /// protected branches.
    pub(crate) fn mark_as_maintenance(&mut self) {
        self.direct = false;
    }

    /// Returns the target branch.
    pub fn branch(&self) -> &str {
        &self.branch
    }

    /// Sets table properties. Other properties stay unchanged.
    pub async fn set_properties(
        &mut self,
        name: &TableName,
        properties: BTreeMap<String, String>,
    ) -> Result<()> {
        let name = self.resolve(name).await?;
        self.existing(&name).await?;
        self.pending(&name)?.add(PendingChange::SetProperties(properties));
        Ok(())
    }

    /// Creates a table with these columns and rows, or replaces the existing table.
    pub async fn replace(
        &mut self,
        name: &TableName,
        schema: SchemaRef,
        partition: Vec<PartitionField>,
        rows: BatchStream,
    ) -> Result<()> {
        let name = &self.resolve(name).await?;
        self.flush(name).await?;
        let Some(table) = self.pending(name)?.table().cloned() else {
            self.create(name, schema, partition, BTreeMap::new()).await?;
            return self.append(name, rows).await;
        };
        let schema: SchemaRef = normalise_schema(&schema)?.into();
        let columns: Vec<Field> =
            schema.fields().iter().map(|field| field.as_ref().clone()).collect();
        let after = Some(self.view.lake().allocate_field_ids(&table, &columns).await?);
        let new = self.view.lake().tables().replacement(&table, &schema, &partition, after)?;
        let staged = self.stage(&new, rows).await?;
        self.pending(name)?.add(PendingChange::Replace { schema, partition, after, staged });
        Ok(())
    }

    /// Adds nullable columns after the last column.
    pub async fn add_columns(&mut self, name: &TableName, columns: Vec<Field>) -> Result<()> {
        let name = self.resolve(name).await?;
        let table = self.existing(&name).await?;
        let after = Some(self.view.lake().allocate_field_ids(&table, &columns).await?);
        self.pending(&name)?.add(PendingChange::AddColumns { columns, after });
        // Rows written later in this transaction must use the new schema.
        self.flush(&name).await
    }

    /// Applies alterations of columns and properties, in their order.
    pub async fn alter(&mut self, name: &TableName, alterations: Vec<Alteration>) -> Result<()> {
        let name = self.resolve(name).await?;
        let table = self.existing(&name).await?;
        let new = alterations.iter().filter_map(|alteration| match alteration {
            Alteration::AddColumn { column, .. } => Some(column.clone()),
            _ => None,
        });
        let new: Vec<Field> = new.collect();
        let after = match new.as_slice() {
            [] => None,
            new => Some(self.view.lake().allocate_field_ids(&table, new).await?),
        };
        self.pending(&name)?.add(PendingChange::Alter { alterations, after });
        // Rows written later in this transaction must use the new schema.
        self.flush(&name).await
    }

    /// Drops a table. Its files are kept, because older commits refer to them.
    pub async fn drop(&mut self, name: &TableName, if_exists: bool) -> Result<()> {
        let name = self.resolve(name).await?;
        self.flush(&name).await?;
        if self.pending(&name)?.table().is_none() {
            return if if_exists { Ok(()) } else { Err(self.view.not_found(&name).await?) };
        }
        self.pending(&name)?.add_applied(PendingChange::Drop, None);
        Ok(())
    }

    /// Creates a namespace when the transaction commits.
    pub fn create_namespace(&mut self, name: &str, properties: BTreeMap<String, String>) {
        let owner = self.creator.clone();
        let namespace = Namespace { name: name.to_owned(), properties, owner };
        self.namespaces.push(NamespaceChange::Create(namespace));
    }

    fn creates_namespace(&self, name: &str) -> bool {
        let makes = |change: &NamespaceChange| match change {
            NamespaceChange::Create(namespace) => namespace.name == name,
            NamespaceChange::Drop(_) | NamespaceChange::Update { .. } => false,
        };
        self.namespaces.iter().any(makes)
    }

    /// Drops a namespace, which must be empty when the transaction commits.
    pub fn drop_namespace(&mut self, name: &str) {
        self.namespaces.push(NamespaceChange::Drop(name.to_owned()));
    }

    /// Sets a property of the commit.
    pub fn property(&mut self, key: impl Into<String>, value: impl Into<String>) {
        self.properties.insert(key.into(), value.into());
    }

    /// Sets the id of the event that caused the commit. Only one commit can have a given event.
    pub fn event(&mut self, id: impl Into<String>) {
        self.event = Some(id.into());
    }

    /// Sets a summary property of all snapshots that the transaction creates after this call.
    pub fn snapshot_property(&mut self, key: impl Into<String>, value: impl Into<String>) {
        self.snapshot_properties.insert(key.into(), value.into());
    }

    /// Returns the rows and bytes written so far.
    pub fn written(&self) -> Usage {
        self.written
    }

    /// Returns true if there is nothing to commit.
    fn is_empty(&self) -> bool {
        self.namespaces.is_empty()
            && self.small.is_none()
            && self.tables.values().all(PendingChanges::is_unchanged)
            && self.views.values().all(PendingView::is_unchanged)
    }

    /// Appends the rows of data files that an import has written, and records the source files.
    pub async fn append_import(
        &mut self,
        name: &TableName,
        staged: StagedFiles,
        imported: Option<ImportedFiles>,
    ) -> Result<()> {
        let name = self.resolve(name).await?;
        self.existing(&name).await?;
        self.keep(&staged);
        self.pending(&name)?.add(PendingChange::Append { staged, imported });
        Ok(())
    }

    async fn write(
        &mut self,
        name: &TableName,
        rows: BatchStream,
    ) -> Result<(TableName, StagedFiles)> {
        let name = self.resolve(name).await?;
        let table = self.existing(&name).await?;
        let staged = self.stage(&table, rows).await?;
        Ok((name, staged))
    }

    async fn stage(&mut self, table: &Table, rows: BatchStream) -> Result<StagedFiles> {
        let staged = self.view.lake().tables().write(table, rows).await?;
        self.keep(&staged);
        Ok(staged)
    }

    fn keep(&mut self, staged: &StagedFiles) {
        self.written.rows_written += staged.rows();
        self.written.bytes_written += staged.bytes();
        self.staged.push(staged.clone());
    }

    /// Returns the table to which rows are written, with all pending changes applied.
    async fn existing(&mut self, name: &TableName) -> Result<Table> {
        self.flush(name).await?;
        match self.pending(name)?.table() {
            Some(table) => Ok(table.clone()),
            None => Err(self.view.not_found(name).await?),
        }
    }

    /// Finds the table with exactly this name, or else with a name that differs only in case. Adds
    /// the table to the transaction, and returns the name as the catalog spells it.
    async fn resolve(&mut self, name: &TableName) -> Result<TableName> {
        if self.tables.contains_key(name) {
            return Ok(name.clone());
        }
        let found = self.view.state().find(&name.namespace, &name.name).await?;
        if let Some((view, entry)) = &found
            && entry.is_view()
            && self.has_view(view) != Some(false)
        {
            return Err(Error::IsView { view: view.clone() });
        }
        let name = found.map_or_else(|| name.clone(), |(name, _)| name);
        self.load(&name).await?;
        Ok(name)
    }

    /// Adds the table with exactly this name to the transaction, even if the table does not exist.
    async fn load(&mut self, name: &TableName) -> Result<()> {
        if self.tables.contains_key(name) {
            return Ok(());
        }
        let entry = self.view.state().table(name).await?;
        let table = match &entry {
            Some(entry) => Some(self.view.lake().tables().load(&entry.metadata_location).await?),
            None => None,
        };
        self.tables.insert(name.clone(), PendingChanges::new(entry, table));
        Ok(())
    }

    fn pending(&mut self, name: &TableName) -> Result<&mut PendingChanges> {
        let missing = || Error::Internal { message: format!("`{name}` is not in the transaction") };
        self.tables.get_mut(name).ok_or_else(missing)
    }
}
