//! The tables and namespaces of one commit.

use std::sync::Arc;

use headwater_model::{CommitId, Namespace, TableName};

use crate::codec::{CommitObject, Namespaces};
use crate::objects::Objects;
use crate::{Error, Result, TableEntry, trie};

/// The tables and namespaces of one commit. Immutable, and cheap to clone.
#[derive(Clone)]
pub struct State {
    id: CommitId,
    commit: Arc<CommitObject>,
    objects: Objects,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("commit", &self.id).finish_non_exhaustive()
    }
}

impl State {
    pub(crate) fn new(id: CommitId, commit: Arc<CommitObject>, objects: Objects) -> Self {
        State { id, commit, objects }
    }

    /// The commit.
    pub fn commit(&self) -> CommitId {
        self.id
    }

    /// The table, or view, of exactly that name.
    pub async fn entry(&self, name: &TableName) -> Result<Option<TableEntry>> {
        trie::get(&self.objects, self.commit.tables, &trie::key(name)).await
    }

    /// The table of exactly that name.
    pub async fn table(&self, name: &TableName) -> Result<Option<TableEntry>> {
        Ok(self.entry(name).await?.filter(|entry| !entry.is_view()))
    }

    /// The view of exactly that name.
    pub async fn view(&self, name: &TableName) -> Result<Option<TableEntry>> {
        Ok(self.entry(name).await?.filter(TableEntry::is_view))
    }

    /// The tables and views of a namespace, or of all, by name.
    pub async fn entries(&self, namespace: Option<&str>) -> Result<Vec<(TableName, TableEntry)>> {
        let wanted = |of: &str, _: &str| namespace.is_none_or(|namespace| namespace == of);
        self.list(wanted).await
    }

    /// The tables of a namespace, or of all, by name.
    pub async fn tables(&self, namespace: Option<&str>) -> Result<Vec<(TableName, TableEntry)>> {
        let mut found = self.entries(namespace).await?;
        found.retain(|(_, entry)| !entry.is_view());
        Ok(found)
    }

    /// The views of a namespace, or of all, by name.
    pub async fn views(&self, namespace: Option<&str>) -> Result<Vec<(TableName, TableEntry)>> {
        let mut found = self.entries(namespace).await?;
        found.retain(|(_, entry)| entry.is_view());
        Ok(found)
    }

    /// The tables whose namespace and name are `wanted`, by name.
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

    /// The table of that name, see [`State::find`]; none where that is a view.
    pub async fn find_table(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<(TableName, TableEntry)>> {
        Ok(self.find(namespace, name).await?.filter(|(_, entry)| !entry.is_view()))
    }

    /// The table, or view, of that name, as written or else without case; `AmbiguousTable` where several
    /// differ from it in case alone.
    pub async fn find(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<(TableName, TableEntry)>> {
        if let Ok(exact) = TableName::new(namespace, name)
            && let Some(entry) = self.entry(&exact).await?
        {
            return Ok(Some((exact, entry)));
        }
        let (wanted, wanted_in) = (name.to_lowercase(), namespace.to_lowercase());
        let alike =
            |of: &str, name: &str| of.to_lowercase() == wanted_in && name.to_lowercase() == wanted;
        let mut found = self.list(alike).await?;
        if found.len() > 1 {
            let candidates = found.into_iter().map(|(table, _)| table).collect();
            return Err(Error::AmbiguousTable { name: name.to_owned(), candidates });
        }
        Ok(found.pop())
    }

    /// The namespaces, by name.
    pub async fn namespaces(&self) -> Result<Vec<Namespace>> {
        Ok(self.all_namespaces().await?.values().cloned().collect())
    }

    /// A namespace.
    pub async fn namespace(&self, name: &str) -> Result<Option<Namespace>> {
        Ok(self.all_namespaces().await?.get(name).cloned())
    }

    async fn all_namespaces(&self) -> Result<Arc<Namespaces>> {
        self.objects.namespaces(self.commit.namespaces).await
    }
}
