//! Adoption of table states: a table of another commit becomes the table of this branch.
//!
//! Table metadata is immutable, so the branch only refers to the other state. No file is read,
//! copied or written. Maintenance keeps the files while any branch or tag refers to them.

use headwater_model::TableName;
use headwater_tables::Table;

use super::Transaction;
use super::pending::Change;
use crate::CommitView;
use crate::error::{Error, Result};

impl Transaction {
    /// Sets a table to its state at another commit, and creates it if it does not exist. Returns
    /// the state. The caller keeps `from` until the commit, so that the files are not removed.
    ///
    /// Fails with `TableNotFound` if the other commit does not have the table, with `IsView` if the
    /// name is a view, and with `TableExists` if the branch has another table of this name.
    pub async fn adopt(&mut self, name: &TableName, from: &CommitView) -> Result<Table> {
        let Some((found, entry)) = from.state().find_table(&name.namespace, &name.name).await?
        else {
            return Err(from.not_found(name).await?);
        };
        let state = from.load(&entry).await?;
        let name = self.resolve(&found).await?;
        self.flush(&name).await?;
        match self.pending(&name)?.table() {
            None => self.check_free(&name).await?,
            Some(table) if table.id() == state.id() => {}
            Some(_) => return Err(Error::TableExists { table: name }),
        }
        self.pending(&name)?.add_applied(Change::Adopt, Some(state.clone()));
        Ok(state)
    }
}
