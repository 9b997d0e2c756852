//! DELETE.

use std::sync::Arc;

use futures::StreamExt;

use super::places::Places;
use crate::answer::Answer;
use crate::error::Result;
use crate::session::Session;
use crate::sql::change::RowDelete;

/// The table property that says how concurrent changes are met.
const ISOLATION: &str = "write.delete.isolation-level";

impl Session {
    /// DELETE.
    pub(crate) async fn delete(&self, delete: RowDelete) -> Result<Answer> {
        let RowDelete { table, source, everything } = delete;
        let mut target = self.begin_change(&table).await?;
        let run = self.run();
        let (metrics, limits) = (Arc::clone(&run.metrics), run.limits);
        let message = format!("delete from {}", target.name);
        if everything {
            let rows = target.table.rows();
            if rows > 0 {
                let none = futures::stream::empty().boxed();
                target.transaction.overwrite(&target.name, none).await?;
            }
            return self.finish_with(target.transaction, &message, rows, &metrics).await;
        }
        let found = self.plan_change(&run, &target, source).await?;
        let whole = target.settle(&found, &run.state, limits)?;
        let unseen = target.unseen(&found, ISOLATION, &run);
        let places = Places::gather(self.start(run, found.plan).await?, limits).await?;
        let files = target.plan.files();
        let whole_rows: u64 = whole.iter().map(|file| files[*file].rows).sum();
        let rows = whole_rows + places.count();
        if rows > 0 {
            let (removed, rest) = target.split(whole, places);
            let rest = self.engine.lake().tables().read_rest(&target.table, rest);
            let seen = target.plan.clone();
            let transaction = &mut target.transaction;
            transaction.rewrite(&target.name, seen, removed, unseen, rest).await?;
        }
        self.finish_with(target.transaction, &message, rows, &metrics).await
    }
}
