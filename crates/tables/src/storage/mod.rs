//! Files: where they lie, and that they stay.
//!
//! A location is a URL as Iceberg's files hold it; a path is the object store's.

mod local;

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::try_join_all;
use futures::{StreamExt, stream};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use self::local::LocalFolder;
use crate::{Error, Result};

/// How many files are removed at once.
const DELETES_AT_ONCE: usize = 16;

/// The files of a warehouse.
#[derive(Debug)]
pub(crate) struct Storage {
    store: Arc<dyn ObjectStore>,
    root_url: String,
    local: Option<LocalFolder>,
}

impl Storage {
    pub(crate) fn new(
        store: Arc<dyn ObjectStore>,
        root_url: String,
        local_root: Option<PathBuf>,
    ) -> Self {
        Storage { store, root_url, local: local_root.map(LocalFolder::new) }
    }

    pub(crate) fn object_store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    /// The path of a location. Fails where the location lies outside the warehouse.
    pub(crate) fn path_of(&self, location: &str) -> Result<Path> {
        let outside = || Error::OutsideWarehouse {
            location: location.to_owned(),
            root: self.root_url.clone(),
        };
        let rest = location.strip_prefix(&self.root_url).ok_or_else(outside)?;
        let rest = rest.strip_prefix('/').ok_or_else(outside)?;
        Path::parse(rest).map_err(|_| outside())
    }

    pub(crate) async fn read(&self, location: &str) -> Result<Bytes> {
        let path = self.path_of(location)?;
        let found = async { self.store.get(&path).await?.bytes().await };
        found.await.map_err(|error| Error::storage(location, error))
    }

    /// Writes new files of names that no other has, and makes them and others that are written
    /// already durable.
    pub(crate) async fn write_all(
        &self,
        new: &[(String, Bytes)],
        written: impl Iterator<Item = &str>,
    ) -> Result<()> {
        let Some(folder) = &self.local else {
            let puts = new.iter().map(|(location, content)| self.put(location, content));
            return try_join_all(puts).await.map(drop);
        };
        let new =
            new.iter().map(|(location, content)| Ok((self.path_of(location)?, content.clone())));
        folder.write(new.collect::<Result<_>>()?, self.paths_of(written)?).await
    }

    /// Writes a file, in place of another where there is one, and makes it durable.
    pub(crate) async fn write(&self, location: &str, content: &Bytes) -> Result<()> {
        self.put(location, content).await?;
        self.sync(std::iter::once(location)).await
    }

    async fn put(&self, location: &str, content: &Bytes) -> Result<()> {
        let path = self.path_of(location)?;
        let put = self.store.put(&path, content.clone().into()).await;
        put.map(drop).map_err(|error| Error::storage(location, error))
    }

    /// Makes the folders that a table's files come into, where the store has folders: others that write
    /// there take it that they are there.
    pub(crate) async fn make_folders(&self, table_location: &str) -> Result<()> {
        let Some(folder) = &self.local else { return Ok(()) };
        for name in ["data", "metadata"] {
            let location = format!("{table_location}/{name}");
            folder.make_folder(self.path_of(&location)?).await?;
        }
        Ok(())
    }

    /// Makes files durable that are written already. Does nothing for stores that are no local
    /// folder.
    pub(crate) async fn sync(&self, locations: impl Iterator<Item = &str>) -> Result<()> {
        match &self.local {
            Some(folder) => folder.write(Vec::new(), self.paths_of(locations)?).await,
            None => Ok(()),
        }
    }

    fn paths_of<'l>(&self, locations: impl Iterator<Item = &'l str>) -> Result<Vec<Path>> {
        locations.map(|location| self.path_of(location)).collect()
    }

    /// Removes files; those that are gone already are no error.
    pub(crate) async fn delete(&self, locations: &[String]) -> Result<()> {
        let deletes = stream::iter(locations.to_vec()).map(|location| async move {
            let path = self.path_of(&location)?;
            match self.store.delete(&path).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
                Err(error) => Err(Error::storage(location, error)),
            }
        });
        let results: Vec<Result<()>> = deletes.buffer_unordered(DELETES_AT_ONCE).collect().await;
        results.into_iter().collect()
    }
}

/// Removes files when dropped, unless they were kept: undoes a write that failed or was cancelled.
#[derive(Debug)]
pub(crate) struct Undo {
    storage: Arc<Storage>,
    locations: Vec<String>,
}

impl Undo {
    pub(crate) fn new(storage: Arc<Storage>) -> Self {
        Undo { storage, locations: Vec::new() }
    }

    /// Remembers a file to remove.
    pub(crate) fn add(&mut self, location: String) {
        self.locations.push(location);
    }

    /// Leaves the files where they are.
    pub(crate) fn keep(mut self) {
        self.locations.clear();
    }

    /// Removes the files now; what cannot be removed is left, and logged.
    pub(crate) async fn run(mut self) {
        let locations = std::mem::take(&mut self.locations);
        remove(&self.storage, &locations).await;
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        let locations = std::mem::take(&mut self.locations);
        if locations.is_empty() {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let storage = Arc::clone(&self.storage);
            runtime.spawn(async move { remove(&storage, &locations).await });
        }
    }
}

async fn remove(storage: &Storage, locations: &[String]) {
    if let Err(error) = storage.delete(locations).await {
        tracing::warn!(%error, "files of an attempt that failed are left behind");
    }
}
