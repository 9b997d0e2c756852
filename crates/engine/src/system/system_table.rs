//! The trait of system tables, the engine's own tables, and functions to build their batches.

use headwater_lake::CommitView;
use headwater_model::{Action, ErrorCode, Problem, Timestamp};
use std::sync::Arc;

use crate::session_rights::SessionRights;
use arrow::array::{ArrayRef, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use async_trait::async_trait;

/// A table of the namespace `system`.
#[async_trait]
pub trait SystemTable: Send + Sync {
    /// Returns the name without the namespace.
    fn name(&self) -> &str;

    /// Returns the action that a reader must be allowed to perform on the lake: by default
    /// `Administer`, because the rows may contain names of objects that are hidden from the reader.
    fn action(&self) -> Action {
        Action::Administer
    }

    /// Returns true if the table returns only the rows that the reader may see. The reader then
    /// needs no permission on the lake.
    fn filters_by_permission(&self) -> bool {
        false
    }

    /// Returns the schema.
    fn schema(&self) -> SchemaRef;

    /// Returns the rows that a reader may see; all rows if `_access` is `None`. A table must
    /// implement this method if [`SystemTable::filters_by_permission`] returns true.
    async fn visible_batches(
        &self,
        view: &CommitView,
        _access: Option<&dyn SessionRights>,
    ) -> Result<Vec<RecordBatch>, Problem> {
        self.batches(view).await
    }

    /// Returns all rows at a catalog state. A table must implement this method if
    /// [`SystemTable::filters_by_permission`] returns false.
    async fn batches(&self, view: &CommitView) -> Result<Vec<RecordBatch>, Problem> {
        self.visible_batches(view, None).await
    }
}

/// Returns the engine's own system tables.
pub(crate) fn own_tables() -> Vec<Arc<dyn SystemTable>> {
    vec![
        Arc::new(super::branches::BranchesTable),
        Arc::new(super::commits::CommitsTable),
        Arc::new(super::tables::TablesTable),
        Arc::new(super::views::ViewsTable),
        Arc::new(super::table_metadata::SnapshotsTable),
        Arc::new(super::table_metadata::ManifestsTable),
        Arc::new(super::table_metadata::FilesTable),
    ]
}

/// Builds a schema from name, type and nullability of each column.
pub fn schema(columns: &[(&str, DataType, bool)]) -> SchemaRef {
    let columns = columns.iter();
    let fields = columns.map(|(name, kind, nullable)| Field::new(*name, kind.clone(), *nullable));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// Returns the type of timestamp columns: microseconds in UTC.
pub fn timestamp_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// Builds a timestamp column.
pub fn timestamp_column(times: impl Iterator<Item = Option<Timestamp>>) -> ArrayRef {
    let micros = times.map(|time| time.map(|time| time.timestamp_micros()));
    Arc::new(micros.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
}

/// Builds one batch.
pub fn batch(schema: SchemaRef, rows: Vec<ArrayRef>) -> Result<Vec<RecordBatch>, Problem> {
    let batch = RecordBatch::try_new(schema, rows).map(|batch| vec![batch]);
    batch.map_err(|error| Problem::new(ErrorCode::Internal, error.to_string()))
}
