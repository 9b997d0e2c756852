//! Cloud objects that blocking threads read like files.
//!
//! Every range request requires the listed `ETag`, so that all rows come from one state of the
//! object. Each object stores its first error unchanged, because a reader can return only an I/O
//! error.

use std::collections::HashMap;
use std::io::Read;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, TryFutureExt, TryStreamExt};
use headwater_lake::FileAttributes;
use headwater_tables::{CloudSettings, CloudUrl};
use object_store::path::Path;
use object_store::{GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt};
use parking_lot::Mutex;
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::progress::ByteCounter;
use crate::error::{Error, Result};

/// Number of bytes per request. The next request is sent in advance.
const READ_BYTES: u64 = 4 << 20;

/// Number of bytes that are fetched first from the end of a Parquet file; most footers fit.
const FOOTER_BYTES: usize = 64 << 10;

/// Object stores by the URLs of their buckets.
pub type BucketStores = HashMap<String, Arc<dyn ObjectStore>>;

/// Object stores from which files are imported.
pub(crate) struct CloudStores {
    settings: CloudSettings,
    buckets: BucketStores,
}

impl CloudStores {
    /// Creates the stores. `buckets` are stores for certain buckets; the other buckets are opened
    /// in their cloud.
    pub fn new(settings: CloudSettings, buckets: BucketStores) -> Self {
        CloudStores { settings, buckets }
    }

    fn bucket(&mut self, url: &CloudUrl) -> Result<Arc<dyn ObjectStore>> {
        if let Some(store) = self.buckets.get(url.bucket()) {
            return Ok(store.clone());
        }
        let store = url.open_bucket(&self.settings)?;
        self.buckets.insert(url.bucket().to_owned(), store.clone());
        Ok(store)
    }

    /// Returns the object with exactly this name, if it exists.
    pub fn find(&mut self, url: &CloudUrl) -> Result<Option<ListedObject>> {
        // The key is not a valid path, so no object can have this name.
        let Ok(path) = Path::parse(url.key()) else { return Ok(None) };
        let store = self.bucket(url)?;
        match wait(store.head(&path)) {
            Ok(found) => Ok(Some(ListedObject::new(store, url.bucket(), found))),
            Err(error) => match headwater_tables::Error::storage(url.as_str(), error) {
                error if error.is_not_found() => Ok(None),
                error => Err(error.into()),
            },
        }
    }

    /// Lists the objects below a prefix, except those with a hidden path component.
    pub fn below(&mut self, url: &CloudUrl, folder: &str) -> Result<Vec<ListedObject>> {
        let store = self.bucket(url)?;
        let prefix = Path::parse(folder).map_err(|_| Error::NoFiles {
            path: url.as_str().to_owned(),
            note: Some("Write the path without empty parts, `.`, `..` and control characters."),
        })?;
        let listed = store.list(Some(&prefix).filter(|prefix| !prefix.as_ref().is_empty()));
        let listed: Vec<ObjectMeta> = wait(listed.try_collect::<Vec<_>>())
            .map_err(|error| headwater_tables::Error::storage(url.as_str(), error))?;
        let depth = prefix.parts().count();
        let shown = |found: &ObjectMeta| {
            let mut names = found.location.parts().skip(depth);
            !names.any(|name| name.as_ref().starts_with(['.', '_']))
        };
        let shown = listed.into_iter().filter(shown);
        Ok(shown.map(|found| ListedObject::new(store.clone(), url.bucket(), found)).collect())
    }
}

/// Waits for a future on the current thread, which must be a blocking thread.
pub(crate) fn wait<T>(work: impl Future<Output = T>) -> T {
    Handle::current().block_on(work)
}

/// An object in the state in which it was listed. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ListedObject(Arc<ListedObjectInner>);

struct ListedObjectInner {
    store: Arc<dyn ObjectStore>,
    url: String,
    meta: ObjectMeta,
    /// The first error that occurred while reading the object.
    failed: Mutex<Option<Error>>,
}

impl std::fmt::Debug for ListedObject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ListedObject").field(&self.0.url).finish()
    }
}

impl ListedObject {
    fn new(store: Arc<dyn ObjectStore>, bucket: &str, meta: ObjectMeta) -> Self {
        let url = format!("{bucket}/{}", meta.location);
        ListedObject(Arc::new(ListedObjectInner { store, url, meta, failed: Mutex::default() }))
    }

    pub fn url(&self) -> &str {
        &self.0.url
    }

    pub fn key(&self) -> &str {
        self.0.meta.location.as_ref()
    }

    /// Returns the object's listed state as file attributes. A hash of the `ETag` replaces the time
    /// of the last change.
    pub fn file_attributes(&self) -> FileAttributes {
        let meta = &self.0.meta;
        let modified_ns = meta.last_modified.timestamp_nanos_opt().unwrap_or_default();
        let tag = Sha256::digest(meta.e_tag.as_deref().unwrap_or_default());
        let tag: [u8; 8] = std::array::from_fn(|at| tag[at]);
        // The shift makes the hash a time far in the past. A file's time is trusted only if it is
        // old enough, but an `ETag` identifies the object's state at any age.
        let changed_ns = i128::from(u64::from_be_bytes(tag) >> 8);
        FileAttributes { bytes: meta.size, modified_ns: i128::from(modified_ns), changed_ns }
    }

    /// Returns the bytes of a range.
    async fn range(&self, range: Range<u64>) -> object_store::Result<Bytes> {
        let meta = &self.0.meta;
        let options = GetOptions {
            if_match: meta.e_tag.clone(),
            range: Some(range.clone().into()),
            ..GetOptions::default()
        };
        let found = match self.0.store.get_opts(&meta.location, options).await {
            Ok(found) => found.bytes().await,
            Err(error) => Err(error),
        };
        found.map_err(|error| self.store_error(error))
    }

    /// Stores the first error, and returns a generic error for the reader to return.
    fn store_error(&self, error: object_store::Error) -> object_store::Error {
        let mut failed = self.0.failed.lock();
        let text = error.to_string();
        if failed.is_none() {
            let url = self.0.url.clone();
            let is_changed = matches!(error, object_store::Error::Precondition { .. });
            *failed = Some(match headwater_tables::Error::storage(&url, error) {
                _ if is_changed => Error::FileChanged { file: url },
                // The object was listed before, so it has been removed in the meantime.
                error if error.is_not_found() => Error::FileChanged { file: url },
                error => error.into(),
            });
        }
        object_store::Error::Generic { store: "import", source: text.into() }
    }

    /// Returns the first error unchanged, if any.
    pub fn failure(&self) -> Option<Error> {
        self.0.failed.lock().take()
    }
}

/// Sequential reader of an object, with read-ahead.
pub(crate) struct ObjectReader {
    object: ListedObject,
    /// Bytes that were fetched but not yet returned.
    ready: Bytes,
    /// Offset of the next request.
    next: u64,
    ahead: Option<JoinHandle<object_store::Result<Bytes>>>,
}

impl ObjectReader {
    /// Starts the first request.
    pub fn new(object: &ListedObject) -> Self {
        let (object, ready) = (object.clone(), Bytes::new());
        let mut reader = ObjectReader { object, ready, next: 0, ahead: None };
        reader.fetch();
        reader
    }

    /// Starts the next request.
    fn fetch(&mut self) {
        let end = (self.next + READ_BYTES).min(self.object.0.meta.size);
        if end > self.next {
            let (object, range) = (self.object.clone(), self.next..end);
            self.ahead = Some(Handle::current().spawn(async move { object.range(range).await }));
            self.next = end;
        }
    }
}

impl Read for ObjectReader {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.ready.is_empty() {
            let Some(ahead) = self.ahead.take() else { return Ok(0) };
            self.ready =
                wait(ahead).map_err(std::io::Error::other)?.map_err(std::io::Error::other)?;
            self.fetch();
        }
        let count = self.ready.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.ready.split_to(count));
        Ok(count)
    }
}

impl Drop for ObjectReader {
    fn drop(&mut self) {
        if let Some(ahead) = &self.ahead {
            ahead.abort();
        }
    }
}

fn failed(error: object_store::Error) -> ParquetError {
    ParquetError::External(Box::new(error))
}

/// Reader of parts of an object, which counts their bytes.
pub(crate) struct ObjectChunkReader {
    pub object: ListedObject,
    pub read: ByteCounter,
}

impl AsyncFileReader for ObjectChunkReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, parquet::errors::Result<Bytes>> {
        self.read.add(range.end - range.start);
        self.object.range(range).map_err(failed).boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, parquet::errors::Result<Arc<ParquetMetaData>>> {
        async move {
            let bytes = self.object.0.meta.size;
            let reader = ParquetMetaDataReader::new()
                .with_arrow_reader_options(options)
                .with_prefetch_hint(Some(FOOTER_BYTES));
            Ok(Arc::new(reader.load_and_finish(self, bytes).await?))
        }
        .boxed()
    }
}
