//! Tables as they are listed and looked at.

use futures::{StreamExt, TryStreamExt, stream};
use headwater_model::{RefSpec, SqlView, Table, TableName};

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

    /// A view at a ref, under its name as the catalog writes it.
    pub async fn describe_view(&self, reference: &RefSpec, name: &TableName) -> Result<SqlView> {
        let view = self.view(reference).await?;
        match view.state().find(&name.namespace, &name.name).await? {
            Some((name, entry)) if entry.is_view() => {
                Ok(view.load_view(&entry).await?.describe(&name))
            }
            _ => Err(view.no_view(name).await?),
        }
    }

    /// The views at a ref, by name; those of one namespace where one is given, which must be there.
    pub async fn list_views(
        &self,
        reference: &RefSpec,
        namespace: Option<&str>,
    ) -> Result<Vec<SqlView>> {
        let view = self.view(reference).await?;
        let entries = view.state().views(namespace).await?;
        if let Some(name) = namespace
            && entries.is_empty()
        {
            view.check_namespace(name).await?;
        }
        let view = &view;
        let describe = |(name, entry): (TableName, headwater_catalog::TableEntry)| async move {
            Ok(view.load_view(&entry).await?.describe(&name))
        };
        stream::iter(entries).map(describe).buffered(LOADS_AT_ONCE).try_collect().await
    }
}
