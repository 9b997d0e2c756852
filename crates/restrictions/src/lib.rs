//! Row filters and column masks on DataFusion: their expressions, and the table that applies them.
//!
//! [`RestrictionExpression`] is parsed and bound to a user. [`query`] returns the SQL of a
//! restricted table, which the engine plans. [`RestrictedTable`] runs that plan behind a barrier:
//! no expression of a statement is evaluated on hidden rows or values, and statements cannot see
//! their statistics.

mod expression;
mod restricted_query;
mod restricted_scan;
mod restricted_table;

pub use expression::RestrictionExpression;
pub use restricted_query::{RestrictedQuery, SOURCE, columns_used, query};
pub use restricted_scan::hidden_scan;
pub use restricted_table::RestrictedTable;
