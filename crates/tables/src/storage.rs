//! Files: where they lie, and that they stay.
//!
//! A location is a URL as Iceberg's files hold it; a path is the object store's. In a local folder
//! a file counts as written only once it, its folder's entry for it, and every folder above that is
//! new are fsynced; the object store's local backend does none of that. Folders once known to be
//! durable are not synced again.

use std::collections::{BTreeSet, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::try_join_all;
use futures::{StreamExt, stream};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parking_lot::Mutex;

use crate::{Error, Result};

/// How many files are removed at once.
const DELETES_AT_ONCE: usize = 16;

/// The files of a warehouse.
#[derive(Debug)]
pub(crate) struct Storage {
    store: Arc<dyn ObjectStore>,
    root_url: String,
    local_root: Option<PathBuf>,
    durable_folders: Mutex<HashSet<PathBuf>>,
}

impl Storage {
    pub(crate) fn new(
        store: Arc<dyn ObjectStore>,
        root_url: String,
        local_root: Option<PathBuf>,
    ) -> Self {
        Storage { store, root_url, local_root, durable_folders: Mutex::default() }
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

    /// Writes files at once and makes them durable.
    pub(crate) async fn write_all(&self, files: &[(String, Bytes)]) -> Result<()> {
        try_join_all(files.iter().map(|(location, content)| self.put(location, content))).await?;
        self.sync(files.iter().map(|(location, _)| location.as_str())).await
    }

    async fn put(&self, location: &str, content: &Bytes) -> Result<()> {
        let path = self.path_of(location)?;
        let put = self.store.put(&path, content.clone().into()).await;
        put.map(drop).map_err(|error| Error::storage(location, error))
    }

    /// Makes files durable that are written already. Does nothing for stores that are no local
    /// folder.
    pub(crate) async fn sync(&self, locations: impl Iterator<Item = &str>) -> Result<()> {
        let Some(root) = &self.local_root else { return Ok(()) };
        let mut files = Vec::new();
        let mut folders = BTreeSet::new();
        let mut ancestors = BTreeSet::new();
        for location in locations {
            let file = root.join(self.path_of(location)?.as_ref());
            for folder in file.ancestors().skip(1).take_while(|folder| folder.starts_with(root)) {
                ancestors.insert(folder.to_owned());
            }
            folders.extend(file.parent().map(ToOwned::to_owned));
            files.push(file);
        }
        ancestors.retain(|folder| !self.durable_folders.lock().contains(folder));
        // A folder is durable once the folder above it is synced; the root's own is its maker's
        // affair.
        let above = ancestors.iter().filter(|folder| *folder != root).filter_map(|f| f.parent());
        folders.extend(above.map(ToOwned::to_owned));
        let syncs = files.into_iter().map(|file| (file, false));
        let syncs = syncs.chain(folders.into_iter().map(|folder| (folder, true)));
        try_join_all(syncs.map(|(path, folder)| sync_one(path, folder))).await?;
        self.durable_folders.lock().extend(ancestors);
        Ok(())
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

/// Fsyncs a file's content, or a folder's entries, on a thread of its own.
async fn sync_one(path: PathBuf, folder: bool) -> Result<()> {
    let shown = path.display().to_string();
    let synced = tokio::task::spawn_blocking(move || {
        let file = std::fs::File::open(path)?;
        if folder { file.sync_all() } else { file.sync_data() }
    });
    match synced.await {
        Ok(result) => result.map_err(|error| Error::storage(shown, error)),
        Err(error) => Err(Error::storage(shown, error)),
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
