//! Rewrites `x IN (SELECT …)` and `EXISTS (SELECT …)` so that they treat nulls as SQL requires.
//!
//! In conditions, DataFusion plans these subqueries as joins, and treats null as false. This is
//! wrong under NOT and within other expressions. In these places, `IN` is replaced by an explicit
//! comparison. `x NOT IN` is true if the subquery has no rows, or if `x` is not null and no row
//! equals `x` or is null. An uncorrelated `x NOT IN (SELECT …)` at the top level of a conjunction
//! is not rewritten, because DataFusion has an anti join for it.
//!
//! DataFusion does not support IN and EXISTS subqueries in a select list, so they are replaced by
//! row counts.
//!
//! Upstream: <https://github.com/apache/datafusion/issues/8241>,
//! <https://github.com/apache/datafusion/issues/25347>

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, ExprSchema, Result, ScalarValue, TableReference};
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::expr::{Exists, InSubquery};
use datafusion::logical_expr::utils::{conjunction, merge_schema};
use datafusion::logical_expr::{
    BinaryExpr, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, Operator, Subquery, lit, not,
    when,
};

use super::rewrite_values;

/// Alias of the subquery's rows; the NUL character avoids collisions with user names.
const ROWS: &str = "\0in";

/// Rewrites all IN and EXISTS subqueries of a plan. Types must be known.
pub(super) fn rewrite(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    if matches!(plan, LogicalPlan::Join(_)) {
        return Ok(Transformed::no(plan));
    }
    let is_condition = matches!(plan, LogicalPlan::Filter(_));
    let schema = merge_schema(&plan.inputs());
    rewrite_values(plan, |expr| {
        let holds = |part: &Expr| Ok(matches!(part, Expr::InSubquery(_) | Expr::Exists(_)));
        if !expr.exists(holds)? {
            return Ok(Transformed::no(expr));
        }
        let settled = if is_condition {
            condition(expr, ConditionContext { alone: true, negated: false }, &schema)?
        } else {
            value(expr, false, &schema)?
        };
        Ok(Transformed::yes(settled))
    })
}

/// The position of a condition within the surrounding expression.
#[derive(Debug, Clone, Copy)]
struct ConditionContext {
    /// True if the condition is the whole condition of the plan, or an operand of its outermost
    /// AND.
    alone: bool,
    /// True if the condition is under an odd number of NOTs.
    negated: bool,
}

/// Rewrites a condition. The new condition is true for the same rows as the old one. For other
/// rows, it may be false where the old one is null, and null where it is false.
fn condition(expr: Expr, place: ConditionContext, schema: &DFSchema) -> Result<Expr> {
    Ok(match expr {
        Expr::Not(inner) => {
            not(condition(*inner, ConditionContext { negated: !place.negated, ..place }, schema)?)
        }
        Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::And | Operator::Or), right }) => {
            let splits = (op == Operator::And) != place.negated;
            let place = ConditionContext { alone: place.alone && splits, ..place };
            let (left, right) =
                (condition(*left, place, schema)?, condition(*right, place, schema)?);
            Expr::BinaryExpr(BinaryExpr { left: Box::new(left), op, right: Box::new(right) })
        }
        Expr::InSubquery(within) if within.negated != place.negated => {
            not_in(within, place.alone, schema)?
        }
        found @ (Expr::InSubquery(_) | Expr::Exists(_)) => found,
        other => value(other, true, schema)?,
    })
}

/// Rewrites `x NOT IN (…)`, or `x IN (…)` under NOT.
fn not_in(within: InSubquery, alone: bool, schema: &DFSchema) -> Result<Expr> {
    let depends = !within.subquery.outer_ref_columns.is_empty();
    if !depends && alone && !within.expr.column_refs().is_empty() {
        return Ok(Expr::InSubquery(within));
    }
    let InSubquery { expr: of, subquery, negated } = within;
    let rows = SubqueryRows::of(&subquery, &of, schema)?;
    if depends {
        let may_be_null = rows.nullable || of.nullable(schema)?;
        let equal = rows.equal();
        let may_equal = if may_be_null { Expr::IsNotFalse(Box::new(equal)) } else { equal };
        let subquery = rows.filtered_by(vec![may_equal])?;
        return Ok(Expr::Exists(Exists { subquery, negated }));
    }
    let none_equal =
        Expr::Exists(Exists { subquery: rows.filtered_by(vec![rows.equal()])?, negated: true });
    let none_null = rows.count(vec![rows.null()])?.eq(lit(0_i64));
    let comparable = of.is_not_null().or(rows.count(vec![])?.eq(lit(0_i64)));
    let none = none_equal.and(none_null).and(comparable);
    Ok(if negated { none } else { not(none) })
}

/// Rewrites an expression in which a null must stay distinct from false.
fn value(expr: Expr, in_condition: bool, schema: &DFSchema) -> Result<Expr> {
    let settled = expr.transform_up(|expr| {
        Ok(match expr {
            Expr::InSubquery(within) => Transformed::yes(is_in(within, schema)?),
            Expr::Exists(Exists { subquery, negated }) if !in_condition => {
                let count = count_of(&subquery)?;
                let none = count.clone().eq(lit(0_i64));
                Transformed::yes(if negated { none } else { count.gt(lit(0_i64)) })
            }
            other => Transformed::no(other),
        })
    })?;
    Ok(settled.data)
}

/// Returns `x IN (…)` as an expression that is true, false or null.
fn is_in(within: InSubquery, schema: &DFSchema) -> Result<Expr> {
    let InSubquery { expr: of, subquery, negated } = within;
    let rows = SubqueryRows::of(&subquery, &of, schema)?;
    let any = |count: Expr| count.gt(lit(0_i64));
    let some_equal = any(rows.count(vec![rows.equal()])?);
    let incomparable = of.is_null().and(any(rows.count(vec![])?));
    let unknown = incomparable.or(any(rows.count(vec![rows.null()])?));
    let unset = lit(ScalarValue::Boolean(None));
    when(some_equal, lit(!negated)).when(unknown, unset).otherwise(lit(negated))
}

fn rows() -> TableReference {
    TableReference::bare(ROWS)
}

/// The subquery of an IN, whose rows are compared with the left operand.
struct SubqueryRows<'a> {
    subquery: &'a Subquery,
    /// The left operand of IN, as an outer reference in the subquery.
    outside: Expr,
    /// Outer columns that the left operand of IN uses.
    columns: Vec<Expr>,
    nullable: bool,
}

impl<'a> SubqueryRows<'a> {
    fn of(subquery: &'a Subquery, value: &Expr, schema: &DFSchema) -> Result<Self> {
        let mut columns = Vec::new();
        let outside = value.clone().transform_up(|part| {
            let Expr::Column(column) = part else { return Ok(Transformed::no(part)) };
            let field = Arc::clone(schema.field_from_column(&column)?);
            let outside = Expr::OuterReferenceColumn(field, column);
            columns.push(outside.clone());
            Ok(Transformed::yes(outside))
        })?;
        let nullable = subquery.subquery.schema().field(0).is_nullable();
        Ok(SubqueryRows { subquery, outside: outside.data, columns, nullable })
    }

    /// Returns true if the subquery refers to outer columns.
    fn depends(&self) -> bool {
        !self.subquery.outer_ref_columns.is_empty()
    }

    /// Returns the only column of the subquery.
    fn column(&self) -> Expr {
        let (qualifier, field) = self.subquery.subquery.schema().qualified_field(0);
        let qualifier = if self.depends() { qualifier.cloned() } else { Some(rows()) };
        Expr::Column(Column::new(qualifier, field.name()))
    }

    fn equal(&self) -> Expr {
        self.column().eq(self.outside.clone())
    }

    fn null(&self) -> Expr {
        self.column().is_null()
    }

    /// Returns the subquery with only the rows that satisfy all of these conditions.
    fn filtered_by(&self, conditions: Vec<Expr>) -> Result<Subquery> {
        let Subquery { subquery, outer_ref_columns, spans } = self.subquery;
        let mut outer_ref_columns = outer_ref_columns.clone();
        let Some(condition) = conjunction(conditions) else { return Ok(self.subquery.clone()) };
        if condition.contains_outer() {
            outer_ref_columns.extend(self.columns.iter().cloned());
        }
        let plan = LogicalPlanBuilder::from(subquery.as_ref().clone());
        // Do not add an alias to a correlated subquery, because DataFusion finds its outer
        // references by the names of its relations.
        let plan = if self.depends() { plan } else { plan.alias(rows())? };
        let plan = plan.filter(condition)?.build()?;
        Ok(Subquery { subquery: Arc::new(plan), outer_ref_columns, spans: spans.clone() })
    }

    fn count(&self, conditions: Vec<Expr>) -> Result<Expr> {
        count_of(&self.filtered_by(conditions)?)
    }
}

/// Returns the row count of a subquery as a scalar subquery.
fn count_of(query: &Subquery) -> Result<Expr> {
    let Subquery { subquery, outer_ref_columns, spans } = query.clone();
    let plan = LogicalPlanBuilder::from(Arc::unwrap_or_clone(subquery));
    let plan = plan.aggregate(Vec::<Expr>::new(), vec![count(lit(1_i64))])?;
    let counts = plan.schema().columns().into_iter().map(|count| Expr::Column(count).alias(ROWS));
    let plan = plan.project(counts.collect::<Vec<_>>())?.build()?;
    Ok(Expr::ScalarSubquery(Subquery { subquery: Arc::new(plan), outer_ref_columns, spans }))
}
