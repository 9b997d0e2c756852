//! The contents of a commit: its tables, views, functions and namespaces.

use std::sync::Arc;

use headwater_model::{CommitId, Namespace, TableName};

use crate::codec::{CommitObject, Namespaces};
use crate::object_cache::ObjectCache;
use crate::{Error, Result, TableEntry, trie};

/// The tables, views, functions and namespaces of one commit. Immutable, and cheap to clone.
#[derive(Clone)]
pub struct CommitContents {
    id: CommitId,
    commit: Arc<CommitObject>,
    objects: ObjectCache,
}

impl std::fmt::Debug for CommitContents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CommitContents").field("commit", &self.id).finish_non_exhaustive()
    }
}

impl CommitContents {
    pub(crate) fn new(id: CommitId, commit: Arc<CommitObject>, objects: ObjectCache) -> Self {
        CommitContents { id, commit, objects }
    }

    /// Returns the commit's id.
    pub fn commit(&self) -> CommitId {
        self.id
    }

    /// Returns the table or view with exactly this name.
    pub async fn entry(&self, name: &TableName) -> Result<Option<TableEntry>> {
        Ok(self.any_entry(name).await?.filter(|entry| !entry.is_function(name)))
    }

    /// Returns the table, view or function with exactly this name.
    pub async fn any_entry(&self, name: &TableName) -> Result<Option<TableEntry>> {
        trie::get(&self.objects, self.commit.tables, &trie::key(name)).await
    }

    /// Returns the table with exactly this name.
    pub async fn table(&self, name: &TableName) -> Result<Option<TableEntry>> {
        Ok(self.entry(name).await?.filter(|entry| !entry.is_view()))
    }

    /// Returns the view with exactly this name.
    pub async fn view(&self, name: &TableName) -> Result<Option<TableEntry>> {
        Ok(self.entry(name).await?.filter(TableEntry::is_view))
    }

    /// Lists the tables and views of one or all namespaces, by name.
    pub async fn entries(&self, namespace: Option<&str>) -> Result<Vec<(TableName, TableEntry)>> {
        let wanted = |of: &str, _: &str| namespace.is_none_or(|namespace| namespace == of);
        let mut found = self.list(wanted).await?;
        found.retain(|(name, entry)| !entry.is_function(name));
        Ok(found)
    }

    /// Lists the tables, views and functions of all namespaces, by name.
    pub async fn all_entries(&self) -> Result<Vec<(TableName, TableEntry)>> {
        self.list(|_, _| true).await
    }

    /// Lists the functions of all namespaces, by name.
    pub async fn functions(&self) -> Result<Vec<(TableName, TableEntry)>> {
        let mut found = self.list(|_, name| name.ends_with(')')).await?;
        found.retain(|(name, entry)| entry.is_function(name));
        Ok(found)
    }

    /// Lists the tables of one or all namespaces, by name.
    pub async fn tables(&self, namespace: Option<&str>) -> Result<Vec<(TableName, TableEntry)>> {
        let mut found = self.entries(namespace).await?;
        found.retain(|(_, entry)| !entry.is_view());
        Ok(found)
    }

    /// Lists the views of one or all namespaces, by name.
    pub async fn views(&self, namespace: Option<&str>) -> Result<Vec<(TableName, TableEntry)>> {
        let mut found = self.entries(namespace).await?;
        found.retain(|(_, entry)| entry.is_view());
        Ok(found)
    }

    /// Lists the entries whose namespace and name satisfy `wanted`, by name.
    async fn list(
        &self,
        wanted: impl Fn(&str, &str) -> bool,
    ) -> Result<Vec<(TableName, TableEntry)>> {
        let wanted = |key: &str| {
            let (namespace, name) = trie::split(key);
            wanted(namespace, name)
        };
        let found = trie::list(&self.objects, self.commit.tables, wanted).await?;
        let tables = found.into_iter().map(|(key, entry)| Ok((trie::table_of(&key)?, entry)));
        let mut tables = tables.collect::<Result<Vec<_>>>()?;
        tables.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(tables)
    }

    /// Like [`CommitContents::find`], for tables only.
    pub async fn find_table(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<(TableName, TableEntry)>> {
        Ok(self.find(namespace, name).await?.filter(|(_, entry)| !entry.is_view()))
    }

    /// Finds a table or view by its exact name, or else case-insensitively. Fails with
    /// `AmbiguousTable` if several names match case-insensitively.
    pub async fn find(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<(TableName, TableEntry)>> {
        let found = self.find_any(namespace, name).await?;
        Ok(found.filter(|(name, entry)| !entry.is_function(name)))
    }

    /// Returns the function with exactly this catalog name.
    pub async fn function(&self, name: &TableName) -> Result<Option<TableEntry>> {
        Ok(self.any_entry(name).await?.filter(|entry| entry.is_function(name)))
    }

    async fn find_any(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<(TableName, TableEntry)>> {
        if let Ok(exact) = TableName::new(namespace, name)
            && let Some(entry) = self.any_entry(&exact).await?
        {
            return Ok(Some((exact, entry)));
        }
        let (wanted, wanted_in) = (name.to_lowercase(), namespace.to_lowercase());
        let matches =
            |of: &str, name: &str| of.to_lowercase() == wanted_in && name.to_lowercase() == wanted;
        let mut found = self.list(matches).await?;
        if found.len() > 1 {
            let candidates = found.into_iter().map(|(table, _)| table).collect();
            return Err(Error::AmbiguousTable { name: name.to_owned(), candidates });
        }
        Ok(found.pop())
    }

    /// Lists the namespaces, by name.
    pub async fn namespaces(&self) -> Result<Vec<Namespace>> {
        Ok(self.all_namespaces().await?.values().cloned().collect())
    }

    /// Returns a namespace.
    pub async fn namespace(&self, name: &str) -> Result<Option<Namespace>> {
        Ok(self.all_namespaces().await?.get(name).cloned())
    }

    async fn all_namespaces(&self) -> Result<Arc<Namespaces>> {
        self.objects.namespaces(self.commit.namespaces).await
    }
}
