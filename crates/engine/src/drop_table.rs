//! DROP TABLE.

use datafusion::sql::sqlparser::ast::ObjectName;
use headwater_model::{Action, ToProblem};

use crate::error::{Error, Result};
use crate::session::Session;
use crate::statement_result::StatementResult;

impl Session {
    /// Runs DROP TABLE.
    pub(crate) async fn drop_tables(
        &self,
        names: &[ObjectName],
        if_exists: bool,
    ) -> Result<StatementResult> {
        let mut transaction = self.transaction().await?;
        let view = transaction.view().clone();
        let mut dropped = Vec::new();
        for name in names {
            let (table, exists) =
                self.target(name, &view, &[Action::Drop]).await.map_err(drop_it_as_view)?;
            if exists {
                transaction.drop(&table, if_exists).await?;
                dropped.push(table.to_string());
            } else if !if_exists {
                return Err(self.no_such_table(name, &table, &view).await?);
            }
        }
        let metrics = self.run().metrics;
        self.finish(transaction, &format!("drop table {}", dropped.join(", ")), &metrics).await
    }
}

/// Adds the hint to use DROP VIEW if the object is a view.
fn drop_it_as_view(error: Error) -> Error {
    match &error {
        Error::Lake(headwater_lake::Error::IsView { view }) => {
            Error::Problem(error.to_problem().with_hint(format!("Write DROP VIEW {view}.")))
        }
        _ => error,
    }
}
