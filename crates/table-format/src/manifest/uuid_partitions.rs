//! Encodes UUID partition values in manifests, as `fixed(16)` with the logical type `uuid`.
//!
//! The `iceberg` crate encodes such values as strings, which no other engine can read. So the
//! manifest is encoded as if these columns had the type `fixed(16)`, and the schemas in its header
//! are corrected afterwards.

use std::collections::BTreeSet;

use bytes::Bytes;
use iceberg::spec::{PartitionSpec, PrimitiveType, Schema, SchemaRef, StructType, Type};
use iceberg::{Error, ErrorKind, Result};
use serde_json::{Value, json};

use crate::avro::with_header;
use crate::foreign_types;

/// The ids of a manifest's partition fields of type UUID.
#[derive(Debug)]
pub(super) struct UuidFields(BTreeSet<i32>);

impl UuidFields {
    pub(super) fn new(types: &StructType) -> Self {
        let is_uuid = |data_type: &Type| *data_type == Type::Primitive(PrimitiveType::Uuid);
        let fields = types.fields().iter().filter(|field| is_uuid(&field.field_type));
        UuidFields(fields.map(|field| field.id).collect())
    }

    /// Returns the schema and the partition types with which a manifest is encoded: UUID partition
    /// fields are `fixed[16]`.
    pub(super) fn as_bytes(
        &self,
        spec: &PartitionSpec,
        schema: &SchemaRef,
    ) -> Result<(SchemaRef, StructType)> {
        if self.0.is_empty() {
            return Ok((schema.clone(), spec.partition_type(schema)?));
        }
        let fields = spec.fields().iter().filter(|field| self.0.contains(&field.field_id));
        let sources: BTreeSet<i32> = fields.map(|field| field.source_id).collect();
        let mut value = serde_json::to_value(&**schema).map_err(failed)?;
        replace_types(&mut value, &sources);
        let schema: Schema = serde_json::from_value(value).map_err(failed)?;
        let types = spec.partition_type(&schema)?;
        Ok((schema.into(), types))
    }

    /// Corrects the header of a manifest that was encoded with the types of
    /// [`UuidFields::as_bytes`].
    pub(super) fn correct_header(&self, content: Bytes, schema: &Schema) -> Result<Bytes> {
        if self.0.is_empty() && !foreign_types::has_some(schema) {
            return Ok(content);
        }
        let mut own = serde_json::to_value(schema).map_err(failed)?;
        foreign_types::restore(&mut own);
        let own = serde_json::to_vec(&own).map_err(failed)?;
        let corrected = with_header(&content, |key, value| match key {
            "schema" => Some(own.clone()),
            "avro.schema" => {
                let mut written: Value = serde_json::from_slice(value).ok()?;
                add_logical_types(&mut written, &self.0);
                serde_json::to_vec(&written).ok()
            }
            _ => None,
        });
        corrected.map(Bytes::from).map_err(failed)
    }
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::DataInvalid, error.to_string())
}

/// Replaces the types of the columns with these ids by `fixed[16]`.
fn replace_types(value: &mut Value, ids: &BTreeSet<i32>) {
    let is_one = value["id"].as_i64().is_some_and(|id| ids.iter().any(|one| i64::from(*one) == id));
    if is_one {
        value["type"] = json!("fixed[16]");
        return;
    }
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| replace_types(item, ids)),
        Value::Object(items) => items.values_mut().for_each(|item| replace_types(item, ids)),
        _ => {}
    }
}

/// Adds the logical type `uuid` to the `fixed` types of the fields with these ids in an Avro
/// schema.
fn add_logical_types(value: &mut Value, ids: &BTreeSet<i32>) {
    let id = value["field-id"].as_i64();
    if id.is_some_and(|id| ids.iter().any(|one| i64::from(*one) == id)) {
        add_logical_type(&mut value["type"]);
        return;
    }
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| add_logical_types(item, ids)),
        Value::Object(items) => items.values_mut().for_each(|item| add_logical_types(item, ids)),
        _ => {}
    }
}

fn add_logical_type(data_type: &mut Value) {
    match data_type {
        Value::Array(variants) => variants.iter_mut().for_each(add_logical_type),
        Value::Object(_) if data_type["type"] == "fixed" => {
            data_type["logicalType"] = json!("uuid");
            data_type["name"] = json!("uuid_fixed");
        }
        _ => {}
    }
}
