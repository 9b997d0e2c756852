//! Serializes data files and delete files in the JSON format of Iceberg's REST specification.

use std::collections::HashMap;

use iceberg::spec::{
    DataContentType, DataFile, Datum, Literal, PrimitiveLiteral, PrimitiveType, TableMetadata,
    Transform, Type,
};
use serde_json::{Map, Value, json};

use super::literal::{hex, write};

/// Serializes the files of a table.
pub(super) struct FilesSerializer<'t> {
    /// Field ids of the columns whose statistics are returned to the client.
    stats: &'t [i32],
    /// The types of partition values, by spec id.
    types: HashMap<i32, Vec<PrimitiveType>>,
}

impl<'t> FilesSerializer<'t> {
    pub(super) fn new(metadata: &TableMetadata, stats: &'t [i32]) -> Self {
        let specs = metadata.partition_specs_iter();
        let types = specs.map(|spec| {
            let fields = spec.fields().iter();
            let types = fields.map(|field| value_type(metadata, field.source_id, field.transform));
            (spec.spec_id(), types.collect())
        });
        FilesSerializer { stats, types: types.collect() }
    }

    /// Serializes a data file with this partition spec.
    pub(super) fn file(&self, file: &DataFile, spec_id: i32) -> Value {
        let mut written = Map::new();
        let mut set = |name: &str, value: Value| {
            if !value.is_null() {
                written.insert(name.to_owned(), value);
            }
        };
        let content = file.content_type();
        set("spec-id", spec_id.into());
        set("partition", self.partition(file, spec_id));
        set("content", content_name(content).into());
        set("file-path", file.file_path().into());
        set("file-format", file.file_format().to_string().to_lowercase().into());
        set("file-size-in-bytes", file.file_size_in_bytes().into());
        set("record-count", file.record_count().into());
        set("key-metadata", file.key_metadata().map(hex).into());
        set("split-offsets", json!(file.split_offsets()));
        set("sort-order-id", json!(file.sort_order_id()));
        match content {
            DataContentType::Data => {
                set("first-row-id", json!(file.first_row_id()));
                for (name, value) in self.statistics(file) {
                    set(name, value);
                }
            }
            DataContentType::PositionDeletes => {
                set("referenced-data-file", json!(file.referenced_data_file()));
                set("content-offset", json!(file.content_offset()));
                set("content-size-in-bytes", json!(file.content_size_in_bytes()));
            }
            DataContentType::EqualityDeletes => set("equality-ids", json!(file.equality_ids())),
        }
        Value::Object(written)
    }

    fn partition(&self, file: &DataFile, spec_id: i32) -> Value {
        let types = self.types.get(&spec_id).map_or(&[][..], Vec::as_slice);
        let values = file.partition().iter().enumerate().map(|(index, value)| {
            let value = value.and_then(Literal::as_primitive_literal);
            // If the type of a partition value is not known, the value is serialized according to
            // its own type.
            let known = types.get(index).unwrap_or(&PrimitiveType::Binary);
            value.map_or(Value::Null, |value| write(&value, known))
        });
        values.collect()
    }

    fn statistics(&self, file: &DataFile) -> Vec<(&'static str, Value)> {
        if self.stats.is_empty() {
            return Vec::new();
        }
        vec![
            ("column-sizes", self.counts(file.column_sizes())),
            ("value-counts", self.counts(file.value_counts())),
            ("null-value-counts", self.counts(file.null_value_counts())),
            ("nan-value-counts", self.counts(file.nan_value_counts())),
            ("lower-bounds", self.bounds(file.lower_bounds())),
            ("upper-bounds", self.bounds(file.upper_bounds())),
        ]
    }

    fn counts(&self, counts: &HashMap<i32, u64>) -> Value {
        self.by_column(counts, |count| (*count).into())
    }

    fn bounds(&self, bounds: &HashMap<i32, Datum>) -> Value {
        self.by_column(bounds, |bound| write(bound.literal(), bound.data_type()))
    }

    fn by_column<T>(&self, values: &HashMap<i32, T>, value: impl Fn(&T) -> Value) -> Value {
        let known = self.stats.iter().filter_map(|id| Some((*id, value(values.get(id)?))));
        let (keys, values): (Vec<i32>, Vec<Value>) =
            known.filter(|(_, value)| !value.is_null()).unzip();
        json!({"keys": keys, "values": values})
    }
}

fn content_name(content: DataContentType) -> &'static str {
    match content {
        DataContentType::Data => "data",
        DataContentType::PositionDeletes => "position-deletes",
        DataContentType::EqualityDeletes => "equality-deletes",
    }
}

/// Returns the type of a partition value. The type is derived from the newest schema that has the
/// source column, because the current schema may not have it.
fn value_type(metadata: &TableMetadata, source: i32, transform: Transform) -> PrimitiveType {
    let current = std::iter::once(metadata.current_schema());
    let mut others: Vec<_> = metadata.schemas_iter().collect();
    others.sort_by_key(|schema| std::cmp::Reverse(schema.schema_id()));
    let field = current.chain(others).find_map(|schema| schema.field_by_id(source));
    let result_type = field.and_then(|field| transform.result_type(&field.field_type).ok());
    match result_type {
        Some(Type::Primitive(result_type)) => result_type,
        _ => PrimitiveType::Binary,
    }
}

/// Returns the approximate size of a value in JSON, in bytes.
pub(super) fn weight(value: &PrimitiveLiteral) -> usize {
    match value {
        PrimitiveLiteral::String(text) => text.len(),
        PrimitiveLiteral::Binary(bytes) => bytes.len() * 2,
        _ => 32,
    }
}
