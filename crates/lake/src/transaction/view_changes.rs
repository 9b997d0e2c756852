//! Changes of SQL views in a transaction, in the same commit as changes of tables. An SQL function
//! is stored like a view, under a name that ends with `()`.
//!
//! If another commit has changed the same view, the transaction always fails with a conflict,
//! because a query cannot be rebased.

use headwater_catalog::{CommitContents, EntryKind, TableChange, TableEntry, operation};
use headwater_model::{ObjectOwner, TableName};
use headwater_table_rest::{NewView, RestTables, ViewCommit};
use headwater_tables::{SqlView, ViewDefinition};

use super::Transaction;
use crate::error::{Error, Result};

/// The pending change of a view.
#[derive(Debug)]
pub(super) struct PendingView {
    /// The entry of the view on the branch when the transaction first used the view.
    entry: Option<TableEntry>,
    view: Option<SqlView>,
    changed: bool,
    /// The owner of the view after the change.
    owner: Option<ObjectOwner>,
}

impl PendingView {
    pub fn is_unchanged(&self) -> bool {
        !self.changed
    }

    /// Sets a view that is new under this name, with its owner.
    fn set_new(&mut self, view: SqlView, owner: Option<ObjectOwner>) {
        self.view = Some(view);
        self.changed = true;
        self.owner = owner;
    }

    /// Returns true if the name refers to a table.
    fn is_table(&self) -> bool {
        self.entry.as_ref().is_some_and(|entry| !entry.is_view())
    }

    /// Returns the change of the view. Fails if another commit has changed the view.
    fn change(
        &self,
        branch: &str,
        name: &TableName,
        found: Option<TableEntry>,
    ) -> Result<Option<TableChange>> {
        if found != self.entry {
            return Err(Error::CommitConflict { table: name.clone(), branch: branch.to_owned() });
        }
        let operation = match &self.entry {
            None => operation::CREATED,
            Some(_) => operation::CHANGED,
        };
        let to = self.view.as_ref();
        let to = to.map(|view| view_entry(view, operation, self.owner.clone()));
        let differs = to.as_ref().map(location_of) != self.entry.as_ref().map(location_of);
        Ok(differs.then(|| TableChange { table: name.clone(), from: found, to }))
    }
}

fn location_of(entry: &TableEntry) -> &str {
    &entry.metadata_location
}

/// Returns the catalog entry of a view or function.
pub(crate) fn view_entry(
    view: &SqlView,
    operation: &str,
    owner: Option<ObjectOwner>,
) -> TableEntry {
    TableEntry {
        kind: EntryKind::View,
        id: view.id(),
        metadata_location: view.metadata_location().to_owned(),
        snapshot: None,
        operation: operation.to_owned(),
        owner,
    }
}

/// Changes of views in a transaction. [`Transaction::views`] returns this type.
#[derive(Debug)]
pub struct ViewChanges<'a> {
    pub(super) transaction: &'a mut Transaction,
}

impl ViewChanges<'_> {
    /// Creates a view, or replaces the query of an existing view if `replace` is set. Fails with
    /// `TableExists` or `ViewExists` if the name is used by another table or view.
    pub async fn create(
        &mut self,
        name: &TableName,
        definition: &ViewDefinition,
        replace: bool,
    ) -> Result<SqlView> {
        let before = if replace { self.transaction.pending_definition(name).await? } else { None };
        let tables = self.transaction.view.lake().tables().clone();
        let made = if let Some(view) = &before {
            tables.views().replace(view, definition).await?
        } else {
            self.transaction.check_free(name).await?;
            tables.views().create(name, definition).await?
        };
        self.transaction.set_view(name, made.clone(), before).await?;
        Ok(made)
    }

    /// Creates a function, or replaces the definition of an existing function if `replace` is set.
    /// `name` is the catalog name of the function. Fails with `ViewExists` if the function exists,
    /// and with `TableExists` if an old version of Headwater created a table with this name.
    pub async fn create_function(
        &mut self,
        name: &TableName,
        definition: &ViewDefinition,
        replace: bool,
    ) -> Result<SqlView> {
        let tables = self.transaction.view.lake().tables().clone();
        let pending = self.transaction.pending_view(name).await?;
        if pending.is_table() {
            return Err(Error::TableExists { table: name.clone() });
        }
        let before = pending.view.clone();
        let made = match &before {
            Some(view) if replace => tables.views().replace(view, definition).await?,
            Some(_) => return Err(Error::ViewExists { view: name.clone() }),
            None => {
                self.transaction.check_namespace(name).await?;
                tables.views().create(name, definition).await?
            }
        };
        self.transaction.set_view(name, made.clone(), before).await?;
        Ok(made)
    }

    /// Drops the function with exactly this catalog name. Returns false if the function does not
    /// exist.
    pub async fn drop_function(&mut self, name: &TableName) -> Result<bool> {
        let pending = self.transaction.pending_view(name).await?;
        let exists = pending.view.take().is_some();
        pending.changed |= exists;
        Ok(exists)
    }

    /// Creates a view at the request of another engine.
    pub async fn create_new(&mut self, name: &TableName, new: NewView) -> Result<SqlView> {
        self.transaction.check_free(name).await?;
        let made =
            RestTables::new(self.transaction.view.lake().tables()).create_view(name, new).await?;
        self.transaction.set_view(name, made.clone(), None).await?;
        Ok(made)
    }

    /// Applies a commit request of another engine to a view.
    pub async fn apply(&mut self, name: &TableName, commit: &ViewCommit) -> Result<SqlView> {
        let before = self.transaction.existing_view(name).await?;
        let made = RestTables::new(self.transaction.view.lake().tables())
            .apply_view(&before, commit)
            .await?;
        if made.metadata_location() != before.metadata_location() {
            self.transaction.set_view(name, made.clone(), Some(before)).await?;
        }
        Ok(made)
    }

    /// Registers a view from a metadata file in the warehouse.
    pub async fn register(&mut self, name: &TableName, location: &str) -> Result<SqlView> {
        self.transaction.prevent_sweep().await;
        self.transaction.check_free(name).await?;
        let view =
            RestTables::new(self.transaction.view.lake().tables()).register_view(location).await?;
        // The view is not recorded as uncommitted: this transaction did not write its metadata
        // file, and must not remove the file.
        let creator = self.transaction.creator.clone();
        self.transaction.pending_view(name).await?.set_new(view.clone(), creator);
        Ok(view)
    }

    /// Renames a view, optionally into another namespace.
    pub async fn rename(&mut self, from: &TableName, to: &TableName) -> Result<()> {
        let view = self.transaction.existing_view(from).await?;
        self.transaction.check_free(to).await?;
        let before = self.transaction.pending_view(from).await?;
        before.view = None;
        before.changed = true;
        let owner = before.owner.clone();
        self.transaction.pending_view(to).await?.set_new(view, owner);
        Ok(())
    }

    /// Drops the view with exactly this name.
    pub async fn drop(&mut self, name: &TableName) -> Result<()> {
        self.transaction.existing_view(name).await?;
        let pending = self.transaction.pending_view(name).await?;
        pending.view = None;
        pending.changed = true;
        Ok(())
    }
}

impl Transaction {
    async fn existing_view(&mut self, name: &TableName) -> Result<SqlView> {
        match self.pending_definition(name).await? {
            Some(view) => Ok(view),
            None => Err(self.view.no_view(name).await?),
        }
    }

    /// Returns the view with exactly this name, including the changes of this transaction.
    async fn pending_definition(&mut self, name: &TableName) -> Result<Option<SqlView>> {
        if name.function().is_some() {
            return Ok(None);
        }
        Ok(self.pending_view(name).await?.view.clone())
    }

    async fn set_view(
        &mut self,
        name: &TableName,
        made: SqlView,
        before: Option<SqlView>,
    ) -> Result<()> {
        self.staged.push_view(made.clone(), before.clone());
        let creator = self.creator.clone();
        let pending = self.pending_view(name).await?;
        let owner = if before.is_some() { pending.owner.clone() } else { creator };
        pending.set_new(made, owner);
        Ok(())
    }

    async fn pending_view(&mut self, name: &TableName) -> Result<&mut PendingView> {
        if !self.views.contains_key(name) {
            let entry = self.view.state().any_entry(name).await?;
            let view = match &entry {
                Some(entry) if entry.is_view() => {
                    let location = &entry.metadata_location;
                    Some(self.view.lake().tables().views().load(location).await?)
                }
                _ => None,
            };
            let owner = entry.as_ref().and_then(|entry| entry.owner.clone());
            let pending = PendingView { entry, view, changed: false, owner };
            self.views.insert(name.clone(), pending);
        }
        let missing = || Error::Internal { message: format!("`{name}` is not in the transaction") };
        self.views.get_mut(name).ok_or_else(missing)
    }

    /// Returns true if this transaction has a view with exactly this name. Returns `None` if the
    /// transaction has not used the name.
    pub(super) fn has_view(&self, name: &TableName) -> Option<bool> {
        self.views.get(name).map(|pending| pending.view.is_some())
    }

    /// Returns the changes of all views.
    pub(super) async fn view_changes(&self, head: &CommitContents) -> Result<Vec<TableChange>> {
        let mut changes = Vec::new();
        for (name, pending) in self.views.iter().filter(|(_, pending)| pending.changed) {
            let found = head.any_entry(name).await?;
            changes.extend(pending.change(&self.branch, name, found)?);
        }
        Ok(changes)
    }
}
