//! `system.tables`: all tables at the ref, with their sizes.

use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, SchemaRef};
use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};
use headwater_lake::CommitView;
use headwater_model::{Problem, ToProblem};
use headwater_tables::Table;

use super::{SystemTable, batch, schema, timestamp_column, timestamp_type};

/// Number of tables whose metadata is loaded concurrently.
const OPEN_AT_ONCE: usize = 32;

pub(super) struct TablesTable;

#[async_trait]
impl SystemTable for TablesTable {
    fn name(&self) -> &'static str {
        "tables"
    }

    fn schema(&self) -> SchemaRef {
        schema(&[
            ("namespace", DataType::Utf8, false),
            ("name", DataType::Utf8, false),
            ("id", DataType::Utf8, false),
            ("rows", DataType::Int64, false),
            ("files", DataType::Int64, false),
            ("bytes", DataType::Int64, false),
            ("columns", DataType::Int64, false),
            ("partition", DataType::Utf8, true),
            ("snapshot", DataType::Int64, true),
            ("updated", timestamp_type(), true),
            ("metadata_location", DataType::Utf8, false),
        ])
    }

    async fn batches(&self, view: &CommitView) -> Result<Vec<RecordBatch>, Problem> {
        let listed = view.list(None).await.map_err(|error| error.to_problem())?;
        let store = view.lake().tables();
        let locations: Vec<String> =
            listed.iter().map(|(_, entry)| entry.metadata_location.clone()).collect();
        let tables: Vec<Table> = stream::iter(locations)
            .map(|location| {
                let store = store.clone();
                async move { store.load(&location).await }
            })
            .buffered(OPEN_AT_ONCE)
            .try_collect()
            .await
            .map_err(|error| error.to_problem())?;
        let names = || listed.iter().map(|(name, _)| name);
        let numbers = |number: fn(&Table) -> u64| {
            Arc::new(Int64Array::from_iter_values(tables.iter().map(|t| number(t) as i64)))
        };
        let columns = tables.iter().map(|table| table.schema().fields().len() as i64);
        let partition: StringArray = tables.iter().map(partition_text).collect();
        let snapshots: Int64Array = tables.iter().map(Table::snapshot_id).collect();
        batch(
            self.schema(),
            vec![
                Arc::new(StringArray::from_iter_values(names().map(|name| &name.namespace))),
                Arc::new(StringArray::from_iter_values(names().map(|name| &name.name))),
                Arc::new(StringArray::from_iter_values(tables.iter().map(Table::id))),
                numbers(Table::rows),
                numbers(Table::files),
                numbers(Table::bytes),
                Arc::new(Int64Array::from_iter_values(columns)),
                Arc::new(partition),
                Arc::new(snapshots),
                timestamp_column(tables.iter().map(Table::updated)),
                Arc::new(StringArray::from_iter_values(
                    tables.iter().map(Table::metadata_location),
                )),
            ],
        )
    }
}

fn partition_text(table: &Table) -> Option<String> {
    let fields: Vec<String> = table.partition().iter().map(ToString::to_string).collect();
    (!fields.is_empty()).then(|| fields.join(", "))
}
