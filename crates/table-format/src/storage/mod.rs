//! The storage of a warehouse's files: their locations and durability.
//!
//! A location is a URL, as Iceberg's files contain it. A path is a key in the object store.

mod cloud;
mod failure_cause;
mod local;
mod upload;

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::join_all;
use futures::{StreamExt, stream};
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, PutMode, PutPayload};

pub use self::cloud::{CloudSettings, CloudUrl, OBJECTS_FOLDER, StoreTimeouts, is_reserved};
pub use self::failure_cause::FailureCause;
use self::local::LocalFolder;
pub use self::upload::Upload;
use crate::{Error, Result};

/// Maximum number of concurrent deletes.
const DELETES_MAX: usize = 16;

/// Maximum number of attempts for a request whose response was lost and that the store's client
/// does not retry itself.
const ATTEMPTS_MAX: usize = 3;

/// Pause between attempts.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// The files of a warehouse.
pub struct Storage {
    store: Arc<dyn ObjectStore>,
    root_url: String,
    local: Option<LocalFolder>,
    /// Maximum total time of one request to the object store, including its retries.
    patience: Duration,
}

/// Shows only the URL, because an object store's debug output may contain secrets.
impl std::fmt::Debug for Storage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Storage").field("root_url", &self.root_url).finish_non_exhaustive()
    }
}

impl Storage {
    /// Opens the warehouse at a URL. `local_root` is the folder of a local object store, whose
    /// files are fsynced after they were written.
    pub fn new(
        store: Arc<dyn ObjectStore>,
        root_url: &str,
        local_root: Option<PathBuf>,
        patience: StoreTimeouts,
    ) -> Self {
        let local = local_root.map(LocalFolder::new);
        Storage { store, root_url: root_url.to_owned(), local, patience: patience.total }
    }

    /// Returns the object store.
    pub fn object_store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    /// Returns the path of a location. Fails if the location is outside the warehouse.
    pub fn path_of(&self, location: &str) -> Result<Path> {
        let outside = || Error::OutsideWarehouse {
            location: location.to_owned(),
            root: self.root_url.clone(),
        };
        let written = normalised_location(location);
        let rest = written.strip_prefix(&self.root_url).ok_or_else(outside)?;
        let rest = rest.strip_prefix('/').ok_or_else(outside)?;
        Path::parse(rest).map_err(|_| outside())
    }

    /// Reads a file.
    pub async fn read(&self, location: &str) -> Result<Bytes> {
        let path = self.path_of(location)?;
        let found = async { self.store.get(&path).await?.bytes().await };
        found.await.map_err(|error| Error::storage(location, error))
    }

    /// Writes new files with unique names. Makes these files and all earlier files durable.
    pub async fn write_all(
        &self,
        new: &[(String, Bytes)],
        written: impl Iterator<Item = &str>,
    ) -> Result<()> {
        let Some(folder) = &self.local else {
            let puts = new
                .iter()
                .map(|(location, content)| self.put_new(location, content.clone().into()));
            // All uploads are awaited, even after an error. Otherwise, an upload could complete
            // after its file was deleted, and the file would remain.
            return join_all(puts).await.into_iter().collect();
        };
        let new =
            new.iter().map(|(location, content)| Ok((self.path_of(location)?, content.clone())));
        folder.write(new.collect::<Result<_>>()?, self.paths_of(written)?).await
    }

    /// Starts a multipart upload. The store keeps an empty upload if the response is lost, because
    /// the id of this upload is then unknown.
    async fn start_multipart(&self, path: &Path) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.retry_if_lost(|| self.store.put_multipart(path)).await
    }

    /// Writes or replaces a file and makes it durable.
    pub async fn write(&self, location: &str, content: &Bytes) -> Result<()> {
        self.put(location, content).await?;
        self.sync(std::iter::once(location)).await
    }

    async fn put(&self, location: &str, content: &Bytes) -> Result<()> {
        let path = self.path_of(location)?;
        let put = self.store.put(&path, content.clone().into()).await;
        put.map(drop).map_err(|error| Error::storage(location, error))
    }

    /// Creates a file. An existing file is not replaced. On success, the file exists with this
    /// content, even if a response was lost.
    pub async fn put_new(&self, location: &str, content: PutPayload) -> Result<()> {
        let path = self.path_of(location)?;
        if self.local.is_some() {
            let put = self.store.put(&path, content).await;
            return put.map(drop).map_err(|error| Error::storage(location, error));
        }
        let started = Instant::now();
        for sent in 1.. {
            let put = self.store.put_opts(&path, content.clone(), PutMode::Create.into()).await;
            let Err(error) = put else { return Ok(()) };
            if !supports_conditional_puts(&error) {
                // If the store does not support conditional puts, use an unconditional put. This is
                // safe, because file names are unique.
                let put = self.store.put(&path, content).await;
                return put.map(drop).map_err(|error| Error::storage(location, error));
            }
            let trouble = FailureCause::of(&error);
            let may_exist = matches!(
                trouble,
                Some(FailureCause::Taken | FailureCause::TimedOut | FailureCause::Cut)
            );
            let Some(remaining) =
                self.patience.checked_sub(started.elapsed()).filter(|_| may_exist)
            else {
                return Err(Error::storage(location, error));
            };
            match tokio::time::timeout(remaining, self.has_content(&path, &content)).await {
                Ok(Some(true)) => return Ok(()),
                Ok(None) if sent < ATTEMPTS_MAX => tokio::time::sleep(RETRY_PAUSE).await,
                // Another file exists at the location, or it is unknown whether this request
                // created the file.
                _ => return Err(Error::storage(location, error)),
            }
        }
        Ok(())
    }

    /// Returns true if a file has this content; `None` if the file is missing or cannot be read.
    async fn has_content(&self, path: &Path, content: &PutPayload) -> Option<bool> {
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

    /// Creates a table's `data` and `metadata` folders in a local store, because other writers
    /// expect them to exist.
    pub async fn create_folders(&self, table_location: &str) -> Result<()> {
        let Some(folder) = &self.local else { return Ok(()) };
        for name in ["data", "metadata"] {
            let location = format!("{table_location}/{name}");
            folder.create_folder(self.path_of(&location)?).await?;
        }
        Ok(())
    }

    /// Makes files durable that were written before. Does nothing for cloud object stores.
    pub async fn sync(&self, locations: impl Iterator<Item = &str>) -> Result<()> {
        match &self.local {
            Some(folder) => folder.write(Vec::new(), self.paths_of(locations)?).await,
            None => Ok(()),
        }
    }

    fn paths_of<'l>(&self, locations: impl Iterator<Item = &'l str>) -> Result<Vec<Path>> {
        locations.map(|location| self.path_of(location)).collect()
    }

    /// Deletes files. A file that does not exist is not an error.
    pub async fn delete(&self, locations: &[String]) -> Result<()> {
        if self.local.is_none() && locations.len() > 1 {
            return self.delete_batch(locations).await;
        }
        let deletes = stream::iter(locations.to_vec()).map(|location| async move {
            let path = self.path_of(&location)?;
            match self.retry_if_lost(|| self.store.delete(&path)).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
                Err(error) => Err(Error::storage(location, error)),
            }
        });
        let results: Vec<Result<()>> = deletes.buffer_unordered(DELETES_MAX).collect().await;
        results.into_iter().collect()
    }
}

impl Storage {
    /// Deletes files with as few requests as the store supports. If the deletion of one file fails,
    /// the other files are deleted nevertheless.
    async fn delete_batch(&self, locations: &[String]) -> Result<()> {
        let paths = locations.iter().map(|location| self.path_of(location));
        let paths: Vec<Path> = paths.collect::<Result<_>>()?;
        let removed = self.retry_if_lost(|| self.delete_each(paths.clone())).await;
        removed.map_err(|error| Error::storage(&self.root_url, error))
    }

    /// Deletes files without retries. Returns the first error.
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

    /// Retries an idempotent request whose response was lost. This is needed, because some clients
    /// of object stores do not regard all such requests as idempotent.
    async fn retry_if_lost<T, F>(&self, ask: impl Fn() -> F) -> object_store::Result<T>
    where
        F: Future<Output = object_store::Result<T>>,
    {
        let started = Instant::now();
        for _ in 1..ATTEMPTS_MAX {
            let answered = ask().await;
            let trouble = answered.as_ref().err().and_then(|error| FailureCause::of(error));
            let lost = matches!(trouble, Some(FailureCause::TimedOut | FailureCause::Cut));
            if !lost || started.elapsed() >= self.patience {
                return answered;
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
        ask().await
    }
}

/// Returns false if the error means that the store does not support conditional puts.
fn supports_conditional_puts(error: &object_store::Error) -> bool {
    match error {
        object_store::Error::NotImplemented { .. } => false,
        object_store::Error::Generic { source, .. } => {
            !source.to_string().contains("<Code>NotImplemented</Code>")
        }
        _ => true,
    }
}

/// Normalizes a location. In the paths of Hadoop, which Spark uses, `file:/a` means `file:///a`.
pub fn normalised_location(location: &str) -> Cow<'_, str> {
    match location.strip_prefix("file:/") {
        Some(rest) if !rest.starts_with('/') => format!("file:///{rest}").into(),
        _ => location.into(),
    }
}

/// A guard that deletes the files of a failed or cancelled write when it is dropped.
#[derive(Debug)]
pub struct CleanupGuard {
    storage: Arc<Storage>,
    locations: Vec<String>,
}

impl CleanupGuard {
    /// Creates a guard without files.
    pub fn new(storage: Arc<Storage>) -> Self {
        CleanupGuard { storage, locations: Vec::new() }
    }

    /// Adds a file to be deleted.
    pub fn add(&mut self, location: String) {
        self.locations.push(location);
    }

    /// Consumes the guard without deleting the files.
    pub fn keep(mut self) {
        self.locations.clear();
    }

    /// Deletes the files now. Failures are only logged.
    pub async fn run(mut self) {
        let locations = std::mem::take(&mut self.locations);
        remove(&self.storage, &locations).await;
    }
}

impl Drop for CleanupGuard {
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
        tracing::warn!(%error, "could not delete files of a failed write");
    }
}

#[cfg(test)]
mod tests {
    use super::normalised_location;

    #[test]
    fn hadoops_file_urls_are_normalised() {
        assert_eq!(normalised_location("file:/w/t/a"), "file:///w/t/a");
        for same in ["file:///w/t/a", "file://host/a", "s3://bucket/file:/a", "file:"] {
            assert_eq!(normalised_location(same), same);
        }
    }
}
