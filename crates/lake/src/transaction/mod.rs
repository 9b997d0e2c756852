//! A change of any number of tables on one branch, in one commit or not at all.
//!
//! A [`Transaction`] writes data files as it goes and touches no ref before
//! [`Transaction::commit`]. Where the branch moved on in the meantime, tables that were only
//! appended to are re-based on the new head with their data files kept; any other change of a table
//! that changed is a conflict that names it. What a transaction wrote and did not commit is
//! removed, also when it is dropped.

mod commit;
mod group;
mod pending;
mod rest;
mod staged_files;
mod views;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{Field, SchemaRef};
use futures::FutureExt;
use headwater_catalog::NamespaceChange;
use headwater_model::{Namespace, PartitionField, TableName, Usage};
use headwater_store::Batch;
use headwater_tables::{
    Alteration, BatchStream, CreateTable, DataFile, Positions, Rewrite, Staged, Table,
    normalise_schema,
};

pub(crate) use self::group::Groups;
use self::group::SmallAppend;
use self::pending::{Change, Pending};
use self::staged_files::{Made, StagedFiles};
use self::views::PendingView;
pub(crate) use self::views::view_entry;
use crate::View;
use crate::error::{Error, Result};
use crate::imported_files::ImportedFiles;

/// A change of a branch under way.
#[derive(Debug)]
pub struct Transaction {
    view: View,
    branch: String,
    author: String,
    tables: BTreeMap<TableName, Pending>,
    views: BTreeMap<TableName, PendingView>,
    namespaces: Vec<NamespaceChange>,
    properties: BTreeMap<String, String>,
    snapshot_properties: BTreeMap<String, String>,
    event: Option<String>,
    /// Whether a branch takes it that takes no direct writes.
    direct: bool,
    /// Rows that may be committed together with those of others.
    small: Option<SmallAppend>,
    /// Held by one that takes in files which were there before: none of them is removed meanwhile.
    unswept: Option<tokio::sync::OwnedRwLockReadGuard<()>>,
    with: Batch,
    written: Usage,
    staged: StagedFiles,
    /// The tables as the last attempt to commit has them.
    states: BTreeMap<TableName, Table>,
    /// The tables that another engine made, or brought.
    brought: Vec<TableName>,
}

/// A state of a table that nothing was before.
fn made(name: &TableName, table: &Table, foreign: bool) -> Made {
    let (name, state) = (name.clone(), table.clone());
    Made { name, state, before: None, rebased: false, foreign }
}

impl Transaction {
    /// Starts a transaction on a branch whose head is pinned by `view`.
    pub fn new(view: View, branch: &str, author: &str) -> Self {
        let staged = StagedFiles::new(view.lake().tables().clone());
        Transaction {
            view,
            branch: branch.to_owned(),
            author: author.to_owned(),
            tables: BTreeMap::new(),
            views: BTreeMap::new(),
            namespaces: Vec::new(),
            properties: BTreeMap::new(),
            snapshot_properties: BTreeMap::new(),
            event: None,
            direct: true,
            small: None,
            unswept: None,
            with: Batch::default(),
            written: Usage::default(),
            staged,
            states: BTreeMap::new(),
            brought: Vec::new(),
        }
    }

    /// The branch's head when the transaction began, without its own changes.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// A table as this transaction has it, before the rows it staged last.
    pub async fn table(&mut self, name: &TableName) -> Result<Table> {
        let name = self.touch(name).await?;
        self.existing(&name).await
    }

    /// Makes a table; `AlreadyExists` where the branch has it, `NamespaceNotFound` where neither the
    /// branch has the namespace nor this transaction makes it.
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
        self.staged.push_states([made(name, &table, false)]);
        self.pending(name)?.add_applied(Change::Create, Some(table));
        Ok(())
    }

    /// Adds rows to a table; columns are matched by name.
    pub async fn append(&mut self, name: &TableName, rows: BatchStream) -> Result<()> {
        let (name, staged) = self.write(name, rows).await?;
        self.pending(&name)?.add(Change::Append { staged, imported: None });
        Ok(())
    }

    /// Puts rows in place of all that a table has.
    pub async fn overwrite(&mut self, name: &TableName, rows: BatchStream) -> Result<()> {
        let (name, staged) = self.write(name, rows).await?;
        self.pending(&name)?.add(Change::Overwrite(staged));
        Ok(())
    }

    /// Puts rows in place of those in the partitions they fall into; of all rows where the table
    /// has no partitions.
    pub async fn overwrite_partitions(
        &mut self,
        name: &TableName,
        rows: BatchStream,
    ) -> Result<()> {
        let (name, staged) = self.write(name, rows).await?;
        let table = self.existing(&name).await?;
        let lake = self.view.lake().clone();
        let beside = lake.tables().beside_partitions(&table, &staged).boxed().await?;
        let beside = match beside {
            Some((removed, rest)) => {
                let rest = Box::pin(self.stage(&table, rest)).await?;
                // These were there before.
                self.written.rows_written -= rest.rows();
                Some((removed, rest))
            }
            None => None,
        };
        self.pending(&name)?.add(Change::OverwritePartitions { staged, beside });
        Ok(())
    }

    /// Writes rows that are to come into a table with [`Transaction::rewrite`]. Without that they
    /// are removed again with the transaction.
    pub async fn write_rows(&mut self, name: &TableName, rows: BatchStream) -> Result<Staged> {
        Ok(self.write(name, rows).await?.1)
    }

    /// Writes rows as [`Transaction::write_rows`] does, in the order in which they come.
    pub(crate) async fn write_as_ordered(
        &mut self,
        name: &TableName,
        rows: BatchStream,
    ) -> Result<Staged> {
        let name = self.touch(name).await?;
        let table = self.existing(&name).await?;
        let staged = self.view.lake().tables().write_as_ordered(&table, rows).await?;
        self.keep(&staged);
        Ok(staged)
    }

    /// Writes delete files that are to come into a table with [`Transaction::rewrite`]. Without that
    /// they are removed again with the transaction.
    pub async fn write_deletes(
        &mut self,
        name: &TableName,
        rows: Vec<(Arc<DataFile>, Positions)>,
    ) -> Result<Staged> {
        let name = self.touch(name).await?;
        let table = self.existing(&name).await?;
        let staged = self.view.lake().tables().write_deletes(&table, rows).await?;
        self.keep(&staged);
        Ok(staged)
    }

    /// Puts written rows in place of data files: those of the files' rows that stay, and what the
    /// changed ones became.
    pub async fn rewrite(&mut self, name: &TableName, rewrite: Rewrite) -> Result<()> {
        let name = self.touch(name).await?;
        self.existing(&name).await?;
        self.pending(&name)?.add(Change::Rewrite(rewrite));
        Ok(())
    }

    /// Puts the rows of data files into others; `rows` are all of theirs and no more.
    pub async fn compact(
        &mut self,
        name: &TableName,
        removed: Vec<Arc<DataFile>>,
        rows: BatchStream,
    ) -> Result<()> {
        let (name, staged) = self.write(name, rows).await?;
        self.pending(&name)?.add(Change::Compact { removed, staged });
        Ok(())
    }

    /// Puts written rows in place of data files that hold the same rows.
    pub(crate) async fn arrange(
        &mut self,
        name: &TableName,
        removed: Vec<Arc<DataFile>>,
        staged: Staged,
    ) -> Result<()> {
        let name = self.touch(name).await?;
        self.existing(&name).await?;
        self.pending(&name)?.add(Change::Compact { removed, staged });
        Ok(())
    }

    /// Puts what many manifests say into few.
    pub(crate) async fn arrange_manifests(&mut self, name: &TableName) -> Result<()> {
        let name = self.touch(name).await?;
        self.pending(&name)?.add(Change::ArrangeManifests);
        Ok(())
    }

    /// Lists snapshots no longer.
    pub(crate) async fn expire_snapshots(&mut self, name: &TableName, ids: Vec<i64>) -> Result<()> {
        let name = self.touch(name).await?;
        self.pending(&name)?.add(Change::ExpireSnapshots(ids));
        Ok(())
    }

    /// Says that it changes no row, so that a protected branch takes it.
    pub(crate) fn changes_no_row(&mut self) {
        self.direct = false;
    }

    /// The branch that is changed.
    pub fn branch(&self) -> &str {
        &self.branch
    }

    /// Sets table properties; others stay.
    pub async fn set_properties(
        &mut self,
        name: &TableName,
        properties: BTreeMap<String, String>,
    ) -> Result<()> {
        let name = self.touch(name).await?;
        self.existing(&name).await?;
        self.pending(&name)?.add(Change::SetProperties(properties));
        Ok(())
    }

    /// Makes a table of these columns and rows, in place of the table of that name where there is
    /// one.
    pub async fn replace(
        &mut self,
        name: &TableName,
        schema: SchemaRef,
        partition: Vec<PartitionField>,
        rows: BatchStream,
    ) -> Result<()> {
        let name = &self.touch(name).await?;
        self.flush(name).await?;
        let Some(table) = self.pending(name)?.table().cloned() else {
            self.create(name, schema, partition, BTreeMap::new()).await?;
            return self.append(name, rows).await;
        };
        let schema: SchemaRef = normalise_schema(&schema)?.into();
        let columns: Vec<Field> =
            schema.fields().iter().map(|field| field.as_ref().clone()).collect();
        let after = Some(self.view.lake().allot_columns(&table, &columns).await?);
        let new = self.view.lake().tables().replacement(&table, &schema, &partition, after)?;
        let staged = self.stage(&new, rows).await?;
        self.pending(name)?.add(Change::Replace { schema, partition, after, staged });
        Ok(())
    }

    /// Adds columns that may be null, after the last.
    pub async fn add_columns(&mut self, name: &TableName, columns: Vec<Field>) -> Result<()> {
        let name = self.touch(name).await?;
        let table = self.existing(&name).await?;
        let after = Some(self.view.lake().allot_columns(&table, &columns).await?);
        self.pending(&name)?.add(Change::AddColumns { columns, after });
        // Rows that follow are written for the table as it is with the columns.
        self.flush(&name).await
    }

    /// Changes columns and properties of a table, one after the other.
    pub async fn alter(&mut self, name: &TableName, alterations: Vec<Alteration>) -> Result<()> {
        let name = self.touch(name).await?;
        let table = self.existing(&name).await?;
        let new = alterations.iter().filter_map(|alteration| match alteration {
            Alteration::AddColumn { column, .. } => Some(column.clone()),
            _ => None,
        });
        let new: Vec<Field> = new.collect();
        let after = match new.as_slice() {
            [] => None,
            new => Some(self.view.lake().allot_columns(&table, new).await?),
        };
        self.pending(&name)?.add(Change::Alter { alterations, after });
        // Rows that follow are written for the table as it is then.
        self.flush(&name).await
    }

    /// Removes a table; its files stay, for the commits that still hold it.
    pub async fn drop(&mut self, name: &TableName, if_exists: bool) -> Result<()> {
        let name = self.touch(name).await?;
        self.flush(&name).await?;
        if self.pending(&name)?.table().is_none() {
            return if if_exists { Ok(()) } else { Err(self.view.not_found(&name).await?) };
        }
        self.pending(&name)?.add_applied(Change::Drop, None);
        Ok(())
    }

    /// Makes a namespace.
    pub fn create_namespace(&mut self, name: &str, properties: BTreeMap<String, String>) {
        let namespace = Namespace { name: name.to_owned(), properties };
        self.namespaces.push(NamespaceChange::Create(namespace));
    }

    fn makes_namespace(&self, name: &str) -> bool {
        let makes = |change: &NamespaceChange| match change {
            NamespaceChange::Create(namespace) => namespace.name == name,
            NamespaceChange::Drop(_) | NamespaceChange::Update { .. } => false,
        };
        self.namespaces.iter().any(makes)
    }

    /// Removes a namespace, which must hold no tables then.
    pub fn drop_namespace(&mut self, name: &str) {
        self.namespaces.push(NamespaceChange::Drop(name.to_owned()));
    }

    /// Puts a property on the commit.
    pub fn property(&mut self, key: impl Into<String>, value: impl Into<String>) {
        self.properties.insert(key.into(), value.into());
    }

    /// Names the event that causes the commit; the same event never commits twice.
    pub fn event(&mut self, id: impl Into<String>) {
        self.event = Some(id.into());
    }

    /// Puts a property into the summary of every snapshot that is made from now on.
    pub fn snapshot_property(&mut self, key: impl Into<String>, value: impl Into<String>) {
        self.snapshot_properties.insert(key.into(), value.into());
    }

    /// Adds journal entries, refs or unique keys that stand or fall with the commit.
    pub fn with(&mut self, batch: Batch) {
        self.with.merge(batch);
    }

    /// Rows and bytes written so far.
    pub fn written(&self) -> Usage {
        self.written
    }

    /// Whether there is nothing to commit.
    pub fn is_empty(&self) -> bool {
        self.namespaces.is_empty()
            && self.small.is_none()
            && self.tables.values().all(Pending::is_unchanged)
            && self.views.values().all(PendingView::is_unchanged)
    }

    /// Adds rows that are written already, together with the files they were imported from.
    pub async fn append_import(
        &mut self,
        name: &TableName,
        staged: Staged,
        imported: Option<ImportedFiles>,
    ) -> Result<()> {
        let name = self.touch(name).await?;
        self.existing(&name).await?;
        self.keep(&staged);
        self.pending(&name)?.add(Change::Append { staged, imported });
        Ok(())
    }

    async fn write(&mut self, name: &TableName, rows: BatchStream) -> Result<(TableName, Staged)> {
        let name = self.touch(name).await?;
        let table = self.existing(&name).await?;
        let staged = self.stage(&table, rows).await?;
        Ok((name, staged))
    }

    async fn stage(&mut self, table: &Table, rows: BatchStream) -> Result<Staged> {
        let staged = self.view.lake().tables().write(table, rows).await?;
        self.keep(&staged);
        Ok(staged)
    }

    fn keep(&mut self, staged: &Staged) {
        self.written.rows_written += staged.rows();
        self.written.bytes_written += staged.bytes();
        self.staged.push(staged.clone());
    }

    /// The table as rows are to be written for it.
    async fn existing(&mut self, name: &TableName) -> Result<Table> {
        self.flush(name).await?;
        match self.pending(name)?.table() {
            Some(table) => Ok(table.clone()),
            None => Err(self.view.not_found(name).await?),
        }
    }

    /// Finds a table by name, as written and then without case, and makes it part of the
    /// transaction. Gives the name as the catalog writes it.
    async fn touch(&mut self, name: &TableName) -> Result<TableName> {
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

    /// Makes the table of exactly that name part of the transaction, whether it is there or not.
    async fn load(&mut self, name: &TableName) -> Result<()> {
        if self.tables.contains_key(name) {
            return Ok(());
        }
        let entry = self.view.state().table(name).await?;
        let table = match &entry {
            Some(entry) => Some(self.view.lake().tables().load(&entry.metadata_location).await?),
            None => None,
        };
        self.tables.insert(name.clone(), Pending::new(entry, table));
        Ok(())
    }

    fn pending(&mut self, name: &TableName) -> Result<&mut Pending> {
        let missing = || Error::Internal { message: format!("`{name}` is not in the transaction") };
        self.tables.get_mut(name).ok_or_else(missing)
    }
}
