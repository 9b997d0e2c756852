//! Inner joins that can be executed in any order: their relations and conditions.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::common::{JoinConstraint, JoinType, NullEquality, Result};
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{BinaryExpr, Expr, Join, LogicalPlan, Operator};

use crate::condition::{Condition, RelationSet};
use crate::estimate::RelationEstimate;
use crate::greedy::JoinTree;
use crate::selectivity::{UNKNOWN_CONDITION, joined_share};

/// Largest number of relations that are reordered.
const RELATIONS_MAX: usize = 32;

/// Smallest number of relations that are reordered. For two relations, DataFusion decides the order
/// of the inputs later.
const RELATIONS_MIN: usize = 3;

/// Adjacent inner joins: the joined relations, and the conditions of all joins.
#[derive(Debug)]
pub struct InnerJoinTree {
    pub relations: Vec<Arc<LogicalPlan>>,
    pub conditions: Vec<Condition>,
    /// The order of joins in the query.
    pub tree: JoinTree,
}

/// Returns true for an inner join in which null does not equal null.
pub fn is_inner_join(plan: &LogicalPlan) -> bool {
    matches!(plan, LogicalPlan::Join(join) if join.join_type == JoinType::Inner
        && join.null_equality == NullEquality::NullEqualsNothing)
}

impl InnerJoinTree {
    /// Splits a tree of inner joins into relations and conditions; `None` if the joins cannot be
    /// reordered.
    pub fn of(plan: &Arc<LogicalPlan>) -> Option<Self> {
        let (mut relations, mut exprs) = (Vec::new(), Vec::new());
        let tree = flatten_joins(plan, &mut relations, &mut exprs);
        if !(RELATIONS_MIN..=RELATIONS_MAX).contains(&relations.len()) {
            return None;
        }
        let mut conditions = Vec::new();
        for expr in exprs {
            match Condition::new(expr, &relations) {
                Some(condition) if condition.relations != 0 => conditions.push(condition),
                _ => return None,
            }
        }
        Some(InnerJoinTree { relations, conditions, tree })
    }

    /// Estimates the share of row combinations that satisfy the conditions, for each set of
    /// relations with a condition. Equalities between the same two relations are estimated
    /// together, because the columns of a compound key are not independent.
    pub fn selectivities(&self, estimates: &[RelationEstimate]) -> Vec<(RelationSet, f64)> {
        let mut equalities: BTreeMap<RelationSet, Vec<&Condition>> = BTreeMap::new();
        let mut shares = Vec::new();
        for condition in &self.conditions {
            if condition.sides.is_some() && condition.relations.count_ones() == 2 {
                equalities.entry(condition.relations).or_default().push(condition);
            } else {
                shares.push((condition.relations, UNKNOWN_CONDITION));
            }
        }
        for (relations, conditions) in equalities {
            shares.push((relations, joined_share(relations, &conditions, estimates)));
        }
        shares
    }

    /// Returns a plan that joins the relations in the order of `tree`.
    pub fn plan(&self, tree: &JoinTree) -> Result<LogicalPlan> {
        Ok(Arc::unwrap_or_clone(self.subplan(tree)?))
    }

    fn subplan(&self, tree: &JoinTree) -> Result<Arc<LogicalPlan>> {
        let (left, right) = match tree {
            JoinTree::Relation(at) => return Ok(Arc::clone(&self.relations[*at])),
            JoinTree::Join(inputs) => (&inputs.0, &inputs.1),
        };
        let (l, r) = (left.relations(), right.relations());
        let (mut on, mut filters) = (Vec::new(), Vec::new());
        let applies_here = |condition: &&Condition| {
            let read = condition.relations;
            read & !(l | r) == 0 && read & !l != 0 && read & !r != 0
        };
        // A condition that reads only one relation is applied by the join that has this relation as
        // its direct input.
        let alone = |condition: &&Condition| {
            let read = condition.relations;
            read.is_power_of_two() && (read == l || read == r)
        };
        for condition in self.conditions.iter().filter(applies_here) {
            match condition.keys(l, r) {
                Some(keys) => on.push(keys),
                None => filters.push(condition.expr.clone()),
            }
        }
        filters.extend(self.conditions.iter().filter(alone).map(|one| one.expr.clone()));
        let join = Join::try_new(
            self.subplan(left)?,
            self.subplan(right)?,
            on,
            conjunction(filters),
            JoinType::Inner,
            JoinConstraint::On,
            NullEquality::NullEqualsNothing,
            false,
        )?;
        Ok(Arc::new(LogicalPlan::Join(join)))
    }
}

/// Collects the relations and conditions below a plan.
fn flatten_joins(
    plan: &Arc<LogicalPlan>,
    relations: &mut Vec<Arc<LogicalPlan>>,
    conditions: &mut Vec<Expr>,
) -> JoinTree {
    let join = match plan.as_ref() {
        LogicalPlan::Join(join) if is_inner_join(plan) => join,
        _ => {
            relations.push(Arc::clone(plan));
            return JoinTree::Relation(relations.len() - 1);
        }
    };
    let left = flatten_joins(&join.left, relations, conditions);
    let right = flatten_joins(&join.right, relations, conditions);
    let equality = |(left, right): &(Expr, Expr)| {
        let (left, right) = (Box::new(left.clone()), Box::new(right.clone()));
        Expr::BinaryExpr(BinaryExpr::new(left, Operator::Eq, right))
    };
    conditions.extend(join.on.iter().map(equality));
    if let Some(filter) = &join.filter {
        conditions.extend(split_conjunction(filter).into_iter().cloned());
    }
    JoinTree::Join(Box::new((left, right)))
}
