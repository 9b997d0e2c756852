//! Row-level changes: DELETE, UPDATE, MERGE and TRUNCATE. Each statement makes one commit or none.
//!
//! A statement becomes a query that returns the positions of the affected rows. Subqueries, joins,
//! LIMIT and functions therefore have the same meaning as in any query. A data file with affected
//! rows is then rewritten without these rows, or gets a delete file. Files whose rows are all
//! deleted are removed without being read. Other files are unchanged.

mod apply_change;
mod conflict_retry;
mod delete;
mod merge;
mod row_positions;
mod target;
mod truncate;
mod update;
