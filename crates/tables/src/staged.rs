//! Rows that are written and belong to no table yet.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};

use crate::DataFile;
use crate::deletes::DeleteKey;
use crate::storage::Storage;

/// Data files that a commit can put into a table, or that [`crate::Tables::discard`] removes.
///
/// Cheap to clone, so that an attempt that lost a race can be made again with the same files.
#[derive(Clone)]
pub struct Staged {
    pub(crate) files: Arc<[iceberg::spec::DataFile]>,
    pub(crate) deletes: Arc<[StagedDelete]>,
    pub(crate) table: uuid::Uuid,
    /// The version of the format that the table was of.
    pub(crate) version: iceberg::spec::FormatVersion,
    pub(crate) schema: iceberg::spec::SchemaRef,
    pub(crate) spec: iceberg::spec::PartitionSpecRef,
    pub(crate) durable: Durable,
    pub(crate) memory_bytes_peak: u64,
}

/// A delete file that a commit can put into a table.
#[derive(Debug, Clone)]
pub(crate) struct StagedDelete {
    pub(crate) file: iceberg::spec::DataFile,
    /// The data file that it takes rows of away.
    pub(crate) of: Arc<DataFile>,
    /// The delete files that it replaces.
    pub(crate) replaced: Vec<DeleteKey>,
}

/// Bytes of data files up to which they are made durable together with the files of their commit:
/// a file system then writes its journal once for all of them.
const TOGETHER_BYTES_MAX: u64 = 1024 * 1024;

/// Whether files became durable, which may still be under way; none where it was not begun.
#[derive(Clone)]
pub(crate) struct Durable(Option<Shared<BoxFuture<'static, bool>>>);

impl Durable {
    /// Begins to make many bytes durable, so that it is done or nearly so when they are committed.
    pub(crate) fn begin(storage: Arc<Storage>, locations: Vec<String>, bytes: u64) -> Self {
        if bytes <= TOGETHER_BYTES_MAX {
            return Durable(None);
        }
        let syncing = tokio::spawn(async move {
            storage.sync(locations.iter().map(String::as_str)).await.is_ok()
        });
        Durable(Some(syncing.map(|done| done.unwrap_or(false)).boxed().shared()))
    }

    /// Whether these files and others became durable.
    fn and(&self, others: Vec<Durable>) -> Self {
        if self.0.is_none() && others.iter().all(|other| other.0.is_none()) {
            return Durable(None);
        }
        let first = self.clone();
        let all = async move {
            let mut durable = first.wait().await;
            for other in others {
                durable &= other.wait().await;
            }
            durable
        };
        Durable(Some(all.boxed().shared()))
    }

    /// Waits until the files are durable, or are known not to be.
    pub(crate) async fn wait(&self) -> bool {
        match &self.0 {
            Some(under_way) => under_way.clone().await,
            None => false,
        }
    }
}

impl std::fmt::Debug for Staged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Staged").field("files", &self.files()).finish_non_exhaustive()
    }
}

impl Staged {
    /// Several of one table, schema and spec as one; none where there are none.
    pub fn all(several: &[Staged]) -> Option<Staged> {
        let (first, rest) = several.split_first()?;
        let files = several.iter().flat_map(|one| one.files.iter().cloned()).collect();
        let deletes = several.iter().flat_map(|one| one.deletes.iter().cloned()).collect();
        let durable = first.durable.and(rest.iter().map(|one| one.durable.clone()).collect());
        let peak = several.iter().map(|one| one.memory_bytes_peak).max();
        let memory_bytes_peak = peak.unwrap_or_default();
        Some(Staged { files, deletes, durable, memory_bytes_peak, ..first.clone() })
    }

    /// These data files together with delete files that were written for the same table.
    #[must_use]
    pub fn and(self, deletes: Staged) -> Staged {
        let durable = self.durable.and(vec![deletes.durable]);
        Staged { deletes: deletes.deletes, durable, ..self }
    }

    /// Rows in the files.
    pub fn rows(&self) -> u64 {
        self.files.iter().map(iceberg::spec::DataFile::record_count).sum()
    }

    /// Bytes of the files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(iceberg::spec::DataFile::file_size_in_bytes).sum()
    }

    /// The most bytes that rows and row groups took while they were written, about.
    pub fn memory_bytes_peak(&self) -> u64 {
        self.memory_bytes_peak
    }

    /// How many files there are.
    pub fn files(&self) -> usize {
        self.files.len()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty() && self.deletes.is_empty()
    }

    /// Where the files lie.
    pub fn locations(&self) -> impl Iterator<Item = &str> {
        let deletes = self.deletes.iter().map(|delete| &delete.file);
        self.files.iter().chain(deletes).map(iceberg::spec::DataFile::file_path)
    }
}
