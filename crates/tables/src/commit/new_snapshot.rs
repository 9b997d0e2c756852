//! The ids, files and encoding of a new snapshot.

use bytes::Bytes;
use iceberg::spec::{FormatVersion, ManifestFile, Snapshot, Summary, TableMetadata};
use uuid::Uuid;

use super::create_and_evolve::rejected;
use super::manifests::PlannedManifest;
use crate::manifest::{DecodedManifest, SnapshotIds, assign_row_ids, encode, encode_list};
use crate::{Error, Result, Tables};

/// Maximum number of manifest entries that are encoded without a separate thread.
const INLINE_ENTRIES_MAX: usize = 256;

/// Ids and file names of a new snapshot.
pub(super) struct NewSnapshot {
    ids: SnapshotIds,
    timestamp_ms: i64,
    /// Location of the folder in which the table's metadata files are.
    folder: String,
    /// The unique part of the names of the files that the commit writes.
    name: Uuid,
}

/// The files of a new snapshot, encoded but not yet written.
pub(super) struct EncodedSnapshot {
    pub(super) files: Vec<(String, Bytes)>,
    pub(super) manifest_list: String,
    pub(super) listed: Vec<ManifestFile>,
    pub(super) decoded: Vec<(String, DecodedManifest)>,
    /// The next row id that the table will assign after the snapshot.
    next_row_id: u64,
}

impl NewSnapshot {
    pub(super) fn after(tables: &Tables, before: &TableMetadata, after: &TableMetadata) -> Self {
        let now = tables.options().clock.now().timestamp_millis();
        NewSnapshot {
            ids: SnapshotIds {
                id: snapshot_id(before),
                parent: before.current_snapshot_id(),
                sequence_number: before.next_sequence_number(),
                version: after.format_version(),
                first_row_id: after.next_row_id(),
            },
            // Iceberg requires that timestamps never decrease, even if the clock is set back.
            timestamp_ms: now.max(before.last_updated_ms()),
            folder: format!("{}/metadata", before.location()),
            name: Uuid::new_v4(),
        }
    }

    pub(super) async fn encode_files(
        &self,
        planned: Vec<PlannedManifest>,
    ) -> Result<EncodedSnapshot> {
        let entries: usize = planned.iter().map(PlannedManifest::entries).sum();
        let list = format!("{}/snap-{}-1-{}.avro", self.folder, self.ids.id, self.name);
        let encoding =
            encode_all(planned, format!("{}/{}-m", self.folder, self.name), list, self.ids);
        if entries <= INLINE_ENTRIES_MAX {
            return encoding.await;
        }
        let encoding = tokio::task::spawn_blocking(|| futures::executor::block_on(encoding));
        encoding.await.map_err(|error| Error::internal("committed", error))?
    }

    pub(super) fn snapshot(
        &self,
        encoded: &EncodedSnapshot,
        summary: Summary,
        schema_id: i32,
    ) -> Snapshot {
        let builder = Snapshot::builder()
            .with_snapshot_id(self.ids.id)
            .with_parent_snapshot_id(self.ids.parent)
            .with_sequence_number(self.ids.sequence_number)
            .with_timestamp_ms(self.timestamp_ms)
            .with_manifest_list(encoded.manifest_list.as_str())
            .with_summary(summary)
            .with_schema_id(schema_id);
        if self.ids.version < FormatVersion::V3 {
            return builder.build();
        }
        let first = self.ids.first_row_id;
        builder.with_row_range(first, encoded.next_row_id.saturating_sub(first)).build()
    }
}

async fn encode_all(
    planned: Vec<PlannedManifest>,
    prefix: String,
    manifest_list: String,
    snapshot: SnapshotIds,
) -> Result<EncodedSnapshot> {
    let (mut files, mut listed, mut decoded) = (Vec::new(), Vec::new(), Vec::new());
    for one in planned {
        match one {
            PlannedManifest::Kept(manifest) => listed.push(manifest),
            PlannedManifest::New(new) => {
                let location = format!("{prefix}{}.avro", files.len());
                let encoded = encode(new, &location, snapshot).await;
                let encoded = encoded.map_err(|error| rejected("committed", &error))?;
                files.push((location.clone(), encoded.content));
                decoded.push((location, encoded.decoded));
                listed.push(encoded.file);
            }
        }
    }
    let mut next_row_id = snapshot.first_row_id;
    if snapshot.version >= FormatVersion::V3 {
        next_row_id = assign_row_ids(&mut listed, &mut decoded, next_row_id)?;
    }
    let content = encode_list(&listed, snapshot).await;
    let content = content.map_err(|error| rejected("committed", &error))?;
    files.push((manifest_list.clone(), content));
    Ok(EncodedSnapshot { files, manifest_list, listed, decoded, next_row_id })
}

/// Returns a random snapshot id that the table does not use.
fn snapshot_id(metadata: &TableMetadata) -> i64 {
    let ids = std::iter::repeat_with(|| (Uuid::new_v4().as_u64_pair().0 & i64::MAX as u64) as i64);
    let mut free = ids.filter(|id| *id > 0 && metadata.snapshot_by_id(*id).is_none());
    free.next().unwrap_or(1)
}
