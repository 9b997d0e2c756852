//! Correlated subqueries that DataFusion cannot decorrelate: LATERAL with LIMIT, comparisons other
//! than `=`, and UNNEST of a column of the same FROM.
//!
//! The rule runs after DataFusion's own rules, so it handles only the subqueries that those rules
//! left. The method is described by Neumann and Kemper, "Unnesting Arbitrary Queries" (2015). The
//! subquery is evaluated once for all distinct values of the outer columns. Its result has these
//! values as additional columns, by which it is joined with the outer rows.
//!
//! Upstream: <https://github.com/apache/datafusion/issues/13748>

mod dependent_join;
mod outer_rows;

pub(super) use self::dependent_join::DecorrelationRule;
