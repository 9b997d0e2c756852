//! The rights of an import: a check of each action on a table before the import performs it.

use std::sync::Arc;

use headwater_lake::CommitView;
use headwater_model::{AccessObject, Action, Problem, TableName};

use crate::error::{Error, Result};
use crate::import_plan::PreparedImport;
use crate::rejected_rows::rejected_name;
use crate::request_validation::ValidRequest;

/// Checks that an action on a table is allowed. The last argument is the table's id; `None` if the
/// table does not exist. Error: `forbidden`.
pub type TableCheck =
    Arc<dyn Fn(Action, &AccessObject, Option<&str>) -> Result<(), Problem> + Send + Sync>;

/// The check that an importer uses; `None` allows every action.
#[derive(Clone, Default)]
pub(crate) struct TableAuthorizer(pub(crate) Option<TableCheck>);

impl std::fmt::Debug for TableAuthorizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("TableAuthorizer").field(&self.0.is_some()).finish()
    }
}

impl TableAuthorizer {
    fn check(&self, action: Action, table: &CheckedTable) -> Result<()> {
        let Some(check) = &self.0 else { return Ok(()) };
        let checked = check(action, &table.object, table.id.as_deref());
        checked.map_err(|problem| Error::Denied(Box::new(problem)))
    }

    /// Checks that the import may add rows to a table, and may create a missing table.
    pub(crate) async fn check_rows(&self, table: &TableName, view: &CommitView) -> Result<()> {
        if self.0.is_none() {
            return Ok(());
        }
        let table = CheckedTable::find(table, view).await?;
        self.check(Action::Insert, &table)?;
        if table.id.is_some() { Ok(()) } else { self.check(Action::Create, &table) }
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
            self.check(Action::Alter, &CheckedTable::find(&plan.table, &plan.view).await?)?;
        }
        if !checked.reject {
            return Ok(());
        }
        self.check_rows(&rejected_name(&plan.table)?, &plan.view).await
    }
}

/// A table that an import checks.
struct CheckedTable {
    /// The object, with the owner of the table or, for a new table, of its namespace.
    object: AccessObject,
    /// The table's id; `None` if the table does not exist.
    id: Option<String>,
}

impl CheckedTable {
    /// Looks up a table. Prefers an exact match of the name to a case-insensitive match.
    async fn find(table: &TableName, view: &CommitView) -> Result<CheckedTable> {
        let found = view.state().find_table(&table.namespace, &table.name).await;
        let object = AccessObject::table(table);
        match found.map_err(headwater_lake::Error::from)? {
            Some((_, entry)) => {
                let object = object.with_owner(entry.owner.as_ref());
                Ok(CheckedTable { object, id: Some(entry.id) })
            }
            None => Ok(CheckedTable { object: view.new_object(object).await?, id: None }),
        }
    }
}
