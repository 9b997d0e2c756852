//! Tables as they are listed and looked at.

use futures::{StreamExt, TryStreamExt, stream};
use headwater_model::{RefSpec, Table, TableName};

use crate::error::Result;
use crate::lake::Lake;

/// Metadata files that are read at once.
const LOADS_AT_ONCE: usize = 16;

impl Lake {
    /// A table at a ref, under its name as the catalog writes it.
    pub async fn describe(&self, reference: &RefSpec, name: &TableName) -> Result<Table> {
        let view = self.view(reference).await?;
        match view.find(&name.namespace, &name.name).await? {
            Some((name, table)) => Ok(table.describe(&name)),
            None => Err(view.not_found(name).await?),
        }
    }

    /// The tables at a ref, by name; those of one namespace where one is given, which must be
    /// there.
    pub async fn list(&self, reference: &RefSpec, namespace: Option<&str>) -> Result<Vec<Table>> {
        let view = self.view(reference).await?;
        let entries = view.list(namespace).await?;
        if let Some(name) = namespace
            && entries.is_empty()
        {
            view.check_namespace(name).await?;
        }
        let describe = |(name, entry): (TableName, headwater_catalog::TableEntry)| async move {
            let table = self.tables().load(&entry.metadata_location).await?;
            Ok(table.describe(&name))
        };
        stream::iter(entries).map(describe).buffered(LOADS_AT_ONCE).try_collect().await
    }
}
