//! Tests of manifests as other engines write them.

use std::sync::Arc;

use iceberg::spec::{
    DataContentType, DataFile, DataFileBuilder, DataFileFormat, FormatVersion, Literal,
    ManifestContentType, NestedField, PartitionSpec, PrimitiveType, Schema, Struct, Transform,
    Type,
};
use serde_json::{Value, json};

use super::*;
use crate::avro::with_header;

fn schema(columns: &[(i32, &str, PrimitiveType)]) -> SchemaRef {
    let fields = columns.iter().map(|(id, name, data_type)| {
        Arc::new(NestedField::optional(*id, *name, Type::Primitive(data_type.clone())))
    });
    Arc::new(Schema::builder().with_fields(fields).build().unwrap())
}

/// Returns a partition spec by column `b`, which has id 2.
fn by_b(schema: &SchemaRef) -> PartitionSpec {
    let spec = PartitionSpec::builder(schema.clone()).with_spec_id(3);
    spec.add_partition_field("b", "b", Transform::Identity).unwrap().build().unwrap()
}

fn file(partition: Literal) -> DataFile {
    DataFileBuilder::default()
        .content(DataContentType::Data)
        .file_path("file:///w/t/data/1.parquet".to_owned())
        .file_format(DataFileFormat::Parquet)
        .partition(Struct::from_iter([Some(partition)]))
        .record_count(7)
        .file_size_in_bytes(1000)
        .build()
        .unwrap()
}

fn snapshot() -> SnapshotIds {
    let version = FormatVersion::V3;
    SnapshotIds { id: 1, parent: None, sequence_number: 1, version, first_row_id: 0 }
}

/// Encodes a manifest of one file with this partition value of `b`.
async fn manifest(data_type: PrimitiveType, value: Literal) -> EncodedManifest {
    let schema = schema(&[(1, "a", PrimitiveType::Int), (2, "b", data_type)]);
    let changes = vec![NewManifestEntry::Added(Box::new(file(value)))];
    let spec = Arc::new(by_b(&schema));
    let new = NewManifest { content: ManifestContentType::Data, schema, spec, changes };
    encode(new, "file:///w/t/metadata/m.avro", snapshot()).await.unwrap()
}

fn partition_of(decoded: &DecodedManifest) -> (String, Option<Literal>) {
    let file = decoded.live[0].data_file();
    let types = decoded.partition_type.fields();
    (types[0].field_type.to_string(), file.partition().iter().next().flatten().cloned())
}

#[tokio::test]
async fn a_dropped_partition_column_has_its_avro_type() {
    for (data_type, value) in [
        (PrimitiveType::Int, Literal::int(5)),
        (PrimitiveType::Date, Literal::date(5)),
        (PrimitiveType::Timestamp, Literal::timestamp(5)),
        (PrimitiveType::String, Literal::string("five")),
        (PrimitiveType::Uuid, Literal::uuid(uuid::Uuid::from_u128(5))),
        (PrimitiveType::Decimal { precision: 9, scale: 2 }, Literal::decimal(-5)),
    ] {
        let encoded = manifest(data_type.clone(), value.clone()).await;
        let without = json!(*schema(&[(1, "a", PrimitiveType::Int)])).to_string();
        let dropped = with_header(&encoded.content, |key, _| {
            (key == "schema").then(|| without.clone().into_bytes())
        });
        let decoded = decode(&encoded.file, &dropped.unwrap()).unwrap();
        assert_eq!(partition_of(&decoded), (data_type.to_string(), Some(value)));
    }
}

#[tokio::test]
async fn a_uuid_partition_is_encoded_as_specified() {
    let value = Literal::uuid(uuid::Uuid::from_u128(5));
    let encoded = manifest(PrimitiveType::Uuid, value.clone()).await;
    assert_eq!(encoded.file.manifest_length, encoded.content.len() as i64);
    let header = crate::avro::AvroFile::open(&encoded.content).unwrap();
    let avro: Value = serde_json::from_slice(header.metadata("avro.schema").unwrap()).unwrap();
    assert!(
        avro.to_string()
            .contains(r#"{"type":"fixed","name":"uuid_fixed","size":16,"logicalType":"uuid"}"#),
        "{avro}"
    );
    let schema: Value = serde_json::from_slice(header.metadata("schema").unwrap()).unwrap();
    assert_eq!(schema["fields"][1]["type"], "uuid");
    let decoded = decode(&encoded.file, &encoded.content).unwrap();
    assert_eq!(partition_of(&decoded), ("uuid".to_owned(), Some(value)));
}

#[tokio::test]
async fn a_date_partition_is_promoted_to_timestamp() {
    let encoded = manifest(PrimitiveType::Date, Literal::date(-2)).await;
    let columns = [(1, "a", PrimitiveType::Int), (2, "b", PrimitiveType::Timestamp)];
    let widened = json!(*schema(&columns)).to_string();
    let changed = with_header(&encoded.content, |key, _| {
        (key == "schema").then(|| widened.clone().into_bytes())
    });
    let decoded = decode(&encoded.file, &changed.unwrap()).unwrap();
    let midnight = Literal::timestamp(-2 * 86_400_000_000);
    assert_eq!(partition_of(&decoded), ("timestamp".to_owned(), Some(midnight)));
}

#[tokio::test]
async fn two_time_transforms_of_one_column_are_decoded() {
    let encoded = manifest(PrimitiveType::Timestamp, Literal::timestamp(0)).await;
    let spec = json!([
        {"source-id": 2, "field-id": 1000, "name": "b", "transform": "year"},
        {"source-id": 2, "field-id": 1001, "name": "c", "transform": "month"},
    ]);
    let spec = spec.to_string();
    let changed = with_header(&encoded.content, |key, _| {
        (key == "partition-spec").then(|| spec.clone().into_bytes())
    });
    // The timestamp 0 was encoded. With the changed schema, it is decoded as 0 years after 1970.
    // The manifest contains no value for the second field.
    let decoded = decode(&encoded.file, &changed.unwrap()).unwrap();
    assert_eq!(partition_of(&decoded), ("int".to_owned(), Some(Literal::int(0))));
    assert_eq!(decoded.live[0].data_file().partition().iter().nth(1), Some(None));
}
