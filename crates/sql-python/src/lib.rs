//! Python functions that SQL statements call, as scalar functions of DataFusion.
//!
//! A [`FunctionDefinition`] is the parsed form of CREATE FUNCTION. [`PythonUdf`] is the function in
//! a plan: it passes the arguments of each batch to a [`PythonRuntime`], which the caller of the
//! engine provides. [`StatementCalls`] counts the calls of a statement and cancels them.
//! [`ConcurrencyLimitedRuntime`] limits the concurrent calls of all statements. This crate reads no
//! catalog, checks no rights and starts no process.

mod argument_coercion;
mod concurrency_limited_runtime;
mod function_definition;
mod runtime;
mod statement_calls;
mod udf;

pub use concurrency_limited_runtime::ConcurrencyLimitedRuntime;
pub use function_definition::FunctionDefinition;
pub use runtime::{CallResult, FunctionCall, PythonRuntime};
pub use statement_calls::{CallingStatement, PlanCallsGuard, StatementCalls};
pub use udf::{PythonUdf, without_calls};
