//! Metadata files: their names, and table metadata to bytes and back.

use bytes::Bytes;
use iceberg::spec::TableMetadata;
use uuid::Uuid;

use crate::{Error, Result};

/// The location of a table's next metadata file: numbered, and unique, since two branches may both
/// make the same next number.
pub(crate) fn next_location(table_location: &str, previous: Option<&str>) -> String {
    let version = previous.and_then(version_of).map_or(0, |version| version + 1);
    format!("{table_location}/metadata/{version:05}-{}.metadata.json", Uuid::new_v4())
}

/// The number that a metadata file's name begins with.
fn version_of(location: &str) -> Option<u32> {
    location.rsplit('/').next()?.split('-').next()?.parse().ok()
}

/// The bytes of a metadata file.
pub(crate) fn encode(metadata: &TableMetadata) -> Result<Bytes> {
    let content = serde_json::to_vec(metadata);
    Ok(content.map_err(|error| Error::internal("written", error))?.into())
}

/// The metadata that a file holds.
pub(crate) fn decode(location: &str, content: &[u8]) -> Result<TableMetadata> {
    serde_json::from_slice(content).map_err(|error| Error::corrupt(location, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_files_count_up() {
        let first = next_location("file:///w/t", None);
        assert!(first.starts_with("file:///w/t/metadata/00000-"), "{first}");
        let second = next_location("file:///w/t", Some(&first));
        assert!(second.starts_with("file:///w/t/metadata/00001-"), "{second}");
        assert!(next_location("file:///w/t", Some("x/v7.json")).contains("/00000-"));
    }
}
