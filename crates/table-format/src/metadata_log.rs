//! Timestamps and logs of table metadata, for changes that add no snapshot.
//!
//! The `iceberg` crate sets `last-updated-ms` from the system clock, and fails if that time is
//! before the last update. Headwater takes the time from its own clock, and never lets the
//! timestamp decrease. So before a change without a snapshot, the logs are removed from the
//! metadata, and restored afterwards. Only the JSON form of the metadata allows the removal of the
//! logs.

use iceberg::spec::{TableMetadata, TableProperties};
use serde_json::{Value, json};

use crate::{Error, Result, time_transforms};

/// The logs that [`detach_logs`] removed from a table's metadata.
#[derive(Debug)]
pub struct DetachedLogs {
    snapshots: Option<Value>,
    metadata: Option<Value>,
    last_updated_ms: i64,
    log_length_max: usize,
}

/// Keys of the logs in the JSON of a metadata file.
const SNAPSHOT_LOG: &str = "snapshot-log";
const METADATA_LOG: &str = "metadata-log";
const LAST_UPDATED: &str = "last-updated-ms";

fn failed(error: impl std::fmt::Display) -> Error {
    Error::internal("committed", error)
}

/// Returns the metadata without its snapshot log and metadata log, and these logs.
pub fn detach_logs(metadata: &TableMetadata) -> Result<(TableMetadata, DetachedLogs)> {
    let log_length_max =
        metadata.properties().get(TableProperties::PROPERTY_METADATA_PREVIOUS_VERSIONS_MAX);
    let log_length_max = log_length_max.and_then(|log_length_max| log_length_max.parse().ok());
    let mut value = serde_json::to_value(metadata).map_err(failed)?;
    let logs = DetachedLogs {
        snapshots: take(&mut value, SNAPSHOT_LOG),
        metadata: take(&mut value, METADATA_LOG),
        last_updated_ms: metadata.last_updated_ms(),
        log_length_max: log_length_max
            .unwrap_or(TableProperties::PROPERTY_METADATA_PREVIOUS_VERSIONS_MAX_DEFAULT),
    };
    for spec in time_transforms::specs(&mut value) {
        time_transforms::hide(spec)?;
    }
    Ok((serde_json::from_value(value).map_err(failed)?, logs))
}

fn take(value: &mut Value, key: &str) -> Option<Value> {
    value.as_object_mut()?.remove(key)
}

/// Returns the metadata with its logs restored, and with a log entry for the previous metadata
/// file. The new timestamp is `now_ms` or, if later, the previous timestamp.
pub fn attach_logs(
    metadata: &TableMetadata,
    logs: DetachedLogs,
    previous_location: &str,
    now_ms: i64,
) -> Result<TableMetadata> {
    let mut value = serde_json::to_value(metadata).map_err(failed)?;
    let mut log = match logs.metadata {
        Some(Value::Array(log)) => log,
        _ => Vec::new(),
    };
    log.push(json!({"metadata-file": previous_location, "timestamp-ms": logs.last_updated_ms}));
    log.drain(..log.len().saturating_sub(logs.log_length_max.max(1)));
    value[METADATA_LOG] = Value::Array(log);
    if let Some(snapshots) = logs.snapshots {
        value[SNAPSHOT_LOG] = snapshots;
    }
    value[LAST_UPDATED] = json!(now_ms.max(logs.last_updated_ms));
    time_transforms::specs(&mut value).for_each(time_transforms::restore);
    serde_json::from_value(value).map_err(failed)
}

/// Returns the metadata without these snapshots. The snapshots must not be the current snapshot or
/// have a ref.
pub fn without_snapshots(
    metadata: &TableMetadata,
    ids: &[i64],
    previous_location: &str,
    now_ms: i64,
) -> Result<TableMetadata> {
    let (bare, mut logs) = detach_logs(metadata)?;
    let retain = |entry: &Value| entry["snapshot-id"].as_i64().is_none_or(|id| !ids.contains(&id));
    if let Some(Value::Array(log)) = &mut logs.snapshots {
        log.retain(retain);
    }
    let mut value = serde_json::to_value(&bare).map_err(failed)?;
    for key in ["snapshots", "statistics", "partition-statistics"] {
        if let Some(Value::Array(entries)) = value.get_mut(key) {
            entries.retain(retain);
        }
    }
    let remaining = serde_json::from_value(value).map_err(failed)?;
    attach_logs(&remaining, logs, previous_location, now_ms)
}

/// Sets the timestamp of a new table's metadata.
pub fn set_timestamp(metadata: &TableMetadata, now_ms: i64) -> Result<TableMetadata> {
    let mut value = serde_json::to_value(metadata).map_err(failed)?;
    value[LAST_UPDATED] = json!(now_ms);
    serde_json::from_value(value).map_err(failed)
}
