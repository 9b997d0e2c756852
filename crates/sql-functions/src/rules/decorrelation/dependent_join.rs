//! The optimizer rule: replaces a correlated subquery by a join of the outer rows with the
//! subquery's rows.

use std::collections::HashSet;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, NullEquality, Result, TableReference};
use datafusion::logical_expr::{
    Expr, Filter, Join, JoinType, LogicalPlan, LogicalPlanBuilder, Projection, Subquery,
};
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

use super::outer_rows::{DecorrelatedPlan, OuterRows, is_row_wise, is_single_row};

/// Optimizer rule that rewrites the correlated subqueries that DataFusion's rules did not rewrite.
#[derive(Debug)]
pub(in crate::rules) struct DecorrelationRule;

impl OptimizerRule for DecorrelationRule {
    fn name(&self) -> &'static str {
        "dependent_join"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        config: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>> {
        let rewritten = match &plan {
            LogicalPlan::Join(join) => lateral(join, config)?,
            LogicalPlan::Projection(projection) => in_projection(projection, config)?,
            LogicalPlan::Filter(filter) => in_filter(filter, config)?,
            _ => None,
        };
        Ok(match rewritten {
            Some(rewritten) => Transformed::yes(rewritten),
            None => Transformed::no(plan),
        })
    }
}

/// Rewrites a join whose right side is a LATERAL subquery, or an UNNEST of columns of the left
/// side.
fn lateral(join: &Join, config: &dyn OptimizerConfig) -> Result<Option<LogicalPlan>> {
    if !matches!(join.join_type, JoinType::Inner | JoinType::Left) || !join.on.is_empty() {
        return Ok(None);
    }
    let (subquery, alias) = match &*join.right {
        LogicalPlan::Subquery(subquery) => (subquery, None),
        LogicalPlan::SubqueryAlias(alias) => match &*alias.input {
            LogicalPlan::Subquery(subquery) => (subquery, Some(alias.alias.clone())),
            _ => return Ok(None),
        },
        _ => return Ok(None),
    };
    let is_left = join.join_type == JoinType::Left;
    let is_filtered = |plan: &LogicalPlan| {
        plan.exists(|plan| Ok(matches!(plan, LogicalPlan::Filter(_)))).unwrap_or(true)
    };
    let prefix = config.alias_generator().next("__dependent");
    let is_row_wise = is_row_wise(&subquery.subquery)
        && !(is_left && (join.filter.is_some() || is_filtered(&subquery.subquery)));
    if is_row_wise {
        return unnested(join, subquery, alias, prefix);
    }
    let Some(DecorrelatedPlan { plan, keys }) = for_values(&join.left, subquery, prefix)? else {
        return Ok(None);
    };
    let (plan, keys) = aliased(plan, keys, alias)?;
    let joined = LogicalPlanBuilder::from(join.left.as_ref().clone()).join_detailed(
        plan,
        join.join_type,
        (outer_columns(subquery), keys),
        join.filter.clone(),
        NullEquality::NullEqualsNull,
    )?;
    let columns = join.schema.columns().into_iter().map(Expr::Column);
    joined.project(columns)?.build().map(Some)
}

/// Rewrites a join whose right side is a subquery that reads no table, such as UNNEST. The new plan
/// computes the subquery directly from each row of the left side, without a join.
fn unnested(
    join: &Join,
    subquery: &Subquery,
    alias: Option<TableReference>,
    prefix: String,
) -> Result<Option<LogicalPlan>> {
    let left = join.left.schema().columns();
    let name = |place: usize| format!("{prefix}_{place}");
    let renamed = left.iter().enumerate();
    let renamed = renamed.map(|(place, column)| Expr::Column(column.clone()).alias(name(place)));
    let plan = LogicalPlanBuilder::from(join.left.as_ref().clone()).project(renamed)?.build()?;
    let keys: Vec<Column> = (0..left.len()).map(|place| Column::from_name(name(place))).collect();
    let keeps_rows = join.join_type == JoinType::Left;
    let outer_rows = OuterRows { outer: left.clone(), plan, keys, keeps_rows, prefix };
    let Some(DecorrelatedPlan { plan, keys }) = outer_rows.evaluate(&subquery.subquery)? else {
        return Ok(None);
    };
    let (plan, keys) = aliased(plan, keys, alias)?;
    let own = keys
        .into_iter()
        .zip(left)
        .map(|(key, column)| Expr::Column(key).alias_qualified(column.relation, column.name));
    let right = join.right.schema().columns().into_iter().map(Expr::Column);
    let exprs: Vec<Expr> = own.chain(right).collect();
    let mut builder = LogicalPlanBuilder::from(plan).project(exprs)?;
    if let Some(filter) = &join.filter {
        builder = builder.filter(filter.clone())?;
    }
    builder.build().map(Some)
}

/// Adds a table alias to a plan and to its key columns.
fn aliased(
    plan: LogicalPlan,
    keys: Vec<Column>,
    alias: Option<TableReference>,
) -> Result<(LogicalPlan, Vec<Column>)> {
    let Some(alias) = alias else { return Ok((plan, keys)) };
    let keys = keys.into_iter().map(|key| Column::new(Some(alias.clone()), key.name)).collect();
    Ok((LogicalPlanBuilder::from(plan).alias(alias)?.build()?, keys))
}

/// Returns the outer columns of a subquery, without duplicates.
fn outer_columns(subquery: &Subquery) -> Vec<Column> {
    let mut seen = HashSet::new();
    let columns = subquery.outer_ref_columns.iter().filter_map(|expr| match expr {
        Expr::OuterReferenceColumn(_, column) => Some(column.clone()),
        _ => None,
    });
    columns.filter(|column| seen.insert(column.clone())).collect()
}

/// Plans a subquery for the distinct values of its outer columns; `None` if that is not supported.
fn for_values(
    left: &LogicalPlan,
    subquery: &Subquery,
    prefix: String,
) -> Result<Option<DecorrelatedPlan>> {
    let outer = outer_columns(subquery);
    let is_known = outer.iter().all(|column| left.schema().has_column(column));
    if outer.is_empty() || !is_known || is_volatile(left) || is_correlated(left) {
        return Ok(None);
    }
    let keys: Vec<Column> =
        (0..outer.len()).map(|place| Column::from_name(format!("{prefix}_{place}"))).collect();
    let columns = outer.iter().zip(&keys);
    let columns: Vec<Expr> =
        columns.map(|(outer, key)| Expr::Column(outer.clone()).alias(&key.name)).collect();
    let groups: Vec<Expr> = keys.iter().cloned().map(Expr::Column).collect();
    let plan = LogicalPlanBuilder::from(left.clone())
        .project(columns)?
        .aggregate(groups, Vec::<Expr>::new())?
        .build()?;
    let outer_rows = OuterRows { outer, plan, keys, keeps_rows: false, prefix };
    outer_rows.evaluate(&subquery.subquery)
}

/// Returns true if evaluating a plan again may return different rows.
fn is_volatile(plan: &LogicalPlan) -> bool {
    let found = plan.exists(|plan| {
        Ok(matches!(plan, LogicalPlan::Limit(_))
            || plan.expressions().iter().any(Expr::is_volatile))
    });
    found.unwrap_or(true)
}

/// Returns true if a plan refers to an outer row, so that it is part of a correlated subquery.
fn is_correlated(plan: &LogicalPlan) -> bool {
    plan.exists(|plan| Ok(plan.contains_outer_reference())).unwrap_or(true)
}

/// Rewrites the subqueries in a select list.
fn in_projection(
    projection: &Projection,
    config: &dyn OptimizerConfig,
) -> Result<Option<LogicalPlan>> {
    let names: Vec<_> = projection
        .schema
        .iter()
        .map(|(table, field)| (table.cloned(), field.name().clone()))
        .collect();
    let Some((input, exprs)) = joined(&projection.input, &projection.expr, config)? else {
        return Ok(None);
    };
    let named = exprs.into_iter().zip(names);
    let named = named.map(|(expr, (table, name))| match &expr {
        Expr::Column(column) if column.relation == table && column.name == name => expr,
        _ => expr.unalias().alias_qualified(table, name),
    });
    LogicalPlanBuilder::from(input).project(named)?.build().map(Some)
}

/// Rewrites the subqueries in a condition.
fn in_filter(filter: &Filter, config: &dyn OptimizerConfig) -> Result<Option<LogicalPlan>> {
    let predicate = std::slice::from_ref(&filter.predicate);
    let Some((input, exprs)) = joined(&filter.input, predicate, config)? else {
        return Ok(None);
    };
    let columns = filter.input.schema().columns().into_iter().map(Expr::Column);
    let mut builder = LogicalPlanBuilder::from(input);
    for predicate in exprs {
        builder = builder.filter(predicate)?;
    }
    builder.project(columns)?.build().map(Some)
}

/// Joins a plan with the results of the subqueries that some expressions contain. Returns the join,
/// and the expressions, in which columns of the join replace the subqueries. Returns `None` if
/// there are no subqueries, or if a subquery is not supported.
fn joined(
    input: &LogicalPlan,
    exprs: &[Expr],
    config: &dyn OptimizerConfig,
) -> Result<Option<(LogicalPlan, Vec<Expr>)>> {
    let mut found: Vec<(Subquery, TableReference)> = Vec::new();
    let mut replaced = Vec::with_capacity(exprs.len());
    for expr in exprs {
        let expr = expr.clone().transform_down(|part| match part {
            Expr::ScalarSubquery(subquery) if !subquery.outer_ref_columns.is_empty() => {
                let alias = TableReference::bare(config.alias_generator().next("__dependent"));
                let column = subquery.subquery.schema().field(0).name().clone();
                found.push((subquery, alias.clone()));
                let column = Expr::Column(Column::new(Some(alias), column));
                Ok(Transformed::new(column, true, TreeNodeRecursion::Jump))
            }
            other => Ok(Transformed::no(other)),
        })?;
        replaced.push(expr.data);
    }
    if found.is_empty() {
        return Ok(None);
    }
    let mut plan = input.clone();
    for (subquery, alias) in found {
        if !is_single_row(&subquery.subquery) {
            return Ok(None);
        }
        let Some(values) = for_values(input, &subquery, alias.to_string())? else {
            return Ok(None);
        };
        let (values, keys) = aliased(values.plan, values.keys, Some(alias))?;
        plan = LogicalPlanBuilder::from(plan)
            .join_detailed(
                values,
                JoinType::Left,
                (outer_columns(&subquery), keys),
                None,
                NullEquality::NullEqualsNull,
            )?
            .build()?;
    }
    Ok(Some((plan, replaced)))
}
