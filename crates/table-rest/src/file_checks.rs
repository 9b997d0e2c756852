//! Checks the locations and formats of files to which requests refer.

use bytes::Bytes;
use futures::{StreamExt, stream};
use headwater_model::ToProblem;
use headwater_table_format::storage::normalised_location;
use iceberg::spec::{DataContentType, DataFile, DataFileFormat};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStoreExt};
use serde::Deserialize;
use tokio::sync::MutexGuard;
use uuid::Uuid;

use crate::{Error, RestTables, Result};

/// Suffix of metadata files.
const METADATA_SUFFIX: &str = ".metadata.json";

/// Maximum size of a metadata file to register, in bytes.
pub(super) const METADATA_BYTES_MAX: u64 = 256 << 20;

/// Number of metadata files that are read concurrently.
const METADATA_CONCURRENCY: usize = 4;

/// The part of a metadata file that identifies the table.
#[derive(Debug, Deserialize)]
struct TableUuid {
    #[serde(rename = "table-uuid")]
    uuid: Uuid,
}

impl<'a> RestTables<'a> {
    /// Reads the metadata file to which a request refers.
    pub(crate) async fn read_client_metadata(
        self,
        location: &str,
        bytes_max: u64,
    ) -> Result<Bytes> {
        let path = self.check_location(location)?;
        if !location.ends_with(METADATA_SUFFIX) {
            let reason = format!("`{location}` does not end in `{METADATA_SUFFIX}`");
            return Err(Error::Refused { reason });
        }
        let found = self.tables.object_store().head(&path).await;
        let found = found.map_err(|error| reject(Error::storage(location, error)))?;
        if found.size > bytes_max {
            let reason = format!("`{location}` is larger than {bytes_max} bytes");
            return Err(Error::Refused { reason });
        }
        self.tables.files().check_not_deleting(location).map_err(reject)?;
        self.tables.storage().read(location).await.map_err(reject)
    }

    /// Returns the path of a location in a request. Fails if the location is outside the warehouse.
    pub(crate) fn check_location(self, location: &str) -> Result<Path> {
        let path = self.tables.path_of(location).map_err(reject)?;
        // Files are compared by their locations, so a location must be in normal form.
        if format!("{}/{path}", self.tables.root_url()) == normalised_location(location) {
            return Ok(path);
        }
        let reason = format!("`{location}` must be written as `{}/{path}`", self.tables.root_url());
        Err(Error::Refused { reason })
    }

    /// Acquires the lock on locations if the client sets the location of a table; no lock is needed
    /// for a location that Headwater chooses, because it is unique. The caller holds the lock until
    /// the table is stored.
    pub(crate) async fn lock_location(self, is_given: bool) -> Option<MutexGuard<'a, ()>> {
        if is_given { Some(self.tables.metadata_files().lock_locations().await) } else { None }
    }

    /// Checks and returns the location that a client sets for a new table. It must be in the
    /// warehouse, must not contain a table, and must not be inside a table.
    pub(crate) async fn unused_location(self, location: &str) -> Result<String> {
        let location = location.trim_end_matches('/');
        let path = self.check_location(location)?;
        if self.is_in_a_table(&path).await? || self.has_metadata(&path).await? {
            return Err(location_in_use(location));
        }
        Ok(location.to_owned())
    }

    /// Checks the new location of an existing table. The location may contain files from an
    /// earlier, failed attempt to move the same table there. `own` is the UUID of the moved table.
    pub(crate) async fn location_to_move_to(self, location: &str, own: Uuid) -> Result<()> {
        let path = self.check_location(location.trim_end_matches('/'))?;
        if self.is_in_a_table(&path).await? || !self.contains_only_table(&path, own).await? {
            return Err(location_in_use(location));
        }
        Ok(())
    }

    /// Returns true if all metadata files below a folder are directly in its `metadata` folder and
    /// belong to the table. Clients write metadata files of registered tables, so a folder can
    /// contain the files of several tables.
    async fn contains_only_table(self, folder: &Path, table: Uuid) -> Result<bool> {
        let failed = |error| Error::storage(folder.to_string(), error);
        let metadata_folder = folder.clone().join("metadata");
        let mut found = Vec::new();
        let mut files = self.tables.object_store().list(Some(folder));
        while let Some(file) = files.next().await {
            let file = file.map_err(failed)?;
            if !file.location.as_ref().ends_with(METADATA_SUFFIX) {
                continue;
            }
            if file.location.prefix_matches(&metadata_folder)
                && file.location.parts_count() == metadata_folder.parts_count() + 1
            {
                found.push(file);
            } else {
                return Ok(false);
            }
        }
        let checks = found.into_iter().map(|file| self.is_of(file, table));
        let mut checks = stream::iter(checks).buffer_unordered(METADATA_CONCURRENCY);
        while let Some(is_of_table) = checks.next().await {
            if !is_of_table? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn is_of(self, file: ObjectMeta, table: Uuid) -> Result<bool> {
        if file.size > METADATA_BYTES_MAX {
            return Ok(false);
        }
        let location = format!("{}/{}", self.tables.root_url(), file.location);
        let content = self.tables.storage().read(&location).await?;
        let read: Option<TableUuid> = serde_json::from_slice(&content).ok();
        Ok(read.is_some_and(|read| read.uuid == table))
    }

    /// Returns true if the folder is inside a table's folder, or is the root of the warehouse.
    pub(crate) async fn is_in_a_table(self, path: &Path) -> Result<bool> {
        let parts: Vec<_> = path.parts().collect();
        for length in 1..parts.len() {
            let above: Path = parts[..length].iter().cloned().collect();
            if self.has_metadata(&above.join("metadata")).await? {
                return Ok(true);
            }
        }
        Ok(parts.is_empty())
    }

    async fn has_metadata(self, folder: &Path) -> Result<bool> {
        let failed = |error| Error::storage(folder.to_string(), error);
        let mut files = self.tables.object_store().list(Some(folder));
        while let Some(file) = files.next().await {
            if file.map_err(failed)?.location.as_ref().ends_with(METADATA_SUFFIX) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Rejects a file in a format that is not supported.
    pub(crate) fn check_file(self, file: &DataFile) -> Result<()> {
        self.check_location(file.file_path())?;
        let (content, format) = (file.content_type(), file.file_format());
        let readable = match content {
            DataContentType::PositionDeletes => {
                matches!(format, DataFileFormat::Parquet | DataFileFormat::Puffin)
            }
            _ => format == DataFileFormat::Parquet,
        };
        if readable {
            return Ok(());
        }
        let location = file.file_path();
        let reason = format!("`{location}` has format `{format}`, which is not supported");
        Err(Error::Refused { reason })
    }
}

fn location_in_use(location: &str) -> Error {
    Error::Refused { reason: format!("`{location}` contains, or is inside, another table") }
}

/// Converts an error about a file that a client wrote or named to an error of the client's request.
/// Errors of the disk are returned unchanged.
pub(crate) fn reject(error: Error) -> Error {
    match error {
        Error::OutsideWarehouse { .. }
        | Error::Missing { .. }
        | Error::Corrupt { .. }
        | Error::Unsupported { .. } => {
            let mut reason = error.to_string();
            if let Some(cause) = error.to_problem().causes.first() {
                reason = format!("{reason}: {cause}");
            }
            Error::Refused { reason }
        }
        other => other,
    }
}
