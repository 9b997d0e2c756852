//! Which files a state of a table leads to: what must be there so that it can be read.

use std::collections::HashSet;

use futures::{StreamExt, TryStreamExt, stream};
use iceberg::spec::{ManifestFile, SnapshotRef};
use object_store::ObjectStoreExt;
use object_store::path::Path;

use crate::{Error, Result, Table, Tables};

/// How many files are looked at at once.
const AT_ONCE: usize = 16;

/// The files that some states lead to, by where they lie: one place may be written in several ways. What
/// was looked at once is not looked at again.
#[derive(Debug, Default)]
pub struct Reached {
    /// Metadata files, manifest lists, manifests, data files, delete files, statistics.
    files: HashSet<String>,
    /// Manifest lists and manifests that were read, with all that they lead to.
    lists: HashSet<String>,
    manifests: HashSet<String>,
}

impl Reached {
    /// Whether a file is among them.
    pub fn contains(&self, location: &str) -> bool {
        self.files.contains(location)
    }

    /// Adds a file.
    pub fn add_file(&mut self, location: String) {
        self.files.insert(location);
    }

    /// Adds what others lead to.
    pub fn add(&mut self, other: Reached) {
        self.files.extend(other.files);
        self.lists.extend(other.lists);
        self.manifests.extend(other.manifests);
    }

    /// Where they lie.
    pub fn locations(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(String::as_str)
    }
}

/// How much of a state counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Extent {
    /// Every snapshot that it lists.
    Whole,
    /// Every snapshot that it lists but these.
    Without(Vec<i64>),
    /// The current snapshot.
    Current,
}

impl Tables {
    /// Adds what a state leads to. A state whose metadata or manifest list is gone leads to nothing;
    /// it is an error where `must` says that the state has to be whole.
    pub async fn reach(
        &self,
        metadata_location: &str,
        extent: Extent,
        must: bool,
        reached: &mut Reached,
    ) -> Result<()> {
        let table = match self.load(metadata_location).await {
            Ok(table) => table,
            Err(error) if !must && error.is_not_found() => return Ok(()),
            Err(error) => return Err(error),
        };
        reached.files.insert(self.place_of(metadata_location));
        let metadata = table.metadata();
        // What a merge looks up to know where rows came from.
        let log = metadata.metadata_log().iter().map(|log| self.place_of(&log.metadata_file));
        reached.files.extend(log);
        let statistics = metadata.statistics_iter();
        reached.files.extend(statistics.map(|found| self.place_of(&found.statistics_path)));
        let partitions = metadata.partition_statistics_iter();
        reached.files.extend(partitions.map(|found| self.place_of(&found.statistics_path)));
        let current = metadata.current_snapshot_id();
        for snapshot in metadata.snapshots() {
            let id = snapshot.snapshot_id();
            let counts = match &extent {
                Extent::Whole => true,
                Extent::Without(ids) => !ids.contains(&id),
                Extent::Current => Some(id) == current,
            };
            if counts {
                self.reach_snapshot(&table, snapshot, must, reached).await?;
            }
        }
        Ok(())
    }

    async fn reach_snapshot(
        &self,
        table: &Table,
        snapshot: &SnapshotRef,
        must: bool,
        reached: &mut Reached,
    ) -> Result<()> {
        let list = snapshot.manifest_list();
        if reached.lists.contains(list) {
            return Ok(());
        }
        let manifests = match self.manifests(table.metadata(), snapshot).await {
            Ok(manifests) => manifests,
            Err(error) if !must && error.is_not_found() => return Ok(()),
            Err(error) => return Err(error),
        };
        reached.files.insert(self.place_of(list));
        let known = |manifest: &&ManifestFile| {
            !reached.manifests.contains(&self.place_of(&manifest.manifest_path))
        };
        let new: Vec<ManifestFile> = manifests.iter().filter(known).cloned().collect();
        let read = stream::iter(new).map(|manifest| async move {
            match self.manifest(&manifest).await {
                Err(error) if !must && error.is_not_found() => Ok(None),
                other => other.map(|decoded| Some((manifest, decoded))),
            }
        });
        let mut read = read.buffer_unordered(AT_ONCE);
        let mut whole = true;
        while let Some(found) = read.try_next().await? {
            let Some((manifest, decoded)) = found else {
                whole = false;
                continue;
            };
            for entry in &decoded.live {
                reached.files.insert(self.place_of(entry.data_file().file_path()));
            }
            // Only what was read: a state that needs it and cannot have it must notice.
            let place = self.place_of(&manifest.manifest_path);
            reached.files.insert(place.clone());
            reached.manifests.insert(place);
        }
        if whole {
            reached.lists.insert(list.to_owned());
        }
        Ok(())
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
        self.check_present(metadata_location).await?;
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
