//! Adoption of table states: a table of another commit becomes the table of this branch.
//!
//! Table metadata is immutable, so the branch only refers to the other state. No file is read,
//! copied or written. Maintenance keeps the files while any branch or tag refers to them.

use headwater_model::TableName;
use headwater_tables::Table;

use super::Transaction;
use super::pending_changes::Change;
use crate::CommitView;
use crate::error::{Error, Result};

impl CommitView {
    /// Sets a table of a transaction to its state at this commit, and creates it if it does not
    /// exist. Returns the state. The caller keeps this view until the transaction is committed, so
    /// that the files are not removed.
    ///
    /// Fails with `TableNotFound` if this commit does not have the table, with `IsView` if the name
    /// is a view, and with `TableExists` if the branch has another table of this name.
    pub async fn adopt_in(&self, transaction: &mut Transaction, name: &TableName) -> Result<Table> {
        let Some((found, entry)) = self.state().find_table(&name.namespace, &name.name).await?
        else {
            return Err(self.not_found(name).await?);
        };
        let state = self.load(&entry).await?;
        let name = transaction.resolve(&found).await?;
        transaction.flush(&name).await?;
        match transaction.pending(&name)?.table() {
            None => transaction.check_free(&name).await?,
            Some(table) if table.id() == state.id() => {}
            Some(_) => return Err(Error::TableExists { table: name }),
        }
        transaction.pending(&name)?.add_applied(Change::Adopt, Some(state.clone()));
        Ok(state)
    }
}
