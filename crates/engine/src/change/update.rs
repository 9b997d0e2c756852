//! The UPDATE statement.

use datafusion::common::{Column, Result as PlanResult};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, lit};

use super::apply_change::ChangeOptions;
use super::target::{COMES, TargetColumns};
use crate::assignment_cast::to_column;
use crate::error::Result;
use crate::returning::ChangedTable;
use crate::session::Session;
use crate::statement_result::StatementResult;
use headwater_model::Action;
use headwater_sql::change::{FILE, ROW};
use headwater_sql::change::{UpdateStatement, add_columns};
use headwater_sql::number_literal::exact_columns;

impl Session {
    /// Runs UPDATE.
    pub(crate) async fn update(&self, update: UpdateStatement) -> Result<StatementResult> {
        let UpdateStatement { table, alias, columns: assigned, returning, mut source } = update;
        let target = self.begin_change(&table, &[Action::Select, Action::Update]).await?;
        let columns = target.columns(alias)?;
        let defaults: Vec<bool> = assigned.iter().map(|column| column.default).collect();
        let assigned = columns.find_all(&assigned)?;
        let assigned: Vec<_> = assigned.into_iter().zip(defaults).collect();
        // The first two columns of the query are the file and the row index. The assigned values
        // follow.
        exact_columns(source.query_mut(), |index| {
            let column = index.checked_sub(2).and_then(|index| assigned.get(index));
            let column = column.and_then(|(column, _)| columns.schema.fields().get(*column));
            column.is_some_and(|column| column.data_type().is_decimal())
        });
        add_columns(source.query_mut(), &columns.label, &columns.names, 'c');
        let run = self.run();
        let (schema, view) = (columns.schema.clone(), target.transaction.view());
        let changed = ChangedTable { name: &target.name, schema, view };
        let returning = self.returning(returning, changed, &run).await?;
        let found = self
            .plan_change(&run, &target, source, move |plan| new_rows(plan, &columns, &assigned))
            .await?;
        let message = format!("update {}", target.name);
        let kind = ChangeOptions { message, word: "update", once: true, returning };
        Box::pin(self.apply_change(target, run, found, Vec::new(), kind)).await
    }
}

/// Plans the query that returns the positions and the updated rows, in the table's types.
///
/// `assigned` holds, for each assignment, the index of the column, and true if the value is
/// DEFAULT.
fn new_rows(
    plan: LogicalPlan,
    columns: &TargetColumns,
    assigned: &[(usize, bool)],
) -> PlanResult<LogicalPlan> {
    let named = |name: String| Expr::Column(Column::from_name(name));
    let mut exprs = vec![named(FILE.to_owned()), named(ROW.to_owned()), lit(true).alias(COMES)];
    for (index, field) in columns.schema.fields().iter().enumerate() {
        let value = match assigned.iter().position(|(column, _)| *column == index) {
            Some(value) if assigned[value].1 => columns.default(field.name()),
            Some(value) => named(format!("\0v{value}")),
            None => named(format!("\0c{index}")),
        };
        exprs
            .push(to_column(value, field, &columns.table.name, plan.schema())?.alias(field.name()));
    }
    LogicalPlanBuilder::from(plan).project(exprs)?.build()
}
