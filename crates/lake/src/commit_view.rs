//! A read-only view of the catalog at one pinned commit.

use headwater_catalog::{CommitContents, TableEntry};
use headwater_model::{AccessObject, CommitId, Namespace, RefSpec, TableName, name, nearest};
use headwater_tables::{SqlView, Table};

use crate::error::{Error, Result};
use crate::lake::Lake;
use crate::maintenance::CommitPin;

/// The state of the catalog at one commit, for reading. The value is immutable, and clones share
/// it.
#[derive(Clone)]
pub struct CommitView {
    lake: Lake,
    reference: RefSpec,
    branch: Option<String>,
    state: CommitContents,
    /// Keeps maintenance from removing the files of the commit.
    _pin: CommitPin,
}

impl std::fmt::Debug for CommitView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View")
            .field("reference", &self.reference)
            .field("commit", &self.commit())
            .finish_non_exhaustive()
    }
}

impl CommitView {
    pub(crate) fn new(
        lake: Lake,
        reference: RefSpec,
        branch: Option<String>,
        state: CommitContents,
        pin: CommitPin,
    ) -> Self {
        CommitView { lake, reference, branch, state, _pin: pin }
    }

    /// Returns the lake.
    pub fn lake(&self) -> &Lake {
        &self.lake
    }

    /// Returns the commit's id.
    pub fn commit(&self) -> CommitId {
        self.state.commit()
    }

    /// Returns the ref of this view as the user wrote it.
    pub fn spec(&self) -> &RefSpec {
        &self.reference
    }

    /// Returns this view with another ref, which replaces the original ref in error messages.
    #[must_use]
    pub fn with_ref(self, reference: RefSpec) -> Self {
        CommitView { reference, ..self }
    }

    /// Returns the branch if the ref is a branch; `None` for tags and commits, which are read-only.
    pub fn branch(&self) -> Option<&str> {
        self.branch.as_deref()
    }

    /// Returns the catalog's state at the commit.
    pub fn state(&self) -> &CommitContents {
        &self.state
    }

    /// Returns the table with exactly this name or, if there is none, with a name that differs only
    /// in case. Fails with `TableNotFound`, which contains the most similar name.
    pub async fn table(&self, name: &TableName) -> Result<Table> {
        match self.find(&name.namespace, &name.name).await? {
            Some((_, table)) => Ok(table),
            None => Err(self.not_found(name).await?),
        }
    }

    /// Finds a table. Returns its name as the catalog spells it, and the table; `None` if there is
    /// no such table.
    pub async fn find(&self, namespace: &str, name: &str) -> Result<Option<(TableName, Table)>> {
        let Some((name, entry)) = self.state.find_table(namespace, name).await? else {
            return Ok(None);
        };
        Ok(Some((name, self.load(&entry).await?)))
    }

    /// Loads the table to which an entry of this commit refers.
    pub async fn load(&self, entry: &TableEntry) -> Result<Table> {
        let location = &entry.metadata_location;
        if self.lake.pins().is_scheduled(location) {
            let location = location.clone();
            return Err(headwater_tables::Error::Missing { location }.into());
        }
        Ok(self.lake.tables().load(location).await?)
    }

    /// Lists the tables of one namespace, or of all namespaces, by name. Reads no table files.
    pub async fn list(&self, namespace: Option<&str>) -> Result<Vec<(TableName, TableEntry)>> {
        Ok(self.state.tables(namespace).await?)
    }

    /// Returns a table, view or namespace that does not exist at this commit, with the owner of its
    /// namespace.
    pub async fn new_object(&self, object: AccessObject) -> Result<AccessObject> {
        let Some(namespace) = name::parent(object.name()) else { return Ok(object) };
        let owner = self.state.namespace(namespace).await?.and_then(|found| found.owner);
        Ok(object.with_namespace_owner(owner))
    }

    /// Returns a namespace with its owner if it exists, or else with the owner of the outer
    /// namespace.
    pub async fn namespace_object(&self, name: &str) -> Result<AccessObject> {
        let object = AccessObject::namespace(name);
        match self.state.namespace(name).await? {
            Some(found) => Ok(object.with_owner(found.owner.as_ref())),
            None => self.new_object(object).await,
        }
    }

    /// Lists the namespaces by name.
    pub async fn namespaces(&self) -> Result<Vec<Namespace>> {
        Ok(self.state.namespaces().await?)
    }

    /// Returns the SQL view with exactly this name.
    pub async fn sql_view(&self, name: &TableName) -> Result<SqlView> {
        match self.state.view(name).await? {
            Some(entry) => self.load_view(&entry).await,
            None => Err(self.no_view(name).await?),
        }
    }

    /// Loads the SQL view to which an entry of this commit refers.
    pub async fn load_view(&self, entry: &TableEntry) -> Result<SqlView> {
        Ok(self.lake.tables().views().load(&entry.metadata_location).await?)
    }

    /// Returns the error for a missing view, which contains the most similar name.
    pub async fn no_view(&self, name: &TableName) -> Result<Error> {
        let views = self.state.views(None).await?;
        Ok(Error::ViewNotFound {
            view: name.clone(),
            reference: self.reference.to_string(),
            near: similar_table(name, views.iter().map(|(name, _)| name)),
            table: self.state.table(name).await?.is_some(),
        })
    }

    /// Returns the error for a missing table, which contains the most similar name.
    pub async fn not_found(&self, name: &TableName) -> Result<Error> {
        if self.state.view(name).await?.is_some() {
            return Ok(Error::IsView { view: name.clone() });
        }
        let tables = self.list(None).await?;
        Ok(Error::TableNotFound {
            table: name.clone(),
            reference: self.reference.to_string(),
            near: similar_table(name, tables.iter().map(|(name, _)| name)),
        })
    }

    /// Fails with `NamespaceNotFound`, which contains the most similar name, if the namespace does
    /// not exist.
    pub async fn check_namespace(&self, name: &str) -> Result<()> {
        if self.state.namespace(name).await?.is_some() {
            return Ok(());
        }
        let namespaces = self.namespaces().await?;
        let near = nearest(name, namespaces.iter().map(|namespace| namespace.name.as_str()));
        Err(headwater_catalog::Error::NamespaceNotFound { name: name.to_owned(), near }.into())
    }
}

/// Returns the most similar table name. A table in the same namespace with a similar name is
/// preferred, then a table with the same name in another namespace, then a table with a similar
/// name in another namespace. The name of a table in another namespace is returned with its
/// namespace.
fn similar_table<'a>(
    name: &TableName,
    tables: impl Iterator<Item = &'a TableName> + Clone,
) -> Option<String> {
    let here = tables.clone().filter(|table| table.namespace == name.namespace);
    if let Some(near) = nearest(&name.name, here.map(|table| table.name.as_str())) {
        return Some(TableName { name: near, ..name.clone() }.to_string());
    }
    let wanted = name.name.to_lowercase();
    if let Some(same) = tables.clone().find(|table| table.name.to_lowercase() == wanted) {
        return Some(same.qualified());
    }
    // Only the names without namespaces are compared, because a common namespace would make all
    // qualified names similar.
    let near = nearest(&name.name, tables.clone().map(|table| table.name.as_str()))?;
    tables.clone().find(|table| table.name == near).map(TableName::qualified)
}
