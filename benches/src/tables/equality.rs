//! Reads of a table with 500 equality-delete files, as streaming engines write them, compared with
//! the same table after compaction.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::Schema;
use headwater_lake::Lake;
use headwater_model::{RefSpec, TableName};
use headwater_tables::{FIELD_ID, Table};
use iceberg::io::FileIO;
use iceberg::spec::{
    DataContentType, DataFile, DataFileBuilder, DataFileFormat, FormatVersion, MAIN_BRANCH,
    ManifestFile, ManifestList, ManifestListWriter, ManifestWriterBuilder, Operation, Snapshot,
    Summary, TableMetadata,
};
use parquet::arrow::ArrowWriter;

use super::{answer, append, create, engine, number};
use crate::Outcome;
use crate::report::Report;
use crate::sample::median;

const ROWS: i64 = 2_000_000;
const DATA_FILES: i64 = 8;
const DELETE_FILES: i64 = 500;
const ROWS_EACH: i64 = 200;
const ROUNDS: usize = 15;

/// Measures the reads before and after compaction, and adds the results to the report.
pub async fn measure(report: &mut Report) -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let lake = Lake::open_local(folder.path()).await?;
    let table: TableName = "changed".parse()?;
    create(&lake, std::slice::from_ref(&table), &[]).await?;
    let each = ROWS / DATA_FILES;
    for file in 0..DATA_FILES {
        let values: Vec<i64> = (file * each..(file + 1) * each).collect();
        append(&lake, "main", std::slice::from_ref(&table), &values).await?;
    }
    delete(&lake, &table).await?;
    let engine = engine(&lake, folder.path())?;
    let left = number(&engine, "SELECT count(*) FROM deleted").await?;
    if left != ROWS - DELETE_FILES * ROWS_EACH {
        return Err(format!("{left} rows are left").into());
    }
    answer(&engine, "CREATE TABLE compacted AS SELECT * FROM deleted").await?;
    let (mut ours, mut reference) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        for (name, times) in [("deleted", &mut ours), ("compacted", &mut reference)] {
            let sql = format!("SELECT sum(value % 7) FROM {name}");
            let began = Instant::now();
            number(&engine, &sql).await?;
            times.push(began.elapsed());
        }
    }
    let what = "read with 500 equality-delete files";
    report.ratio(what, median(ours), ("the same table, compacted", median(reference)), 2.0);
    Ok(())
}

/// Writes equality deletes, as another engine does, and registers the resulting table.
async fn delete(lake: &Lake, name: &TableName) -> Outcome<()> {
    let view = lake.view(&RefSpec::main()).await?;
    let table = view.table(name).await?;
    let mut made = Vec::new();
    for number in 0..DELETE_FILES {
        // Spread the deleted rows over the whole table, as streaming updates do.
        let step = ROWS / ROWS_EACH;
        let values = (0..ROWS_EACH).map(|row| row * step + number);
        made.push(delete_file(lake, &table, values.collect()).await?);
    }
    let location = commit(lake, &table, made).await?;
    let mut transaction = lake.transaction("main", "bench").await?;
    transaction.drop(name, false).await?;
    transaction.commit("drop the table").await?;
    let mut transaction = lake.transaction("main", "bench").await?;
    transaction.iceberg_rest().register(&"deleted".parse()?, &location, false).await?;
    transaction.commit("register the table with equality deletes").await?;
    Ok(())
}

async fn delete_file(lake: &Lake, table: &Table, values: Vec<i64>) -> Outcome<DataFile> {
    let field = table.schema().field_with_name("value")?.clone();
    let id: i32 = field.metadata()[FIELD_ID].parse()?;
    let rows = values.len() as u64;
    let column = Arc::new(Int64Array::from(values));
    let batch = RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![column])?;
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None)?;
    writer.write(&batch)?;
    let content = writer.into_inner()?;
    let location = format!("{}/data/{}.parquet", table.location(), uuid::Uuid::new_v4());
    let mut file = DataFileBuilder::default();
    file.content(DataContentType::EqualityDeletes)
        .file_format(DataFileFormat::Parquet)
        .file_path(location.clone())
        .partition_spec_id(0)
        .record_count(rows)
        .file_size_in_bytes(content.len() as u64)
        .equality_ids(Some(vec![id]));
    lake.tables().files().write(&location, content.into()).await?;
    Ok(file.build()?)
}

/// Writes the metadata of a snapshot with the delete files, and returns its location.
async fn commit(lake: &Lake, table: &Table, deletes: Vec<DataFile>) -> Outcome<String> {
    let tables = lake.tables();
    let content = tables.files().read(table.metadata_location()).await?;
    let metadata: TableMetadata = serde_json::from_slice(&content)?;
    let current = metadata.current_snapshot().ok_or("no snapshot")?.clone();
    let content = tables.files().read(current.manifest_list()).await?;
    let list = ManifestList::parse_with_version(&content, FormatVersion::V2)?;
    let mut listed: Vec<ManifestFile> = list.consume_entries().into_iter().collect();
    let (id, number) = (metadata.next_sequence_number() + 1000, metadata.next_sequence_number());
    let folder = format!("{}/metadata", table.location());
    let memory = FileIO::new_with_memory();

    let place = "memory:/deletes.avro";
    let writer = ManifestWriterBuilder::new(
        memory.new_output(place)?,
        Some(id),
        metadata.current_schema().clone(),
        metadata.default_partition_spec().as_ref().clone(),
    );
    let mut writer = writer.build_v2_deletes();
    for delete in deletes {
        writer.add_file(delete, -1)?;
    }
    let mut manifest = writer.write_manifest_file().await?;
    manifest.manifest_path = format!("{folder}/bench-deletes.avro");
    tables.files().write(&manifest.manifest_path, memory.new_input(place)?.read().await?).await?;
    listed.push(manifest);

    let place = "memory:/list.avro";
    let parent = metadata.current_snapshot_id();
    let mut writer =
        ManifestListWriter::v2(memory.new_output(place)?.writer().await?, id, parent, number);
    writer.add_manifests(listed.into_iter())?;
    writer.close().await?;
    let list = format!("{folder}/bench-list.avro");
    tables.files().write(&list, memory.new_input(place)?.read().await?).await?;
    let summary = Summary { operation: Operation::Delete, additional_properties: HashMap::new() };
    let snapshot = Snapshot::builder()
        .with_snapshot_id(id)
        .with_parent_snapshot_id(parent)
        .with_sequence_number(number)
        .with_timestamp_ms(metadata.last_updated_ms())
        .with_manifest_list(&list)
        .with_summary(summary)
        .with_schema_id(metadata.current_schema_id())
        .build();
    let builder = metadata.into_builder(None).set_branch_snapshot(snapshot, MAIN_BRANCH)?;
    let location = format!("{folder}/bench.metadata.json");
    let content = serde_json::to_vec(&builder.build()?.metadata)?;
    tables.files().write(&location, content.into()).await?;
    Ok(location)
}
