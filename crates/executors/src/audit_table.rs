//! The system table `system.audit`: the audit log, newest event first. Its content does not depend
//! on the ref.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use headwater_access::Access;
use headwater_engine::system::timestamp_type;
use headwater_engine::{Engine, SystemTable};
use headwater_lake::CommitView;
use headwater_model::{Action, Problem, ResultExt};
use serde_json::{Value, json};

use crate::job_system_tables::to_batches;

/// Maximum number of events in the table. The table contains the newest events.
const EVENTS_MAX: usize = 100_000;

/// Adds the table to the engine.
pub fn register(engine: &Engine, access: &Access) {
    let table = AuditTable { access: access.clone(), schema: audit_schema() };
    engine.add_system_table(Arc::new(table));
}

struct AuditTable {
    access: Access,
    schema: SchemaRef,
}

#[async_trait]
impl SystemTable for AuditTable {
    fn name(&self) -> &'static str {
        "audit"
    }

    fn action(&self) -> Action {
        Action::Audit
    }

    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    async fn batches(&self, _: &CommitView) -> Result<Vec<RecordBatch>, Problem> {
        let events = self.access.audit().list(EVENTS_MAX).await.or_problem()?;
        let rows: Vec<Value> = events.iter().map(|event| json!(event)).collect();
        to_batches(&self.schema, &rows)
    }
}

/// Returns the columns of the table.
pub fn audit_schema() -> SchemaRef {
    const TEXTS: [&str; 9] =
        ["principal", "method", "token", "address", "action", "object", "outcome", "reason", "job"];
    let texts = TEXTS.map(|name| Field::new(name, DataType::Utf8, true));
    let time = Field::new("time", timestamp_type(), true);
    Arc::new(Schema::new([time].into_iter().chain(texts).collect::<Vec<_>>()))
}
