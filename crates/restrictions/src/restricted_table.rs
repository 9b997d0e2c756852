//! The table provider of a restricted table.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Column, DataFusionError, Result, plan_err};
use datafusion::logical_expr::{
    Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, TableType, lit,
};
use datafusion::physical_plan::ExecutionPlan;

use crate::restricted_scan::{RedactError, RestrictedScanExec};

/// A table that exposes only visible rows and masked values.
///
/// The table accepts no filters and has no statistics, so statements are evaluated above the
/// barrier.
#[derive(Debug)]
pub struct RestrictedTable {
    schema: SchemaRef,
    /// The plan of the visible rows, with the columns of the schema.
    plan: LogicalPlan,
    /// The table's name.
    label: Arc<str>,
    conceal: RedactError,
}

impl RestrictedTable {
    /// Creates a table from the plan of [`crate::restricted_query`] over a table with this schema.
    /// `conceal` replaces each error from the execution of the plan, because it may contain hidden
    /// values.
    ///
    /// Errors: the plan contains operations other than filters and projections, or the type of a
    /// mask differs from the type of its column.
    pub fn new(
        schema: &SchemaRef,
        masked: &[bool],
        plan: LogicalPlan,
        label: &str,
        conceal: RedactError,
    ) -> Result<Self> {
        check_nodes(&plan)?;
        let fields = schema.fields().iter().zip(masked);
        let fields: Fields = fields
            .map(|(field, masked)| {
                let nullable = field.is_nullable() || *masked;
                Arc::new(field.as_ref().clone().with_nullable(nullable))
            })
            .collect();
        let schema = Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()));
        let given = plan.schema().columns();
        let values = schema.fields().iter().zip(given);
        let values = values.map(|(field, column)| typed(column, field, &plan));
        let values = values.collect::<Result<Vec<_>>>()?;
        let plan = LogicalPlanBuilder::from(plan).project(values)?.build()?;
        Ok(RestrictedTable { schema, plan, label: label.into(), conceal })
    }

    /// Returns the plan reduced to the columns at these positions. Without any column, returns a
    /// plan with the same number of rows.
    fn projected(&self, columns: Option<&Vec<usize>>) -> Result<LogicalPlan> {
        let Some(columns) = columns else { return Ok(self.plan.clone()) };
        let all = self.plan.schema().columns();
        let mut values: Vec<Expr> =
            columns.iter().filter_map(|at| all.get(*at)).cloned().map(Expr::Column).collect();
        if values.is_empty() {
            values.push(lit(true));
        }
        LogicalPlanBuilder::from(self.plan.clone()).project(values)?.build()
    }
}

/// Returns an error if a plan reads other tables, or could return rows that are not rows of the
/// table.
fn check_nodes(plan: &LogicalPlan) -> Result<()> {
    let mut scans = 0;
    plan.apply_with_subqueries(|node| {
        match node {
            LogicalPlan::Projection(_) | LogicalPlan::Filter(_) | LogicalPlan::SubqueryAlias(_) => {
            }
            LogicalPlan::TableScan(_) => scans += 1,
            _ => return plan_err!("only scalar functions can be used"),
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    if scans == 1 { Ok(()) } else { plan_err!("other tables cannot be used") }
}

/// Casts the column of a mask to the type of the table's column. Fails if the types do not match.
fn typed(column: Column, field: &Field, plan: &LogicalPlan) -> Result<Expr> {
    let value = Expr::Column(column);
    let (from, to) = (value.get_type(plan.schema())?, field.data_type());
    if !is_compatible(&from, to) {
        return plan_err!(
            "a value of type {from} cannot be the mask of column `{}` of type {to}",
            field.name()
        );
    }
    Ok(value.cast_to(to, plan.schema())?.alias(field.name()))
}

/// Returns true if a mask with values of the type `from` can replace values of the type `to`.
fn is_compatible(from: &DataType, to: &DataType) -> bool {
    let is_text =
        |it: &DataType| matches!(it, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    let is_time = |it: &DataType| matches!(it, DataType::Date32 | DataType::Timestamp(..));
    let is_binary = |it: &DataType| {
        matches!(it, DataType::Binary | DataType::LargeBinary | DataType::BinaryView)
    };
    from == to
        || *from == DataType::Null
        || (from.is_numeric() && to.is_numeric())
        || (is_text(from) && is_text(to))
        || (is_time(from) && is_time(to))
        || (is_binary(from) && is_binary(to))
        || (from.is_nested() && from.equals_datatype(to))
}

#[async_trait]
impl TableProvider for RestrictedTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    /// Plans the visible rows. Filters of the statement are applied above this plan. These filters
    /// do not prune files, because the number of bytes read would then depend on hidden rows.
    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let conceal = |error: DataFusionError| (self.conceal)(&self.label, error);
        let schema = match projection {
            Some(columns) => Arc::new(self.schema.project(columns)?),
            None => Arc::clone(&self.schema),
        };
        let plan = self.projected(projection).map_err(conceal)?;
        let scan = session.create_physical_plan(&plan).await.map_err(conceal)?;
        Ok(Arc::new(RestrictedScanExec::new(scan, schema, Arc::clone(&self.label), self.conceal)))
    }
}
