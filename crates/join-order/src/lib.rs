//! Rules of DataFusion's optimizer that decide by estimated cost: the order of inner joins, and
//! aggregation before a join.
//!
//! [`JoinOrderRule`] splits three or more inner joins into relations and conditions, and estimates
//! the rows of each possible join from the statistics of the tables. It joins the pair with the
//! fewest rows first. The new order replaces the old order only if its estimated cost is far lower.
//! This limits the effect of wrong estimates.
//!
//! DataFusion 55 keeps the order in which a query names its tables; it only exchanges the two
//! inputs of a join. Upstream: <https://github.com/apache/datafusion/issues/3843>

mod condition;
mod early_aggregation;
mod estimate;
mod fallible_expression;
mod greedy;
mod inner_join_tree;
mod rule;
mod selectivity;
mod split_aggregates;

pub use self::early_aggregation::EarlyAggregationRule;
pub use self::rule::{JoinOrderRule, with_cost_based_rules};
