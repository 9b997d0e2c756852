//! Memory limits on the results of scalar functions, operators and casts.
//!
//! Each registered function has a [`rules::SizeRule`] that estimates its result from its arguments.
//! A call whose result would be too large is rejected before it allocates memory. One value may use
//! a quarter of the statement's memory limit. All results of a statement together may use the whole
//! limit. Results count towards the limits of the statement's [`FunctionMemory`] until the last
//! batch that references them is dropped.
//!
//! An estimate is an upper bound. If the estimate of a batch is too large, the batch is evaluated
//! in slices of rows. Limits also apply when the optimizer folds constants. Aggregates and joins
//! account for their own memory. The results of functions in Python cannot be estimated, so they
//! are measured.
//!
//! Upstream: <https://github.com/apache/datafusion/issues/5415>

mod argument;
mod budget;
mod call;
mod charged_buffer;
mod function;
mod lists;
mod operator_functions;
mod python_memory;
mod rewrite;
mod rules;
mod text;

pub use self::budget::{FunctionMemory, FunctionMemoryExtension};
pub(crate) use self::function::register;
pub(crate) use self::rewrite::ResultSizeAnalyzerRule;
