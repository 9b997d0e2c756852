//! The conditions of adjacent inner joins, and the relations that each condition reads.

use std::sync::Arc;

use datafusion::common::Column;
use datafusion::logical_expr::{BinaryExpr, Expr, LogicalPlan, Operator};

/// A set of relations, one bit each.
pub type RelationSet = u64;

/// A condition, and the relations whose columns it reads.
#[derive(Debug, Clone)]
pub struct Condition {
    pub expr: Expr,
    pub relations: RelationSet,
    /// The two sides if the condition is an equality whose sides read different relations;
    /// otherwise `None`.
    pub sides: Option<[EqualitySide; 2]>,
}

/// One side of an equality.
#[derive(Debug, Clone)]
pub struct EqualitySide {
    pub expr: Expr,
    pub relations: RelationSet,
}

impl Condition {
    /// Creates a condition on columns of these relations. Returns `None` if a column belongs to
    /// none of them, or if the condition is volatile: its value may change between evaluations.
    pub fn new(expr: Expr, relations: &[Arc<LogicalPlan>]) -> Option<Self> {
        if expr.is_volatile() {
            return None;
        }
        let read = relations_of(&expr, relations)?;
        let sides = match &expr {
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => {
                sides(left, right, relations)
            }
            _ => None,
        };
        Some(Condition { expr, relations: read, sides })
    }

    /// Returns the side that reads the left input of a join, and the side that reads the right
    /// input; `None` if the condition is not an equality between these inputs.
    pub fn keys(&self, left: RelationSet, right: RelationSet) -> Option<(Expr, Expr)> {
        let [a, b] = self.sides.as_ref()?;
        let within = |side: &EqualitySide, input: RelationSet| side.relations & !input == 0;
        if within(a, left) && within(b, right) {
            Some((a.expr.clone(), b.expr.clone()))
        } else if within(b, left) && within(a, right) {
            Some((b.expr.clone(), a.expr.clone()))
        } else {
            None
        }
    }
}

impl EqualitySide {
    /// Returns the only column of this side; `None` if there is no column or several columns. The
    /// number of distinct values of the side is estimated from this column.
    pub fn column(&self) -> Option<Column> {
        let mut columns = self.expr.column_refs().into_iter();
        let first = columns.next()?.clone();
        columns.next().is_none().then_some(first)
    }
}

fn sides(left: &Expr, right: &Expr, relations: &[Arc<LogicalPlan>]) -> Option<[EqualitySide; 2]> {
    let side = |expr: &Expr| {
        let read = relations_of(expr, relations).filter(|read| *read != 0)?;
        Some(EqualitySide { expr: expr.clone(), relations: read })
    };
    let sides = [side(left)?, side(right)?];
    (sides[0].relations & sides[1].relations == 0).then_some(sides)
}

/// Returns the relations whose columns an expression reads; `None` if a column belongs to no
/// relation or to several.
fn relations_of(expr: &Expr, relations: &[Arc<LogicalPlan>]) -> Option<RelationSet> {
    let mut read = 0;
    for column in expr.column_refs() {
        let mut owners =
            (0..relations.len()).filter(|at| relations[*at].schema().has_column(column));
        let owner = owners.next()?;
        if owners.next().is_some() {
            return None;
        }
        read |= 1 << owner;
    }
    Some(read)
}
