//! Changes of rows: DELETE and its like, each one commit or nothing.
//!
//! A statement is first a query that says where the rows lie that it concerns, planned and run as
//! any other, so that subqueries, joins, LIMIT and functions mean in it what they mean elsewhere.
//! Then the data files that hold such rows are written anew without them; files of which every row
//! goes are left out unread. Files without such rows stay as they are.

mod delete;
mod merge;
mod retry;
mod rewrite;
mod row_locators;
mod target;
mod truncate;
mod update;
