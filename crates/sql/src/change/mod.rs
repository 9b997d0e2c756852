//! Statements that change rows. Each statement becomes a query that finds the affected rows, and
//! this query is planned like any other. DataFusion's own DELETE and UPDATE are not used, because
//! they change every row if the condition has a subquery, and ignore LIMIT.

mod affected_rows_query;
mod assignment;
mod delete;
mod merge;
mod truncate;
mod update;

pub(crate) use affected_rows_query::returning;
pub use affected_rows_query::{
    FILE, QueryClauses, ROW, TARGET, add_columns, query_of, split_with_clause,
};
pub use assignment::{AssignedColumn, is_default};
pub use delete::{DeleteStatement, row_delete};
pub use merge::{MergeMatch, MergeStatement, WhenAction, WhenClause, row_merge};
pub use truncate::{TruncateStatement, truncation};
pub use update::{UpdateStatement, row_update};
