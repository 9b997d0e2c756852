//! Plans and runs SQL over the lake with DataFusion.
//!
//! An [`Engine`] serves one lake. A [`Session`] runs statements at one ref. Reads are Parquet scans
//! planned from manifests. A write is one transaction. The error for an unsupported clause contains
//! the name of the clause.
//!
//! A name matches in its exact case first, then case-insensitively. `"flights@dev"` reads one table
//! at another ref.

mod alter_table;
mod assignment_cast;
mod caller_transaction;
mod cast_error_position;
mod change;
mod clause_position;
mod column_defaults;
mod column_definitions;
mod create_table;
mod datafusion_error;
mod drop_table;
mod engine;
mod error;
mod explain;
mod explain_cost;
mod insert;
mod namespace;
mod options;
mod plan_executor;
mod plan_output;
mod planner;
mod python_function;
mod referenced_tables;
mod rest_scan;
mod restricted_session;
mod returning;
mod session;
mod session_rights;
mod show_and_describe;
mod statement_result;
mod summarize;
pub mod system;
mod table_lookup;
mod view;
mod write;

pub use engine::Engine;
pub use error::{Error, Position, Result, SqlError};
pub use headwater_sql::{
    AccessStatement, CopyToStatement, FileCall, IntoStatement, Parameter, Parameters,
    PreparedStatement, RestrictionStatement, array_elements, check_condition, placeholders,
    split_script,
};
pub use headwater_sql_python::{
    CallResult, CallingStatement, FunctionCall, FunctionDefinition, PythonRuntime,
};
pub use headwater_table_scan::{ColumnSource, PlanEstimate, QueryColumns, RowSource, ScanCost};
pub use options::{EngineOptions, SessionOptions};
pub use planner::version_constant;
pub use python_function::{functions_below, python_functions};
pub use referenced_tables::parents;
pub use restricted_session::{
    TableFileSubset, change_forbidden, rename_forbidden, restricted_tables,
};
pub use session::{ParameterDescription, Session, StatementDescription};
pub use session_rights::{SessionRights, check_ref};
pub use statement_result::{BatchStream, ExecutionMetrics, RecordBatches, StatementResult};
pub use system::SystemTable;
pub use view::{ViewDependencies, tables_below};
