//! Which files a state of a table leads to: what must be there so that it can be read.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use iceberg::spec::{ManifestFile, SnapshotRef, TableMetadata};
use object_store::ObjectStoreExt;
use object_store::path::Path;
use parking_lot::Mutex;
use tokio::sync::{OnceCell, Semaphore};

use crate::{Error, Result, Tables};

/// How many files are read at once, however many states are looked into.
const READ_AT_ONCE: usize = 16;

/// How many manifest lists of a state, and manifests of a list, wait for their turn at once.
const LISTS_AT_ONCE: usize = 4;
const MANIFESTS_AT_ONCE: usize = 16;

/// The properties by which a table says where its files go, if not into its own folder.
const ELSEWHERE: [&str; 3] =
    ["write.data.path", "write.metadata.path", "write.object-storage.path"];

/// The files that some states lead to, by where they lie: one place may be written in several ways. What
/// was looked into once is not looked into again, even where several states are looked into at once.
#[derive(Debug)]
pub struct Reached {
    /// Metadata files, manifest lists, manifests, data files, delete files, statistics.
    files: Mutex<HashSet<String>>,
    /// What came of manifest lists, with all that they lead to, and of manifests.
    lists: Looked,
    manifests: Looked,
    /// Files that are known to be needed anyway.
    beside: Option<Arc<Reached>>,
    reads: Semaphore,
}

type Looked = Mutex<HashMap<String, Arc<OnceCell<Found>>>>;

/// What came of looking into a file.
#[derive(Debug, Clone, Default)]
struct Found {
    /// What could not be read.
    unreadable: Vec<Arc<Error>>,
    /// Whether it leads to a file that is not needed anyway.
    more: bool,
}

impl Found {
    /// What could not be read, and never will be; any other error is one.
    fn unreadable(error: Error) -> Result<Self> {
        if !error.is_unreadable() {
            return Err(error);
        }
        Ok(Found { unreadable: vec![Arc::new(error)], more: false })
    }

    fn add(&mut self, other: Found) {
        self.unreadable.extend(other.unreadable);
        self.more |= other.more;
    }
}

/// What came of looking into a state.
#[derive(Debug, Default)]
pub struct Lead {
    /// What could not be read: files that are gone, or broken, or lie elsewhere. Nothing is known of what
    /// they lead to.
    pub unreadable: Vec<Arc<Error>>,
    /// The folders that what they lead to may lie in, with a slash at the end.
    pub folders: Vec<String>,
    /// Whether the state leads to a file that is not needed anyway.
    pub more: bool,
}

impl Default for Reached {
    fn default() -> Self {
        Reached {
            files: Mutex::default(),
            lists: Mutex::default(),
            manifests: Mutex::default(),
            beside: None,
            reads: Semaphore::new(READ_AT_ONCE),
        }
    }
}

impl Reached {
    /// None yet, beside files that are needed anyway.
    pub fn beside(needed: Arc<Reached>) -> Self {
        Reached { beside: Some(needed), ..Reached::default() }
    }

    /// Whether a file is among them.
    pub fn contains(&self, location: &str) -> bool {
        self.files.lock().contains(location)
    }

    /// Adds a file, and says whether it is not needed anyway.
    pub fn add_file(&self, location: String) -> bool {
        let more = self.beside.as_ref().is_none_or(|needed| !needed.contains(&location));
        self.files.lock().insert(location);
        more
    }

    /// Where they lie.
    pub fn into_files(self) -> HashSet<String> {
        self.files.into_inner()
    }

    async fn read<T>(&self, reading: impl Future<Output = Result<T>>) -> Result<T> {
        let permit = self.reads.acquire().await;
        let _permit = permit.map_err(|error| Error::internal("looked into", error))?;
        reading.await
    }
}

fn cell(looked: &Looked, key: &str) -> Arc<OnceCell<Found>> {
    let mut looked = looked.lock();
    if let Some(cell) = looked.get(key) {
        return Arc::clone(cell);
    }
    Arc::clone(looked.entry(key.to_owned()).or_default())
}

/// How much of a state counts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Extent {
    /// Every snapshot that it lists.
    Whole,
    /// Every snapshot that it lists but these.
    Without(Vec<i64>),
    /// The current snapshot.
    Current,
}

impl Tables {
    /// Adds what a state leads to, as far as it can be read. Fails where that is not to be known just now.
    pub async fn reach(
        &self,
        metadata_location: &str,
        extent: &Extent,
        reached: &Reached,
    ) -> Result<Lead> {
        let table = match reached.read(self.load(metadata_location)).await {
            Ok(table) => table,
            Err(error) => {
                return Ok(self.lead(Found::unreadable(error)?, metadata_location, None));
            }
        };
        let metadata = table.metadata();
        // What a merge looks up to know where rows came from.
        let log = metadata.metadata_log().iter().map(|log| &log.metadata_file);
        let statistics = metadata.statistics_iter().map(|found| &found.statistics_path);
        let partitions = metadata.partition_statistics_iter().map(|found| &found.statistics_path);
        let mut found = Found::default();
        for location in log.chain(statistics).chain(partitions) {
            found.more |= reached.add_file(self.place_of(location));
        }
        found.more |= reached.add_file(self.place_of(metadata_location));
        let current = metadata.current_snapshot_id();
        let counts = |snapshot: &&SnapshotRef| match extent {
            Extent::Whole => true,
            Extent::Without(ids) => !ids.contains(&snapshot.snapshot_id()),
            Extent::Current => Some(snapshot.snapshot_id()) == current,
        };
        let snapshots: Vec<SnapshotRef> = metadata.snapshots().filter(counts).cloned().collect();
        let lists = stream::iter(snapshots).map(|snapshot| async move {
            let cell = cell(&reached.lists, snapshot.manifest_list());
            let looking = || self.look_into_list(&snapshot, reached);
            cell.get_or_try_init(looking).await.cloned()
        });
        // Nothing is waited for in between: others may wait for what is under way here.
        let mut lists = lists.buffer_unordered(LISTS_AT_ONCE);
        while let Some(list) = lists.try_next().await? {
            found.add(list);
        }
        Ok(self.lead(found, metadata_location, Some(metadata)))
    }

    async fn look_into_list(&self, snapshot: &SnapshotRef, reached: &Reached) -> Result<Found> {
        let manifests = match reached.read(self.manifests(snapshot)).await {
            Ok(manifests) => manifests,
            Err(error) => return Found::unreadable(error),
        };
        let mut found = Found::default();
        found.more |= reached.add_file(self.place_of(snapshot.manifest_list()));
        let looked = stream::iter(manifests.iter().cloned()).map(|manifest| async move {
            let cell = cell(&reached.manifests, &self.place_of(&manifest.manifest_path));
            let looking = || self.look_into_manifest(&manifest, reached);
            cell.get_or_try_init(looking).await.cloned()
        });
        let mut looked = looked.buffer_unordered(MANIFESTS_AT_ONCE);
        while let Some(manifest) = looked.try_next().await? {
            found.add(manifest);
        }
        Ok(found)
    }

    async fn look_into_manifest(
        &self,
        manifest: &ManifestFile,
        reached: &Reached,
    ) -> Result<Found> {
        let decoded = match reached.read(self.manifest(manifest)).await {
            Ok(decoded) => decoded,
            Err(error) => return Found::unreadable(error),
        };
        let mut found = Found::default();
        found.more |= reached.add_file(self.place_of(&manifest.manifest_path));
        for entry in &decoded.live {
            found.more |= reached.add_file(self.place_of(entry.data_file().file_path()));
        }
        Ok(found)
    }

    /// What came of a state, with where that may lie which nobody can tell.
    fn lead(
        &self,
        found: Found,
        metadata_location: &str,
        metadata: Option<&TableMetadata>,
    ) -> Lead {
        let Found { unreadable, more } = found;
        let mut folders = HashSet::new();
        if !unreadable.is_empty() {
            let files = unreadable.iter().filter_map(|error| error.location());
            let files = files.chain([metadata_location]).map(|file| self.place_of(file));
            folders.extend(files.filter_map(|file| table_folder(&file)));
        }
        if let Some(metadata) = metadata.filter(|_| !unreadable.is_empty()) {
            let paths = ELSEWHERE.iter().filter_map(|key| metadata.properties().get(*key));
            let paths = paths.map(String::as_str).chain([metadata.location()]);
            folders.extend(paths.map(|path| format!("{}/", self.place_of(path))));
        }
        Lead { unreadable, folders: folders.into_iter().collect(), more }
    }

    /// A location as it is written when files are listed.
    pub fn place_of(&self, location: &str) -> String {
        match self.path_of(location) {
            Ok(path) => format!("{}/{path}", self.root_url()),
            // It lies elsewhere, and is not listed.
            Err(_) => location.to_owned(),
        }
    }

    /// Says which files are about to be removed, by place; none are, once there are none.
    pub fn set_removing(&self, places: HashSet<String>) {
        *self.removing().lock() = places;
    }

    /// Fails where a state cannot be read any more, or is about to be removed: what leads to its data goes
    /// before that does.
    pub async fn check_readable(&self, metadata_location: &str) -> Result<()> {
        // What is read just now is there.
        if self.caches().tables.contains_key(metadata_location) {
            self.check_present(metadata_location).await?;
        }
        self.check_kept(metadata_location)?;
        let table = self.load(metadata_location).await?;
        match table.metadata().current_snapshot() {
            Some(snapshot) => self.check_present(snapshot.manifest_list()).await,
            None => Ok(()),
        }
    }

    /// The same of a view.
    pub async fn check_view_readable(&self, metadata_location: &str) -> Result<()> {
        self.check_present(metadata_location).await?;
        self.load_view(metadata_location).await.map(drop)
    }

    async fn check_present(&self, location: &str) -> Result<()> {
        self.check_kept(location)?;
        let found = self.object_store().head(&self.path_of(location)?).await;
        found.map(drop).map_err(|error| Error::storage(location, error))
    }

    /// Refuses a file that is about to be removed, as one that is gone.
    pub(crate) fn check_kept(&self, location: &str) -> Result<()> {
        let removing = self.removing().lock();
        if !removing.is_empty() && removing.contains(&self.place_of(location)) {
            return Err(Error::Missing { location: location.to_owned() });
        }
        Ok(())
    }

    /// The files that lie under a folder of the warehouse, or in all of it: where, how many bytes, and
    /// since when.
    pub async fn files_under(&self, folder: Option<&str>) -> Result<Vec<FoundFile>> {
        let prefix = folder.map(|folder| self.path_of(folder)).transpose()?;
        let failed = |error| Error::storage(folder.unwrap_or(self.root_url()), error);
        let listed = self.object_store().list(prefix.as_ref());
        let local = self.options().local_root.clone();
        let found = listed.map_ok(move |found| FoundFile {
            location: format!("{}/{}", self.root_url(), found.location),
            bytes: found.size,
            modified: changed(local.as_deref(), &found.location).max(found.last_modified),
            path: found.location,
        });
        found.try_collect().await.map_err(failed)
    }

    /// Removes files of a table; those that are gone already are no error.
    pub async fn remove_files(&self, locations: &[String]) -> Result<()> {
        self.storage().delete(locations).await
    }

    /// Forgets what was read of files that are gone.
    pub fn forget(&self, locations: &[String]) {
        for location in locations {
            self.caches().tables.invalidate(location);
            self.caches().views.invalidate(location);
            self.caches().lists.invalidate(location);
            self.caches().files.invalidate(location);
            self.forget_manifest(location);
        }
    }
}

/// The folder of the table that a metadata file, a list or a manifest belongs to, with a slash at the end.
fn table_folder(file: &str) -> Option<String> {
    let (folder, _) = file.rsplit_once('/')?;
    Some(format!("{}/", folder.strip_suffix("/metadata").unwrap_or(folder)))
}

/// When a file of a local folder came to lie there, which may be later than it was written: as where it
/// was put back from a copy. The beginning of time where nobody can say.
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
pub struct FoundFile {
    /// Its URL.
    pub location: String,
    /// Where it lies in the object store.
    pub path: Path,
    /// Its size.
    pub bytes: u64,
    /// When it was written, or put there.
    pub modified: headwater_model::Timestamp,
}
