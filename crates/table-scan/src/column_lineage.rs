//! Column lineage of a query: the columns of tables from which each output column is computed.
//!
//! A column that is only used to filter, join, group or sort rows is not a source.

use std::collections::BTreeSet;

use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, JoinType};
use datafusion::logical_expr::{Distinct, Expr, Join, LogicalPlan};

/// A table name as in the plan, and the name of one of its columns.
pub type ColumnSource = (String, String);

/// The columns of a query with their sources.
#[derive(Debug, Clone)]
pub struct QueryColumns {
    /// Output columns.
    pub schema: SchemaRef,
    /// Sources of each column, by its position; `None` if they are not known.
    pub sources: Option<Vec<BTreeSet<ColumnSource>>>,
}

/// Sources of each column, by its position.
type Sources = Vec<BTreeSet<ColumnSource>>;

/// Returns the sources of each column of a plan; `None` if the plan has a node through which
/// columns cannot be traced.
pub fn column_sources(plan: &LogicalPlan) -> Option<Sources> {
    let found = match plan {
        LogicalPlan::TableScan(scan) => {
            let table = scan.table_name.to_string();
            let fields = scan.projected_schema.fields().iter();
            fields.map(|field| BTreeSet::from([(table.clone(), field.name().clone())])).collect()
        }
        LogicalPlan::EmptyRelation(_) | LogicalPlan::Values(_) => {
            vec![BTreeSet::new(); plan.schema().fields().len()]
        }
        LogicalPlan::Projection(projection) => of_all(&projection.expr, &projection.input)?,
        LogicalPlan::Aggregate(aggregate) => {
            let expressions = aggregate.group_expr.iter().chain(&aggregate.aggr_expr);
            of_all(expressions, &aggregate.input)?
        }
        LogicalPlan::Window(window) => {
            let mut found = column_sources(&window.input)?;
            found.extend(of_all(&window.window_expr, &window.input)?);
            found
        }
        LogicalPlan::Distinct(Distinct::On(distinct)) => {
            of_all(&distinct.select_expr, &distinct.input)?
        }
        LogicalPlan::Join(join) => of_join(join)?,
        LogicalPlan::Union(union) => {
            let mut inputs = union.inputs.iter().map(|input| column_sources(input));
            let mut found = inputs.next()??;
            for input in inputs {
                for (all, more) in found.iter_mut().zip(input?) {
                    all.extend(more);
                }
            }
            found
        }
        LogicalPlan::Filter(_)
        | LogicalPlan::Sort(_)
        | LogicalPlan::Limit(_)
        | LogicalPlan::Repartition(_)
        | LogicalPlan::Subquery(_)
        | LogicalPlan::SubqueryAlias(_)
        | LogicalPlan::Extension(_)
        | LogicalPlan::Distinct(Distinct::All(_)) => match plan.inputs()[..] {
            [input] => column_sources(input)?,
            _ => return None,
        },
        _ => return None,
    };
    (found.len() == plan.schema().fields().len()).then_some(found)
}

fn of_join(join: &Join) -> Option<Sources> {
    let (left, right) = (column_sources(&join.left)?, column_sources(&join.right)?);
    match join.join_type {
        JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full => {
            Some([left, right].concat())
        }
        JoinType::LeftSemi | JoinType::LeftAnti => Some(left),
        JoinType::RightSemi | JoinType::RightAnti => Some(right),
        JoinType::LeftMark => Some([left, vec![BTreeSet::new()]].concat()),
        JoinType::RightMark => Some([right, vec![BTreeSet::new()]].concat()),
    }
}

fn of_all<'e>(
    expressions: impl IntoIterator<Item = &'e Expr>,
    input: &LogicalPlan,
) -> Option<Sources> {
    let known = column_sources(input)?;
    let found = expressions.into_iter().map(|expression| of(expression, &known, input.schema()));
    found.collect()
}

fn of(expression: &Expr, known: &Sources, schema: &DFSchema) -> Option<BTreeSet<ColumnSource>> {
    let (mut found, mut unknown) = (BTreeSet::new(), false);
    let walked = expression.apply(|node| {
        match node {
            Expr::Column(column) => match schema.maybe_index_of_column(column) {
                Some(index) => found.extend(known.get(index).into_iter().flatten().cloned()),
                None => unknown = true,
            },
            Expr::ScalarSubquery(query) => match column_sources(&query.subquery) {
                Some(columns) => found.extend(columns.into_iter().flatten()),
                None => unknown = true,
            },
            _ => {}
        }
        Ok(TreeNodeRecursion::Continue)
    });
    (walked.is_ok() && !unknown).then_some(found)
}
