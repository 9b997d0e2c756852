//! The handle to the buckets of a lake.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use headwater_model::{Clock, Timestamp};
use headwater_store::{JournalAppend, RefChange, RefPrecondition, Store, WriteBatch};
use headwater_table_format::storage::{OBJECTS_FOLDER, Storage, StoreTimeouts};
use object_store::local::LocalFileSystem;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use crate::change::{ChangeFilter, ChangeOrigin};
use crate::record::{UnreferencedFiles, bucket_ref, garbage_ref, put};
use crate::{Error, Result};

/// The buckets of a lake, with the origin of the handle's changes, if it is known. Cheap to clone.
#[derive(Clone)]
pub struct Objects(pub(crate) Arc<ObjectsInner>, pub(crate) Option<Arc<ChangeOrigin>>);

pub(crate) struct ObjectsInner {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) storage: Arc<Storage>,
    /// URL of the folder with the content of objects.
    root: String,
    /// The path of this folder, if it is local.
    pub(crate) folder: Option<PathBuf>,
    /// The names of the files that are being written, which must not be deleted as garbage.
    pub(crate) active: Mutex<HashSet<String>>,
    /// Lock that deletions of buckets hold for writing, and creations of objects hold for reading.
    pub(crate) buckets: tokio::sync::RwLock<()>,
    /// The filters that select the changes to record.
    pub(crate) watches: RwLock<Vec<ChangeFilter>>,
    /// The counter of recorded changes.
    pub(crate) changed: watch::Sender<u64>,
}

impl std::fmt::Debug for Objects {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Objects").field("root", &self.0.root).finish_non_exhaustive()
    }
}

impl Objects {
    /// Opens the buckets of a lake whose objects are in a local folder, which is created if
    /// missing.
    pub fn local(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        folder: &std::path::Path,
    ) -> std::io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let folder = folder.canonicalize()?;
        let files = LocalFileSystem::new_with_prefix(&folder).map_err(std::io::Error::other)?;
        let root = format!("file://{}", folder.display());
        let patience = StoreTimeouts { request: PATIENCE, total: PATIENCE };
        let storage = Storage::new(Arc::new(files), &root, Some(folder.clone()), patience);
        Ok(Self::new(store, clock, Arc::new(storage), root, Some(folder)))
    }

    /// Opens the buckets of a lake whose objects are in the warehouse's cloud bucket.
    pub fn in_warehouse(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        storage: Arc<Storage>,
        warehouse: &str,
    ) -> Self {
        let root = format!("{warehouse}/{OBJECTS_FOLDER}");
        Self::new(store, clock, storage, root, None)
    }

    fn new(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        storage: Arc<Storage>,
        root: String,
        folder: Option<PathBuf>,
    ) -> Self {
        let shared = ObjectsInner {
            store,
            clock,
            storage,
            root,
            folder,
            active: Mutex::default(),
            buckets: tokio::sync::RwLock::default(),
            watches: RwLock::default(),
            changed: watch::Sender::new(0),
        };
        Objects(Arc::new(shared), None)
    }

    /// Returns a handle whose changes are recorded with this origin.
    #[must_use]
    pub fn changed_by(&self, origin: ChangeOrigin) -> Self {
        Objects(self.0.clone(), Some(Arc::new(origin)))
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    /// Returns the URL of a file.
    pub(crate) fn location(&self, blob: &str) -> String {
        format!("{}/{}", self.0.root, relative(blob))
    }

    /// Returns the record of a bucket.
    ///
    /// Error: [`Error::NoBucket`].
    pub(crate) async fn bucket_record(&self, name: &str) -> Result<Bytes> {
        let stored = self.0.store.reference(&bucket_ref(name)).await?;
        stored.ok_or_else(|| Error::NoBucket { name: name.to_owned() })
    }

    /// Applies ref changes. Returns false if a ref does not have the expected value.
    pub(crate) async fn apply(&self, refs: Vec<RefChange>) -> Result<bool> {
        Ok(self.apply_recorded(refs, None).await?.is_none())
    }

    /// Like [`Objects::apply`], with the journal entry of a change in the same batch. Returns the
    /// name of a ref that does not have the expected value; `None` if the batch was applied.
    pub(crate) async fn apply_recorded(
        &self,
        refs: Vec<RefChange>,
        change: Option<JournalAppend>,
    ) -> Result<Option<String>> {
        let is_recorded = change.is_some();
        let batch =
            WriteBatch { refs, entries: change.into_iter().collect(), ..WriteBatch::default() };
        let applied = match self.0.store.apply(batch).await {
            Ok(_) => Ok(None),
            Err(headwater_store::Error::Conflict { name }) => return Ok(Some(name)),
            // The store may have applied the batch despite the error, so notify the readers below.
            Err(error) => Err(error.into()),
        };
        if is_recorded {
            self.notify_change();
        }
        applied
    }

    /// Returns the ref change that lists files as garbage, in one record with the name of the first
    /// file; `None` without files.
    pub(crate) fn discard(&self, blobs: Vec<String>) -> Result<Option<RefChange>> {
        let Some(id) = blobs.first().cloned() else { return Ok(None) };
        let garbage = UnreferencedFiles { since: self.now(), blobs, deleting: false };
        put(garbage_ref(&id), &garbage, RefPrecondition::Anything).map(Some)
    }
}

/// Maximum time for access to one file, including retries.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// Returns the path of a file relative to the folder of contents. Files are distributed over 256
/// subfolders.
pub(crate) fn relative(blob: &str) -> String {
    // The last characters of a name are random.
    format!("{}/{blob}", &blob[blob.len().saturating_sub(2)..])
}
