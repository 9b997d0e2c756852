//! Descriptions of tables and views in the form in which the API returns them.

use futures::{StreamExt, TryStreamExt, stream};
use headwater_model::{AccessObject, RefSpec, SqlView, Table, TableName};

use crate::error::Result;
use crate::lake::Lake;

/// The number of metadata files read concurrently.
const LOAD_CONCURRENCY: usize = 16;

impl Lake {
    /// Describes a table at a ref, with its name as the catalog spells it.
    pub async fn describe(&self, reference: &RefSpec, name: &TableName) -> Result<Table> {
        let view = self.view(reference).await?;
        match view.find(&name.namespace, &name.name).await? {
            Some((name, table)) => Ok(table.describe(&name)),
            None => Err(view.not_found(name).await?),
        }
    }

    /// Lists the tables at a ref for which `is_visible` returns true, by name. If a namespace is
    /// given, lists only its tables; the namespace must exist.
    pub async fn list(
        &self,
        reference: &RefSpec,
        namespace: Option<&str>,
        is_visible: impl Fn(&AccessObject) -> bool,
    ) -> Result<Vec<Table>> {
        let view = self.view(reference).await?;
        let mut entries = view.list(namespace).await?;
        if let Some(name) = namespace
            && entries.is_empty()
        {
            view.check_namespace(name).await?;
        }
        entries.retain(|(name, entry)| is_visible(&entry.object(name)));
        let describe = |(name, entry): (TableName, headwater_catalog::TableEntry)| async move {
            let table = self.tables().load(&entry.metadata_location).await?;
            Ok(table.describe(&name))
        };
        stream::iter(entries).map(describe).buffered(LOAD_CONCURRENCY).try_collect().await
    }

    /// Describes a view at a ref, with its name as the catalog spells it.
    pub async fn describe_view(&self, reference: &RefSpec, name: &TableName) -> Result<SqlView> {
        let view = self.view(reference).await?;
        match view.state().find(&name.namespace, &name.name).await? {
            Some((name, entry)) if entry.is_view() => {
                Ok(view.load_view(&entry).await?.describe(&name))
            }
            _ => Err(view.no_view(name).await?),
        }
    }

    /// Lists the views at a ref for which `is_visible` returns true, by name. If a namespace is
    /// given, lists only its views; the namespace must exist.
    pub async fn list_views(
        &self,
        reference: &RefSpec,
        namespace: Option<&str>,
        is_visible: impl Fn(&AccessObject) -> bool,
    ) -> Result<Vec<SqlView>> {
        let view = self.view(reference).await?;
        let mut entries = view.state().views(namespace).await?;
        if let Some(name) = namespace
            && entries.is_empty()
        {
            view.check_namespace(name).await?;
        }
        entries.retain(|(name, entry)| is_visible(&entry.object(name)));
        let view = &view;
        let describe = |(name, entry): (TableName, headwater_catalog::TableEntry)| async move {
            Ok(view.load_view(&entry).await?.describe(&name))
        };
        stream::iter(entries).map(describe).buffered(LOAD_CONCURRENCY).try_collect().await
    }
}
