//! The runtime that executes the functions, as the engine sees it.

use std::fmt::Debug;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use async_trait::async_trait;
use headwater_model::{Problem, Usage};
use tokio_util::sync::CancellationToken;

use crate::{CallingStatement, FunctionDefinition};

/// A call of a function with the rows of one batch.
#[derive(Debug, Clone)]
pub struct FunctionCall {
    /// The function.
    pub function: Arc<FunctionDefinition>,
    /// The arguments: one column for each parameter, at least one row.
    pub arguments: RecordBatch,
    /// The statement that calls the function.
    pub owner: Arc<CallingStatement>,
    /// The token that ends the call early.
    pub cancelled: CancellationToken,
}

/// The result of a call, and its usage, which is measured even if the call failed.
#[derive(Debug)]
pub struct CallResult {
    /// One value for each row, or the error.
    pub values: Result<ArrayRef, Problem>,
    /// The usage of the call.
    pub usage: Usage,
}

/// Executes functions in Python.
#[async_trait]
pub trait PythonRuntime: Debug + Send + Sync {
    /// Checks the code and the settings of a new function without running the code.
    ///
    /// Errors: `invalid_argument` for code that does not define the function, or for settings that
    /// are not supported.
    async fn check(&self, function: &FunctionDefinition) -> Result<(), Problem>;

    /// Calls a function. After a cancellation, returns the usage so far. Dropping the future also
    /// ends the call, but its usage is lost.
    async fn call(&self, call: FunctionCall) -> CallResult;

    /// Ends the idle instances of a statement. The statement may call functions later, in new
    /// instances.
    fn end(&self, owner: &CallingStatement);
}
