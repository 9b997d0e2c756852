//! Parses the parts that decoding needs of the schema with which an Avro file was written.

use std::collections::HashMap;

use serde_json::Value as Json;

use super::{AvroError, Result, invalid};

/// Maximum nesting depth of types. Manifests have four levels.
const DEPTH_MAX: usize = 16;

/// Maximum number of types in a schema. A named type counts each time it is used.
const NODES_MAX: usize = 100_000;

/// A type with its logical type.
#[derive(Debug, Clone, PartialEq)]
pub struct AvroSchema {
    pub kind: Kind,
    pub logical: LogicalType,
}

/// The kind of a type, which determines the encoding of its values.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    Text,
    Fixed(usize),
    Enum,
    Array(Box<AvroSchema>),
    Map(Box<AvroSchema>),
    Union(Vec<AvroSchema>),
    Record(Vec<AvroField>),
}

/// A logical type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogicalType {
    Plain,
    Date,
    Time,
    Timestamp { nanoseconds: bool, zone: bool },
    Uuid,
    Decimal { precision: u32, scale: u32 },
}

/// A field of a record.
#[derive(Debug, Clone, PartialEq)]
pub struct AvroField {
    /// The Iceberg field id; `None` if the writer did not set it.
    pub id: Option<i32>,
    pub name: String,
    pub schema: AvroSchema,
}

impl AvroSchema {
    /// Returns the variant of a nullable type that is not null; any other type itself.
    pub fn not_null(&self) -> &AvroSchema {
        match &self.kind {
            Kind::Union(variants) => {
                variants.iter().find(|one| one.kind != Kind::Null).unwrap_or(self)
            }
            _ => self,
        }
    }

    /// Returns the minimum size of an encoded value, in bytes.
    pub(super) fn bytes_min(&self) -> usize {
        match &self.kind {
            Kind::Null => 0,
            Kind::Fixed(bytes) => *bytes,
            Kind::Float => 4,
            Kind::Double => 8,
            Kind::Record(fields) => fields.iter().map(|field| field.schema.bytes_min()).sum(),
            _ => 1,
        }
    }
}

/// Parses a schema.
pub(super) fn parse(content: &[u8]) -> Result<AvroSchema> {
    let json: Json = serde_json::from_slice(content)
        .map_err(|error| AvroError::Invalid(format!("the schema is not JSON: {error}")))?;
    Parser { named: HashMap::new(), nodes: 0 }.parse(&json, DEPTH_MAX)
}

/// A parser, and the named types that it has parsed so far.
struct Parser {
    named: HashMap<String, AvroSchema>,
    nodes: usize,
}

impl Parser {
    fn parse(&mut self, json: &Json, depth: usize) -> Result<AvroSchema> {
        self.nodes += 1;
        let Some(depth) = depth.checked_sub(1).filter(|_| self.nodes <= NODES_MAX) else {
            return invalid("the schema is nested too deeply, or is too large");
        };
        let plain = |kind| Ok(AvroSchema { kind, logical: LogicalType::Plain });
        match json {
            Json::String(name) => self.by_name(name),
            Json::Array(variants) => {
                let variants = variants.iter().map(|one| self.parse(one, depth));
                plain(Kind::Union(variants.collect::<Result<_>>()?))
            }
            Json::Object(_) => self.parse_object(json, depth),
            _ => invalid("the schema has an invalid type"),
        }
    }

    fn by_name(&mut self, name: &str) -> Result<AvroSchema> {
        let kind = match name {
            "null" => Kind::Null,
            "boolean" => Kind::Boolean,
            "int" => Kind::Int,
            "long" => Kind::Long,
            "float" => Kind::Float,
            "double" => Kind::Double,
            "bytes" => Kind::Bytes,
            "string" => Kind::Text,
            other => {
                let found = self.named.get(short(other)).cloned();
                let Some(found) = found else {
                    return invalid(format!("the schema has no type `{other}`"));
                };
                self.nodes += size(&found);
                return Ok(found);
            }
        };
        Ok(AvroSchema { kind, logical: LogicalType::Plain })
    }

    fn parse_object(&mut self, json: &Json, depth: usize) -> Result<AvroSchema> {
        let name = json["name"].as_str().map(short);
        let kind = match json["type"].as_str() {
            Some("record" | "error") => {
                let fields = json["fields"].as_array().map(Vec::as_slice).unwrap_or_default();
                let fields = fields.iter().map(|field| self.parse_field(field, depth));
                Kind::Record(fields.collect::<Result<_>>()?)
            }
            Some("enum") => Kind::Enum,
            Some("fixed") => match json["size"].as_u64().and_then(|n| usize::try_from(n).ok()) {
                Some(bytes) => Kind::Fixed(bytes),
                None => return invalid("the schema has a `fixed` without a size"),
            },
            Some("array") => Kind::Array(Box::new(self.parse(&json["items"], depth)?)),
            Some("map") => Kind::Map(Box::new(self.parse(&json["values"], depth)?)),
            Some(other) => self.by_name(other)?.kind,
            None => self.parse(&json["type"], depth)?.kind,
        };
        let schema = AvroSchema { kind, logical: logical(json) };
        if let (Some(name), Kind::Record(_) | Kind::Enum | Kind::Fixed(_)) = (name, &schema.kind) {
            self.named.insert(name.to_owned(), schema.clone());
        }
        Ok(schema)
    }

    fn parse_field(&mut self, json: &Json, depth: usize) -> Result<AvroField> {
        let id = json["field-id"].as_i64().and_then(|id| i32::try_from(id).ok());
        let name = json["name"].as_str().unwrap_or_default().to_owned();
        Ok(AvroField { id, name, schema: self.parse(&json["type"], depth)? })
    }
}

/// Returns a name without its namespace.
fn short(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

/// Returns the number of types that a type consists of, including itself.
fn size(schema: &AvroSchema) -> usize {
    1 + match &schema.kind {
        Kind::Array(inner) | Kind::Map(inner) => size(inner),
        Kind::Union(variants) => variants.iter().map(size).sum(),
        Kind::Record(fields) => fields.iter().map(|field| size(&field.schema)).sum(),
        _ => 0,
    }
}

fn logical(json: &Json) -> LogicalType {
    let number = |key: &str| json[key].as_u64().and_then(|n| u32::try_from(n).ok());
    // Iceberg marks timestamps with a time zone by a separate property.
    let zone = json["adjust-to-utc"].as_bool().unwrap_or_default();
    match json["logicalType"].as_str() {
        Some("date") => LogicalType::Date,
        Some("time-micros") => LogicalType::Time,
        Some("timestamp-micros") => LogicalType::Timestamp { nanoseconds: false, zone },
        Some("local-timestamp-micros") => {
            LogicalType::Timestamp { nanoseconds: false, zone: false }
        }
        Some("timestamp-nanos") => LogicalType::Timestamp { nanoseconds: true, zone },
        Some("local-timestamp-nanos") => LogicalType::Timestamp { nanoseconds: true, zone: false },
        Some("uuid") => LogicalType::Uuid,
        Some("decimal") => LogicalType::Decimal {
            precision: number("precision").unwrap_or_default(),
            scale: number("scale").unwrap_or_default(),
        },
        _ => LogicalType::Plain,
    }
}
