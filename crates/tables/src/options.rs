//! Options for the tables of a warehouse.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use headwater_model::{Clock, SystemClock};

use crate::CloudSettings;

/// Options of [`crate::Tables`].
#[derive(Clone)]
pub struct TablesOptions {
    /// The URL of the object store's root, in the form used by Iceberg's files, without a trailing
    /// slash: `file:///home/me/lake/.headwater/warehouse`.
    pub root_url: String,
    /// The root folder of a local object store. If set, written files are fsynced, because the
    /// object store itself does not fsync.
    pub local_root: Option<PathBuf>,
    /// Settings of cloud object stores.
    pub cloud: CloudSettings,
    /// Maximum size of cached metadata and manifests, in bytes.
    pub manifest_cache_bytes: u64,
    /// Target size of a data file, in bytes. A file that reaches this size is closed, and the next
    /// file is started.
    pub target_file_bytes: u64,
    /// Maximum number of rows in a row group.
    pub row_group_rows: usize,
    /// Maximum bytes of encoded rows in a row group.
    pub row_group_bytes: usize,
    /// Maximum size of encoded rows buffered for all open files, in bytes. If it is exceeded, the
    /// largest row group is flushed early.
    pub write_buffer_bytes: usize,
    /// Maximum number of snapshots in a metadata file. Older ones remain reachable through the
    /// metadata files of earlier catalog commits.
    pub snapshots_listed_max: usize,
    /// Maximum number of rows compared row by row in a merge, over files that both sides changed.
    pub merge_rows_max: u64,
    /// The clock for snapshot timestamps.
    pub clock: Arc<dyn Clock>,
}

impl TablesOptions {
    /// Creates options for a remote object store with this root URL.
    pub fn new(root_url: impl Into<String>) -> Self {
        let root_url: String = root_url.into();
        TablesOptions {
            root_url: root_url.trim_end_matches('/').to_owned(),
            local_root: None,
            cloud: CloudSettings::default(),
            manifest_cache_bytes: 256 << 20,
            target_file_bytes: 128 << 20,
            row_group_rows: 1 << 20,
            row_group_bytes: 128 << 20,
            write_buffer_bytes: 256 << 20,
            snapshots_listed_max: 100,
            merge_rows_max: 5_000_000,
            clock: Arc::new(SystemClock),
        }
    }

    /// Creates options for a local folder, given by its absolute path.
    pub fn local(root: &Path) -> Self {
        let mut options = Self::new(format!("file://{}", root.display()));
        options.local_root = Some(root.to_owned());
        options
    }
}

impl std::fmt::Debug for TablesOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TablesOptions")
            .field("root_url", &self.root_url)
            .field("local_root", &self.local_root)
            .finish_non_exhaustive()
    }
}
