//! The snapshots that a table's metadata lists, and the choice of snapshots to remove.

use std::collections::HashSet;

use iceberg::spec::TableMetadata;

/// Returns the snapshots of refs that the metadata contains. Other engines create such refs.
pub fn referenced_snapshots(metadata: &TableMetadata) -> HashSet<i64> {
    // `TableMetadata` has no accessor for its refs, but its JSON contains them.
    let value = serde_json::to_value(metadata).unwrap_or_default();
    let refs = value.get("refs").and_then(serde_json::Value::as_object);
    let refs = refs.into_iter().flat_map(|refs| refs.values());
    refs.filter_map(|reference| reference["snapshot-id"].as_i64()).collect()
}

/// Table property with the minimum number of snapshots in the metadata file.
const MIN_SNAPSHOTS_TO_KEEP: &str = "history.expire.min-snapshots-to-keep";

/// Returns the number of snapshots to keep in a table's metadata file.
pub fn snapshots_listed(metadata: &TableMetadata, default: usize) -> usize {
    let minimum = metadata.properties().get(MIN_SNAPSHOTS_TO_KEEP);
    minimum.and_then(|minimum| minimum.parse().ok()).unwrap_or(default).max(default)
}

/// Returns the snapshots to remove before one is added, so that at most `listed_max` are listed:
/// the oldest snapshots, except snapshots with a ref.
pub fn snapshots_to_expire(metadata: &TableMetadata, listed_max: usize) -> Vec<i64> {
    let count = metadata.snapshots().len() + 1;
    let Some(excess) = count.checked_sub(listed_max.max(1)).filter(|excess| *excess > 0) else {
        return Vec::new();
    };
    let referenced = referenced_snapshots(metadata);
    let mut snapshots: Vec<_> = metadata.snapshots().collect();
    snapshots.sort_by_key(|snapshot| snapshot.sequence_number());
    let ids = snapshots.into_iter().take(excess).map(|snapshot| snapshot.snapshot_id());
    ids.filter(|id| !referenced.contains(id)).collect()
}
