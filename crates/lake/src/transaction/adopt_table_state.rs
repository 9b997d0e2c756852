//! Adopts table states: the state of a table at another commit becomes the state of the table on
//! this branch.
//!
//! Table metadata is immutable, so the branch only refers to the other state. No file is read,
//! copied or written. Maintenance keeps the files while any branch or tag refers to them.

use headwater_model::TableName;
use headwater_tables::Table;

use super::Transaction;
use super::pending_changes::PendingChange;
use crate::CommitView;
use crate::error::{Error, Result};

impl CommitView {
    /// Sets a table of a transaction to the state that it has at this commit, or creates the table
    /// with this state. Returns the state. The caller must keep this view until the transaction is
    /// committed: it pins the commit, so that the files of the state are not removed.
    ///
    /// Errors: `TableNotFound` if this commit does not have the table; `IsView` if the name refers
    /// to a view; `TableExists` if the branch has another table of this name.
    pub async fn adopt_in(&self, transaction: &mut Transaction, name: &TableName) -> Result<Table> {
        let Some((found, entry)) = self.state().find_table(&name.namespace, &name.name).await?
        else {
            return Err(self.not_found(name).await?);
        };
        let state = self.load(&entry).await?;
        let name = transaction.resolve(&found).await?;
        transaction.flush(&name).await?;
        let known = transaction.pending(&name)?.table().map(Table::id);
        let owner = match known {
            None => {
                transaction.check_free(&name).await?;
                transaction.creator.clone()
            }
            Some(id) if id == state.id() => transaction.pending(&name)?.owner().cloned(),
            Some(_) => return Err(Error::TableExists { table: name }),
        };
        transaction.pending(&name)?.add_new(PendingChange::Adopt, state.clone(), owner);
        Ok(state)
    }
}
