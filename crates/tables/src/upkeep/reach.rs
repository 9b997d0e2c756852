//! Which files a state of a table leads to: what must be there so that it can be read.

use std::collections::HashSet;

use futures::{StreamExt, TryStreamExt, stream};
use iceberg::spec::{ManifestFile, SnapshotRef};
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
    lists: HashSet<String>,
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
        reached.lists.insert(list.to_owned());
        reached.files.insert(self.place_of(list));
        let new: Vec<ManifestFile> = manifests
            .iter()
            .filter(|manifest| reached.files.insert(self.place_of(&manifest.manifest_path)))
            .cloned()
            .collect();
        let read = stream::iter(new).map(|manifest| async move {
            match self.manifest(&manifest).await {
                Err(error) if !must && error.is_not_found() => Ok(None),
                other => other.map(Some),
            }
        });
        let mut read = read.buffer_unordered(AT_ONCE);
        while let Some(decoded) = read.try_next().await? {
            for entry in decoded.iter().flat_map(|decoded| &decoded.live) {
                reached.files.insert(self.place_of(entry.data_file().file_path()));
            }
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
        let found = listed.map_ok(|found| FoundFile {
            location: format!("{}/{}", self.root_url(), found.location),
            bytes: found.size,
            modified: found.last_modified,
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
            self.caches().lists.invalidate(location);
            self.caches().files.invalidate(location);
            self.caches().manifests.invalidate(location);
        }
    }
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
    /// When it was written.
    pub modified: headwater_model::Timestamp,
}
