//! The files reachable from a table's state: the files that are needed to read that state.

use bytes::Bytes;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use iceberg::spec::{ManifestFile, SnapshotRef, TableMetadata};
use object_store::ObjectStoreExt;
use object_store::path::Path;
use parking_lot::Mutex;
use tokio::sync::{OnceCell, Semaphore};

use crate::{Error, Result, Tables, Views};

/// Maximum number of files read concurrently, over all states.
const READS_MAX: usize = 16;

/// Maximum number of concurrent reads: manifest lists for each state, and manifests for each list.
const LISTS_MAX: usize = 4;
const MANIFESTS_MAX: usize = 16;

/// Table properties whose values can be locations outside the table's folder.
const LOCATION_PROPERTIES: [&str; 3] =
    ["write.data.path", "write.metadata.path", "write.object-storage.path"];

/// The set of files that are reachable from the examined table states, by normalized location. Each
/// file is examined only once, even if several states share it.
#[derive(Debug)]
pub struct ReachableFiles {
    /// Metadata files, manifest lists, manifests, data files, delete files, statistics.
    files: Mutex<HashSet<String>>,
    /// The results of examining manifest lists (each includes the manifests in the list), and of
    /// examining manifests, by location.
    lists: ExaminedFiles,
    manifests: ExaminedFiles,
    /// Files that are needed in any case. They do not count for [`StateReport::more`].
    excluded: Option<Arc<ReachableFiles>>,
    reads: Semaphore,
}

type ExaminedFiles = Mutex<HashMap<String, Arc<OnceCell<ExaminedFile>>>>;

/// The result of examining a file.
#[derive(Debug, Clone, Default)]
struct ExaminedFile {
    /// Errors of unreadable files.
    unreadable: Vec<Arc<Error>>,
    /// True if at least one reachable file is not in `excluded`.
    more: bool,
}

impl ExaminedFile {
    /// Records a permanent error as an unreadable file. Fails with a transient error.
    fn unreadable(error: Error) -> Result<Self> {
        if !error.is_unreadable() {
            return Err(error);
        }
        Ok(ExaminedFile { unreadable: vec![Arc::new(error)], more: false })
    }

    fn add(&mut self, other: ExaminedFile) {
        self.unreadable.extend(other.unreadable);
        self.more |= other.more;
    }
}

/// The result of examining a state.
#[derive(Debug, Default)]
pub struct StateReport {
    /// Errors of files that are missing, invalid or outside the warehouse. The files reachable from
    /// these files are unknown.
    pub unreadable: Vec<Arc<Error>>,
    /// Folders, with a trailing slash, of which all files may be needed, because an unreadable file
    /// can refer to them.
    pub folders: Vec<String>,
    /// True if the state needs a file that is not in the `excluded` set.
    pub more: bool,
}

impl Default for ReachableFiles {
    fn default() -> Self {
        ReachableFiles {
            files: Mutex::default(),
            lists: Mutex::default(),
            manifests: Mutex::default(),
            excluded: None,
            reads: Semaphore::new(READS_MAX),
        }
    }
}

impl ReachableFiles {
    /// Creates an empty set. [`StateReport::more`] is set only for files that are not in `needed`.
    pub fn excluding(needed: Arc<ReachableFiles>) -> Self {
        ReachableFiles { excluded: Some(needed), ..ReachableFiles::default() }
    }

    /// Returns true if a file is in the set.
    pub fn contains(&self, location: &str) -> bool {
        self.files.lock().contains(location)
    }

    /// Adds a file. Returns false if the set given to [`ReachableFiles::excluding`] has the file.
    pub fn add_file(&self, location: String) -> bool {
        let more = self.excluded.as_ref().is_none_or(|needed| !needed.contains(&location));
        self.files.lock().insert(location);
        more
    }

    /// Returns the locations of the files.
    pub fn into_files(self) -> HashSet<String> {
        self.files.into_inner()
    }

    async fn read<T>(&self, reading: impl Future<Output = Result<T>>) -> Result<T> {
        let permit = self.reads.acquire().await;
        let _permit = permit.map_err(|error| Error::internal("read", error))?;
        reading.await
    }
}

fn cell(examined: &ExaminedFiles, key: &str) -> Arc<OnceCell<ExaminedFile>> {
    let mut examined = examined.lock();
    if let Some(cell) = examined.get(key) {
        return Arc::clone(cell);
    }
    Arc::clone(examined.entry(key.to_owned()).or_default())
}

/// The snapshots of a state that are examined.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SnapshotSet {
    /// All snapshots of the state.
    All,
    /// All snapshots of the state except those with these ids.
    Without(Vec<i64>),
    /// The current snapshot only.
    Current,
}

impl Views<'_> {
    /// Fails if a view's metadata file is unreadable or scheduled for deletion.
    pub async fn check_readable(self, metadata_location: &str) -> Result<()> {
        self.tables.files().check_present(metadata_location).await?;
        self.load(metadata_location).await.map(drop)
    }
}

/// Access to the files of a warehouse. [`Tables::files`] returns this type.
#[derive(Debug, Clone, Copy)]
pub struct WarehouseFiles<'a> {
    pub(crate) tables: &'a Tables,
}

impl WarehouseFiles<'_> {
    /// Writes a file that belongs to no table into the warehouse, and makes it durable.
    pub async fn write(self, location: &str, content: Bytes) -> Result<()> {
        self.tables.storage().write(location, &content).await
    }

    /// Reads a file written by [`WarehouseFiles::write`].
    pub async fn read(self, location: &str) -> Result<Bytes> {
        self.tables.storage().read(location).await
    }
}

impl WarehouseFiles<'_> {
    /// Adds the readable files to which a table's metadata refers. Fails on a transient error.
    pub async fn reach(
        self,
        metadata_location: &str,
        snapshots: &SnapshotSet,
        reached: &ReachableFiles,
    ) -> Result<StateReport> {
        let table = match reached.read(self.tables.load(metadata_location)).await {
            Ok(table) => table,
            Err(error) => {
                return Ok(self.state_scan(
                    ExaminedFile::unreadable(error)?,
                    metadata_location,
                    None,
                ));
            }
        };
        let metadata = table.metadata();
        // A merge reads earlier metadata files, to find the snapshot that added a row.
        let log = metadata.metadata_log().iter().map(|log| &log.metadata_file);
        let statistics = metadata.statistics_iter().map(|found| &found.statistics_path);
        let partitions = metadata.partition_statistics_iter().map(|found| &found.statistics_path);
        let mut found = ExaminedFile::default();
        for location in log.chain(statistics).chain(partitions) {
            found.more |= reached.add_file(self.location_of(location));
        }
        found.more |= reached.add_file(self.location_of(metadata_location));
        let current = metadata.current_snapshot_id();
        let counts = |snapshot: &&SnapshotRef| match snapshots {
            SnapshotSet::All => true,
            SnapshotSet::Without(ids) => !ids.contains(&snapshot.snapshot_id()),
            SnapshotSet::Current => Some(snapshot.snapshot_id()) == current,
        };
        let snapshots: Vec<SnapshotRef> = metadata.snapshots().filter(counts).cloned().collect();
        let lists = stream::iter(snapshots).map(|snapshot| async move {
            let cell = cell(&reached.lists, snapshot.manifest_list());
            let examine = || self.examine_list(&snapshot, reached);
            cell.get_or_try_init(examine).await.cloned()
        });
        // Only await the results of lists in this loop: other tasks may wait for cells that the
        // polled futures are initializing.
        let mut lists = lists.buffer_unordered(LISTS_MAX);
        while let Some(list) = lists.try_next().await? {
            found.add(list);
        }
        Ok(self.state_scan(found, metadata_location, Some(metadata)))
    }

    async fn examine_list(
        self,
        snapshot: &SnapshotRef,
        reached: &ReachableFiles,
    ) -> Result<ExaminedFile> {
        let manifests = match reached.read(self.tables.metadata_files().manifests(snapshot)).await {
            Ok(manifests) => manifests,
            Err(error) => return ExaminedFile::unreadable(error),
        };
        let mut found = ExaminedFile::default();
        found.more |= reached.add_file(self.location_of(snapshot.manifest_list()));
        let examined = stream::iter(manifests.iter().cloned()).map(|manifest| async move {
            let cell = cell(&reached.manifests, &self.location_of(&manifest.manifest_path));
            let examine = || self.examine_manifest(&manifest, reached);
            cell.get_or_try_init(examine).await.cloned()
        });
        let mut examined = examined.buffer_unordered(MANIFESTS_MAX);
        while let Some(manifest) = examined.try_next().await? {
            found.add(manifest);
        }
        Ok(found)
    }

    async fn examine_manifest(
        self,
        manifest: &ManifestFile,
        reached: &ReachableFiles,
    ) -> Result<ExaminedFile> {
        let decoded = match reached.read(self.tables.metadata_files().manifest(manifest)).await {
            Ok(decoded) => decoded,
            Err(error) => return ExaminedFile::unreadable(error),
        };
        let mut found = ExaminedFile::default();
        found.more |= reached.add_file(self.location_of(&manifest.manifest_path));
        for entry in &decoded.live {
            found.more |= reached.add_file(self.location_of(entry.data_file().file_path()));
        }
        Ok(found)
    }

    /// Builds the result for a state, with the folders in which unknown files may be needed.
    fn state_scan(
        self,
        found: ExaminedFile,
        metadata_location: &str,
        metadata: Option<&TableMetadata>,
    ) -> StateReport {
        let ExaminedFile { unreadable, more } = found;
        let mut folders = HashSet::new();
        if !unreadable.is_empty() {
            let files = unreadable.iter().filter_map(|error| error.location());
            let files = files.chain([metadata_location]).map(|file| self.location_of(file));
            folders.extend(files.filter_map(|file| table_folder(&file)));
        }
        if let Some(metadata) = metadata.filter(|_| !unreadable.is_empty()) {
            let paths =
                LOCATION_PROPERTIES.iter().filter_map(|key| metadata.properties().get(*key));
            let paths = paths.map(String::as_str).chain([metadata.location()]);
            folders.extend(paths.map(|path| format!("{}/", self.location_of(path))));
        }
        StateReport { unreadable, folders: folders.into_iter().collect(), more }
    }

    /// Returns a location in the form that [`WarehouseFiles::list`] returns.
    pub fn location_of(self, location: &str) -> String {
        match self.tables.path_of(location) {
            Ok(path) => format!("{}/{path}", self.tables.root_url()),
            // A file outside the warehouse is never listed.
            Err(_) => location.to_owned(),
        }
    }

    /// Sets the locations of the files that are scheduled for deletion. The set may be empty.
    pub fn set_deleting(self, locations: HashSet<String>) {
        *self.tables.deleting_files().lock() = locations;
    }

    /// Fails if a state is unreadable or scheduled for deletion. Metadata and manifest list are
    /// deleted before the data files, so a check of these two is sufficient.
    pub async fn check_readable(self, metadata_location: &str) -> Result<()> {
        // A metadata file in the cache may have been deleted from storage, so its existence must be
        // checked. Loading a file that is not in the cache checks this already.
        if self.tables.caches().tables.contains_key(metadata_location) {
            self.check_present(metadata_location).await?;
        }
        self.check_not_deleting(metadata_location)?;
        let table = self.tables.load(metadata_location).await?;
        match table.metadata().current_snapshot() {
            Some(snapshot) => self.check_present(snapshot.manifest_list()).await,
            None => Ok(()),
        }
    }

    async fn check_present(self, location: &str) -> Result<()> {
        self.check_not_deleting(location)?;
        let found = self.tables.object_store().head(&self.tables.path_of(location)?).await;
        found.map(drop).map_err(|error| Error::storage(location, error))
    }

    /// Fails for a file that is scheduled for deletion, with the error for a missing file.
    pub fn check_not_deleting(self, location: &str) -> Result<()> {
        let removing = self.tables.deleting_files().lock();
        if !removing.is_empty() && removing.contains(&self.location_of(location)) {
            return Err(Error::Missing { location: location.to_owned() });
        }
        Ok(())
    }

    /// Lists the files in a folder of the warehouse, or in the whole warehouse.
    pub async fn list(self, folder: Option<&str>) -> Result<Vec<WarehouseFile>> {
        let prefix = folder.map(|folder| self.tables.path_of(folder)).transpose()?;
        let failed = |error| Error::storage(folder.unwrap_or(self.tables.root_url()), error);
        let listed = self.tables.object_store().list(prefix.as_ref());
        let local = self.tables.options().local_root.clone();
        let found = listed.map_ok(move |found| WarehouseFile {
            location: format!("{}/{}", self.tables.root_url(), found.location),
            bytes: found.size,
            modified: changed(local.as_deref(), &found.location).max(found.last_modified),
            path: found.location,
        });
        found.try_collect().await.map_err(failed)
    }

    /// Deletes files of a table. A file that does not exist is not an error.
    pub async fn delete(self, locations: &[String]) -> Result<()> {
        self.tables.storage().delete(locations).await
    }

    /// Removes deleted files from the caches.
    pub fn forget(self, locations: &[String]) {
        for location in locations {
            self.tables.caches().tables.invalidate(location);
            self.tables.caches().views.invalidate(location);
            self.tables.caches().lists.invalidate(location);
            self.tables.caches().files.invalidate(location);
            self.tables.metadata_files().evict_manifest(location);
        }
    }
}

/// Returns the folder, with a trailing slash, of the table to which a metadata file, manifest list
/// or manifest belongs.
fn table_folder(file: &str) -> Option<String> {
    let (folder, _) = file.rsplit_once('/')?;
    Some(format!("{}/", folder.strip_suffix("/metadata").unwrap_or(folder)))
}

/// Returns the time when a local file was created in its folder or moved there (its ctime). This
/// time can be later than the modification time, for example after a restore. Returns the epoch if
/// the time is unknown.
fn changed(root: Option<&std::path::Path>, path: &Path) -> headwater_model::Timestamp {
    use std::os::unix::fs::MetadataExt;
    let found = root.and_then(|root| std::fs::metadata(root.join(path.as_ref())).ok());
    let time = found.map(|found| std::time::Duration::from_secs(found.ctime().max(0) as u64));
    time.map_or(headwater_model::Timestamp::UNIX_EPOCH, |time| {
        (std::time::UNIX_EPOCH + time).into()
    })
}

/// A file of the warehouse.
#[derive(Debug, Clone)]
pub struct WarehouseFile {
    /// Location of the file, a URL.
    pub location: String,
    /// The path in the object store.
    pub path: Path,
    /// Size of the file in bytes.
    pub bytes: u64,
    /// The time when the file was written or moved to its folder.
    pub modified: headwater_model::Timestamp,
}
