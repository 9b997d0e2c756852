//! Converts Arrow schemas to Iceberg schemas with new field ids, and Iceberg schemas to Arrow
//! schemas.
//!
//! This module uses the Arrow version of the workspace. The `iceberg` crate may use another
//! version, so no Arrow types are passed to it.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};
use iceberg::spec::{
    ListType, MapType, MappedField, NameMapping, NestedField, NestedFieldRef, PrimitiveType,
    StructType, Type,
};

use super::name::{map_of, timestamptz, timestamptz_ns};
use super::{EXTENSION_NAME, UUID_EXTENSION, is_uuid};
use crate::column_defaults::{INITIAL, WRITE, literal_of_text, text_of};
use crate::{COMMENT, Error, FIELD_ID, NAMES, Result, foreign_types};

/// Assigns field ids to Arrow columns level by level, so that top-level columns have the lowest
/// ids.
pub struct FieldIdAllocator {
    last: i32,
}

impl FieldIdAllocator {
    /// Creates a sequence of ids, the first of which follows `last`.
    pub fn after(last: i32) -> Self {
        FieldIdAllocator { last }
    }

    fn next(&mut self) -> i32 {
        self.last += 1;
        self.last
    }

    /// Converts normalized Arrow fields to Iceberg fields. A field with the same name and type as a
    /// field of `base` keeps the id of that field.
    pub fn assign(
        &mut self,
        fields: &Fields,
        base: Option<&StructType>,
    ) -> Result<Vec<NestedFieldRef>> {
        let known: Vec<_> = fields.iter().map(|field| same_field(field, base)).collect();
        let ids: Vec<_> =
            known.iter().map(|known| known.map_or_else(|| self.next(), |base| base.id)).collect();
        let converted = fields.iter().zip(ids).zip(&known).map(|((field, id), known)| {
            let field_type = self.convert(field, known.map(|base| base.field_type.as_ref()))?;
            let mut nested_field =
                NestedField::new(id, field.name(), field_type, !field.is_nullable());
            nested_field.doc = field.metadata().get(COMMENT).cloned();
            let default =
                |key: &str| literal_of_text(field.metadata().get(key)?, &nested_field.field_type);
            (nested_field.initial_default, nested_field.write_default) =
                (default(INITIAL), default(WRITE));
            Ok(nested_field.into())
        });
        converted.collect()
    }

    fn convert(&mut self, field: &Field, base: Option<&Type>) -> Result<Type> {
        match (field.data_type(), base) {
            (DataType::Struct(fields), base) => {
                let base = base.and_then(as_struct);
                Ok(StructType::new(self.assign(fields, base)?).into())
            }
            (DataType::List(element), base) => {
                let base = base.and_then(|base| match base {
                    Type::List(list) => Some(list.element_field.as_ref()),
                    _ => None,
                });
                let (id, element_type) = self.part(element, base)?;
                let required = !element.is_nullable();
                Ok(ListType::new(NestedField::list_element(id, element_type, required).into())
                    .into())
            }
            (DataType::Map(entries, _), base) => self.convert_map(entries, base),
            _ => primitive_type(field).map(Type::Primitive),
        }
    }

    fn convert_map(&mut self, entries: &Field, base: Option<&Type>) -> Result<Type> {
        let (key, value) = entry_fields(entries)?;
        let base = base.and_then(|base| match base {
            Type::Map(map) => Some(map),
            _ => None,
        });
        let (key_id, key_type) = self.part(key, base.map(|map| map.key_field.as_ref()))?;
        let (value_id, value_type) = self.part(value, base.map(|map| map.value_field.as_ref()))?;
        Ok(MapType::new(
            NestedField::map_key_element(key_id, key_type).into(),
            NestedField::map_value_element(value_id, value_type, !value.is_nullable()).into(),
        )
        .into())
    }

    /// Returns the id and type of a list's element, or of a map's key or value.
    fn part(&mut self, field: &Field, base: Option<&NestedField>) -> Result<(i32, Type)> {
        let base = base.filter(|base| same_type(field, &base.field_type));
        let id = base.map_or_else(|| self.next(), |base| base.id);
        Ok((id, self.convert(field, base.map(|base| base.field_type.as_ref()))?))
    }
}

fn as_struct(base: &Type) -> Option<&StructType> {
    match base {
        Type::Struct(base) => Some(base),
        _ => None,
    }
}

/// Returns the field of `base` with the same name and type.
fn same_field<'a>(field: &Field, base: Option<&'a StructType>) -> Option<&'a NestedField> {
    let known = base?.fields().iter().find(|known| known.name == *field.name())?;
    same_type(field, &known.field_type).then_some(known)
}

/// Returns true if a field has the type `known`. A field keeps the id of a field with the same
/// type. Two structs, lists or maps count as the same type, because their nested fields have their
/// own ids.
fn same_type(field: &Field, known: &Type) -> bool {
    match (field.data_type(), known) {
        (DataType::Struct(_), Type::Struct(_))
        | (DataType::List(_), Type::List(_))
        | (DataType::Map(..), Type::Map(_)) => true,
        (_, Type::Primitive(known)) => primitive_type(field).is_ok_and(|found| found == *known),
        _ => false,
    }
}

/// Returns the key and value fields in a map's entries.
pub fn entry_fields(entries: &Field) -> Result<(&FieldRef, &FieldRef)> {
    match entries.data_type() {
        DataType::Struct(fields) if fields.len() == 2 => Ok((&fields[0], &fields[1])),
        other => Err(Error::internal("typed", format!("a map's entries have type `{other}`"))),
    }
}

/// Returns the Iceberg type of a primitive column.
pub fn primitive_type(field: &Field) -> Result<PrimitiveType> {
    if let Some(foreign) = foreign_types::primitive_of(field) {
        return Ok(foreign);
    }
    Ok(match field.data_type() {
        DataType::Boolean => PrimitiveType::Boolean,
        DataType::Int32 => PrimitiveType::Int,
        DataType::Int64 => PrimitiveType::Long,
        DataType::Float32 => PrimitiveType::Float,
        DataType::Float64 => PrimitiveType::Double,
        DataType::Decimal128(precision, scale) => {
            PrimitiveType::Decimal { precision: u32::from(*precision), scale: *scale as u32 }
        }
        DataType::Date32 => PrimitiveType::Date,
        DataType::Time64(TimeUnit::Microsecond) => PrimitiveType::Time,
        DataType::Timestamp(TimeUnit::Microsecond, None) => PrimitiveType::Timestamp,
        DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => PrimitiveType::Timestamptz,
        DataType::Timestamp(TimeUnit::Nanosecond, None) => PrimitiveType::TimestampNs,
        DataType::Timestamp(TimeUnit::Nanosecond, Some(_)) => PrimitiveType::TimestamptzNs,
        DataType::Utf8 => PrimitiveType::String,
        DataType::Binary => PrimitiveType::Binary,
        DataType::FixedSizeBinary(_) if is_uuid(field) => PrimitiveType::Uuid,
        DataType::FixedSizeBinary(width) => PrimitiveType::Fixed(*width as u64),
        other => {
            let column = field.name().clone();
            return Err(Error::UnsupportedType { column, data_type: other.to_string() });
        }
    })
}

/// Returns the Arrow schema of Iceberg fields. The metadata of each field contains its id.
pub fn arrow_schema(fields: &[NestedFieldRef]) -> SchemaRef {
    Arc::new(Schema::new(fields.iter().map(|field| arrow_field(field)).collect::<Vec<_>>()))
}

/// Adds the names of the table's name mapping to the fields. In a file without field ids, columns
/// are found by these names. Such a file lacks all columns that are not in the mapping.
pub fn with_names(schema: &SchemaRef, mapping: Option<&str>) -> SchemaRef {
    let mapping = mapping.and_then(|text| serde_json::from_str::<NameMapping>(text).ok());
    let Some(mapping) = mapping else { return schema.clone() };
    let mut names = HashMap::new();
    mapping.fields().iter().for_each(|field| collect_names(field, &mut names));
    let fields: Fields = schema.fields().iter().map(|field| named_field(field, &names)).collect();
    Arc::new(Schema::new(fields))
}

fn collect_names(field: &MappedField, names: &mut HashMap<i32, Vec<String>>) {
    if let Some(id) = field.field_id() {
        names.insert(id, field.names().to_vec());
    }
    field.fields().iter().for_each(|part| collect_names(part, names));
}

fn named_field(field: &FieldRef, names: &HashMap<i32, Vec<String>>) -> FieldRef {
    let parts = |fields: &Fields| fields.iter().map(|part| named_field(part, names)).collect();
    let data_type = match field.data_type() {
        DataType::Struct(fields) => DataType::Struct(parts(fields)),
        DataType::List(element) => DataType::List(named_field(element, names)),
        DataType::Map(entries, sorted) => {
            let pairs = match entries.data_type() {
                DataType::Struct(pairs) => DataType::Struct(parts(pairs)),
                other => other.clone(),
            };
            let entries = entries.as_ref().clone().with_data_type(pairs);
            DataType::Map(Arc::new(entries), *sorted)
        }
        other => other.clone(),
    };
    let known = field_id(field).and_then(|id| names.get(&id)).cloned().unwrap_or_default();
    let mut metadata = field.metadata().clone();
    metadata.insert(NAMES.to_owned(), serde_json::json!(known).to_string());
    Arc::new(field.as_ref().clone().with_data_type(data_type).with_metadata(metadata))
}

/// Returns a column's names in the name mapping; `None` if the table has no mapping.
pub fn names_of(field: &Field) -> Option<Vec<String>> {
    serde_json::from_str(field.metadata().get(NAMES)?).ok()
}

/// Returns the Arrow field of an Iceberg field.
pub fn arrow_field(field: &NestedField) -> Field {
    let mut metadata = HashMap::from([(FIELD_ID.to_owned(), field.id.to_string())]);
    if *field.field_type == Type::Primitive(PrimitiveType::Uuid) {
        metadata.insert(EXTENSION_NAME.to_owned(), UUID_EXTENSION.to_owned());
    }
    for (key, default) in [(INITIAL, &field.initial_default), (WRITE, &field.write_default)] {
        let text = default.as_ref().and_then(|default| text_of(default, &field.field_type));
        metadata.extend(text.map(|text| (key.to_owned(), text)));
    }
    metadata.extend(field.doc.clone().map(|comment| (COMMENT.to_owned(), comment)));
    metadata.extend(foreign_types::metadata_of(field));
    Field::new(&field.name, arrow_type(&field.field_type), !field.required).with_metadata(metadata)
}

/// Returns the Arrow type of an Iceberg type.
pub fn arrow_type(field_type: &Type) -> DataType {
    match field_type {
        Type::Primitive(primitive) => arrow_primitive(primitive),
        Type::Struct(fields) => {
            let fields: Vec<_> = fields.fields().iter().map(|field| arrow_field(field)).collect();
            DataType::Struct(fields.into())
        }
        Type::List(list) => {
            let element = arrow_field(&list.element_field).with_name("element");
            DataType::List(Arc::new(element))
        }
        Type::Map(map) => map_of(
            arrow_field(&map.key_field).with_name("key").with_nullable(false),
            arrow_field(&map.value_field).with_name("value"),
        ),
    }
}

/// Returns the Arrow type of an Iceberg primitive.
pub fn arrow_primitive(primitive: &PrimitiveType) -> DataType {
    match primitive {
        // Values of foreign types are never read. The type itself is in the metadata of the field.
        foreign if foreign_types::foreign(foreign).is_some() => DataType::Binary,
        PrimitiveType::Boolean => DataType::Boolean,
        PrimitiveType::Int => DataType::Int32,
        PrimitiveType::Long => DataType::Int64,
        PrimitiveType::Float => DataType::Float32,
        PrimitiveType::Double => DataType::Float64,
        PrimitiveType::Decimal { precision, scale } => {
            DataType::Decimal128(*precision as u8, *scale as i8)
        }
        PrimitiveType::Date => DataType::Date32,
        PrimitiveType::Time => DataType::Time64(TimeUnit::Microsecond),
        PrimitiveType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
        PrimitiveType::Timestamptz => timestamptz(),
        PrimitiveType::TimestampNs => DataType::Timestamp(TimeUnit::Nanosecond, None),
        PrimitiveType::TimestamptzNs => timestamptz_ns(),
        PrimitiveType::String => DataType::Utf8,
        PrimitiveType::Uuid => DataType::FixedSizeBinary(16),
        PrimitiveType::Fixed(width) => DataType::FixedSizeBinary(*width as i32),
        PrimitiveType::Binary => DataType::Binary,
    }
}

/// Returns the Iceberg id in a field's metadata.
pub fn field_id(field: &Field) -> Option<i32> {
    field.metadata().get(FIELD_ID)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::parse_type;

    fn schema(columns: &[(&str, &str)]) -> Fields {
        let fields =
            columns.iter().map(|(name, text)| Field::new(*name, parse_type(text).unwrap(), true));
        fields.collect()
    }

    fn ids(fields: &[NestedFieldRef]) -> Vec<(String, i32)> {
        fields.iter().map(|field| (field.name.clone(), field.id)).collect()
    }

    #[test]
    fn top_level_columns_get_the_lowest_ids() {
        let fields = schema(&[("a", "struct<x: int, y: list<int>>"), ("b", "long")]);
        let assigned = FieldIdAllocator::after(0).assign(&fields, None).unwrap();
        assert_eq!(ids(&assigned), [("a".to_owned(), 1), ("b".to_owned(), 2)]);
        let arrow = arrow_schema(&assigned);
        let DataType::Struct(parts) = arrow.field(0).data_type() else { panic!("no struct") };
        assert_eq!(parts.iter().map(|part| field_id(part)).collect::<Vec<_>>(), [Some(3), Some(4)]);
        let DataType::List(element) = parts[1].data_type() else { panic!("no list") };
        assert_eq!(field_id(element), Some(5));
    }

    #[test]
    fn a_column_keeps_its_id_only_if_its_type_is_the_same() {
        let old = FieldIdAllocator::after(0)
            .assign(&schema(&[("a", "int"), ("b", "int")]), None)
            .unwrap();
        let old = StructType::new(old);
        let fields = schema(&[("b", "int"), ("c", "int"), ("a", "string")]);
        let new = FieldIdAllocator::after(2).assign(&fields, Some(&old)).unwrap();
        assert_eq!(ids(&new), [("b".to_owned(), 2), ("c".to_owned(), 3), ("a".to_owned(), 4)]);
    }

    #[test]
    fn every_type_is_converted_back() {
        let fields = schema(&[
            ("a", "boolean"),
            ("b", "decimal(9, 2)"),
            ("c", "time"),
            ("d", "timestamptz"),
            ("e", "fixed[3]"),
            ("f", "map<string, list<double>>"),
            ("g", "timestamp_ns"),
            ("h", "timestamptz_ns"),
        ]);
        let back = arrow_schema(&FieldIdAllocator::after(0).assign(&fields, None).unwrap());
        for (before, after) in fields.iter().zip(back.fields()) {
            assert_eq!(
                crate::types::type_name(before.data_type()),
                crate::types::type_name(after.data_type())
            );
        }
    }
}
