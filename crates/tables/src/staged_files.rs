//! Data files and delete files that are written but not committed yet.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};

use crate::DataFile;
use crate::deletes::DeleteKey;
use crate::storage::Storage;

/// Uncommitted data files. A commit adds them to a table, or [`crate::Tables::discard`] deletes
/// them.
///
/// Clones share the files, so that a commit can be retried with the same files after a conflict.
#[derive(Clone)]
pub struct StagedFiles {
    pub(crate) files: Arc<[iceberg::spec::DataFile]>,
    pub(crate) deletes: Arc<[StagedDelete]>,
    pub(crate) table: uuid::Uuid,
    /// The table's format version when the files were written.
    pub(crate) version: iceberg::spec::FormatVersion,
    pub(crate) schema: iceberg::spec::SchemaRef,
    pub(crate) spec: iceberg::spec::PartitionSpecRef,
    pub(crate) durable: FileSync,
    pub(crate) memory_bytes_peak: u64,
}

/// A delete file that is written but not committed yet.
#[derive(Debug, Clone)]
pub(crate) struct StagedDelete {
    pub(crate) file: iceberg::spec::DataFile,
    /// The data file to which the deletes apply.
    pub(crate) of: Arc<DataFile>,
    /// The existing delete files that this delete file replaces.
    pub(crate) replaced: Vec<DeleteKey>,
}

/// Data files of up to this number of bytes are synced together with the metadata files of their
/// commit, not earlier. A single sync is faster: the file system writes its journal once.
const SYNC_WITH_COMMIT_BYTES_MAX: u64 = 1024 * 1024;

/// A running or finished sync of files; `None` if it was not started.
#[derive(Clone)]
pub(crate) struct FileSync(Option<Shared<BoxFuture<'static, bool>>>);

impl FileSync {
    /// Starts to sync files in the background if they have more than [`SYNC_WITH_COMMIT_BYTES_MAX`]
    /// bytes. The commit then waits only for the rest of the sync.
    pub(crate) fn begin(storage: Arc<Storage>, locations: Vec<String>, bytes: u64) -> Self {
        if bytes <= SYNC_WITH_COMMIT_BYTES_MAX {
            return FileSync(None);
        }
        let syncing = tokio::spawn(async move {
            storage.sync(locations.iter().map(String::as_str)).await.is_ok()
        });
        FileSync(Some(syncing.map(|done| done.unwrap_or(false)).boxed().shared()))
    }

    /// Combines this sync with other syncs. It ends when all combined syncs have ended.
    fn and(&self, others: Vec<FileSync>) -> Self {
        if self.0.is_none() && others.iter().all(|other| other.0.is_none()) {
            return FileSync(None);
        }
        let first = self.clone();
        let all = async move {
            let mut durable = first.wait().await;
            for other in others {
                durable &= other.wait().await;
            }
            durable
        };
        FileSync(Some(all.boxed().shared()))
    }

    /// Waits for the sync. Returns true if the files are durable.
    pub(crate) async fn wait(&self) -> bool {
        match &self.0 {
            Some(sync) => sync.clone().await,
            None => false,
        }
    }
}

impl std::fmt::Debug for StagedFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StagedFiles").field("files", &self.files()).finish_non_exhaustive()
    }
}

impl StagedFiles {
    /// Combines uncommitted files of the same table, schema and partition spec; `None` if `several`
    /// is empty.
    pub fn all(several: &[StagedFiles]) -> Option<StagedFiles> {
        let (first, rest) = several.split_first()?;
        let files = several.iter().flat_map(|one| one.files.iter().cloned()).collect();
        let deletes = several.iter().flat_map(|one| one.deletes.iter().cloned()).collect();
        let durable = first.durable.and(rest.iter().map(|one| one.durable.clone()).collect());
        let peak = several.iter().map(|one| one.memory_bytes_peak).max();
        let memory_bytes_peak = peak.unwrap_or_default();
        Some(StagedFiles { files, deletes, durable, memory_bytes_peak, ..first.clone() })
    }

    /// Combines these data files with delete files of the same table.
    #[must_use]
    pub fn and(self, deletes: StagedFiles) -> StagedFiles {
        let durable = self.durable.and(vec![deletes.durable]);
        StagedFiles { deletes: deletes.deletes, durable, ..self }
    }

    /// Returns the number of rows in the files.
    pub fn rows(&self) -> u64 {
        self.files.iter().map(iceberg::spec::DataFile::record_count).sum()
    }

    /// Returns the size of the files in bytes.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(iceberg::spec::DataFile::file_size_in_bytes).sum()
    }

    /// Returns the approximate peak memory used by rows and row groups during the write, in bytes.
    pub fn memory_bytes_peak(&self) -> u64 {
        self.memory_bytes_peak
    }

    /// Returns the number of data files.
    pub fn files(&self) -> usize {
        self.files.len()
    }

    /// Returns true if there are neither data files nor delete files.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty() && self.deletes.is_empty()
    }

    /// Returns the locations of all files.
    pub fn locations(&self) -> impl Iterator<Item = &str> {
        let deletes = self.deletes.iter().map(|delete| &delete.file);
        self.files.iter().chain(deletes).map(iceberg::spec::DataFile::file_path)
    }
}
