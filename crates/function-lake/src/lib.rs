//! `headwater.lake` of functions: objects, queries, and rows to append.
//!
//! [`FunctionLake`] is the access of one call, with the rights of an identity. Appended rows are
//! kept until the call succeeds and are then committed to all tables at once. The commit carries
//! the id of the call's event, so that an event that is delivered again changes no table.

mod append;
mod function_lake;

pub use append::Appended;
pub use function_lake::{CallScope, FunctionLake, LakeParts};
