//! Iceberg delete files as other engines write them: Parquet and Puffin files, and a snapshot that
//! adds them.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use bytes::Bytes;
use headwater_tables::{DataFile, FIELD_ID, Table, Tables};
use iceberg::io::FileIO;
use iceberg::spec::{
    DataContentType, DataFileBuilder, DataFileFormat, FormatVersion, Literal, MAIN_BRANCH,
    ManifestContentType, ManifestFile, ManifestList, ManifestListWriter, ManifestWriterBuilder,
    Operation, Snapshot, Struct, Summary, TableMetadata,
};
use parquet::arrow::ArrowWriter;
use roaring::RoaringTreemap;
use serde_json::Value;

use crate::fixture::{Warehouse, json_batch};

/// A data file or delete file of another engine.
pub struct Foreign {
    location: String,
    content: Bytes,
    builder: DataFileBuilder,
    spec_id: i32,
    is_data: bool,
}

fn parquet_of(batch: &RecordBatch) -> Bytes {
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(batch).unwrap();
    writer.into_inner().unwrap().into()
}

fn builder(
    content: DataContentType,
    format: DataFileFormat,
    rows: usize,
    bytes: usize,
) -> DataFileBuilder {
    let mut builder = DataFileBuilder::default();
    builder
        .content(content)
        .file_format(format)
        .record_count(rows as u64)
        .file_size_in_bytes(bytes as u64);
    builder
}

fn new_location(table: &Table, ending: &str) -> String {
    format!("{}/data/{}.{ending}", table.location(), uuid::Uuid::new_v4())
}

impl Foreign {
    /// Creates a position delete file.
    pub fn positions(table: &Table, rows: &[(&DataFile, i64)]) -> Self {
        let field = |name: &str, data_type, id: i32| {
            let id = [(FIELD_ID.to_owned(), id.to_string())];
            Field::new(name, data_type, false).with_metadata(id.into())
        };
        let schema = Schema::new(vec![
            field("file_path", DataType::Utf8, 2_147_483_546),
            field("pos", DataType::Int64, 2_147_483_545),
        ]);
        let files = StringArray::from_iter_values(rows.iter().map(|(file, _)| &file.location));
        let places = Int64Array::from_iter_values(rows.iter().map(|(_, row)| *row));
        let columns: Vec<arrow::array::ArrayRef> = vec![Arc::new(files), Arc::new(places)];
        let content = parquet_of(&RecordBatch::try_new(Arc::new(schema), columns).unwrap());
        let builder = builder(
            DataContentType::PositionDeletes,
            DataFileFormat::Parquet,
            rows.len(),
            content.len(),
        );
        Foreign {
            location: new_location(table, "parquet"),
            content,
            builder,
            spec_id: 0,
            is_data: false,
        }
    }

    /// Creates a data file of integers without field ids.
    pub fn data(table: &Table, columns: &[(&str, &[i64])]) -> Self {
        let column = |(name, values): &(&str, &[i64])| {
            let values = Arc::new(Int64Array::from(values.to_vec())) as arrow::array::ArrayRef;
            ((*name).to_owned(), values)
        };
        let batch = RecordBatch::try_from_iter(columns.iter().map(column)).unwrap();
        let content = parquet_of(&batch);
        let (rows, bytes) = (batch.num_rows(), content.len());
        let builder = builder(DataContentType::Data, DataFileFormat::Parquet, rows, bytes);
        let location = new_location(table, "parquet");
        Foreign { location, content, builder, spec_id: 0, is_data: true }
    }

    /// Creates an equality delete file for some of the table's columns.
    pub fn equality(table: &Table, columns: &[&str], rows: &Value) -> Self {
        let schema = table.schema();
        let fields: Vec<Field> = columns
            .iter()
            .map(|name| schema.field_with_name(name).unwrap().clone().with_nullable(true))
            .collect();
        let ids = fields.iter().map(|field| field.metadata()[FIELD_ID].parse().unwrap());
        let ids: Vec<i32> = ids.collect();
        let batch = json_batch(&Arc::new(Schema::new(fields)), rows);
        let content = parquet_of(&batch);
        let mut builder = builder(
            DataContentType::EqualityDeletes,
            DataFileFormat::Parquet,
            batch.num_rows(),
            content.len(),
        );
        builder.equality_ids(Some(ids));
        Foreign {
            location: new_location(table, "parquet"),
            content,
            builder,
            spec_id: 0,
            is_data: false,
        }
    }

    /// Creates a deletion vector in a file without Puffin's header and footer.
    pub fn vector(table: &Table, of: &DataFile, rows: &[u64]) -> Self {
        let mut framed = vec![0xD1, 0xD3, 0x39, 0x64];
        rows.iter().copied().collect::<RoaringTreemap>().serialize_into(&mut framed).unwrap();
        let mut content = b"PFA1".to_vec();
        content.extend((framed.len() as u32).to_be_bytes());
        content.extend(&framed);
        content.extend(crc32fast::hash(&framed).to_be_bytes());
        let mut builder = builder(
            DataContentType::PositionDeletes,
            DataFileFormat::Puffin,
            rows.len(),
            content.len(),
        );
        builder
            .referenced_data_file(Some(of.location.clone()))
            .content_offset(Some(4))
            .content_size_in_bytes(Some(framed.len() as i64 + 8));
        Foreign {
            location: new_location(table, "puffin"),
            content: content.into(),
            builder,
            spec_id: 0,
            is_data: false,
        }
    }

    /// Sets the data file to which the delete file refers.
    pub fn about(mut self, file: &DataFile) -> Self {
        self.builder.referenced_data_file(Some(file.location.clone()));
        self
    }

    /// Sets the partition of the file, for a table partitioned by one string column.
    pub fn within(self, value: &str) -> Self {
        self.within_value(Literal::string(value))
    }

    /// Sets the partition of the file, for a table partitioned by one column.
    pub fn within_value(mut self, value: Literal) -> Self {
        self.builder.partition(Struct::from_iter([Some(value)]));
        self
    }

    /// Creates a data file with field ids, but metrics of only the `measured` columns. Iceberg's
    /// writers create such files for tables with more than a hundred columns.
    pub fn half_measured(batch: &RecordBatch, table: &Table, measured: &[i32]) -> Self {
        let content = parquet_of(batch);
        let (rows, bytes) = (batch.num_rows(), content.len());
        let mut builder = builder(DataContentType::Data, DataFileFormat::Parquet, rows, bytes);
        builder.column_sizes(measured.iter().map(|id| (*id, 10)).collect());
        builder.value_counts(measured.iter().map(|id| (*id, rows as u64)).collect());
        let location = new_location(table, "parquet");
        Foreign { location, content, builder, spec_id: 0, is_data: true }
    }
}

/// Returns the table after another engine has added the files.
pub async fn commit(
    warehouse: &Warehouse,
    table: &Table,
    deletes: Vec<Foreign>,
    version: FormatVersion,
) -> Table {
    let tables = &warehouse.tables;
    let content = tables.files().read(table.metadata_location()).await.unwrap();
    let mut metadata: TableMetadata = serde_json::from_slice(&content).unwrap();
    if version != metadata.format_version() {
        let builder = metadata.into_builder(None).upgrade_format_version(version).unwrap();
        metadata = builder.build().unwrap().metadata;
    }
    let id = metadata.next_sequence_number() + 1000;
    let mut listed = listed(tables, &metadata).await;
    let folder = format!("{}/metadata", table.location());
    for (number, delete) in deletes.into_iter().enumerate() {
        let location = format!("{folder}/foreign-{id}-{number}.avro");
        listed.push(manifest(tables, &metadata, delete, &location, (id, version)).await);
    }
    let list = format!("{folder}/foreign-{id}-list.avro");
    let number = metadata.next_sequence_number();
    let ids = (id, metadata.current_snapshot_id(), number);
    let (first, rows) = (metadata.next_row_id(), unnumbered_rows(&listed));
    write_list(tables, listed, &list, ids, (version, first)).await;
    let summary = Summary { operation: Operation::Delete, additional_properties: HashMap::new() };
    let snapshot = Snapshot::builder()
        .with_snapshot_id(id)
        .with_parent_snapshot_id(metadata.current_snapshot_id())
        .with_sequence_number(number)
        .with_timestamp_ms(metadata.last_updated_ms())
        .with_manifest_list(&list)
        .with_summary(summary)
        .with_schema_id(metadata.current_schema_id());
    let snapshot = match version {
        FormatVersion::V3 => snapshot.with_row_range(first, rows).build(),
        _ => snapshot.build(),
    };
    let builder = metadata.into_builder(None).set_branch_snapshot(snapshot, MAIN_BRANCH).unwrap();
    let metadata = builder.build().unwrap().metadata;
    let location = format!("{folder}/foreign-{id}.metadata.json");
    let content = serde_json::to_vec(&metadata).unwrap();
    tables.files().write(&location, content.into()).await.unwrap();
    tables.load(&location).await.unwrap()
}

/// Returns the number of rows in manifests that have no first row id.
fn unnumbered_rows(listed: &[ManifestFile]) -> u64 {
    let new = listed.iter().filter(|manifest| {
        manifest.content == ManifestContentType::Data && manifest.first_row_id.is_none()
    });
    let rows = |count: Option<u64>| count.unwrap_or_default();
    new.map(|one| rows(one.added_rows_count) + rows(one.existing_rows_count)).sum()
}

async fn listed(tables: &Tables, metadata: &TableMetadata) -> Vec<ManifestFile> {
    let Some(snapshot) = metadata.current_snapshot() else { return Vec::new() };
    let content = tables.files().read(snapshot.manifest_list()).await.unwrap();
    let parse = |version| ManifestList::parse_with_version(&content, version);
    let list = parse(metadata.format_version()).or_else(|_| parse(FormatVersion::V2)).unwrap();
    list.consume_entries().into_iter().collect()
}

async fn manifest(
    tables: &Tables,
    metadata: &TableMetadata,
    mut delete: Foreign,
    location: &str,
    (id, version): (i64, FormatVersion),
) -> ManifestFile {
    tables.files().write(&delete.location, delete.content).await.unwrap();
    let memory = FileIO::new_with_memory();
    let output = memory.new_output("memory:/file").unwrap();
    let schema = metadata.current_schema().clone();
    let spec = metadata.partition_spec_by_id(delete.spec_id).unwrap().as_ref().clone();
    let writer = ManifestWriterBuilder::new(output, Some(id), schema, spec);
    let mut writer = match version {
        FormatVersion::V3 if delete.is_data => writer.build_v3_data(),
        FormatVersion::V3 => writer.build_v3_deletes(),
        _ if delete.is_data => writer.build_v2_data(),
        _ => writer.build_v2_deletes(),
    };
    let file = delete.builder.file_path(delete.location).partition_spec_id(delete.spec_id);
    writer.add_file(file.build().unwrap(), -1).unwrap();
    let mut manifest = writer.write_manifest_file().await.unwrap();
    location.clone_into(&mut manifest.manifest_path);
    let content = memory.new_input("memory:/file").unwrap().read().await.unwrap();
    tables.files().write(location, content).await.unwrap();
    manifest
}

async fn write_list(
    tables: &Tables,
    listed: Vec<ManifestFile>,
    location: &str,
    (id, parent, number): (i64, Option<i64>, i64),
    (version, first): (FormatVersion, u64),
) {
    let memory = FileIO::new_with_memory();
    let output = memory.new_output("memory:/file").unwrap().writer().await.unwrap();
    let mut writer = match version {
        FormatVersion::V3 => ManifestListWriter::v3(output, id, parent, number, Some(first)),
        _ => ManifestListWriter::v2(output, id, parent, number),
    };
    writer.add_manifests(listed.into_iter()).unwrap();
    writer.close().await.unwrap();
    let content = memory.new_input("memory:/file").unwrap().read().await.unwrap();
    tables.files().write(location, content).await.unwrap();
}
