//! What a system table is, the list of the engine's own, and the parts that they share.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use async_trait::async_trait;
use headwater_lake::View;
use headwater_model::{ErrorCode, Problem, Timestamp};

/// A table of the namespace `system`.
#[async_trait]
pub trait SystemTable: Send + Sync {
    /// Its name, without the namespace.
    fn name(&self) -> &str;

    /// Its columns.
    fn schema(&self) -> SchemaRef;

    /// Its rows, as they are seen from a commit.
    async fn batches(&self, view: &View) -> Result<Vec<RecordBatch>, Problem>;
}

/// The engine's own system tables.
pub(crate) fn own_tables() -> Vec<Arc<dyn SystemTable>> {
    vec![
        Arc::new(super::branches::Branches),
        Arc::new(super::commits::Commits),
        Arc::new(super::tables::SystemTables),
        Arc::new(super::views::SystemViews),
        Arc::new(super::table_parts::Snapshots),
        Arc::new(super::table_parts::Manifests),
        Arc::new(super::table_parts::Files),
    ]
}

/// A schema of columns that may be null where the flag says so.
pub(super) fn schema(columns: &[(&str, DataType, bool)]) -> SchemaRef {
    let field = |(name, data_type, nullable): &(&str, DataType, bool)| {
        Field::new(*name, data_type.clone(), *nullable)
    };
    Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
}

/// The type of a moment.
pub(super) fn moment() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// A column of moments.
pub(super) fn moments(times: impl Iterator<Item = Option<Timestamp>>) -> ArrayRef {
    let micros: arrow::array::TimestampMicrosecondArray =
        times.map(|time| time.map(|time| time.timestamp_micros())).collect();
    Arc::new(micros.with_timezone("UTC"))
}

/// One batch of a schema.
pub(super) fn batch(
    schema: SchemaRef,
    columns: Vec<ArrayRef>,
) -> Result<Vec<RecordBatch>, Problem> {
    let batch = RecordBatch::try_new(schema, columns)
        .map_err(|error| Problem::new(ErrorCode::Internal, error.to_string()))?;
    Ok(vec![batch])
}
