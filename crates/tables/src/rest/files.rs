//! Checks of files that clients name: location and format.

use bytes::Bytes;
use futures::StreamExt;
use headwater_model::Fault;
use iceberg::spec::{DataContentType, DataFile, DataFileFormat};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStoreExt};
use serde::Deserialize;
use tokio::sync::MutexGuard;
use uuid::Uuid;

use crate::storage::as_we_write;
use crate::{Error, Result, Tables};

/// What the names of metadata files end in.
const METADATA_SUFFIX: &str = ".metadata.json";

/// The longest metadata file that is registered, in bytes.
pub(super) const METADATA_BYTES_MAX: u64 = 256 << 20;

/// What a metadata file says first of all.
#[derive(Debug, Deserialize)]
struct Named {
    #[serde(rename = "table-uuid")]
    uuid: Uuid,
}

impl Tables {
    /// What a metadata file holds that somebody named.
    pub(super) async fn given_metadata(&self, location: &str, bytes_max: u64) -> Result<Bytes> {
        let path = self.check_location(location)?;
        if !location.ends_with(METADATA_SUFFIX) {
            let reason = format!("`{location}` does not end in `{METADATA_SUFFIX}`");
            return Err(Error::Refused { reason });
        }
        let found = self.object_store().head(&path).await;
        let found = found.map_err(|error| refuse(Error::storage(location, error)))?;
        if found.size > bytes_max {
            let reason = format!("`{location}` is longer than any metadata file");
            return Err(Error::Refused { reason });
        }
        self.check_kept(location).map_err(refuse)?;
        self.storage().read(location).await.map_err(refuse)
    }

    /// Where a location that somebody gave lies. Fails where that is not in the warehouse.
    pub(super) fn check_location(&self, location: &str) -> Result<Path> {
        let path = self.path_of(location).map_err(refuse)?;
        // Files are told apart by how their locations are written.
        if format!("{}/{path}", self.root_url()) == as_we_write(location) {
            return Ok(path);
        }
        let reason = format!("`{location}` is written otherwise than `{}/{path}`", self.root_url());
        Err(Error::Refused { reason })
    }

    /// Held, where somebody gives a location, from before it is found to be free until something lies there.
    pub(super) async fn hold_place(&self, is_given: bool) -> Option<MutexGuard<'_, ()>> {
        if is_given { Some(self.placing().lock().await) } else { None }
    }

    /// A location for a new table that somebody gave: one in the warehouse in which no other table lies, and
    /// that lies in no other table.
    pub(super) async fn free_location(&self, location: &str) -> Result<String> {
        let location = location.trim_end_matches('/');
        let path = self.check_location(location)?;
        if self.lies_in_another(&path).await? || self.has_metadata(&path).await? {
            return Err(taken(location));
        }
        Ok(location.to_owned())
    }

    /// The same for a table that is there. What a try to move it left behind, of which nobody knows whether
    /// it was made, is not in the way of the next.
    pub(super) async fn location_to_move_to(&self, location: &str, own: Uuid) -> Result<()> {
        let path = self.check_location(location.trim_end_matches('/'))?;
        if self.lies_in_another(&path).await? || !self.has_only(&path, own).await? {
            return Err(taken(location));
        }
        Ok(())
    }

    /// Whether no metadata file lies under a folder but those of one table that lies right there. Where one
    /// of its own does, no other table's was let in.
    async fn has_only(&self, folder: &Path, table: Uuid) -> Result<bool> {
        let failed = |error| Error::storage(folder.to_string(), error);
        let right_there = folder.clone().join("metadata");
        let mut first = None;
        let mut files = self.object_store().list(Some(folder));
        while let Some(file) = files.next().await {
            let file = file.map_err(failed)?;
            if !file.location.as_ref().ends_with(METADATA_SUFFIX) {
                continue;
            }
            if file.location.prefix_matches(&right_there)
                && file.location.parts_count() == right_there.parts_count() + 1
            {
                first.get_or_insert(file);
            } else {
                return Ok(false);
            }
        }
        match first {
            Some(file) => self.is_of(&file, table).await,
            None => Ok(true),
        }
    }

    async fn is_of(&self, file: &ObjectMeta, table: Uuid) -> Result<bool> {
        if file.size > METADATA_BYTES_MAX {
            return Ok(false);
        }
        let location = format!("{}/{}", self.root_url(), file.location);
        let content = self.storage().read(&location).await?;
        let read: Option<Named> = serde_json::from_slice(&content).ok();
        Ok(read.is_some_and(|read| read.uuid == table))
    }

    /// Whether a folder lies in that of a table, or is that of all.
    pub(super) async fn lies_in_another(&self, path: &Path) -> Result<bool> {
        let parts: Vec<_> = path.parts().collect();
        for length in 1..parts.len() {
            let above: Path = parts[..length].iter().cloned().collect();
            if self.has_metadata(&above.join("metadata")).await? {
                return Ok(true);
            }
        }
        Ok(parts.is_empty())
    }

    async fn has_metadata(&self, folder: &Path) -> Result<bool> {
        let failed = |error| Error::storage(folder.to_string(), error);
        let mut files = self.object_store().list(Some(folder));
        while let Some(file) = files.next().await {
            if file.map_err(failed)?.location.as_ref().ends_with(METADATA_SUFFIX) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Fails for a file that the table could not be read from.
    pub(super) fn check_file(&self, file: &DataFile) -> Result<()> {
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
        let reason = format!("`{location}` is a file of format `{format}`, which is not read here");
        Err(Error::Refused { reason })
    }
}

fn taken(location: &str) -> Error {
    Error::Refused { reason: format!("`{location}` holds, or lies in, another table") }
}

/// An error about a file that somebody else wrote, or named, is theirs; one of the disk is not.
pub(super) fn refuse(error: Error) -> Error {
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
