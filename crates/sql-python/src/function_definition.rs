//! The definition of a function.

use std::time::Duration;

use arrow::datatypes::{DataType, SchemaRef};
use headwater_model::TableName;
use headwater_sql::function_statement::CreateFunctionStatement;

/// The definition of a function at one commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionDefinition {
    /// The function's name with its namespace, for messages.
    pub name: String,
    /// The parameters; no type is an Arrow view type such as `Utf8View`.
    pub parameters: SchemaRef,
    /// The type of the result, which is no Arrow view type.
    pub returns: DataType,
    /// The Python code, which defines the function to call.
    pub body: String,
    /// The name of the Python function to call in the code.
    pub handler: String,
    /// Requirements of packages, such as `pandas>=2,<3`.
    pub packages: Vec<String>,
    /// Python version; `None` selects the default.
    pub python: Option<String>,
    /// Memory limit of an instance, in bytes; `None` selects the default.
    pub memory_bytes: Option<u64>,
    /// Time limit for one batch; `None` selects the default.
    pub timeout: Option<Duration>,
}

impl FunctionDefinition {
    /// Creates a definition from a parsed statement and its Arrow types. `name` is the name in the
    /// catalog.
    pub fn new(
        name: &TableName,
        statement: CreateFunctionStatement,
        parameters: SchemaRef,
        returns: DataType,
    ) -> Self {
        let own = name.function().unwrap_or(&name.name).to_owned();
        let shown = TableName { name: own.clone(), ..name.clone() };
        FunctionDefinition {
            name: shown.to_string(),
            parameters,
            returns,
            body: statement.body,
            handler: statement.handler.unwrap_or(own),
            packages: statement.packages,
            python: statement.python,
            memory_bytes: statement.memory_bytes,
            timeout: statement.timeout,
        }
    }
}
