//! Lists the tables that a query refers to, without a catalog.

use headwater_sql::TableRef;

use crate::error::Result;
use crate::planner;

/// Returns the tables that a query refers to, like [`headwater_sql::parents`], with the constants
/// of table versions evaluated.
pub fn parents(sql: &str) -> Result<Vec<TableRef>> {
    Ok(headwater_sql::parents(sql, &planner::version_constant)?)
}
