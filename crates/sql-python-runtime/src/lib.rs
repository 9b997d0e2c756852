//! Runtime of the Python functions that SQL statements call.
//!
//! [`SqlFunctionRuntime`] implements the trait of the crate `sql-python` with instances of the
//! crate
//! `functions`. It opens no tables and plans no statements.

mod sql_function;

pub use sql_function::SqlFunctionRuntime;
