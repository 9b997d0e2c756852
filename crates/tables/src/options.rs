//! How the tables of one warehouse are kept.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use headwater_model::{Clock, SystemClock};

use crate::CloudSettings;

/// Options of [`crate::Tables`].
#[derive(Clone)]
pub struct TablesOptions {
    /// The URL that the object store's root has in Iceberg's files, without a slash at the end:
    /// `file:///home/me/lake/.headwater/warehouse`.
    pub root_url: String,
    /// The folder that is the object store's root, where it is a local one: what is written is then
    /// fsynced, which the object store itself does not do.
    pub local_root: Option<PathBuf>,
    /// How the clouds' object stores are reached.
    pub cloud: CloudSettings,
    /// Bytes of decoded metadata and manifests to keep.
    pub manifest_cache_bytes: u64,
    /// The size at which a data file is closed and the next begun, in bytes.
    pub target_file_bytes: u64,
    /// Rows in a row group, at most.
    pub row_group_rows: usize,
    /// Bytes of encoded rows in a row group, at most.
    pub row_group_bytes: usize,
    /// Bytes of encoded rows held for files not yet closed, at most; the largest row group is
    /// closed early beyond that.
    pub write_buffer_bytes: usize,
    /// Snapshots that a metadata file lists, at most; older ones stay reachable through the older
    /// metadata files that the catalog's commits name.
    pub snapshots_listed_max: usize,
    /// Rows of files that both sides of a merge changed, up to which they are compared row by row.
    pub merge_rows_max: u64,
    /// Where snapshot times come from.
    pub clock: Arc<dyn Clock>,
}

impl TablesOptions {
    /// Options for an object store whose root has this URL, and is no local folder.
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

    /// Options for a local folder, given by its absolute path.
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
