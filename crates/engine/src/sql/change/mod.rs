//! Statements that change rows, as they are honoured: each becomes a query that finds the rows, which
//! is planned as any other. DataFusion's own DELETE and UPDATE change every row where a subquery
//! stands in the condition, and do not heed LIMIT.

mod delete;
mod query;
mod truncate;

pub(crate) use delete::{RowDelete, row_delete};
pub(crate) use query::{TARGET, unwrapped};
pub(crate) use truncate::{Truncation, truncation};
