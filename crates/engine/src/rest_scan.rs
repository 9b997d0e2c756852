//! Plans scans for the Iceberg REST catalog. A filter is an Iceberg expression. Files are pruned by
//! their column bounds, as for SQL statements.

use arrow::array::{Array, ArrayRef};
use datafusion::common::{Column, Result, ScalarValue};
use datafusion::logical_expr::{Expr, lit};
use headwater_table_rest::{Condition, Filter, PredicateOperator, ScanPlan};
use headwater_table_scan::prune;

use crate::Engine;
use crate::error::Error;

/// Maximum number of values of an IN filter that prunes files; a filter with more values prunes
/// nothing.
const VALUES_MAX: usize = 1_000;

impl Engine {
    /// Returns the files of a plan that may contain a row that matches a filter.
    pub fn prune(&self, plan: &ScanPlan, filter: &Filter) -> crate::Result<ScanPlan> {
        let pruned = match filter {
            Filter::Always(true) => return Ok(plan.clone()),
            Filter::Always(false) => return Ok(plan.retain(&vec![false; plan.files().len()])),
            filter => expression(filter).and_then(|filter| match filter {
                Some(filter) => prune(plan, plan.schema(), &[filter], self.template().as_ref()),
                None => Ok(plan.clone()),
            }),
        };
        pruned.map_err(|error| Error::Internal { message: error.to_string() })
    }
}

/// Returns a predicate that is true for every row that matches the filter, and possibly for other
/// rows; `None` if the filter cannot be converted.
fn expression(filter: &Filter) -> Result<Option<Expr>> {
    let (parts, together): (_, fn(Expr, Expr) -> Expr) = match filter {
        Filter::Always(always) => return Ok((!always).then(|| lit(false))),
        Filter::Is(condition) => return of_condition(condition),
        Filter::And(parts) => (parts, Expr::and),
        Filter::Or(parts) => (parts, Expr::or),
    };
    let parts = parts.iter().map(expression).collect::<Result<Vec<Option<Expr>>>>()?;
    if matches!(filter, Filter::Or(_)) && parts.iter().any(Option::is_none) {
        return Ok(None);
    }
    Ok(joined(parts.into_iter().flatten().collect(), together))
}

/// Combines predicates with `together` as a balanced tree, because the planner recurses over
/// expressions and cannot handle deep expressions.
fn joined(mut parts: Vec<Expr>, together: fn(Expr, Expr) -> Expr) -> Option<Expr> {
    if parts.len() <= 1 {
        return parts.pop();
    }
    let right = parts.split_off(parts.len() / 2);
    let (left, right) = (joined(parts, together)?, joined(right, together)?);
    Some(together(left, right))
}

fn of_condition(condition: &Condition) -> Result<Option<Expr>> {
    let Some(name) = condition.column.as_ref().filter(|_| !condition.is_of_transform()) else {
        return Ok(None);
    };
    let column = || Expr::Column(Column::new_unqualified(name));
    match condition.test {
        PredicateOperator::IsNull => return Ok(Some(column().is_null())),
        PredicateOperator::NotNull => return Ok(Some(column().is_not_null())),
        _ => {}
    }
    let Some(values) = &condition.values else { return Ok(None) };
    let set = matches!(condition.test, PredicateOperator::In | PredicateOperator::NotIn);
    if set {
        if values.len() > VALUES_MAX {
            return Ok(None);
        }
        let values: Vec<Expr> =
            (0..values.len()).map(|row| value(values, row)).collect::<Result<_>>()?;
        let denied = condition.test == PredicateOperator::NotIn;
        let among = column().in_list(values, denied);
        return Ok(Some(if denied { among.or(column().is_null()) } else { among }));
    }
    let value = value(values, 0)?;
    Ok(match condition.test {
        PredicateOperator::Lt => Some(column().lt(value)),
        PredicateOperator::LtEq => Some(column().lt_eq(value)),
        PredicateOperator::Gt => Some(column().gt(value)),
        PredicateOperator::GtEq => Some(column().gt_eq(value)),
        PredicateOperator::Eq => Some(column().eq(value)),
        // Some engines count a null as not equal to the value, so keep files with nulls.
        PredicateOperator::NotEq => Some(column().not_eq(value).or(column().is_null())),
        PredicateOperator::StartsWith => Some(begins(column(), value)),
        _ => None,
    })
}

fn value(values: &ArrayRef, row: usize) -> Result<Expr> {
    Ok(lit(ScalarValue::try_from_array(values, row)?))
}

/// Returns a range predicate for `starts with`: from the prefix (inclusive) to the smallest text
/// that is greater than all texts with this prefix (exclusive).
fn begins(column: Expr, start: Expr) -> Expr {
    let after = match &start {
        Expr::Literal(ScalarValue::Utf8(Some(text)), _) => following(text),
        _ => None,
    };
    let least = column.clone().gt_eq(start);
    match after {
        Some(after) => least.and(column.lt(lit(after))),
        None => least,
    }
}

/// Returns the smallest text that is greater than all texts with this prefix; `None` if there is no
/// such text.
fn following(text: &str) -> Option<String> {
    let mut text = text.to_owned();
    while let Some(last) = text.pop() {
        // A range of `char` skips the surrogates, which are not characters.
        if let Some(next) = (last..=char::MAX).nth(1) {
            text.push(next);
            return Some(text);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exclusive_end_of_a_prefix() {
        assert_eq!(following("ab").as_deref(), Some("ac"));
        assert_eq!(following("a\u{10FFFF}").as_deref(), Some("b"));
        assert_eq!(following("\u{D7FF}").as_deref(), Some("\u{E000}"));
        assert_eq!(following("\u{10FFFF}"), None);
        assert_eq!(following(""), None);
    }
}
