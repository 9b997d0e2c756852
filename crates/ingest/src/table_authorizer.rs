//! The rights of an import: a check of each action on a table before the import performs it.

use std::sync::Arc;

use headwater_catalog::TableEntry;
use headwater_lake::CommitView;
use headwater_model::{Action, Problem, TableName};

use crate::error::{Error, Result};
use crate::import_plan::PreparedImport;
use crate::rejected_rows::rejected_name;
use crate::request::ValidRequest;

/// Checks that an action on a table is allowed. The last argument is the table's entry; `None` if
/// the table does not exist. Error: `forbidden`.
pub type TableCheck =
    Arc<dyn Fn(Action, &TableName, Option<&TableEntry>) -> Result<(), Problem> + Send + Sync>;

/// The check that an importer uses; `None` allows every action.
#[derive(Clone, Default)]
pub(crate) struct TableAuthorizer(pub(crate) Option<TableCheck>);

impl std::fmt::Debug for TableAuthorizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("TableAuthorizer").field(&self.0.is_some()).finish()
    }
}

impl TableAuthorizer {
    fn check(&self, action: Action, table: &TableName, entry: Option<&TableEntry>) -> Result<()> {
        let Some(check) = &self.0 else { return Ok(()) };
        check(action, table, entry).map_err(|problem| Error::Denied(Box::new(problem)))
    }

    /// Checks that the import may add rows to a table, and may create a missing table.
    pub(crate) async fn check_rows(&self, table: &TableName, view: &CommitView) -> Result<()> {
        if self.0.is_none() {
            return Ok(());
        }
        let entry = entry(table, view).await?;
        self.check(Action::Insert, table, entry.as_ref())?;
        if entry.is_some() { Ok(()) } else { self.check(Action::Create, table, None) }
    }

    /// Checks that a planned import may add its new columns, and may write to the table for
    /// rejected rows.
    pub(crate) async fn check_plan(
        &self,
        plan: &PreparedImport,
        checked: &ValidRequest,
    ) -> Result<()> {
        if self.0.is_none() {
            return Ok(());
        }
        if plan.existing.is_some() && !plan.new_columns().is_empty() {
            let entry = entry(&plan.table, &plan.view).await?;
            self.check(Action::Alter, &plan.table, entry.as_ref())?;
        }
        if !checked.reject {
            return Ok(());
        }
        self.check_rows(&rejected_name(&plan.table)?, &plan.view).await
    }
}

/// Returns the entry of a table. Prefers an exact match of the name to a case-insensitive match.
async fn entry(table: &TableName, view: &CommitView) -> Result<Option<TableEntry>> {
    let found = view.state().find_table(&table.namespace, &table.name).await;
    Ok(found.map_err(headwater_lake::Error::from)?.map(|(_, entry)| entry))
}
