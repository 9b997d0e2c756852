//! The namespace `system`: Headwater's own state as tables to read.
//!
//! The engine brings `branches`, `commits`, `tables`, `views`, and what tables are made of: `snapshots`,
//! `manifests` and `files`; other rooms add theirs as
//! [`SystemTable`]s. They are read whole each time, and nobody writes to them.

mod branches;
mod commits;
mod table_parts;
mod tables;
mod views;

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
        Arc::new(branches::Branches),
        Arc::new(commits::Commits),
        Arc::new(tables::SystemTables),
        Arc::new(views::SystemViews),
        Arc::new(table_parts::Snapshots),
        Arc::new(table_parts::Manifests),
        Arc::new(table_parts::Files),
    ]
}

/// A schema of columns that may be null where the flag says so.
fn schema(columns: &[(&str, DataType, bool)]) -> SchemaRef {
    let field = |(name, data_type, nullable): &(&str, DataType, bool)| {
        Field::new(*name, data_type.clone(), *nullable)
    };
    Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
}

/// The type of a moment.
fn moment() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// A column of moments.
fn moments(times: impl Iterator<Item = Option<Timestamp>>) -> ArrayRef {
    let micros: arrow::array::TimestampMicrosecondArray =
        times.map(|time| time.map(|time| time.timestamp_micros())).collect();
    Arc::new(micros.with_timezone("UTC"))
}

/// One batch of a schema.
fn batch(schema: SchemaRef, columns: Vec<ArrayRef>) -> Result<Vec<RecordBatch>, Problem> {
    let batch = RecordBatch::try_new(schema, columns)
        .map_err(|error| Problem::new(ErrorCode::Internal, error.to_string()))?;
    Ok(vec![batch])
}
