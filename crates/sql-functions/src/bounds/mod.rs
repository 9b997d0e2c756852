//! Limits on what scalar functions, operators and casts build.
//!
//! Each registered function has a [`rules::Rule`] that estimates its result from its arguments.
//! A call is refused before it allocates: a value may take a quarter of the statement's memory
//! limit, and all results of a statement together may take the limit. Results are charged to the
//! statement's [`FunctionMemory`] until the last batch that holds them is dropped.
//!
//! A batch whose estimate is too large is evaluated in slices of rows, since an estimate is an
//! upper bound. Constant folding follows the same limits. Aggregates and joins account for their
//! memory themselves.
//!
//! Upstream: not reported

mod argument;
mod budget;
mod call;
mod function;
mod hold;
mod lists;
mod operations;
mod rewrite;
mod rules;
mod text;

pub use self::budget::{FunctionMemory, StatementBudget};
pub(crate) use self::function::register;
pub(crate) use self::rewrite::BoundResults;
