//! Times in metadata that no snapshot sets.
//!
//! The `iceberg` crate stamps metadata with the machine's clock, and refuses to when that went back
//! since the last commit. Here the time is our clock's, and never goes back; so a change without a
//! snapshot is built with the logs of times put aside, which only the JSON form lets one do.

use iceberg::spec::{TableMetadata, TableProperties};
use serde_json::{Value, json};

use crate::{Error, Result, time_parts};

/// The logs of a table's metadata while they are put aside.
#[derive(Debug)]
pub(crate) struct Logs {
    snapshots: Option<Value>,
    metadata: Option<Value>,
    last_updated_ms: i64,
    kept: usize,
}

/// The keys of the logs in a metadata file.
const SNAPSHOT_LOG: &str = "snapshot-log";
const METADATA_LOG: &str = "metadata-log";
const LAST_UPDATED: &str = "last-updated-ms";

fn failed(error: impl std::fmt::Display) -> Error {
    Error::internal("committed", error)
}

/// The metadata without its logs, and the logs.
pub(crate) fn put_aside(metadata: &TableMetadata) -> Result<(TableMetadata, Logs)> {
    let kept = metadata.properties().get(TableProperties::PROPERTY_METADATA_PREVIOUS_VERSIONS_MAX);
    let kept = kept.and_then(|kept| kept.parse().ok());
    let mut value = serde_json::to_value(metadata).map_err(failed)?;
    let logs = Logs {
        snapshots: take(&mut value, SNAPSHOT_LOG),
        metadata: take(&mut value, METADATA_LOG),
        last_updated_ms: metadata.last_updated_ms(),
        kept: kept.unwrap_or(TableProperties::PROPERTY_METADATA_PREVIOUS_VERSIONS_MAX_DEFAULT),
    };
    for spec in time_parts::specs(&mut value) {
        time_parts::hide(spec)?;
    }
    Ok((serde_json::from_value(value).map_err(failed)?, logs))
}

fn take(value: &mut Value, key: &str) -> Option<Value> {
    value.as_object_mut()?.remove(key)
}

/// The metadata with its logs, the former metadata file among them, as of `now_ms` or later.
pub(crate) fn put_back(
    metadata: &TableMetadata,
    logs: Logs,
    former_location: &str,
    now_ms: i64,
) -> Result<TableMetadata> {
    let mut value = serde_json::to_value(metadata).map_err(failed)?;
    let mut log = match logs.metadata {
        Some(Value::Array(log)) => log,
        _ => Vec::new(),
    };
    log.push(json!({"metadata-file": former_location, "timestamp-ms": logs.last_updated_ms}));
    log.drain(..log.len().saturating_sub(logs.kept.max(1)));
    value[METADATA_LOG] = Value::Array(log);
    if let Some(snapshots) = logs.snapshots {
        value[SNAPSHOT_LOG] = snapshots;
    }
    value[LAST_UPDATED] = json!(now_ms.max(logs.last_updated_ms));
    time_parts::specs(&mut value).for_each(time_parts::reveal);
    serde_json::from_value(value).map_err(failed)
}

/// The metadata without some of its snapshots, none of which is the current one or has a name.
pub(crate) fn without_snapshots(
    metadata: &TableMetadata,
    ids: &[i64],
    former_location: &str,
    now_ms: i64,
) -> Result<TableMetadata> {
    let (bare, mut logs) = put_aside(metadata)?;
    let stays = |entry: &Value| entry["snapshot-id"].as_i64().is_none_or(|id| !ids.contains(&id));
    if let Some(Value::Array(log)) = &mut logs.snapshots {
        log.retain(stays);
    }
    let mut value = serde_json::to_value(&bare).map_err(failed)?;
    for key in ["snapshots", "statistics", "partition-statistics"] {
        if let Some(Value::Array(entries)) = value.get_mut(key) {
            entries.retain(stays);
        }
    }
    let left = serde_json::from_value(value).map_err(failed)?;
    put_back(&left, logs, former_location, now_ms)
}

/// The metadata of a new table, as of `now_ms`.
pub(crate) fn stamp(metadata: &TableMetadata, now_ms: i64) -> Result<TableMetadata> {
    let mut value = serde_json::to_value(metadata).map_err(failed)?;
    value[LAST_UPDATED] = json!(now_ms);
    serde_json::from_value(value).map_err(failed)
}
