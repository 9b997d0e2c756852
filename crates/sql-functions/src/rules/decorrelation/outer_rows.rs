//! Evaluates a subquery once for all outer rows. To do this, adds the key columns of the outer rows
//! to every node of the subquery's plan.

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, NullEquality, Result, ScalarValue};
use datafusion::functions_nested::expr_fn::cardinality;
use datafusion::functions_window::expr_fn::row_number;
use datafusion::logical_expr::expr::Sort as SortKey;
use datafusion::logical_expr::{
    Aggregate, Expr, ExprFunctionExt, ExprSchemable, FetchType, JoinType, Limit, LogicalPlan,
    LogicalPlanBuilder, Projection, SkipType, Sort, Unnest, lit, when,
};

/// The plan of a subquery for all outer rows. Each of its rows contains the key columns of the
/// outer row to which it belongs.
pub(super) struct DecorrelatedPlan {
    pub plan: LogicalPlan,
    /// The key columns in the plan, in the order of [`OuterRows::outer`].
    pub keys: Vec<Column>,
}

/// The outer rows for which a subquery is evaluated.
pub(super) struct OuterRows {
    /// The outer columns that the subquery refers to.
    pub outer: Vec<Column>,
    /// The plan that returns the outer rows. `keys` are the columns of this plan, in the order of
    /// `outer`.
    pub plan: LogicalPlan,
    pub keys: Vec<Column>,
    /// True to return a row with nulls for an outer row for which UNNEST returns no row.
    pub keeps_rows: bool,
    /// Prefix of the names of added columns, unique within the statement.
    pub prefix: String,
}

/// The rows that LIMIT keeps: `skip + 1..=skip + fetch`, counted from 1.
#[derive(Clone, Copy)]
struct LimitRange {
    skip: usize,
    fetch: Option<usize>,
}

/// Returns true if a plan refers to outer columns.
fn is_correlated(plan: &LogicalPlan) -> bool {
    let found = plan.apply_with_subqueries(|plan| {
        Ok(if plan.contains_outer_reference() {
            TreeNodeRecursion::Stop
        } else {
            TreeNodeRecursion::Continue
        })
    });
    !matches!(found, Ok(TreeNodeRecursion::Continue))
}

/// Returns true if the plan computes its result from a single row: every node processes each row
/// independently, and the plan reads no table.
pub(super) fn is_row_wise(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::EmptyRelation(empty) => empty.produce_one_row,
        LogicalPlan::Projection(Projection { input, .. })
        | LogicalPlan::Unnest(Unnest { input, .. }) => is_row_wise(input),
        LogicalPlan::SubqueryAlias(alias) => is_row_wise(&alias.input),
        LogicalPlan::Filter(filter) => is_row_wise(&filter.input),
        _ => false,
    }
}

/// Returns true if a plan has at most one row for each outer row.
pub(super) fn is_single_row(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Aggregate(aggregate) => aggregate.group_expr.is_empty(),
        LogicalPlan::Limit(limit) => {
            matches!(limit.get_fetch_type(), Ok(FetchType::Literal(Some(0 | 1))))
        }
        LogicalPlan::Projection(Projection { input, .. })
        | LogicalPlan::Sort(Sort { input, .. }) => is_single_row(input),
        LogicalPlan::SubqueryAlias(alias) => is_single_row(&alias.input),
        LogicalPlan::Filter(filter) => is_single_row(&filter.input),
        _ => false,
    }
}

impl OuterRows {
    /// Plans a subquery for all outer rows; `None` if a node of its plan is not supported.
    pub(super) fn evaluate(&self, plan: &LogicalPlan) -> Result<Option<DecorrelatedPlan>> {
        self.push(plan, None)
    }

    fn push(
        &self,
        plan: &LogicalPlan,
        kept: Option<LimitRange>,
    ) -> Result<Option<DecorrelatedPlan>> {
        match plan {
            LogicalPlan::EmptyRelation(empty) if empty.produce_one_row => {
                let dependent =
                    DecorrelatedPlan { plan: self.plan.clone(), keys: self.keys.clone() };
                self.limited(dependent, Vec::new(), kept).map(Some)
            }
            // An uncorrelated part of the plan: join each outer row with all rows of this part. Not
            // below LIMIT, because the join would not keep the order of the rows.
            plan if kept.is_none() && !is_correlated(plan) => {
                let plan = LogicalPlanBuilder::from(self.plan.clone())
                    .cross_join(plan.clone())?
                    .build()?;
                Ok(Some(DecorrelatedPlan { plan, keys: self.keys.clone() }))
            }
            LogicalPlan::Projection(Projection { expr, input, .. }) => {
                let Some(inner) = self.push(input, kept)? else { return Ok(None) };
                let Some(mut exprs) = self.resolve_all(expr, &inner.keys)? else { return Ok(None) };
                exprs.extend(inner.keys.iter().cloned().map(Expr::Column));
                let plan = LogicalPlanBuilder::from(inner.plan).project(exprs)?.build()?;
                Ok(Some(DecorrelatedPlan { plan, keys: inner.keys }))
            }
            LogicalPlan::SubqueryAlias(alias) => {
                let Some(inner) = self.push(&alias.input, kept)? else { return Ok(None) };
                let keys = inner.keys.into_iter();
                let keys = keys.map(|key| Column::new(Some(alias.alias.clone()), key.name));
                let plan =
                    LogicalPlanBuilder::from(inner.plan).alias(alias.alias.clone())?.build()?;
                Ok(Some(DecorrelatedPlan { plan, keys: keys.collect() }))
            }
            LogicalPlan::Limit(limit) if kept.is_none() => match rows_of(limit)? {
                Some(kept) => self.push(&limit.input, Some(kept)),
                None => Ok(None),
            },
            LogicalPlan::Sort(sort) => self.sort(sort, kept),
            LogicalPlan::Filter(_) | LogicalPlan::Aggregate(_) | LogicalPlan::Unnest(_) => {
                let dependent = match plan {
                    LogicalPlan::Filter(filter) => self.filter(&filter.predicate, &filter.input)?,
                    LogicalPlan::Aggregate(aggregate) => self.aggregate(aggregate)?,
                    LogicalPlan::Unnest(unnest) => self.unnest(unnest)?,
                    _ => None,
                };
                let Some(dependent) = dependent else { return Ok(None) };
                self.limited(dependent, Vec::new(), kept).map(Some)
            }
            _ => Ok(None),
        }
    }

    fn sort(&self, sort: &Sort, kept: Option<LimitRange>) -> Result<Option<DecorrelatedPlan>> {
        let kept = match (kept, sort.fetch) {
            (Some(_), Some(_)) => return Ok(None),
            (None, Some(fetch)) => Some(LimitRange { skip: 0, fetch: Some(fetch) }),
            (kept, None) => kept,
        };
        let Some(inner) = self.push(&sort.input, None)? else { return Ok(None) };
        let mut order = Vec::with_capacity(sort.expr.len());
        for key in &sort.expr {
            let Some(expr) = self.resolve(&key.expr, &inner.keys)? else { return Ok(None) };
            order.push(SortKey { expr, ..key.clone() });
        }
        self.limited(inner, order, kept).map(Some)
    }

    fn filter(&self, predicate: &Expr, input: &LogicalPlan) -> Result<Option<DecorrelatedPlan>> {
        let Some(inner) = self.push(input, None)? else { return Ok(None) };
        let Some(predicate) = self.resolve(predicate, &inner.keys)? else { return Ok(None) };
        let plan = LogicalPlanBuilder::from(inner.plan).filter(predicate)?.build()?;
        Ok(Some(DecorrelatedPlan { plan, keys: inner.keys }))
    }

    /// Adds the key columns to the GROUP BY. An aggregation without GROUP BY must return one row
    /// even for an outer row to which no input rows belong, so its result is joined with the outer
    /// rows.
    fn aggregate(&self, aggregate: &Aggregate) -> Result<Option<DecorrelatedPlan>> {
        let Some(inner) = self.push(&aggregate.input, None)? else { return Ok(None) };
        if aggregate.group_expr.iter().any(|one| matches!(one, Expr::GroupingSet(_))) {
            return Ok(None);
        }
        let Some(mut groups) = self.resolve_all(&aggregate.group_expr, &inner.keys)? else {
            return Ok(None);
        };
        let Some(values) = self.resolve_all(&aggregate.aggr_expr, &inner.keys)? else {
            return Ok(None);
        };
        groups.extend(inner.keys.iter().cloned().map(Expr::Column));
        let plan = LogicalPlanBuilder::from(inner.plan).aggregate(groups, values)?.build()?;
        if !aggregate.group_expr.is_empty() {
            return Ok(Some(DecorrelatedPlan { plan, keys: inner.keys }));
        }
        // The keys of both sides of the join need different names.
        let alias = format!("{}_values", self.prefix);
        let renamed = |key: &Column| format!("{}_value", key.name);
        let on_right: Vec<Column> =
            inner.keys.iter().map(|key| Column::new(Some(alias.clone()), renamed(key))).collect();
        let columns = plan.schema().columns().into_iter().map(|column| {
            let name = inner.keys.contains(&column).then(|| renamed(&column));
            let expr = Expr::Column(column);
            name.map_or(expr.clone(), |name| expr.alias(name))
        });
        let columns: Vec<Expr> = columns.collect();
        let plan =
            LogicalPlanBuilder::from(plan).project(columns)?.alias(alias.clone())?.build()?;
        let joined = LogicalPlanBuilder::from(self.plan.clone()).join_detailed(
            plan,
            JoinType::Left,
            (self.keys.clone(), on_right),
            None,
            NullEquality::NullEqualsNull,
        )?;
        let mut exprs: Vec<Expr> = self.keys.iter().cloned().map(Expr::Column).collect();
        for (value, field) in aggregate.aggr_expr.iter().zip(aggregate.schema.fields()) {
            let column = Expr::Column(Column::new(Some(alias.clone()), field.name().clone()));
            exprs.push(or_default(value, column, aggregate)?.alias(field.name()));
        }
        let plan = joined.project(exprs)?.build()?;
        Ok(Some(DecorrelatedPlan { plan, keys: self.keys.clone() }))
    }

    fn unnest(&self, unnest: &Unnest) -> Result<Option<DecorrelatedPlan>> {
        let Some(inner) = self.push(&unnest.input, None)? else { return Ok(None) };
        let mut options = unnest.options.clone();
        let mut plan = inner.plan;
        if self.keeps_rows {
            // With this option, UNNEST returns one row for a null list, but still no row for an
            // empty list.
            options = options.with_preserve_nulls(true);
            let mut exprs = Vec::new();
            for (qualifier, field) in plan.schema().iter() {
                let column = Column::from((qualifier, field));
                let expr = Expr::Column(column.clone());
                exprs.push(if unnest.exec_columns.contains(&column) {
                    let null = ScalarValue::try_from(field.data_type())?;
                    let mut value = when(cardinality(expr.clone()).eq(lit(0_u64)), lit(null));
                    value.otherwise(expr)?.alias_qualified(column.relation, column.name)
                } else {
                    expr
                });
            }
            plan = LogicalPlanBuilder::from(plan).project(exprs)?.build()?;
        }
        let plan = LogicalPlanBuilder::from(plan)
            .unnest_columns_with_options(unnest.exec_columns.clone(), options)?
            .build()?;
        Ok(Some(DecorrelatedPlan { plan, keys: inner.keys }))
    }

    /// Applies a LIMIT separately to the rows that belong to each outer row.
    fn limited(
        &self,
        inner: DecorrelatedPlan,
        order: Vec<SortKey>,
        kept: Option<LimitRange>,
    ) -> Result<DecorrelatedPlan> {
        let Some(LimitRange { skip, fetch }) = kept else { return Ok(inner) };
        let columns: Vec<Expr> =
            inner.plan.schema().columns().into_iter().map(Expr::Column).collect();
        let keys = inner.keys.iter().cloned().map(Expr::Column).collect();
        let name = format!("{}row", self.prefix);
        let number = row_number().partition_by(keys).order_by(order).build()?.alias(&name);
        let place = || Expr::Column(Column::from_name(&name));
        let first = u64::try_from(skip).unwrap_or(u64::MAX);
        let mut condition = place().gt(lit(first));
        if let Some(fetch) = fetch {
            let last = first.saturating_add(u64::try_from(fetch).unwrap_or(u64::MAX));
            condition = condition.and(place().lt_eq(lit(last)));
        }
        let window = LogicalPlanBuilder::from(inner.plan).window(vec![number])?.build()?;
        let data_type = place().get_type(window.schema())?;
        let condition = condition
            .transform_up(|part| match part {
                Expr::Literal(value, metadata) => {
                    Ok(Transformed::yes(Expr::Literal(value.cast_to(&data_type)?, metadata)))
                }
                other => Ok(Transformed::no(other)),
            })?
            .data;
        let plan = LogicalPlanBuilder::from(window).filter(condition)?.project(columns)?.build()?;
        Ok(DecorrelatedPlan { plan, keys: inner.keys })
    }

    fn resolve_all(&self, exprs: &[Expr], keys: &[Column]) -> Result<Option<Vec<Expr>>> {
        exprs.iter().map(|expr| self.resolve(expr, keys)).collect()
    }

    /// Replaces outer columns in an expression by the key columns; `None` if the expression
    /// contains a subquery that has other outer columns.
    fn resolve(&self, expr: &Expr, keys: &[Column]) -> Result<Option<Expr>> {
        let mut is_supported = true;
        let resolved = expr.clone().transform_up(|part| match part {
            Expr::OuterReferenceColumn(_, column) => {
                if let Some(place) = self.outer.iter().position(|outer| *outer == column) {
                    return Ok(Transformed::yes(Expr::Column(keys[place].clone())));
                }
                is_supported = false;
                Ok(Transformed::no(Expr::Column(column)))
            }
            Expr::ScalarSubquery(subquery) => {
                is_supported &= subquery.outer_ref_columns.is_empty();
                Ok(Transformed::no(Expr::ScalarSubquery(subquery)))
            }
            Expr::Exists(_) | Expr::InSubquery(_) => {
                is_supported = false;
                Ok(Transformed::no(part))
            }
            other => Ok(Transformed::no(other)),
        })?;
        Ok(is_supported.then_some(resolved.data))
    }
}

/// Returns the rows that LIMIT keeps; `None` if its values are not constant.
fn rows_of(limit: &Limit) -> Result<Option<LimitRange>> {
    match (limit.get_skip_type()?, limit.get_fetch_type()?) {
        (SkipType::Literal(skip), FetchType::Literal(fetch)) => {
            Ok(Some(LimitRange { skip, fetch }))
        }
        _ => Ok(None),
    }
}

/// Returns an expression for a column of an aggregate after a left join. In rows without a match,
/// it is the aggregate's result for an empty input, such as 0 for a count.
fn or_default(value: &Expr, column: Expr, aggregate: &Aggregate) -> Result<Expr> {
    let mut inner = value;
    while let Expr::Alias(alias) = inner {
        inner = &alias.expr;
    }
    let Expr::AggregateFunction(function) = inner else { return Ok(column) };
    let data_type = value.get_type(aggregate.input.schema())?;
    let default = function.func.default_value(&data_type)?;
    if default.is_null() {
        return Ok(column);
    }
    when(column.clone().is_null(), lit(default)).otherwise(column)
}
