//! The rights of an import: a check of each action on a table before the import performs it.

use std::sync::Arc;

use headwater_model::{Action, Problem, TableName};

use crate::error::{Error, Result};
use crate::import_plan::PreparedImport;
use crate::rejected_rows::rejected_name;
use crate::request::ValidRequest;

/// Checks that an action on a table is allowed. The last argument is the table's id, if the action
/// changes an existing table. Error: `forbidden`.
pub type TableCheck =
    Arc<dyn Fn(Action, &TableName, Option<&str>) -> Result<(), Problem> + Send + Sync>;

/// The check that an importer uses; `None` allows every action.
#[derive(Clone, Default)]
pub(crate) struct TableAuthorizer(pub(crate) Option<TableCheck>);

impl std::fmt::Debug for TableAuthorizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("TableAuthorizer").field(&self.0.is_some()).finish()
    }
}

impl TableAuthorizer {
    fn check(&self, action: Action, table: &TableName, id: Option<&str>) -> Result<()> {
        let Some(check) = &self.0 else { return Ok(()) };
        check(action, table, id).map_err(|problem| Error::Denied(Box::new(problem)))
    }

    /// Checks that the import may add rows to a table, and may create a missing table.
    pub(crate) fn check_rows(&self, table: &TableName, exists: bool) -> Result<()> {
        self.check(Action::Insert, table, None)?;
        if exists { Ok(()) } else { self.check(Action::Create, table, None) }
    }

    /// Checks that a planned import may add its new columns, and may write to the table for
    /// rejected rows.
    pub(crate) async fn check_plan(
        &self,
        plan: &PreparedImport,
        checked: &ValidRequest,
    ) -> Result<()> {
        if let Some(existing) = plan.existing.as_ref().filter(|_| !plan.new_columns().is_empty()) {
            self.check(Action::Alter, &plan.table, Some(&existing.id()))?;
        }
        if self.0.is_none() || !checked.reject {
            return Ok(());
        }
        let rejected = rejected_name(&plan.table)?;
        let found = plan.view.find(&rejected.namespace, &rejected.name).await?;
        self.check_rows(&rejected, found.is_some())
    }
}
