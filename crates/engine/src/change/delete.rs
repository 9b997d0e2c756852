//! The DELETE statement.

use std::sync::Arc;

use datafusion::common::{Column, Result as PlanResult};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, lit};
use futures::StreamExt;
use headwater_model::Action;
use headwater_sql::change::{DeleteStatement, FILE, ROW, add_columns};
use headwater_sql::statement::SourceQuery;

use super::apply_change::ChangeOptions;
use super::target::{COMES, TargetColumns, TargetTable};
use crate::error::Result;
use crate::returning::{ChangedTable, Returning};
use crate::session::{Session, StatementContext};
use crate::statement_result::StatementResult;

impl Session {
    /// Runs DELETE. A DELETE without a condition removes all rows without reading the table's
    /// files.
    pub(crate) async fn delete(&self, delete: DeleteStatement) -> Result<StatementResult> {
        let DeleteStatement { table, alias, source, returning, everything } = delete;
        let mut target = self.begin_change(&table, &[Action::Select, Action::Delete]).await?;
        let run = self.run();
        if returning.is_some() {
            let columns = target.columns(alias)?;
            let (schema, view) = (columns.schema.clone(), target.transaction.view());
            let changed = ChangedTable { name: &target.name, schema, view };
            if let Some(returning) = self.returning(returning, changed, &run).await? {
                let deleted = DeletedRows { source, columns, returning };
                return self.delete_returning(target, run, deleted).await;
            }
        }
        let message = format!("delete from {}", target.name);
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
        let whole = target.skip_fully_matched_files(&found, &run.state, run.limits)?;
        let kind = ChangeOptions { message, word: "delete", once: false, returning: None };
        Box::pin(self.apply_change(target, run, found, whole, kind)).await
    }

    /// Runs DELETE with RETURNING, which reads the deleted rows.
    async fn delete_returning(
        &self,
        target: TargetTable,
        run: StatementContext,
        deleted: DeletedRows,
    ) -> Result<StatementResult> {
        let DeletedRows { mut source, columns, returning } = deleted;
        add_columns(source.query_mut(), &columns.label, &columns.names, 'c');
        let shape = move |plan| with_rows(plan, &columns);
        let found = self.plan_change(&run, &target, source, shape).await?;
        let message = format!("delete from {}", target.name);
        let kind =
            ChangeOptions { message, word: "delete", once: false, returning: Some(returning) };
        Box::pin(self.apply_change(target, run, found, Vec::new(), kind)).await
    }
}

/// The rows that a DELETE with RETURNING deletes.
struct DeletedRows {
    source: SourceQuery,
    columns: TargetColumns,
    returning: Returning,
}

/// Plans the query that returns the position and the columns of each deleted row.
fn with_rows(plan: LogicalPlan, columns: &TargetColumns) -> PlanResult<LogicalPlan> {
    let named = |name: String| Expr::Column(Column::from_name(name));
    let mut exprs = vec![named(FILE.to_owned()), named(ROW.to_owned()), lit(false).alias(COMES)];
    let names = columns.names.iter().enumerate();
    exprs.extend(names.map(|(index, name)| named(format!("\0c{index}")).alias(name)));
    LogicalPlanBuilder::from(plan).project(exprs)?.build()
}
