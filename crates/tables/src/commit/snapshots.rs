//! Which snapshots a table's metadata lists: the last, and those that have a name.

use std::collections::HashSet;

use iceberg::spec::TableMetadata;

/// The snapshots that a table's own branches and tags name; other engines make these.
pub(crate) fn named_snapshots(metadata: &TableMetadata) -> HashSet<i64> {
    // The builder's type keeps its refs to itself; its JSON form does not.
    let value = serde_json::to_value(metadata).unwrap_or_default();
    let refs = value.get("refs").and_then(serde_json::Value::as_object);
    let refs = refs.into_iter().flat_map(|refs| refs.values());
    refs.filter_map(|reference| reference["snapshot-id"].as_i64()).collect()
}

/// The property by which a table says how many snapshots it lists at least.
const SNAPSHOTS_KEPT: &str = "history.expire.min-snapshots-to-keep";

/// How many snapshots a table's metadata file lists.
pub(crate) fn snapshots_listed(metadata: &TableMetadata, default: usize) -> usize {
    let kept = metadata.properties().get(SNAPSHOTS_KEPT);
    kept.and_then(|kept| kept.parse().ok()).unwrap_or(default).max(default)
}

/// The oldest snapshots beyond the number that a metadata file lists, once one more is added; those apart
/// that have a name.
pub(super) fn superfluous(metadata: &TableMetadata, listed_max: usize) -> Vec<i64> {
    let count = metadata.snapshots().len() + 1;
    let Some(excess) = count.checked_sub(listed_max.max(1)).filter(|excess| *excess > 0) else {
        return Vec::new();
    };
    let named = named_snapshots(metadata);
    let mut snapshots: Vec<_> = metadata.snapshots().collect();
    snapshots.sort_by_key(|snapshot| snapshot.sequence_number());
    let ids = snapshots.into_iter().take(excess).map(|snapshot| snapshot.snapshot_id());
    ids.filter(|id| !named.contains(id)).collect()
}
