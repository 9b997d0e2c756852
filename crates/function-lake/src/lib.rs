//! The `headwater.lake` object of functions: objects, queries, and rows to append.
//!
//! [`FunctionLakeAccess`] is the access of one call, with the rights of an identity. Appended rows
//! and the changes of statements become visible when the call succeeds, in one commit for all
//! tables. The commit contains the id of the call's event, so that a repeated delivery of the event
//! changes no table.

mod append;
mod call_branch;
mod function_lake;
pub mod json_rows;

pub use append::AppendResult;
pub use function_lake::{CallIdentity, FunctionLakeAccess, LakeComponents};
