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

impl State {
    pub(crate) fn new(id: CommitId, commit: Arc<CommitObject>, objects: Objects) -> Self {
        State { id, commit, objects }
    }

    /// The commit.
    pub fn commit(&self) -> CommitId {
        self.id
    }

    /// The table of exactly that name.
    pub async fn table(&self, name: &TableName) -> Result<Option<TableEntry>> {
        trie::get(&self.objects, self.commit.tables, &trie::key(name)).await
    }

    /// The tables of a namespace, or of all, by name.
    pub async fn tables(&self, namespace: Option<&str>) -> Result<Vec<(TableName, TableEntry)>> {
        let mut tables = Vec::new();
        for (key, entry) in trie::all(&self.objects, self.commit.tables).await? {
            let table = trie::table_of(&key)?;
            if namespace.is_none_or(|namespace| namespace == table.namespace) {
                tables.push((table, entry));
            }
        }
        tables.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(tables)
    }

    /// The table of that name, as written or else without case; `AmbiguousTable` where several differ
    /// from it in case alone.
    pub async fn find_table(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<(TableName, TableEntry)>> {
        if let Ok(exact) = TableName::new(namespace, name)
            && let Some(entry) = self.table(&exact).await?
        {
            return Ok(Some((exact, entry)));
        }
        let alike = |a: &str, b: &str| a.to_lowercase() == b.to_lowercase();
        let mut found = self.tables(None).await?;
        found.retain(|(table, _)| alike(&table.namespace, namespace) && alike(&table.name, name));
        if found.len() > 1 {
            let candidates = found.into_iter().map(|(table, _)| table).collect();
            return Err(Error::AmbiguousTable { name: name.to_owned(), candidates });
        }
        Ok(found.pop())
    }

    /// The namespaces, by name.
    pub async fn namespaces(&self) -> Result<Vec<Namespace>> {
        Ok(self.all_namespaces().await?.into_values().collect())
    }

    /// A namespace.
    pub async fn namespace(&self, name: &str) -> Result<Option<Namespace>> {
        Ok(self.all_namespaces().await?.remove(name))
    }

    async fn all_namespaces(&self) -> Result<Namespaces> {
        self.objects.namespaces(self.commit.namespaces).await
    }
}
