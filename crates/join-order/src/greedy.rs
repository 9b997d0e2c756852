//! Greedy operator ordering: repeatedly joins the two inputs whose join has the fewest estimated
//! rows.
//!
//! The method is from Fegaras (1998). The method considers bushy trees, and its time is cubic in
//! the number of relations.

use crate::condition::RelationSet;
use crate::estimate::RelationEstimate;

/// An order of joins, as a binary tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JoinTree {
    /// A relation, by its index.
    Relation(usize),
    /// A join of two inputs.
    Join(Box<(JoinTree, JoinTree)>),
}

impl JoinTree {
    /// Returns all relations of the tree.
    pub fn relations(&self) -> RelationSet {
        match self {
            JoinTree::Relation(at) => 1 << at,
            JoinTree::Join(inputs) => inputs.0.relations() | inputs.1.relations(),
        }
    }
}

/// Sets of relations with conditions between them, each with the estimated share of row
/// combinations that satisfy these conditions.
type Selectivities = [(RelationSet, f64)];

/// Relations that are already joined, with the estimated rows of the join.
struct JoinedRelations {
    tree: JoinTree,
    relations: RelationSet,
    rows: f64,
}

/// Returns an order of the relations, with the smaller input of each join first.
pub fn order(estimates: &[RelationEstimate], conditions: &Selectivities) -> JoinTree {
    let part = |(at, estimate): (usize, &RelationEstimate)| JoinedRelations {
        tree: JoinTree::Relation(at),
        relations: 1 << at,
        rows: estimate.rows,
    };
    let mut parts: Vec<JoinedRelations> = estimates.iter().enumerate().map(part).collect();
    while parts.len() > 1 {
        let (a, b, rows) = next_join(&parts, conditions);
        let (second, first) = (parts.swap_remove(b), parts.swap_remove(a));
        let (small, large) =
            if first.rows <= second.rows { (first, second) } else { (second, first) };
        parts.push(JoinedRelations {
            relations: small.relations | large.relations,
            tree: JoinTree::Join(Box::new((small.tree, large.tree))),
            rows,
        });
    }
    parts.swap_remove(0).tree
}

/// Returns the indexes `a < b` of the next two parts to join, and the rows of this join. Parts
/// without a common condition are joined only if no pair with a condition is left.
fn next_join(parts: &[JoinedRelations], conditions: &Selectivities) -> (usize, usize, f64) {
    let mut best = (0, 1, f64::INFINITY, false);
    for a in 0..parts.len() {
        for b in a + 1..parts.len() {
            let share = selectivity_between(parts[a].relations, parts[b].relations, conditions);
            let rows = parts[a].rows * parts[b].rows * share.unwrap_or(1.0);
            let is_connected = share.is_some();
            let is_better = (is_connected && !best.3) || (is_connected == best.3 && rows < best.2);
            if is_better {
                best = (a, b, rows, is_connected);
            }
        }
    }
    (best.0, best.1, best.2)
}

/// Returns the share of row combinations that a join of two parts keeps; `None` without a
/// condition.
fn selectivity_between(
    left: RelationSet,
    right: RelationSet,
    conditions: &Selectivities,
) -> Option<f64> {
    let mut share = None;
    for (relations, selectivity) in conditions {
        let applies_here =
            relations & !(left | right) == 0 && relations & !left != 0 && relations & !right != 0;
        if applies_here {
            share = Some(share.unwrap_or(1.0) * selectivity);
        }
    }
    share
}

/// Returns the cost of an order: the sum of the estimated rows of all its joins.
pub fn cost(tree: &JoinTree, estimates: &[RelationEstimate], conditions: &Selectivities) -> f64 {
    rows_and_cost(tree, estimates, conditions).1
}

fn rows_and_cost(
    tree: &JoinTree,
    estimates: &[RelationEstimate],
    conditions: &Selectivities,
) -> (f64, f64) {
    let inputs = match tree {
        JoinTree::Relation(at) => return (estimates[*at].rows, 0.0),
        JoinTree::Join(inputs) => inputs,
    };
    let (left_rows, left_cost) = rows_and_cost(&inputs.0, estimates, conditions);
    let (right_rows, right_cost) = rows_and_cost(&inputs.1, estimates, conditions);
    let share = selectivity_between(inputs.0.relations(), inputs.1.relations(), conditions);
    let rows = left_rows * right_rows * share.unwrap_or(1.0);
    (rows, left_cost + right_cost + rows)
}
