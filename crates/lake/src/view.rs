//! One commit, to read from.

use headwater_catalog::{State, TableEntry};
use headwater_model::{CommitId, Namespace, RefSpec, TableName};
use headwater_tables::Table;

use crate::error::{Error, Result};
use crate::lake::Lake;
use crate::name::nearest;

/// One commit of a lake; cheap to clone. It does not change, whatever is committed later.
#[derive(Clone)]
pub struct View {
    lake: Lake,
    reference: RefSpec,
    branch: Option<String>,
    state: State,
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
        state: State,
    ) -> Self {
        View { lake, reference, branch, state }
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
        let table = self.lake.tables().load(&entry.metadata_location).await?;
        Ok(Some((name, table)))
    }

    /// The tables of a namespace, or of all, by name; no file is opened.
    pub async fn list(&self, namespace: Option<&str>) -> Result<Vec<(TableName, TableEntry)>> {
        Ok(self.state.tables(namespace).await?)
    }

    /// The namespaces, by name.
    pub async fn namespaces(&self) -> Result<Vec<Namespace>> {
        Ok(self.state.namespaces().await?)
    }

    /// The error for a table that is not there, with the name that was most likely meant.
    pub async fn not_found(&self, name: &TableName) -> Result<Error> {
        let names: Vec<String> =
            self.list(None).await?.into_iter().map(|(name, _)| name.to_string()).collect();
        let near = nearest(&name.to_string(), names.iter().map(String::as_str));
        Ok(Error::TableNotFound {
            table: name.clone(),
            reference: self.reference.to_string(),
            near: near.map(str::to_owned),
        })
    }
}
