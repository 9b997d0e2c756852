//! The TRUNCATE statement.

use futures::StreamExt;
use headwater_model::Action;

use crate::error::Result;
use crate::session::Session;
use crate::statement_result::StatementResult;
use headwater_sql::change::TruncateStatement;

impl Session {
    /// Runs TRUNCATE: deletes all rows of the tables without reading their data files.
    pub(crate) async fn truncate(&self, truncation: TruncateStatement) -> Result<StatementResult> {
        let TruncateStatement { tables, if_exists } = truncation;
        let mut transaction = self.transaction().await?;
        let view = transaction.view().clone();
        let (mut rows, mut emptied) = (0, Vec::new());
        for written in &tables {
            let (name, exists) = self.target(written, &view, &[Action::Delete]).await?;
            if exists {
                let table = transaction.table(&name).await?;
                let before = self.engine.lake().tables().count(&table).await?;
                if before > 0 {
                    transaction.overwrite(&name, futures::stream::empty().boxed()).await?;
                }
                rows += before;
                emptied.push(name.to_string());
            } else if !if_exists {
                return Err(self.no_such_table(written, &name, &view).await?);
            }
        }
        let metrics = self.run().metrics;
        let message = format!("truncate {}", emptied.join(", "));
        self.finish_with(transaction, &message, rows, &metrics).await
    }
}
