//! The system table `system.profiles`: statistics of the rows that models wrote, one row for each
//! snapshot and column. A reader sees only tables that it may read without row filters and column
//! masks.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, SchemaRef};
use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};
use headwater_engine::system::{batch, schema, timestamp_column, timestamp_type};
use headwater_engine::{SessionRights, SystemTable};
use headwater_lake::CommitView;
use headwater_model::{Problem, ResultExt, TableName, Timestamp};
use headwater_sql_aggregates::{ColumnProfile, DataProfile};
use headwater_tables::{ListedSnapshot, PROFILE, Table};

use crate::build_record::{BUILD, BuildRecord};
use crate::model_system_tables::{OPEN_AT_ONCE, is_quarantine, may_read_object};

pub(crate) struct ProfilesTable;

/// Profile of one column in one snapshot.
struct ProfileRow {
    table: Arc<TableName>,
    snapshot: i64,
    made: Option<Timestamp>,
    is_current: bool,
    rows: u64,
    column: ColumnProfile,
}

#[async_trait]
impl SystemTable for ProfilesTable {
    fn name(&self) -> &'static str {
        "profiles"
    }

    fn filters_by_permission(&self) -> bool {
        true
    }

    fn schema(&self) -> SchemaRef {
        schema(&[
            ("namespace", DataType::Utf8, true),
            ("name", DataType::Utf8, true),
            ("column", DataType::Utf8, true),
            ("snapshot", DataType::Int64, true),
            ("made", timestamp_type(), true),
            ("is_current", DataType::Boolean, true),
            ("rows", DataType::Int64, true),
            ("nulls", DataType::Int64, true),
            ("null_fraction", DataType::Float64, true),
            ("approx_distinct", DataType::Int64, true),
            ("min", DataType::Utf8, true),
            ("max", DataType::Utf8, true),
            ("avg", DataType::Float64, true),
        ])
    }

    async fn visible_batches(
        &self,
        view: &CommitView,
        access: Option<&dyn SessionRights>,
    ) -> Result<Vec<RecordBatch>, Problem> {
        let rows = rows(view, access).await?;
        let text = |value: fn(&ProfileRow) -> Option<&str>| -> ArrayRef {
            Arc::new(rows.iter().map(value).collect::<StringArray>())
        };
        let number = |value: fn(&ProfileRow) -> Option<i64>| -> ArrayRef {
            Arc::new(rows.iter().map(value).collect::<Int64Array>())
        };
        let float = |value: fn(&ProfileRow) -> Option<f64>| -> ArrayRef {
            Arc::new(rows.iter().map(value).collect::<Float64Array>())
        };
        let current: BooleanArray = rows.iter().map(|row| Some(row.is_current)).collect();
        let columns = vec![
            text(|row| Some(&row.table.namespace)),
            text(|row| Some(&row.table.name)),
            text(|row| Some(&row.column.name)),
            number(|row| Some(row.snapshot)),
            timestamp_column(rows.iter().map(|row| row.made)),
            Arc::new(current),
            number(|row| i64::try_from(row.rows).ok()),
            number(|row| i64::try_from(row.column.nulls).ok()),
            float(|row| (row.rows > 0).then(|| row.column.nulls as f64 / row.rows as f64)),
            number(|row| row.column.distinct.and_then(|count| i64::try_from(count).ok())),
            text(|row| row.column.min.as_deref()),
            text(|row| row.column.max.as_deref()),
            float(|row| row.column.avg),
        ];
        batch(self.schema(), columns)
    }
}

/// Returns the profiles of the tables at a ref. Omits tables that the reader may not read, or that
/// have row filters or column masks for the reader.
async fn rows(
    view: &CommitView,
    access: Option<&dyn SessionRights>,
) -> Result<Vec<ProfileRow>, Problem> {
    let mut listed = view.list(None).await.or_problem()?;
    listed.retain(|(name, entry)| {
        // Statistics of a restricted table could reveal hidden rows and values, even under an
        // earlier name of a masked column.
        may_read_object(access, &entry.object(name))
            && access.is_none_or(|access| access.restrictions(name, Some(&entry.id)).is_none())
    });
    let found = stream::iter(listed)
        .map(|(name, entry)| async move {
            let table = view.lake().tables().load(&entry.metadata_location).await?;
            Ok::<_, headwater_tables::Error>(rows_of(name, &table))
        })
        .buffered(OPEN_AT_ONCE);
    let found: Vec<Vec<ProfileRow>> = found.try_collect().await.or_problem()?;
    Ok(found.into_iter().flatten().collect())
}

fn rows_of(name: TableName, table: &Table) -> Vec<ProfileRow> {
    let name = Arc::new(name);
    let snapshots = table.snapshots().into_iter();
    snapshots.flat_map(|snapshot| profile(&name, &snapshot)).collect()
}

fn profile(table: &Arc<TableName>, snapshot: &ListedSnapshot) -> Vec<ProfileRow> {
    let Some(text) = snapshot.summary.get(PROFILE) else { return Vec::new() };
    let Ok(found) = serde_json::from_str::<DataProfile>(text) else { return Vec::new() };
    // Skip quarantine tables: their snapshots have the properties of the model, whose profile
    // describes other rows.
    let record = snapshot.summary.get(BUILD).map(|record| serde_json::from_str(record));
    let model = record.and_then(|record: Result<BuildRecord, _>| record.ok()?.model);
    if model.is_some_and(|model| is_quarantine(&model, table)) {
        return Vec::new();
    }
    let row = |column| ProfileRow {
        table: Arc::clone(table),
        snapshot: snapshot.id,
        made: snapshot.made,
        is_current: snapshot.is_current,
        rows: found.rows,
        column,
    };
    found.columns.into_iter().map(row).collect()
}
