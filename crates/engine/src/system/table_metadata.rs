//! `system.snapshots`, `system.manifests` and `system.files`: Iceberg metadata of the tables at a
//! ref.

use std::future::Future;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, SchemaRef};
use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};
use headwater_lake::CommitView;
use headwater_model::{ErrorCode, Problem, TableName, ToProblem};
use headwater_tables::{ListedFile, ListedManifest, ListedSnapshot, Table, Tables};

use super::{SystemTable, schema, timestamp_column, timestamp_type};

/// Number of tables whose metadata is read concurrently.
const OPEN_AT_ONCE: usize = 16;

/// The table `system.snapshots`: the snapshots in each table's metadata.
pub(super) struct SnapshotsTable;

/// The table `system.manifests`: the manifests of each table's current snapshot.
pub(super) struct ManifestsTable;

/// The table `system.files`: the data files and delete files of each table's current snapshot.
pub(super) struct FilesTable;

#[async_trait]
impl SystemTable for SnapshotsTable {
    fn name(&self) -> &'static str {
        "snapshots"
    }

    fn schema(&self) -> SchemaRef {
        of_tables(&[
            ("snapshot", DataType::Int64, false),
            ("parent", DataType::Int64, true),
            ("sequence_number", DataType::Int64, false),
            ("made", timestamp_type(), true),
            ("operation", DataType::Utf8, false),
            ("is_current", DataType::Boolean, false),
            ("summary", DataType::Utf8, false),
            ("manifest_list", DataType::Utf8, false),
        ])
    }

    async fn batches(&self, view: &CommitView) -> Result<Vec<RecordBatch>, Problem> {
        each(view, self.schema(), |_, table| async move {
            let found: Vec<ListedSnapshot> = table.snapshots();
            let summaries = found.iter().map(|one| serde_json::to_string(&one.summary));
            let summaries = summaries
                .collect::<Result<Vec<_>, _>>()
                .map_err(|error| Problem::new(ErrorCode::Internal, error.to_string()))?;
            let current: BooleanArray = found.iter().map(|one| Some(one.is_current)).collect();
            Ok(vec![
                numbers(found.iter().map(|one| Some(one.id))),
                numbers(found.iter().map(|one| one.parent)),
                numbers(found.iter().map(|one| Some(one.sequence_number))),
                timestamp_column(found.iter().map(|one| one.made)),
                texts(found.iter().map(|one| Some(one.operation.as_str()))),
                Arc::new(current),
                Arc::new(StringArray::from(summaries)),
                texts(found.iter().map(|one| Some(one.manifest_list.as_str()))),
            ])
        })
        .await
    }
}

#[async_trait]
impl SystemTable for ManifestsTable {
    fn name(&self) -> &'static str {
        "manifests"
    }

    fn schema(&self) -> SchemaRef {
        of_tables(&[
            ("location", DataType::Utf8, false),
            ("content", DataType::Utf8, false),
            ("bytes", DataType::Int64, false),
            ("partition_spec", DataType::Int64, false),
            ("sequence_number", DataType::Int64, false),
            ("snapshot", DataType::Int64, false),
            ("files_added", DataType::Int64, true),
            ("files_existing", DataType::Int64, true),
            ("files_removed", DataType::Int64, true),
        ])
    }

    async fn batches(&self, view: &CommitView) -> Result<Vec<RecordBatch>, Problem> {
        each(view, self.schema(), |tables, table| async move {
            let found: Vec<ListedManifest> = listed(tables.list_manifests(&table).await)?;
            let content = |one: &ListedManifest| if one.holds_deletes { "deletes" } else { "data" };
            Ok(vec![
                texts(found.iter().map(|one| Some(one.location.as_str()))),
                texts(found.iter().map(|one| Some(content(one)))),
                numbers(found.iter().map(|one| Some(one.bytes))),
                numbers(found.iter().map(|one| Some(i64::from(one.partition_spec)))),
                numbers(found.iter().map(|one| Some(one.sequence_number))),
                numbers(found.iter().map(|one| Some(one.snapshot))),
                numbers(found.iter().map(|one| one.files_added.map(i64::from))),
                numbers(found.iter().map(|one| one.files_existing.map(i64::from))),
                numbers(found.iter().map(|one| one.files_removed.map(i64::from))),
            ])
        })
        .await
    }
}

#[async_trait]
impl SystemTable for FilesTable {
    fn name(&self) -> &'static str {
        "files"
    }

    fn schema(&self) -> SchemaRef {
        of_tables(&[
            ("content", DataType::Utf8, false),
            ("location", DataType::Utf8, false),
            ("format", DataType::Utf8, false),
            ("partition", DataType::Utf8, true),
            ("rows", DataType::Int64, false),
            ("bytes", DataType::Int64, false),
            ("sequence_number", DataType::Int64, false),
            ("snapshot", DataType::Int64, true),
            ("about", DataType::Utf8, true),
        ])
    }

    async fn batches(&self, view: &CommitView) -> Result<Vec<RecordBatch>, Problem> {
        each(view, self.schema(), |tables, table| async move {
            let found: Vec<ListedFile> = listed(tables.list_files(&table).await)?;
            let partition =
                |one: &'_ ListedFile| (!one.partition.is_empty()).then(|| one.partition.clone());
            let partitions: StringArray = found.iter().map(partition).collect();
            Ok(vec![
                texts(found.iter().map(|one| Some(one.content))),
                texts(found.iter().map(|one| Some(one.location.as_str()))),
                texts(found.iter().map(|one| Some(one.format.as_str()))),
                Arc::new(partitions),
                numbers(found.iter().map(|one| Some(one.rows as i64))),
                numbers(found.iter().map(|one| Some(one.bytes as i64))),
                numbers(found.iter().map(|one| Some(one.sequence_number))),
                numbers(found.iter().map(|one| one.snapshot)),
                texts(found.iter().map(|one| one.about.as_deref())),
            ])
        })
        .await
    }
}

/// Returns a schema with two columns for the table's namespace and name, followed by `columns`.
fn of_tables(columns: &[(&str, DataType, bool)]) -> SchemaRef {
    let names = [("namespace", DataType::Utf8, false), ("table", DataType::Utf8, false)];
    schema(&[&names, columns].concat())
}

/// Builds one batch for each table of the lake, and skips tables for which there are no rows.
async fn each<F>(
    view: &CommitView,
    schema: SchemaRef,
    columns: impl Fn(Tables, Table) -> F,
) -> Result<Vec<RecordBatch>, Problem>
where
    F: Future<Output = Result<Vec<ArrayRef>, Problem>>,
{
    let entries = view.list(None).await.map_err(|error| error.to_problem())?;
    let batches = stream::iter(entries)
        .map(|(name, entry)| {
            let (tables, schema) = (view.lake().tables().clone(), Arc::clone(&schema));
            let columns = &columns;
            async move {
                let table = listed(tables.load(&entry.metadata_location).await)?;
                prepend_table_name(&name, columns(tables, table).await?, schema)
            }
        })
        .buffered(OPEN_AT_ONCE);
    let batches: Vec<RecordBatch> = batches.try_collect().await?;
    Ok(batches.into_iter().filter(|batch| batch.num_rows() > 0).collect())
}

/// Prepends columns with the table's namespace and name to the columns of a batch.
fn prepend_table_name(
    name: &TableName,
    columns: Vec<ArrayRef>,
    schema: SchemaRef,
) -> Result<RecordBatch, Problem> {
    let rows = columns.first().map_or(0, |column| column.len());
    let repeated = |text: &str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(std::iter::repeat_n(text, rows)))
    };
    let names = [repeated(&name.namespace), repeated(&name.name)];
    RecordBatch::try_new(schema, names.into_iter().chain(columns).collect())
        .map_err(|error| Problem::new(ErrorCode::Internal, error.to_string()))
}

fn listed<T>(found: headwater_tables::Result<T>) -> Result<T, Problem> {
    found.map_err(|error| error.to_problem())
}

fn numbers(values: impl Iterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(values.collect::<Int64Array>())
}

fn texts<'a>(values: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
    Arc::new(values.collect::<StringArray>())
}
