//! Export of the audit log, the oldest events first.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use headwater_access::{Access, AuditFilter, AuditRetentionSetting};
use headwater_executors::{audit_schema, to_batches};
use headwater_model::{AccessObject, Action, AuditRetention, Principal, Problem, ResultExt};
use serde_json::{Value, json};

use crate::access_control::AccessControl;

/// An export of the audit events that a filter selects, in pages.
pub struct AuditExport {
    access: Access,
    filter: AuditFilter,
    /// Position of the next page; `None` after the last page.
    next: Option<String>,
}

impl AccessControl {
    /// Exports the events of the audit log that a filter selects.
    ///
    /// Errors: `forbidden` without `audit` on the lake.
    pub fn audit(
        &self,
        principal: &Principal,
        filter: AuditFilter,
    ) -> Result<AuditExport, Problem> {
        self.0.authorize(principal, Action::Audit, &AccessObject::lake())?;
        Ok(AuditExport { access: self.0.access.clone(), filter, next: Some(String::new()) })
    }
}

impl AccessControl {
    /// Returns the retention time of events in the audit log.
    ///
    /// Errors: `forbidden` without `audit` on the lake.
    pub fn audit_retention(&self, principal: &Principal) -> Result<AuditRetention, Problem> {
        self.0.authorize(principal, Action::Audit, &AccessObject::lake())?;
        Ok(AuditRetentionSetting::of(&self.0.access).get())
    }

    /// Sets the retention time of events in the audit log. A server that was started with another
    /// retention time uses that one.
    pub async fn set_audit_retention(
        &self,
        principal: &Principal,
        retention: AuditRetention,
    ) -> Result<AuditRetention, Problem> {
        self.0.administer(principal)?;
        AuditRetentionSetting::of(&self.0.access).set(principal, retention).await.or_problem()
    }
}

impl AuditExport {
    /// Returns the columns, which are the columns of `system.audit`.
    pub fn schema(&self) -> SchemaRef {
        audit_schema()
    }

    /// Returns the next page of events; `None` after the last page.
    pub async fn next(&mut self) -> Result<Option<RecordBatch>, Problem> {
        while let Some(next) = self.next.take() {
            let page = self.access.audit().page(&self.filter, &next).await.or_problem()?;
            self.next = page.next;
            let rows: Vec<Value> = page.events.iter().map(|event| json!(event)).collect();
            if let Some(batch) = to_batches(&audit_schema(), &rows)?.pop() {
                return Ok(Some(batch));
            }
        }
        Ok(None)
    }
}
