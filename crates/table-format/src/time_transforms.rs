//! Partition specs with several time transforms of one column, such as `year(ts)` and `month(ts)`.
//!
//! Iceberg allows such specs, and the `iceberg` crate reads and writes them, but its metadata
//! builder rejects them. Before the builder is called, all time transforms of a column except the
//! first are replaced by placeholders: bucket transforms with numbers of buckets that no real table
//! uses. In the metadata that the builder returns, the time transforms are restored.
//! [`hidden_metadata`] and [`hidden`] insert placeholders, and [`restored`] replaces them by time
//! transforms.

use std::borrow::Cow;

use iceberg::spec::{TableMetadata, Transform, UnboundPartitionSpec};
use serde_json::{Value, json};

use crate::{Error, Result};

/// The time transforms, and the bucket transforms that are their placeholders.
const PLACEHOLDERS: [(&str, &str); 4] = [
    ("year", "bucket[2147483644]"),
    ("month", "bucket[2147483645]"),
    ("day", "bucket[2147483646]"),
    ("hour", "bucket[2147483647]"),
];

/// Smallest number of buckets that denotes a placeholder.
const PLACEHOLDER_MIN: u32 = 2_147_483_644;

/// Replaces transforms in the JSON of a partition spec: if several fields have a time transform of
/// the same column, the transforms of all these fields but the first. Returns true if a transform
/// was replaced.
pub fn hide(spec: &mut Value) -> Result<bool> {
    let mut seen = Vec::new();
    let mut hidden = false;
    let fields = spec.get_mut("fields").and_then(Value::as_array_mut);
    for field in fields.into_iter().flatten() {
        let source = field["source-id"].as_i64();
        let transform = field["transform"].as_str().unwrap_or_default();
        if PLACEHOLDERS.iter().any(|(_, placeholder)| *placeholder == transform) {
            let reason = format!("partition transform `{transform}` has too many buckets");
            return Err(Error::Refused { reason });
        }
        let Some((_, placeholder)) = PLACEHOLDERS.iter().find(|(known, _)| *known == transform)
        else {
            continue;
        };
        if seen.contains(&source) {
            field["transform"] = (*placeholder).into();
            hidden = true;
        }
        seen.push(source);
    }
    Ok(hidden)
}

/// Restores the time transforms of a partition spec.
pub fn restore(spec: &mut Value) {
    let fields = spec.get_mut("fields").and_then(Value::as_array_mut);
    for field in fields.into_iter().flatten() {
        let transform = field["transform"].as_str().unwrap_or_default();
        let found = PLACEHOLDERS.iter().find(|(_, placeholder)| *placeholder == transform);
        if let Some((transform, _)) = found {
            field["transform"] = (*transform).into();
        }
    }
}

/// Returns the partition specs in a table's metadata.
pub fn specs(metadata: &mut Value) -> impl Iterator<Item = &mut Value> {
    metadata.get_mut("partition-specs").and_then(Value::as_array_mut).into_iter().flatten()
}

/// Returns the spec for the builder, with placeholders instead of repeated time transforms.
pub fn hidden(spec: UnboundPartitionSpec) -> Result<UnboundPartitionSpec> {
    let mut value = serde_json::to_value(&spec).map_err(failed)?;
    if !hide(&mut value)? {
        return Ok(spec);
    }
    serde_json::from_value(value).map_err(failed)
}

/// Builds a spec with placeholders from column ids, names and transforms.
pub fn unbound<'a>(
    fields: impl Iterator<Item = (i32, &'a str, Transform)>,
) -> Result<UnboundPartitionSpec> {
    let fields = fields.map(|(source_id, name, transform)| {
        json!({"source-id": source_id, "name": name, "transform": transform})
    });
    let mut spec = json!({"fields": fields.collect::<Vec<_>>()});
    hide(&mut spec)?;
    serde_json::from_value(spec).map_err(failed)
}

/// Returns the metadata with placeholders, for the builder.
pub fn hidden_metadata(metadata: &TableMetadata) -> Result<Cow<'_, TableMetadata>> {
    let is_time = |transform| {
        matches!(transform, Transform::Year | Transform::Month | Transform::Day | Transform::Hour)
    };
    let mut specs = metadata.partition_specs_iter();
    let has_some = specs.any(|spec| {
        let fields = spec.fields().iter().filter(|field| is_time(field.transform));
        let mut sources: Vec<i32> = fields.map(|field| field.source_id).collect();
        sources.sort_unstable();
        sources.windows(2).any(|pair| pair[0] == pair[1])
    });
    if !has_some {
        return Ok(Cow::Borrowed(metadata));
    }
    let mut value = serde_json::to_value(metadata).map_err(failed)?;
    for spec in self::specs(&mut value) {
        hide(spec)?;
    }
    serde_json::from_value(value).map(Cow::Owned).map_err(failed)
}

/// Returns metadata with the time transforms restored.
pub fn restored(metadata: TableMetadata) -> Result<TableMetadata> {
    let is_placeholder =
        |transform| matches!(transform, Transform::Bucket(n) if n >= PLACEHOLDER_MIN);
    let mut fields = metadata.partition_specs_iter().flat_map(|spec| spec.fields());
    if !fields.any(|field| is_placeholder(field.transform)) {
        drop(fields);
        return Ok(metadata);
    }
    let mut value = serde_json::to_value(&metadata).map_err(failed)?;
    self::specs(&mut value).for_each(restore);
    serde_json::from_value(value).map_err(failed)
}

fn failed(error: serde_json::Error) -> Error {
    Error::internal("partitioned", error)
}
