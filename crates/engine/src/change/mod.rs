//! Row-level changes: DELETE, UPDATE, MERGE and TRUNCATE. Each statement makes one commit or none.
//!
//! A statement is planned and run as a query for the positions of the affected rows. So subqueries,
//! joins, LIMIT and functions have the same meaning as in any query. Then the data files with
//! affected rows are rewritten without them, or get delete files. Files whose rows are all deleted
//! are removed without being read. Other files are unchanged.

mod delete;
mod merge;
mod retry;
mod rewrite;
mod row_locators;
mod target;
mod truncate;
mod update;
