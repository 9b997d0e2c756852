//! The DELETE statement.

use std::sync::Arc;

use futures::StreamExt;

use super::rewrite::Kind;
use crate::error::Result;
use crate::returning::of_rows;
use crate::session::Session;
use crate::statement_result::StatementResult;
use headwater_model::Action;
use headwater_sql::change::RowDelete;

impl Session {
    /// Runs DELETE. Without a condition, it replaces the table's content with no rows and reads no
    /// file.
    pub(crate) async fn delete(&self, delete: RowDelete) -> Result<StatementResult> {
        let RowDelete { table, source, returning, everything } = delete;
        let mut target = self.begin_change(&table, &[Action::Select, Action::Delete]).await?;
        let run = self.run();
        let message = format!("delete from {}", target.name);
        if let Some(returning) = returning {
            let view = target.transaction.view().clone();
            let (reading, limits) = (self.run(), run.limits);
            let (plan, names) = self.plan(&reading, returning, &view).await?;
            let rows = self.answer(reading, plan, &names).await?;
            let rows = self.kept_rows(rows, limits).await?;
            let found = self.plan_change(&run, &target, source, Ok).await?;
            let whole = target.settle(&found, &run.state, run.limits)?;
            let kind = Kind { message, word: "delete", once: false, captured: None };
            let written = Box::pin(self.rewrite(target, run, found, whole, kind)).await?;
            return Ok(of_rows(rows, written));
        }
        if everything {
            let rows = self.engine.lake().tables().count(&target.table).await?;
            let metrics = Arc::clone(&run.metrics);
            if rows > 0 {
                let none = futures::stream::empty().boxed();
                target.transaction.overwrite(&target.name, none).await?;
            }
            return self.finish_with(target.transaction, &message, rows, &metrics).await;
        }
        let found = self.plan_change(&run, &target, source, Ok).await?;
        let whole = target.settle(&found, &run.state, run.limits)?;
        let kind = Kind { message, word: "delete", once: false, captured: None };
        Box::pin(self.rewrite(target, run, found, whole, kind)).await
    }
}
