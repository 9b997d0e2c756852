//! Files: where they lie, and that they stay.
//!
//! A location is a URL as Iceberg's files hold it; a path is the object store's.

pub(crate) mod cloud;
mod local;
mod trouble;
mod upload;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::join_all;
use futures::{StreamExt, stream};
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, PutMode, PutPayload};

use self::local::LocalFolder;
pub use self::trouble::Trouble;
pub(crate) use self::upload::Upload;
use crate::{Error, Result, TablesOptions};

/// How many files are removed at once.
const DELETES_AT_ONCE: usize = 16;

/// How often something is asked for whose answer was lost, where the store's client does not ask again.
const SENT_AT_MOST: usize = 3;

/// How long to wait before that is asked again.
const PAUSE: Duration = Duration::from_millis(200);

/// The files of a warehouse.
pub(crate) struct Storage {
    store: Arc<dyn ObjectStore>,
    root_url: String,
    local: Option<LocalFolder>,
    /// How long a file that is sent again and again may take.
    patience: Duration,
}

/// Only where it is: what an object store says of itself may hold what nobody is to see.
impl std::fmt::Debug for Storage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Storage").field("root_url", &self.root_url).finish_non_exhaustive()
    }
}

impl Storage {
    pub(crate) fn new(store: Arc<dyn ObjectStore>, options: &TablesOptions) -> Self {
        let local = options.local_root.clone().map(LocalFolder::new);
        let (root_url, patience) = (options.root_url.clone(), options.cloud.patience().total);
        Storage { store, root_url, local, patience }
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
        let written = as_we_write(location);
        let rest = written.strip_prefix(&self.root_url).ok_or_else(outside)?;
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
            let puts = new
                .iter()
                .map(|(location, content)| self.put_new(location, content.clone().into()));
            // All of them to their end: what comes to be after it was removed stays for a sweep.
            return join_all(puts).await.into_iter().collect();
        };
        let new =
            new.iter().map(|(location, content)| Ok((self.path_of(location)?, content.clone())));
        folder.write(new.collect::<Result<_>>()?, self.paths_of(written)?).await
    }

    /// Begins an upload of several parts. One whose answer was lost keeps no bytes.
    async fn begin_parts(&self, path: &Path) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.insist(|| self.store.put_multipart(path)).await
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

    /// Makes a file that is not there; one that is there stays as it is. Once this has succeeded the file
    /// is there, whichever answer was lost on the way.
    pub(crate) async fn put_new(&self, location: &str, content: PutPayload) -> Result<()> {
        let path = self.path_of(location)?;
        if self.local.is_some() {
            let put = self.store.put(&path, content).await;
            return put.map(drop).map_err(|error| Error::storage(location, error));
        }
        let begun = Instant::now();
        for sent in 1.. {
            let put = self.store.put_opts(&path, content.clone(), PutMode::Create.into()).await;
            let Err(error) = put else { return Ok(()) };
            if !knows_conditions(&error) {
                // No two files have the same name anyway.
                let put = self.store.put(&path, content).await;
                return put.map(drop).map_err(|error| Error::storage(location, error));
            }
            let trouble = Trouble::of(&error);
            let unsure = matches!(trouble, Some(Trouble::Taken | Trouble::TimedOut | Trouble::Cut));
            let Some(left) = self.patience.checked_sub(begun.elapsed()).filter(|_| unsure) else {
                return Err(Error::storage(location, error));
            };
            match tokio::time::timeout(left, self.holds(&path, &content)).await {
                Ok(Some(true)) => return Ok(()),
                Ok(None) if sent < SENT_AT_MOST => tokio::time::sleep(PAUSE).await,
                // Somebody else's is there, or nobody knows.
                _ => return Err(Error::storage(location, error)),
            }
        }
        Ok(())
    }

    /// Whether a file has this content; none where it is not there, or cannot be read.
    async fn holds(&self, path: &Path, content: &PutPayload) -> Option<bool> {
        let found = self.store.get(path).await.ok()?;
        if found.meta.size != content.content_length() as u64 {
            return Some(false);
        }
        let found = found.bytes().await.ok()?;
        let mut rest = &found[..];
        let same = content.iter().all(|part| match rest.split_at_checked(part.len()) {
            Some((begin, after)) => {
                rest = after;
                begin == part
            }
            None => false,
        });
        Some(same && rest.is_empty())
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
        if self.local.is_none() && locations.len() > 1 {
            return self.delete_together(locations).await;
        }
        let deletes = stream::iter(locations.to_vec()).map(|location| async move {
            let path = self.path_of(&location)?;
            match self.insist(|| self.store.delete(&path)).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
                Err(error) => Err(Error::storage(location, error)),
            }
        });
        let results: Vec<Result<()>> = deletes.buffer_unordered(DELETES_AT_ONCE).collect().await;
        results.into_iter().collect()
    }
}

impl Storage {
    /// Removes files with as few requests as the store can do it with. What can be removed is, where
    /// others cannot.
    async fn delete_together(&self, locations: &[String]) -> Result<()> {
        let paths = locations.iter().map(|location| self.path_of(location));
        let paths: Vec<Path> = paths.collect::<Result<_>>()?;
        let removed = self.insist(|| self.delete_each(paths.clone())).await;
        removed.map_err(|error| Error::storage(&self.root_url, error))
    }

    /// The same once; what stood in the way of the first that could not be removed is the error.
    async fn delete_each(&self, paths: Vec<Path>) -> object_store::Result<()> {
        let mut removed = self.store.delete_stream(stream::iter(paths).map(Ok).boxed());
        let mut failed = None;
        while let Some(result) = removed.next().await {
            match result {
                Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Asks again where the answer was lost, for what comes to the same once and twice: the clients of some
    /// clouds do not know that of all that it holds for.
    async fn insist<T, F>(&self, ask: impl Fn() -> F) -> object_store::Result<T>
    where
        F: Future<Output = object_store::Result<T>>,
    {
        let begun = Instant::now();
        for _ in 1..SENT_AT_MOST {
            let answered = ask().await;
            let trouble = answered.as_ref().err().and_then(|error| Trouble::of(error));
            let lost = matches!(trouble, Some(Trouble::TimedOut | Trouble::Cut));
            if !lost || begun.elapsed() >= self.patience {
                return answered;
            }
            tokio::time::sleep(PAUSE).await;
        }
        ask().await
    }
}

/// Whether a store that failed to make a file could have made it conditionally.
fn knows_conditions(error: &object_store::Error) -> bool {
    match error {
        object_store::Error::NotImplemented { .. } => false,
        object_store::Error::Generic { source, .. } => {
            !source.to_string().contains("<Code>NotImplemented</Code>")
        }
        _ => true,
    }
}

/// A location as we write it: what uses Hadoop's paths, as Spark does, says `file:/a` for `file:///a`.
pub(crate) fn as_we_write(location: &str) -> Cow<'_, str> {
    match location.strip_prefix("file:/") {
        Some(rest) if !rest.starts_with('/') => format!("file:///{rest}").into(),
        _ => location.into(),
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

#[cfg(test)]
mod tests {
    use super::as_we_write;

    #[test]
    fn hadoops_way_of_writing_a_local_file_is_known() {
        assert_eq!(as_we_write("file:/w/t/a"), "file:///w/t/a");
        for same in ["file:///w/t/a", "file://host/a", "s3://bucket/file:/a", "file:"] {
            assert_eq!(as_we_write(same), same);
        }
    }
}
