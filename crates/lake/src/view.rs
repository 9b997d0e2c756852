//! One commit, to read from.

use headwater_catalog::{State, TableEntry};
use headwater_model::{CommitId, Namespace, RefSpec, TableName, nearest};
use headwater_tables::{SqlView, Table};

use crate::error::{Error, Result};
use crate::lake::Lake;
use crate::upkeep::Pin;

/// One commit of a lake; cheap to clone. It does not change, whatever is committed later.
#[derive(Clone)]
pub struct View {
    lake: Lake,
    reference: RefSpec,
    branch: Option<String>,
    state: State,
    /// What it leads to is not removed as long as this lives.
    _pin: Pin,
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View")
            .field("reference", &self.reference)
            .field("commit", &self.commit())
            .finish_non_exhaustive()
    }
}

impl View {
    pub(crate) fn new(
        lake: Lake,
        reference: RefSpec,
        branch: Option<String>,
        (state, pin): (State, Pin),
    ) -> Self {
        View { lake, reference, branch, state, _pin: pin }
    }

    /// The lake.
    pub fn lake(&self) -> &Lake {
        &self.lake
    }

    /// The commit.
    pub fn commit(&self) -> CommitId {
        self.state.commit()
    }

    /// The ref the view was made from, as written.
    pub fn spec(&self) -> &RefSpec {
        &self.reference
    }

    /// The same under the ref that somebody wrote, where it was found by another.
    #[must_use]
    pub fn written_as(self, reference: RefSpec) -> Self {
        View { reference, ..self }
    }

    /// The branch whose head it was made from; none for tags and commits, which take no writes.
    pub fn branch(&self) -> Option<&str> {
        self.branch.as_deref()
    }

    /// The catalog's state at the commit.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// A table, its name matched as written and then without case; `TableNotFound` with the nearest
    /// name where there is none.
    pub async fn table(&self, name: &TableName) -> Result<Table> {
        match self.find(&name.namespace, &name.name).await? {
            Some((_, table)) => Ok(table),
            None => Err(self.not_found(name).await?),
        }
    }

    /// A table and its name as it is written in the catalog; none where there is none.
    pub async fn find(&self, namespace: &str, name: &str) -> Result<Option<(TableName, Table)>> {
        let Some((name, entry)) = self.state.find_table(namespace, name).await? else {
            return Ok(None);
        };
        Ok(Some((name, self.load(&entry).await?)))
    }

    /// A table whose entry was found here.
    pub async fn load(&self, entry: &TableEntry) -> Result<Table> {
        let location = &entry.metadata_location;
        if self.lake.pins().is_doomed(location) {
            let location = location.clone();
            return Err(headwater_tables::Error::Missing { location }.into());
        }
        Ok(self.lake.tables().load(location).await?)
    }

    /// The tables of a namespace, or of all, by name; no file is opened.
    pub async fn list(&self, namespace: Option<&str>) -> Result<Vec<(TableName, TableEntry)>> {
        Ok(self.state.tables(namespace).await?)
    }

    /// The namespaces, by name.
    pub async fn namespaces(&self) -> Result<Vec<Namespace>> {
        Ok(self.state.namespaces().await?)
    }

    /// The view of exactly that name, at this commit.
    pub async fn sql_view(&self, name: &TableName) -> Result<SqlView> {
        match self.state.view(name).await? {
            Some(entry) => self.load_view(&entry).await,
            None => Err(self.no_view(name).await?),
        }
    }

    /// A view whose entry was found here.
    pub async fn load_view(&self, entry: &TableEntry) -> Result<SqlView> {
        Ok(self.lake.tables().load_view(&entry.metadata_location).await?)
    }

    /// The error for a view that is not there, with the name that was most likely meant.
    pub async fn no_view(&self, name: &TableName) -> Result<Error> {
        let views = self.state.views(None).await?;
        Ok(Error::ViewNotFound {
            view: name.clone(),
            reference: self.reference.to_string(),
            near: near_table(name, views.iter().map(|(name, _)| name)),
            table: self.state.table(name).await?.is_some(),
        })
    }

    /// The error for a table that is not there, with the name that was most likely meant.
    pub async fn not_found(&self, name: &TableName) -> Result<Error> {
        if self.state.view(name).await?.is_some() {
            return Ok(Error::IsView { view: name.clone() });
        }
        let tables = self.list(None).await?;
        Ok(Error::TableNotFound {
            table: name.clone(),
            reference: self.reference.to_string(),
            near: near_table(name, tables.iter().map(|(name, _)| name)),
        })
    }

    /// `NamespaceNotFound`, with the name that was most likely meant, where there is no such
    /// namespace.
    pub async fn check_namespace(&self, name: &str) -> Result<()> {
        if self.state.namespace(name).await?.is_some() {
            return Ok(());
        }
        let namespaces = self.namespaces().await?;
        let near = nearest(name, namespaces.iter().map(|namespace| namespace.name.as_str()));
        Err(headwater_catalog::Error::NamespaceNotFound { name: name.to_owned(), near }.into())
    }
}

/// The table that was most likely meant: one of the same namespace, one of the same name in another, or
/// else any. One of another namespace is named with it, since without it might be the very name that
/// was not found.
fn near_table<'a>(
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
    // The namespace, which most tables share, must not make names alike.
    let near = nearest(&name.name, tables.clone().map(|table| table.name.as_str()))?;
    tables.clone().find(|table| table.name == near).map(TableName::qualified)
}
