//! Estimated shares of rows that satisfy a condition.
//!
//! If nothing is known about a condition, its share is System R's default, as in most optimizers.

use datafusion::common::{Column, ScalarValue};
use datafusion::logical_expr::{Between, BinaryExpr, Expr, Operator};

use crate::condition::{Condition, RelationSet};
use crate::estimate::{ColumnEstimate, RelationEstimate, number};

/// Assumed share of rows that satisfy a condition of unknown kind.
pub const UNKNOWN_CONDITION: f64 = 0.25;

/// Assumed share of rows that satisfy an equality with a column whose number of distinct values is
/// unknown.
const UNKNOWN_EQUALITY: f64 = 0.1;

/// Assumed share of rows that satisfy a comparison with a column of unknown range.
const UNKNOWN_RANGE: f64 = 0.33;

/// Assumed share of rows that match a pattern such as `LIKE`.
const PATTERN: f64 = 0.1;

/// Returns the share of combinations of two relations that satisfy equalities between them.
///
/// `conditions` are the equalities. Each value of the side with fewer distinct values is assumed to
/// occur on the other side. A compound key has at most as many distinct values as its relation has
/// rows.
pub fn joined_share(
    relations: RelationSet,
    conditions: &[&Condition],
    estimates: &[RelationEstimate],
) -> f64 {
    let values = |relation: usize| {
        let estimate = &estimates[relation];
        let sides = conditions.iter().flat_map(|condition| condition.sides.iter().flatten());
        let sides = sides.filter(|side| side.relations == 1 << relation);
        let distinct = |column: Option<Column>| {
            column.and_then(|column| estimate.distinct(&column)).unwrap_or(estimate.rows)
        };
        let product: f64 = sides.map(|side| distinct(side.column())).product();
        product.min(estimate.rows).max(1.0)
    };
    let first = relations.trailing_zeros() as usize;
    let second = (relations & (relations - 1)).trailing_zeros() as usize;
    1.0 / values(first).max(values(second))
}

/// Returns the share of a relation's rows that satisfy a condition, and narrows the estimated
/// ranges of the relation's columns to the values that the condition permits.
pub fn apply(condition: &Expr, estimate: &mut RelationEstimate) -> f64 {
    match condition {
        // A condition without columns, such as `'s' = 's'` in a branch of a UNION, is simplified
        // later: to true, or to a plan without rows.
        _ if condition.column_refs().is_empty() => 1.0,
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
            apply(left, estimate) * apply(right, estimate)
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
            let (a, b) = (apply(left, &mut estimate.clone()), apply(right, &mut estimate.clone()));
            (a + b - a * b).min(1.0)
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => comparison(left, *op, right, estimate),
        Expr::Between(Between { expr, negated: false, low, high }) => {
            let low = comparison(expr, Operator::GtEq, low, estimate);
            low * comparison(expr, Operator::LtEq, high, estimate)
        }
        Expr::InList(list) if !list.negated => {
            let one = equality(&list.expr, None, estimate);
            (one * list.list.len() as f64).min(1.0)
        }
        Expr::Not(inner) => 1.0 - apply(inner, &mut estimate.clone()),
        Expr::IsNotNull(_) | Expr::Literal(ScalarValue::Boolean(Some(true)), _) => 1.0,
        Expr::IsNull(_) => PATTERN,
        Expr::Like(like) if !like.negated => PATTERN,
        _ => UNKNOWN_CONDITION,
    }
}

fn comparison(left: &Expr, op: Operator, right: &Expr, estimate: &mut RelationEstimate) -> f64 {
    let (column, op, value) = match (left, right) {
        (_, Expr::Literal(value, _)) => (left, op, value),
        (Expr::Literal(value, _), _) => match op.swap() {
            Some(op) => (right, op, value),
            None => return UNKNOWN_CONDITION,
        },
        _ => return UNKNOWN_CONDITION,
    };
    match op {
        Operator::Eq => equality(column, Some(value), estimate),
        Operator::NotEq => 1.0 - equality(column, None, &mut estimate.clone()),
        Operator::Lt | Operator::LtEq => range(column, value, estimate, false),
        Operator::Gt | Operator::GtEq => range(column, value, estimate, true),
        _ => UNKNOWN_CONDITION,
    }
}

/// Returns the share of rows in which a column equals one value. If `value` is given, narrows the
/// column's estimated range to this value.
fn equality(column: &Expr, value: Option<&ScalarValue>, estimate: &mut RelationEstimate) -> f64 {
    let Some(known) = column_of(column).and_then(|column| estimate.columns.get_mut(&column)) else {
        return UNKNOWN_EQUALITY;
    };
    let share = known.distinct.map_or(UNKNOWN_EQUALITY, |distinct| 1.0 / distinct.max(1.0));
    if let Some(value) = value {
        let value = number(value);
        *known = ColumnEstimate { distinct: Some(1.0), min: value, max: value };
    }
    share
}

/// Returns the share of rows in which a column is above or below a value, and narrows the column's
/// estimated range.
fn range(column: &Expr, value: &ScalarValue, estimate: &mut RelationEstimate, above: bool) -> f64 {
    let known = column_of(column).and_then(|column| estimate.columns.get_mut(&column));
    let Some(known) = known else { return UNKNOWN_RANGE };
    let (Some(min), Some(max), Some(value)) = (known.min, known.max, number(value)) else {
        return UNKNOWN_RANGE;
    };
    let share = if max > min { ((value - min) / (max - min)).clamp(0.0, 1.0) } else { 0.5 };
    let share = if above { 1.0 - share } else { share };
    if above {
        known.min = Some(value.clamp(min, max));
    } else {
        known.max = Some(value.clamp(min, max));
    }
    known.distinct = known.distinct.map(|distinct| (distinct * share).max(1.0));
    share
}

/// Returns the column of an expression, also below casts.
fn column_of(expr: &Expr) -> Option<Column> {
    match expr {
        Expr::Column(column) => Some(column.clone()),
        Expr::Cast(cast) => column_of(&cast.expr),
        Expr::TryCast(cast) => column_of(&cast.expr),
        _ => None,
    }
}
