//! The system tables `system.jobs`, `system.queries`, `system.usage` and `system.maintenance`.
//! Their content does not depend on the ref.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::json::ReaderBuilder;
use async_trait::async_trait;
use headwater_access::Access;
use headwater_engine::system::timestamp_type;
use headwater_engine::{Engine, SystemTable};
use headwater_jobs::{JobFilter, Jobs, UsageGroup};
use headwater_lake::{CommitView, Lake};
use headwater_model::{ErrorCode, Job, JobKind, Problem, ToProblem, UsageLine};
use serde_json::{Value, json};

use crate::audit_table;

/// Maximum number of jobs in `system.jobs`. The table contains the newest jobs.
const JOBS_MAX: usize = 100_000;

/// Adds the system tables of jobs, maintenance, audit and pipelines to the engine.
pub fn register_system_tables(engine: &Engine, jobs: &Jobs, lake: &Lake, access: &Access) {
    audit_table::register(engine, access);
    headwater_pipelines::register_system_tables(engine);
    for kind in [None, Some(JobKind::Query)] {
        let (jobs, schema) = (jobs.clone(), jobs_schema());
        engine.add_system_table(Arc::new(JobsTable { jobs, schema, kind }));
    }
    engine.add_system_table(Arc::new(UsageTable { jobs: jobs.clone(), schema: usage_schema() }));
    engine.add_system_table(Arc::new(MaintenanceTable {
        lake: lake.clone(),
        schema: maintenance_schema(),
    }));
}

/// The table `system.jobs`; or `system.queries`, which contains only jobs of the kind `kind`.
struct JobsTable {
    jobs: Jobs,
    schema: SchemaRef,
    kind: Option<JobKind>,
}

#[async_trait]
impl SystemTable for JobsTable {
    fn name(&self) -> &'static str {
        if self.kind.is_some() { "queries" } else { "jobs" }
    }

    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    async fn batches(&self, _: &CommitView) -> Result<Vec<RecordBatch>, Problem> {
        let kinds = self.kind.into_iter().collect();
        let filter = JobFilter { kinds, limit: JOBS_MAX, ..JobFilter::default() };
        let jobs = self.jobs.list(&filter).await.map_err(|error| error.to_problem())?;
        let currency = self.jobs.rate_card().currency;
        let rows = jobs.iter().map(|job| job_row(job, &currency)).collect::<Vec<_>>();
        to_batches(&self.schema, &rows)
    }
}

/// The groupings in `system.usage`.
const USAGE_GROUPS: [(&str, UsageGroup); 7] = [
    ("day", UsageGroup::Day),
    ("kind", UsageGroup::Kind),
    ("model", UsageGroup::Model),
    ("function", UsageGroup::Function),
    ("trigger", UsageGroup::Trigger),
    ("branch", UsageGroup::Branch),
    ("author", UsageGroup::Author),
];

struct UsageTable {
    jobs: Jobs,
    schema: SchemaRef,
}

#[async_trait]
impl SystemTable for UsageTable {
    fn name(&self) -> &'static str {
        "usage"
    }

    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    async fn batches(&self, _: &CommitView) -> Result<Vec<RecordBatch>, Problem> {
        let mut rows = Vec::new();
        for (grouping, group) in USAGE_GROUPS {
            let lines = self.jobs.usage(None, None, group.into()).await;
            let lines = lines.map_err(|error| error.to_problem())?;
            rows.extend(lines.iter().map(|line| usage_row(grouping, line)));
        }
        to_batches(&self.schema, &rows)
    }
}

struct MaintenanceTable {
    lake: Lake,
    schema: SchemaRef,
}

#[async_trait]
impl SystemTable for MaintenanceTable {
    fn name(&self) -> &'static str {
        "maintenance"
    }

    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    async fn batches(&self, _: &CommitView) -> Result<Vec<RecordBatch>, Problem> {
        let records =
            self.lake.maintenance().records().await.map_err(|error| error.to_problem())?;
        let rows: Vec<Value> = records.iter().map(|record| json!(record)).collect();
        to_batches(&self.schema, &rows)
    }
}

fn maintenance_schema() -> SchemaRef {
    let columns = [
        ("table", TEXT),
        ("branch", TEXT),
        ("time", timestamp_type()),
        ("author", TEXT),
        ("files_rewritten", DataType::Int64),
        ("files_written", DataType::Int64),
        ("delete_files_removed", DataType::Int64),
        ("files_removed", DataType::Int64),
        ("bytes_freed", DataType::Int64),
        ("skipped_reason", TEXT),
    ];
    let fields = columns.map(|(name, kind)| Field::new(name, kind, true));
    Arc::new(Schema::new(fields.to_vec()))
}

const TEXT: DataType = DataType::Utf8;

/// The columns of `Usage`, in the order of its fields.
const USAGE: [&str; 18] = [
    "wall_ms",
    "cpu_us",
    "memory_bytes_peak",
    "bytes_read",
    "bytes_cached",
    "bytes_written",
    "rows_read",
    "rows_written",
    "bytes_in",
    "bytes_out",
    "queue_ms",
    "environment_ms",
    "start_ms",
    "runtime_start_ms",
    "calls",
    "cold_starts",
    "retries",
    "requests",
];

fn schema(before: Vec<(&str, DataType)>, after: Vec<(&str, DataType)>) -> SchemaRef {
    let usage = USAGE.map(|name| (name, DataType::Int64));
    let cost = [("cost", DataType::Float64), ("currency", TEXT)];
    let columns = before.into_iter().chain(usage).chain(cost).chain(after);
    let fields: Vec<_> = columns.map(|(name, kind)| Field::new(name, kind, true)).collect();
    Arc::new(Schema::new(fields))
}

fn jobs_schema() -> SchemaRef {
    schema(
        vec![
            ("id", TEXT),
            ("kind", TEXT),
            ("status", TEXT),
            ("summary", TEXT),
            ("author", TEXT),
            ("ref", TEXT),
            ("event", TEXT),
            ("created", timestamp_type()),
            ("started", timestamp_type()),
            ("ended", timestamp_type()),
        ],
        vec![("error_code", TEXT), ("error", TEXT)],
    )
}

fn usage_schema() -> SchemaRef {
    let before = vec![("grouping", TEXT), ("name", TEXT), ("jobs", DataType::Int64)];
    schema(before, vec![("gib_seconds", DataType::Float64)])
}

fn job_row(job: &Job, currency: &str) -> Value {
    let mut row = json!(job.usage);
    row["id"] = json!(job.id);
    row["kind"] = json!(job.kind);
    row["status"] = json!(job.status);
    row["summary"] = json!(job.summary);
    row["author"] = json!(job.author);
    row["ref"] = json!(job.reference);
    row["event"] = json!(job.event);
    row["created"] = json!(job.created);
    row["started"] = json!(job.started);
    row["ended"] = json!(job.ended);
    row["cost"] = json!(job.cost);
    row["currency"] = json!(currency);
    row["error_code"] = json!(job.error.as_ref().map(|problem| problem.code));
    row["error"] = json!(job.error.as_ref().map(|problem| &problem.message));
    row
}

fn usage_row(grouping: &str, line: &UsageLine) -> Value {
    let mut row = json!(line.usage);
    row["grouping"] = json!(grouping);
    row["name"] = json!(line.group);
    row["jobs"] = json!(line.jobs);
    row["gib_seconds"] = json!(line.gib_seconds);
    row["cost"] = json!(line.cost);
    row["currency"] = json!(line.currency);
    row
}

/// Converts rows, which are JSON objects, to record batches of a schema.
///
/// Errors: `internal` if a value does not have the type of its column.
pub fn to_batches(schema: &SchemaRef, rows: &[Value]) -> Result<Vec<RecordBatch>, Problem> {
    let wrong = |error: ArrowError| Problem::new(ErrorCode::Internal, error.to_string());
    let builder = ReaderBuilder::new(schema.clone()).with_batch_size(rows.len().max(1));
    let mut decoder = builder.build_decoder().map_err(wrong)?;
    decoder.serialize(rows).map_err(wrong)?;
    Ok(decoder.flush().map_err(wrong)?.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::TimestampMicrosecondType;
    use headwater_model::{JobId, JobKind, JobStatus, Timestamp, Usage};

    use super::*;

    #[test]
    fn a_job_is_a_row() {
        let job = Job {
            id: JobId::generate(),
            kind: JobKind::Query,
            status: JobStatus::Failed,
            summary: "SELECT 1".into(),
            author: "a".into(),
            reference: None,
            event: None,
            created: Timestamp::UNIX_EPOCH,
            started: None,
            ended: None,
            usage: Usage { wall_ms: 7, ..Usage::default() },
            cost: 0.5,
            error: Some(Problem::new(ErrorCode::InvalidSql, "no")),
            waits_for: Vec::new(),
            result: Value::Null,
        };
        let batches = to_batches(&jobs_schema(), &[job_row(&job, "USD")]).expect("batches");
        let column = |name: &str| batches[0].column_by_name(name).expect("a column").clone();
        assert_eq!(column("error_code").as_string::<i32>().value(0), "invalid_sql");
        assert_eq!(column("created").as_primitive::<TimestampMicrosecondType>().value(0), 0);
        assert!(arrow::array::Array::is_null(&column("ref"), 0));
        assert_eq!(to_batches(&jobs_schema(), &[]).expect("batches").len(), 0);
    }
}
